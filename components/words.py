"""Formats numbers, times and names for people. Names come from NATS and are untrusted: data, never markup."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from html import escape
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import streamlit as st

from .units import brief

_MOST_IN_A_CELL = 2**53
"""The greatest number that Streamlit draws in a number column; it draws a greater one as an error."""
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>$~:&])")


def plain(text: str) -> str:
    """Escape `text` so that Streamlit's Markdown shows it literally: no links, images, directives or HTML."""
    return _MARKUP.sub(r"\\\1", text.replace("\n", " "))


def plotly_text(text: str) -> str:
    """Escape `text` so that Plotly, which interprets some HTML, shows it literally."""
    return escape(text, quote=False)


def cut(text: str, most: int) -> str:
    """`text`, cut to at most `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def count_text(number: int, noun: str) -> str:
    """A count with its noun: "1 message", "1,200 messages"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def rounded(value: float) -> float:
    """Round a number to the digits that are shown: eight, or from 100,000 on all before the point and three
    after it."""
    if not math.isfinite(value):
        return value
    return float(f"{value:.8g}") if abs(value) < 100_000 else round(value, 3)


def bytes_text(count: float) -> str:
    """A number of bytes in decimal units: "512 B", "1.5 kB", "3.2 GB"; "n/a" when missing."""
    return brief(count, "B")


def age_text(seconds: float) -> str:
    """A duration to within 5 %: "0.4 s", "1 min 29 s", "12 min", "5 h 3 min", "2 d 7 h"."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    for finer, part, unit, length, end in (
        ("s", 1, "min", 60, 3600),
        ("min", 60, "h", 3600, 86400),
        ("h", 3600, "d", 86400, math.inf),
    ):
        count = round(seconds / part)
        if count * part < length:
            return f"{count} {finer}"
        if count * part < 10 * length:
            return f"{count * part // length} {unit} {count * part % length // part} {finer}"
        if round(seconds / length) * length < end:
            return f"{round(seconds / length)} {unit}"
    raise AssertionError("the loop ends at days")


CHOSEN_ZONE = "_zone_chosen"
"""The key in the session state of the time zone that the viewer has chosen."""

_zone: ContextVar[str | None] = ContextVar("zone", default=None)


def zone() -> str:
    """The time zone of the viewer's pages: the chosen one, or else the browser's. UTC if this machine does
    not have that zone."""
    return _known(_zone.get() or chosen_zone() or st.context.timezone)


def chosen_zone() -> str | None:
    """The time zone that the viewer has chosen for all pages; None if it is the browser's."""
    found: str | None = st.session_state.get(CHOSEN_ZONE)
    return found


def own_zone() -> str:
    """The browser's time zone; UTC if this machine does not have that zone."""
    return _known(st.context.timezone)


def _known(name: str | None) -> str:
    return name if name and _is_known(name) else "UTC"


@lru_cache(1000)
def _is_known(zone: str) -> bool:
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, KeyError):
        return False
    return True


@contextmanager
def in_zone(name: str) -> Iterator[None]:
    """Within the block, zone() returns `name`: for work outside a viewer's script."""
    token = _zone.set(name)
    try:
        yield
    finally:
        _zone.reset(token)


def clock_text(time: int) -> str:
    """A time (ns since the epoch, UTC) in the viewer's zone: "14:03:20", with the date unless it is today."""
    moment = pd.Timestamp(time, unit="ns", tz="UTC").tz_convert(zone())
    today = moment.date() == pd.Timestamp.now(zone()).date()
    return moment.strftime("%H:%M:%S" if today else "%d %b %H:%M:%S")


def span_text(start: int, end: int) -> str:
    """From one time to another (ns since the epoch, UTC) in the viewer's zone: "14:03 to 14:11:20", with the
    day if there are two, and milliseconds where a time has some."""
    times = [pd.Timestamp(time, unit="ns", tz="UTC").tz_convert(zone()) for time in (start, end)]
    day = "" if times[0].date() == times[1].date() else "%d %b "
    return " to ".join(
        time.strftime(f"{day}%H:%M:%S.") + f"{time.microsecond // 1000:03}"
        if time.microsecond // 1000
        else time.strftime(day + ("%H:%M:%S" if time.second else "%H:%M"))
        for time in times
    )


def date_text(time: int) -> str:
    """A time (ns since the epoch, UTC) in the viewer's zone with its date and year."""
    moment = pd.Timestamp(time, unit="ns", tz="UTC").tz_convert(zone())
    return moment.tz_localize(None).isoformat(sep=" ", timespec="seconds")


def local(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """`table` with the times in `column` converted to the viewer's time zone."""
    times = pd.to_datetime(table[column], utc=True)
    return table.assign(**{column: times.dt.tz_convert(zone())})


def exact_numbers(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[Any, Any]]:
    """A copy of `table` for which st.dataframe shows every digit, and the column configurations it needs.

    By default st.dataframe shows four decimal places, and numbers beyond 2**53 as errors. A column with such
    a number, or with Decimal values, becomes text. Missing values stay missing.
    """
    shown = table.copy(deep=False)
    configurations: dict[Any, Any] = {}
    for name, column in table.items():
        decimal = pd.api.types.infer_dtype(column, skipna=True) == "decimal"
        if not decimal and (
            not pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype)
        ):
            continue
        if decimal or any(_MOST_IN_A_CELL < abs(value) < math.inf for value in column.dropna()):
            texts = [None if pd.isna(value) else str(value).removesuffix(".0") for value in column.array]
            shown[name] = pd.Series(texts, column.index, dtype="str")
            configurations[name] = st.column_config.TextColumn(alignment="right")
        elif pd.api.types.is_float_dtype(column.dtype):
            # "plain" shows 31.240741 as 31.240740999999996
            configurations[name] = st.column_config.NumberColumn(format="%.15g")
    return shown, configurations
