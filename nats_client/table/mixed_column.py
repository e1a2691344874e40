"""Columns with both numbers and texts, and the choice of a column type for given values."""

from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from .columns import (
    Column,
    NumberColumn,
    NumberPart,
    Part,
    Rows,
    TextColumn,
    TextPart,
    TimeColumn,
    is_floats,
    read_only,
    texts_of,
)
from .labels import Labels
from .values import (
    IS_NUMBER,
    IS_TEXT,
    IS_TIME,
    NO_ROW,
    NO_VALUE,
    Codes,
    Floats,
    Ints,
    Kind,
    Mixed,
    Values,
    digits,
    number_in,
    number_keys,
    number_text,
    text_keys,
)

NONE, NUMBER, INTEGER, TEXT, NUMERIC = range(5)
"""What a row of a mixed column holds: nothing; a number; an integer that float64 cannot hold, with its digits
as text; a text that is not a number; a text that is a number."""
_TYPES = np.array([NO_VALUE, IS_NUMBER, IS_NUMBER, IS_TEXT, IS_TEXT], dtype=np.uint8)
"""The type of each of these as it was received."""


@dataclass(eq=False, slots=True)
class MixedPart(Part):
    """Numbers and texts, shown as one of the two."""

    numbers: Floats = None  # type: ignore[assignment]
    codes: Codes = None  # type: ignore[assignment]
    marks: npt.NDArray[np.uint8] = None  # type: ignore[assignment]

    def cut(self, rows: Rows) -> Self:
        """Only these rows."""
        numbers, codes, marks = self.numbers[rows], self.codes[rows], self.marks[rows]
        data = codes if self.kind == "text" else numbers
        return type(self)(self.column, data, self.kind, self.integral, numbers, codes, marks)

    def exact(self, rows: Rows) -> Any:
        """See Part."""
        numbers, codes, marks = self.numbers[rows], self.codes[rows], self.marks[rows]
        large = np.flatnonzero(marks == INTEGER)
        missing = np.isnan(numbers)
        if not len(large) or not (missing | (numbers == np.floor(numbers))).all():
            return None
        labels = self.labels.texts
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

    def types(self) -> npt.NDArray[np.uint8]:
        """See Part."""
        found = _TYPES[self.marks]
        texts = np.flatnonzero(self.marks == TEXT)
        if len(texts):
            found[texts[self.labels.times()[self.codes[texts]]]] = IS_TIME
        return found

    def keys(self) -> Ints:
        """See Part."""
        return np.where(self.marks == NUMBER, number_keys(self.numbers), text_keys(self.codes))

    def value(self, row: int) -> float | int | str:
        """See Part."""
        if self.marks[row] == NUMBER:
            return float(self.numbers[row])
        text = self.labels.texts[self.codes[row]]
        whole = digits(text) if self.marks[row] == INTEGER else None
        return text if whole is None else whole

    def raw(self) -> Values:
        """All rows, in the form of a batch's values."""
        labels = self.labels.texts
        bare = ((self.codes < 0) | (self.marks == NUMBER)).tolist()
        codes = self.codes.tolist()
        texts = [None if no else labels[code] for no, code in zip(bare, codes, strict=True)]
        # write() parses a numeric text again.
        return Mixed(np.where(self.marks == NUMERIC, np.nan, self.numbers), texts)


@dataclass(eq=False, slots=True)
class MixedNumbers(MixedPart, NumberPart):
    """Shown as numbers."""

    def pandas(self, rows: Rows) -> Any:
        """Exact integers if float64 cannot hold some of them; otherwise float64."""
        exact = self.exact(rows)
        return self.data[rows] if exact is None else exact

    def picked(self, rows: Rows) -> Any:
        """See pandas()."""
        return self.pandas(rows)


@dataclass(eq=False, slots=True)
class MixedTexts(MixedPart, TextPart):
    """Shown as texts."""


