"""Row times from fields of payloads: ISO 8601, or numbers since the epoch."""

import re
import zoneinfo
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..table.iso_times import ISO_TIME, MISSING, IsoTimes, parse_iso_times
from ..table.values import EXACT, Coded, Floats, Ints, Values
from .decoder import Row

LONGEST_TIME = 64
"""Characters of a text that are read as a time."""
_HAS_ZONE = re.compile(r"(?:[zZ]|[T ]\S*[+-]\d{2}:?\d{0,2})\s*$")
_EPOCH = re.compile(r"-?\d{9,19}(?:\.\d{1,9})?")
"""Fewer digits may be a date in ISO 8601."""
NANOSECONDS = 1e17
"""A time at least this large is in nanoseconds since the epoch."""
MOST = 9.2e18
"""A readable time is less than this many ns from the epoch, so that int64 holds it, in any time zone."""
_EARLIEST, _LATEST = (pd.Timestamp(int(most), unit="ns", tz="UTC") for most in (-MOST, MOST))
Truths = npt.NDArray[np.bool_]


def own_time(field: str) -> tuple[Callable[[Row], Any], str | None]:
    """A function that returns a row's own time, and the zone of times that have none. `field` may be a path
    of nested fields, "params.ts", and may name a zone after an @, "params.ts@Europe/Berlin"."""
    name, _, zone = field.rpartition("@")
    if not name or not is_zone(zone):
        name, zone = field, ""
    path = name.split(".")

    def own(row: Row) -> Any:
        if name in row or len(path) == 1:
            return row.get(name)
        found: Any = row
        for key in path:
            found = found.get(key) if type(found) is dict else None
        return found

    return own, zone or None


def own_times(values: Values) -> Ints | None:
    """Convert a column to row times, like read_times(); None if one is unreadable."""
    if isinstance(values, Coded):
        if (values.codes < 0).any():
            return None
        times, readable = read_times(values.labels)
        return times[values.codes] if readable.all() else None
    assert isinstance(values, np.ndarray)
    if values.dtype == ISO_TIME:
        ns: Ints = cast(IsoTimes, values)["ns"]
        return ns.copy() if (ns != MISSING["ns"]).all() else None
    numbers = cast(Floats, values)
    if not (np.abs(numbers) > 1).any():  # true and false are not times
        return None
    times, readable = _times_of(numbers)
    return times if readable.all() else None


@lru_cache(maxsize=256)
def is_zone(name: str) -> bool:
    """True if `name` is a time zone, such as Europe/Berlin or UTC."""
    try:
        zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def read_times(values: Sequence[Any], zone: str | None = None) -> tuple[Ints, Truths]:
    """Parse times from payloads, as decode() does. Returns int64 ns since the epoch, UTC, and a bool array:
    which values were readable. Times without a zone are in `zone`, by default in UTC; in the hour that is
    repeated when summer time ends, they are in summer time."""
    kinds = set(map(type, values))
    if kinds <= {int, float}:
        numbers = np.array(values, dtype=np.float64)
        nanoseconds, readable = _times_of(numbers)
        if (large := np.flatnonzero(readable & (np.abs(numbers) >= EXACT))).size:
            # float64 cannot represent today's time in ns exactly, so such integers are not converted.
            for i in large.tolist():
                if type(values[i]) is int and abs(numbers[i]) >= NANOSECONDS:
                    nanoseconds[i] = values[i]
        return nanoseconds, readable
    if kinds <= {str}:
        times = parse_iso_times(values) if zone is None or all(map(_HAS_ZONE.search, values)) else None
        if times is not None:
            return times["ns"].copy(), np.ones(len(values), dtype=bool)
        return _times_in(list(values), zone)
    found, readable = np.zeros(len(values), dtype=np.int64), np.zeros(len(values), dtype=bool)
    for group in ({int, float}, {str}) if len(kinds) > 1 else ():
        if at := [i for i, value in enumerate(values) if type(value) in group]:
            found[at], readable[at] = read_times([values[i] for i in at], zone)
    return found, readable


def _times_in(texts: list[str], zone: str | None) -> tuple[Ints, Truths]:
    """Parse texts, which may be ISO 8601 or the digits of a time since the epoch."""
    written = (
        pd.Series(texts, dtype="str")
        .str.slice(0, LONGEST_TIME)
        .str.strip()
        .str.replace(",", ".", regex=False)
    )
    parsed = pd.to_datetime(written, utc=True, format="ISO8601", errors="coerce")
    # pandas reads times that int64 ns cannot hold, such as 9999-12-31, in another unit.
    parsed = parsed.where((parsed > _EARLIEST) & (parsed < _LATEST)).dt.as_unit("ns")
    if zone is not None:
        bare = parsed.notna() & ~written.str.contains(_HAS_ZONE)
        local = parsed[bare].dt.tz_localize(None)
        summer = np.ones(len(local), dtype=bool)
        moved = local.dt.tz_localize(zone, ambiguous=summer, nonexistent="shift_forward")
        parsed[bare] = moved.dt.tz_convert("UTC")
    found = parsed.to_numpy("datetime64[ns]").view(np.int64).copy()
    readable = parsed.notna().to_numpy(bool).copy()
    for i in np.flatnonzero(written.str.fullmatch(_EPOCH).to_numpy(bool)).tolist():
        text = written.iloc[i]
        times, good = read_times([float(text) if "." in text else int(text)])
        found[i], readable[i] = times[0], good[0]
    return found, readable


def _times_of(numbers: Floats) -> tuple[Ints, Truths]:
    """Convert numbers to int64 ns since the epoch, and return which are readable. Their size decides the
    unit: units differ by a factor of 1,000 and today is 1.7e9 s, so the bounds hold for centuries."""
    size = np.abs(numbers)
    scale = np.where(size < 1e11, 1e9, np.where(size < 1e14, 1e6, np.where(size < NANOSECONDS, 1e3, 1.0)))
    readable = np.isfinite(numbers) & (size * scale < MOST)
    held = np.where(readable, numbers, 0.0)
    # In two parts, because float64 cannot hold today's time to the nanosecond.
    whole = np.trunc(held)
    unit = scale.astype(np.int64)
    return whole.astype(np.int64) * unit + np.rint((held - whole) * scale).astype(np.int64), readable
