"""The columns of a window: numbers, texts and times as numpy arrays, and what snapshots show of them.

A type of column is a class here: how it takes values, what it becomes in time, and, in its Part, what readers
get. The types are listed in mixed_column.py. No other file asks which type a column is of.
"""

from dataclasses import dataclass, replace
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from .iso_times import MISSING, STAMP, Stamps, read_stamps, stamp_texts
from .labels import Labels, Tokens
from .values import NO_ROW, Coded, Codes, Floats, Ints, Kind, Mixed, Truths, Values, utc

Rows = slice | Ints | Truths


@dataclass(eq=False, slots=True)
class Part:
    """The rows of a column that a snapshot holds, as they were when it was taken."""

    column: "Column"
    data: npt.NDArray[Any]
    kind: Kind
    integral: bool = False
    """Whether all numbers are integers."""

    @property
    def labels(self) -> Labels:
        """Of texts."""
        assert self.column.labels is not None
        return self.column.labels

    def cut(self, rows: Rows) -> Self:
        """These rows alone."""
        return type(self)(self.column, self.data[rows], self.kind, self.integral)

    def values(self, rows: Rows) -> npt.NDArray[Any]:
        """The array of these rows: float64, codes, or STAMP."""
        return self.data[rows]

    def present(self, rows: Rows) -> Truths:
        """Which of these rows have a value."""
        raise NotImplementedError

    def pandas(self, rows: Rows) -> Any:
        """These rows as a column of a DataFrame."""
        raise NotImplementedError

    def picked(self, rows: Rows) -> Any:
        """The values of these rows, one by one, as pandas has them."""
        return self.pandas(rows)

    def exact(self, rows: Rows) -> Any:
        """The integers of these rows, where there are some that float64 cannot hold; None where there are
        none, and where other numbers stand among them."""
        return None

    def raw(self) -> Values:
        """All rows, as a batch has them."""
        return self.data


@dataclass(eq=False, slots=True)
class NumberPart(Part):
    """Numbers."""

    def present(self, rows: Rows) -> Truths:
        """Which of these rows are not NaN."""
        return cast(Truths, ~np.isnan(self.data[rows]))

    def pandas(self, rows: Rows) -> Any:
        """Float64; int64 where all values are integers."""
        values = self.data[rows]
        return values.astype(np.int64) if self.integral else values

    def picked(self, rows: Rows) -> Any:
        """Float64."""
        return self.data[rows]


@dataclass(eq=False, slots=True)
class TextPart(Part):
    """Texts by code."""

    def present(self, rows: Rows) -> Truths:
        """Which of these rows have a text."""
        return self.values(rows) >= 0

    def pandas(self, rows: Rows) -> Any:
        """Categorical."""
        return pd.Categorical.from_codes(self.values(rows), self.labels.index(), validate=False)

    def picked(self, rows: Rows) -> Any:
        """The texts; no row may be without one."""
        return np.asarray(self.labels.texts, dtype=object)[self.values(rows)]

    def raw(self) -> Values:
        """With the labels that are in use."""
        used, place = np.unique(self.data, return_inverse=True)
        labels = self.labels.texts
        first = int(used[0] < 0) if len(used) else 0
        return Coded((place - first).astype(np.int32), [labels[code] for code in used[first:].tolist()])


@dataclass(eq=False, slots=True)
class TokenPart(TextPart):
    """One token of the subjects, whose codes are the data; it has none of its own."""

    tokens: Tokens = None  # type: ignore[assignment]

    @property
    def labels(self) -> Labels:
        """Of the token."""
        return self.tokens.labels

    def cut(self, rows: Rows) -> Self:
        """These rows alone."""
        return replace(self, data=self.data[rows])

    def values(self, rows: Rows) -> npt.NDArray[Any]:
        """Codes of the token."""
        return self.tokens.of(self.data[rows])


@dataclass(eq=False, slots=True)
class TimePart(Part):
    """Times."""

    def present(self, rows: Rows) -> Truths:
        """Which of these rows have a time."""
        return cast(Truths, self.data[rows]["ns"] != MISSING["ns"])

    def pandas(self, rows: Rows) -> Any:
        """datetime64[ns, UTC]."""
        return utc(self.data[rows]).array

    def picked(self, rows: Rows) -> Any:
        """The same, as an index."""
        return utc(self.data[rows])


class Column:
    """An array with room behind the last row. Rows are places in it; `first` and `last` are the ordinals of
    the oldest and the newest row."""

    kind: Kind
    data: npt.NDArray[Any]
    labels: Labels | None = None
    """Of a column with texts."""
    keeps_nulls = False
    """Whether it tells an explicit null from a field that is not there."""

    def __init__(self, capacity: int) -> None:
        raise NotImplementedError

    @property
    def row_bytes(self) -> int:
        """Bytes of a row, without those of labels."""
        return self.data.itemsize

    @property
    def mistyped(self) -> int:
        """Texts that are missing, since this is a column of numbers."""
        return 0

    @staticmethod
    def takes(values: Values) -> bool:
        """Whether it can hold `values` as it is."""
        raise NotImplementedError

    def write(self, rows: slice, values: Values, *, integral: bool, last: int) -> None:
        """Put `values`, which it takes, into `rows`, the last of which has the ordinal `last`; `integral`
        where all of them are integers."""
        self.data[rows] = values

    def absent(self, last: int) -> None:
        """Note that rows up to the ordinal `last` have no such field."""

    def forget(self, rows: slice) -> None:
        """Note that `rows` leave."""

    def settled(self, held: slice, first: int, last: int) -> "tuple[Column, bool]":
        """What it is now that it has the rows `held`, and whether what was worked out of it starts over."""
        return self, False

    def as_texts(self, held: slice, last: int) -> "TextColumn":
        """A column of texts with the same rows."""
        texts = TextColumn(len(self.data))
        texts.data[held] = texts.labels.encode(texts_of(self.data[held]))
        texts.wordy = last
        return texts

    def part(self, rows: slice, first: int) -> Part:
        """What a snapshot holds of it."""
        raise NotImplementedError

    def moved(self, part: Part, capacity: int) -> "Column | None":
        """The same with the rows of `part` at the start of new arrays; None where its labels are to be made
        anew, since those that no row uses any more would pile up for ever where each text is new."""
        new = type(self)(capacity)
        new.data[: len(part.data)] = part.data
        return new

    def _is_worn(self, part: Part) -> bool:
        return self.labels is not None and len(self.labels.texts) > max(4096, 2 * len(part.data))


