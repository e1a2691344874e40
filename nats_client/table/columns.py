"""The columns of a window: numbers, texts and times as numpy arrays, and their parts in snapshots.

Each column type is a class: how it stores values and when it turns into another type. Its Part is what
readers get. mixed_column.py lists the types. No other file checks the type of a column.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from .iso_times import ISO_TIME, MISSING, IsoTimes, iso_texts, parse_iso_times
from .labels import Labels, Tokens
from .values import (
    IS_NUMBER,
    IS_TEXT,
    IS_TIME,
    NO_ROW,
    NO_VALUE,
    Coded,
    Codes,
    Floats,
    Ints,
    Kind,
    Mixed,
    Truths,
    Values,
    number_keys,
    text_keys,
    utc,
)

Rows = slice | Ints | Truths


@dataclass(eq=False, slots=True)
class Part(ABC):
    """A snapshot's rows of one column. Immutable."""

    column: "Column"
    data: npt.NDArray[Any]
    kind: Kind
    integral: bool = False
    """True if all numbers are integers."""

    @property
    def labels(self) -> Labels:
        """The labels of a text column."""
        assert self.column.labels is not None
        return self.column.labels

    def cut(self, rows: Rows) -> Self:
        """Only these rows."""
        return type(self)(self.column, self.data[rows], self.kind, self.integral)

    def values(self, rows: Rows) -> npt.NDArray[Any]:
        """The array of these rows: float64, int32 codes, or ISO_TIME."""
        return self.data[rows]

    @abstractmethod
    def present(self, rows: Rows) -> Truths:
        """Which of these rows have a value."""

    @abstractmethod
    def pandas(self, rows: Rows) -> Any:
        """These rows as a column of a DataFrame."""

    def picked(self, rows: Rows) -> Any:
        """The values of these rows, for a pandas Series."""
        return self.pandas(rows)

    def exact(self, rows: Rows) -> Any:
        """The integers of these rows, if float64 cannot hold some of them. None if it can, or if no 64-bit
        integer type can hold all of them."""
        return None

    def as_numbers(self, rows: Rows) -> Floats | None:
        """These rows as float64, if they are numbers or some of them can be read as numbers."""
        return None

    def raw(self) -> Values:
        """All rows, in the form of a batch's values."""
        return self.data

    @abstractmethod
    def types(self) -> npt.NDArray[np.uint8]:
        """The type of each row's value as it was received: NO_VALUE, IS_NUMBER, IS_TEXT or IS_TIME."""

    @abstractmethod
    def keys(self) -> Ints:
        """An integer for each row, equal for equal values. Keys of rows without a value are undefined."""

    @abstractmethod
    def value(self, row: int) -> float | int | str:
        """The value of one row as it was received. The row must have a value."""


@dataclass(eq=False, slots=True)
class NumberPart(Part):
    """Numbers."""

    def types(self) -> npt.NDArray[np.uint8]:
        """See Part."""
        return np.where(np.isnan(self.data), NO_VALUE, IS_NUMBER).astype(np.uint8)

    def keys(self) -> Ints:
        """See Part."""
        return number_keys(self.data)

    def value(self, row: int) -> float | int | str:
        """See Part."""
        return float(self.data[row])

    def present(self, rows: Rows) -> Truths:
        """Which of these rows are not NaN."""
        return cast(Truths, ~np.isnan(self.data[rows]))

    def as_numbers(self, rows: Rows) -> Floats | None:
        """The values."""
        return cast(Floats, self.data[rows])

    def pandas(self, rows: Rows) -> Any:
        """float64; int64 if all values are integers."""
        values = self.data[rows]
        return values.astype(np.int64) if self.integral else values

    def picked(self, rows: Rows) -> Any:
        """float64."""
        return self.data[rows]


@dataclass(eq=False, slots=True)
class TextPart(Part):
    """Texts as codes."""

    def types(self) -> npt.NDArray[np.uint8]:
        """See Part."""
        codes = self.values(slice(None))
        found = np.where(self.labels.times()[codes], IS_TIME, IS_TEXT).astype(np.uint8)
        found[codes < 0] = NO_VALUE
        return found

    def keys(self) -> Ints:
        """See Part."""
        return text_keys(self.values(slice(None)))

    def value(self, row: int) -> float | int | str:
        """See Part."""
        text: str = self.labels.texts[self.values(slice(row, row + 1))[0]]
        return text

    def present(self, rows: Rows) -> Truths:
        """Which of these rows have a text."""
        return self.values(rows) >= 0

    def as_numbers(self, rows: Rows) -> Floats | None:
        """Texts such as "21.5" or "on" as numbers, NaN for all other texts. None if no label is a number."""
        known = self.labels.numbers()
        return None if np.isnan(known).all() else known[self.values(rows)]

    def pandas(self, rows: Rows) -> Any:
        """A pandas Categorical."""
        return pd.Categorical.from_codes(self.values(rows), self.labels.index(), validate=False)

    def picked(self, rows: Rows) -> Any:
        """The texts. Each of these rows must have one."""
        return np.asarray(self.labels.texts, dtype=object)[self.values(rows)]

    def raw(self) -> Values:
        """The texts, with only the labels that are in use."""
        used, place = np.unique(self.data, return_inverse=True)
        labels = self.labels.texts
        first = int(used[0] < 0) if len(used) else 0
        return Coded((place - first).astype(np.int32), [labels[code] for code in used[first:].tolist()])