class MixedColumn(Column):
    """Numbers and texts. It is shown as a number column if at least half of the values are numbers, otherwise
    as a text column. The values in the window decide, not the first value received."""

    labels: Labels
    keeps_nulls = True

    def __init__(self, capacity: int) -> None:
        self.data = np.full(capacity, np.nan)
        self.codes: Codes = np.full(capacity, -1, dtype=np.int32)
        self.marks: npt.NDArray[np.uint8] = np.zeros(capacity, dtype=np.uint8)
        self.labels = Labels()
        self.counts = np.zeros(5, dtype=np.int64)
        """Rows of the window per mark."""
        self.kind: Kind = "number"
        self.fraction = NO_ROW
        """See NumberColumn."""

    @classmethod
    def of_numbers(cls, numbers: NumberColumn, held: slice) -> "MixedColumn":
        """A mixed column with the rows `held` of a number column."""
        mixed = cls(len(numbers.data))
        mixed.data, mixed.fraction = numbers.data, numbers.fraction
        mixed.marks[held] = ~np.isnan(numbers.data[held])
        mixed.count(held)
        return mixed

    @classmethod
    def of_texts(cls, texts: TextColumn, held: slice, first: int) -> "MixedColumn":
        """A mixed column with the rows `held` of a text column."""
        mixed = cls(len(texts.data))
        mixed.codes, mixed.labels, mixed.kind = texts.data, texts.labels, "text"
        mixed.fraction = first + held.stop - held.start - 1
        used = np.unique(texts.data[held])
        marks, known = np.full(len(used), TEXT, dtype=np.uint8), np.full(len(used), np.nan)
        for i, code in enumerate(used.tolist()):
            if code < 0:
                marks[i] = NONE
            elif (number := number_in(texts.labels.texts[code])) is not None:
                marks[i], known[i] = NUMERIC, number
        place = np.searchsorted(used, texts.data[held])
        mixed.marks[held], mixed.data[held] = marks[place], known[place]
        mixed.count(held)
        return mixed

    @property
    def row_bytes(self) -> int:
        """See Column."""
        return self.data.itemsize + self.codes.itemsize + self.marks.itemsize

    @property
    def mistyped(self) -> int:
        """See Column."""
        return int(self.counts[TEXT]) if self.kind == "number" else 0

    @staticmethod
    def takes(values: Values) -> bool:
        """Everything."""
        return True

    def write(self, rows: slice, values: Values, *, integral: bool, last: int) -> None:
        """See Column."""
        if not integral:
            self.fraction = last
        mixed = _mixed(values)
        codes = self.labels.encode(mixed.texts)
        numbers = np.array(mixed.numbers, dtype=np.float64)
        marks = np.where(np.isnan(numbers), NONE, NUMBER).astype(np.uint8)
        texts = np.flatnonzero(codes >= 0)
        marks[texts] = np.where(marks[texts] == NUMBER, INTEGER, TEXT)
        for code in np.unique(codes[(marks == TEXT)]).tolist():
            if (value := number_in(self.labels.texts[code])) is not None:
                mine = codes == code
                numbers[mine], marks[mine] = value, NUMERIC
        self.data[rows], self.codes[rows], self.marks[rows] = numbers, codes, marks
        if self.kind == "text":
            self.spell(rows)
        self.count(rows)

    def absent(self, last: int) -> None:
        """See Column."""
        self.fraction = last

    def forget(self, rows: slice) -> None:
        """See Column."""
        self.count(rows, -1)

    def spell(self, rows: slice) -> None:
        """Encode the numbers in `rows` as texts, to be shown as a text column."""
        codes = self.codes[rows]
        bare = np.flatnonzero((codes < 0) & (self.marks[rows] == NUMBER))
        if len(bare):
            values, place = np.unique(self.data[rows][bare], return_inverse=True)
            codes[bare] = self.labels.encode(list(map(number_text, values.tolist())))[place]

    def count(self, rows: slice, sign: int = 1) -> None:
        """Add `rows` to the counts, or subtract them if `sign` is -1."""
        self.counts += sign * np.bincount(self.marks[rows], minlength=5)

    @property
    def mostly(self) -> Kind:
        """The kind of most values in the window. Numeric texts count for neither kind."""
        numbers = self.counts[NUMBER] + self.counts[INTEGER]
        return "number" if numbers and numbers >= self.counts[TEXT] else "text"

    def settled(self, held: slice, first: int, last: int) -> tuple[Column, bool]:
        """A number or text column if all values are of that kind; otherwise itself, shown as the kind of most
        values."""
        kind = self.mostly
        texts = self.counts[TEXT] + self.counts[NUMERIC]
        new: Column = self
        if not texts and not self.counts[INTEGER]:
            plain = NumberColumn(0)
            plain.data, plain.fraction = self.data, self.fraction
            new = plain
        elif texts and texts == self.counts[1:].sum():
            new = TextColumn.of(self.codes, self.labels, last)
        elif kind == "text" and self.kind != "text":
            self.spell(held)
        changed = kind != self.kind and bool(texts or self.counts.sum())
        if changed:
            self.kind = kind
        return new, changed

    def part(self, rows: slice, first: int) -> Part:
        """See Column."""
        numbers, codes, marks = (read_only(each[rows]) for each in (self.data, self.codes, self.marks))
        integral = not self.counts[TEXT] and self.fraction < first
        if self.kind == "text":
            return MixedTexts(self, codes, "text", integral, numbers=numbers, codes=codes, marks=marks)
        return MixedNumbers(self, numbers, "number", integral, numbers=numbers, codes=codes, marks=marks)

    def moved(self, part: Part, capacity: int) -> Column | None:
        """See Column."""
        if self._has_stale_labels(part):
            return None
        part = cast(MixedPart, part)
        new, rows = MixedColumn(capacity), slice(0, len(part.data))
        new.data[rows], new.codes[rows], new.marks[rows] = part.numbers, part.codes, part.marks
        new.labels, new.kind, new.fraction = self.labels, self.kind, self.fraction
        new.count(rows)
        return new


TYPES: tuple[type[Column], ...] = (NumberColumn, TimeColumn, TextColumn, MixedColumn)
"""All column types. A new column has the first type that takes its values."""


def column_for(values: Values, capacity: int) -> Column:
    """An empty column that takes `values`."""
    return next(each for each in TYPES if each.takes(values))(capacity)


def widened(column: Column, values: Values, held: slice, first: int, last: int) -> Column:
    """`column` if it takes `values`; otherwise a wider column with the same rows. `held` are its rows so far,
    `first` is the ordinal of its oldest row and `last` that of the last of `values`."""
    if not column.takes(values) and not isinstance(column, NumberColumn | TextColumn):
        column = column.as_texts(held, last)
    if column.takes(values):
        return column
    if isinstance(column, NumberColumn):
        return MixedColumn.of_numbers(column, held)
    return MixedColumn.of_texts(cast(TextColumn, column), held, first)


def _mixed(values: Values) -> Mixed:
    if isinstance(values, Mixed):
        return values
    if is_floats(values):
        numbers = cast(Floats, values)
        return Mixed(numbers, [None] * len(numbers))
    texts = texts_of(values)
    return Mixed(np.full(len(texts), np.nan), texts)
