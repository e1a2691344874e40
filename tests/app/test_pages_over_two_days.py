"""Pages at moments of two days whose content is known: they show the same as is computed in plain Python.

Slow, because each page is opened at ten moments of two days.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from components.nats.workflows import _length
from components.words import age_text, clock_text, in_zone
from tests import two_days
from tests.origin import PastServer, Stored
from tests.running import ROOT
from tests.shown import charts, contents
from tests.two_days import (
    HOUR,
    MINUTE,
    MOMENTS,
    SECOND,
    START,
    Line,
    at,
    by_time,
    cells,
    iso,
    of_series,
    runs,
)
from tests.waiting import until

Open = Callable[..., AppTest]
EVERYTHING = """
import streamlit as st
from components import alerts, counts, latest_values, live, metric, newest_rows, sql, states
rows = live("S", "s.{line}", look_back="PT1H", archive="history.query")
for how in ("sum", "greatest", "newest"):
    metric(rows, "n", how=how, by="line", title=how)
latest_values(rows, "n", by="line")
newest_rows(rows, 500)
alerts(rows, "n", {"high": "> 80"}, by="line")
states(rows, "state", by="line")
counts(rows, "state", every="1h")
if rows:
    query = "SELECT line, count(*) AS c, sum(n) AS s, max(_seq) AS last FROM rows GROUP BY ALL ORDER BY ALL"
    st.text(sql(query, rows=rows).frame().to_csv(index=False))
st.text(f"{len(rows)} in all")
"""
WHEN = {"before all": START - HOUR, **MOMENTS}


KEYS, KEPT = ("gone", "late", "often", "once"), 6
"""Keys of the bucket, and the number of revisions that it keeps of each."""
ROW = re.compile(
    r'lb-state-(\w+)">\w+</span><b>([^<]*)</b><span>([^<]*)</span><span>([^<]*)</span><small>([^<]*)</small></a>'
)
STEP = re.compile(r'<div class="lb-step"><span class="lb-state lb-state-(\w+)">\w+</span><span>(\w+)')
LOG = re.compile(r"</small>([^<]*)</div>")


@dataclass(frozen=True)
class Revision:
    """A revision of a key; `value` is None for a deletion. `time` is in ns since the epoch."""

    seq: int
    time: int
    key: str
    value: bytes | None

    @property
    def header(self) -> str:
        """The message's header in the stream."""
        return "" if self.value is not None else "KV-Operation: DEL"


def revisions() -> list[Revision]:
    """The revisions of all keys: "often" has more than the bucket keeps, "gone" is deleted now and then,
    "late" begins on the second day, and "once" is written once."""
    chance, found = random.Random(7), [(at(1, "01:00"), "once", b"1")]
    found += [(at(1, "10:00") + n * 2 * HOUR + chance.randrange(HOUR), "often", b"%d" % n) for n in range(14)]
    found += [(at(1, "03:00") + n * 7 * HOUR, "gone", b"" if n % 2 else b"g%d" % n) for n in range(6)]
    found += [(at(2, "11:00") + n * HOUR, "late", b"l%d" % n) for n in range(3)]
    return [
        Revision(seq, time, key, value or None) for seq, (time, key, value) in enumerate(sorted(found), 1)
    ]


REVISIONS = revisions()


