"""Counts rows per interval and code. Codes stand for values of a text column, or ranges of a number column.

Intervals are whole multiples of a length since the epoch. An update processes only the rows that are new
since the last update, and those that have left the window.
"""

from abc import ABC, abstractmethod

import numpy as np

from ..table.snapshot import Snapshot
from ..table.values import Ints, Truths
from .bins import AHEAD

_DENSE = 1 << 16  # maximum pairs of interval and code for which a dense array is cheaper than sorting
_EACH = 300  # estimated bytes of an interval besides its arrays
_NONE = np.zeros(0, dtype=np.int64)


class IntervalCounts(ABC):
    """The number of rows of the last snapshot per code and interval of `step` ns, by the rows' `_time`. Only
    pairs of interval and code with rows use memory. Not thread-safe, except release()."""

    def __init__(self, step: int) -> None:
        self.step = step
        self._last: Snapshot | None = None
        self._start_over(0, -1)

    def _start_over(self, first: int, last: int) -> None:
        self._cells: dict[int, tuple[Ints, Ints]] = {}  # by interval: codes, ascending, and their counts
        self._first, self._now = first, last
        # Later intervals are not counted, so that wrong clocks do not fill the memory.
        self._limit = last + int((last - first + 1) * AHEAD)
        self._too_early: int | None = None  # the first interval beyond the limit that has a row

    @abstractmethod
    def _codes(self, rows: Snapshot) -> tuple[Ints, Truths]:
        """The code of each row, and which rows count."""

    def _noted(self, codes: Ints, counts: Ints) -> None:  # noqa: B027 - optional to override
        """Called with the change in the number of rows of each of `codes`, in the intervals up to now."""

    def update(self, snapshot: Snapshot, first: int, last: int) -> set[int]:
        """Count the rows of `snapshot` in the intervals from `first` to `last`.

        Both are numbers of intervals since the epoch, and usually increase. If `first` decreases, all rows
        are counted again. Returns the intervals whose counts may have changed. Raises ColumnError if a column
        does not exist or is of another kind.
        """
        before, due = self._last, self._too_early is not None and self._too_early <= last
        self._last = None  # after an error the next update starts over
        changed: set[int] = set()
        if before is None or due or first < self._first or not _goes_on(before, snapshot):
            changed.update(self._cells)
            self._start_over(first, last)
            self._count(snapshot, 1, changed)
        else:
            self._move(first, last)
            self._count(before.between(before.first, snapshot.first), -1, changed)
            self._count(snapshot.between(before.end, snapshot.end), 1, changed)
        self._last = snapshot
        return changed

    def column(self, interval: int) -> tuple[Ints, Ints]:
        """The codes that have rows in an interval, ascending, and the number of rows of each."""
        return self._cells.get(interval, (_NONE, _NONE))

    @property
    def nbytes(self) -> int:
        """Estimated bytes of all counts. Any thread may read this."""
        return sum(_EACH + codes.nbytes + counts.nbytes for codes, counts in list(self._cells.values()))

    def release(self) -> None:
        """Release the rows; the next update counts all again. Any thread may call this."""
        self._last = None

    def _move(self, first: int, last: int) -> None:
        for interval in [interval for interval in self._cells if interval < first]:
            codes, counts = self._cells.pop(interval)
            if interval <= self._now:
                self._noted(codes, -counts)
        for interval, (codes, counts) in self._cells.items():
            if self._now < interval <= last:
                self._noted(codes, counts)
        self._first, self._now, self._limit = first, last, max(self._limit, last)

    def _count(self, rows: Snapshot, sign: int, changed: set[int]) -> None:
        if not len(rows):
            return
        intervals = rows.time // self.step
        codes, held = self._codes(rows)
        early = held & (intervals > self._limit)
        if early.any():
            first = int(intervals[early].min())
            self._too_early = first if self._too_early is None else min(first, self._too_early)
        held &= ~early & (intervals >= self._first)
        for interval, found, counts in _grouped(intervals[held], codes[held]):
            known, known_counts = self.column(interval)
            both, place = np.unique(np.concatenate([known, found]), return_inverse=True)
            total = np.zeros(len(both), dtype=np.int64)
            total[place[: len(known)]] = known_counts
            total[place[len(known) :]] += sign * counts
            left = total > 0
            self._cells[interval] = both[left], total[left]
            changed.add(interval)
            if interval <= self._now:
                self._noted(found, sign * counts)


def _goes_on(before: Snapshot, now: Snapshot) -> bool:
    """True if the ordinals of both mean the same rows."""
    return before.generation == now.generation and before.first <= now.first and before.end <= now.end


def _grouped(intervals: Ints, codes: Ints) -> list[tuple[int, Ints, Ints]]:
    """For each interval of the rows: the interval, its codes ascending, and the number of rows per code."""
    if not len(intervals):
        return []
    start, least = int(intervals.min()), int(codes.min())
    width = int(codes.max()) - least + 1
    size = (int(intervals.max()) - start + 1) * width
    if size <= max(_DENSE, len(codes)):
        dense = np.bincount((intervals - start) * width + (codes - least), minlength=size)
        keys = np.flatnonzero(dense)
        counts, of, found = dense[keys], keys // width + start, keys % width + least
    else:
        order = np.lexsort((codes, intervals))
        of, found = intervals[order], codes[order]
        begins = np.flatnonzero(np.append(True, (of[1:] != of[:-1]) | (found[1:] != found[:-1])))
        counts = np.diff(np.append(begins, len(of)))
        of, found = of[begins], found[begins]
    edges = np.flatnonzero(np.append(True, of[1:] != of[:-1]))
    ends = np.append(edges[1:], len(of))
    return [(int(of[a]), found[a:b], counts[a:b]) for a, b in zip(edges.tolist(), ends.tolist(), strict=True)]


class TextCounts(IntervalCounts):
    """Counts by the text column `by`. A code is that of the label plus one. Code 0 is for rows without a
    value, or for all rows if `by` is None."""

    def __init__(self, step: int, by: str | None) -> None:
        self.by = by
        self.labels: list[str] = []
        """The label of code n + 1 is at index n."""
        super().__init__(step)

    def _start_over(self, first: int, last: int) -> None:
        super()._start_over(first, last)
        self._total = np.zeros(1, dtype=np.int64)  # by code, of the intervals up to now

    def busiest(self, most: int) -> list[tuple[int, int]]:
        """The `most` codes with the most rows, each with its number of rows, in descending order."""
        held = np.flatnonzero(self._total)
        counts = self._total[held]
        if len(held) > most:
            enough = counts >= np.partition(counts, len(counts) - most)[len(counts) - most]
            held, counts = held[enough], counts[enough]
        order = np.lexsort((held, -counts))[:most]
        return list(zip(held[order].tolist(), counts[order].tolist(), strict=True))

    def size(self) -> tuple[int, int]:
        """The number of codes that have rows, and the number of rows."""
        return int(np.count_nonzero(self._total)), int(self._total.sum())

    def _noted(self, codes: Ints, counts: Ints) -> None:
        if (more := int(codes.max(initial=-1)) + 1 - len(self._total)) > 0:
            self._total = np.append(self._total, np.zeros(max(more, len(self._total)), dtype=np.int64))
        self._total[codes] += counts  # each code is there once

    def _codes(self, rows: Snapshot) -> tuple[Ints, Truths]:
        if self.by is None:
            return np.zeros(len(rows), dtype=np.int64), np.ones(len(rows), dtype=np.bool_)
        codes, self.labels = rows.codes(self.by)
        return codes.astype(np.int64) + 1, np.ones(len(rows), dtype=np.bool_)