@dataclass(eq=False, slots=True)
class TokenPart(TextPart):
    """One token of the subjects. The data are the codes of the subjects."""

    tokens: Tokens = None  # type: ignore[assignment]

    @property
    def labels(self) -> Labels:
        """The labels of the token."""
        return self.tokens.labels

    def cut(self, rows: Rows) -> Self:
        """Only these rows."""
        return replace(self, data=self.data[rows])

    def values(self, rows: Rows) -> npt.NDArray[Any]:
        """Codes of the token."""
        return self.tokens.of(self.data[rows])


@dataclass(eq=False, slots=True)
class TimePart(Part):
    """Times."""

    def types(self) -> npt.NDArray[np.uint8]:
        """See Part."""
        return np.where(self.present(slice(None)), IS_TIME, NO_VALUE).astype(np.uint8)

    def keys(self) -> Ints:
        """See Part."""
        return cast(Ints, self.data["ns"])

    def value(self, row: int) -> float | int | str:
        """See Part."""
        return iso_texts(self.data[row : row + 1])[0] or ""

    def present(self, rows: Rows) -> Truths:
        """Which of these rows have a time."""
        return cast(Truths, self.data[rows]["ns"] != MISSING["ns"])

    def pandas(self, rows: Rows) -> Any:
        """datetime64[ns, UTC]."""
        return utc(self.data[rows]).array

    def picked(self, rows: Rows) -> Any:
        """Like pandas(), as a DatetimeIndex."""
        return utc(self.data[rows])


class Column(ABC):
    """An array with spare room after the last row. `rows` and `held` are positions in it; `first` and `last`
    are the ordinals of the oldest and the newest row."""

    kind: Kind
    data: npt.NDArray[Any]
    labels: Labels | None = None
    """The distinct texts; None for a column without texts."""
    keeps_nulls = False
    """True if the column distinguishes an explicit null from a missing field."""

    @abstractmethod
    def __init__(self, capacity: int) -> None: ...

    @property
    def row_bytes(self) -> int:
        """Bytes per row, without labels."""
        return self.data.itemsize

    @property
    def mistyped(self) -> int:
        """Texts that are shown as missing, because this is a number column."""
        return 0

    @staticmethod
    @abstractmethod
    def takes(values: Values) -> bool:
        """True if the column can hold `values` without a change of type."""

    def write(self, rows: slice, values: Values, *, integral: bool, last: int) -> None:
        """Write `values` into `rows`. takes(values) must be true. `last` is the ordinal of the last row;
        `integral` is true if all values are integers."""
        self.data[rows] = values

    def absent(self, last: int) -> None:  # noqa: B027 - by default there is nothing to do
        """Called when rows up to the ordinal `last` lack this field."""

    def forget(self, rows: slice) -> None:  # noqa: B027 - by default there is nothing to do
        """Called when `rows` are dropped."""

    def settled(self, held: slice, first: int, last: int) -> "tuple[Column, bool]":
        """The column that fits the rows `held` (itself or one of another type), and whether caches must
        start over."""
        return self, False

    def as_texts(self, held: slice, last: int) -> "TextColumn":
        """A text column with the same rows."""
        texts = TextColumn(len(self.data))
        texts.data[held] = texts.labels.encode(texts_of(self.data[held]))
        texts.wordy = last
        return texts

    @abstractmethod
    def part(self, rows: slice, first: int) -> Part:
        """The part of the column for a snapshot of `rows`."""

    def moved(self, part: Part, capacity: int) -> "Column | None":
        """A copy with the rows of `part` at the start of new arrays. None if the labels must be rebuilt: in a
        column where each text is new, unused labels would pile up for ever."""
        new = type(self)(capacity)
        new.data[: len(part.data)] = part.data
        return new

    def _has_stale_labels(self, part: Part) -> bool:
        return self.labels is not None and len(self.labels.texts) > max(4096, 2 * len(part.data))


