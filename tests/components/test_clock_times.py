"""The clock's words, and the conversion of a viewer's local times to UTC."""

from datetime import datetime

import pandas as pd
import pytest

from components.choices.clock import LIVE, Clock, Fixed, _day_of, _of_viewer, _parsed, _WrongError
from components.words import in_zone

END = pd.Timestamp("2026-03-29T14:20:00Z")


def test_words() -> None:
    """The clock has everyday words in the viewer's zone, with the day where it changes, and the year if it is
    another one."""
    stretch = Clock(pd.Timedelta(minutes=20), END.value)
    with in_zone("Asia/Kolkata"):
        assert stretch.words in ("29 Mar 19:30 to 19:50", "29 Mar 2026 19:30 to 19:50")
        night = Clock(pd.Timedelta(hours=20), END.value)
        assert "28 Mar" in night.words
        assert "29 Mar" in night.words
        assert Clock(None, END.value).words.startswith("Until 29 Mar")
    old = Clock(pd.Timedelta(seconds=90), pd.Timestamp("2001-02-03T04:05:06Z").value)
    with in_zone("UTC"):
        assert old.words == "03 Feb 2001 04:03:36 to 04:05:06"
    assert LIVE.words == "Live"
    assert Clock(pd.Timedelta(hours=1)).words == "Live, last hour"
    assert Clock(pd.Timedelta(minutes=90)).words == "Live, last 1 hour 30 minutes"


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ("2026-10-25T00:00Z", "2026-10-25T02:00Z", "25 Oct 02:00 UTC+2 to 03:00 UTC+1"),
        ("2026-10-25T00:00Z", "2026-10-25T01:00Z", "25 Oct 02:00 UTC+2 to 02:00 UTC+1"),
        ("2026-10-25T01:10Z", "2026-10-25T01:20Z", "25 Oct 02:10 UTC+1 to 02:20 UTC+1"),
        ("2026-10-24T22:00Z", "2026-10-24T23:00Z", "25 Oct 00:00 to 01:00"),
        ("2026-03-29T00:30Z", "2026-03-29T01:30Z", "29 Mar 01:30 UTC+1 to 03:30 UTC+2"),
        ("2026-03-01T00:00:00.25Z", "2026-03-01T00:00:00.5Z", "01 Mar 01:00:00.250 to 01:00:00.500"),
    ],
)
def test_words_that_say_when(start: str, end: str, words: str) -> None:
    """If the viewer's clocks change in the stretch, the words have each time's offset from UTC. Times with
    milliseconds are shown with them."""
    until = pd.Timestamp(end).as_unit("ns")
    with in_zone("Europe/Berlin"):
        found = Clock(until - pd.Timestamp(start), until.value).words
    assert found.replace(" 2026", "") == words


@pytest.mark.parametrize(
    ("zone", "now", "today", "yesterday"),
    [
        ("Europe/Berlin", "2026-10-25T12:00Z", "2026-10-24T22:00Z", "2026-10-23T22:00Z"),
        ("Europe/Berlin", "2026-10-26T12:00Z", "2026-10-25T23:00Z", "2026-10-24T22:00Z"),
        ("Asia/Kolkata", "2026-11-29T18:31Z", "2026-11-29T18:30Z", "2026-11-28T18:30Z"),
        ("Africa/Cairo", "2026-04-24T12:00Z", "2026-04-23T22:00Z", "2026-04-22T22:00Z"),  # no midnight
        ("America/Santiago", "2026-09-07T12:00Z", "2026-09-07T03:00Z", "2026-09-06T04:00Z"),
        ("America/Havana", "2026-11-01T12:00Z", "2026-11-01T04:00Z", "2026-10-31T04:00Z"),  # twice
    ],
)
def test_days_of_a_viewer(zone: str, now: str, today: str, yesterday: str) -> None:
    """Today and yesterday begin at the first moment of the viewer's day, also where midnight is skipped or
    occurs twice. Yesterday ends where today begins, and this week begins on Monday."""
    then = pd.Timestamp(now).tz_convert(zone)
    assert _day_of("Today", then) == (pd.Timestamp(today), then)
    assert _day_of("Yesterday", then) == (pd.Timestamp(yesterday), pd.Timestamp(today))
    monday, until = _day_of("This week", then)
    assert (monday.weekday(), until) == (0, then)
    assert pd.Timedelta(0) <= then - monday < pd.Timedelta(days=7, hours=1)


def test_reach() -> None:
    """The clock's length replaces a read's own look-back, except one that is Fixed."""
    hour = Clock(pd.Timedelta(hours=1))
    assert LIVE.reach("5m") == pd.Timedelta(minutes=5)
    assert hour.reach("5m") == pd.Timedelta(hours=1)
    assert hour.reach(Fixed("PT2H")) == pd.Timedelta(hours=2)


@pytest.mark.parametrize(
    ("local", "utc"),
    [
        ("2026-03-29T01:59:00", "2026-03-29T00:59:00Z"),
        ("2026-03-29T02:30:00", "2026-03-29T01:30:00Z"),  # skipped by the clocks: half past three
        ("2026-03-29T03:00:00", "2026-03-29T01:00:00Z"),
        ("2026-10-25T02:30:00", "2026-10-25T00:30:00Z"),  # occurs twice: the first
        ("2026-10-25T03:00:00", "2026-10-25T02:00:00Z"),
    ],
)
def test_times_of_a_viewer(local: str, utc: str) -> None:
    """A time chosen by a viewer is in their zone, also on days when the clocks change."""
    with in_zone("Europe/Berlin"):
        assert _of_viewer(datetime.fromisoformat(local)) == pd.Timestamp(utc)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-29T14:00:00Z", "2026-11-29T14:00:00Z"),
        ("2026-11-29T14:00:00.1234567+01:00", "2026-11-29T13:00:00.123Z"),
        ("2026-11-29 14:00", "2026-11-29T14:00:00Z"),
        ("2026-11-29", "2026-11-29T00:00:00Z"),
    ],
)
def test_times_of_an_address(text: str, time: str) -> None:
    """Times in an address are UTC unless they have an offset; milliseconds are kept."""
    assert _parsed(text, "to") == pd.Timestamp(time)


@pytest.mark.parametrize(
    "text", ["now", "today", "14:00", "1795984883", "2026-11-29T25:00:00Z", "2026-02-30"]
)
def test_no_time(text: str) -> None:
    """Texts that pandas would accept as some time, and dates that do not exist, are refused."""
    with pytest.raises(_WrongError, match="is not a time"):
        _parsed(text, "to")
