"""Which series are drawn, their newest, greatest and mean values, and the extremes of the others, compared
with pandas."""

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nats_client.errors import LookbackError
from nats_client.series.bins import Bins, step_for
from nats_client.series.point_rows import extremes_of_others
from nats_client.series.series_choice import RULES, SeriesChoice, by_name, natural
from nats_client.table.values import NULL, Batch
from nats_client.table.window import Window

LOOK_BACK = pd.Timedelta("PT10M")
STEP = step_for(LOOK_BACK)
NOW = 1_700_000_000 * 10**9
MOST = 3

Rows = list[tuple[int, str, float]]
NUMBERS = st.one_of(
    st.integers(-9, 9).map(float), st.sampled_from([np.nan, np.inf, -np.inf, NULL, 3e38, 0.1])
)
ROWS = st.lists(
    st.tuples(st.integers(1, 700), st.sampled_from([f"s.{i}" for i in range(12)]), NUMBERS), max_size=40
)


class Charted:
    """A window whose rows come in batches, each `ago` seconds before now."""

    def __init__(self, choice: SeriesChoice, most: int = MOST) -> None:
        self.window = Window()
        self.bins = Bins(("value",), "_subject", LOOK_BACK, most=most, choice=choice)
        self.rows: Rows = []
        self.put([(5000, "s.0", 1.0)])  # so that the column exists

    def put(self, rows: Rows, now: int = NOW) -> None:
        """Append a batch of rows and update the bins."""
        seq = np.arange(len(self.rows), len(self.rows) + len(rows), dtype=np.int64)
        times = np.array([NOW - ago * 10**9 for ago, _, _ in rows], dtype=np.int64)
        values = {"value": np.array([value for _, _, value in rows], dtype=np.float64)}
        self.window.append(Batch(seq, times, times, [subject for _, subject, _ in rows], values))
        self.rows += rows
        self.bins.update(self.window.snapshot(), now)

    def table(self, now: int = NOW) -> pd.DataFrame:
        """The numbers in the look-back, ordered by time."""
        table = pd.DataFrame(self.rows, columns=["ago", "name", "value"])
        table["time"] = NOW - table["ago"] * 10**9
        edge = (now - LOOK_BACK.value) // STEP
        table = table[(table["time"] // STEP >= edge) & (table["value"].abs() < 3e38)]
        return table.sort_values("time", kind="stable")

    @property
    def lines(self) -> list[str]:
        """The series with lines of their own."""
        return [name for name in self.bins.names if not name.endswith((" other", " others"))]


def ranked(table: pd.DataFrame, rule: str) -> pd.Series:
    """The score of each series under a rule; series with greater scores come first."""
    by = table.groupby("name")
    if rule == "busiest":
        return by["value"].count()
    if rule == "greatest":
        return by["value"].max()
    if rule == "newest":
        return by["time"].min() // STEP
    names = sorted(map(str, by.groups), key=natural)
    return pd.Series(range(len(names), 0, -1), index=names)


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=60, deadline=None)
@given(rows=ROWS)
def test_the_rule_decides(rule: str, rows: Rows) -> None:
    """If all rows arrive at once, the drawn series are those that come first under the rule."""
    charted = Charted(SeriesChoice(rule))
    charted.put(rows)
    scores = ranked(charted.table(), rule)
    assert len(charted.lines) == min(MOST, len(scores))
    rest = scores.drop(charted.lines)
    if len(rest):
        assert scores[charted.lines].min() >= rest.max()


@settings(max_examples=40, deadline=None)
@given(
    batches=st.lists(ROWS.filter(bool), min_size=2, max_size=4), rule=st.sampled_from(["greatest", "name"])
)
@example(batches=[[(9, f"s.{i}", 1.0) for i in range(5)], [(1, "s.11", 9.0)]], rule="greatest")
def test_the_rule_is_kept_as_rows_come(batches: list[Rows], rule: str) -> None:
    """Some seconds after rows arrived, even without further ones, the drawn series are again those that come
    first under the rule."""
    charted = Charted(SeriesChoice(rule))
    for rows in batches:
        charted.put(rows)
    charted.bins._chosen_at = -np.inf  # the next choice is due
    charted.bins.update(charted.window.snapshot(), NOW)
    scores = ranked(charted.table(), rule)
    rest = scores.drop([name for name in charted.lines if name in scores])
    if len(rest):
        assert scores[[name for name in charted.lines if name in scores]].min() >= rest.max()


def test_new_series_are_seen_and_steady_ones_stay() -> None:
    """Under the rule "newest", a series that begins gets a line, and a series that merely reports seldom does
    not."""
    charted = Charted(SeriesChoice("newest"))
    charted.put(
        [
            (ago, f"s.{i}", 1.0)
            for ago in range(600, 100, -10)
            for i in range(5)
            if ago > 500 or i or ago % 50 == 0
        ]
    )
    before = charted.lines
    later = NOW + 400 * 10**9
    charted.bins._chosen_at = -np.inf
    charted.put([(50, "s.0", 1.0)], later)
    assert charted.lines == before
    charted.put([(-300, "s.9", 1.0)], later)
    charted.bins._chosen_at = -np.inf
    charted.bins.update(charted.window.snapshot(), later)
    assert "s.9" in charted.lines


def test_named_series_come_first() -> None:
    """A series chosen by name gets a line under any rule, as soon as it appears, and is never replaced.
    Unknown names, or more names than there are lines, do no harm."""
    charted = Charted(SeriesChoice(names=frozenset({"s.7", "s.9", "none"})))
    busy = [(ago, f"s.{i}", 1.0) for ago in range(1, 40) for i in range(8)]
    charted.put([*busy, (5, "s.7", 2.0)])
    assert "s.7" in charted.lines
    charted.put([(3, "s.9", 1.0)])
    assert {"s.7", "s.9"} < set(charted.lines)
    epoch = charted.bins.epoch
    for _ in range(3):
        charted.put(busy)
    assert {"s.7", "s.9"} < set(charted.lines)
    assert charted.bins.epoch == epoch
    many = Charted(SeriesChoice("greatest", frozenset(f"s.{i}" for i in range(9))))
    for _ in range(3):
        many.put(busy)
    assert len(many.lines) == MOST
    epoch = many.bins.epoch
    many.put(busy)
    assert many.bins.epoch == epoch


def test_an_unknown_rule_is_refused() -> None:
    """An unknown rule raises an error that lists the rules."""
    with pytest.raises(LookbackError, match="busiest, greatest, newest, name"):
        SeriesChoice("loudest")


@settings(max_examples=80, deadline=None)
@given(batches=st.lists(ROWS, max_size=4), later=st.integers(0, 900))
@example(batches=[[(600, "s.0", 1e15), (600, "s.0", 0.25)], [(1, "s.0", NULL)]], later=0)
def test_values_of_series(batches: list[Rows], later: int) -> None:
    """The newest, greatest and mean values of each series, and of the others together, equal those of pandas.
    Rows may arrive in batches or late, be null, NaN or infinite, and leave the look-back."""
    charted = Charted(SeriesChoice())
    for number, rows in enumerate(batches):
        charted.put(rows)
        if number % 2:  # the numbers are also read between batches
            charted.bins.numbers(charted.window.snapshot())
    now = NOW + later * 10**9
    snapshot = charted.window.snapshot()
    charted.bins.update(snapshot, now)
    found = charted.bins.numbers(snapshot)
    table = charted.table(now)
    table["name"] = table["name"].where(table["name"].isin(charted.lines), "others")
    for name, numbers in found.items():
        own = table[table["name"] == (name if name in charted.lines else "others")]["value"]
        expected = (np.nan, np.nan, np.nan) if own.empty else (own.iloc[-1], own.max(), own.mean())
        assert numbers == pytest.approx(expected, rel=1e-12, abs=1e-12, nan_ok=True)
    assert set(table["name"]) - {"others"} <= set(found)


@settings(max_examples=80, deadline=None)
@given(rows=ROWS, ends=st.tuples(st.integers(0, 599), st.integers(0, 599)))
def test_what_is_among_the_others(rows: Rows, ends: tuple[int, int]) -> None:
    """The least and the greatest value among the others in a time range, and their series, equal those of
    pandas. The result is empty if no row is in the range."""
    charted = Charted(SeriesChoice())
    charted.put(rows)
    start, end = NOW - max(ends) * 10**9, NOW - min(ends) * 10**9
    count, found = extremes_of_others(charted.window.snapshot(), charted.bins, start, end)
    table = charted.table()
    table = table[~table["name"].isin(charted.lines) & (table["time"] >= start) & (table["time"] < end)]
    assert count == table["name"].nunique()
    if table.empty:
        assert not found
        return
    for extreme, value in zip(found, (table["value"].min(), table["value"].max()), strict=True):
        first = table[table["value"] == value]
        assert (extreme.value, extreme.time) == (value, first["time"].min())
        assert extreme.series in set(first[first["time"] == extreme.time]["name"])


def test_the_others_can_be_searched() -> None:
    """Series among the others are found by a part of their name, in natural order, and counted."""
    charted = Charted(SeriesChoice())
    charted.put([(5, f"Pump-{i}", 1.0) for i in range(30)])
    found, count = charted.bins.undrawn(charted.window.snapshot(), "pump-1", 4)
    names = [name for name in (f"Pump-{i}" for i in (1, *range(10, 20))) if name not in charted.lines]
    assert (found, count) == (names[:4], len(names))
    assert charted.bins.undrawn(charted.window.snapshot(), "\x00", 4) == ([], 0)


def test_asking_costs_what_is_new() -> None:
    """The first call of `numbers` reads all rows; a second call without new rows costs much less."""
    charted = Charted(SeriesChoice())
    charted.put([(1 + i % 599, f"s.{i % 9}", 1.0) for i in range(200_000)])
    took = []
    for _ in range(2):
        start = time.thread_time()
        charted.bins.numbers(charted.window.snapshot())
        took.append(time.thread_time() - start)
    assert took[1] < took[0] / 3


def test_any_number_in_a_name() -> None:
    """Names are ordered by the numbers in them, however many digits a publisher sends."""
    names = ["p-10", "p-2", "p-002", "p-", f"p-{'9' * 5000}", "p-1"]
    assert sorted(names, key=by_name) == ["p-", "p-1", "p-002", "p-2", "p-10", f"p-{'9' * 5000}"]
