"""Charts at moments of two days whose content is known: their cells equal those computed in plain Python.

Slow, because each moment draws all charts of two days, and one test decodes the archive again.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from nats_client import Settings
from services.history.archiver import Archiver, streams_to_copy
from services.history.duckdb_file import DuckDb
from services.workflow import Workflow
from tests import two_days
from tests.archive import history, rows
from tests.origin import PastServer
from tests.shown import Cells, Shown, charts, contents
from tests.two_days import (
    HOUR,
    MINUTE,
    MOMENTS,
    SECOND,
    Line,
    between,
    by_time,
    cells,
    iso,
    of_series,
    runs,
)
from tests.waiting import until

Open = Callable[..., AppTest]
CHARTS = """
import streamlit as st
from components import compare, compared_means, counts, events, field_list, heatmap, line_chart, live
from components import look_back_for, metric, scatter_chart, tail
ARCHIVE = {"archive": "history.query"}
rows = live("S", "s.{line}", look_back="PT1H", **ARCHIVE)
more = live("S", "s.{line}", look_back="PT1H", columns={"m": "n * n % 97"}, **ARCHIVE)
hours = live("S", "s.{line}", look_back=look_back_for("PT1H", 2), **ARCHIVE)
LIMITS = {"high": "> 80", "far": "outside 10..90 for 1m"}
line_chart(rows, "n", by="line", title="lines", thresholds=LIMITS)
line_chart(rows, "n", facet="line", title="facets", thresholds={"high": "> 80"})
line_chart(rows, "n", by="_subject", steps=True, title="steps")
line_chart(rows, "n", by="line", most=1, tell_apart="name", title="one")
line_chart(more, "m", by="line", title="computed")
compare(hours, "n", "PT1H", 2, by="line", title="hours")
compared_means(hours, "n", "PT1H", by="line")
scatter_chart(more, "n", "m", by="line")
counts(rows, "state", every="5m")
heatmap(rows, "n", every="5m")
tail(rows, "state", level="line", most=10)
events(rows, "{line} {n}")
field_list(rows)
metric(rows, "n", how="mean", over="PT20M", change="PT20M")
st.text(f"{len(rows)} {len(more)} {len(hours)}")
"""
WHEN = {**MOMENTS, "only the archive": MOMENTS["only the archive"] + 2_500_000_000}
EVER = timedelta(days=36_500)
STEP = 5 * SECOND
"""Width of a bin of an hour."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PastServer]:
    """A server with the stream of the two days, and its archive."""
    with two_days.two_days_server(tmp_path_factory.mktemp("past")) as server:
        yield server


def opened(open_page: Open, moment: int, **when: str) -> AppTest:
    """The page of charts at that moment, once its views have all their rows and the values held from before
    are loaded. `when`: the clock in the address, if it is not a stretch that ends at the moment."""
    hour, hours = (len(between(moment - n * HOUR, moment)) for n in (1, 3))
    shown, query = f"{hour} {hour} {hours}", when or {"to": iso(moment)}
    page = open_page(CHARTS, blocked=True, **query)
    until(lambda: page.text[-1].value == shown or not page.run())  # the archive's rows arrive later
    pages: list[AppTest] = []

    def read() -> bool:
        pages.append(open_page(CHARTS, blocked=True, **query))
        held = charts(pages[-1])["steps"].header.get("held")
        known = bool(held) or all(line.time >= moment - HOUR for line in two_days.STORED)
        return known and pages[-1].text[-1].value == shown

    until(read)
    return pages[-1]


def marks(shown: Shown) -> list[tuple[str, str, int, float]]:
    """The line, the series, the time (ms) and the value of each mark of a threshold."""
    lines, of = shown.config["thresholds"], shown.config["marks"]
    return sorted((lines[line][0], of["names"][name], *mark) for line, name, *mark in of["at"])


