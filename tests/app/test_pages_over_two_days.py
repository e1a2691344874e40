"""Pages at moments of two days whose content is known: what they show equals what plain Python works out."""

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from tests import two_days
from tests.origin import PastServer
from tests.running import ROOT
from tests.shown import contents
from tests.two_days import HOUR, START, Line, at, by_time, iso, of_series, runs
from tests.waiting import until

Open = Callable[..., AppTest]
EVERYTHING = """
import streamlit as st
from components import alerts, counts, latest_values, live, metric, newest_rows, sql, states
rows = live("S", "s.{line}", look_back="PT1H", archive="history.query")
for how in ("sum", "greatest", "newest"):
    metric(rows, "n", how=how, color="line", title=how)
latest_values(rows, "n", by="line")
newest_rows(rows, 500)
alerts(rows, "n", {"high": "> 80"}, color="line")
states(rows, "state", by="line")
counts(rows, "state", every="1h")
if rows:
    query = "SELECT line, count(*) AS c, sum(n) AS s, max(_seq) AS last FROM rows GROUP BY ALL ORDER BY ALL"
    st.text(sql(query, rows=rows).frame().to_csv(index=False))
st.text(f"{len(rows)} in all")
"""
MOMENTS = {
    "before all": START - HOUR,
    "its beginning": at(1, "00:40"),
    "only the archive": at(1, "06:00"),
    "the server was away": at(1, "09:30"),
    "messages were lost": at(1, "11:45"),
    "the clock was set back": at(1, "13:40"),
    "and is right again": at(1, "15:10"),
    "across the seam": at(1, "23:40"),
    "messages were deleted": at(2, "10:30"),
    "set back again": at(2, "14:20"),
    "only the stream": at(2, "20:00"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PastServer]:
    """A server with that stream, and its archive."""
    with two_days.two_days_server(tmp_path_factory.mktemp("past")) as server:
        yield server


def counted(page: AppTest) -> int:
    """How many rows the page has, once its SQL has them all."""
    lines = page.text[0].value.split()[1:] if len(page.text) > 1 else []
    by_sql = sum(int(line.split(",")[1]) for line in lines)
    return by_sql if page.text[-1].value == f"{by_sql} in all" else -1


def crossings(alerts: dict[str, Any]) -> list[tuple[int, str]]:
    """Since when which series was above the limit, as the table says."""
    rows = [(name, cells) for name, cells in alerts.items() if name[0] == "r"]
    return sorted((int(name[1:].split("\n")[0]), cells[1]) for name, cells in rows)


def above(series: dict[str, list[Line]], before: str = "") -> list[tuple[int, str]]:
    """The same, worked out."""
    found = [(name, run) for name, lines in series.items() for run in runs(lines, lambda e: e.n > 80)]
    return sorted((since, before + name) for name, (high, since) in found if high)


def same(page: AppTest, known: list[Line]) -> None:
    """The page of everything shows these messages."""
    assert not page.exception
    assert page.text[-1].value == f"{len(known)} in all"
    if not known:
        return
    series = of_series(known)
    newest = {name: lines[-1].n for name, lines in series.items()}
    frame = pd.DataFrame(
        [[name, len(ls), float(sum(e.n for e in ls)), max(e.seq for e in ls)] for name, ls in series.items()],
        columns=["line", "c", "s", "last"],
    ).sort_values("line")
    assert page.text[0].value.strip() == frame.to_csv(index=False).strip()
    shown = [content["text"] for content in contents(page, "metric")]
    assert shown == [str(sum(newest.values())), str(max(newest.values())), str(by_time(known)[-1].n)]
    (latest,) = contents(page, "latest_values")
    assert {name[1:]: n for name, n in latest.items() if name[0] == "="} == newest
    (rows,) = contents(page, "newest_rows")
    assert [cells for name, cells in sorted(rows.items()) if name[0] == "r"] == [
        [
            pd.Timestamp(line.time).isoformat(sep=" ", timespec="milliseconds"),
            f"s.{line.line}",
            str(line.seq),
            line.line,
            str(line.n),
            line.state or "",
        ]
        for line in by_time(known)
    ]
    (alerts,) = contents(page, "alerts")
    assert crossings(alerts) == above(series)
    (states,) = contents(page, "states")
    assert sorted(
        (b[0], states["states"][b[1]], b[2]) for name, b in states.items() if name[0] == "b"
    ) == sorted(
        (name, state, since // 1_000_000)
        for name, lines in series.items()
        for state, since in runs([e for e in lines if e.state], lambda e: e.state)
    )


@pytest.mark.parametrize("name", MOMENTS)
def test_everything(open_page: Open, server: PastServer, name: str) -> None:
    """At each moment all that a page shows is what the messages of the hour before it say: counts, metrics,
    newest values, rows, alerts, states and SQL; beside gaps, a seam and a clock that was set back."""
    moment = MOMENTS[name]
    known = two_days.between(moment - HOUR, moment)
    page = open_page(EVERYTHING, blocked=True, to=iso(moment))
    until(lambda: counted(page) == len(known) or not page.run())  # the archive's come later, and then SQL
    same(open_page(EVERYTHING, blocked=True, to=iso(moment)), known)


@pytest.mark.parametrize("name", ["before all", "across the seam", "messages were deleted", "set back again"])
@pytest.mark.parametrize("file", ["alerts", "explore"])
def test_pages_of_the_app(open_page: Open, server: PastServer, file: str, name: str) -> None:
    """The pages Alerts and Explore at a stretch have as many rows as the stream has of it, and list each time
    that a line was above the limit, also where the clock was set back."""
    end = MOMENTS[name]
    start = end - 2 * HOUR
    held = {line.seq for line in two_days.STORED}
    known = [line for line in two_days.between(start, end) if line.seq in held]
    query = {
        "stream": "S",
        "field": "n",
        "by": "_subject",
        "limit": "> 80",
        "from": iso(start),
        "to": iso(end),
    }
    page = open_page(ROOT / "pages" / f"{file}.py", blocked=True, **query)
    assert not page.exception
    (status,) = contents(page, "status")
    assert status["fact0"] == [[str(len(known))], " rows in 2 hours"]
    if file == "alerts" and known:
        (alerts,) = contents(page, "alerts")
        assert crossings(alerts) == above(of_series(known), "s.")
