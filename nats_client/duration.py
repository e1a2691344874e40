"""Parses and formats durations, such as the look-backs "PT5M", "6h" and "1 day"."""

import re
from datetime import timedelta

import pandas as pd

from .errors import DurationError

Duration = str | timedelta
"""What parse_duration() accepts. A pandas.Timedelta is a timedelta."""

# Months and years have no fixed length, so they are rejected here. pandas would parse "P1M", a month in
# ISO 8601, as a minute.
_ISO = re.compile(r"P(?=\d|T\d)(\d+W)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?")
_UNITS = {
    "weeks": ("w", "week", "weeks"),
    "days": ("d", "day", "days"),
    "hours": ("h", "hr", "hrs", "hour", "hours"),
    "minutes": ("m", "min", "mins", "minute", "minutes"),
    "seconds": ("s", "sec", "secs", "second", "seconds"),
    "milliseconds": ("ms", "millisecond", "milliseconds"),
}
"""Units by their name in a timedelta, largest first."""
_NAMED = re.compile(
    r"\s*".join(
        rf"(?:(?P<{unit}>\d+(?:\.\d+)?)\s*(?:{'|'.join(names)})(?![a-z]))?" for unit, names in _UNITS.items()
    )
)
_LONGEST_TEXT = 60
LONGEST = pd.Timedelta(days=366)


def parse_duration(given: Duration, what: str = "look-back") -> pd.Timedelta:
    """Parse a duration of weeks, days, hours, minutes and seconds: ISO 8601 ("PT5M", "P1D"), as people write
    it ("5m", "90 s", "1 hour 30 minutes", largest unit first), or a timedelta.

    Raises DurationError if `given` is anything else, is zero or negative, or is longer than 366 days. `what`
    names the value in the error.
    Rule: https://en.wikipedia.org/wiki/ISO_8601#Durations
    """
    shown = repr(f"{given[:40]}…" if isinstance(given, str) and len(given) > 40 else given)
    try:
        length = _length(given)
    except (ValueError, OverflowError):  # more than a Timedelta can hold
        length = pd.Timedelta.max
    if length is None:
        raise DurationError(
            f"The {what} {shown} is not a duration. Write for example "
            '"5m", "6 hours", "1d 12h", or in ISO 8601 "PT5M", "PT6H", "P1DT12H".'
        )
    if not pd.Timedelta(0) < length <= LONGEST:
        raise DurationError(f"The {what} {shown} must be longer than zero and at most {LONGEST.days} days.")
    return length


def _length(given: object) -> pd.Timedelta | None:
    """None if it is not a duration."""
    if isinstance(given, timedelta):
        length = pd.Timedelta(given)
        return length if length == length else None
    if not isinstance(given, str):
        return None
    if _ISO.fullmatch(given):
        return pd.Timedelta(given)
    named = _NAMED.fullmatch(given.strip()) if len(given) <= _LONGEST_TEXT and given.strip() else None
    if named is None:
        return None
    return pd.Timedelta(
        timedelta(**{unit: float(count) for unit, count in named.groupdict().items() if count})
    )


def format_duration(length: pd.Timedelta) -> str:
    """A duration in words: "5 minutes", "6 hours", "1 day 12 hours"."""
    parts = length.components
    words = [
        f"{count} {unit}" + ("" if count == 1 else "s")
        for count, unit in (
            (parts.days, "day"),
            (parts.hours, "hour"),
            (parts.minutes, "minute"),
            (parts.seconds, "second"),
        )
        if count
    ]
    return " ".join(words) or f"{length.total_seconds():g} seconds"


def iso_duration(length: pd.Timedelta) -> str:
    """The canonical ISO 8601 text of `length`, as read by parse_duration: 90 minutes are "PT1H30M", seven
    days "P7D"."""
    parts = length.components
    seconds = f"{(length % pd.Timedelta(minutes=1)).value / 1e9:.9f}".rstrip("0").rstrip(".")
    time = "".join(
        f"{count}{unit}"
        for count, unit in ((parts.hours, "H"), (parts.minutes, "M"), (seconds, "S"))
        if float(count)
    )
    return "P" + (f"{parts.days}D" if parts.days else "") + (f"T{time}" if time else "")