def crossed(
    series: dict[str, list[Line]], holds: Callable[[Line], bool], end: int, lasting: int = 0
) -> list[tuple[str, int, float]]:
    """The series, the time (ms) and the value at each moment at which a condition began to hold, for those
    known to have held at least `lasting` ns. A condition that held from the first row on has no such
    moment."""
    found: list[tuple[str, int, float]] = []
    for name, lines in series.items():
        values = {line.time: line.n for line in reversed(lines)}
        stays = runs(lines, holds)
        for (held, since), (_, over) in zip(stays[1:], [*stays[2:], (None, end)], strict=False):
            if held and over - since >= lasting:
                found.append((name, since // 1_000_000, values[since]))
    return found


def counted(known: list[Line], step: int, start: int, end: int, of: Callable[[Line], Any]) -> dict[int, Any]:
    """By number of interval: how many messages have each value of `of`. Intervals that the look-back cuts are
    left out."""
    first, last = -(-start // step), (end - 1) // step
    found: dict[int, Counter[Any]] = {}
    for line in known:
        if first <= line.time // step <= last:
            found.setdefault(line.time // step, Counter())[of(line)] += 1
    return found


def chart_cells(series: dict[str, list[Line]], end: int, known: list[Line]) -> dict[str, Cells]:
    """The cells that each line chart of the page must have."""
    merged = {"one": series.get("one", []), "others": [e for e in known if e.line != "one"]}
    hours = of_series(between(end - 3 * HOUR, end))
    return {
        "lines": cells(series, lambda line: line.n, STEP),
        "facets": {f"{name}\x1fn": bins for name, bins in cells(series, lambda line: line.n, STEP).items()},
        "steps": {f"s.{name}": bins for name, bins in cells(series, lambda line: line.n, STEP).items()},
        "one": {name: bins for name, bins in cells(merged, lambda line: line.n, STEP).items() if bins},
        "computed": cells(series, lambda line: line.n**2 % 97, STEP),
        "hours": cells(hours, lambda line: line.n, 2 * STEP),
    }


def columns(content: dict[str, Any]) -> dict[int, list[int]]:
    """The columns of counts per interval."""
    return {int(name[1:]): column for name, column in content.items() if name[0] == "c" and name != "came"}


def columns_by_name(content: dict[str, Any]) -> dict[int, dict[str | None, int]]:
    """The columns of counts(), by name. Places are not compared: they depend on the order of arrival."""
    names = {int(name[1:]): entry[0] for name, entry in content.items() if name[0] == "s"}
    return {
        number: {names[place]: count for place, count in enumerate(column[:-1]) if count}
        for number, column in columns(content).items()
    }


def same_marks(shown: dict[str, Shown], series: dict[str, list[Line]], moment: int) -> None:
    """Thresholds are marked at each moment at which they began to hold, and nowhere else."""
    high = [("high", *mark) for mark in crossed(series, lambda line: line.n > 80, moment)]
    far = crossed(series, lambda line: not 10 <= line.n <= 90, moment, MINUTE)
    ends = [("far low" if value < 50 else "far high", name, since, value) for name, since, value in far]
    assert marks(shown["lines"]) == sorted([*high, *ends])
    assert marks(shown["facets"]) == sorted(high)


def same_held(shown: Shown, known: list[Line], start: int) -> None:
    """In a chart with steps, each bin has its newest value, and each series has its newest value from before
    the look-back that the stream still holds."""
    newest = {(line.line, line.time // STEP): float(line.n) for line in by_time(known)}
    held = {
        (name[2:], number): value for name, bins in shown.newest.items() for number, value in bins.items()
    }
    assert held == newest
    names = dict(shown.header["names"])
    before = of_series([line for line in two_days.STORED if line.time < start])
    assert {names[row][2:]: value for row, _, value in shown.header.get("held", [])} == {
        name: lines[-1].n for name, lines in before.items()
    }


def same_counts(page: AppTest, known: list[Line], start: int, end: int) -> None:
    """Counts and distributions are those of the whole intervals within the look-back."""
    step = 5 * MINUTE
    (shown,) = contents(page, "counts")
    wanted = counted(known, step, start, end, lambda line: line.state)
    assert columns_by_name(shown) == wanted
    totals: Counter[Any] = sum(wanted.values(), Counter())
    assert dict(entry for name, entry in shown.items() if name[0] == "s") == totals
    assert shown["others"] == [0, 0]
    (heat,) = contents(page, "heatmap")
    low, edges = heat["rows"]
    assert heat["unfit"] == 0
    assert {
        number: dict(zip(column[::2], column[1::2], strict=True)) for number, column in columns(heat).items()
    } == counted(
        known, step, start, end, lambda line: low + max(i for i, edge in enumerate(edges) if edge <= line.n)
    )


def points(page: AppTest) -> list[tuple[float, float, str | None]]:
    """The points of the scatter chart, with the names of their groups. Group numbers are not compared: they
    depend on the order of arrival."""
    (shown,) = contents(page, "scatter")
    return list(zip(shown["x"], shown["y"], map(dict(shown["groups"]).get, shown["of"]), strict=True))


def same_rows(page: AppTest, known: list[Line]) -> None:
    """The points, log lines and marks match the rows, in the same order."""
    assert points(page) == [(line.n, line.n**2 % 97, line.line) for line in known]
    (log,) = contents(page, "tail")
    assert [entry for name, entry in sorted(log.items()) if name[0] == "l"] == [
        [line.time // 1_000_000, line.line, line.state or ""] for line in by_time(known)[-10:]
    ]
    (events,) = contents(page, "events")
    assert [entry for name, entry in sorted(events.items()) if name[0] == "e"] == [
        [line.time // 1_000_000, f"{line.line} {line.n}"] for line in by_time(known)
    ]


def same_fields(page: AppTest, known: list[Line]) -> None:
    """The table of fields has the types, newest values, minima and maxima of these rows."""
    (shown,) = contents(page, "field_list")
    numbers, newest = [line.n for line in known], by_time(known)[-1]
    stated = [line for line in by_time(known) if line.state]
    table = {name[1:]: cells[2:] for name, cells in shown.items() if name[0] == "="}
    assert table["n"] == [
        "integer",
        "100 %",
        *map(str, (newest.n, min(numbers), max(numbers), len(set(numbers)))),
    ]
    share = f"{100 * len(stated) / len(known):.0f} %"
    assert table["state"] == ["text", share, stated[-1].state, "", "", str(len({e.state for e in stated}))]
    assert table["line"] == ["text", "100 %", newest.line, "", "", str(len({e.line for e in known}))]


def mean(lines: list[Line]) -> float | None:
    """The mean of the rows' numbers; None without rows."""
    return sum(line.n for line in lines) / len(lines) if lines else None


def same_metric(page: AppTest, known: list[Line], end: int) -> None:
    """The metric has the mean of the last twenty minutes, and its course those of the twenty minutes before
    each step. Where the clock was set back, a message counts at the latest time before it."""
    (shown,) = contents(page, "metric")
    length = 20 * MINUTE
    came = list(accumulate([line.time for line in known], max))

    def before(moment: int) -> float | None:
        return mean([line for line, at in zip(known, came, strict=True) if moment - length <= at < moment])

    now, step = before(end), 30 * SECOND
    assert (float(shown["exact"]) if "exact" in shown else None) == (now and pytest.approx(now))
    first = (end - HOUR) // step + length // step
    course = {number: before(number * step) for number in range(first, end // step + 1)}
    assert {int(name[1:]): value for name, value in shown.items() if name[0] == "p" and name != "p"} == {
        number: pytest.approx(value, rel=1e-4) for number, value in course.items() if value is not None
    }


def same_periods(page: AppTest, shown: Shown, hours: list[Line], end: int) -> None:
    """The current hour is the one in which the end lies. It is compared with the same minutes of the hours
    before."""
    current = (end - 1) // HOUR * HOUR
    assert shown.config["compare"]["starts"] == [(current - k * HOUR) // 1_000_000 for k in range(3)]
    until = end // SECOND * SECOND
    now, then = (
        {
            name: mean([line for line in lines if since <= line.time < until - current + since])
            for name, lines in of_series(hours).items()
        }
        for since in (current, current - HOUR)
    )
    table = page.dataframe[0].value.set_index("_series")
    for name, column in (("current", now), ("before", then)):
        wanted = {line: value for line, value in column.items() if (now[line], then[line]) != (None, None)}
        found = {line: None if pd.isna(value) else value for line, value in table[name].items()}
        assert found == {
            line: value if value is None else pytest.approx(value, rel=1e-5) for line, value in wanted.items()
        }


def same(page: AppTest, moment: int) -> None:
    """The page shows exactly the messages of the look-back before the moment."""
    assert not page.exception
    start = moment - HOUR
    known, hours = between(start, moment), between(moment - 3 * HOUR, moment)
    series, shown = of_series(known), charts(page)
    wanted = chart_cells(series, moment, known)
    assert {title: chart.cells for title, chart in shown.items()} == {
        **wanted,
        "one": {
            shown["one"].header["names"][1][1] if name == "others" else name: bins
            for name, bins in wanted["one"].items()
        },
    }
    same_marks(shown, series, moment)
    same_held(shown["steps"], known, start)
    same_counts(page, known, start, moment)
    same_rows(page, known)
    same_fields(page, known)
    same_metric(page, known, moment)
    same_periods(page, shown["hours"], hours, moment)


@pytest.mark.parametrize("name", WHEN)
def test_charts(open_page: Open, server: PastServer, name: str) -> None:
    """At each moment, all data sent to the charts is computed from exactly the messages of the hour before
    it."""
    same(opened(open_page, WHEN[name]), WHEN[name])


@pytest.mark.parametrize(
    "name", ["only the archive", "messages were lost", "messages were deleted", "only the stream"]
)
def test_charts_while_played(open_page: Open, server: PastServer, name: str) -> None:
    """A playback paused at the moment, in the middle of its stretch, shows the same as a stretch that ends
    there."""
    moment = WHEN[name]
    start, end = iso(moment - HOUR // 2), iso(moment + HOUR // 2)
    when = {"from": start, "to": end, "play": "10", "at": iso(moment)}
    same(opened(open_page, moment, **when), moment)


def drawn(page: AppTest) -> dict[str, Any]:
    """All data that the page of charts shows."""
    kinds = ("heatmap", "tail", "events", "field_list", "metric")
    lines = {
        (title, what): value
        for title, chart in charts(page).items()
        for what, value in (("cells", chart.cells), ("newest", chart.newest), ("gaps", chart.config["gaps"]))
    }
    return {
        **{f"{what} of {title}": value for (title, what), value in lines.items()},
        "points": points(page),
        "counts": columns_by_name(*contents(page, "counts")),
        **{kind: contents(page, kind) for kind in kinds},
        "means": page.dataframe[0].value.to_dict(),
    }


def test_decoded_again(open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The charts of archived messages stay the same after the archiver has copied the rest of the stream and
    decoded all of it again."""
    moments = [WHEN["only the archive"], WHEN["across the seam"]]

    def shown() -> list[dict[str, Any]]:
        st.cache_resource.clear()  # the client and its feeds
        with history(server, tmp_path, []):
            return [drawn(opened(open_page, moment)) for moment in moments]

    async def run() -> None:
        async with Workflow("archive", url=server.url) as workflow:
            await archiver.run(workflow)

    with two_days.two_days_stream(tmp_path) as (server, archived):
        monkeypatch.setenv("NATS_URL", server.url)
        database = DuckDb(tmp_path / "history.duckdb")
        database.insert(archived)
        database.close()
        before = shown()
        database = DuckDb(tmp_path / "history.duckdb")
        streams = streams_to_copy(("S=json",))
        archiver = Archiver(database, Settings(url=server.url), streams, again=True, keep=EVER)
        asyncio.run(run())
        assert len(rows(database, "SELECT seq FROM messages")) == len(two_days.KNOWN)
        database.close()
        differing = {
            (moment, what): (then, now[what])
            for moment, early, now in zip(moments, before, shown(), strict=True)
            for what, then in early.items()
            if now[what] != then
        }
        assert differing == {}
