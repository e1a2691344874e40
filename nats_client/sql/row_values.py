"""Converts values of a batch to Arrow columns, by type, and DuckDB's results to values of a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..table.columns import is_floats
from ..table.iso_times import LONGEST, MISSING, IsoTimes, iso_texts, parse_iso_times
from ..table.values import EXACT, NULL, Batch, Coded, Floats, Ints, Mixed, Truths, Values, is_null

LONGEST_TEXT = 4096
"""Maximum characters kept of a computed text."""
NONE, NUMBER, LARGE, TEXT, TIME = range(5)
"""The kind of a row's value in one field: nothing; a number; an integer that float64 cannot hold; a text; a
time."""
_FIRST, _LAST = (np.datetime64(f"{year}-01-01", "us").astype(np.int64) for year in (1700, 2200))
_SIX_DIGITS = 12
"""The form "2000-01-01T00:00:00.000000Z" of a time; see iso_times.py."""


# -- the values of a batch, by type ----------------------------------------------------------------------


@dataclass
class Source:
    """One field of a batch: the kind of each row's value, and the values of some rows for DuckDB."""

    kinds: npt.NDArray[np.int8]
    arrow: Callable[[Ints], pa.Array]
    texts: Callable[[Ints], pa.Array]
    """Times as they were written."""

    @staticmethod
    def nothing(count: int) -> "Source":
        """A field that no row has."""
        return Source(np.zeros(count, dtype=np.int8), _no_numbers, _no_numbers)

    @staticmethod
    def fixed(array: pa.Array) -> "Source":
        """A column in which every row has a value of the same type."""
        kind = TIME if pa.types.is_timestamp(array.type) else NUMBER

        def some(rows: Ints) -> pa.Array:
            return array.take(pa.array(rows))

        def texts(rows: Ints) -> pa.Array:
            return some(rows).cast(pa.string())

        return Source(np.full(len(array), kind, dtype=np.int8), some, texts)

    @staticmethod
    def of(values: Values, *, plain: bool = False) -> "Source":
        """A field with these values. `plain`: a text is never a time, even in ISO 8601."""
        if isinstance(values, Mixed):
            return _mixed_source(values)
        if is_floats(values):
            return _number_source(cast(Floats, values))
        if isinstance(values, np.ndarray):
            return _time_source(cast(IsoTimes, values))
        coded = values if isinstance(values, Coded) else _encoded(values)
        return _text_source(coded, plain=plain)


def lengths(array: pa.Array) -> Floats:
    """The bytes of each text; 0 for anything else."""
    if pa.types.is_dictionary(array.type):
        known: Floats = np.append(pc.binary_length(array.dictionary).to_numpy(), 0).astype(np.float64)
        found: Floats = known[array.indices.fill_null(-1).to_numpy()]
        return found
    if pa.types.is_string(array.type):
        return np.asarray(pc.binary_length(array).fill_null(0).to_numpy(), dtype=np.float64)
    return np.zeros(len(array))


def _no_numbers(rows: Ints) -> pa.Array:
    return pa.nulls(len(rows), pa.float64())


def _number_source(numbers: Floats) -> Source:
    def some(rows: Ints) -> pa.Array:
        return pa.array(numbers[rows], from_pandas=True)

    return Source(np.where(np.isnan(numbers), NONE, NUMBER).astype(np.int8), some, some)


