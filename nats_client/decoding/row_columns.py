"""Columns from decoded rows: one for each field, typed by its values."""

from collections.abc import Collection
from operator import itemgetter
from typing import Any

import numpy as np
import orjson

from ..table.iso_times import MISSING, IsoTimes, parse_iso_times
from ..table.values import EXACT, NULL, Floats, Mixed, Values
from .decoder import LONGEST_TEXT, Row

DEEPEST = 4
"""Levels of nested objects that become columns (a.b.c); deeper ones are kept as JSON text."""
NUMERIC = {int, float, bool}
MOST_CELLS = 2_000_000
"""Maximum cells (rows times fields) of a batch whose rows differ, plus MOST_PER_VALUE for each value."""
MOST_PER_VALUE = 32


class _SameNameError(Exception):
    """Two fields of a row would be the same column."""


def columns_of(rows: list[Row], taken: Collection[str]) -> "Columns":
    """One column for each field of these rows, see Columns. Of two fields that would be the same column, one
    gets " (2)" at its end. Raises ValueError if there are too many fields for so many rows, or if a value is
    nested too deeply."""
    columns = Columns(taken)
    try:
        columns.add(rows)
    except _SameNameError:
        columns = Columns(())
        columns.add([_flat(row, taken) for row in rows], depth=DEEPEST)
    return columns


def _flat(row: Row, taken: Collection[str]) -> Row:
    """The row with nested objects as dotted names. A name that is already taken gets " (2)" at its end."""
    found: Row = {}
    left = [(f"payload{key}" if key in taken else key, value, 0) for key, value in row.items()]
    while left:
        left.sort(key=lambda each: type(each[1]) is dict)  # a key that itself contains the dots comes first
        nested: list[tuple[str, Any, int]] = []
        for name, value, depth in left:
            if type(value) is dict and depth < DEEPEST:
                nested += [(f"{name}.{key}", item, depth + 1) for key, item in value.items()]
                continue
            while name in found:
                name += " (2)"
            found[name] = value
        left = nested
    return found


class Columns:
    """Builds one column per key of some rows. Keys of nested objects are named by their path ("a.b"). Keys in
    `taken` get the prefix "payload"."""

    def __init__(self, taken: Collection[str]) -> None:
        self._taken = taken
        self.values: dict[str, Values] = {}
        self._absent: list[int] = []  # rows that lack the field being added
        self.integral: set[str] = set()
        """Columns that hold only integers."""
        self.truths: set[str] = set()
        """Columns whose numbers are all true and false."""
        self.not_finite = 0
        """Number of values that were NaN or infinite."""

    def add(self, rows: list[Row], path: str = "", depth: int = 0) -> None:
        """Add the keys of `rows` as columns. Raises ValueError if there are too many keys for so many
        rows."""
        alike = bool(rows) and all(map(rows[0].keys().__eq__, map(dict.keys, rows)))
        names = list(rows[0] if alike else dict.fromkeys(key for row in rows for key in row))
        if not alike and len(rows) * len(names) > MOST_CELLS + MOST_PER_VALUE * sum(map(len, rows)):
            # The caller then decodes the messages one at a time.
            raise ValueError(
                f"{len(names):,} different fields in {len(rows):,} rows, which have few of them each"
            )
        for key in names:
            values = list(map(itemgetter(key), rows)) if alike else [row.get(key) for row in rows]
            name = path + (f"payload{key}" if key in self._taken and not path else key)
            kinds = set(map(type, values))
            nested_in: list[int] = []
            if dict in kinds and depth < DEEPEST:
                nested = [value if type(value) is dict else {} for value in values]
                self.add(nested, f"{name}.", depth + 1)
                kinds.discard(dict)
                nested_in = [i for i, value in enumerate(values) if type(value) is dict]
                values = [None if type(value) is dict else value for value in values]
            if nested_in or type(None) in kinds:
                kinds.discard(type(None))
                absent = [] if alike else [i for i, row in enumerate(rows) if key not in row]
                self._absent = [*absent, *nested_in]  # an object is not a null
            if kinds:
                self._add(name, values, kinds)
            elif len(self._absent) < len(rows):  # only nulls
                self._put(name, self._nulls_in(np.full(len(rows), NULL)))
            self._absent = []

    def _put(self, name: str, values: Values) -> None:
        if name in self.values:
            raise _SameNameError
        self.values[name] = values

    def _add(self, name: str, values: list[Any], kinds: set[type]) -> None:
        if kinds & NUMERIC:
            self._add_numbers(name, values, kinds)
            return
        if kinds == {str}:
            if (times := as_iso_times(values)) is not None:
                self._put(name, times)
                return
            if None not in values and max(map(len, values)) <= LONGEST_TEXT:
                self._put(name, values)
                return
        self._put(name, [as_text(value) for value in values])

    def _nulls_in(self, column: Floats) -> Floats:
        """Set rows that lack the field to NaN, to distinguish them from explicit nulls. Returns `column`."""
        column[self._absent] = np.nan
        return column

    def _add_numbers(self, name: str, values: list[Any], kinds: set[type]) -> None:
        """Add `values`, some of which are numbers, as float64. Other values, and integers that float64 cannot
        represent exactly, are also kept as texts, in a Mixed column."""
        missing = values.count(None)
        texts: list[str | None] | None = None
        if not kinds <= NUMERIC:
            texts = [None if value is None or type(value) in NUMERIC else as_text(value) for value in values]
            values = [value if value is None or type(value) in NUMERIC else np.nan for value in values]
            missing += sum(text is not None for text in texts)
        if missing:
            values = [NULL if value is None else value for value in values]
        column = self._nulls_in(np.array(values, dtype=np.float64))
        if int in kinds and len(large := np.flatnonzero(np.abs(column) >= EXACT)):
            texts = texts or [None] * len(values)
            for i in large.tolist():
                if type(values[i]) is int:
                    texts[i] = str(values[i])
        finite = np.isfinite(column)
        if not finite.all():
            self.not_finite += len(column) - int(finite.sum()) - missing
            column[np.isinf(column)] = np.nan
        self._put(name, column if texts is None else Mixed(column, texts))
        if kinds == {int} and not missing:
            self.integral.add(name)
        if kinds & NUMERIC == {bool}:
            self.truths.add(name)


def as_iso_times(values: list[Any]) -> IsoTimes | None:
    """Parse texts, some of which may be None, as times. None unless all are ISO 8601 times in UTC."""
    if None not in values:
        return parse_iso_times(values)
    held = [i for i, value in enumerate(values) if value is not None]
    times = as_iso_times([values[i] for i in held])
    if times is None:
        return None
    found = np.full(len(values), MISSING)
    found[held] = times
    return found


def as_text(value: Any) -> str | None:
    """The value as text of at most LONGEST_TEXT characters: a text itself, any other value as JSON, and None
    for None. Raises ValueError if it is nested too deeply."""
    if value is None:
        return None
    try:
        text: str = value if type(value) is str else orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        raise ValueError("nested too deeply") from None
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
