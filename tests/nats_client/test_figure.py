"""A metric's number equals what pandas computes from all rows, however they arrive."""

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nats_client import LookbackError
from nats_client.series.figure import HOWS, POINTS, Figure, How
from nats_client.table.snapshot import Snapshot
from nats_client.table.values import Batch, Mixed
from nats_client.table.window import Window

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
LOOK_BACK = pd.Timedelta("PT1M")
PANDAS = {"least": "min", "greatest": "max", "mean": "mean", "sum": "sum"}


def batch(seq: int, received: list[int], times: list[int], series: list[str], values: list[float]) -> Batch:
    """Rows with a sequence from `seq` on."""
    count = len(received)
    return Batch(
        np.arange(seq, seq + count),
        np.array(received, dtype=np.int64),
        np.array(times, dtype=np.int64),
        series,
        {"v": np.array(values, dtype=np.float64)},
    )


def expected(snapshot: Snapshot, until: int, how: str, color: bool, over: int | None) -> float | None:
    """The number that pandas computes from the rows of a snapshot stored before `until`."""
    table = snapshot.frame(["_subject", "v"]).assign(order=range(len(snapshot)))
    order = np.arange(len(snapshot)) if snapshot.ordered else np.argsort(snapshot.time, kind="stable")
    table = table.assign(received=snapshot.received[order], time=snapshot.time[order])
    table = table[(table["received"] < until) & table["v"].notna()]
    if over is not None:
        table = table[table["received"] >= until - over]
    elif color:
        table = table.groupby("_subject", observed=True).tail(1)
    else:
        table = table.tail(1)
    if table.empty:
        return None
    return float(table["v"].iloc[-1] if how == "newest" else table["v"].agg(PANDAS[how]))


