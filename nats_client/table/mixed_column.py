"""Columns of numbers among texts, the list of all types of columns, and which of them can hold what."""

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
from .values import NO_ROW, Codes, Floats, Kind, Mixed, Values, digits, number_in, number_text

NONE, NUMBER, INTEGER, TEXT, NUMERIC = range(5)
"""What a row of a mixed column holds: nothing; a number; an integer that float64 cannot hold, with its digits
as text; a text that is no number; a text that is one."""


@dataclass(eq=False, slots=True)
class MixedPart(Part):
    """Numbers and texts, shown as one of both."""

    numbers: Floats = None  # type: ignore[assignment]
    codes: Codes = None  # type: ignore[assignment]
    marks: npt.NDArray[np.uint8] = None  # type: ignore[assignment]

    def cut(self, rows: Rows) -> Self:
        """These rows alone."""
        numbers, codes, marks = self.numbers[rows], self.codes[rows], self.marks[rows]
        data = codes if self.kind == "text" else numbers
        return type(self)(self.column, data, self.kind, self.integral, numbers, codes, marks)

    def exact(self, rows: Rows) -> Any:
        """As of a Part."""
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

    def raw(self) -> Values:
        """All rows, as a batch has them."""
        labels = self.labels.texts
        bare = ((self.codes < 0) | (self.marks == NUMBER)).tolist()
        codes = self.codes.tolist()
        texts = [None if no else labels[code] for no, code in zip(bare, codes, strict=True)]
        # A text that is a number is read as one again.
        return Mixed(np.where(self.marks == NUMERIC, np.nan, self.numbers), texts)


@dataclass(eq=False, slots=True)
class MixedNumbers(MixedPart, NumberPart):
    """Shown as numbers."""

    def pandas(self, rows: Rows) -> Any:
        """Integers to the last digit where float64 cannot hold some; otherwise float64."""
        exact = self.exact(rows)
        return self.data[rows] if exact is None else exact

    def picked(self, rows: Rows) -> Any:
        """The same."""
        return self.pandas(rows)


@dataclass(eq=False, slots=True)
class MixedTexts(MixedPart, TextPart):
    """Shown as texts."""


class MixedColumn(Column):
    """Numbers and texts. It is a column of numbers where at least half of the values are some, and of texts
    otherwise: what the window holds decides, and not what came first."""

    labels: Labels
    keeps_nulls = True

    def __init__(self, capacity: int) -> None:
        self.data = np.full(capacity, np.nan)
        self.codes: Codes = np.full(capacity, -1, dtype=np.int32)
        self.marks: npt.NDArray[np.uint8] = np.zeros(capacity, dtype=np.uint8)
        self.labels = Labels()
        self.counts = np.zeros(5, dtype=np.int64)
        """How many rows of the window have each of the marks."""
        self.kind: Kind = "number"
        self.fraction = NO_ROW
        """As of a NumberColumn."""

    @classmethod
    def of_numbers(cls, numbers: NumberColumn, held: slice) -> "MixedColumn":
        """One with the rows `held` of a column of numbers."""
        mixed = cls(len(numbers.data))
        mixed.data, mixed.fraction = numbers.data, numbers.fraction
        mixed.marks[held] = ~np.isnan(numbers.data[held])
        mixed.count(held)
        return mixed

    @classmethod
    def of_texts(cls, texts: TextColumn, held: slice, first: int) -> "MixedColumn":
        """One with the rows `held` of a column of texts."""
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
        """As of a Column."""
        return self.data.itemsize + self.codes.itemsize + self.marks.itemsize

    @property
    def mistyped(self) -> int:
        """As of a Column."""
        return int(self.counts[TEXT]) if self.kind == "number" else 0

    @staticmethod
    def takes(values: Values) -> bool:
        """Everything."""
        return True

    def write(self, rows: slice, values: Values, *, integral: bool, last: int) -> None:
        """As of a Column."""
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
        """As of a Column."""
        self.fraction = last

    def forget(self, rows: slice) -> None:
        """As of a Column."""
        self.count(rows, -1)

    def spell(self, rows: slice) -> None:
        """Give the numbers in `rows` a text each, for a column of texts."""
        codes = self.codes[rows]
        bare = np.flatnonzero((codes < 0) & (self.marks[rows] == NUMBER))
        if len(bare):
            values, place = np.unique(self.data[rows][bare], return_inverse=True)
            codes[bare] = self.labels.encode(list(map(number_text, values.tolist())))[place]

    def count(self, rows: slice, sign: int = 1) -> None:
        """Count the rows in, or with the sign -1 out."""
        self.counts += sign * np.bincount(self.marks[rows], minlength=5)

    @property
    def mostly(self) -> Kind:
        """What the values of the window say that it is; a text that is a number speaks for neither."""
        numbers = self.counts[NUMBER] + self.counts[INTEGER]
        return "number" if numbers and numbers >= self.counts[TEXT] else "text"

    def settled(self, held: slice, first: int, last: int) -> tuple[Column, bool]:
        """What the values of the window are: numbers alone, texts alone, or both, shown as most of them."""
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
        """As of a Column."""
        numbers, codes, marks = (read_only(each[rows]) for each in (self.data, self.codes, self.marks))
        integral = not self.counts[TEXT] and self.fraction < first
        if self.kind == "text":
            return MixedTexts(self, codes, "text", integral, numbers=numbers, codes=codes, marks=marks)
        return MixedNumbers(self, numbers, "number", integral, numbers=numbers, codes=codes, marks=marks)

    def moved(self, part: Part, capacity: int) -> Column | None:
        """As of a Column."""
        if self._is_worn(part):
            return None
        part = cast(MixedPart, part)
        new, rows = MixedColumn(capacity), slice(0, len(part.data))
        new.data[rows], new.codes[rows], new.marks[rows] = part.numbers, part.codes, part.marks
        new.labels, new.kind, new.fraction = self.labels, self.kind, self.fraction
        new.count(rows)
        return new


TYPES: tuple[type[Column], ...] = (NumberColumn, TimeColumn, TextColumn, MixedColumn)
"""All types of columns; values that come first go to the first of them that takes them."""


def column_for(values: Values, capacity: int) -> Column:
    """An empty column that takes `values`."""
    return next(each for each in TYPES if each.takes(values))(capacity)


def widened(column: Column, values: Values, held: slice, first: int, last: int) -> Column:
    """`column`, or what takes its place where it does not take `values`; `held` are its rows so far, `first`
    and `last` the ordinals of its oldest row and of the last of `values`."""
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