class NumberColumn(Column):
    """float64 values: NaN if a row has no such field, NULL for an explicit null."""

    kind: Kind = "number"
    keeps_nulls = True

    def __init__(self, capacity: int) -> None:
        self.data = np.full(capacity, np.nan)
        self.fraction = NO_ROW
        """Ordinal of the newest row that may not be an integer."""

    @staticmethod
    def takes(values: Values) -> bool:
        """Arrays of float64."""
        return is_floats(values)

    def write(self, rows: slice, values: Values, *, integral: bool, last: int) -> None:
        """See Column."""
        if not integral:
            self.fraction = last
        self.data[rows] = values

    def absent(self, last: int) -> None:
        """See Column."""
        self.fraction = last

    def part(self, rows: slice, first: int) -> Part:
        """See Column."""
        return NumberPart(self, read_only(self.data[rows]), "number", self.fraction < first)

    def moved(self, part: Part, capacity: int) -> "Column | None":
        """See Column."""
        new = NumberColumn(capacity)
        new.data[: len(part.data)] = part.data
        new.fraction = self.fraction
        return new


class TextColumn(Column):
    """Dictionary-encoded strings: int32 codes into `labels`, -1 if a row has none."""

    kind: Kind = "text"
    labels: Labels

    def __init__(self, capacity: int) -> None:
        self.data = np.full(capacity, -1, dtype=np.int32)
        self.labels = Labels()
        self.wordy = NO_ROW
        """Ordinal of the newest row that may not be a time in ISO 8601."""
        self.timed = NO_ROW
        """Ordinal of the newest row that was written as a time in ISO 8601."""

    @classmethod
    def of(cls, codes: Codes, labels: Labels, last: int) -> "TextColumn":
        """A text column with these arrays."""
        column = cls(0)
        column.data, column.labels, column.wordy = codes, labels, last
        return column

    @staticmethod
    def takes(values: Values) -> bool:
        """Texts and times."""
        return not is_floats(values) and not isinstance(values, Mixed)

    def write(self, rows: slice, values: Values, *, integral: bool, last: int) -> None:
        """See Column."""
        timed = isinstance(values, np.ndarray)
        self.data[rows] = self.labels.encode(values if isinstance(values, Coded) else texts_of(values))
        if timed:
            self.timed = last
        else:
            self.wordy = last

    def settled(self, held: slice, first: int, last: int) -> tuple[Column, bool]:
        """A time column again, once the last row with a text that is not a time has left."""
        if not self.wordy < first <= self.timed:
            return self, False
        used, place = np.unique(self.data[held], return_inverse=True)
        there = used >= 0
        texts = [self.labels.texts[code] for code in used[there].tolist()]
        times = parse_iso_times(texts) if texts else None
        if times is None:
            self.wordy = last
            return self, False
        known = np.full(len(used), MISSING)
        known[there] = times
        column = TimeColumn(len(self.data))
        column.data[held] = known[place]
        return column, True

    def part(self, rows: slice, first: int) -> Part:
        """See Column."""
        return TextPart(self, read_only(self.data[rows]), "text")

    def moved(self, part: Part, capacity: int) -> Column | None:
        """See Column."""
        if self._has_stale_labels(part):
            return None
        new = TextColumn(capacity)
        new.data[: len(part.data)] = part.data
        new.labels, new.wordy, new.timed = self.labels, self.wordy, self.timed
        return new


class TimeColumn(Column):
    """Times in ISO 8601, as ISO_TIME; MISSING if a row has none."""

    kind: Kind = "time"

    def __init__(self, capacity: int) -> None:
        self.data = np.full(capacity, MISSING)

    @staticmethod
    def takes(values: Values) -> bool:
        """Arrays of ISO_TIME."""
        return isinstance(values, np.ndarray) and values.dtype == ISO_TIME

    def as_texts(self, held: slice, last: int) -> TextColumn:
        """A text column with the same rows, marked as written as times."""
        texts = super().as_texts(held, last)
        texts.timed, texts.wordy = last, NO_ROW
        return texts

    def part(self, rows: slice, first: int) -> Part:
        """See Column."""
        return TimePart(self, read_only(self.data[rows]), "time")


def is_floats(values: Values) -> bool:
    """True if `values` is an array of numbers."""
    return isinstance(values, np.ndarray) and values.dtype.kind in "fiub"


def all_missing(values: Values) -> bool:
    """True if `values` is an array of numbers and all of them are NaN."""
    return is_floats(values) and bool(np.isnan(cast(Floats, values)).all())


def texts_of(values: "Values") -> Any:
    """Texts or times as a sequence of texts."""
    if isinstance(values, Coded):
        return values.texts()
    return iso_texts(cast(IsoTimes, values)) if isinstance(values, np.ndarray) else values


def read_only(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Make `values` read-only and return it. It must be a view, because the column still writes after it."""
    values.flags.writeable = False
    return values
