"""Finds when a series had no value for longer than a given time.

All viewers of a feed share one set of silences per condition. An update processes only the rows that are new
since the last refresh.
"""

import numpy as np

from ..table.snapshot import Snapshot
from ..table.values import Ints
from .crossings import Crossing, Found
from .noticed import Noticing, Structured

_SILENCE = np.dtype([("code", "i8"), ("last", "i8"), ("next", "i8")])
_NEVER, _LATER = np.iinfo(np.int64).min, np.iinfo(np.int64).max
_SECOND = 1e9


class Silences(Noticing):
    """The times without a value in the column `field` for longer than `condition.lasting`, per value of the
    text column `color`, for one look-back on one feed.

    A silence begins that long after the last value and ends with the next one; a late row between the two
    splits or ends it. One that continues is kept, even if all rows of the series have left the look-back,
    until the window starts over. In its Crossing, `value` is the condition's length and `peak` the length so
    far, both in seconds.
    """

    ended_at = "next"

    def found(self) -> Found:
        """The silences at the last update."""
        with self._lock:
            self._forget()
            known = np.flatnonzero(self._first < _LATER)
            length = self.condition.lasting
            silent = known[self._now - self._newest[known] > length]
            going = zip(silent.tolist(), self._newest[silent].tolist(), strict=True)
            stretches: list[tuple[int, int, int | None]] = [(code, last, None) for code, last in going]
            stretches += [(code, last, end) for code, last, end in self._past.tolist()]
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
            return Found(tuple(some), len(some) + self._further.total(), len(silent), len(known))

    # -- below, the lock is held -------------------------------------------------------------------------

    def _nothing(self) -> Structured:
        self._first = np.zeros(0, dtype=np.int64)  # of each code, the time of its first row, or _LATER
        self._newest = np.zeros(0, dtype=np.int64)
        return np.zeros(0, dtype=_SILENCE)

    def _take(self, snapshot: Snapshot, start: int) -> None:
        times, held = snapshot.times(start), snapshot.present(self.field, start)
        codes, good = self._codes(snapshot, start, times, held)
        if (more := len(self._labels) - len(self._first)) > 0:
            self._first = np.append(self._first, np.full(more, _LATER))
            self._newest = np.append(self._newest, np.full(more, _NEVER))
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
        mine = self._past["code"] == code
        split = []
        for place in np.flatnonzero(mine).tolist():
            last, end = int(self._past["last"][place]), int(self._past["next"][place])
            inside = times[(times > last) & (times < end)]
            if len(inside):
                split.append((place, np.concatenate([[last], inside, [end]])))
        self._past = np.delete(self._past, [place for place, _ in split])
        for _, points in split:
            wide = np.flatnonzero(np.diff(points) > self.condition.lasting)
            self._add(np.full(len(wide), code), points[wide], points[wide + 1])

    def _add(self, codes: Ints, last: Ints, following: Ints) -> None:
        new = np.zeros(len(codes), dtype=_SILENCE)
        new["code"], new["last"], new["next"] = codes, last, following
        self._keep(np.concatenate([self._past, new]))
