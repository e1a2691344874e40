"""Finds when a series had no value for longer than a given time.

All viewers of a feed share one set of silences per condition. An update processes only the rows that are new
since the last refresh.
"""

import threading

import numpy as np
import pandas as pd

from ..table.snapshot import Snapshot
from ..table.values import Ints
from .bins import AHEAD
from .conditions import Condition
from .crossings import MOST_CROSSINGS, Crossing, Found

_SILENCE = np.dtype([("code", "i8"), ("last", "i8"), ("next", "i8")])
_NEVER, _LATER = np.iinfo(np.int64).min, np.iinfo(np.int64).max
_SECOND = 1e9


class Silences:
    """When no value of the column `field` came for longer than `condition.lasting`, per value of the text
    column `color`, for one look-back on one feed. Thread-safe.

    A silence begins that long after the last value and ends with the next one; a late row between the two
    splits or ends it. One that still goes on is kept, even if all rows of the series have left the look-back,
    until the window starts over. In its Crossing, `value` is the condition's length and `peak` the length so
    far, both in seconds.
    """

    def __init__(self, field: str, color: str | None, look_back: pd.Timedelta, condition: Condition) -> None:
        self.field = field
        self.color = color
        self.condition = condition
        self._look_back = look_back.value
        self._ahead = int(look_back.value * AHEAD)
        self._lock = threading.Lock()
        self._now = 0
        self._generation: int | None = None
        self._version = -1
        self._start_over()

    def _start_over(self) -> None:
        self._labels: list[str] = [""]
        self._first = np.zeros(0, dtype=np.int64)  # of each code, the time of its first row, or _LATER
        self._newest = np.zeros(0, dtype=np.int64)
        self._over = np.zeros(0, dtype=_SILENCE)  # finished ones
        self._dropped = 0
        self._end: int | None = None
        self._too_early: int | None = None

    def update(self, snapshot: Snapshot, now: int) -> None:
        """Process the new rows, and drop silences that ended before the look-back, which ends at `now` (ns
        since the epoch, UTC). Raises ColumnError if a column does not exist or is of another kind."""
        with self._lock:
            self._now = max(self._now, now)
            of_age = self._too_early is not None and self._too_early <= self._now + self._ahead
            if snapshot.version < self._version or (snapshot.version == self._version and not of_age):
                return
            if snapshot.generation != self._generation or of_age:
                self._start_over()
            if len(snapshot):
                self._take(snapshot)
            self._over = self._over[self._over["next"] >= self._now - self._look_back]
            self._generation, self._version = snapshot.generation, snapshot.version

    def found(self) -> Found:
        """The silences at the last update."""
        with self._lock:
            known = np.flatnonzero(self._first < _LATER)
            length, edge = self.condition.lasting, self._now - self._look_back
            silent = known[self._now - self._newest[known] > length]
            going = zip(silent.tolist(), self._newest[silent].tolist(), strict=True)
            stretches: list[tuple[int, int, int | None]] = [(code, last, None) for code, last in going]
            stretches += [(code, last, end) for code, last, end in self._over.tolist() if end >= edge]
            some = [
                Crossing(
                    self._labels[code],
                    last + length,
                    length / _SECOND,
                    end,
                    ((self._now if end is None else end) - last) / _SECOND,
                    True,
                )
                for code, last, end in stretches
            ]
            some.sort(key=lambda one: -one.start)
            return Found(tuple(some), len(some) + self._dropped, len(silent), len(known))

    # -- below, the lock is held -------------------------------------------------------------------------

    def _take(self, snapshot: Snapshot) -> None:
        start = snapshot.first if self._end is None else max(self._end, snapshot.first)
        times, held = snapshot.times(start), snapshot.present(self.field, start)
        codes = np.zeros(len(times), dtype=np.int64)
        if self.color:
            texts, self._labels = snapshot.codes(self.color, start)
            codes = texts.astype(np.int64)
        self._end = snapshot.end
        if (more := len(self._labels) - len(self._first)) > 0:
            self._first = np.append(self._first, np.full(more, _LATER))
            self._newest = np.append(self._newest, np.full(more, _NEVER))
        early = times > self._now + self._ahead
        if (early & held).any():
            first = int(times[early & held].min())
            self._too_early = first if self._too_early is None else min(first, self._too_early)
        good = held & ~early & (codes >= 0)
        codes, times = codes[good], times[good]
        order = np.lexsort((times, codes))
        codes, times = codes[order], times[order]
        late = times < self._newest[codes]
        for code in np.unique(codes[late]).tolist():
            self._between(code, times[late & (codes == code)])
        self._after(codes[~late], times[~late])

    def _after(self, codes: Ints, times: Ints) -> None:
        """Take rows, sorted by code, then time, that are no earlier than those so far."""
        if not len(codes):
            return
        first = np.append(True, codes[1:] != codes[:-1])
        before = np.append(0, times[:-1])
        before[first] = self._newest[codes[first]]
        known = before > _NEVER
        wide = np.flatnonzero(known & (times - np.where(known, before, times) > self.condition.lasting))
        self._add(codes[wide], before[wide], times[wide])
        self._first[codes[first]] = np.minimum(self._first[codes[first]], times[first])
        last = np.append(np.flatnonzero(first)[1:] - 1, len(codes) - 1)
        self._newest[codes[last]] = times[last]

    def _between(self, code: int, times: Ints) -> None:
        """Take late rows of one series, sorted by time."""
        if times[0] < self._first[code]:
            points = np.append(times[times < self._first[code]], self._first[code])
            wide = np.flatnonzero(np.diff(points) > self.condition.lasting)
            self._add(np.full(len(wide), code), points[wide], points[wide + 1])
            self._first[code] = times[0]
        mine = self._over["code"] == code
        split = []
        for place in np.flatnonzero(mine).tolist():
            last, end = int(self._over["last"][place]), int(self._over["next"][place])
            inside = times[(times > last) & (times < end)]
            if len(inside):
                split.append((place, np.concatenate([[last], inside, [end]])))
        self._over = np.delete(self._over, [place for place, _ in split])
        for _, points in split:
            wide = np.flatnonzero(np.diff(points) > self.condition.lasting)
            self._add(np.full(len(wide), code), points[wide], points[wide + 1])

    def _add(self, codes: Ints, last: Ints, following: Ints) -> None:
        new = np.zeros(len(codes), dtype=_SILENCE)
        new["code"], new["last"], new["next"] = codes, last, following
        over = np.concatenate([self._over, new])
        over = over[np.argsort(over["next"], kind="stable")]
        surplus = max(0, len(over) - MOST_CROSSINGS)
        self._dropped += surplus
        self._over = over[surplus:]