@dataclass(frozen=True)
class WorkflowRun:
    """A run of a workflow with two steps; times are in ns since the epoch."""

    name: str
    key: str
    start: int
    end: int
    outcome: str
    """The status at the end; "lost" if the program was killed."""

    @property
    def half(self) -> int:
        """The time at which the second step begins."""
        return (self.start + self.end) // 2

    def lines(self) -> list[tuple[int, str]]:
        """The time and text of its log lines."""
        return [(self.start + SECOND, f"{self.key} begins"), (self.half + SECOND, f"{self.key} goes on")]

    def events(self) -> list[tuple[int, str, bytes]]:
        """The time, subject and payload of each message of the run."""
        (first, begins), (second, goes_on) = self.lines()
        over = {"status": self.outcome, "seconds": (self.end - self.start) / 1e9}
        last = "failed" if self.outcome == "failed" else "finished"
        said: list[tuple[int, str, dict[str, Any]]] = [
            (self.start, "-.-.started", {}),
            (self.start, "job.one.started", {}),
            (first, "job.one.log", {"text": begins}),
            (self.half, "job.one.finished", {"status": "succeeded"}),
            (self.half, "job.two.started", {}),
            (second, "job.two.log", {"text": goes_on}),
            (self.end, f"job.two.{last}", over),
            (self.end, f"-.-.{last}", over),
        ]
        said = said[:6] if self.outcome == "lost" else said
        own = {"workflow": self.name, "trigger": "clock", "started": iso(self.start), "interval": 60}
        found = []
        for n, (time, of, more) in enumerate(said, 1):
            content = {**own, "n": n, "time": iso(time), **more}
            found.append((time, f"workflow.{self.name}.{self.key}.{of}", json.dumps(content).encode()))
        for time in range(self.start + MINUTE, self.end, MINUTE):
            content = {**own, "n": sum(each < time for each, *_ in said), "time": iso(time)}
            found.append((time, f"workflow-heartbeat.{self.name}.{self.key}", json.dumps(content).encode()))
        return found

    def status(self, moment: int) -> str:
        """Its status at the moment."""
        if self.outcome != "lost" and self.end < moment:
            return self.outcome
        beats = [self.start, *range(self.start + MINUTE, self.end, MINUTE)]
        newest = max(time for time in beats if time < moment)
        return "running" if moment - newest <= 3 * MINUTE else "lost"

    def is_listed(self, moment: int) -> bool:
        """True if the run began, ended or was running in the day before the moment."""
        day = moment - 24 * HOUR
        ended = self.outcome != "lost" and day <= self.end < moment
        return day <= self.start < moment or ended or (self.start < moment < self.end)

    def row(self, moment: int) -> tuple[str, ...]:
        """Its cells in the list of runs."""
        status = self.status(moment)
        took = {"running": moment - self.start, "lost": None}.get(status, self.end - self.start)
        since = f"{clock_text(self.start)}, {age_text((moment - self.start) / 1e9)} ago"
        return status, self.name, since, "" if took is None else _length(took / 1e9), "clock"

    def steps_at(self, moment: int) -> list[tuple[str, str]]:
        """The status and name of each step that had begun."""
        status = self.status(moment)
        if self.half >= moment:
            return [(status, "one")]
        return [("succeeded", "one"), (status, "two")]


def all_runs() -> list[WorkflowRun]:
    """The runs of the two days."""
    chance, time = random.Random(11), START + HOUR // 3
    found: list[WorkflowRun] = []
    while time < START + 44 * HOUR:
        outcome = chance.choice(["succeeded", "succeeded", "failed", "cancelled", "lost"])
        length = chance.randrange(4 * MINUTE, 100 * MINUTE)
        found.append(
            WorkflowRun(chance.choice(["load", "check"]), f"r{len(found)}", time, time + length, outcome)
        )
        time += chance.randrange(20 * MINUTE, 80 * MINUTE)
    return found


