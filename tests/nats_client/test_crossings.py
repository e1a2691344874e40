"""Crossings are compared with a model that reads every row ever received."""

import json
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nats_client import Client, Settings
from nats_client.errors import ColumnError
from nats_client.series.conditions import Condition, parse_condition
from nats_client.series.crossings import MOST_CROSSINGS, Crossing, Crossings
from nats_client.table.values import Batch
from nats_client.table.window import Window
from tests.nats import running_server
from tests.waiting import until

LOOK_BACK = pd.Timedelta("PT10M")
SECOND = 10**9
NOW = 1_700_000_000 * SECOND
LIMIT = Condition("above", high=5.0)

Row = tuple[int, float]


class Rows:
    """A real window, filled at times in seconds after NOW."""

    def __init__(self) -> None:
        self.window = Window()
        self.seq = 0

    def add(self, now: int, rows: list[tuple[int, str, float]]) -> None:
        """Append rows of (seconds after NOW, series, value) that are received at `now`."""
        seq = np.arange(self.seq, self.seq + len(rows), dtype=np.int64)
        self.seq += len(rows)
        times = np.array([NOW + t * SECOND for t, _, _ in rows], dtype=np.int64)
        values = {"v": np.array([value for _, _, value in rows], dtype=np.float64)}
        received = np.full(len(rows), NOW + now * SECOND)
        self.window.append(Batch(seq, received, times, [name for _, name, _ in rows], values))

    def held(self) -> list[tuple[int, str, float]]:
        """The rows of the window, in the order of arrival."""
        snapshot = self.window.snapshot()
        codes, labels = snapshot.codes("_subject")
        seconds = ((snapshot.time - NOW) // SECOND).tolist()
        return list(
            zip(seconds, (labels[code] for code in codes), snapshot.numbers("v").tolist(), strict=True)
        )


class Model:
    """A model that keeps every row and recomputes everything each time."""

    def __init__(self, condition: Condition = LIMIT) -> None:
        self.condition = condition
        self.rows: dict[str, list[Row]] = {}

    def holds(self, value: float) -> bool:
        """Whether the condition holds for one value."""
        low, high = self.condition.low, self.condition.high
        match self.condition.kind:
            case "above":
                return value >= high if self.condition.reached else value > high
            case "below":
                return value <= low if self.condition.reached else value < low
            case "inside":
                return low <= value <= high
        return not low <= value <= high

    def beyond(self, value: float) -> float:
        """How far a value is beyond the limits."""
        low, high = self.condition.low, self.condition.high
        far = {"above": value, "below": -value, "inside": min(value - low, high - value)}
        return far.get(self.condition.kind, max(low - value, value - high))

    def update(self, now: int, rows: list[tuple[int, str, float]]) -> None:
        """Drop the series without a row in the look-back, then add `rows`."""
        edge = now - 600
        self.rows = {name: mine for name, mine in self.rows.items() if max(mine)[0] >= edge}
        for at, name, value in rows:
            if not np.isnan(value) and edge <= at <= now + 60:
                self.rows.setdefault(name, []).append((at, value))

    def crossings(self, name: str, edge: int) -> list[tuple[int, float, int | None, list[Row], bool]]:
        """Start, value, end, rows in between, and whether the rise was seen, oldest first."""
        found: list[tuple[int, float, int | None, list[Row], bool]] = []
        stay: list[Row] = []
        seen = False
        for at, value in sorted(self.rows[name], key=lambda row: row[0]):
            if self.holds(value):
                stay.append((at, value))
                continue
            if stay:
                found.append((*stay[0], at, stay, seen))
            stay, seen = [], True
        if stay:
            found.append((*stay[0], None, stay, seen))
        return [one for one in found if one[2] is None or one[2] >= edge]


def check(crossings: Crossings, model: Model, now: int) -> None:
    """Check that the crossings found equal those of the model."""
    found, edge = crossings.found(), now - 600
    lasting = model.condition.lasting // SECOND
    expected = {
        name: [
            one
            for one in model.crossings(name, edge)
            if (now if one[2] is None else one[2]) - one[0] >= lasting
        ]
        for name in model.rows
    }
    assert found.series == len(model.rows)
    assert found.above == sum(bool(some) and some[-1][2] is None for some in expected.values())
    assert found.total == len(found.crossings) == sum(map(len, expected.values()))
    assert list(found.crossings) == sorted(found.crossings, key=lambda crossing: -crossing.start)
    for name, some in expected.items():
        mine = [crossing for crossing in reversed(found.crossings) if crossing.series == name]
        mine.sort(key=lambda crossing: (crossing.start, crossing.end or np.inf))
        for crossing, (start, value, end, rows, seen) in zip(mine, some, strict=True):
            at = None if end is None else NOW + end * SECOND
            assert crossing[1:4] == (NOW + start * SECOND, value, at)
            assert crossing.seen == seen
            beyond = model.beyond
            worst = max(beyond(value) for _, value in rows)
            if start >= edge:
                assert beyond(crossing.peak) == worst
            else:
                # A late row may have split it after a part of its rows had left the window.
                held = max([beyond(v) for t, v in rows if t >= edge], default=beyond(value))
                assert held <= beyond(crossing.peak) <= max(beyond(v) for _, v in model.rows[name])
                assert beyond(value) <= beyond(crossing.peak)


some_rows = st.lists(
    st.tuples(
        st.integers(0, 90) | st.integers(0, 650),  # seconds before the refresh: late rows as well
        st.sampled_from("abc"),
        st.integers(0, 10).map(float) | st.just(float("nan")),
    ),
    max_size=30,
)
steps = st.lists(
    st.tuples(some_rows, st.integers(1, 250), st.sampled_from(["", "", "", "", "clear", "remove"])),
    min_size=1,
    max_size=14,
)


conditions = st.sampled_from(
    ["> 5", ">= 5", "< 5", "<= 4", "outside 3..7", "inside 3..7", "> 5 for 30s", "< 5 for 2m"]
)


@settings(deadline=None, max_examples=300)
@given(steps, conditions)
def test_as_if_all_rows_were_looked_at(
    steps: list[tuple[list[tuple[int, str, float]], int, str]], said: str
) -> None:
    """Whatever the order and the batches in which rows arrive, the crossings equal those computed from all
    rows."""
    condition = parse_condition(said)
    rows, model = Rows(), Model(condition)
    crossings = Crossings("v", "_subject", LOOK_BACK, condition)
    now = 0
    for some, later, event in steps:
        now += later
        timed = [(now - ago, name, value) for ago, name, value in some]
        timed.sort(key=lambda row: -row[0] % 7)  # neither in order nor the reverse
        if event == "clear":
            rows.window.clear()
            model = Model(condition)
        rows.add(now, timed)
        rows.window.evict(NOW + (now - 600) * SECOND)
        model.update(now, timed)
        if event == "remove" and len(held := rows.window.snapshot()):
            # A deleted message renumbers all rows, so crossings start over from the rows that are left.
            rows.window.remove(held.seq[len(held) // 2 :][:1])
            model = Model(condition)
            model.update(now, rows.held())
        crossings.update(rows.window.snapshot(), NOW + now * SECOND)
        if len(rows.window):
            check(crossings, model, now)
        else:
            assert crossings.found() == ((), 0, 0, 0)


def found(rows: list[tuple[int, str, float]], limit: Condition = LIMIT) -> Crossings:
    """The crossings of these rows, appended in one batch."""
    window = Rows()
    window.add(0, rows)
    crossings = Crossings("v", "_subject", LOOK_BACK, limit)
    crossings.update(window.window.snapshot(), NOW)
    return crossings


def test_a_plain_crossing() -> None:
    """A series that rises from at or below the limit to above it has a crossing with a start, an end and a
    peak."""
    times = range(-60, 0, 10)
    crossings = found([(t, "a", v) for t, v in zip(times, [1, 5, 6, 9, 7, 5], strict=True)]).found()
    at = NOW - 40 * SECOND, 6.0, NOW - 10 * SECOND, 9.0, True
    assert crossings == ((Crossing("a", *at),), 1, 0, 1)


def test_a_missing_value_ends_nothing() -> None:
    """Rows without the value are ignored: the crossing continues."""
    nan = float("nan")
    assert found([(-30, "a", 1), (-20, "a", 8), (-10, "a", nan), (-5, "a", 9)]).found().above == 1


def test_above_from_the_first_row_on() -> None:
    """A series whose first row is above the limit has a crossing whose rise was not seen."""
    (crossing,) = found([(-30, "a", 8), (-20, "a", 9)]).found().crossings
    assert (crossing.seen, crossing.end, crossing.peak) == (False, None, 9)


def test_a_long_stay_keeps_its_start_and_peak() -> None:
    """A crossing that continues keeps its start and peak after those rows have left the look-back."""
    rows, crossings = Rows(), Crossings("v", "_subject", LOOK_BACK, LIMIT)
    for now, value in [(0, 1), (10, 99), *((20 + 100 * i, 6) for i in range(20))]:
        rows.add(now, [(now, "a", float(value))])
        rows.window.evict(NOW + (now - 600) * SECOND)
        crossings.update(rows.window.snapshot(), NOW + now * SECOND)
    assert crossings.found().crossings == (Crossing("a", NOW + 10 * SECOND, 99, None, 99, True),)


@pytest.mark.parametrize(("late", "peaks"), [(9.0, [99]), (2.0, [99, 50]), (120.0, [120])])
def test_a_late_row_in_a_long_stay(late: float, peaks: list[float]) -> None:
    """A late row in a crossing that began before the look-back raises its peak or splits it in two. A peak
    that has left the window stays with its part."""
    rows, crossings = Rows(), Crossings("v", "_subject", LOOK_BACK, LIMIT)
    for now, value in [(0, 1), (10, 7), (20, 99), (400, 40), (800, 50), (900, 45)]:
        rows.add(now, [(now, "a", float(value))])
        rows.window.evict(NOW + (now - 600) * SECOND)
        crossings.update(rows.window.snapshot(), NOW + now * SECOND)
    rows.add(900, [(700, "a", late)])
    crossings.update(rows.window.snapshot(), NOW + 900 * SECOND)
    assert [crossing.peak for crossing in reversed(crossings.found().crossings)] == peaks


def test_a_late_row_before_the_peak() -> None:
    """If a late row splits a crossing that began before the look-back, the peak of the later part is not
    reported for the earlier part."""
    rows, crossings = Rows(), Crossings("v", "_subject", LOOK_BACK, LIMIT)
    for now, value in [(0, 1), (10, 7), (400, 40), (800, 50), (900, 45)]:
        rows.add(now, [(now, "a", float(value))])
        rows.window.evict(NOW + (now - 600) * SECOND)
        crossings.update(rows.window.snapshot(), NOW + now * SECOND)
    rows.add(900, [(700, "a", 2.0)])
    crossings.update(rows.window.snapshot(), NOW + 900 * SECOND)
    later, before = crossings.found().crossings
    assert (before.peak, before.value, before.start) == (40, 7, NOW + 10 * SECOND)
    assert (later.peak, later.start) == (50, NOW + 800 * SECOND)


def test_only_the_newest_are_kept_and_all_are_counted() -> None:
    """Crossings beyond the maximum are only counted, until they leave the look-back. A crossing that
    continues is kept, however many came later."""
    rows, crossings = Rows(), Crossings("v", "_subject", LOOK_BACK, LIMIT)
    noise = [(t, "noise", float(value)) for t in range(-590, -10) for value in (0, 9, 1, 8)]
    rows.add(0, [(-595, "long", 1), (-594, "long", 7), *noise, (-9, "noise", 0)])
    crossings.update(rows.window.snapshot(), NOW)
    one = crossings.found()
    assert one.total == 2 * 580 + 1
    assert len(one.crossings) == MOST_CROSSINGS + 1
    assert (one.above, one.crossings[-1].series) == (1, "long")
    # A late row among those that are only counted changes nothing.
    rows.add(0, [(-580, "noise", 50.0)])
    crossings.update(rows.window.snapshot(), NOW)
    assert crossings.found() == one
    rows.window.evict(NOW)
    rows.add(300, [(300, "long", 8.0)])
    crossings.update(rows.window.snapshot(), NOW + 300 * SECOND)
    assert crossings.found().crossings[-1].peak == 8
    assert crossings.found().total < 600


def test_a_row_ahead_of_its_time_waits() -> None:
    """A row from the far future counts once its time has come."""
    rows, crossings = Rows(), Crossings("v", "_subject", LOOK_BACK, LIMIT)
    rows.add(0, [(-5, "a", 1), (400, "a", 9)])
    crossings.update(rows.window.snapshot(), NOW)
    assert crossings.found().total == 0
    crossings.update(rows.window.snapshot(), NOW + 390 * SECOND)
    assert crossings.found().above == 1


def test_a_late_thread_changes_nothing() -> None:
    """An update with an older snapshot than the last one changes nothing."""
    rows, crossings = Rows(), Crossings("v", None, LOOK_BACK, LIMIT)
    rows.add(0, [(-5, "a", 1)])
    old = rows.window.snapshot()
    rows.add(0, [(-4, "a", 9)])
    crossings.update(rows.window.snapshot(), NOW)
    before = crossings.found()
    crossings.update(old, NOW)
    assert crossings.found() is before
    assert before.total == 1


def test_many_viewers_at_once() -> None:
    """Threads that update the same crossings concurrently get the result that one thread alone computes."""
    rows, shared = Rows(), Crossings("v", "_subject", LOOK_BACK, LIMIT)
    ended = threading.Event()

    def viewer() -> None:
        while not ended.is_set():
            shared.update(rows.window.snapshot(), NOW)
            shared.found()

    threads = [threading.Thread(target=viewer) for _ in range(4)]
    for thread in threads:
        thread.start()
    generator = np.random.default_rng(1)
    for i in range(200):
        time.sleep(0.001)
        rows.add(
            0, [(-500 + i - int(generator.integers(0, 20)), "ab"[i % 2], float(generator.integers(0, 11)))]
        )
    ended.set()
    for thread in threads:
        thread.join()
    alone = Crossings("v", "_subject", LOOK_BACK, LIMIT)
    alone.update(rows.window.snapshot(), NOW)
    shared.update(rows.window.snapshot(), NOW)
    assert shared.found() == alone.found()
    assert alone.found().total > 20


def test_a_column_that_is_not_there_is_told() -> None:
    """A column that does not exist raises ColumnError at each refresh, so that each viewer sees it."""
    rows = Rows()
    rows.add(0, [(-5, "a", 1)])
    crossings = Crossings("w", "_subject", LOOK_BACK, LIMIT)
    for _ in range(2):
        with pytest.raises(ColumnError, match="'w'"):
            crossings.update(rows.window.snapshot(), NOW)


def test_of_a_feed(tmp_path: Path) -> None:
    """On a real server, crossings are found as messages arrive, and a late message counts at its own time.
    All readers of a feed share them, and a recreated stream starts over."""
    with running_server(tmp_path) as server, Client(Settings(url=server.url)) as client:
        server.add_stream("S", ["s.>"])
        begin = time.time()

        def say(name: str, at: float, value: float) -> None:
            server.publish(f"s.{name}", json.dumps({"v": value, "at": begin + at}).encode())

        feed = client.feed("S", look_back="PT10M", time="at")
        shared = feed.crossings("v", "_subject", LOOK_BACK, LIMIT)
        assert client.feed("S", time="at").crossings("v", "_subject", LOOK_BACK, LIMIT) is shared

        def now() -> list[tuple[str, float, float, bool]]:
            shared.update(feed.snapshot(), feed.now())
            return [
                (crossing.series, round(crossing.start / 1e9 - begin, 3), crossing.peak, crossing.end is None)
                for crossing in shared.found().crossings
            ]

        for at, value in enumerate([1, 6, 9, 7]):
            say("a", at - 60, value)
        until(lambda: now() == [("s.a", -59, 9, True)])
        say("b", -50, 8)
        say("a", -57.5, 2)  # late: it splits the crossing
        until(lambda: now() == [("s.b", -50, 8, True), ("s.a", -57, 7, True), ("s.a", -59, 9, False)])
        server.run(lambda nc: nc.jetstream().delete_stream("S"))
        server.add_stream("S", ["s.>"])
        say("c", -5, 3)
        say("c", -4, 6)
        until(lambda: now() == [("s.c", -4, 6, True)])
