"""The rows of a feed in a sliding window of columns: rows are appended at the end and dropped at the start.

Each column is one numpy array with spare room after the last row. An append writes after the rows that
readers hold, and a drop moves the start. Rows are copied to new arrays only when the room is used up. So a
snapshot is a few slices, stays valid for as long as a reader holds it, and never needs a copy.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from .columns import Column, TextColumn, all_missing, is_floats, read_only
from .mixed_column import column_for, widened
from .snapshot import Snapshot
from .values import NO_ROW, Batch, Floats, Ints, Mixed, Values, is_null

MAX_COLUMNS = 256
"""Payload columns per window. Further fields are only counted, because keys that differ in each message must
not use up the memory."""

MOST_SURPLUS = 1000
"""Surplus fields that are counted."""

_ROOM = 1.5
"""Capacity after a copy, as a multiple of the rows held. On average, two rows are copied per row appended."""


_EXTRA = 4096
"""Capacity in rows below which unused room is not released."""


@dataclass(frozen=True)
class Removed:
    """Rows that were removed from a window because the stream no longer holds them."""

    count: int
    """Number of messages, not rows: one message can be several rows."""
    start: int
    """When the server stored the first of them, ns since the epoch, UTC."""
    end: int
    """When the server stored the last of them, ns since the epoch, UTC."""


def _removed(seq: Ints, received: Ints) -> Removed:
    return Removed(len(np.unique(seq)), int(received[0]), int(received[-1]))


class Window:
    """The shared, sliding rows of one feed.

    One thread appends; any thread takes snapshots. `max_rows` and `max_bytes` are the ceilings. Above either,
    the oldest rows are dropped, and `dropped` counts them.
    """

    def __init__(self, *, max_rows: int = 2_500_000, max_bytes: int = 512 * 1024 * 1024) -> None:
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self.dropped = 0
        """Rows dropped at a ceiling."""
        self.dropped_until = 0
        """When the server stored the newest row dropped at a ceiling, ns since the epoch, UTC."""
        self.surplus_fields: set[str] = set()
        """Up to 1,000 names of payload fields beyond MAX_COLUMNS, which are not kept."""
        self._not_finite = 0
        self._mistyped = 0
        self._nbytes = 0
        self._expected = 0
        self._checked_version = -1
        self._lock = threading.Lock()
        self._version = 0
        self._generation = 0
        self._first = 0
        self._lo = 0
        self._hi = 0
        self._ordered = True
        self._snapshot: Snapshot | None = None
        self._start()

    def __len__(self) -> int:
        return self._hi - self._lo

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays and labels at the last change, spare room included."""
        return self._nbytes

    @property
    def mistyped(self) -> int:
        """Values in number columns that are not finite numbers; they count as missing. NaN and infinities are
        counted since the window was created, others only while their rows are held."""
        return self._not_finite + self._mistyped

    @property
    def most_rows(self) -> int:
        """How many rows fit below the ceilings, estimated from the size of the rows held."""
        with self._lock:
            room = max(0, self.max_bytes - self._label_bytes())
            return min(self.max_rows, int(room / (self._row_bytes() * _ROOM)))

    def leave_out(self, count: int, until: int) -> None:
        """Drop all rows, and count them and `count` older rows that were never read as dropped at a ceiling.
        `until` is when the newest of the older rows was stored (ns since the epoch, UTC)."""
        with self._lock:
            self.dropped += count + len(self)
            self.dropped_until = max(self.dropped_until, until)
            if len(self):
                self.dropped_until = max(self.dropped_until, int(self._received[self._hi - 1]))
                self._forget(len(self))
                self._changed()

    @property
    def oldest_seq(self) -> int | None:
        """Stream sequence of the oldest row; None if the window is empty."""
        with self._lock:
            return int(self._seq[self._lo]) if len(self) else None

    @property
    def newest_time(self) -> int | None:
        """When the server stored the newest row, ns since the epoch, UTC; None if the window is empty."""
        with self._lock:
            return int(self._received[self._hi - 1]) if len(self) else None

    def append(self, batch: Batch, *, expected: int = 0) -> None:
        """Append the rows of `batch`. Sequences must ascend; the feed guarantees that. If new arrays are
        needed, they also get room for `expected` further rows, within the ceilings."""
        if not len(batch):
            return
        with self._lock:
            self._expected = expected
            self._reserve(len(batch), expected)
            lo, hi = self._hi, self._hi + len(batch)
            self._seq[lo:hi] = batch.seq
            # Rows are evicted by storage time, so it must ascend even if the server's clock was set back.
            latest = int(self._received[lo - 1]) if lo > self._lo else 0
            self._received[lo:hi] = np.maximum(np.maximum.accumulate(batch.received), latest)
            self._time[lo:hi] = batch.time
            if self._ordered:
                before = self._time[lo - 1 : hi] if lo > self._lo else self._time[lo:hi]
                self._ordered = bool((before[1:] >= before[:-1]).all())
            self._not_finite += batch.not_finite
            last = self._first + hi - self._lo - 1
            self._columns["_subject"].write(slice(lo, hi), batch.subject, integral=False, last=last)
            for name, values in batch.values.items():
                self._write(name, values, slice(lo, hi), integral=name in batch.integral, last=last)
                self._note_truths(name, values, last, are_truths=name in batch.truths)
            for name, column in self._columns.items():
                if name not in batch.values:
                    column.absent(last)
            self._hi = hi
            self._enforce_ceiling()
            self._changed()

    def prepend(self, older: "Window") -> None:
        """Insert the rows of `older` before the oldest row; both keep their order. Do not use `older`
        afterwards."""
        snapshot = older.snapshot()
        if not len(snapshot):
            return
        with self._lock:
            mine = self._take()
            joined = [*([snapshot] if len(snapshot) else []), *([mine] if len(mine) else [])]
            self._first = (mine.first if len(mine) else self._first) - len(snapshot)
            self._truths |= older._truths
            for name, last in older._numeric.items():
                self._numeric.setdefault(name, last - older._first + self._first)
            self._rebuild(joined)
            self._generation += 1
            if older.dropped:
                self.dropped += older.dropped
                self.dropped_until = max(self.dropped_until, older.dropped_until)
            self._not_finite += older._not_finite
            if len(self.surplus_fields) < MOST_SURPLUS:
                self.surplus_fields |= older.surplus_fields
            self._enforce_ceiling()
            self._changed()

    def evict(self, received: int) -> None:
        """Remove the rows that the server stored before `received` (ns since the epoch, UTC)."""
        with self._lock:
            count = int(np.searchsorted(self._received[self._lo : self._hi], received))
            if count:
                self._forget(count)
                self._changed()

    def remove_before(self, seq: int, *, after: int = 0) -> "Removed | None":
        """Remove the rows with a stream sequence below `seq` and above `after`. Returns the count and times
        of the removed rows, or None."""
        with self._lock:
            held = self._seq[self._lo : self._hi]
            start, stop = int(np.searchsorted(held, after, "right")), int(np.searchsorted(held, seq))
            if start >= stop:
                return None
            if not start:
                part = slice(self._lo, self._lo + stop)
                removed = _removed(self._seq[part], self._received[part])
                self._forget(stop)
                self._changed()
                return removed
            gone = np.zeros(len(held), dtype=np.bool_)
            gone[start:stop] = True
            return self._remove(gone)

    def remove(self, seqs: Ints) -> "Removed | None":
        """Remove the rows with these stream sequences. Returns the count and times of the removed rows, or
        None."""
        with self._lock:
            held = self._seq[self._lo : self._hi]
            first, last = np.searchsorted(held, seqs, "left"), np.searchsorted(held, seqs, "right")
            if not (first < last).any():
                return None
            return self._remove(np.isin(held, seqs))

    def clear(self) -> None:
        """Remove all rows and columns and release their memory: the stream is another one now, or the window
        has no more readers."""
        with self._lock:
            self._first += len(self)
            self._start()
            self._generation += 1
            self._changed()

    def shrink(self, max_bytes: int) -> None:
        """Set the ceiling to `max_bytes`. Drops the oldest rows above it and releases their memory."""
        with self._lock:
            self.max_bytes = max_bytes
            if self._nbytes > max_bytes:
                self._expected = 0
                self._enforce_ceiling()
                self._rebuild([self._take()])
                self._changed()

    def snapshot(self) -> Snapshot:
        """The current rows. Returns the same object until something changes."""
        with self._lock:
            if self._snapshot is None:
                self._snapshot = self._take()
            return self._snapshot

    # -- all methods below need the lock -----------------------------------------------------------------

    def _take(self) -> Snapshot:
        part = slice(self._lo, self._hi)
        return Snapshot(
            self._version,
            self._generation,
            self._first,
            read_only(self._seq[part]),
            read_only(self._received[part]),
            read_only(self._time[part]),
            self._ordered,
            {name: column.part(part, self._first) for name, column in self._columns.items()},
            frozenset(name for name in self._truths if self._has_truths(name)),
        )

    def _has_truths(self, name: str) -> bool:
        column = self._columns.get(name)
        is_number = column is not None and column.kind == "number"
        return is_number and self._numeric.get(name, NO_ROW) < self._first

    def _start(self) -> None:
        """Reset to an empty window."""
        self._lo = self._hi = 0
        self._ordered = True
        self._expected = 0
        self._capacity = 1024
        self._seq = np.zeros(self._capacity, dtype=np.int64)
        self._received = np.zeros(self._capacity, dtype=np.int64)
        self._time = np.zeros(self._capacity, dtype=np.int64)
        self._columns: dict[str, Column] = {"_subject": TextColumn(self._capacity)}
        self._nbytes = self._row_bytes() * self._capacity
        self._truths: set[str] = set()  # columns that have had true and false
        self._numeric: dict[str, int] = {}  # up to which row a column may have other numbers

    def _note_truths(self, name: str, values: Values, last: int, *, are_truths: bool) -> None:
        if name not in self._columns:
            return
        if are_truths:
            self._truths.add(name)
        elif not all_missing(values) and (isinstance(values, Mixed) or is_floats(values)):
            self._numeric[name] = last

    def _remove(self, gone: npt.NDArray[np.bool_]) -> Removed:
        mine = self._take()
        removed = _removed(mine.seq[gone], mine.received[gone])
        # The ordinals of the rows change, so caches must start over.
        self._rebuild([mine.where(~gone)])
        self._generation += 1
        self._changed()
        return removed

    def _changed(self) -> None:
        self._settle_kinds()
        if not self._expected and self._capacity > _EXTRA and len(self) * 4 < self._capacity:
            self._rebuild([self._take()])  # release the memory of a burst that is over
        self._nbytes = self._row_bytes() * self._capacity + self._label_bytes()
        self._version += 1
        self._snapshot = None

    def _settle_kinds(self) -> None:
        """Change each column to the kind that fits its values."""
        held, last = slice(self._lo, self._hi), self._first + len(self) - 1
        for name, column in list(self._columns.items()):
            self._columns[name], changed = column.settled(held, self._first, last)
            self._generation += changed
        self._mistyped = sum(column.mistyped for column in self._columns.values())

    def _forget(self, count: int) -> None:
        for column in self._columns.values():
            column.forget(slice(self._lo, self._lo + count))
        self._lo += count
        self._first += count

    def _enforce_ceiling(self) -> None:
        if self._label_bytes() > self.max_bytes // 2:
            self._trim_labels()
        room = max(0, self.max_bytes - self._label_bytes())
        self._drop(len(self) - min(self.max_rows, int(room / (self._row_bytes() * _ROOM))))

    def _trim_labels(self) -> None:
        """Drop labels that no row uses. If that is not enough, drop rows until labels take a quarter of the
        bytes, so that this is rarely needed."""
        self._rebuild([self._take()], relabel=True)
        size = self._label_bytes()
        if size > self.max_bytes // 2:
            self._drop(int(len(self) * (1 - self.max_bytes / 4 / size)))
            self._rebuild([self._take()], relabel=True)

    def _drop(self, surplus: int) -> None:
        surplus = min(surplus, len(self) - 1)
        if surplus > 0:
            self.dropped += surplus
            self.dropped_until = int(self._received[self._lo + surplus - 1])
            self._forget(surplus)

    def _row_bytes(self) -> int:
        return 24 + sum(column.row_bytes for column in self._columns.values())

    def _label_bytes(self) -> int:
        return sum(c.labels.nbytes for c in self._columns.values() if c.labels is not None)

    def _write(
        self, name: str, values: Values, rows: slice, *, integral: bool, last: int, held: slice | None = None
    ) -> None:
        """Write `values` into `rows` of the column `name`, and widen the column if it cannot hold them.
        `last` is the ordinal of the last of these rows; `held` are the rows already in the arrays."""
        held = held or slice(self._lo, self._hi)
        column = self._columns.get(name)
        empty = all_missing(values)
        if column is None:
            if empty and is_null(cast(Floats, values)).all():
                return
            if len(self._columns) > MAX_COLUMNS and not self._drop_idle_columns(rows.stop):
                if len(self.surplus_fields) < MOST_SURPLUS:
                    self.surplus_fields.add(name)
                return
            column = column_for(values, self._capacity)
            if held.stop > held.start:
                column.absent(last - (rows.stop - rows.start))
        if empty and not column.keeps_nulls:
            return
        fitting = widened(column, values, held, self._first, last)
        self._generation += fitting.kind != column.kind
        self._columns[name] = fitting
        fitting.write(rows, values, integral=integral, last=last)

    def _drop_idle_columns(self, stop: int) -> bool:
        """Drop the columns without a value in any row before `stop`; True if there was one. Checked once per
        version."""
        if self._checked_version == self._version:
            return False
        self._checked_version = self._version
        part = slice(self._lo, stop)
        idle = [
            name
            for name, column in self._columns.items()
            if name != "_subject" and not column.part(part, self._first).present(slice(None)).any()
        ]
        for name in idle:
            del self._columns[name]
            self._truths.discard(name)
            self._numeric.pop(name, None)
        return bool(idle)

    def _reserve(self, count: int, expected: int) -> None:
        """Make room for `count` rows. If the arrays are full, allocate new ones; readers keep the old."""
        if self._hi + count <= self._capacity:
            return
        room = min(self.max_rows, int(self.max_bytes / (self._row_bytes() * _ROOM))) - len(self)
        self._rebuild([self._take()], spare=max(count, int(min(expected, room) / _ROOM)))

    def _rebuild(self, parts: Sequence[Snapshot], spare: int = 0, *, relabel: bool = False) -> None:
        """Copy `parts`, concatenated, into new arrays with room for `spare` further rows and some more. With
        `relabel`, keep only labels that are in use."""
        rows = sum(len(part) for part in parts)
        self._capacity = max(1024, int((rows + spare) * _ROOM))
        self._seq = np.zeros(self._capacity, dtype=np.int64)
        self._received = np.zeros(self._capacity, dtype=np.int64)
        self._time = np.zeros(self._capacity, dtype=np.int64)
        lo = 0
        for part in parts:
            hi = lo + len(part)
            self._seq[lo:hi], self._received[lo:hi], self._time[lo:hi] = part.seq, part.received, part.time
            lo = hi
        if len(parts) > 1:  # as in append()
            np.maximum.accumulate(self._received[:rows], out=self._received[:rows])
        names = list(dict.fromkeys(name for part in parts for name in part._columns))
        self._columns = {}
        self._lo, self._hi = 0, rows
        for name in names:
            held = [part._columns[name] for part in parts if name in part._columns]
            if len(parts) == 1 and not relabel:
                moved = held[0].column.moved(held[0], self._capacity)
                if moved is not None:
                    self._columns[name] = moved
                    continue
            if name == "_subject":
                self._columns[name] = TextColumn(self._capacity)
            lo = 0
            for part in parts:
                hi = lo + len(part)
                if name in part._columns and hi > lo:
                    integral, last = part._columns[name].integral, self._first + hi - 1
                    values = part._columns[name].raw()
                    self._write(name, values, slice(lo, hi), integral=integral, last=last, held=slice(0, lo))
                elif (column := self._columns.get(name)) is not None:
                    column.absent(self._first + hi - 1)
                lo = hi
            if any(part.column.labels is not None for part in held):
                self._generation += 1
        self._columns.setdefault("_subject", TextColumn(self._capacity))
        self._ordered = bool((self._time[1:rows] >= self._time[: max(0, rows - 1)]).all())
