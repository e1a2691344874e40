"""Look-backs are parsed and formatted."""

from datetime import timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_client.duration import format_duration, parse_duration
from nats_client.errors import DurationError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT5M", 300), ("PT6H", 21600), ("P1D", 86400), ("P1W", 604800), ("P1DT2H", 93600), ("PT0.5S", 0.5)],
)
def test_iso_8601(text: str, seconds: float) -> None:
    """Weeks, days, hours, minutes and seconds are read as ISO 8601 writes them."""
    assert parse_duration(text) == pd.Timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("5m", 300),
        ("5 min", 300),
        ("90s", 90),
        ("1 hour", 3600),
        ("1h30m", 5400),
        ("1 day 12 hours", 129600),
        (" 2 weeks ", 1209600),
        ("1.5h", 5400),
        ("250ms", 0.25),
        ("1m 30s", 90),
        (timedelta(minutes=5), 300),
        (pd.Timedelta("PT6H"), 21600),
    ],
)
def test_as_people_and_python_write_them(given: str | timedelta, seconds: float) -> None:
    """Numbers with units, in letters or words, and timedeltas are durations too."""
    assert parse_duration(given) == pd.Timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "given",
    [
        "5",
        "5M",
        "m",
        " ",
        "30s 1m",
        "1m1m",
        "1 hour ago",
        "1h -5m",
        "5 months",
        "1e3s",
        5,
        None,
        b"5m",
        pd.NaT,
        timedelta(0),
        timedelta(minutes=-5),
        timedelta(days=400),
        "1h" + " " * 5000,
        "9" * 50 + "h",
    ],
)
def test_what_is_no_duration(given: Any) -> None:
    """A number without a unit, an ambiguous unit, a wrong order and other types are refused."""
    with pytest.raises(DurationError, match="look-back"):
        parse_duration(given)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "P",
        "PT",
        "P1M",
        "P1Y",
        "PT-5M",
        "-PT5M",
        "PT0S",
        "P400D",
        "pt5m",
        "P9999999999D",
        f"PT{'9' * 5000}S",
    ],
)
def test_others_are_refused(text: str) -> None:
    """An ISO 8601 duration without a fixed length, and an invalid one, are refused in a short message."""
    with pytest.raises(DurationError, match="look-back") as refused:
        parse_duration(text)
    assert len(str(refused.value)) < 300


@given(
    st.text()
    | st.from_regex(r"P\d{0,30}DT\d{0,30}H\d{0,30}(\.\d{0,30})?S", fullmatch=True)
    | st.from_regex(r"(\d{1,30} ?(w|days?|hours?|m|s|ms) ?){0,5}", fullmatch=True)
)
def test_whatever_is_written(text: str) -> None:
    """Any text is either parsed as a positive duration of at most 366 days or refused."""
    try:
        length = parse_duration(text)
    except DurationError:
        return
    assert pd.Timedelta(0) < length <= pd.Timedelta(days=366)


def test_words() -> None:
    """Durations are formatted in words."""
    assert format_duration(pd.Timedelta("P1DT1M")) == "1 day 1 minute"
    assert format_duration(pd.Timedelta("PT0.5S")) == "0.5 seconds"
