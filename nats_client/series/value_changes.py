"""Finds when the value of a series changed: from one row to the next it is another number or text.

All viewers of a feed share one set of changes. An update processes only the rows that are new since the last
refresh, or, after late rows, those that the window still holds.
"""

import numpy as np

from ..table.snapshot import Snapshot
from ..table.values import Floats, Ints
from .crossings import Crossing, Found
from .noticed import Noticing, Structured

_CHANGE = np.dtype([("code", "i8"), ("time", "i8"), ("value", "f8")])
_NEVER = np.iinfo(np.int64).min


class ValueChanges(Noticing):
    """When the value of the number or text column `field` changed, per value of the text column `color`, for
    one look-back on one feed.

    The first value of a series is no change. Rows without a value are skipped. A change ends when it begins;
    `value` and `peak` of its Crossing are the new number, and `text` the new text.
    """

    ended_at = "time"

    def found(self) -> Found:
        """The changes at the last update."""
        with self._lock:
            self._forget()
            kept = self._past[np.argsort(-self._past["time"], kind="stable")]
            texts = self._texts
            some = tuple(
                Crossing(
                    self._labels[code], time, value, time, value, True, texts[int(value)] if texts else ""
                )
                for code, time, value in kept.tolist()
            )
            series = int((self._time > _NEVER).sum())
            return Found(some, len(some) + self._further.total(), 0, series)

    # -- below, the lock is held -------------------------------------------------------------------------

    def _nothing(self) -> Structured:
        self._texts: list[str] | None = None
        self._time = np.zeros(0, dtype=np.int64)  # of each code, the time and value of its newest row
        self._value = np.zeros(0)
        return np.zeros(0, dtype=_CHANGE)

    def _take(self, snapshot: Snapshot, start: int) -> None:
        codes, times, values = self._rows(snapshot, start)
        if (times < self._time[codes]).any():
            codes, times, values = self._rows(snapshot, snapshot.first)
            first = np.full(len(self._time), np.iinfo(np.int64).max)
            np.minimum.at(first, codes, times)
            # What changed before the first row that is still held cannot be worked out again.
            self._past = kept = self._past[self._past["time"] < first[self._past["code"]]]
            self._time[:] = _NEVER
            self._time[kept["code"]], self._value[kept["code"]] = kept["time"], kept["value"]
        order = np.lexsort((times, codes))
        self._compare(codes[order], times[order], values[order])

    def _compare(self, codes: Ints, times: Ints, values: Floats) -> None:
        if not len(codes):
            return
        first = np.append(True, codes[1:] != codes[:-1])
        before = np.append(np.nan, values[:-1])
        before[first] = np.where(self._time[codes[first]] > _NEVER, self._value[codes[first]], values[first])
        changed = np.flatnonzero(values != before)
        new = np.zeros(len(changed), dtype=_CHANGE)
        new["code"], new["time"], new["value"] = codes[changed], times[changed], values[changed]
        self._keep(np.concatenate([self._past, new]))
        last = np.append(np.flatnonzero(first)[1:] - 1, len(codes) - 1)
        self._time[codes[last]], self._value[codes[last]] = times[last], values[last]

    def _rows(self, snapshot: Snapshot, start: int) -> tuple[Ints, Ints, Floats]:
        times = snapshot.times(start)
        if snapshot.kind_of(self.field) == "text":
            found, self._texts = snapshot.codes(self.field, start)
            held, values = found >= 0, found.astype(np.float64)
        else:
            values = snapshot.numbers(self.field, start)
            held, self._texts = ~np.isnan(values), None
        codes, good = self._codes(snapshot, start, times, held)
        if (more := len(self._labels) - len(self._time)) > 0:
            self._time = np.append(self._time, np.full(more, _NEVER))
            self._value = np.append(self._value, np.full(more, np.nan))
        return codes[good], times[good], values[good]