def _time_source(times: IsoTimes) -> Source:
    def some(rows: Ints) -> pa.Array:
        there = times["ns"][rows]
        return pa.array(there // 1000, pa.timestamp("us", "UTC"), mask=there == MISSING["ns"])

    def texts(rows: Ints) -> pa.Array:
        return pa.array(iso_texts(times[rows]), pa.string())

    kinds = np.where(times["ns"] == MISSING["ns"], NONE, TIME).astype(np.int8)
    return Source(kinds, some, texts)


def _text_source(coded: Coded, *, plain: bool = False) -> Source:
    labels = pa.array(coded.labels, pa.string())
    kind_of = np.full(len(coded.labels) + 1, TEXT, dtype=np.int8)
    kind_of[-1] = NONE
    times = np.full(len(coded.labels), MISSING)
    for i, label in enumerate(coded.labels) if not plain else ():
        if 19 <= len(label) <= LONGEST and label[4] == "-" and label[:4].isdigit():
            parsed = parse_iso_times([label])
            if parsed is not None:
                kind_of[i], times[i] = TIME, parsed[0]
    kinds = kind_of[coded.codes]

    def texts(rows: Ints) -> pa.Array:
        codes = coded.codes[rows]
        return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), labels)

    def some(rows: Ints) -> pa.Array:
        if len(rows) and kinds[rows[0]] == TIME:
            return pa.array(times["ns"][coded.codes[rows]] // 1000, pa.timestamp("us", "UTC"))
        return texts(rows)

    return Source(kinds, some, texts)


def _mixed_source(mixed: Mixed) -> Source:
    there = np.array([text is not None for text in mixed.texts], dtype=np.bool_)
    is_number = ~np.isnan(mixed.numbers)
    text_only = [
        text if text is not None and not number else None
        for text, number in zip(mixed.texts, is_number.tolist(), strict=True)
    ]
    words = _text_source(_encoded(text_only))
    kinds = np.where(is_number, np.where(there, LARGE, NUMBER), words.kinds).astype(np.int8)

    def some(rows: Ints) -> pa.Array:
        kind = kinds[rows[0]] if len(rows) else NONE
        if kind == LARGE:
            return pa.array([mixed.texts[row] for row in rows.tolist()], pa.string())
        return (
            pa.array(mixed.numbers[rows], from_pandas=True) if kind in (NUMBER, NONE) else words.arrow(rows)
        )

    return Source(kinds, some, words.texts)


def _encoded(texts: Sequence[str | None]) -> Coded:
    code_of: dict[str | None, int] = {
        text: i for i, text in enumerate(dict.fromkeys(t for t in texts if t is not None))
    }
    labels = cast(list[str], list(code_of))
    code_of[None] = -1
    return Coded(np.fromiter(map(code_of.__getitem__, texts), dtype=np.int32, count=len(texts)), labels)


def absent(values: Values, rows: Ints) -> Truths:
    """True for the `rows` that lack the field. A row with an explicit null has it, if nulls are known."""
    if isinstance(values, Mixed):
        numbers = values.numbers[rows]
        bare = np.array([values.texts[row] is None for row in rows.tolist()], dtype=np.bool_)
        return np.isnan(numbers) & ~is_null(numbers) & bare
    if is_floats(values):
        numbers = cast(Floats, values)[rows]
        return np.isnan(numbers) & ~is_null(numbers)
    if isinstance(values, np.ndarray):
        return np.asarray(cast(IsoTimes, values)["ns"][rows] == MISSING["ns"])
    if isinstance(values, Coded):
        return values.codes[rows] < 0
    return np.array([values[row] is None for row in rows.tolist()], dtype=np.bool_)


# -- the rows that are kept ------------------------------------------------------------------------------


def cut(batch: Batch, rows: Ints) -> Batch:
    """A batch of only these rows, equal to one in which the other messages never arrived.

    A field without a value in any of the rows is dropped. A column of texts becomes times if all the texts
    that remain are times.
    """
    if len(rows) == len(batch):
        return batch
    subject = batch.subject
    values: dict[str, Values] = {}
    nans = 0
    for name, held in batch.values.items():
        part = _cut_values(held, rows)
        if part is None:
            continue
        values[name] = part
        if is_floats(part):
            numbers = cast(Floats, part)
            nans += int((np.isnan(numbers) & ~is_null(numbers)).sum())
    return Batch(
        batch.seq[rows],
        batch.received[rows],
        batch.time[rows],
        [subject[row] for row in rows.tolist()],
        values,
        batch.integral & values.keys(),
        min(batch.not_finite, nans),
        batch.truths & values.keys(),
    )


def _cut_values(values: Values, rows: Ints) -> Values | None:
    if isinstance(values, Mixed):
        numbers = values.numbers[rows]
        texts = [values.texts[row] for row in rows.tolist()]
        if all(text is None for text in texts):
            return _cut_values(numbers, np.arange(len(numbers)))
        bare = np.isnan(numbers) & ~is_null(numbers)
        return _timed(texts) if bare.all() else Mixed(numbers, texts)
    if is_floats(values):
        numbers = cast(Floats, values)[rows]
        return None if (np.isnan(numbers) & ~is_null(numbers)).all() else numbers
    if isinstance(values, np.ndarray):
        times = cast(IsoTimes, values)[rows]
        return None if (times["ns"] == MISSING["ns"]).all() else times
    if isinstance(values, Coded):
        used, place = np.unique(values.codes[rows], return_inverse=True)
        first = int(used[0] < 0) if len(used) else 0
        labels = [values.labels[code] for code in used[first:].tolist()]
        if not labels:
            return None
        codes = (place.reshape(-1) - first).astype(np.int32)
        parsed = parse_iso_times(labels)
        return Coded(codes, labels) if parsed is None else np.append(parsed, MISSING)[codes]
    texts = [values[row] for row in rows.tolist()]
    return None if all(text is None for text in texts) else _timed(texts)


def _timed(texts: list[str | None]) -> Values:
    there = [i for i, text in enumerate(texts) if text is not None]
    times = parse_iso_times([cast(str, texts[i]) for i in there])
    if times is None:
        return texts
    found = np.full(len(texts), MISSING)
    found[there] = times
    return found


# -- computed values -------------------------------------------------------------------------------------


@dataclass
class Made:
    """The values of one computed column in some rows. Each row has at most one of number, text and time."""

    numbers: Floats
    texts: list[str | None] | None = None
    times: IsoTimes | None = None
    whole: bool = True
    """True if all numbers are integers."""
    not_finite: int = 0

    def __len__(self) -> int:
        return len(self.numbers)

    @staticmethod
    def empty() -> "Made":
        """No rows."""
        return Made(np.zeros(0))

    @staticmethod
    def of(column: pa.ChunkedArray, kind: str) -> "Made":
        """The values of a column of this `kind`: "whole", "huge", "number", "text", "time" or "none"."""
        count = len(column)
        nothing = np.full(count, np.nan)
        if kind == "text":
            long = [
                text if text is None or len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
                for text in column.to_pylist()
            ]
            return Made(nothing, texts=long)
        if kind == "time":
            numbers = column.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
            there = numbers.is_valid().to_numpy() if numbers.null_count else np.ones(count, dtype=np.bool_)
            times = numbers.fill_null(0).to_numpy()
            there = there & (times >= _FIRST) & (times < _LAST)
            found = np.full(count, MISSING)
            found["ns"][there], found["form"][there] = times[there] * 1000, _SIX_DIGITS
            return Made(nothing, times=found)
        if kind == "none":
            return Made(nothing)
        if kind == "huge":
            written = cast(list[str | None], column.to_pylist())
            numbers = np.array(
                [np.nan if each is None else float(each) for each in written], dtype=np.float64
            )
            large = [
                each if each is not None and abs(number) >= EXACT else None
                for each, number in zip(written, numbers.tolist(), strict=True)
            ]
            return Made(numbers, texts=large if any(large) else None)
        if kind == "whole":
            exact = column.fill_null(0).to_numpy()
            numbers = exact.astype(np.float64)
            there = column.is_valid().to_numpy() if column.null_count else np.ones(count, dtype=np.bool_)
            numbers[~there] = np.nan
            whole_large = np.flatnonzero(there & (np.abs(numbers) >= EXACT))
            if not len(whole_large):
                return Made(numbers)
            digits: list[str | None] = [None] * count
            for row in whole_large.tolist():
                digits[row] = str(exact[row])
            return Made(numbers, texts=digits)
        numbers = np.array(column.to_numpy(), dtype=np.float64)
        infinite = np.isinf(numbers)
        numbers[infinite] = np.nan
        return Made(numbers, whole=False, not_finite=int(infinite.sum()))

    @staticmethod
    def joined(parts: "list[Made]", order: Ints | None) -> "Made":
        """The rows of several parts, in this order."""
        numbers = np.concatenate([part.numbers for part in parts]) if parts else np.zeros(0)
        texts = times = None
        if any(part.texts is not None for part in parts):
            texts = [text for part in parts for text in (part.texts or [None] * len(part))]
        if any(part.times is not None for part in parts):
            held = [np.full(len(part), MISSING) if part.times is None else part.times for part in parts]
            times = np.concatenate(held)
        if order is not None:
            numbers = numbers[order]
            texts = [texts[i] for i in order.tolist()] if texts is not None else None
            times = times[order] if times is not None else None
        # A part without numbers does not count for whether all are integers.
        whole = all(part.whole for part in parts if not np.isnan(part.numbers).all())
        return Made(numbers, texts, times, whole, sum(part.not_finite for part in parts))


def joined(parts: list[Made], lacking: Truths) -> tuple[Values | None, bool, int]:
    """The values of a computed column; whether all are integers; and how many were not finite.

    A row without a value is null if it has all fields of the expression. If it is `lacking` one, the value is
    missing.
    """
    made = Made.joined(parts, None)
    numbers = made.numbers
    texts = made.texts if made.texts is not None and any(text is not None for text in made.texts) else None
    times = made.times if made.times is not None and (made.times["ns"] != MISSING["ns"]).any() else None
    there = ~np.isnan(numbers)
    empty = ~there
    if texts is not None:
        empty &= np.array([text is None for text in texts], dtype=np.bool_)
    if times is not None:
        empty &= times["ns"] == MISSING["ns"]
    numbers = np.where(empty & ~lacking, NULL, numbers)
    if times is not None and (there.any() or texts is not None):
        written = iso_texts(times)
        texts = [
            a if a is not None else b for a, b in zip(texts or [None] * len(written), written, strict=True)
        ]
        times = None
    if times is not None:
        return times, False, made.not_finite
    if texts is None:
        return (numbers if len(numbers) else None), made.whole and not empty.any(), made.not_finite
    if there.any():
        return Mixed(numbers, texts), False, made.not_finite
    return _timed(texts), False, made.not_finite
