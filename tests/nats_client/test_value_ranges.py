"""Ranges of values and the counts in them, against a model that checks every value."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nats_client.series.value_ranges import FEW, LEAST, MOST, UNFIT, ValueCounts, fitting
from nats_client.series.zoom_tiles import TOO_LARGE
from nats_client.table.values import NULL, Batch, Floats
from nats_client.table.window import Window

SECOND = 10**9
NOW = 1_700_000_000 * SECOND
STEP = 10 * SECOND
LOOK_BACK = 300 * SECOND

any_number = (
    st.floats(-1e3, 1e3)
    | st.integers(-50, 50).map(float)
    | st.integers(0, 999).map(lambda n: n / 100)
    | st.floats(-3e38, 3e38)
    | st.floats(-1e-300, 1e-300)
    | st.floats(1e-6, 1e-3)
)


@settings(max_examples=150)
@given(st.lists(any_number, min_size=1, max_size=30), st.booleans())
def test_each_value_is_in_its_range(numbers: list[float], log: bool) -> None:
    """Each value is at least the edge of its range and less than the next edge, exactly, and there are at
    most MOST ranges."""
    values = np.array(numbers)
    scale = fitting(values, log=log)
    placed = values[values >= LEAST] if log else values
    if scale is None:
        assert not len(placed)
        return
    codes = scale.codes(placed)
    assert (scale.edges(codes) <= placed).all()
    assert (placed < scale.edges(codes + 1)).all()
    assert codes.max() - codes.min() < MOST
    if log:
        assert (scale.codes(np.array([0.0, -1.0, 1e-301])) == UNFIT).all()


@pytest.mark.parametrize(
    ("numbers", "length"),
    [
        ([0.1, 0.2, 0.3, 0.7, 4.0], 0.1),
        ([0.0, 100.0, 55.5], 5.0),
        ([1.0, 2.0, 3.0], 1.0),
        ([7.0], 1.0),
        ([1e9, 1.02e9], 1e6),
        ([0.25, 0.25], 0.0005),
    ],
)
def test_ranges_are_round(numbers: list[float], length: float) -> None:
    """The length of a range is 1, 2 or 5 times a power of ten, and at least 1 for whole numbers."""
    scale = fitting(np.array(numbers), log=False)
    assert scale is not None
    low, high = scale.edges(np.array([0, 1])).tolist()
    assert (low, high) == (0.0, length)


def test_logarithmic_ranges_are_round() -> None:
    """Logarithmic ranges begin at round numbers, from ten per decade to one for several decades."""
    for numbers, edges in (
        ([1.0, 99.0], [1.0, 1.2, 1.5, 2.0, 2.5, 3.0]),
        ([1.0, 9e5], [1.0, 1.5, 2.0, 3.0, 5.0, 7.0]),
        ([1.0, 9e11], [1.0, 2.0, 5.0, 10.0]),
        ([1.0, 9e30], [1.0, 10.0, 100.0]),
        ([1e-30, 9e30], [1e-30, 1e-28]),
    ):
        scale = fitting(np.array(numbers), log=True)
        assert scale is not None
        first = scale.codes(np.array(numbers))[0]
        assert scale.edges(np.arange(first, first + len(edges))).tolist() == edges


class Counted:
    """A window, and the counts of its values as a chart takes them."""

    def __init__(self, *, log: bool) -> None:
        self.window = Window()
        self.counts = ValueCounts(STEP, "v", log=log)
        self.log = log
        self.seq = 0
        self.now = NOW
        self.first = self.last = 0

    def add(self, rows: list[tuple[int, float]]) -> None:
        """Append rows of (seconds before now, value)."""
        seq = np.arange(self.seq, self.seq + len(rows), dtype=np.int64)
        self.seq += len(rows)
        times = np.array([self.now - ago * SECOND for ago, _ in rows], dtype=np.int64)
        received, values = np.full(len(rows), self.now), np.array([value for _, value in rows])
        self.window.append(Batch(seq, received, times, ["s"] * len(rows), {"v": values}))

    def update(self) -> None:
        """Count the rows within the look-back."""
        self.window.evict(self.now - LOOK_BACK)
        self.last = self.now // STEP
        self.first = -((LOOK_BACK - self.now) // STEP)
        rows = self.window.snapshot().since(self.now - LOOK_BACK)
        self.counts.update(rows, self.first, self.last)

    def check(self) -> None:
        """Check that the counts of each interval are those of its rows, in the right ranges."""
        snapshot = self.window.snapshot().since(self.now - LOOK_BACK)
        intervals, values = snapshot.time // STEP, snapshot.numbers("v")
        good = np.abs(values) < TOO_LARGE
        for interval in range(self.first, self.last + 1):
            codes, counts = self.counts.column(interval)
            of: Floats = np.sort(values[good & (intervals == interval)])
            unfit = int(counts[codes == UNFIT].sum())
            assert unfit == (int((of < LEAST).sum()) if self.log else 0)
            of = of[of >= LEAST] if self.log else of
            codes, counts = codes[codes != UNFIT], counts[codes != UNFIT]
            if len(of):
                assert self.counts.scale is not None
                low, high = self.counts.scale.edges(codes), self.counts.scale.edges(codes + 1)
                found = np.searchsorted(of, high) - np.searchsorted(of, low)
                assert found.tolist() == counts.tolist()
            assert counts.sum() == len(of)
        low_code, high_code = self.counts.extent(self.first, self.last)
        assert high_code - low_code < MOST


some_rows = st.lists(
    st.tuples(
        st.integers(-5, 20) | st.integers(-400, 400),
        any_number | st.sampled_from([float("nan"), float(NULL), 1e-7, 4e38]),
    ),
    max_size=15,
)


@settings(max_examples=120)
@given(
    st.lists(st.tuples(some_rows, st.integers(0, 30) | st.integers(0, 400)), min_size=1, max_size=10),
    st.booleans(),
)
def test_counts_are_those_of_the_rows_held(
    rounds: list[tuple[list[tuple[int, float]], int]], log: bool
) -> None:
    """For any numbers that arrive, late or early, and leave again, the counts of each interval are those of
    its rows."""
    counted = Counted(log=log)
    counted.add([(0, 1.5)])
    for rows, passed in rounds:
        counted.now += passed * SECOND
        counted.add(rows)
        if "v" not in counted.window.snapshot().columns:
            continue
        counted.update()
        counted.check()


def test_ranges_follow_the_values() -> None:
    """An outlier makes the ranges coarse; once it has left, they become fine again. Rows with equal values
    are counted once, not at each update."""
    counted = Counted(log=False)
    counted.add([(0, 1e6), (0, 0.5)])
    counted.update()
    coarse = counted.counts.scale
    for _ in range(40):
        counted.now += 10 * SECOND
        counted.add([(0, n / 7) for n in range(7)])
        counted.update()
        counted.check()
    low, high = counted.counts.extent(counted.first, counted.last)
    assert counted.counts.scale != coarse
    assert high - low + 1 >= FEW
    same, read = Counted(log=False), []
    codes_of = same.counts._codes

    def noting(rows: object) -> object:
        read.append(len(rows))  # type: ignore[arg-type]
        return codes_of(rows)  # type: ignore[arg-type]

    same.counts._codes = noting  # type: ignore[method-assign, assignment]
    for _ in range(60):
        same.now += SECOND
        same.add([(0, 42.0)] * 3)
        same.update()
    assert read == [3] * 60
