"""The rows of a feed, as columns that slide: append at the end, forget at the start.

Each column is one numpy array with room behind the last row. Appending writes behind what readers
hold, forgetting moves the start, and only when the room is used up are the rows copied to new arrays.
So a snapshot is a few slices, stays valid for as long as somebody holds it, and never costs a copy.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import ColumnError, one_of
from .columns import (
    INTEGER,
    NONE,
    NUMBER,
    NUMERIC,
    TEXT,
    Batch,
    Coded,
    Codes,
    Column,
    Floats,
    Ints,
    Kind,
    Labels,
    Mixed,
    MixedColumn,
    NumberColumn,
    TextColumn,
    TimeColumn,
    Tokens,
    Values,
    digits,
    is_null,
    number_in,
    texts_of,
    there,
    utc,
)
from .iso_times import MISSING, STAMP, Stamps, read_stamps, stamp_texts

MAX_COLUMNS = 256
"""Payload columns per window; further fields are counted, not kept: keys that change from message to
message must not eat the memory."""

MOST_SURPLUS = 1000
"""Names of further fields that are counted."""

_ROOM = 1.5
"""Capacity after a copy, as a multiple of the rows held: two rows copied for each row appended."""


_EXTRA = 4096
"""Rows of unused room that are not worth giving back."""


class Face(NamedTuple):
    """A column as it was when a snapshot was taken."""

    kind: Kind
    column: Column
    integral: bool = False
    tokens: Tokens | None = None
    """Of the token of a subject: it has no data of its own."""

    @property
    def labels(self) -> Labels:
        """Of a text column."""
        if self.tokens is not None:
            return self.tokens.labels
        assert isinstance(self.column, TextColumn | MixedColumn)
        return self.column.labels


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
    _columns: dict[str, Face] = field(repr=False)
    _mixed: dict[str, tuple[Floats, Codes, npt.NDArray[np.uint8]]] = field(repr=False)
    """Numbers, codes and marks of the mixed columns."""

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
        return self._typed(name, "number", slice(self._offset(start), None))

    def codes(self, name: str, start: int | None = None) -> tuple[Codes, list[str]]:
        """A text column as int32 codes (-1 = missing) and its labels, a list that only ever grows at its
        end within a generation; do not change it. Raises ColumnError, naming what exists."""
        data = self._typed(name, "text", slice(self._offset(start), None))
        return data, self._columns[name].labels.texts

    def integers(self, name: str, start: int | None = None) -> Any:
        """A numeric column as whole numbers to the last digit (int64, uint64 or Int64), where float64 cannot
        hold some of them; None where it can, or where other numbers stand among them. Raises ColumnError."""
        self.kind_of(name)
        return self._exact(name, slice(self._offset(start), None))

    def stamps(self, name: str, start: int | None = None) -> Stamps:
        """A column of times as an array of STAMP. Raises ColumnError, naming what exists."""
        return self._typed(name, "time", slice(self._offset(start), None))

    def since(self, received: int) -> "Snapshot":
        """The rows that the server stored at or after `received` (ns since the epoch, UTC)."""
        cut = int(np.searchsorted(self.received, received))
        return self._part(slice(cut, None), self.first + cut) if cut else self

    def where(self, kept: npt.NDArray[np.bool_]) -> "Snapshot":
        """The rows for which `kept` is true, as copies; their ordinals mean nothing any more."""
        return self._part(kept, self.first)

    def named(self, names: Sequence[str]) -> "Snapshot":
        """The same rows with tokens of the subject as text columns, called by `names`: one for each token,
        empty where it has none, as in subjects.Pattern. A payload field of such a name becomes
        `payload{name}`."""
        if not any(names):
            return self
        subjects = self._columns["_subject"]
        columns = {"_subject": subjects}
        for place, name in enumerate(names):
            if name:
                tokens = subjects.labels.tokens(place, place == len(names) - 1)
                columns[name] = Face("text", subjects.column, tokens=tokens)
        data, mixed = {"_subject": self._data["_subject"]}, {}
        for name, face in self._columns.items():
            if name == "_subject":
                continue
            own = name
            while own in columns or own in names or (own != name and own in self._columns):
                own = f"payload{own}"
            columns[own], data[own] = face, self._data[name]
            if name in self._mixed:
                mixed[own] = self._mixed[name]
        return replace(self, _data=data, _columns=columns, _mixed=mixed)

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
            {name: (n[rows], c[rows], m[rows]) for name, (n, c, m) in self._mixed.items()},
        )

    def frame(self, columns: Sequence[str] | None = None, *, last: int | None = None) -> pd.DataFrame:
        """The rows as a DataFrame, without copying them: read it, or `.copy()` it before changing it.

        Index `_time` (UTC, ascending); columns `_subject` (categorical), `_seq` (int64), the subject's named
        tokens (categorical) and the payload's own, or just `columns` of these: float64, int64 where all
        values are integers (Int64 where some are missing and float64 could not hold the others),
        datetime64[ns, UTC] where all are times in ISO 8601 that name UTC, categorical for other text. `last`
        keeps only that many of the newest rows by `_time`. Raises ColumnError, naming what exists.
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
        kind, data = self.kind_of(name), self._values(name, slice(None))
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
        kind, rows = self.kind_of(name), ordinals[found] - self.first
        latest: Any = self._values(name, rows)
        if kind == "text":
            latest = np.asarray(self._columns[name].labels.texts, dtype=object)[latest]
        elif kind == "time":
            latest = utc(latest)
        elif (exact := self._exact(name, rows)) is not None:
            latest = exact
        index = pd.Index([labels[code] for code in found], name=by, dtype="str")
        return pd.Series(latest, index=index, name=name).sort_index()

    def present(self, name: str, start: int | None = None) -> npt.NDArray[np.bool_]:
        """Which rows with an ordinal of at least `start` have a value in column `name`. Raises ColumnError,
        naming what exists."""
        return there(self.kind_of(name), self._values(name, slice(self._offset(start), None)))

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

    def _typed(self, name: str, kind: Kind, rows: slice) -> npt.NDArray[Any]:
        if (found := self.kind_of(name)) != kind:
            fitting = [other for other, column in self._columns.items() if column.kind == kind]
            raise ColumnError(
                f"The column {name!r} holds {found}s, not {kind}s. "
                + one_of(name, fitting, what=f"{kind} column")
            )
        return self._values(name, rows)

    def _values(self, name: str, rows: "slice | Ints | npt.NDArray[np.bool_]") -> npt.NDArray[Any]:
        tokens = self._columns[name].tokens
        return self._data[name][rows] if tokens is None else tokens.of(self._data["_subject"][rows])

    def _pandas(self, name: str, part: "slice | Ints") -> Any:
        kind, values = self.kind_of(name), self._values(name, part)
        face = self._columns[name]
        if kind == "text":
            return pd.Categorical.from_codes(values, face.labels.index(), validate=False)
        if kind == "time":
            return utc(values).array
        exact = self._exact(name, part)
        if exact is not None:
            return exact
        return values.astype(np.int64) if face.integral and name not in self._mixed else values

    def _raw(self, name: str) -> Values:
        """A column as a batch has it."""
        face = self._columns[name]
        if name in self._mixed:
            numbers, codes, marks = self._mixed[name]
            labels = face.labels.texts
            bare = (codes < 0) | (marks == NUMBER)
            texts = [
                None if no else labels[code] for no, code in zip(bare.tolist(), codes.tolist(), strict=True)
            ]
            # A text that is a number is read as one again.
            return Mixed(np.where((marks == NUMERIC), np.nan, numbers), texts)
        if face.kind != "text":
            return self._data[name]
        used, place = np.unique(self._data[name], return_inverse=True)
        labels = face.labels.texts
        first = int(used[0] < 0) if len(used) else 0
        return Coded((place - first).astype(np.int32), [labels[code] for code in used[first:].tolist()])

    def _exact(self, name: str, rows: "slice | Ints") -> Any:
        """The integers of these rows, where there are some that float64 cannot hold; None where there are
        none, and where other numbers stand among them."""
        if name not in self._mixed:
            return None
        numbers, codes, marks = (values[rows] for values in self._mixed[name])
        large = np.flatnonzero(marks == INTEGER)
        missing = np.isnan(numbers)
        if not len(large) or not (missing | (numbers == np.floor(numbers))).all():
            return None
        labels = self._columns[name].labels.texts
        whole = {code: digits(labels[code]) for code in np.unique(codes[large]).tolist()}
        written = [value for value in whole.values() if value is not None]
        if len(written) < len(whole):
            return None
        signed = min(written) >= -(2**63) and max(written) < 2**63
        if not signed and (min(written) < 0 or max(written) >= 2**64 or (numbers < 0).any()):
            return None
        dtype: Any = np.int64 if signed else np.uint64
        held = np.where(missing, 0.0, numbers)
        held[large] = 0.0
        if (np.abs(held) >= 2.0**63).any():
            return None
        values = held.astype(dtype)
        values[large] = np.array([whole[code] for code in codes[large].tolist()], dtype=dtype)
        return pd.arrays.IntegerArray(values, missing.copy()) if missing.any() else values


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
    either the oldest rows go, and `dropped` counts them.
    """

    def __init__(self, *, max_rows: int = 2_500_000, max_bytes: int = 512 * 1024 * 1024) -> None:
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self.dropped = 0
        """Rows that a ceiling pushed out before their time."""
        self.dropped_until = 0
        """When the server had stored the newest row pushed out so, ns since the epoch, UTC."""
        self.surplus_fields: set[str] = set()
        """Up to 1,000 names of payload fields beyond MAX_COLUMNS, which are not kept."""
        self._not_finite = 0
        self._mistyped = 0
        self._nbytes = 0
        self._expected = 0
        self._looked = -1
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
        """Bytes of the arrays and labels, the room for further rows included, as at the last change."""
        return self._nbytes

    @property
    def mistyped(self) -> int:
        """Values in columns of numbers that are not finite numbers; they count as missing. Those that were
        NaN or an infinity are counted since the window began, others while their rows are there."""
        return self._not_finite + self._mistyped

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
            self._expected = expected
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
            subject.data[lo:hi] = subject.labels.encode(batch.subject)
            self._not_finite += batch.not_finite
            last = self._first + hi - self._lo - 1
            for name, values in batch.values.items():
                self._write(name, values, slice(lo, hi), integral=name in batch.integral, last=last)
            for name, column in self._columns.items():
                if name not in batch.values and isinstance(column, NumberColumn | MixedColumn):
                    column.fraction = last
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
            if older.dropped:
                self.dropped += older.dropped
                self.dropped_until = max(self.dropped_until, older.dropped_until)
            self._not_finite += older._not_finite
            if len(self.surplus_fields) < MOST_SURPLUS:
                self.surplus_fields |= older.surplus_fields
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
        """Forget all rows and columns, and give their memory back: the stream they came from is another one
        now, or nobody reads them any more."""
        with self._lock:
            self._first += len(self)
            self._start()
            self._generation += 1
            self._changed()

    def shrink(self, max_bytes: int) -> None:
        """Keep within `max_bytes` from now on; of what is above it the oldest rows go, and their memory."""
        with self._lock:
            self.max_bytes = max_bytes
            if self._nbytes > max_bytes:
                self._expected = 0
                self._enforce_ceiling()
                self._rebuild([self._take()])
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
            {name: _read_only(_shown(column)[part]) for name, column in self._columns.items()},
            {
                name: Face(column.kind, column, self._integral(column))
                for name, column in self._columns.items()
            },
            {
                name: (_read_only(c.data[part]), _read_only(c.codes[part]), _read_only(c.marks[part]))
                for name, c in self._columns.items()
                if isinstance(c, MixedColumn)
            },
        )

    def _start(self) -> None:
        """Begin with nothing."""
        self._lo = self._hi = 0
        self._ordered = True
        self._expected = 0
        self._capacity = 1024
        self._seq = np.zeros(self._capacity, dtype=np.int64)
        self._received = np.zeros(self._capacity, dtype=np.int64)
        self._time = np.zeros(self._capacity, dtype=np.int64)
        self._columns: dict[str, Column] = {"_subject": TextColumn(self._capacity)}
        self._nbytes = self._row_bytes() * self._capacity

    def _integral(self, column: Column) -> bool:
        if isinstance(column, MixedColumn) and column.counts[TEXT]:
            return False
        return isinstance(column, NumberColumn | MixedColumn) and column.fraction < self._first

    def _remove(self, gone: npt.NDArray[np.bool_]) -> Removed:
        mine = self._take()
        removed = _removed(mine.seq[gone], mine.received[gone])
        # Rows get other ordinals: what was worked out from the old ones starts over.
        self._rebuild([mine.where(~gone)])
        self._generation += 1
        self._changed()
        return removed

    def _changed(self) -> None:
        self._settle_kinds()
        if not self._expected and self._capacity > _EXTRA and len(self) * 4 < self._capacity:
            self._rebuild([self._take()])  # a burst is over: what it needed is given back
        self._nbytes = self._row_bytes() * self._capacity + self._label_bytes()
        self._version += 1
        self._snapshot = None

    def _settle_kinds(self) -> None:
        """Have each column be what its values are."""
        mistyped = 0
        for name, column in list(self._columns.items()):
            if isinstance(column, MixedColumn):
                kind = column.mostly
                texts = column.counts[TEXT] + column.counts[NUMERIC]
                if not texts and not column.counts[INTEGER]:
                    plain = NumberColumn(0)
                    plain.data, plain.fraction = column.data, column.fraction
                    self._columns[name] = plain
                elif texts and texts == column.counts[1:].sum():
                    self._columns[name] = _text_column(column.codes, column.labels, self._last())
                elif kind == "text" and column.kind != "text":
                    column.spell(slice(self._lo, self._hi))
                if kind != column.kind and (texts or column.counts.sum()):
                    column.kind = kind
                    self._generation += 1
                if kind == "number":
                    mistyped += int(column.counts[TEXT])
            elif isinstance(column, TextColumn) and column.wordy < self._first <= column.stamped:
                self._as_times(name, column)
        self._mistyped = mistyped

    def _last(self) -> int:
        """Ordinal of the newest row."""
        return self._first + len(self) - 1

    def _as_times(self, name: str, texts: TextColumn) -> None:
        """What is a column of times again, since the row with another text has left."""
        used, place = np.unique(texts.data[self._lo : self._hi], return_inverse=True)
        held = used >= 0
        stamps = (
            read_stamps([texts.labels.texts[code] for code in used[held].tolist()]) if held.any() else None
        )
        if stamps is None:
            texts.wordy = self._last()
            return
        known = np.full(len(used), MISSING)
        known[held] = stamps
        column = TimeColumn(self._capacity)
        column.data[self._lo : self._hi] = known[place]
        self._columns[name] = column
        self._generation += 1

    def _forget(self, count: int) -> None:
        for column in self._columns.values():
            if isinstance(column, MixedColumn):
                column.count(slice(self._lo, self._lo + count), -1)
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
        mixed = sum(isinstance(column, MixedColumn) for column in self._columns.values())
        return 24 + 5 * mixed + sum(column.data.itemsize for column in self._columns.values())

    def _label_bytes(self) -> int:
        columns = self._columns.values()
        return sum(c.labels.nbytes for c in columns if isinstance(c, TextColumn | MixedColumn))

    def _write(
        self, name: str, values: Values, rows: slice, *, integral: bool, last: int, held: slice | None = None
    ) -> None:
        """Put `values` into the column `name`, which becomes one that can hold them; `last` is the ordinal of
        the last of these rows, and `held` are those that stand in the arrays already."""
        held = held or slice(self._lo, self._hi)
        column = self._columns.get(name)
        empty = _is_floats(values) and bool(np.isnan(cast(Floats, values)).all())
        if column is None:
            if empty and is_null(cast(Floats, values)).all():
                return
            if len(self._columns) > MAX_COLUMNS and not self._let_go(rows.stop):
                if len(self.surplus_fields) < MOST_SURPLUS:
                    self.surplus_fields.add(name)
                return
            column = _column_for(values)(self._capacity)
            if isinstance(column, NumberColumn | MixedColumn) and held.stop > held.start:
                column.fraction = last - (rows.stop - rows.start)
        if empty and not isinstance(column, NumberColumn | MixedColumn):
            return
        column = self._columns[name] = self._widened(column, values, held, last)
        if isinstance(column, NumberColumn | MixedColumn) and not integral:
            column.fraction = last
        if isinstance(column, MixedColumn):
            column.write(rows, _mixed(values))
            column.count(rows)
        elif isinstance(column, TextColumn):
            stamped = isinstance(values, np.ndarray)
            texts = values if isinstance(values, Coded) else texts_of(values)
            column.data[rows] = column.labels.encode(texts)
            if stamped:
                column.stamped = last
            else:
                column.wordy = last
        else:
            column.data[rows] = values

    def _let_go(self, stop: int) -> bool:
        """Give up the columns of which no row before the place `stop` has a value any more; whether there was
        one. Looked for once at each change."""
        if self._looked == self._version:
            return False
        self._looked = self._version
        part = slice(self._lo, stop)
        idle = [
            name
            for name, column in self._columns.items()
            if name != "_subject" and not there(column.kind, _shown(column)[part]).any()
        ]
        for name in idle:
            del self._columns[name]
        return bool(idle)

    def _widened(self, column: Column, values: Values, held: slice, last: int) -> Column:
        """`column`, or what takes its place where it cannot hold `values`."""
        stamps = isinstance(values, np.ndarray) and values.dtype == STAMP
        numbers = _is_floats(values) or isinstance(values, Mixed)
        if isinstance(column, TimeColumn):
            if stamps:
                return column
            texts = TextColumn(self._capacity)
            texts.data[held] = texts.labels.encode(stamp_texts(column.data[held]))
            texts.stamped = last
            self._generation += 1
            column = texts
        same = numbers == isinstance(column, NumberColumn) and not (numbers and isinstance(values, Mixed))
        if same or isinstance(column, MixedColumn):
            return column
        mixed = MixedColumn(self._capacity)
        if isinstance(column, NumberColumn):
            mixed.data, mixed.fraction = column.data, column.fraction
            mixed.marks[held] = ~np.isnan(column.data[held])
        else:
            mixed.codes, mixed.labels, mixed.kind, mixed.fraction = (
                column.data,
                column.labels,
                "text",
                self._first + held.stop - held.start - 1,
            )
            used = np.unique(column.data[held])
            marks, known = np.full(len(used), TEXT, dtype=np.uint8), np.full(len(used), np.nan)
            for i, code in enumerate(used.tolist()):
                if code < 0:
                    marks[i] = NONE
                elif (number := number_in(column.labels.texts[code])) is not None:
                    marks[i], known[i] = NUMERIC, number
            place = np.searchsorted(used, column.data[held])
            mixed.marks[held], mixed.data[held] = marks[place], known[place]
        mixed.count(held)
        return mixed

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
        lo = 0
        for part in parts:
            hi = lo + len(part)
            self._seq[lo:hi], self._received[lo:hi], self._time[lo:hi] = part.seq, part.received, part.time
            lo = hi
        names = list(dict.fromkeys(name for part in parts for name in part._columns))
        self._columns = {}
        self._lo, self._hi = 0, rows
        for name in names:
            faces = [part._columns[name] for part in parts if name in part._columns]
            if len(parts) == 1 and not relabel and self._copied(name, faces[0].column, parts[0]):
                continue
            if name == "_subject":
                self._columns[name] = TextColumn(self._capacity)
            lo = 0
            for part in parts:
                hi = lo + len(part)
                if name in part._columns and hi > lo:
                    integral, last = part._columns[name].integral, self._first + hi - 1
                    values = part._raw(name)
                    self._write(name, values, slice(lo, hi), integral=integral, last=last, held=slice(0, lo))
                elif isinstance(column := self._columns.get(name), NumberColumn | MixedColumn):
                    column.fraction = self._first + hi - 1
                lo = hi
            if any(isinstance(face.column, TextColumn | MixedColumn) for face in faces):
                self._generation += 1
        self._columns.setdefault("_subject", TextColumn(self._capacity))
        self._ordered = bool((self._time[1:rows] >= self._time[: max(0, rows - 1)]).all())

    def _copied(self, name: str, old: Column, part: Snapshot) -> bool:
        """Put a column into the new arrays as it is; False where its labels are to be made anew, since those
        that no row uses any more would pile up for ever where each text is new."""
        rows = slice(0, len(part))
        if isinstance(old, TextColumn | MixedColumn) and len(old.labels.texts) > max(4096, 2 * len(part)):
            return False
        new = type(old)(self._capacity)
        if isinstance(new, MixedColumn) and isinstance(old, MixedColumn):
            new.data[rows], new.codes[rows], new.marks[rows] = part._mixed[name]
            new.labels, new.kind, new.fraction = old.labels, old.kind, old.fraction
            new.count(rows)
        else:
            new.data[rows] = part._data[name]
        if isinstance(new, TextColumn) and isinstance(old, TextColumn):
            new.labels, new.wordy, new.stamped = old.labels, old.wordy, old.stamped
        if isinstance(new, NumberColumn) and isinstance(old, NumberColumn):
            new.fraction = old.fraction
        self._columns[name] = new
        return True


def _shown(column: Column) -> npt.NDArray[Any]:
    """The array that a column shows, as what it is now."""
    return column.codes if isinstance(column, MixedColumn) and column.kind == "text" else column.data


def _text_column(codes: Codes, labels: Labels, last: int) -> TextColumn:
    column = TextColumn(0)
    column.data, column.labels, column.wordy = codes, labels, last
    return column


def _is_floats(values: Values) -> bool:
    return isinstance(values, np.ndarray) and values.dtype != STAMP


def _column_for(values: Values) -> type[Column]:
    if isinstance(values, Mixed):
        return MixedColumn
    if not isinstance(values, np.ndarray):
        return TextColumn
    return TimeColumn if values.dtype == STAMP else NumberColumn


def _mixed(values: Values) -> Mixed:
    if isinstance(values, Mixed):
        return values
    if _is_floats(values):
        numbers = cast(Floats, values)
        return Mixed(numbers, [None] * len(numbers))
    texts = texts_of(values)
    return Mixed(np.full(len(texts), np.nan), texts)


def _read_only(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    values.flags.writeable = False  # of this view alone; the window still writes behind it
    return values
