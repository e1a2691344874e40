"""The newest, the greatest and the mean value of each series of a chart."""

import threading
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from ..table.snapshot import Snapshot
from ..table.values import Codes, Floats, Ints
from .zoom_tiles import NEVER, TOO_LARGE


class Numbers(NamedTuple):
    """Statistics of one series in the look-back; NaN if it has no numbers. Nulls, NaN and infinite values do
    not count."""

    newest: float
    greatest: float
    mean: float


class Drawn(Protocol):
    """The part of Bins that is needed here."""

    fields: tuple[str, ...]
    step: int

    def rows(self) -> tuple[int, int | None, list[Ints]]:
        """See Bins."""

    def codes(self, snapshot: Snapshot, start: int | None = None) -> tuple[Codes, list[str]]:
        """See Bins."""


class SeriesValues:
    """Sums and counts per series and bin of `chart`, from which values follow for each look-back. An update
    processes only new rows. Thread-safe."""

    def __init__(self, chart: Drawn, capacity: int) -> None:
        """`capacity`: number of bins of a look-back, including those ahead of now."""
        self._chart = chart
        self._capacity = capacity
        self._lock = threading.Lock()
        self._of: object = None
        self._start_over(0)

    def _start_over(self, edge: int) -> None:
        self._end: int | None = None  # one past the ordinal of the last processed row
        self._edge = edge
        shape = (0, self._capacity)
        self._sum, self._count = np.zeros(shape), np.zeros(shape, dtype=np.int64)
        self._greatest = np.full(shape, -np.inf)
        self._newest, self._time = np.zeros(0), np.zeros(0, dtype=np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes of all sums and counts."""
        return 3 * self._sum.nbytes

    def of(self, snapshot: Snapshot, edge: int, oldest: int, *, replaced: bool) -> tuple[int, list[Numbers]]:
        """The epoch of the chart, and the numbers of its series in the order of its rows. `edge`: the first
        bin of the look-back, `oldest`: the first one that counts. `replaced`: each snapshot replaces the one
        before. Call chart.update() with the snapshot first. Raises ColumnError."""
        with self._lock:
            epoch, _, rows = self._chart.rows()
            of = epoch, snapshot.generation, snapshot.version if replaced else None
            if of != self._of:
                self._of = of
                self._start_over(edge)
            elif edge > self._edge:
                places = np.arange(self._edge, min(edge, self._edge + self._capacity)) % self._capacity
                self._sum[:, places] = self._count[:, places] = 0
                self._greatest[:, places] = -np.inf
                self._edge = edge
            self._take(snapshot, rows)
            places = np.arange(max(oldest, self._edge), self._edge + self._capacity) % self._capacity
            count = self._count[:, places].sum(axis=1)
            mean = self._sum[:, places].sum(axis=1) / np.where(count, count, np.nan)
            greatest = self._greatest[:, places].max(axis=1, initial=-np.inf)
            current = (self._time // self._chart.step >= oldest) & (count > 0)
            newest = np.where(current, self._newest, np.nan)
            greatest = np.where(count > 0, greatest, np.nan)
            numbers = zip(newest.tolist(), greatest.tolist(), mean.tolist(), strict=True)
            return epoch, [Numbers(*each) for each in numbers]

    def _take(self, snapshot: Snapshot, rows: Sequence[Ints]) -> None:
        start = snapshot.first if self._end is None else max(self._end, snapshot.first)
        self._end = max(snapshot.end, start)
        if start >= snapshot.end:
            return
        codes = self._chart.codes(snapshot, start)[0]
        times = snapshot.times(start)
        bins = times // self._chart.step
        held = (bins >= self._edge) & (bins < self._edge + self._capacity) & (codes >= 0)
        for name, row_of in zip(self._chart.fields, rows, strict=True):
            values = snapshot.numbers(name, start)
            good = np.flatnonzero(held & (codes < len(row_of)) & (np.abs(values) < TOO_LARGE))
            row = row_of[codes[good]]
            good, row = good[row >= 0], row[row >= 0]
            self._put(row, bins[good], times[good], values[good])

    def _put(self, row: Ints, bins: Ints, times: Ints, values: Floats) -> None:
        if (more := int(row.max(initial=-1)) + 1 - len(self._sum)) > 0:
            shape = (more, self._capacity)
            self._sum = np.vstack([self._sum, np.zeros(shape)])
            self._count = np.vstack([self._count, np.zeros(shape, dtype=np.int64)])
            self._greatest = np.vstack([self._greatest, np.full(shape, -np.inf)])
            self._newest = np.append(self._newest, np.zeros(more))
            self._time = np.append(self._time, np.full(more, NEVER))
        cells = row * self._capacity + bins % self._capacity
        np.add.at(self._sum.reshape(-1), cells, values)
        np.add.at(self._count.reshape(-1), cells, 1)
        np.maximum.at(self._greatest.reshape(-1), cells, values)
        order = np.argsort(times, kind="stable")
        order = order[times[order] >= self._time[row[order]]]
        self._newest[row[order]], self._time[row[order]] = values[order], times[order]
