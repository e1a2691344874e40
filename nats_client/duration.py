"""Parses and formats ISO 8601 durations, such as the look-backs "PT5M", "PT6H" and "P1D"."""

import re

import pandas as pd

from .errors import DurationError

# Months and years have no fixed length, so they are rejected here. pandas would parse "P1M", a month in
# ISO 8601, as a minute.
_FIXED = re.compile(r"P(?=\d|T\d)(\d+W)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?")
LONGEST = pd.Timedelta(days=366)


def parse_duration(text: str, what: str = "look-back") -> pd.Timedelta:
    """Parse an ISO 8601 duration of weeks, days, hours, minutes and seconds.

    Raises DurationError if `text` is anything else, is zero, or is longer than 366 days. `what` names the
    value in the error.
    Rule: https://en.wikipedia.org/wiki/ISO_8601#Durations
    """
    shown = repr(f"{text[:40]}…" if isinstance(text, str) and len(text) > 40 else text)
    if not isinstance(text, str) or not _FIXED.fullmatch(text):
        raise DurationError(
            f"The {what} {shown} is not a duration. Use ISO 8601, for example "
            '"PT5M" (five minutes), "PT6H" (six hours) or "P1D" (one day).'
        )
    try:
        length = pd.Timedelta(text)
    except (ValueError, OverflowError):  # more than a Timedelta can hold
        length = pd.Timedelta.max
    if not pd.Timedelta(0) < length <= LONGEST:
        raise DurationError(f"The {what} {shown} must be longer than zero and at most {LONGEST.days} days.")
    return length


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
