"""The newest value of each series, updated incrementally from new rows."""

import threading

import numpy as np
import pandas as pd

from ..table.snapshot import Snapshot
from ..table.values import NO_ROW, Ints


class Latest:
    """Snapshot.latest() of one column by another, shared by all viewers of one look-back. The cost depends on
    the number of new rows and series, not on the size of the window. Thread-safe."""

    def __init__(self, name: str, by: str) -> None:
        self.name = name
        self.by = by
        self._lock = threading.Lock()
        self._start_over(None)

    def _start_over(self, generation: int | None) -> None:
        self._generation = generation
        self._end: int | None = None  # one past the ordinal of the last processed row
        # By code: ordinal and time of the newest row by time, and ordinal of the last row with a value.
        self._newest = np.zeros(0, dtype=np.int64)
        self._time = np.zeros(0, dtype=np.int64)
        self._last = np.zeros(0, dtype=np.int64)

    def of(self, snapshot: Snapshot) -> pd.Series:
        """The newest value by `_time` per series, sorted by series. Raises ColumnError, which names the
        existing columns."""
        with self._lock:
            if snapshot.generation != self._generation:
                self._start_over(snapshot.generation)
            if self._end is not None and snapshot.end < self._end:
                return snapshot.latest(self.name, self.by)  # another thread has passed a newer one
            self._take(snapshot)
            if ((self._newest < snapshot.first) & (self._last >= snapshot.first)).any():
                # The newest row of a series was dropped, and a late row with an older time is still there.
                self._start_over(snapshot.generation)
                self._take(snapshot)
            return snapshot.picked(self.name, self.by, self._newest)

    def _take(self, snapshot: Snapshot) -> None:
        start = snapshot.first if self._end is None else max(self._end, snapshot.first)
        codes, labels = snapshot.codes(self.by, start)
        rows = np.flatnonzero((codes >= 0) & snapshot.present(self.name, start))
        self._reach(len(labels))
        self._end = snapshot.end
        codes, ordinals, times = codes[rows], rows + start, snapshot.times(start)[rows]
        self._last[codes] = ordinals
        if not snapshot.ordered:
            order = np.argsort(times, kind="stable")
            codes, ordinals, times = codes[order], ordinals[order], times[order]
            newer = times >= self._time[codes]
            codes, ordinals, times = codes[newer], ordinals[newer], times[newer]
        self._newest[codes], self._time[codes] = ordinals, times

    def _reach(self, size: int) -> None:
        if (more := size - len(self._newest)) > 0:
            self._newest = _longer(self._newest, more, NO_ROW)
            self._last = _longer(self._last, more, NO_ROW)
            self._time = _longer(self._time, more, np.iinfo(np.int64).min)


def _longer(values: Ints, more: int, value: int) -> Ints:
    return np.append(values, np.full(more, value, dtype=np.int64))
