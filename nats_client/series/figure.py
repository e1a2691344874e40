"""A metric of a feed: its value, its value some time ago, and its history; updated from new rows only."""

import threading
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from ..duration import format_duration
from ..errors import LookbackError
from ..table.snapshot import Snapshot
from ..table.values import EXACT, NO_ROW, Floats, Ints, Truths

How = Literal["newest", "least", "greatest", "mean", "sum"]
HOWS: tuple[How, ...] = ("newest", "least", "greatest", "mean", "sum")
POINTS = 120
"""Steps of the course within the look-back."""
_BLOCK = 4096
_NEVER = np.iinfo(np.int64).min


class _Some(NamedTuple):
    """A summary of some values."""

    number: int
    total: float
    least: float
    greatest: float
    newest: float
    time: int
    """Of the newest value."""
    row: int
    """The ordinal of its row."""


_NONE = _Some(0, 0.0, np.inf, -np.inf, np.nan, _NEVER, NO_ROW)


class Figure:
    """The number column `name` as one number. Without `over`, the newest value of each series (one per value
    of the text column `by`, or only the series `only`) combined by `how`. With `over`, all values that the
    server stored in the last `over` combined by `how`.

    Thread-safe. The cost of an update depends on its new rows, not on the size of the window.
    """

    def __init__(
        self,
        name: str,
        how: How,
        look_back: pd.Timedelta,
        *,
        by: str | None = None,
        only: str | None = None,
        over: pd.Timedelta | None = None,
        change: pd.Timedelta | None = None,
    ) -> None:
        """Raises LookbackError if `how` is none of HOWS, `only` is given without `by`, or `over` and
        `change` together are longer than the look-back."""
        if how not in HOWS:
            raise LookbackError(f"A metric shows the {', '.join(HOWS)}, so how={how!r} cannot be.")
        if only is not None and by is None:
            raise LookbackError(
                f"only={only!r} names one series, so it needs the column that splits the rows, such as "
                'by="_subject".'
            )
        needed = (over or pd.Timedelta(0)) + (change or pd.Timedelta(0))
        if needed > look_back:
            raise LookbackError(
                f"A look-back of {format_duration(look_back)} does not hold the {format_duration(needed)} "
                "that `over` and `change` need together. Choose a longer look-back, or shorter ones of these."
            )
        self.step = max(1, look_back.value // POINTS)
        """Length of a step of the course, ns."""
        self.value: float | int | None = None
        """The current value; None without rows. An exact integer if `how` is "newest" and the column has
        integers."""
        self.before: float | int | None = None
        """The value `change` ago, calculated from the rows that the server had stored by then and that are
        still in the window."""
        self.course: dict[int, float | None] = {}
        """The value at the end of each step within the look-back. Step n ends at n * step, ns since the
        epoch, UTC."""
        self._name, self._how, self._look_back = name, how, look_back.value
        self._by, self._only = by, only
        self._over = over.value if over is not None else None
        self._change = change.value if change is not None else None
        self._lock = threading.Lock()
        self._now = 0
        self._version = -1
        self._generation: int | None = None
        self._start_over()

    def update(self, snapshot: Snapshot, now: int) -> None:
        """Process the new rows, up to `now` on the server's clock (ns since the epoch, UTC). Raises
        ColumnError if a column does not exist or is of another kind."""
        with self._lock:
            if snapshot.version < self._version:
                return  # another thread has passed a newer one already
            if snapshot.generation != self._generation:
                self._start_over()
                self.course = {}
            self._now = max(self._now, now)
            self._advance(snapshot)
            if any(state.is_worn(snapshot.first) for state in (self._current, self._then)):
                self._start_over()
                self._advance(snapshot)
            self._generation, self._version = snapshot.generation, snapshot.version

    def clear(self) -> None:
        """Forget all rows and columns."""
        with self._lock:
            self._start_over()
            self.value = self.before = None
            self.course = {}

    # -- below, the lock is held -------------------------------------------------------------------------

    def _start_over(self) -> None:
        self._current, self._then = _Newest(), _Newest()
        self._blocks = _Blocks()
        self._code, self._labels_seen = -2, 0
        self._reached: int | None = None  # the last step of the course

    def _advance(self, snapshot: Snapshot) -> None:
        last, oldest = self._now // self.step, (self._now - self._look_back) // self.step
        reached = max(oldest, last - POINTS, -1 if self._reached is None else self._reached)
        for number in range(reached + 1, last + 1):
            if self._over is None or number * self.step - self._over >= oldest * self.step:
                self.course[number] = self._combined(self._until(snapshot, number * self.step, self._current))
        self._reached = last
        for number in [number for number in self.course if number <= oldest]:
            del self.course[number]
        self.value = self._exact(snapshot, self._until(snapshot, None, self._current))
        if self._change is not None:
            then = self._until(snapshot, self._now - self._change, self._then)
            self.before = self._exact(snapshot, then)

    def _until(self, snapshot: Snapshot, time: int | None, state: "_Newest") -> _Some:
        """What the server had stored before `time`; None: all of it."""
        end = snapshot.end if time is None else _stored_before(snapshot, time)
        if self._over is not None:
            begin = _stored_before(snapshot, (self._now if time is None else time) - self._over)
            return self._between(snapshot, begin, end)
        start = snapshot.first if state.end is None else max(state.end, snapshot.first)
        if start < end:
            part = snapshot.between(start, end)
            values, codes, held = self._rows(part)
            state.take(start, part, values, codes, held)
        state.end = max(start, end)
        return state.summed_up(snapshot.first)

    def _between(self, snapshot: Snapshot, begin: int, end: int) -> _Some:
        """The values of the rows with ordinals from `begin` to before `end`."""
        first, last = -(-begin // _BLOCK), end // _BLOCK
        if first >= last:
            return self._read(snapshot, begin, end)
        self._blocks.reach(snapshot, self._rows)
        parts = [
            self._read(snapshot, begin, first * _BLOCK),
            self._blocks.between(first, last),
            self._read(snapshot, last * _BLOCK, end),
        ]
        newest = max(parts, key=lambda part: (part.time, part.row))
        return _Some(
            sum(part.number for part in parts),
            sum(part.total for part in parts),
            min(part.least for part in parts),
            max(part.greatest for part in parts),
            *newest[4:],
        )

    def _read(self, snapshot: Snapshot, begin: int, end: int) -> _Some:
        if begin >= end:
            return _NONE
        part = snapshot.between(begin, end)
        values, _, held = self._rows(part)
        rows = np.flatnonzero(held)
        return _some(values[rows], part.time[rows], rows + begin)

    def _rows(self, part: Snapshot) -> tuple[Floats, Ints | None, Truths]:
        """The values of some rows, the codes of their series (None for a single series), and which rows
        count."""
        values = part.numbers(self._name)
        held = ~np.isnan(values)
        if self._by is None:
            return values, None, held
        codes, labels = part.codes(self._by)
        if self._only is None:
            return values, codes.astype(np.int64), held & (codes >= 0)
        if self._code < 0 and len(labels) > self._labels_seen:
            known = labels[self._labels_seen :]
            if self._only in known:
                self._code = self._labels_seen + known.index(self._only)
            self._labels_seen = len(labels)
        return values, None, held & (codes == self._code)

    def _combined(self, some: _Some) -> float | None:
        if not some.number:
            return None
        match self._how:
            case "newest":
                return some.newest
            case "least":
                return some.least
            case "greatest":
                return some.greatest
            case "mean":
                return some.total / some.number
            case "sum":
                return some.total

    def _exact(self, snapshot: Snapshot, some: _Some) -> float | int | None:
        value = self._combined(some)
        if self._how == "newest" and value is not None and abs(value) >= EXACT:
            return snapshot.value(self._name, some.row)
        return value


_Reader = Callable[[Snapshot], tuple[Floats, Ints | None, Truths]]


class _Newest:
    """The newest value of each series among the rows so far, by code."""

    def __init__(self) -> None:
        self.end: int | None = None
        """One past the ordinal of the last row so far."""
        self._value = np.zeros(0)
        self._row = np.zeros(0, dtype=np.int64)
        self._time = np.zeros(0, dtype=np.int64)
        self._last = np.zeros(0, dtype=np.int64)  # ordinal of the last row with a value, whatever its time

    def take(self, start: int, part: Snapshot, values: Floats, codes: Ints | None, held: Truths) -> None:
        """Add the rows of `part`, the first of which has the ordinal `start`."""
        rows = np.flatnonzero(held)
        if not len(rows):
            return
        codes = np.zeros(len(rows), dtype=np.int64) if codes is None else codes[rows]
        values, times, ordinals = values[rows], part.time[rows], rows + start
        if (more := int(codes.max()) + 1 - len(self._row)) > 0:
            self._value = np.append(self._value, np.zeros(more))
            self._row = np.append(self._row, np.full(more, NO_ROW))
            self._time = np.append(self._time, np.full(more, _NEVER))
            self._last = np.append(self._last, np.full(more, NO_ROW))
        self._last[codes] = ordinals
        if not part.ordered:
            order = np.argsort(times, kind="stable")
            codes, values, times, ordinals = codes[order], values[order], times[order], ordinals[order]
            newer = times >= self._time[codes]
            codes, values, times, ordinals = codes[newer], values[newer], times[newer], ordinals[newer]
        self._value[codes], self._time[codes], self._row[codes] = values, times, ordinals

    def is_worn(self, first: int) -> bool:
        """True if the newest row of a series was dropped and a late row with an older time is still there.
        `first` is the ordinal of the oldest row."""
        return bool(((self._row < first) & (self._last >= first)).any())

    def summed_up(self, first: int) -> _Some:
        """A summary of the series whose newest row is still in the window."""
        alive = np.flatnonzero(self._row >= first)
        return _some(self._value[alive], self._time[alive], self._row[alive])


class _Blocks:
    """A summary of each complete block of _BLOCK rows, by the number of the block."""

    def __init__(self) -> None:
        self._from = 0
        self._count = np.zeros(0, dtype=np.int64)
        self._total, self._least, self._greatest = np.zeros(0), np.zeros(0), np.zeros(0)
        self._newest = np.zeros(0)
        self._time, self._row = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)

    def reach(self, snapshot: Snapshot, read: "_Reader") -> None:
        """Drop the blocks whose rows are gone, and add the new ones."""
        first, last = -(-snapshot.first // _BLOCK), snapshot.end // _BLOCK
        known = self._from + len(self._count)
        if first > self._from:
            gone = min(first - self._from, len(self._count))
            for name in ("_count", "_total", "_least", "_greatest", "_newest", "_time", "_row"):
                setattr(self, name, getattr(self, name)[gone:])
            self._from = first
        known = max(known, self._from)
        if known >= last:
            return
        part = snapshot.between(known * _BLOCK, last * _BLOCK)
        values, _, held = read(part)
        shape = (-1, _BLOCK)
        values, held = values.reshape(shape), held.reshape(shape)
        time = np.where(held, part.time.reshape(shape), _NEVER)
        place = _BLOCK - 1 - time[:, ::-1].argmax(axis=1)  # the last of equal ones
        self._count = np.append(self._count, held.sum(axis=1))
        self._total = np.append(self._total, np.where(held, values, 0.0).sum(axis=1))
        self._least = np.append(self._least, np.where(held, values, np.inf).min(axis=1))
        self._greatest = np.append(self._greatest, np.where(held, values, -np.inf).max(axis=1))
        self._newest = np.append(self._newest, values[np.arange(last - known), place])
        self._time = np.append(self._time, time.max(axis=1))
        self._row = np.append(self._row, place + np.arange(known, last) * _BLOCK)

    def between(self, first: int, last: int) -> _Some:
        """A summary of the blocks from `first` up to, but not including, `last`; at least one."""
        part = slice(first - self._from, last - self._from)
        time = self._time[part]
        newest = len(time) - 1 - int(time[::-1].argmax())
        return _Some(
            int(self._count[part].sum()),
            float(self._total[part].sum()),
            float(self._least[part].min()),
            float(self._greatest[part].max()),
            float(self._newest[part][newest]),
            int(time[newest]),
            int(self._row[part][newest]),
        )


def _some(values: Floats, times: Ints, ordinals: Ints) -> _Some:
    if not len(values):
        return _NONE
    same = np.flatnonzero(times == times.max())
    newest = int(same[ordinals[same].argmax()])  # of equal times, the last row
    return _Some(
        len(values),
        float(values.sum()),
        float(values.min()),
        float(values.max()),
        float(values[newest]),
        int(times[newest]),
        int(ordinals[newest]),
    )


def _stored_before(snapshot: Snapshot, time: int) -> int:
    """The ordinal of the first row that the server stored at or after `time`."""
    return snapshot.first + int(np.searchsorted(snapshot.received, time))
