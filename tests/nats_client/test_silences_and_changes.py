"""Silences and changed values against a model that checks every row received."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nats_client.errors import ColumnError
from nats_client.series.conditions import parse_condition
from nats_client.series.crossings import MOST_CROSSINGS
from nats_client.series.silences import Silences
from nats_client.series.value_changes import ValueChanges
from nats_client.table.values import Batch, Values
from nats_client.table.window import Window

LOOK_BACK = pd.Timedelta("PT10M")
SECOND = 10**9
NOW = 1_700_000_000 * SECOND
LENGTH = 30  # seconds

Rows = list[tuple[int, str, float]]


class Stream:
    """A real window. Its clock is in seconds after NOW."""

    def __init__(self, *, texts: bool = False) -> None:
        self.window = Window()
        self.texts = texts
        self.seq = 0

    def add(self, now: int, rows: Rows) -> None:
        """Append rows of (seconds after NOW, series, value) that are received at `now`."""
        seq = np.arange(self.seq, self.seq + len(rows), dtype=np.int64)
        self.seq += len(rows)
        times = np.array([NOW + t * SECOND for t, _, _ in rows], dtype=np.int64)
        values: Values = np.array([value for _, _, value in rows], dtype=np.float64)
        if self.texts:
            values = [f"state {value}" if value == value else None for _, _, value in rows]
        received = np.full(len(rows), NOW + now * SECOND)
        self.window.append(Batch(seq, received, times, [name for _, name, _ in rows], {"v": values}))
        self.window.evict(NOW + (now - 600) * SECOND)


some_rows = st.lists(
    st.tuples(
        st.integers(0, 40) | st.integers(0, 590),  # seconds before the refresh: late rows as well
        st.sampled_from("abc"),
        st.integers(0, 2).map(float) | st.just(float("nan")),
    ),
    max_size=20,
)
steps = st.lists(st.tuples(some_rows, st.integers(1, 50) | st.integers(1, 400)), min_size=1, max_size=10)
"""Rows, and the seconds that pass before they arrive: long enough for rows to leave the look-back."""


def stretches(rows: Rows) -> dict[str, Rows]:
    """The rows that have a value, by series, in order of time and then of arrival."""
    series: dict[str, Rows] = {}
    for row in rows:
        if row[2] == row[2]:
            series.setdefault(row[1], []).append(row)
    return {name: sorted(mine, key=lambda row: row[0]) for name, mine in series.items()}


@settings(deadline=None, max_examples=200)
@given(steps)
def test_silences(steps: list[tuple[Rows, int]]) -> None:
    """For any rows, in any order and batches: a silence lies between two successive rows of a series that are
    further apart than the condition says, and after its last row."""
    stream = Stream()
    silences = Silences("v", "_subject", LOOK_BACK, parse_condition(f"silent for {LENGTH}s"))
    came: Rows = []
    now = 0
    for some, later in steps:
        now += later
        timed = [(now - ago, name, value) for ago, name, value in some]
        came += timed
        stream.add(now, timed)
        silences.update(stream.window.snapshot(), NOW + now * SECOND)
        expected = []
        series = stretches(came)
        for name, mine in series.items():
            times: list[int | None] = [at for at, _, _ in mine]
            for last, following in zip(times, [*times[1:], None], strict=True):
                assert last is not None
                end = now if following is None else following
                if end - last > LENGTH and end >= now - 600:
                    end_at = None if following is None else NOW + following * SECOND
                    expected.append((NOW + (last + LENGTH) * SECOND, name, end_at, float(end - last)))
        found = silences.found()
        assert sorted((one.start, one.series, one.end, one.peak) for one in found.crossings) == sorted(
            expected, key=lambda one: one[:2]
        )
        assert found.above == sum(end is None for _, _, end, _ in expected)
        assert (found.series, found.total) == (len(series), len(expected))


def expected_spans(rows: Rows, edge: int) -> list[tuple[int, str, float, int | None]]:
    """Start, series, value and end of each span in which a series kept one value, ordered by start. Spans
    that end before `edge`, and series without a row since then, are left out."""
    spans = []
    for name, mine in stretches(rows).items():
        if NOW + mine[-1][0] * SECOND < edge:
            continue
        begins = [mine[0], *[row for before, row in pairwise(mine) if row[2] != before[2]]]
        for row, following in zip(begins, [*begins[1:], None], strict=True):
            end = None if following is None else NOW + following[0] * SECOND
            if end is None or end >= edge:
                spans.append((NOW + row[0] * SECOND, name, row[2], end))
    return sorted(spans, key=lambda span: span[:2])


@settings(deadline=None, max_examples=200)
@given(steps, st.booleans())
def test_changes(steps: list[tuple[Rows, int]], texts: bool) -> None:
    """For any rows, in any order and batches: numbers and texts change where two successive rows of a series
    differ."""
    stream = Stream(texts=texts)
    changes = ValueChanges("v", "_subject", LOOK_BACK, parse_condition("changed"))
    came: Rows = []
    now = 0
    for some, later in steps:
        now += later
        timed = [(now - ago, name, value) for ago, name, value in some]
        came += timed
        stream.add(now, timed)
        if "v" not in stream.window.snapshot().columns:
            return
        if not any(value == value for _, _, value in came):
            return  # a column without a value has no type yet
        changes.update(stream.window.snapshot(), NOW + now * SECOND)
        expected = []
        for name, mine in stretches(came).items():
            for (_, _, before), (at, _, value) in pairwise(mine):
                if value != before and at >= now - 600:
                    expected.append((NOW + at * SECOND, name, f"state {value}" if texts else value))
        found = changes.found()
        assert sorted(
            (one.start, one.series, one.text if texts else one.value) for one in found.crossings
        ) == sorted(expected)
        assert found.total == len(expected)
        edge = NOW + (now - 600) * SECOND
        spans, missing = changes.spans()
        assert missing == 0
        assert [(series, value, max(start, edge), end) for series, value, start, end in spans] == [
            (series, f"state {value}" if texts else value, max(start, edge), end)
            for start, series, value, end in expected_spans(came, edge)
        ]


def test_a_silence_outlives_its_rows() -> None:
    """A series that stays silent is still reported after its rows have left the look-back."""
    stream = Stream()
    silences = Silences("v", "_subject", LOOK_BACK, parse_condition("silent for 30s"))
    stream.add(0, [(0, "a", 1.0)])
    for now in (0, 300, 900, 5000):
        stream.add(now, [(now, "b", 1.0)])
        silences.update(stream.window.snapshot(), NOW + now * SECOND)
    (one,) = [crossing for crossing in silences.found().crossings if crossing.series == "a"]
    assert (one.start, one.end, one.peak) == (NOW + 30 * SECOND, None, 5000)


def test_only_the_newest_are_kept_and_all_are_counted() -> None:
    """Only the newest MOST_CROSSINGS changes are kept; all within the look-back are counted."""
    stream = Stream()
    changes = ValueChanges("v", None, LOOK_BACK, parse_condition("changed"))
    stream.add(0, [(-500 + i // 10, "a", float(i % 2)) for i in range(MOST_CROSSINGS + 101)])
    changes.update(stream.window.snapshot(), NOW)
    assert len(changes.found().crossings) == MOST_CROSSINGS
    assert changes.found().total == MOST_CROSSINGS + 100
    assert changes.spans()[1] == 100
    stream.add(1, [(-500, "a", 0.0)])  # late, and no change
    changes.update(stream.window.snapshot(), NOW + SECOND)
    assert changes.found().total == MOST_CROSSINGS + 100
    stream.add(590, [(590, "a", 7.0)])
    changes.update(stream.window.snapshot(), NOW + 590 * SECOND)
    assert changes.found().total == len(changes.found().crossings) == 1


@pytest.mark.parametrize("made", [Silences, ValueChanges])
def test_an_unknown_column(made: type[Silences | ValueChanges]) -> None:
    """A missing column is an error that names the columns that exist."""
    stream = Stream()
    stream.add(0, [(0, "a", 1.0)])
    said = "changed" if made is ValueChanges else "silent for 5s"
    with pytest.raises(ColumnError, match="'v'"):
        made("w", None, LOOK_BACK, parse_condition(said)).update(stream.window.snapshot(), NOW)
