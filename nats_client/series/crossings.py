"""Finds when a condition began to hold for the values of a series, when it ended, and the peak in between.

All viewers of a feed share one set of crossings per condition. An update processes only the rows that are new
since the last refresh.
"""

import threading
from collections import Counter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..table.snapshot import Oldest, Snapshot
from ..table.values import Floats, Ints
from .bins import AHEAD, step_for
from .conditions import Condition

MOST_CROSSINGS = 1000
"""Maximum number of finished crossings kept; earlier ones are only counted."""

_NEVER, _STILL = np.iinfo(np.int64).min, np.iinfo(np.int64).max
_UNKNOWN, _BELOW, _ABOVE = -1, 0, 1

_SERIES = np.dtype([("side", "i1"), ("first", "i8"), ("newest", "i8")])
_STAY = np.dtype(
    [
        ("code", "i8"),
        ("start", "i8"),
        ("value", "f8"),
        ("end", "i8"),
        ("peak", "f8"),
        ("worst", "f8"),
        ("peaked", "i8"),
        ("seen", "?"),
    ]
)

_Structured = npt.NDArray[np.void]


class Crossing(NamedTuple):
    """One time that the condition held for a series. Times are ns since the epoch, UTC."""

    series: str
    start: int
    """Time of the first row for which it held."""
    value: float
    """Value of that row."""
    end: int | None
    """Time of the next row for which it did not hold; None while there is none."""
    peak: float
    """The value furthest beyond the limit."""
    seen: bool
    """True if its beginning was observed. False if the condition held for the series' first row already, so
    that the crossing may have begun before `start`."""
    text: str = ""
    """The value, if it is a text."""


class Found(NamedTuple):
    """The crossings of one condition at one version. Only those that lasted long enough count."""

    crossings: tuple[Crossing, ...]
    """Newest first: all ongoing ones, and the last MOST_CROSSINGS finished ones."""
    total: int
    """Number of crossings in the look-back, including those no longer kept."""
    above: int
    """Series for which it holds now."""
    series: int
    """Series with a value in the look-back."""


