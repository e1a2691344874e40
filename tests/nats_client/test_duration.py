"""Look-backs."""

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
    "text",
    [
        "5m",
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
    """What has no fixed length, or is no duration, is refused with the text in the message."""
    with pytest.raises(DurationError, match="look-back") as refused:
        parse_duration(text)
    assert len(str(refused.value)) < 300


@given(st.text() | st.from_regex(r"P\d{0,30}DT\d{0,30}H\d{0,30}(\.\d{0,30})?S", fullmatch=True))
def test_whatever_is_written(text: str) -> None:
    """Any text is a length of at most 366 days, or refused."""
    try:
        length = parse_duration(text)
    except DurationError:
        return
    assert pd.Timedelta(0) < length <= pd.Timedelta(days=366)


def test_words() -> None:
    """Lengths are said in words."""
    assert format_duration(pd.Timedelta("P1DT1M")) == "1 day 1 minute"
    assert format_duration(pd.Timedelta("PT0.5S")) == "0.5 seconds"
