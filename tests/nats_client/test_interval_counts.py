"""Counts per interval are compared with pandas, over all rows of a window."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from nats_client.series.interval_counts import TextCounts
from nats_client.table.values import Batch
from nats_client.table.window import Window

SECOND = 10**9
NOW = 1_700_000_000 * SECOND
STEP = 10 * SECOND
LOOK_BACK = 300 * SECOND
NAMES = ["a", "constructor", "__proto__", "<b>", None]

Rows = list[tuple[int, str | None]]


class Counted:
    """A window and the counts of its rows, updated as a chart does."""

    def __init__(self, by: str | None = "of") -> None:
        self.window = Window()
        self.counts = TextCounts(STEP, by)
        self.seq = 0
        self.now = NOW
        self.first = self.last = 0

    def add(self, rows: Sequence[tuple[int, str | None]]) -> None:
        """Append rows of (seconds before now, text)."""
        seq = np.arange(self.seq, self.seq + len(rows), dtype=np.int64)
        self.seq += len(rows)
        times = np.array([self.now - ago * SECOND for ago, _ in rows], dtype=np.int64)
        received = np.full(len(rows), self.now)
        self.window.append(Batch(seq, received, times, ["s"] * len(rows), {"of": [of for _, of in rows]}))

    def update(self) -> set[int]:
        """Evict old rows and update the counts; return the changed intervals."""
        self.window.evict(self.now - LOOK_BACK)
        self.last = self.now // STEP
        self.first = -((LOOK_BACK - self.now) // STEP)
        rows = self.window.snapshot().since(self.now - LOOK_BACK)
        return self.counts.update(rows, self.first, self.last)

    @property
    def cells(self) -> dict[tuple[int, str | None], int]:
        """The counts by interval and text."""
        names = [None, *self.counts.labels]
        return {
            (interval, names[code]): count
            for interval in range(self.first, self.last + 1)
            for code, count in zip(*(each.tolist() for each in self.counts.column(interval)), strict=True)
        }

    @property
    def expected(self) -> dict[tuple[int, str | None], int]:
        """The counts by interval and text, computed by pandas."""
        snapshot = self.window.snapshot().since(self.now - LOOK_BACK)
        if not len(snapshot):
            return {}
        frame = snapshot.frame()
        intervals = pd.DatetimeIndex(frame.index).as_unit("ns").asi8 // STEP
        of = frame["of"].astype(object) if "of" in frame else pd.Series([None] * len(frame))
        table = pd.DataFrame({"interval": intervals, "of": of.where(of.notna(), "missing").to_numpy()})
        table = table[(table["interval"] >= self.first) & (table["interval"] <= self.last)]
        found = table.groupby(["interval", "of"]).size().reset_index(name="count")
        listed = zip(found["interval"], found["of"], found["count"], strict=True)
        return {(int(n), None if of == "missing" else of): int(count) for n, of, count in listed}


some_rows = st.lists(
    st.tuples(st.integers(-5, 20) | st.integers(-400, 400), st.sampled_from(NAMES)), max_size=20
)
passes = st.integers(0, 30) | st.integers(0, 400)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(some_rows, passes, st.sets(st.integers(0, 60), max_size=3)), min_size=1, max_size=12)
)
def test_counts_are_those_of_the_rows_held(rounds: list[tuple[Rows, int, set[int]]]) -> None:
    """Whatever rows arrive, leave or are deleted, each interval has the counts that pandas computes. Only
    intervals reported as changed, and new ones, differ from before. The busiest texts are those with the most
    rows."""
    counted, before = Counted(), dict[tuple[int, str | None], int]()
    shown = 0
    counted.add([(0, "a")])  # so that the column is there
    for rows, passed, deleted in rounds:
        counted.now += passed * SECOND
        counted.add(rows)
        if deleted:
            counted.window.remove(np.array(sorted(deleted), dtype=np.int64))
        if "of" not in counted.window.snapshot().columns:
            continue
        changed = counted.update()
        cells = counted.cells
        assert cells == counted.expected
        differ = {
            interval
            for (interval, name) in cells.keys() | before.keys()
            if counted.first <= interval <= counted.last
            and cells.get((interval, name)) != before.get((interval, name))
        }
        assert all(interval in changed or interval > shown for interval in differ)
        totals: dict[str | None, int] = {}
        for (_, name), count in cells.items():
            totals[name] = totals.get(name, 0) + count
        busiest = counted.counts.busiest(2)
        assert [count for _, count in busiest] == sorted(totals.values(), reverse=True)[:2]
        assert counted.counts.size() == (len(totals), sum(totals.values()))
        before, shown = cells, counted.last


def test_new_rows_cost_themselves() -> None:
    """An update reads only the rows that are new and the rows that have left."""
    counted = Counted()
    counted.add([(100, "a")] * 5000)
    counted.update()
    read = []
    codes_of = counted.counts._codes

    def noting(rows: object) -> object:
        read.append(len(rows))  # type: ignore[arg-type]
        return codes_of(rows)  # type: ignore[arg-type]

    counted.counts._codes = noting  # type: ignore[method-assign, assignment]
    counted.now += 250 * SECOND
    counted.add([(0, "b")] * 9000)
    counted.update()
    counted.now += 60 * SECOND
    counted.add([(0, "b")] * 7)
    counted.update()
    assert read == [9000, 5000, 7]
    assert counted.cells == counted.expected


def test_many_values_take_the_room_of_their_rows() -> None:
    """A hundred thousand different values are counted without a table of all values by all intervals."""
    counted = Counted()
    counted.add([(n % 300, f"v{n}") for n in range(100_000)])
    counted.update()
    assert counted.cells == counted.expected
    held = sum(codes.nbytes + counts.nbytes for codes, counts in counted.counts._cells.values())
    assert held <= 16 * 100_000


def test_a_clock_far_ahead_is_counted_once_it_is_due() -> None:
    """Rows with times far in the future take no memory until they are due, and are counted then."""
    counted = Counted(None)
    counted.add([(-10 * n, None) for n in range(5000)])
    counted.update()
    assert sum(counted.cells.values()) == 1
    assert len(counted.counts._cells) < 10
    counted.now += 200 * SECOND
    counted.update()
    assert counted.cells == {(interval, None): count for (interval, _), count in counted.expected.items()}
    assert sum(counted.cells.values()) == 21
