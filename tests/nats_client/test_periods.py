"""Where periods start, in time zones and across changes of the clocks, and the means of their values."""

import re
from datetime import UTC, datetime, timedelta
from typing import cast
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nats_client import iso_duration, parse_duration
from nats_client.errors import ColumnError, LookbackError
from nats_client.series.periods import (
    MOST_EARLIER,
    Means,
    check_reach,
    compare_means,
    full_reach,
    period_names,
    period_starts,
    reach,
    step_of,
)
from nats_client.table.values import Batch, Values
from nats_client.table.window import Window

SECOND = 10**9
ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "America/Santiago",
    "Australia/Lord_Howe", "Africa/Cairo", "Pacific/Apia",
]  # fmt: skip
PERIODS = ["PT1M", "PT15M", "PT1H", "PT2H", "PT6H", "P1D", "P2D", "P7D", "P28D"]

moments = st.integers(1_420_000_000, 2_000_000_000).map(lambda seconds: seconds * SECOND + 123)


def local(start: int, zone: str) -> str:
    """A start as the local clock shows it."""
    return datetime.fromtimestamp(start // SECOND, UTC).astimezone(ZoneInfo(zone)).isoformat()


def at(text: str) -> int:
    """ns since the epoch of an ISO 8601 time."""
    return int(datetime.fromisoformat(text).timestamp()) * SECOND


@given(moments, st.sampled_from(PERIODS), st.integers(1, 6), st.sampled_from(ZONES))
@settings(max_examples=300)
def test_now_lies_in_the_current_period(now: int, text: str, earlier: int, zone: str) -> None:
    """For any moment, zone and length, now lies in the current period, and the earlier periods adjoin it. All
    begin within the look-back of full_reach(), and no bin crosses the start of a period."""
    period = parse_duration(text)
    starts = period_starts(period, earlier, now, zone)
    assert len(starts) == earlier + 2
    assert starts[1] <= now < starts[0]
    assert starts[-1] >= now - full_reach(period, earlier).value
    lengths = -np.diff(starts)
    by_day = not period % pd.Timedelta(days=1)
    assert (np.abs(lengths - period.value) <= (3600 * SECOND if by_day else 0)).all()
    step = step_of(period, starts)
    assert 280 <= period.value / step <= 1400
    if (text, zone) != ("P28D", "Asia/Kathmandu"):  # 45 minutes from a full hour: it would take 2,688 bins
        assert all(start % step == 0 for start in starts)


@given(moments, st.sampled_from(ZONES), st.sampled_from(["P1D", "P7D"]))
def test_days_start_at_the_first_moment_of_the_local_day(now: int, zone: str, text: str) -> None:
    """Each day begins where the local date changes, each week where it becomes Monday."""
    for start in period_starts(parse_duration(text), 4, now, zone):
        first = datetime.fromisoformat(local(start, zone))
        before = datetime.fromisoformat(local(start - SECOND, zone))
        assert first.date() == before.date() + timedelta(days=1)
        assert text == "P1D" or first.weekday() == 0


@pytest.mark.parametrize(
    ("period", "zone", "now", "expected"),
    [
        ("PT1H", "Europe/Berlin", "2026-11-25T14:53:20+01:00", ["2026-11-25T15:00:00+01:00",
         "2026-11-25T14:00:00+01:00", "2026-11-25T13:00:00+01:00", "2026-11-25T12:00:00+01:00"]),
        ("PT1H", "Asia/Kolkata", "2026-11-25T14:53:20+05:30", ["2026-11-25T15:00:00+05:30",
         "2026-11-25T14:00:00+05:30", "2026-11-25T13:00:00+05:30", "2026-11-25T12:00:00+05:30"]),
        ("PT2H", "Europe/Berlin", "2026-11-25T15:00:00+01:00", ["2026-11-25T16:00:00+01:00",
         "2026-11-25T14:00:00+01:00", "2026-11-25T12:00:00+01:00", "2026-11-25T10:00:00+01:00"]),
        # Clocks go forward on 29 March 2026: that day has 23 hours.
        ("P1D", "Europe/Berlin", "2026-03-30T09:00:00+02:00", ["2026-03-31T00:00:00+02:00",
         "2026-03-30T00:00:00+02:00", "2026-03-29T00:00:00+01:00", "2026-03-28T00:00:00+01:00"]),
        # And back on 25 October: that day has 25.
        ("P1D", "Europe/Berlin", "2026-10-25T23:30:00+01:00", ["2026-10-26T00:00:00+01:00",
         "2026-10-25T00:00:00+02:00", "2026-10-24T00:00:00+02:00", "2026-10-23T00:00:00+02:00"]),
        ("P7D", "Europe/Berlin", "2026-10-27T12:00:00+01:00", ["2026-11-02T00:00:00+01:00",
         "2026-10-26T00:00:00+01:00", "2026-10-19T00:00:00+02:00", "2026-10-12T00:00:00+02:00"]),
        # No midnight on 6 September 2026 in Chile: 23:59:59 is followed by 01:00:00.
        ("P1D", "America/Santiago", "2026-09-06T12:00:00-03:00", ["2026-09-07T00:00:00-03:00",
         "2026-09-06T01:00:00-03:00", "2026-09-05T00:00:00-04:00", "2026-09-04T00:00:00-04:00"]),
    ],
)  # fmt: skip
def test_starts(period: str, zone: str, now: str, expected: list[str]) -> None:
    """Hours, days and weeks start as the local clock and calendar show, even on days when the clocks
    change."""
    starts = period_starts(parse_duration(period), 2, at(now), zone)
    assert [local(start, zone) for start in starts] == expected


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../../etc/passwd", "Europe"])
def test_unknown_zones_are_told(zone: str) -> None:
    """An unknown time zone, which a browser may send, raises a LookbackError."""
    with pytest.raises(LookbackError, match="Unknown time zone"):
        period_starts(parse_duration("P1D"), 1, at("2026-01-01T00:00:00+00:00"), zone)


@pytest.mark.parametrize(
    ("period", "names"),
    [
        ("PT1H", ["current hour", "1 hour before", "2 hours before"]),
        ("P1D", ["current day", "1 day before", "2 days before"]),
        ("P7D", ["current week", "1 week before", "2 weeks before"]),
        ("PT15M", ["current 15 minutes", "15 minutes before", "30 minutes before"]),
        ("PT45M", ["current 45 minutes", "45 minutes before", "1 hour 30 minutes before"]),
    ],
)
def test_names(period: str, names: list[str]) -> None:
    """Periods have everyday names, such as "current day" and "2 weeks before", instead of durations."""
    assert period_names(parse_duration(period), 2) == names


def test_a_look_back_that_is_too_short_names_the_one_that_is_needed() -> None:
    """The error states how far back the periods reach, and the look-back to use instead."""
    check_reach(parse_duration("PT2H"), parse_duration("PT1H"), 1)
    said = (
        "The look-back PT1H30M is too short for 2 periods of PT1H: the first one starts up to 2 hours "
        'before now. Use look_back="PT2H".'
    )
    with pytest.raises(LookbackError, match=re.escape(said)):
        check_reach(parse_duration("PT90M"), parse_duration("PT1H"), 1)
    for earlier in cast("list[int]", [0, MOST_EARLIER + 1, "1"]):
        with pytest.raises(LookbackError, match="1 to 30 earlier ones"):
            reach(parse_duration("PT1H"), earlier)
    with pytest.raises(LookbackError, match="31 periods of 28 days are 868 days"):
        reach(parse_duration("P28D"), 30)


@given(st.integers(1, 366 * 86_400_000))
def test_durations_are_written_as_they_are_read(milliseconds: int) -> None:
    """parse_duration() reads back every length of whole milliseconds that iso_duration() writes."""
    length = pd.Timedelta(milliseconds=milliseconds)
    assert parse_duration(iso_duration(length)) == length


@pytest.mark.parametrize("text", ["PT5M", "PT2H", "P1D", "P2DT1H", "PT0.5S", "PT1H30M"])
def test_durations_are_short(text: str) -> None:
    """A duration is written without parts that are zero."""
    assert iso_duration(parse_duration(text)) == text


rows = st.lists(
    st.tuples(
        st.integers(-7300, 0),
        st.sampled_from(["a", "b", "c", None]),
        st.integers(-100, 100).map(float) | st.just(float("nan")),
    ),
    min_size=1,
    max_size=60,
)


def window(rows: list[tuple[int, str | None, float]], now: int) -> Window:
    """A window of (seconds from now, dimension, value)."""
    made = Window()
    times = np.array([now + seconds * SECOND for seconds, _, _ in rows], dtype=np.int64)
    seq = np.arange(len(rows), dtype=np.int64)
    values: dict[str, Values] = {
        "v": np.array([v for _, _, v in rows], dtype=np.float64),
        "host": [host for _, host, _ in rows],
    }
    made.append(Batch(seq, np.full(len(rows), now), times, ["s"] * len(rows), values))
    return made


@given(rows, st.booleans(), st.integers(0, 3599))
def test_means_are_those_of_the_rows(
    rows: list[tuple[int, str | None, float]], in_order: bool, elapsed: int
) -> None:
    """Whether or not rows arrive in order, each mean is that of the period's rows up to the same elapsed
    time. The change is in percent of the earlier mean."""
    now = 1_700_000_000 // 3600 * 3600 * SECOND + elapsed * SECOND
    rows = sorted(rows, key=lambda row: row[0]) if in_order else rows
    starts = period_starts(parse_duration("PT1H"), 1, now, "UTC")
    table = compare_means(window(rows, now).snapshot(), "v", "host", starts, now)
    frame = pd.DataFrame(rows, columns=["ago", "host", "v"]).dropna()
    current = frame[(frame["ago"] >= -elapsed) & (frame["ago"] < 0)].groupby("host")["v"].mean()
    before = frame[(frame["ago"] >= -elapsed - 3600) & (frame["ago"] < -3600)].groupby("host")["v"].mean()
    expected = pd.DataFrame({"current": current, "before": before})
    expected["change"] = ((expected["current"] - before) / before.abs() * 100).where(before != 0)
    assert table.index.tolist() == expected.index.tolist()
    np.testing.assert_allclose(table, expected, rtol=1e-9)


def test_means_without_a_dimension() -> None:
    """Without a dimension, the table has one row, named after the field. A missing field is an error; an
    empty window gives an empty table."""
    now = 1_700_000_000 * SECOND
    starts = period_starts(parse_duration("PT1H"), 1, now, "UTC")
    made = window([(-3700, "a", 1.0), (-3650, None, 3.0), (-100, "b", 3.0)], now)
    table = compare_means(made.snapshot(), "v", None, starts, now)
    assert table.to_dict("index") == {"v": {"current": 3.0, "before": 2.0, "change": 50.0}}
    with pytest.raises(ColumnError, match="'w'"):
        compare_means(made.snapshot(), "w", None, starts, now)
    made.clear()
    assert compare_means(made.snapshot(), "v", None, starts, now).empty


def test_viewers_share_the_means() -> None:
    """All calls within a second for the same rows and dimension share one table; new rows give a new one."""
    now = 1_700_000_000 * SECOND
    starts = period_starts(parse_duration("PT1H"), 1, now, "UTC")
    made, means = window([(-100, "a", 1.0)], now), Means()
    first = means.table(made.snapshot(), "v", "host", starts, now)
    assert means.table(made.snapshot().since(0), "v", "host", starts, now + SECOND // 2) is first
    assert means.table(made.snapshot(), "v", None, starts, now) is not first
    made.append(
        Batch(
            np.array([9]), np.array([now]), np.array([now - SECOND]), ["s"], {"v": np.ones(1), "host": ["b"]}
        )
    )
    assert means.table(made.snapshot(), "v", "host", starts, now).index.tolist() == ["a", "b"]
