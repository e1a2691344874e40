"""Finds when the value of a series changed: from one row to the next it is another number or text.

All viewers of a feed share one set of changes. An update processes only the rows that are new since the last
refresh, or, after late rows, those that the window still holds.
"""

import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..table.snapshot import Snapshot
from ..table.values import Ints
from .bins import AHEAD
from .conditions import Condition
from .crossings import MOST_CROSSINGS, Crossing, Found

_CHANGE = np.dtype([("code", "i8"), ("time", "i8"), ("value", "f8")])
_NEVER = np.iinfo(np.int64).min


class ValueChanges:
    """When the value of the number or text column `field` changed, per value of the text column `color`, for
    one look-back on one feed. Thread-safe.

    The first value of a series is no change. Rows without a value are skipped. A change ends when it begins;
    `value` and `peak` of its Crossing are the new number, and `text` the new text.
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
        self._texts: list[str] | None = None
        self._time = np.zeros(0, dtype=np.int64)  # of each code, the time and value of its newest row
        self._value = np.zeros(0)
        self._changes = np.zeros(0, dtype=_CHANGE)
        self._dropped = 0
        self._end: int | None = None
        self._too_early: int | None = None

    def update(self, snapshot: Snapshot, now: int) -> None:
        """Process the new rows, and drop changes from before the look-back, which ends at `now` (ns since the
        epoch, UTC). Raises ColumnError if a column does not exist or is neither number nor text."""
        with self._lock:
            self._now = max(self._now, now)
            edge = self._now - self._look_back
            of_age = self._too_early is not None and self._too_early <= self._now + self._ahead
            if snapshot.version < self._version or (snapshot.version == self._version and not of_age):
                return
            if snapshot.generation != self._generation or of_age:
                self._start_over()
            if len(snapshot):
                self._take(snapshot)
            self._changes = self._changes[self._changes["time"] >= edge]
            self._generation, self._version = snapshot.generation, snapshot.version

    def found(self) -> Found:
        """The changes at the last update."""
        with self._lock:
            edge = self._now - self._look_back
            kept = self._changes[self._changes["time"] >= edge]
            kept = kept[np.argsort(-kept["time"], kind="stable")]
            texts = self._texts
            some = tuple(
                Crossing(
                    self._labels[code], time, value, time, value, True, texts[int(value)] if texts else ""
                )
                for code, time, value in kept.tolist()
            )
            series = int((self._time > _NEVER).sum())
            return Found(some, len(some) + self._dropped, 0, series)

    # -- below, the lock is held -------------------------------------------------------------------------

    def _take(self, snapshot: Snapshot) -> None:
        start = snapshot.first if self._end is None else max(self._end, snapshot.first)
        codes, times, values = self._rows(snapshot, start)
        self._end = snapshot.end
        if (times < self._time[codes]).any():
            codes, times, values = self._rows(snapshot, snapshot.first)
            order = np.lexsort((times, codes))
            first = np.full(len(self._time), np.iinfo(np.int64).max)
            np.minimum.at(first, codes, times)
            # What changed before the first row that is still held cannot be worked out again.
            self._changes = kept = self._changes[self._changes["time"] < first[self._changes["code"]]]
            self._time[:] = _NEVER
            self._time[kept["code"]], self._value[kept["code"]] = kept["time"], kept["value"]
        order = np.lexsort((times, codes))
        self._compare(codes[order], times[order], values[order])

    def _compare(self, codes: Ints, times: Ints, values: npt.NDArray[np.float64]) -> None:
        if not len(codes):
            return
        first = np.append(True, codes[1:] != codes[:-1])
        before = np.append(np.nan, values[:-1])
        before[first] = np.where(self._time[codes[first]] > _NEVER, self._value[codes[first]], values[first])
        changed = np.flatnonzero(values != before)
        new = np.zeros(len(changed), dtype=_CHANGE)
        new["code"], new["time"], new["value"] = codes[changed], times[changed], values[changed]
        changes = np.concatenate([self._changes, new])
        changes = changes[np.argsort(changes["time"], kind="stable")]
        surplus = max(0, len(changes) - MOST_CROSSINGS)
        self._dropped += surplus
        self._changes = changes[surplus:]
        last = np.append(np.flatnonzero(first)[1:] - 1, len(codes) - 1)
        self._time[codes[last]], self._value[codes[last]] = times[last], values[last]

    def _rows(self, snapshot: Snapshot, start: int) -> tuple[Ints, Ints, Any]:
        times = snapshot.times(start)
        if snapshot.kind_of(self.field) == "text":
            found, self._texts = snapshot.codes(self.field, start)
            held, values = found >= 0, found.astype(np.float64)
        else:
            values = snapshot.numbers(self.field, start)
            held, self._texts = ~np.isnan(values), None
        codes = np.zeros(len(times), dtype=np.int64)
        if self.color:
            texts, self._labels = snapshot.codes(self.color, start)
            codes = texts.astype(np.int64)
        if (more := len(self._labels) - len(self._time)) > 0:
            self._time = np.append(self._time, np.full(more, _NEVER))
            self._value = np.append(self._value, np.full(more, np.nan))
        early = held & (times > self._now + self._ahead)
        if early.any():
            first = int(times[early].min())
            self._too_early = first if self._too_early is None else min(first, self._too_early)
        good = held & ~early & (codes >= 0)
        return codes[good], times[good], values[good]