RUNS = all_runs()
EVENTS = sorted((event for run in RUNS for event in run.events()), key=lambda event: event[0])
"""The messages of all runs, by time."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PastServer]:
    """A server with the stream of the two days and its archive, and with a bucket and workflow runs of the
    same days."""
    with two_days.two_days_server(tmp_path_factory.mktemp("past")) as server:
        revisions = [
            Stored(each.seq, each.time, f"$KV.settings.{each.key}", each.value or b"", each.header)
            for each in REVISIONS
        ]
        server.add_past_stream("KV_settings", ["$KV.settings.>"], revisions, max_msgs_per_subject=KEPT)
        stored = [Stored(seq, *event) for seq, event in enumerate(EVENTS, 1)]
        server.add_past_stream("WORKFLOWS", ["workflow.>", "workflow-heartbeat.>"], stored)
        yield server


def counted(page: AppTest) -> int:
    """The number of rows of the page once its SQL has all of them, else -1."""
    lines = page.text[0].value.split()[1:] if len(page.text) > 1 else []
    by_sql = sum(int(line.split(",")[1]) for line in lines)
    return by_sql if page.text[-1].value == f"{by_sql} in all" else -1


def crossings(alerts: dict[str, Any]) -> list[tuple[int, str]]:
    """The time (ms) and the series of each crossing in the table of alerts."""
    rows = [(name, cells) for name, cells in alerts.items() if name[0] == "r"]
    return sorted((int(name[1:].split("\n")[0]), cells[1]) for name, cells in rows)


def above(series: dict[str, list[Line]], before: str = "") -> list[tuple[int, str]]:
    """The same crossings, computed from the messages."""
    found = [(name, run) for name, lines in series.items() for run in runs(lines, lambda e: e.n > 80)]
    return sorted((since, before + name) for name, (high, since) in found if high)


def same(page: AppTest, known: list[Line]) -> None:
    """The page of everything shows exactly these messages."""
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


@pytest.mark.parametrize("name", WHEN)
def test_everything(open_page: Open, server: PastServer, name: str) -> None:
    """At each moment, a page shows exactly what follows from the messages of the hour before it: counts,
    metrics, newest values, rows, alerts, states and SQL. This includes gaps, the seam between archive and
    stream, and a clock that was set back."""
    moment = WHEN[name]
    known = two_days.between(moment - HOUR, moment)
    page = open_page(EVERYTHING, blocked=True, to=iso(moment))
    until(lambda: counted(page) == len(known) or not page.run())  # rows of the archive arrive later
    same(open_page(EVERYTHING, blocked=True, to=iso(moment)), known)


@pytest.mark.parametrize("name", ["before all", "across the seam", "messages were deleted", "set back again"])
@pytest.mark.parametrize("file", ["alerts", "explore"])
def test_pages_of_the_app(open_page: Open, server: PastServer, file: str, name: str) -> None:
    """The pages Alerts and Explore at a stretch have exactly the rows that the stream holds of it. Alerts
    lists each time that a line rose above the limit, also where the clock was set back."""
    end = WHEN[name]
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


def archived(start: int, end: int) -> Counter[tuple[int, str]]:
    """The number of archived messages of each minute and subject."""
    held = {line.seq for line in [*two_days.ARCHIVED, *two_days.STORED[:20]]}
    found = [line for line in two_days.between(start, end) if line.seq in held]
    return Counter((line.time // MINUTE * MINUTE, f"s.{line.line}") for line in found)


@pytest.mark.parametrize("name", ["only the archive", "the clock was set back", "across the seam"])
def test_history(open_page: Open, server: PastServer, name: str) -> None:
    """The default query of the page History counts the archived messages of the stretch by minute."""
    end = WHEN[name]
    start = end - 2 * HOUR
    page = open_page(ROOT / "pages" / "history.py", blocked=True, **{"from": iso(start), "to": iso(end)})
    assert contents(page, "status")[0]["word"] == "Past"
    page.session_state["_blocked"] = True
    page.button(key="run query").click().run()
    until(lambda: len(page.dataframe) or not page.run())
    assert not page.exception
    table, wanted = page.dataframe[0].value, archived(start, end)
    times = [pd.Timestamp(time).value for time in table["time"]]
    assert dict(zip(zip(times, table["subject"], strict=True), table["messages"], strict=True)) == wanted
    (shown,) = charts(page).values()
    drawn: dict[str, dict[int, tuple[float, float]]] = {}
    for (minute, subject), count in wanted.items():
        drawn.setdefault(subject, {})[minute // int(shown.header["step"] * 1e6)] = (count, count)
    assert shown.cells == drawn


@pytest.mark.parametrize("name", ["messages were deleted", "set back again", "only the stream"])
def test_compare(open_page: Open, server: PastServer, name: str) -> None:
    """The page Compare shows the hour in which the moment lies over the two hours before."""
    moment = WHEN[name]
    of = {"stream": "S", "subjects": "s.{line}", "period": "hour", "earlier-periods": "2"}
    page = open_page(ROOT / "pages" / "compare.py", blocked=True, to=iso(moment), **of)
    assert not page.exception
    (shown,) = charts(page).values()
    current = (moment - 1) // HOUR * HOUR
    assert shown.config["compare"]["starts"] == [(current - k * HOUR) // 1_000_000 for k in range(3)]
    series = of_series(two_days.between(moment - 3 * HOUR, moment))
    assert shown.cells == cells(series, lambda line: line.n, 10 * SECOND)
    until_now = {line: [each.n for each in lines if each.time >= current] for line, lines in series.items()}
    means = page.dataframe[0].value.set_index("_series")["current"].dropna().to_dict()
    assert means == {
        line: pytest.approx(sum(each) / len(each), rel=1e-5) for line, each in until_now.items() if each
    }


@pytest.mark.parametrize(
    "name", ["before all", "only the archive", "messages were deleted", "only the stream"]
)
def test_overview(open_page: Open, server: PastServer, name: str) -> None:
    """The page Overview has the newest message of each stream from before the moment, if the stream still
    holds one. It says that its list of streams is the current one."""
    moment = WHEN[name]
    page = open_page(ROOT / "pages" / "overview.py", to=iso(moment))
    assert not page.exception
    wanted = [
        (stream, found[-1])
        for stream, stored in (
            ("S", [(line.time, f"s.{line.line}", line.payload.decode()) for line in two_days.STORED]),
            ("WORKFLOWS", [(time, of, said.decode()) for time, of, said in EVENTS]),
        )
        if (found := [message for message in stored if message[0] < moment])
    ]
    tables = [each.value for each in page.dataframe]
    newest = [] if len(tables) == 1 else rows_of(tables[1], "stream", "time", "subject", "payload")
    assert sorted((stream, (time.value, *more)) for stream, time, *more in newest) == wanted
    assert bool(page.info) == (not wanted)
    assert any("as they are now" in each.value for each in page.caption)
    assert contents(page, "status")[0]["word"] == "Past"


@pytest.mark.parametrize("file", ["services", "consumers", "inside"])
def test_pages_without_a_past(open_page: Open, server: PastServer, file: str) -> None:
    """At a stretch, a page that only has current data says so; when live, it does not."""
    for query, count in (({"to": iso(WHEN["only the stream"])}, 1), ({}, 0)):
        page = open_page(ROOT / "pages" / f"{file}.py", **query)
        assert not page.exception
        assert str(contents(page, "status")).count("it shows what is there now") == count


THEN = [*((name, False) for name in WHEN), ("only the archive", True), ("only the stream", True)]
"""Each moment as the end of a stretch, and two of them in the middle of a stretch that is played."""


def when(moment: int, played: bool) -> dict[str, str]:
    """The query of the clock at that moment."""
    if not played:
        return {"to": iso(moment)}
    return {"from": iso(moment - HOUR), "to": iso(moment + HOUR), "play": "60", "at": iso(moment)}


@pytest.mark.parametrize(("name", "played"), THEN)
def test_bucket(open_page: Open, server: PastServer, name: str, played: bool) -> None:
    """The page Key-value has, for each key, the newest revision before the moment that the bucket still
    keeps. It says which keys' values are unknown."""
    moment = WHEN[name]
    kept = {key: [each for each in REVISIONS if each.key == key][-KEPT:] for key in KEYS}
    before = {key: [each for each in each_kept if each.time < moment] for key, each_kept in kept.items()}
    there = {key: found[-1] for key, found in before.items() if found and found[-1].value is not None}
    for key in ("often", "gone"):
        page = open_page(ROOT / "pages" / "values.py", bucket="settings", key=key, **when(moment, played))
        assert not page.exception
        tables = [each.value for each in page.dataframe]
        if there:
            table = tables.pop(0)
            assert rows_of(table, "key", "value", "revision") == [
                (key, (each.value or b"").decode(), each.seq) for key, each in sorted(there.items())
            ]
            assert [time.value for time in table["updated"]] == [
                each.time for _, each in sorted(there.items())
            ]
        if before[key]:
            assert rows_of(tables[0], "value", "revision") == [
                ((each.value or b"").decode(), each.seq) for each in reversed(before[key])
            ]
        unknown = not before["often"]
        assert any("Not known as of then" in each.value for each in page.caption) == unknown


def rows_of(table: pd.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    """The rows of a table."""
    return list(table[list(columns)].itertuples(index=False, name=None))


@pytest.mark.parametrize(("name", "played"), THEN)
def test_runs(open_page: Open, server: PastServer, name: str, played: bool) -> None:
    """The page Workflows lists the runs of the day before the moment with their status at that time. A run
    has the steps and log lines from before the moment."""
    moment = WHEN[name]
    page = open_page(ROOT / "pages" / "workflows.py", **when(moment, played))
    assert not page.exception
    html = "".join(each.proto.body for each in page.get("html"))
    there = [run for run in RUNS if run.is_listed(moment)]
    with in_zone("UTC"):
        assert re.findall(ROW, html) == [run.row(moment) for run in reversed(there)]
    for run in there[-3:]:
        page = open_page(ROOT / "pages" / "workflows.py", run=f"{run.name}.{run.key}", **when(moment, played))
        html = "".join(each.proto.body for each in page.get("html"))
        assert re.findall(STEP, html) == run.steps_at(moment)
        assert re.findall(LOG, html) == [text for time, text in run.lines() if time < moment]
        assert not page.warning or run.status(moment) == "lost"