class Crossings:
    """When `condition`, of the kinds above, below, outside and inside, held for the numbers in the column
    `field`, per value of the text column `color`, for one look-back on one feed. Thread-safe.

    Rows are processed in order of `_time`. After a late row, its series is evaluated again from that time on,
    from the rows that the window still holds. A crossing that ended before the look-back began is dropped. An
    ongoing one keeps its start and its peak, even if those rows are gone. A series without a value in the
    whole look-back starts over.
    """

    def __init__(self, field: str, color: str | None, look_back: pd.Timedelta, condition: Condition) -> None:
        self.field = field
        self.color = color
        self.condition = condition
        self._look_back = look_back.value
        self._ahead = int(look_back.value * AHEAD)
        self._step = step_for(look_back)
        self._lock = threading.Lock()
        self._now = 0  # the latest `now` of all updates, ns since the epoch, UTC
        self._generation: int | None = None
        self._snapshot_version = -1
        self._oldest = Oldest()
        self._start_over()

    def _start_over(self) -> None:
        self._labels: list[str] = [""]
        self._series: _Structured = np.zeros(0, _SERIES)  # by code
        self._open: _Structured = np.zeros(0, _STAY)  # ongoing, by code; valid if the side is _ABOVE
        self._over: _Structured = np.zeros(0, _STAY)  # finished crossings, sorted by end
        self._further: Counter[int] = Counter()  # number of finished crossings not kept, by bin of their end
        self._settled = _NEVER  # up to this time, late rows change nothing: crossings may have been dropped
        self._too_early: int | None = None  # the first time of a row too far in the future
        self._end: int | None = None  # one past the ordinal of the last processed row
        self._found: Found | None = None

    def update(self, snapshot: Snapshot, now: int) -> None:
        """Process the new rows, and drop crossings that ended before the look-back, which ends at `now` (ns
        since the epoch, UTC). Almost free if another viewer has passed the same snapshot. Raises ColumnError
        if a column does not exist or is of another kind."""
        with self._lock:
            self._now = max(self._now, now)
            if snapshot.version < self._snapshot_version:
                return  # another thread has passed a newer snapshot already
            edge = self._now - self._look_back
            of_age = self._too_early is not None and self._too_early <= self._now + self._ahead
            if self.condition.lasting and (self._series["side"] == _ABOVE).any():
                self._found = None  # one that continues may have lasted long enough since
            if snapshot.version == self._snapshot_version and not of_age:
                self._forget(edge)
                return
            if snapshot.generation != self._generation or of_age:
                self._start_over()
            self._forget(max(edge, self._oldest.of(snapshot) if len(snapshot) else _STILL))
            self._settled = max(self._settled, edge - 1)
            self._take(snapshot, edge)
            self._generation, self._snapshot_version = snapshot.generation, snapshot.version

    def found(self) -> Found:
        """The crossings at the last update; the same object until something changes."""
        with self._lock:
            if self._found is None:
                self._found = self._summed_up()
            return self._found

    # -- below, the lock is held -------------------------------------------------------------------------

    def _summed_up(self) -> Found:
        above = self._series["side"] == _ABOVE
        over = self._over
        if lasting := self.condition.lasting:
            above &= self._now - self._open["start"] >= lasting
            over = over[over["end"] - over["start"] >= lasting]
        stays = np.concatenate([self._open[above], over])
        newest_first = stays[np.argsort(-stays["start"], kind="stable")]
        crossings = tuple(
            Crossing(self._labels[code], start, value, None if end == _STILL else end, peak, seen)
            for code, start, value, end, peak, _, _, seen in newest_first.tolist()
        )
        series = int((self._series["side"] != _UNKNOWN).sum())
        return Found(crossings, len(crossings) + self._further.total(), int(above.sum()), series)

    def _forget(self, oldest: int) -> None:
        """Drop crossings that ended before the time `oldest`, and reset series without a row since then."""
        silent = (self._series["side"] != _UNKNOWN) & (self._series["newest"] < oldest)
        self._series[silent] = (_UNKNOWN, _STILL, _NEVER)
        gone = int(np.searchsorted(self._over["end"], oldest))
        self._over = self._over[gone:]
        bins = [number for number in self._further if number < oldest // self._step]
        for number in bins:
            del self._further[number]
        if gone or bins or silent.any():
            self._found = None

    def _take(self, snapshot: Snapshot, edge: int) -> None:
        start = snapshot.first if self._end is None else max(self._end, snapshot.first)
        codes, times, values = self._rows(snapshot, start, edge)
        self._end = snapshot.end
        self._found = None
        late = times < self._series["newest"][codes]
        if late.any():
            again = late & (times > self._settled)
            since = self._rewound(codes[again], times[again])
            new = ~late & (since[codes] == _STILL)
            held = self._rows(snapshot, None, int(since.min()))
            repeated = held[1] >= since[held[0]]
            codes, times, values = (
                np.concatenate([a[new], b[repeated]])
                for a, b in zip((codes, times, values), held, strict=True)
            )
        if len(codes):
            small = codes.astype(np.min_scalar_type(len(self._series)))  # which numpy sorts faster
            in_order = np.lexsort((times, small))
            self._judge(codes[in_order], times[in_order], values[in_order])

    def _rows(self, snapshot: Snapshot, start: int | None, since: int) -> tuple[Ints, Ints, Floats]:
        """Codes, times and values of the rows with an ordinal of at least `start` and a time of at least
        `since`, without rows that lack a value or are too far in the future."""
        if not len(snapshot):
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
        times, values = snapshot.times(start), snapshot.numbers(self.field, start)
        texts = None
        if self.color:
            texts, self._labels = snapshot.codes(self.color, start)
        self._reach(len(self._labels))
        rows = np.flatnonzero((times >= since) & ~np.isnan(values))
        times, values = times[rows], values[rows]
        codes = np.zeros(len(rows), np.int64) if texts is None else texts[rows].astype(np.int64)
        early = times > self._now + self._ahead
        if early.any():
            first = int(times[early].min())
            self._too_early = first if self._too_early is None else min(first, self._too_early)
        good = (codes >= 0) & ~early
        return codes[good], times[good], values[good]

    def _reach(self, size: int) -> None:
        if (more := size - len(self._series)) > 0:
            new = np.array([(_UNKNOWN, _STILL, _NEVER)], _SERIES)
            self._series = np.concatenate([self._series, np.repeat(new, more)])
            self._open = np.concatenate([self._open, np.zeros(more, _STAY)])

    def _rewound(self, codes: Ints, times: Ints) -> Ints:
        """Restore the state of series before late rows with these codes and times. Returns, by code, the time
        from which rows have to be evaluated again; _STILL if none."""
        since = np.full(len(self._series), _STILL)
        first = np.full(len(self._series), _STILL)
        np.minimum.at(first, codes, times)
        undone = np.zeros(len(self._over), dtype=bool)
        for code in np.unique(codes).tolist():
            cut, stay = int(first[code]), None
            mine = np.flatnonzero(self._over["code"] == code)[::-1]
            if self._series["side"][code] == _ABOVE:
                stay = self._open[code].copy()
                cut = min(cut, int(stay["start"]))
            for i in mine.tolist():
                if self._over["end"][i] < cut:
                    break
                undone[i], stay = True, self._over[i].copy()
                cut = min(cut, int(stay["start"]))
            if stay is not None and cut <= self._settled:
                # Rows up to _settled may be gone, so the crossing keeps its start.
                if stay["peaked"] > self._settled:
                    stay["peak"], stay["peaked"] = stay["value"], stay["start"]
                    stay["worst"] = self.condition.severity(stay["value"])
                stay["end"] = _STILL
                self._open[code], self._series["side"][code] = stay, _ABOVE
                since[code] = self._settled + 1
            else:
                self._series["side"][code] = _BELOW if self._series["first"][code] < cut else _UNKNOWN
                since[code] = cut
        self._over = self._over[~undone]
        return since

    def _judge(self, codes: Ints, times: Ints, values: Floats) -> None:
        """Evaluate rows, which are sorted by code, then time. "Above" is where the condition holds."""
        above, severity = self.condition.holds(values), self.condition.severity(values)
        first = np.append(True, codes[1:] != codes[:-1])
        before = np.append(np.int8(_UNKNOWN), above[:-1].astype(np.int8))
        before[first] = self._series["side"][codes[first]]
        turned = above != before
        # A stretch is consecutive rows of one series on the same side.
        begin = np.flatnonzero(first | turned)
        stretch = np.repeat(np.arange(len(begin)), np.diff(np.append(begin, len(codes))))
        last = np.append(first[begin[1:]], True)
        over = begin[(first & turned & (before == _ABOVE))[begin]]
        ended = self._open[codes[over]]
        ended["end"] = times[over]

        up = above[begin]
        rows = begin[up]
        stays = np.zeros(len(rows), _STAY)
        stays["code"], stays["start"], stays["value"] = codes[rows], times[rows], values[rows]
        stays["seen"] = before[rows] == _BELOW
        stays["end"] = np.where(last, _STILL, np.append(times[begin[1:]], 0))[up]
        worst = np.maximum.reduceat(severity, begin)
        highest = np.flatnonzero(severity == worst[stretch])
        _, which = np.unique(stretch[highest], return_index=True)
        peaks = highest[which][up]
        stays["worst"], stays["peak"], stays["peaked"] = worst[up], values[peaks], times[peaks]
        self._continue(stays, ~turned[rows])

        going = stays[last[up]]
        self._open[going["code"]] = going
        ends = np.append(np.flatnonzero(first)[1:] - 1, len(codes) - 1)
        of = self._series[codes[ends]]
        of["side"] = up[last]
        of["newest"] = times[ends]
        of["first"] = np.minimum(of["first"], times[first])
        self._series[codes[ends]] = of
        self._keep(np.concatenate([self._over, ended, stays[~last[up]]]))

    def _continue(self, stays: _Structured, goes_on: npt.NDArray[np.bool_]) -> None:
        """Continue crossings that began in earlier updates: copy their start, and their peak if higher."""
        going, begun = stays[goes_on], self._open[stays["code"][goes_on]]
        for name in ("start", "value", "seen"):
            going[name] = begun[name]
        higher = begun["worst"] >= going["worst"]
        for name in ("peak", "worst", "peaked"):
            going[name][higher] = begun[name][higher]
        stays[goes_on] = going

    def _keep(self, over: _Structured) -> None:
        over = over[np.argsort(over["end"], kind="stable")]
        if (surplus := len(over) - MOST_CROSSINGS) > 0:
            # Crossings that were too short are dropped first, so that they do not displace those that count.
            short = np.flatnonzero(over["end"] - over["start"] < self.condition.lasting)[:surplus]
            counted = np.flatnonzero(over["end"] - over["start"] >= self.condition.lasting)
            counted = counted[: surplus - len(short)]
            gone = np.concatenate([short, counted])
            self._settled = max(self._settled, int(over["end"][gone].max()))
            self._further.update((over["end"][counted] // self._step).tolist())
            over = np.delete(over, gone)
        self._over = over
