"""The window, compared with a plain list of rows."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nats_client.errors import ColumnError
from nats_client.table.snapshot import Snapshot
from nats_client.table.values import Batch
from nats_client.table.window import MAX_COLUMNS, Window

SECOND = 10**9


def batch(first: int, values: list[float], *, at: int = 0, late: int = 0, subject: str = "s") -> Batch:
    """Rows with sequences from `first`, received at `at` ns, with times `late` ns before."""
    count = len(values)
    received = np.full(count, at, dtype=np.int64)
    seq = np.arange(first, first + count, dtype=np.int64)
    return Batch(seq, received, received - late, [subject] * count, {"value": np.array(values, dtype=float)})


class SlidingRows(RuleBasedStateMachine):
    """Appends, prepends and evicts, as a feed does; the window holds the same rows as a list."""

    def __init__(self) -> None:
        super().__init__()
        self.window = Window(max_rows=5000)
        self.rows: list[tuple[int, int, float]] = []
        self.next = 10_000
        self.now = 10_000 * SECOND
        self.kept: list[tuple[Snapshot, list[int]]] = []

    @rule(count=st.integers(1, 3000))
    def append(self, count: int) -> None:
        """New rows arrive."""
        self.now += SECOND
        values = np.arange(count, dtype=float).tolist()
        self.window.append(batch(self.next, values, at=self.now))
        self.rows += [(self.next + i, self.now, value) for i, value in enumerate(values)]
        self.rows = self.rows[-5000:]
        self.next += count

    @rule(count=st.integers(1, 500))
    def prepend(self, count: int) -> None:
        """A longer look-back brings older rows."""
        if not self.rows:
            return
        first, received, _ = self.rows[0]
        if first - count < 1:
            return
        older = Window()
        older.append(batch(first - count, [1.0] * count, at=received - 1))
        self.window.prepend(older)
        front = [(first - count + i, received - 1, 1.0) for i in range(count)]
        self.rows = (front + self.rows)[-5000:]

    @rule(seconds=st.integers(0, 5))
    def evict(self, seconds: int) -> None:
        """Time passes."""
        limit = self.now - seconds * SECOND
        self.window.evict(limit)
        self.rows = [row for row in self.rows if row[1] >= limit]

    @rule()
    def keep_a_snapshot(self) -> None:
        """A slow reader keeps a snapshot."""
        snapshot = self.window.snapshot()
        self.kept = [*self.kept[-3:], (snapshot, snapshot.seq.tolist())]

    @rule()
    def clear(self) -> None:
        """The stream was recreated."""
        self.window.clear()
        self.rows = []

    @invariant()
    def holds_the_rows(self) -> None:
        """The newest snapshot has the rows, and older ones still have theirs."""
        snapshot = self.window.snapshot()
        assert snapshot.seq.tolist() == [seq for seq, _, _ in self.rows]
        assert snapshot.received.tolist() == [received for _, received, _ in self.rows]
        if self.rows:
            assert snapshot.numbers("value").tolist() == [value for _, _, value in self.rows]
        assert snapshot.end - snapshot.first == len(self.rows)
        for old, seqs in self.kept:
            assert old.seq.tolist() == seqs


TestSlidingRows = SlidingRows.TestCase
TestSlidingRows.settings = settings(max_examples=40, stateful_step_count=30)


def test_row_ceiling_is_counted() -> None:
    """Above the ceiling the oldest rows are dropped, even within one batch, and are counted."""
    window = Window(max_rows=100)
    window.append(batch(1, [0.0] * 250, at=7))
    assert len(window) == 100
    assert window.dropped == 150
    assert window.dropped_until == 7
    assert window.snapshot().seq.tolist() == list(range(151, 251))


def test_byte_ceiling_holds() -> None:
    """However many texts arrive, the bytes stay close to the ceiling, and texts that no row uses are
    freed."""
    window = Window(max_bytes=2_000_000)
    for i in range(60):
        texts = [f"{'x' * 100}{i}-{j}" for j in range(1000)]
        rows = batch(1 + i * 1000, [0.0] * 1000, at=i)
        window.append(Batch(rows.seq, rows.received, rows.time, rows.subject, {"text": texts}))
    assert window.nbytes < 2_600_000
    assert window.dropped > 0
    assert len(window) > 1000
    newest = window.snapshot().frame(last=1)
    assert newest["text"].tolist() == [f"{'x' * 100}59-999"]


def test_byte_ceiling_holds_for_numbers() -> None:
    """The ceiling in bytes also holds if all columns are numbers."""
    window = Window(max_bytes=200_000)
    for i in range(20):
        window.append(batch(1 + i * 1000, [0.0] * 1000, at=i))
    assert window.nbytes < 260_000
    assert window.dropped == 20_000 - len(window)
    assert len(window) > 1000


def test_late_rows_are_sorted() -> None:
    """A DataFrame is in ascending order of time, even if rows arrive late."""
    window = Window()
    window.append(batch(1, [1.0], at=10 * SECOND))
    window.append(batch(2, [2.0], at=11 * SECOND, late=5 * SECOND))
    frame = window.snapshot().frame()
    assert frame["value"].tolist() == [2.0, 1.0]
    assert frame.index.is_monotonic_increasing
    assert isinstance(frame.index, pd.DatetimeIndex)
    assert str(frame.index.tz) == "UTC"


@given(
    st.lists(st.tuples(st.integers(0, 20), st.sampled_from("ab"), st.none() | st.integers(0, 9)), min_size=1)
)
def test_newest_is_by_time(rows: list[tuple[int, str, int | None]]) -> None:
    """Even if rows arrive late, the last rows and the latest values are those of the latest time."""
    window = Window()
    for seq, (time, subject, value) in enumerate(rows):
        number = np.array([np.nan if value is None else value], dtype=float)
        now = np.array([seq])
        window.append(Batch(now, now, np.array([time * SECOND]), [subject], {"value": number}))
    snapshot = window.snapshot()
    in_time = sorted(range(len(rows)), key=lambda i: rows[i][0])
    assert snapshot.frame()["_seq"].tolist() == in_time
    assert snapshot.frame(last=3)["_seq"].tolist() == in_time[-3:]
    if rows:
        newest = {rows[i][1]: rows[i][2] for i in in_time if rows[i][2] is not None}
        assert snapshot.latest("value").to_dict() == newest


def test_columns_come_and_go() -> None:
    """Rows without a column have a missing value there, before and after it appears."""
    window = Window()
    window.append(batch(1, [1.0]))
    rows = batch(2, [2.0])
    window.append(Batch(rows.seq, rows.received, rows.time, rows.subject, {"other": ["x"]}))
    frame = window.snapshot().frame()
    np.testing.assert_array_equal(frame["value"], [1.0, np.nan])
    assert frame["other"].isna().tolist() == [True, False]


def test_too_many_columns_are_counted() -> None:
    """Keys that change from message to message become columns up to MAX_COLUMNS; the others are counted."""
    window = Window()
    for i in range(MAX_COLUMNS + 50):
        rows = batch(i + 1, [1.0])
        window.append(Batch(rows.seq, rows.received, rows.time, rows.subject, {f"k{i}": np.ones(1)}))
    assert len(window.snapshot().columns) == MAX_COLUMNS + 1
    assert len(window.surplus_fields) == 50


def test_latest() -> None:
    """latest() returns the newest value of each subject, however far back it is, and skips missing values."""
    window = Window()
    window.append(batch(1, [5.0], subject="rare"))
    for i in range(30):
        window.append(batch(2 + i * 1000, [float(i)] * 1000, subject="busy"))
    window.append(batch(99_999, [float("nan")], subject="busy"))
    assert window.snapshot().latest("value").to_dict() == {"busy": 29.0, "rare": 5.0}


def test_since_narrows() -> None:
    """A shorter look-back is a narrower view of the same rows, and keeps their ordinals."""
    window = Window()
    for second in range(10):
        window.append(batch(second + 1, [float(second)], at=second * SECOND))
    narrow = window.snapshot().since(7 * SECOND)
    assert narrow.numbers("value").tolist() == [7.0, 8.0, 9.0]
    assert narrow.end == window.snapshot().end
    assert narrow.frame()["value"].tolist() == [7.0, 8.0, 9.0]


def test_wrong_columns_are_told() -> None:
    """The error for a wrong column names the nearest column, or the type that it holds."""
    window = Window()
    window.append(batch(1, [1.0]))
    with pytest.raises(ColumnError, match="Did you mean 'value'"):
        window.snapshot().numbers("valu")
    with pytest.raises(ColumnError, match="holds numbers, not texts"):
        window.snapshot().codes("value")


def test_a_page_cannot_change_what_others_see() -> None:
    """A page that adds or changes columns of its frame does not change the shared rows."""
    window = Window()
    window.append(batch(1, [1.0, 2.0]))
    frame = window.snapshot().frame()
    frame["value"] = frame["value"] * 10
    frame["new"] = 1
    changed = window.snapshot().frame().copy()
    changed.iloc[0, changed.columns.tolist().index("value")] = 99.0
    assert window.snapshot().frame()["value"].tolist() == [1.0, 2.0]
    assert isinstance(frame.index, pd.DatetimeIndex)
