"""The rows of a feed, as columns that slide: append at the end, forget at the start.

Each column is one numpy array with room behind the last row. Appending writes behind what readers
hold, forgetting moves the start, and only when the room is used up are the rows copied to new arrays.
So a snapshot is a few slices, stays valid for as long as somebody holds it, and never costs a copy.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .columns import (
    Batch,
    Coded,
    Codes,
    Column,
    Floats,
    Ints,
    Kind,
    NumberColumn,
    TextColumn,
    TimeColumn,
    Values,
    numbers_in,
    texts_of,
    there,
    utc,
)
from .errors import ColumnError, one_of
from .stamps import STAMP, Stamps, stamp_texts
from .subjects import token_columns

MAX_COLUMNS = 256
"""Payload columns per window; further fields are counted, not kept: keys that change from message to
message must not eat the memory."""

_ROOM = 1.5
"""Capacity after a copy, as a multiple of the rows held: two rows copied for each row appended."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A window as it was at one version. Immutable; any thread may read it for as long as it likes.

    Rows carry ordinals: row i of an array that starts at `first` has the ordinal first + i. Ordinals only
    grow within a generation, so a reader that remembers `end` finds what is new without a search.
    """

    version: int
    """Grows with every change of the window."""
    generation: int
    """Changes when ordinals or codes handed out before no longer hold; incremental readers start over."""
    first: int
    """Ordinal of the oldest row."""
    seq: Ints = field(repr=False)
    received: Ints = field(repr=False)
    time: Ints = field(repr=False)
    ordered: bool
    """Whether `time` ascends. Rows in event time may arrive late."""
    _data: dict[str, npt.NDArray[Any]] = field(repr=False)
    _columns: dict[str, Column] = field(repr=False)
    _integral: frozenset[str] = field(repr=False)

    @property
    def end(self) -> int:
        """One past the ordinal of the newest row."""
        return self.first + len(self.seq)

    def __len__(self) -> int:
        return len(self.seq)

    @property
    def columns(self) -> dict[str, Kind]:
        """Column name to kind, "number", "text" or "time": `_subject`, its named tokens, then the payload's,
        as they appeared."""
        return {name: column.kind for name, column in self._columns.items()}

    def times(self, start: int | None = None) -> Ints:
        """`_time` of the rows with an ordinal of at least `start` (default: all), ns since the epoch, UTC."""
        return self.time[self._offset(start) :]

    def numbers(self, name: str, start: int | None = None) -> Floats:
        """A numeric column as float64, NaN where missing. Raises ColumnError, naming what exists."""
        return self._typed(name, "number")[self._offset(start) :]

    def codes(self, name: str, start: int | None = None) -> tuple[Codes, list[str]]:
        """A text column as int32 codes (-1 = missing) and its labels, a list that only ever grows at its
        end within a generation; do not change it. Raises ColumnError, naming what exists."""
        data = self._typed(name, "text")[self._offset(start) :]
        column = self._columns[name]
        assert isinstance(column, TextColumn)
        return data, column.labels

    def stamps(self, name: str, start: int | None = None) -> Stamps:
        """A column of times as an array of STAMP. Raises ColumnError, naming what exists."""
        return self._typed(name, "time")[self._offset(start) :]

    def since(self, received: int) -> "Snapshot":
        """The rows that the server stored at or after `received` (ns since the epoch, UTC)."""
        cut = int(np.searchsorted(self.received, received))
        return self._part(slice(cut, None), self.first + cut) if cut else self

    def where(self, kept: npt.NDArray[np.bool_]) -> "Snapshot":
        """The rows for which `kept` is true, as copies; their ordinals mean nothing any more."""
        return self._part(kept, self.first)

    def _part(self, rows: "slice | npt.NDArray[np.bool_]", first: int) -> "Snapshot":
        return Snapshot(
            self.version,
            self.generation,
            first,
            self.seq[rows],
            self.received[rows],
            self.time[rows],
            self.ordered,
            {name: data[rows] for name, data in self._data.items()},
            self._columns,
            self._integral,
        )

    def frame(self, columns: Sequence[str] | None = None, *, last: int | None = None) -> pd.DataFrame:
        """The rows as a DataFrame, without copying them: read it, or `.copy()` it before changing it.

        Index `_time` (UTC, ascending); columns `_subject` (categorical), `_seq` (int64), the subject's named
        tokens (categorical) and the payload's own, or just `columns` of these: float64, int64 where all
        values are integers, datetime64[ns, UTC] where all are times in ISO 8601 that name UTC, categorical
        for other text. `last` keeps only that many of the newest rows by `_time`. Raises ColumnError, naming
        what exists.
        """
        names = list(columns) if columns is not None else ["_subject", "_seq", *self._payload()]
        first = max(0, len(self) - last) if last is not None else 0
        order = self._by_time()
        part = slice(first, None) if order is None else order[first:]
        series: dict[str, Any] = {}
        for name in names:
            series[name] = self.seq[part] if name == "_seq" else self._pandas(name, part)
        index = pd.DatetimeIndex(self.time[part].view("datetime64[ns]"), name="_time").tz_localize("UTC")
        return pd.DataFrame(series, index=index, copy=False)

    def latest(self, name: str, by: str = "_subject") -> pd.Series:
        """The newest value by `_time` of column `name` per value of the text column `by`, sorted by `by`.

        Rows in which `name` is missing are passed over. Raises ColumnError, naming what exists.
        """
        codes, labels = self.codes(by)
        kind, data = self.kind_of(name), self._data[name]
        order = self._by_time()
        newest = np.full(len(labels), -1, dtype=np.int64)
        end, step = len(codes), 4096
        # Read backwards in growing pieces: the newest value of most labels is near the end.
        while end > 0 and (newest < 0).any():
            start = max(0, end - step)
            these = slice(start, end) if order is None else order[start:end]
            part = codes[these]
            rows = np.flatnonzero((part >= 0) & there(kind, data[these]))
            fresh = np.full(len(labels), -1, dtype=np.int64)
            fresh[part[rows]] = rows + start
            newest = np.where(newest < 0, fresh, newest)
            end, step = start, step * 4
        held = newest >= 0
        if order is not None:
            newest[held] = order[newest[held]]
        return self.picked(name, by, np.where(held, newest + self.first, -1))

    def picked(self, name: str, by: str, ordinals: Ints) -> pd.Series:
        """The values of column `name` in the rows with these ordinals, one for each label of the text column
        `by`, sorted by it; without those whose row has left."""
        labels = self.codes(by)[1]
        found = np.flatnonzero(ordinals >= self.first)
        self.kind_of(name)
        data = self._data[name][ordinals[found] - self.first]
        latest: Any = data
        column = self._columns[name]
        if isinstance(column, TextColumn):
            latest = np.asarray(column.labels, dtype=object)[data]
        elif isinstance(column, TimeColumn):
            latest = utc(data)
        index = pd.Index([labels[code] for code in found], name=by, dtype="str")
        return pd.Series(latest, index=index, name=name).sort_index()

    def present(self, name: str, start: int | None = None) -> npt.NDArray[np.bool_]:
        """Which rows with an ordinal of at least `start` have a value in column `name`. Raises ColumnError,
        naming what exists."""
        return there(self.kind_of(name), self._data[name][self._offset(start) :])

    def kind_of(self, name: str) -> Kind:
        """ "number", "text" or "time". Raises ColumnError, naming what exists."""
        if name not in self._columns:
            raise ColumnError(f"There is no column {name!r}. " + one_of(name, self._columns, what="column"))
        return self._columns[name].kind

    def _by_time(self) -> Ints | None:
        """The rows in the order of `_time`, those of one time as they came; None where they are in it."""
        return None if self.ordered else np.argsort(self.time, kind="stable")

    def _payload(self) -> list[str]:
        return [name for name in self._columns if name != "_subject"]

    def _offset(self, start: int | None) -> int:
        return 0 if start is None else max(0, start - self.first)

    def _typed(self, name: str, kind: Kind) -> npt.NDArray[Any]:
        if (found := self.kind_of(name)) != kind:
            fitting = [other for other, column in self._columns.items() if column.kind == kind]
            raise ColumnError(
                f"The column {name!r} holds {found}s, not {kind}s. "
                + one_of(name, fitting, what=f"{kind} column")
            )
        return self._data[name]

    def _pandas(self, name: str, part: "slice | Ints") -> Any:
        self.kind_of(name)
        column = self._columns[name]
        if isinstance(column, TextColumn):
            return pd.Categorical.from_codes(self._data[name][part], column.index(), validate=False)
        values = self._data[name][part]
        if isinstance(column, TimeColumn):
            return utc(values).array
        return values.astype(np.int64) if name in self._integral else values


_CHUNK = 4096


class Oldest:
    """The earliest `_time` of a window whose rows came in another order, at a cost that hardly grows with it:
    of most rows only the earliest of _CHUNK at a time is looked at."""

    def __init__(self) -> None:
        self._generation: int | None = None
        self._chunks = np.zeros(0, dtype=np.int64)
        self._from = 0  # the number of the first of these chunks

    def of(self, snapshot: Snapshot) -> int:
        """In ns since the epoch, UTC. The snapshot must have rows."""
        time = snapshot.time
        if snapshot.ordered:
            return int(time[0])
        start, stop = -(-snapshot.first // _CHUNK), snapshot.end // _CHUNK  # the chunks that are all there
        if start >= stop:
            return int(time.min())
        known = self._from + len(self._chunks)
        if snapshot.generation != self._generation or not self._from <= start <= known:
            self._generation, self._from = snapshot.generation, start
            self._chunks, known = np.zeros(0, dtype=np.int64), start
        if known < stop:
            rows = time[known * _CHUNK - snapshot.first : stop * _CHUNK - snapshot.first]
            self._chunks = np.append(self._chunks, rows.reshape(-1, _CHUNK).min(axis=1))
        self._chunks = self._chunks[start - self._from :]
        self._from = start
        ends = time[: start * _CHUNK - snapshot.first], time[stop * _CHUNK - snapshot.first :]
        return int(min(part.min(initial=_LATEST) for part in (*ends, self._chunks[: stop - start])))


_LATEST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Removed:
    """Rows that left a window before their time."""

    count: int
    """Messages, not rows: one message can be several rows."""
    start: int
    """When the server had stored the first of them, ns since the epoch, UTC."""
    end: int
    """And the last."""


def _removed(seq: Ints, received: Ints) -> Removed:
    return Removed(len(np.unique(seq)), int(received[0]), int(received[-1]))


class Window:
    """The shared, sliding rows of one feed.

    One thread appends; any thread takes snapshots. `max_rows` and `max_bytes` bound what is kept: beyond
    either the oldest rows go, and `dropped` counts them. `tokens`, the names of a subject pattern, are text
    columns that are read off the subjects.
    """

    def __init__(
        self,
        *,
        max_rows: int = 2_500_000,
        max_bytes: int = 512 * 1024 * 1024,
        tokens: tuple[str, ...] = (),
    ) -> None:
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self.dropped = 0
        """Rows that a ceiling pushed out before their time."""
        self.dropped_until = 0
        """When the server had stored the newest row pushed out so, ns since the epoch, UTC."""
        self.surplus_fields: set[str] = set()
        """Up to 1,000 names of payload fields beyond MAX_COLUMNS, which are not kept."""
        self.mistyped = 0
        """Values in columns of numbers that were not finite numbers; they count as missing."""
        self._lock = threading.Lock()
        self._version = 0
        self._generation = 0
        self._first = 0
        self._lo = 0
        self._hi = 0
        self._ordered = True
        self._capacity = 1024
        self._seq = np.zeros(self._capacity, dtype=np.int64)
        self._received = np.zeros(self._capacity, dtype=np.int64)
        self._time = np.zeros(self._capacity, dtype=np.int64)
        self._tokens = tokens
        self._columns: dict[str, Column] = {
            name: TextColumn(self._capacity) for name in ("_subject", *filter(None, tokens))
        }
        self._snapshot: Snapshot | None = None

    def __len__(self) -> int:
        return self._hi - self._lo

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays and labels, the room for further rows included."""
        return self._row_bytes() * self._capacity + self._label_bytes()

    @property
    def most_rows(self) -> int:
        """Rows that the ceilings leave room for, by the size of the rows that are held."""
        with self._lock:
            room = max(0, self.max_bytes - self._label_bytes())
            return min(self.max_rows, int(room / (self._row_bytes() * _ROOM)))

    def leave_out(self, count: int, until: int) -> None:
        """Count `count` older rows, the newest stored at `until` (ns since the epoch, UTC), as pushed out by
        a ceiling before they came, with all that are held."""
        with self._lock:
            self.dropped += count + len(self)
            self.dropped_until = max(self.dropped_until, until)
            if len(self):
                self.dropped_until = max(self.dropped_until, int(self._received[self._hi - 1]))
                self._forget(len(self))
                self._changed()

    @property
    def oldest_seq(self) -> int | None:
        """Stream sequence of the oldest row, None when there is none."""
        with self._lock:
            return int(self._seq[self._lo]) if len(self) else None

    @property
    def newest_time(self) -> int | None:
        """When the server stored the newest row, ns since the epoch, UTC; None when there is none."""
        with self._lock:
            return int(self._received[self._hi - 1]) if len(self) else None

    def append(self, batch: Batch, *, expected: int = 0) -> None:
        """Put the rows of `batch` behind the newest. Sequences must ascend; the feed sees to that. When new
        arrays are needed, they get room for `expected` further rows as well, as far as the ceilings go."""
        if not len(batch):
            return
        with self._lock:
            self._reserve(len(batch), expected)
            lo, hi = self._hi, self._hi + len(batch)
            self._seq[lo:hi] = batch.seq
            # What rows leave by never goes back, though a server's clock may.
            latest = int(self._received[lo - 1]) if lo > self._lo else 0
            self._received[lo:hi] = np.maximum(np.maximum.accumulate(batch.received), latest)
            self._time[lo:hi] = batch.time
            if self._ordered:
                before = self._time[lo - 1 : hi] if lo > self._lo else self._time[lo:hi]
                self._ordered = bool((before[1:] >= before[:-1]).all())
            subject = self._columns["_subject"]
            assert isinstance(subject, TextColumn)
            codes = subject.data[lo:hi] = subject.encode(batch.subject)
            self._write_tokens(codes, subject.labels, lo, hi)
            self.mistyped += batch.not_finite
            for name, values in batch.values.items():
                self._write(name, values, lo, hi, batch)
            for name, column in self._columns.items():
                if name not in batch.values and isinstance(column, NumberColumn):
                    column.integral = False
            self._hi = hi
            self._enforce_ceiling()
            self._changed()

    def prepend(self, older: "Window") -> None:
        """Put the rows of `older` before the oldest; both keep their order. `older` is used up by this."""
        snapshot = older.snapshot()
        if not len(snapshot):
            return
        with self._lock:
            mine = self._take()
            joined = [*([snapshot] if len(snapshot) else []), *([mine] if len(mine) else [])]
            self._first = (mine.first if len(mine) else self._first) - len(snapshot)
            self._rebuild(joined)
            self._generation += 1
            self._enforce_ceiling()
            self._changed()

    def evict(self, received: int) -> None:
        """Forget the rows that the server had stored before `received` (ns since the epoch, UTC)."""
        with self._lock:
            count = int(np.searchsorted(self._received[self._lo : self._hi], received))
            if count:
                self._forget(count)
                self._changed()

    def remove_before(self, seq: int, *, after: int = 0) -> "Removed | None":
        """Forget the rows whose stream sequence is below `seq`, and above `after`; what they were, if there
        were any."""
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
        """Forget the rows with these stream sequences; what they were, if there were any."""
        with self._lock:
            held = self._seq[self._lo : self._hi]
            first, last = np.searchsorted(held, seqs, "left"), np.searchsorted(held, seqs, "right")
            if not (first < last).any():
                return None
            return self._remove(np.isin(held, seqs))

    def clear(self) -> None:
        """Forget all rows: the stream they came from is another one now."""
        with self._lock:
            self._forget(len(self))
            self._ordered = True
            self._generation += 1
            self._changed()

    def snapshot(self) -> Snapshot:
        """The rows as they are now; the same object until something changes."""
        with self._lock:
            if self._snapshot is None:
                self._snapshot = self._take()
            return self._snapshot

    # -- below, the lock is held -------------------------------------------------------------------------

    def _take(self) -> Snapshot:
        part = slice(self._lo, self._hi)
        return Snapshot(
            self._version,
            self._generation,
            self._first,
            _read_only(self._seq[part]),
            _read_only(self._received[part]),
            _read_only(self._time[part]),
            self._ordered,
            {name: _read_only(column.data[part]) for name, column in self._columns.items()},
            dict(self._columns),
            frozenset(n for n, c in self._columns.items() if isinstance(c, NumberColumn) and c.integral),
        )

    def _remove(self, gone: npt.NDArray[np.bool_]) -> Removed:
        mine = self._take()
        removed = _removed(mine.seq[gone], mine.received[gone])
        # Rows get other ordinals: what was worked out from the old ones starts over.
        self._rebuild([mine.where(~gone)])
        self._generation += 1
        self._changed()
        return removed

    def _changed(self) -> None:
        self._version += 1
        self._snapshot = None

    def _forget(self, count: int) -> None:
        self._lo += count
        self._first += count

    def _enforce_ceiling(self) -> None:
        if self._label_bytes() > self.max_bytes // 2:
            self._trim_labels()
        room = max(0, self.max_bytes - self._label_bytes())
        self._drop(len(self) - min(self.max_rows, int(room / (self._row_bytes() * _ROOM))))

    def _trim_labels(self) -> None:
        """Let go of labels that no row uses; where that is not enough, of rows until labels take a quarter
        of the bytes, so that the next time is far off."""
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
        return 24 + sum(column.data.itemsize for column in self._columns.values())

    def _label_bytes(self) -> int:
        return sum(c.label_bytes for c in self._columns.values() if isinstance(c, TextColumn))

    def _write_tokens(self, codes: Codes, subjects: list[str], lo: int, hi: int) -> None:
        """The tokens of the subjects with these codes, at a cost per distinct subject and not per row."""
        if not self._tokens:
            return
        present, place = np.unique(codes, return_inverse=True)
        for name, texts in token_columns(self._tokens, [subjects[code] for code in present]).items():
            column = self._columns[name]
            assert isinstance(column, TextColumn)
            column.data[lo:hi] = column.encode(texts)[place]

    def _write(self, name: str, values: Values, lo: int, hi: int, batch: Batch) -> None:
        column = self._columns.get(name)
        integral = name in batch.integral
        if column is None:
            if len(self._columns) > MAX_COLUMNS:
                if len(self.surplus_fields) < 1000:
                    self.surplus_fields.add(name)
                return
            if not isinstance(values, np.ndarray):
                numeric = name in batch.mostly_numbers
                column = NumberColumn(self._capacity) if numeric else TextColumn(self._capacity)
            else:
                column = (TimeColumn if values.dtype == STAMP else NumberColumn)(self._capacity)
            if isinstance(column, NumberColumn) and len(self):
                column.integral = False
            self._columns[name] = column
        if isinstance(column, TimeColumn):
            if isinstance(values, np.ndarray) and values.dtype == STAMP:
                column.data[lo:hi] = values
                return
            column = self._columns[name] = self._as_text(column)
        if isinstance(column, NumberColumn):
            if not isinstance(values, np.ndarray) or values.dtype == STAMP:
                values, refused = numbers_in(texts_of(values))
                self.mistyped += refused
                integral = False
            column.data[lo:hi] = values
            column.integral = column.integral and integral
        else:
            column.data[lo:hi] = column.encode(values if isinstance(values, Coded) else texts_of(values))

    def _as_text(self, times: TimeColumn) -> TextColumn:
        """What is a column of times no more, since a row has another text."""
        column = TextColumn(self._capacity)
        held = slice(self._lo, self._hi)
        column.data[held] = column.encode(stamp_texts(times.data[held]))
        self._generation += 1
        return column

    def _reserve(self, count: int, expected: int) -> None:
        """Make room for `count` rows, in new arrays where the old ones are full: readers keep the old."""
        if self._hi + count <= self._capacity:
            return
        room = min(self.max_rows, int(self.max_bytes / (self._row_bytes() * _ROOM))) - len(self)
        self._rebuild([self._take()], spare=max(count, int(min(expected, room) / _ROOM)))

    def _rebuild(self, parts: Sequence[Snapshot], spare: int = 0, *, relabel: bool = False) -> None:
        """Copy `parts`, one behind the other, into new arrays with room for `spare` rows and some more;
        with `relabel`, keep only labels that are in use."""
        rows = sum(len(part) for part in parts)
        self._capacity = max(1024, int((rows + spare) * _ROOM))
        self._seq = np.zeros(self._capacity, dtype=np.int64)
        self._received = np.zeros(self._capacity, dtype=np.int64)
        self._time = np.zeros(self._capacity, dtype=np.int64)
        columns: dict[str, Column] = {}
        for name, column in {n: c for part in parts for n, c in part._columns.items()}.items():
            kinds = {type(part._columns[name]) for part in parts if name in part._columns}
            mixed = TimeColumn in kinds and len(kinds) > 1
            columns[name] = TextColumn(self._capacity) if mixed else type(column)(self._capacity)
        lo = 0
        for part in parts:
            hi = lo + len(part)
            self._seq[lo:hi], self._received[lo:hi], self._time[lo:hi] = part.seq, part.received, part.time
            lo = hi
        for name, column in columns.items():
            if isinstance(column, TextColumn):
                self._copy_text(name, column, parts, relabel)
            else:
                _copy_values(name, column, parts)
        self._columns = columns
        self._lo, self._hi = 0, rows
        self._ordered = bool((self._time[1:rows] >= self._time[: max(0, rows - 1)]).all())

    def _copy_text(self, name: str, column: TextColumn, parts: Sequence[Snapshot], relabel: bool) -> None:
        if len(parts) == 1 and isinstance(old := parts[0]._columns.get(name), TextColumn):
            column.data[: len(parts[0])] = parts[0]._data[name]
            # Labels that no row uses any more would pile up for ever where each text is new.
            if not relabel and len(old.labels) <= max(4096, 2 * len(parts[0])):
                column.labels, column.code_of, column.label_bytes = old.labels, old.code_of, old.label_bytes
                column._index = old._index
                return
        lo = 0
        for part in parts:
            hi = lo + len(part)
            if name in part._columns:
                source = part._columns[name]
                if isinstance(source, TextColumn):
                    used, positions = np.unique(part._data[name], return_inverse=True)
                    codes = column.encode([source.labels[code] if code >= 0 else None for code in used])
                    column.data[lo:hi] = codes[positions]
                else:
                    column.data[lo:hi] = column.encode(texts_of(part._data[name]))
            lo = hi
        self._generation += 1


def _copy_values(name: str, column: NumberColumn | TimeColumn, parts: Sequence[Snapshot]) -> None:
    lo = 0
    for part in parts:
        hi = lo + len(part)
        source = part._columns.get(name)
        if type(source) is type(column):
            column.data[lo:hi] = part._data[name]
        if isinstance(column, NumberColumn):
            column.integral = column.integral and name in part._integral
        lo = hi


def _read_only(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    values.flags.writeable = False  # of this view alone; the window still writes behind it
    return values
