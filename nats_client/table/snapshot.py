"""An immutable view of a window at one version."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import ColumnError, one_of
from .columns import Part, TokenPart
from .iso_times import IsoTimes
from .values import NO_ROW, Codes, Floats, Ints, Kind


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A window at one version. Immutable; any thread may read it for any length of time.

    Rows have ordinals: row i of an array that starts at `first` has the ordinal first + i. Ordinals only grow
    within a generation, so a reader that remembers `end` finds new rows without a search.
    """

    version: int
    """Grows with every change of the window."""
    generation: int
    """Changes when earlier ordinals or codes become invalid. Incremental readers then start over."""
    first: int
    """Ordinal of the oldest row."""
    seq: Ints = field(repr=False)
    received: Ints = field(repr=False)
    time: Ints = field(repr=False)
    ordered: bool
    """True if `time` ascends. Rows with an event time may arrive late."""
    _columns: dict[str, Part] = field(repr=False)
    truths: frozenset[str] = frozenset()
    """Number columns that have only true (1) and false (0)."""

    @property
    def end(self) -> int:
        """One past the ordinal of the newest row."""
        return self.first + len(self.seq)

    def __len__(self) -> int:
        return len(self.seq)

    @property
    def columns(self) -> dict[str, Kind]:
        """Column name to kind, "number", "text" or "time": `_subject`, its named tokens, then the payload's
        columns in order of appearance."""
        return {name: column.kind for name, column in self._columns.items()}

    def times(self, start: int | None = None) -> Ints:
        """`_time` of the rows with an ordinal of at least `start` (default: all), ns since the epoch, UTC."""
        return self.time[self._offset(start) :]

    def numbers(self, name: str, start: int | None = None) -> Floats:
        """A number column as float64, NaN if missing. A text column is accepted if some of its texts are
        numbers, or on, off, true or false (1 and 0). Its other texts are then missing. Raises ColumnError,
        naming the existing columns."""
        rows = slice(self._offset(start), None)
        if self.kind_of(name) == "text" and (found := self._columns[name].as_numbers(rows)) is not None:
            return found
        return self._typed(name, "number", rows)

    def drawable(self) -> list[str]:
        """Names of the columns that a chart can draw: number columns, and text columns in which more than
        half of the distinct texts can be read as numbers."""
        return [name for name, part in self._columns.items() if name != "_subject" and _is_drawable(part)]

    def codes(self, name: str, start: int | None = None) -> tuple[Codes, list[str]]:
        """A text column as int32 codes (-1 = missing) and its labels. Within a generation, the list of labels
        only grows at its end; do not change it. Raises ColumnError, naming the existing columns."""
        data = self._typed(name, "text", slice(self._offset(start), None))
        return data, self._columns[name].labels.texts

    def integers(self, name: str, start: int | None = None) -> Any:
        """A number column as exact integers (int64, uint64, or a nullable Int64 or UInt64), if float64 cannot
        hold some of them. None if it can, or if no 64-bit integer type can hold all of them. Raises
        ColumnError."""
        return self._column(name).exact(slice(self._offset(start), None))

    def iso_times(self, name: str, start: int | None = None) -> IsoTimes:
        """A time column as an array of ISO_TIME. Raises ColumnError, naming the existing columns."""
        return self._typed(name, "time", slice(self._offset(start), None))

    def since(self, received: int) -> "Snapshot":
        """The rows that the server stored at or after `received` (ns since the epoch, UTC)."""
        cut = int(np.searchsorted(self.received, received))
        return self._part(slice(cut, None), self.first + cut) if cut else self

    def between(self, start: int, end: int) -> "Snapshot":
        """The rows with ordinals from `start` to before `end`, as far as the snapshot has them."""
        first, last = max(start, self.first), min(end, self.end)
        return self._part(slice(first - self.first, max(first, last) - self.first), first)

    def received_as(self, name: str, start: int | None = None) -> Part:
        """The rows of a column with an ordinal of at least `start` (default: all), as a Part. Its types() and
        value() are as received: a number column may have texts among its values. Raises ColumnError."""
        return self._column(name).cut(slice(self._offset(start), None))

    def value(self, name: str, ordinal: int) -> float | int:
        """The value of a number column in the row with this ordinal; an exact integer if float64 cannot hold
        it. Raises ColumnError, naming the existing columns."""
        exact = self.between(ordinal, ordinal + 1).integers(name)
        return float(self.numbers(name, ordinal)[0]) if exact is None else int(exact[0])

    def where(self, kept: npt.NDArray[np.bool_] | Ints) -> "Snapshot":
        """Copies of the rows for which `kept` is true, or of the rows at the indices `kept`. Their ordinals
        are no longer valid."""
        return self._part(kept, self.first)

    def named(self, names: Sequence[str]) -> "Snapshot":
        """The same rows with tokens of the subject as text columns. `names` has one entry per token, empty
        for a token without a name, as in subjects.Pattern. A payload field with such a name becomes
        `payload{name}`."""
        if not any(names):
            return self
        subjects = self._columns["_subject"]
        columns, truths = {"_subject": subjects}, set[str]()
        for place, name in enumerate(names):
            if name:
                tokens = subjects.labels.tokens(place, place == len(names) - 1)
                columns[name] = TokenPart(subjects.column, subjects.data, "text", tokens=tokens)
        for name, part in self._columns.items():
            if name == "_subject":
                continue
            own = name
            while own in columns or own in names or (own != name and own in self._columns):
                own = f"payload{own}"
            columns[own] = part
            if name in self.truths:
                truths.add(own)
        return replace(self, _columns=columns, truths=frozenset(truths))

    def integral(self, name: str) -> bool:
        """True if all values of a number column are integers, and none is missing. Raises ColumnError."""
        return self._column(name).integral

    def at(self, first: int, generation: int) -> "Snapshot":
        """The same rows, with ordinals from `first` on in `generation`."""
        return replace(self, first=first, generation=generation)

    def kept_since(self, oldest: int) -> "Snapshot":
        """The same rows, with `_time` as their storage time, or `oldest` (ns since the epoch, UTC) if that is
        later."""
        return replace(self, received=np.maximum(self.time, oldest))

    def begins(self, name: str, start: int | None = None) -> int | None:
        """The ordinal of the first row, from `start` on (default: all), with a value in column `name`; None
        if there is none. Raises ColumnError, naming the existing columns."""
        column, at, step = self._column(name), self._offset(start), _CHUNK
        while at < len(self):
            found = np.flatnonzero(column.present(slice(at, at + step)))
            if len(found):
                return self.first + at + int(found[0])
            at += step
            step *= 4  # most columns begin at the start
        return None

    def without(self, names: Collection[str], version: int) -> "Snapshot":
        """The same rows without these columns, as `version` of another window."""
        kept = {name: part for name, part in self._columns.items() if name not in names}
        return replace(self, version=version, _columns=kept)

    def starts_as(self, other: "Snapshot", start: int, count: int) -> bool:
        """True if the first `count` rows are those of `other` from index `start` on. Both must have the same
        columns, with the same labels."""
        mine, theirs = slice(0, count), slice(start, start + count)
        if not np.array_equal(self.time[mine], other.time[theirs]):
            return False
        for name, part in self._columns.items():
            held, before = part.values(mine), other._columns[name].values(theirs)
            if part.column.labels is not other._columns[name].column.labels:
                return False
            # Bit for bit: a NaN equals itself.
            if held.tobytes() != before.tobytes():
                return False
        return True

    def _part(self, rows: "slice | npt.NDArray[np.bool_] | Ints", first: int) -> "Snapshot":
        return Snapshot(
            self.version,
            self.generation,
            first,
            self.seq[rows],
            self.received[rows],
            self.time[rows],
            self.ordered,
            {name: part.cut(rows) for name, part in self._columns.items()},
            self.truths,
        )

    def frame(self, columns: Sequence[str] | None = None, *, last: int | None = None) -> pd.DataFrame:
        """The rows as a DataFrame, without copying them: read it, or `.copy()` it before changing it.

        Index `_time` (UTC, ascending); columns `_subject` (categorical), `_seq` (int64), the subject's named
        tokens (categorical) and the payload's columns, or only `columns` of these. A payload column is
        float64; int64 if all values are integers (Int64 if some are missing and float64 cannot hold the
        others); datetime64[ns, UTC] if all are times in ISO 8601 with a UTC zone; categorical for other text.
        `last` keeps only that many of the newest rows by `_time`. Raises ColumnError, naming the existing
        columns.
        """
        names = list(columns) if columns is not None else self._shown()
        first = max(0, len(self) - last) if last is not None else 0
        order = self._by_time(first)
        part = slice(first, None) if order is None else order
        series: dict[str, Any] = {}
        for name in names:
            series[name] = self.seq[part] if name == "_seq" else self._column(name).pandas(part)
        index = pd.DatetimeIndex(self.time[part].view("datetime64[ns]"), name="_time").tz_localize("UTC")
        return pd.DataFrame(series, index=index, copy=False)

    def latest(self, name: str, by: str = "_subject") -> pd.Series:
        """The newest value by `_time` of column `name` per value of the text column `by`, sorted by `by`.

        Rows in which `name` is missing are skipped. Raises ColumnError, naming the existing columns.
        """
        codes, labels = self.codes(by)
        column = self._column(name)
        order = self._by_time()
        newest = np.full(len(labels), -1, dtype=np.int64)
        end, step = len(codes), 4096
        # Read backwards in growing chunks: the newest value of most labels is near the end.
        while end > 0 and (newest < 0).any():
            start = max(0, end - step)
            these = slice(start, end) if order is None else order[start:end]
            part = codes[these]
            rows = np.flatnonzero((part >= 0) & column.present(these))
            fresh = np.full(len(labels), -1, dtype=np.int64)
            fresh[part[rows]] = rows + start
            newest = np.where(newest < 0, fresh, newest)
            end, step = start, step * 4
        held = newest >= 0
        if order is not None:
            newest[held] = order[newest[held]]
        return self.picked(name, by, np.where(held, newest + self.first, NO_ROW))

    def picked(self, name: str, by: str, ordinals: Ints) -> pd.Series:
        """The values of column `name` in the rows with these ordinals, one per label of the text column `by`,
        sorted by label. Labels whose row is gone are left out."""
        labels = self.codes(by)[1]
        found = np.flatnonzero(ordinals >= self.first)
        picked = self._column(name).picked(ordinals[found] - self.first)
        index = pd.Index([labels[code] for code in found], name=by, dtype="str")
        return pd.Series(picked, index=index, name=name).sort_index()

    def present(self, name: str, start: int | None = None) -> npt.NDArray[np.bool_]:
        """A bool array: which rows with an ordinal of at least `start` (default: all) have a value in column
        `name`. Raises ColumnError, naming the existing columns."""
        return self._column(name).present(slice(self._offset(start), None))

    def kind_of(self, name: str) -> Kind:
        """ "number", "text" or "time". Raises ColumnError, naming the existing columns."""
        return self._column(name).kind

    def _column(self, name: str) -> Part:
        if name not in self._columns:
            raise ColumnError(f"There is no column {name!r}. " + one_of(name, self._columns, what="column"))
        return self._columns[name]

    def _by_time(self, first: int = 0) -> Ints | None:
        """The row order by `_time` (stable), from index `first` on; None if the rows are already in that
        order."""
        if self.ordered:
            return None
        if not 0 < first < len(self):
            return np.argsort(self.time, kind="stable")[first:]
        # A million rows need not be sorted for the newest twenty.
        late = np.flatnonzero(self.time >= np.partition(self.time, first)[first])
        return late[np.argsort(self.time[late], kind="stable")][len(late) - (len(self) - first) :]

    def _shown(self) -> list[str]:
        """The columns of frame() by default. A result of SQL without subjects has no sequences either."""
        return ["_subject", "_seq", *self._payload()] if "_subject" in self._columns else self._payload()

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
        return self._columns[name].values(rows)


def _is_drawable(part: Part) -> bool:
    if part.kind != "text":
        return part.kind == "number"
    known = part.labels.numbers()[:-1]
    return bool(np.count_nonzero(~np.isnan(known)) * 2 > len(known))


_CHUNK = 4096


class Oldest:
    """The earliest `_time` of a window whose rows are not in that order. It caches the minimum of each _CHUNK
    rows, so the cost hardly grows with the window."""

    def __init__(self) -> None:
        self._generation: int | None = None
        self._chunks = np.zeros(0, dtype=np.int64)
        self._from = 0  # index of the first cached chunk

    def of(self, snapshot: Snapshot) -> int:
        """The earliest `_time` in ns since the epoch, UTC. The snapshot must not be empty."""
        time = snapshot.time
        if snapshot.ordered:
            return int(time[0])
        start, stop = -(-snapshot.first // _CHUNK), snapshot.end // _CHUNK  # complete chunks
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
