"""Values that are kept up to date with new rows equal those computed from the whole window."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nats_client.errors import ColumnError
from nats_client.series.latest import Latest
from nats_client.table.snapshot import Oldest
from nats_client.table.values import Batch, Values
from nats_client.table.window import Window

row = st.tuples(st.integers(0, 30), st.sampled_from("abcd"), st.sampled_from([1.0, 2.0, float("nan")]))
step = st.lists(row, min_size=1, max_size=6) | st.integers(1, 12) | st.just("clear")


def batch(first: int, rows: list[tuple[int, str, float]]) -> Batch:
    """Rows of (time, subject, value), with sequences from `first`, stored one nanosecond apart."""
    seq = np.arange(first, first + len(rows), dtype=np.int64)
    times = np.array([time for time, _, _ in rows], dtype=np.int64)
    subjects = [subject for _, subject, _ in rows]
    values: dict[str, Values] = {
        "v": np.array([value for *_, value in rows]),
        "text": [subject.upper() for subject in subjects],
    }
    return Batch(seq, seq, times, subjects, values)


@settings(max_examples=200)
@given(st.lists(step, max_size=20), st.booleans())
def test_latest_is_what_a_look_at_all_rows_finds(steps: list[object], ordered: bool) -> None:
    """Whatever rows arrive, in order of time or not, and whatever leave the window, the latest values equal
    those computed from all rows."""
    window, latest, texts, count = Window(), Latest("v", "_subject"), Latest("text", "_subject"), 0
    for what in steps:
        if isinstance(what, list):
            rows = [(time + count if not ordered else count * 40, *rest) for time, *rest in what]
            window.append(batch(count, rows))
            count += len(what)
        elif isinstance(what, int):
            window.evict(max(0, count - what))
        else:
            window.clear()
        snapshot = window.snapshot()
        for one in (latest, texts):
            if one.name in snapshot.columns:
                pd.testing.assert_series_equal(one.of(snapshot), snapshot.latest(one.name, "_subject"))


def test_a_late_thread_gets_what_its_snapshot_holds() -> None:
    """A caller with an older snapshot gets its values, and does not affect other callers."""
    window, latest = Window(), Latest("v", "_subject")
    window.append(batch(0, [(0, "a", 1.0)]))
    old = window.snapshot()
    window.append(batch(1, [(1, "a", 2.0)]))
    assert latest.of(window.snapshot())["a"] == 2.0
    assert latest.of(old)["a"] == 1.0
    assert latest.of(window.snapshot())["a"] == 2.0


def test_older_rows_give_a_series_without_a_value_none() -> None:
    """A series without any value has no latest value, even after older rows were put in front of the
    window."""
    window, older, latest = Window(), Window(), Latest("v", "_subject")
    window.append(batch(10, [(10, "a", 1.0), (11, "b", float("nan"))]))
    older.append(batch(0, [(0, "a", 5.0), (1, "a", 6.0)]))
    window.prepend(older)
    snapshot = window.snapshot()
    assert snapshot.latest("v", "_subject").to_dict() == {"a": 1.0}
    assert latest.of(snapshot).to_dict() == {"a": 1.0}


def test_a_missing_column_is_named() -> None:
    """A column that does not exist raises ColumnError at each call."""
    window = Window()
    window.append(batch(0, [(0, "a", 1.0)]))
    latest = Latest("w", "_subject")
    for _ in range(2):
        with pytest.raises(ColumnError, match="'w'"):
            latest.of(window.snapshot())


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 9000), st.integers(0, 20_000)), min_size=1, max_size=8))
def test_oldest_is_the_least_time(steps: list[tuple[int, int]]) -> None:
    """`Oldest` returns the least time of the rows in the window, in whatever order they arrived and whichever
    have left."""
    window, oldest, count = Window(), Oldest(), 0
    random = np.random.default_rng(1)
    for rows, kept in steps:
        seq = np.arange(count, count + rows, dtype=np.int64)
        count += rows
        window.append(Batch(seq, seq, seq + random.integers(0, 5000, rows), ["s"] * rows, {}))
        window.evict(count - kept)
        snapshot = window.snapshot()
        if len(snapshot):
            assert oldest.of(snapshot) == snapshot.time.min()