class NumberColumn(Column):
    """float64 values, NaN where a row has none, NULL where it says so."""

    kind: Kind = "number"
    keeps_nulls = True

    def __init__(self, capacity: int) -> None:
        self.data = np.full(capacity, np.nan)
        self.fraction = NO_ROW
        """Ordinal of the newest row that may be something else than an integer."""

    @staticmethod
    def takes(values: Values) -> bool:
        """Arrays of float64."""
        return is_floats(values)

    def write(self, rows: slice, values: Values, *, integral: bool, last: int) -> None:
        """As of a Column."""
        if not integral:
            self.fraction = last
        self.data[rows] = values

    def absent(self, last: int) -> None:
        """As of a Column."""
        self.fraction = last

    def part(self, rows: slice, first: int) -> Part:
        """As of a Column."""
        return NumberPart(self, read_only(self.data[rows]), "number", self.fraction < first)

    def moved(self, part: Part, capacity: int) -> "Column | None":
        """As of a Column."""
        new = NumberColumn(capacity)
        new.data[: len(part.data)] = part.data
        new.fraction = self.fraction
        return new


class TextColumn(Column):
    """Dictionary-encoded strings: int32 codes into `labels`, -1 where a row has none."""

    kind: Kind = "text"
    labels: Labels

    def __init__(self, capacity: int) -> None:
        self.data = np.full(capacity, -1, dtype=np.int32)
        self.labels = Labels()
        self.wordy = NO_ROW
        """Ordinal of the newest row that may be something else than a time in ISO 8601."""
        self.stamped = NO_ROW
        """Ordinal of the newest row that came as one."""

    @classmethod
    def of(cls, codes: Codes, labels: Labels, last: int) -> "TextColumn":
        """One with these arrays."""
        column = cls(0)
        column.data, column.labels, column.wordy = codes, labels, last
        return column

    @staticmethod
    def takes(values: Values) -> bool:
        """Texts, and what can be written as one."""
        return not is_floats(values) and not isinstance(values, Mixed)

    def write(self, rows: slice, values: Values, *, integral: bool, last: int) -> None:
        """As of a Column."""
        stamped = isinstance(values, np.ndarray)
        self.data[rows] = self.labels.encode(values if isinstance(values, Coded) else texts_of(values))
        if stamped:
            self.stamped = last
        else:
            self.wordy = last

    def settled(self, held: slice, first: int, last: int) -> tuple[Column, bool]:
        """A column of times again, where the last row with another text has left."""
        if not self.wordy < first <= self.stamped:
            return self, False
        used, place = np.unique(self.data[held], return_inverse=True)
        there = used >= 0
        texts = [self.labels.texts[code] for code in used[there].tolist()]
        stamps = read_stamps(texts) if texts else None
        if stamps is None:
            self.wordy = last
            return self, False
        known = np.full(len(used), MISSING)
        known[there] = stamps
        column = TimeColumn(len(self.data))
        column.data[held] = known[place]
        return column, True

    def part(self, rows: slice, first: int) -> Part:
        """As of a Column."""
        return TextPart(self, read_only(self.data[rows]), "text")

    def moved(self, part: Part, capacity: int) -> Column | None:
        """As of a Column."""
        if self._is_worn(part):
            return None
        new = TextColumn(capacity)
        new.data[: len(part.data)] = part.data
        new.labels, new.wordy, new.stamped = self.labels, self.wordy, self.stamped
        return new


class TimeColumn(Column):
    """Times in ISO 8601, as STAMP, MISSING where a row has none."""

    kind: Kind = "time"

    def __init__(self, capacity: int) -> None:
        self.data = np.full(capacity, MISSING)

    @staticmethod
    def takes(values: Values) -> bool:
        """Arrays of STAMP."""
        return isinstance(values, np.ndarray) and values.dtype == STAMP

    def as_texts(self, held: slice, last: int) -> TextColumn:
        """A column of texts with the same rows, which came as times."""
        texts = super().as_texts(held, last)
        texts.stamped, texts.wordy = last, NO_ROW
        return texts

    def part(self, rows: slice, first: int) -> Part:
        """As of a Column."""
        return TimePart(self, read_only(self.data[rows]), "time")


def is_floats(values: Values) -> bool:
    """Whether a batch has an array of numbers."""
    return isinstance(values, np.ndarray) and values.dtype.kind in "fiub"


def all_missing(values: Values) -> bool:
    """Whether a batch has an array of float64 with nothing in it."""
    return is_floats(values) and bool(np.isnan(cast(Floats, values)).all())


def texts_of(values: "Values") -> Any:
    """Texts or times as the texts that a column of texts holds of them."""
    if isinstance(values, Coded):
        return values.texts()
    return stamp_texts(cast(Stamps, values)) if isinstance(values, np.ndarray) else values


def read_only(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """`values`, which must be a view: the column goes on writing behind it."""
    values.flags.writeable = False
    return values