def same(one: float | None, other: float | None) -> bool:
    """True if two numbers are equal, apart from the rounding of a sum."""
    return one is other if one is None or other is None else one == pytest.approx(other, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("color", [False, True], ids=["one series", "several"])
@pytest.mark.parametrize("over", [None, "PT20S"], ids=["newest of each", "over a time"])
@pytest.mark.parametrize("how", HOWS)
@settings(max_examples=4)
@given(data=st.data())
def test_is_what_pandas_computes(how: How, over: str | None, color: bool, data: st.DataObject) -> None:
    """At each update, the number and its earlier value equal those computed from all rows of the window. Rows
    may be late, lack a value, be dropped or arrive in blocks, and a series may be silent."""
    late = data.draw(st.booleans())
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    length = pd.Timedelta(over) if over else None
    figure = Figure(
        "v", how, LOOK_BACK, by="_subject" if color else None, over=length, change=pd.Timedelta("PT15S")
    )
    window, now, seq = Window(max_rows=20_000), START, 0
    for _ in range(6):
        count = int(random.choice([0, 1, 7, 300, 6000]))
        begin, now = now, now + int(random.choice([1, 5, 30])) * SECOND
        received = np.sort(random.integers(begin, now, count))
        times = received - (random.integers(0, 20, count) * SECOND if late else 0)
        values = np.where(random.random(count) < 0.1, np.nan, random.integers(-50, 50, count))
        series = [f"s.{n}" for n in random.integers(0, int(random.choice([1, 3, 30])), count)]
        if count:
            window.append(batch(seq, received.tolist(), times.tolist(), series, values.tolist()))
        seq += count
        snapshot = window.snapshot().since(now - LOOK_BACK.value)
        if "v" not in snapshot.columns:
            continue
        figure.update(snapshot, now)
        nanos = length.value if length else None
        assert same(figure.value, expected(snapshot, now, how, color, nanos))
        assert same(figure.before, expected(snapshot, now - 15 * SECOND, how, color, nanos))


def test_only_one_series() -> None:
    """`only` uses the rows of one series, even if its first row arrives last."""
    window = Window()
    figure = Figure("v", "sum", LOOK_BACK, by="_subject", only="b", over=pd.Timedelta("PT30S"))
    for i, (series, number) in enumerate([("a", None), ("b", 2.0), ("a", 2.0), ("b", 5.0)]):
        now = START + i * SECOND
        window.append(batch(i, [now], [now], [series], [float(i + 1 if i != 3 else 3)]))
        figure.update(window.snapshot(), now + 1)
        assert figure.value == number


def test_large_integers_keep_their_digits() -> None:
    """The newest value is exact, even if float64 cannot hold it."""
    window = Window()
    window.append(batch(0, [START], [START], ["a"], [1.0]))
    rows = batch(1, [START + 1], [START + 1], ["a"], [0.0])
    large = 2**63 - 25
    values = Mixed(np.array([float(large)]), [str(large)])
    window.append(Batch(rows.seq, rows.received, rows.time, rows.subject, {"v": values}))
    figure = Figure("v", "newest", LOOK_BACK)
    figure.update(window.snapshot(), START + 2)
    assert figure.value == large


def test_course_is_what_the_number_was() -> None:
    """Each point of the course is the number at the end of its step, whether it was updated at the time or
    computed later."""
    window, watched = Window(), Figure("v", "sum", LOOK_BACK, by="_subject")
    seen: dict[int, float | None] = {}
    for i in range(300):
        now = START + i * SECOND // 2
        window.append(batch(i, [now], [now], [f"s.{i % 3}"], [float(i)]))
        watched.update(window.snapshot().since(now - LOOK_BACK.value), now)
        seen[now // watched.step + 1] = watched.value
    late = Figure("v", "sum", LOOK_BACK, by="_subject")
    late.update(window.snapshot().since(now - LOOK_BACK.value), now)
    assert len(watched.course) == POINTS
    for number, value in watched.course.items():
        assert value == seen[number]
        if number > min(watched.course) + 6:  # earlier points depend on rows that have left the window
            assert late.course[number] == value


@pytest.mark.parametrize("over", [None, pd.Timedelta("PT30S")])
def test_update_costs_what_is_new(over: pd.Timedelta | None) -> None:
    """With a million rows in the window, an update costs less than a twentieth of the first one."""
    count = 1_000_000
    received = START - np.arange(count, 0, -1) * (LOOK_BACK.value // count)
    series = [f"s.{i % 10}" for i in range(count)]
    window = Window()
    window.append(
        Batch(np.arange(count), received, received, series, {"v": np.arange(count, dtype=np.float64)})
    )
    figure = Figure("v", "sum", LOOK_BACK, by="_subject", over=over, change=pd.Timedelta("PT15S"))
    begin = time.perf_counter()
    figure.update(window.snapshot().since(START - LOOK_BACK.value), START)
    whole = time.perf_counter() - begin
    costs = []
    for i in range(1, 20):
        now = START + i * SECOND // 20
        window.append(batch(count + i, [now], [now], ["s.1"], [1.0]))
        snapshot = window.snapshot().since(now - LOOK_BACK.value)
        begin = time.perf_counter()
        figure.update(snapshot, now)
        costs.append(time.perf_counter() - begin)
    assert sorted(costs)[len(costs) // 2] < whole / 20


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"how": "median"}, "so how='median' cannot be"),
        ({"only": "a"}, "only='a' names one series"),
        ({"over": pd.Timedelta("PT2M")}, "does not hold the 2 minutes"),
        ({"over": pd.Timedelta("PT40S"), "change": pd.Timedelta("PT40S")}, "does not hold the 1 minute 20"),
    ],
)
def test_mistakes_are_named(wrong: dict[str, object], said: str) -> None:
    """An unknown `how`, `only` without `by`, and durations longer than the look-back raise an error that says
    so."""
    how = wrong.pop("how", "newest")
    with pytest.raises(LookbackError, match=said):
        Figure("v", how, LOOK_BACK, **wrong)  # type: ignore[arg-type]


def test_newest_rows_of_many_late_ones() -> None:
    """The last n rows of a frame are its newest by their own time, even if many rows arrived late."""
    random = np.random.default_rng(1)
    times = START + random.integers(0, 50, 1000) * SECOND
    received = START + np.arange(1000)
    window = Window()
    window.append(batch(0, received.tolist(), times.tolist(), ["s"] * 1000, list(range(1000))))
    whole = window.snapshot().frame()
    for last in (0, 1, 20, 999, 1000, 2000):
        pd.testing.assert_frame_equal(window.snapshot().frame(last=last), whole.tail(last))
