"""Periods that `compare` lays over one another: their starts, names and mean values.

All lengths are fixed ISO 8601 durations, but days and weeks start at local midnight. So one of them is an
hour longer or shorter when the clocks change.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..duration import LONGEST, format_duration, iso_duration
from ..errors import LookbackError
from ..table.memo import Memo
from ..table.snapshot import Snapshot
from .bins import ROUND_STEPS

MOST_EARLIER = 30
"""Maximum number of earlier periods to compare with, because all are drawn at once."""
FEWEST, MOST = 280, 1400
"""Range for the number of bins per period, if a round width allows it."""

_SECOND = 1_000_000_000  # ns
_DAY = pd.Timedelta(days=1)
_WEEK = pd.Timedelta(days=7)
_EPOCH, _FIRST_MONDAY = date(1970, 1, 1), date(1970, 1, 5)


def check_earlier(earlier: int) -> int:
    """Return `earlier` if that many periods can be compared with the current one. Raises LookbackError."""
    if not isinstance(earlier, int) or not 1 <= earlier <= MOST_EARLIER:
        raise LookbackError(
            f"earlier={earlier!r} is not valid. The current period can be compared with 1 to {MOST_EARLIER} "
            "earlier ones."
        )
    return earlier


def reach(period: pd.Timedelta, earlier: int) -> pd.Timedelta:
    """The look-back that `earlier` periods and the current one need: (earlier + 1) * period, because the
    current one may be almost over. Raises LookbackError if that is longer than the longest look-back."""
    length: pd.Timedelta = (check_earlier(earlier) + 1) * period
    if length > LONGEST:
        raise LookbackError(
            f"{earlier + 1} periods of {format_duration(period)} are {format_duration(length)}, but a "
            f"look-back is at most {LONGEST.days} days. Compare fewer or shorter periods."
        )
    return length


def full_reach(period: pd.Timedelta, earlier: int) -> pd.Timedelta:
    """Like `reach`, plus the hour by which local days may be longer when the clocks change. At most
    LONGEST."""
    return min(
        reach(period, earlier) + (pd.Timedelta(hours=1) if _by_day(period) else pd.Timedelta(0)), LONGEST
    )


def check_reach(look_back: pd.Timedelta, period: pd.Timedelta, earlier: int) -> None:
    """Raises LookbackError, which names the necessary look-back, if `look_back` is shorter."""
    needed = reach(period, earlier)
    if look_back < needed:
        raise LookbackError(
            f"The look-back {iso_duration(look_back)} is too short for {earlier + 1} periods of "
            f"{iso_duration(period)}: the first one starts up to {format_duration(needed)} before now. "
            f'Use look_back="{iso_duration(needed)}".'
        )


def period_starts(period: pd.Timedelta, earlier: int, now: int, zone: str) -> list[int]:
    """Starts of the next period, the current one and the `earlier` ones before it, in this order. All times
    are ns since the epoch, UTC.

    Days start at local midnight in `zone` (an IANA name, such as "Europe/Berlin"), weeks on Monday. Periods
    of several days are counted from the epoch, of several weeks from its first Monday. All other periods
    start when the local clock, at its current UTC offset, shows a multiple of `period`: PT1H starts on the
    hour. Raises LookbackError if the zone is unknown.
    """
    try:
        local = ZoneInfo(zone)
    except (KeyError, OSError, ValueError) as error:
        raise LookbackError(
            f"Unknown time zone {zone!r}. Use an IANA name, such as 'Europe/Berlin'."
        ) from error
    moment = datetime.fromtimestamp(now // _SECOND, UTC).astimezone(local)
    if _by_day(period):
        days = period // _DAY
        origin = _EPOCH if period % _WEEK else _FIRST_MONDAY
        current = moment.date() - timedelta(days=(moment.date() - origin).days % days)
        return [_midnight(current - k * timedelta(days=days), local) for k in range(-1, earlier + 1)]
    offset = moment.utcoffset()
    assert offset is not None
    ahead = int(offset.total_seconds()) * _SECOND
    start = (now + ahead) // period.value * period.value - ahead
    return [start - k * period.value for k in range(-1, earlier + 1)]


def step_of(period: pd.Timedelta, starts: Sequence[int]) -> int:
    """Width of a bin in ns: the largest of ROUND_STEPS that divides `period` into at least FEWEST bins. If
    possible with at most MOST bins, it is one that divides all `starts`, so that no bin spans two periods."""
    fine = [step for step in ROUND_STEPS if step * FEWEST <= period.value] or [ROUND_STEPS[0]]
    fitting = [
        step for step in fine if step * MOST >= period.value and not any(start % step for start in starts)
    ]
    return max(fitting or fine)


def period_names(period: pd.Timedelta, earlier: int) -> list[str]:
    """Names of the current period and the earlier ones: "current hour", "1 hour before"."""
    current = _words(period).removeprefix("1 ")
    return [f"current {current}", *(f"{_words(k * period)} before" for k in range(1, earlier + 1))]


def compare_means(
    snapshot: Snapshot, field: str, by: str | None, starts: Sequence[int], now: int
) -> pd.DataFrame:
    """Compare the mean of the numeric column `field` in the current period until `now` (ns since the epoch,
    UTC) with that in the same part of the previous period.

    `starts` are those of period_starts(). Index: the values of the text column `by`, sorted (without `by`:
    `field`). Columns, all float64: `current` and `before` (NaN if there was no value), and `change` in
    percent of `before`. Raises ColumnError, which names the existing columns.
    """
    if not len(snapshot):  # its columns are unknown
        return pd.DataFrame(
            {"current": [], "before": [], "change": []}, index=pd.Index([], name=by, dtype="str")
        )
    codes, labels = snapshot.codes(by) if by else (None, [field])
    values = snapshot.numbers(field)
    means = []
    for start, end in ((starts[1], starts[0]), (starts[2], starts[1])):
        rows = _between(snapshot, start, min(end, start + now - starts[1]))
        part = values[rows]
        which = np.zeros(len(part), dtype=np.int64) if codes is None else codes[rows]
        good = (which >= 0) & ~np.isnan(part)
        count = np.bincount(which[good], minlength=len(labels))
        total = np.bincount(which[good], part[good], minlength=len(labels))
        means.append(np.where(count > 0, total / np.maximum(count, 1), np.nan)[: len(labels)])
    current, before = means
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.where(before != 0, (current - before) / np.abs(before) * 100, np.nan)
    index = pd.Index(labels[: len(current)], name=by, dtype="str")
    table = pd.DataFrame({"current": current, "before": before, "change": change}, index=index)
    return table[~(np.isnan(current) & np.isnan(before))].sort_index()


class Means:
    """A cache of compare_means() tables on one feed, shared by all viewers. Thread-safe."""

    def __init__(self) -> None:
        self.tables = Memo()

    def table(
        self, snapshot: Snapshot, field: str, by: str | None, starts: Sequence[int], now: int
    ) -> pd.DataFrame:
        """compare_means() until the last full second before `now`. The table is shared: copy it before
        changing it."""
        second = now // _SECOND * _SECOND
        key, version = (field, by, *starts[:3]), (snapshot.version, second)
        return self.tables.once(key, version, lambda: compare_means(snapshot, field, by, starts, second))


def _between(snapshot: Snapshot, start: int, end: int) -> "slice | npt.NDArray[np.bool_]":
    if snapshot.ordered:
        first, last = np.searchsorted(snapshot.time, (start, end))
        return slice(int(first), int(last))
    return (snapshot.time >= start) & (snapshot.time < end)


def _by_day(period: pd.Timedelta) -> bool:
    return not period % _DAY


def _midnight(day: date, zone: ZoneInfo) -> int:
    # If the clocks change at midnight, this is the first moment of the day: fold=0 means the first of two
    # midnights, and if there is none, the UTC offset before the change.
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * _SECOND


def _words(length: pd.Timedelta) -> str:
    if length % _WEEK:
        return format_duration(length)
    return f"{length // _WEEK} week" + ("" if length == _WEEK else "s")
