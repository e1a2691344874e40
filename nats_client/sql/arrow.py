"""Converts rows to Arrow tables, which DuckDB reads, and DuckDB's results to snapshots."""

import contextlib
from collections.abc import Collection, Mapping
from typing import Any, TypeAlias, cast

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa

from ..table.columns import NumberColumn, TextColumn, TimeColumn
from ..table.iso_times import ISO_TIME, MISSING, IsoTimes
from ..table.labels import Labels
from ..table.snapshot import Snapshot
from ..table.values import EXACT, Batch, Coded, Codes, Floats, Ints, Mixed, number_text

TIME = pa.timestamp("us", "UTC")
"""The type of times in SQL: in nanoseconds, DuckDB could neither subtract them nor add an interval."""
OWN = ("_time", "_seq", "_subject")
"""Columns that rows of a stream have besides their payload's."""
_ISO_MS = 1 + 2 * 3
"""The written form of a result's times: with `T`, three digits, and `Z`; see iso_times.py."""
_NAMES = ("_time", "time")
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Arrow's units of times."""

Table: TypeAlias = Snapshot | Batch | pa.Table | pd.DataFrame
"""The kinds of table that SQL reads."""


def names_of(table: Table) -> list[str]:
    """The columns of a table, in order."""
    if isinstance(table, Snapshot):
        named = [name for name in table.columns if name not in OWN]
        return [*(name for name in OWN if name != "_subject" or name in table.columns), *named]
    if isinstance(table, Batch):
        return [*OWN, *(name for name in table.values if name not in OWN)]
    if isinstance(table, pd.DataFrame):
        index = [str(name) for name in table.index.names if name is not None]
        return [*index, *(name for name in map(str, table.columns) if name not in index)]
    return list(map(str, table.column_names))


def arrow_table(table: Table, columns: Collection[str] | None = None) -> pa.Table:
    """An Arrow table with the rows of `table`, without copies where the types allow.

    Rows of a stream have `_time` (timestamp in UTC), `_seq`, `_subject`, their named tokens, and the columns
    of the payload: numbers, texts and times. Numbers are integers if all of a column are; missing values and
    NaN are NULL. Times are rounded down to microseconds.

    `columns`: lower-case names of the only columns to convert; None for all. A column that no message of a
    batch has is NULL.
    """
    wanted = names_of(table)
    if columns is not None:
        wanted = [name for name in wanted if name.lower() in columns or name == "_time"] or wanted[:1]
    if isinstance(table, Snapshot):
        arrays = {name: _of_snapshot(table, name) for name in wanted}
    elif isinstance(table, Batch):
        arrays = {name: _of_batch(table, name) for name in wanted}
        held = set(map(str.lower, wanted))
        arrays |= {name: pa.nulls(len(table)) for name in sorted(columns or ()) if name not in held}
    elif isinstance(table, pd.DataFrame):
        return _of_frame(table, wanted)
    else:
        return table.select(wanted)
    return pa.table(arrays)


def _of_snapshot(rows: Snapshot, name: str) -> pa.Array:
    if name == "_time":
        return _times(rows.time)
    if name == "_seq":
        return pa.array(rows.seq)
    kind = rows.columns[name]
    if kind == "text":
        return _texts(*rows.codes(name))
    if kind == "time":
        return _iso(rows.iso_times(name))
    exact = rows.integers(name)
    return _numbers(rows.numbers(name), rows.integral(name)) if exact is None else pa.array(exact)


def _of_batch(batch: Batch, name: str) -> pa.Array:
    if name == "_time":
        return _times(batch.time)
    if name == "_seq":
        return pa.array(batch.seq)
    if name == "_subject":
        return pa.array(batch.subject, pa.string())
    values = batch.values[name]
    if isinstance(values, Coded):
        return _texts(values.codes, values.labels)
    if isinstance(values, Mixed):
        return _mixed(values)
    if isinstance(values, np.ndarray):
        if values.dtype == ISO_TIME:
            return _iso(cast(IsoTimes, values))
        return _numbers(cast(Floats, values), name in batch.integral)
    return pa.array(values, pa.string())


def _times(times: Ints) -> pa.Array:
    return pa.Array.from_buffers(TIME, len(times), [None, pa.py_buffer(times // 1000)])


def _iso(times: IsoTimes) -> pa.Array:
    ns = times["ns"]
    return pa.array(ns // 1000, pa.int64(), mask=ns == MISSING["ns"]).cast(TIME)


def _numbers(values: Floats, integral: bool) -> pa.Array:
    # Integers of a batch may have gaps, and from 2**53 on a float is not exact.
    held = np.abs(values) < EXACT
    if integral and (held | np.isnan(values)).all():
        return pa.array(np.where(held, values, 0).astype(np.int64), mask=None if held.all() else ~held)
    return pa.array(np.ascontiguousarray(values), pa.float64(), from_pandas=True)


def _mixed(values: Mixed) -> pa.Array:
    """Numbers or texts, whichever most of the values are, as in a column of a window."""
    bare = ~np.isnan(values.numbers)
    texts = np.array([text is not None for text in values.texts], dtype=bool)
    if bare.sum() >= (texts & ~bare).sum():
        return _numbers(values.numbers, False)
    spelt = [
        text if text is not None else number_text(float(number)) if number == number else None
        for text, number in zip(values.texts, values.numbers.tolist(), strict=True)
    ]
    return pa.array(spelt, pa.string())


def _texts(codes: Codes, labels: list[str]) -> pa.Array:
    used = int(codes.max(initial=-1)) + 1
    if used > 2 * len(codes) + 64:  # a slice of a column whose texts all differ
        codes, places = np.unique(codes, return_inverse=True)
        known = [labels[code] if code >= 0 else None for code in codes.tolist()]
        return pa.array(known, pa.string()).take(pa.array(places))
    missing = codes < 0
    indices = pa.array(codes, pa.int32(), mask=missing if missing.any() else None)
    return pa.DictionaryArray.from_arrays(indices, pa.array(labels[:used], pa.string()), safe=False)


def _of_frame(frame: pd.DataFrame, wanted: list[str]) -> pa.Table:
    held = {str(name) for name in frame.columns}
    flat = frame if set(wanted) <= held else frame.reset_index()
    flat = flat.rename(columns=str)[wanted]
    try:
        return _in_microseconds(pa.Table.from_pandas(flat, preserve_index=False))
    except (pa.ArrowException, ValueError, TypeError):  # objects of several types
        texts = {name: flat[name].map(_text) for name in wanted if flat[name].dtype == object}
        return _in_microseconds(pa.Table.from_pandas(flat.assign(**texts), preserve_index=False))


def _in_microseconds(table: pa.Table) -> pa.Table:
    fields = [
        field.with_type(pa.timestamp("us", field.type.tz)) if pa.types.is_timestamp(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields), safe=False)


def _text(value: object) -> str | None:
    """A value as text, objects and arrays as JSON; None if it is missing."""
    if isinstance(value, dict | list):
        with contextlib.suppress(TypeError):  # an integer of more than 64 bits
            return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return None if value is None or value != value else str(value)


class ResultRows:
    """Turns the results of one statement into snapshots.

    Equal texts have the same code in all snapshots. Ordinals continue if a result has the rows of the
    previous one, perhaps without its oldest, and more rows at its end.
    """

    def __init__(self) -> None:
        self._labels: dict[str, Labels] = {}
        self._version = 0
        self._generation = 0
        self._last: Snapshot | None = None

    def snapshot(self, result: pa.Table, now: int) -> Snapshot:
        """The rows of `result`, ordered by its timestamp column `_time` or `time`.

        Without such a column all rows have the time `now` (ns since the epoch, UTC). With it, rows are left
        out if they have no time, or one before 1677 or after 2262, which int64 ns cannot hold. Columns become
        numbers, texts and times. A number that float64 cannot hold is rounded, an interval becomes its
        seconds, and any other value becomes text. So does a column of times if int64 ns cannot hold one.
        """
        named = next((name for name in _NAMES if _is_time(result, name)), None)
        if named is not None:
            time = _ns(result.column(named).combine_chunks())
            if not (known := time != MISSING["ns"]).all():
                result, time = result.filter(pa.array(known)), time[known]
            if len(time) > 1 and (time[1:] < time[:-1]).any():
                order = np.argsort(time, kind="stable")
                result, time = result.take(pa.array(order)), time[order]
        else:
            time = np.full(result.num_rows, now, dtype=np.int64)
        columns = {}
        for name in result.column_names:
            if name not in ("_time", "_seq") and name != named:
                columns[name] = self._part(name, result.column(name).combine_chunks())
        seq = _sequences(result)
        self._version += 1
        made = Snapshot(self._version, self._generation, 0, seq, np.full(len(time), now), time, True, columns)
        self._last = made = self._placed(made)
        return made

    def _placed(self, made: Snapshot) -> Snapshot:
        """`made` with ordinals that continue those of the previous snapshot, if its rows do."""
        last = self._last
        if last is not None and made.columns == last.columns and len(last):
            start = int(np.searchsorted(last.time, made.time[0])) if len(made) else len(last)
            kept = len(last) - start
            if kept <= len(made) and made.starts_as(last, start, kept):
                return made.at(last.first + start, self._generation)
        self._generation += 1
        return made.at(0, self._generation)

    def _part(self, name: str, array: pa.Array) -> Any:
        kind = array.type
        if pa.types.is_dictionary(kind):
            array = array.cast(kind.value_type)
            kind = array.type
        rows = slice(0, len(array))
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            ns = _ns(array)
            missing = ns == MISSING["ns"]
            if int(missing.sum()) == array.null_count:
                times = TimeColumn(len(array))
                times.data["ns"][rows] = ns
                times.data["form"][rows] = np.where(missing, 0, _ISO_MS)
                return times.part(rows, 0)
            array = _time_texts(array)
            kind = array.type
        if pa.types.is_interval(kind) or pa.types.is_duration(kind):
            array = _seconds(array)
            kind = array.type
        if _is_number(kind):
            numbers = NumberColumn(len(array))
            whole = pa.types.is_integer(kind) and not array.null_count
            as_floats = array.cast(pa.float64(), safe=False)
            values: Floats = as_floats.to_numpy(zero_copy_only=False).astype(np.float64)
            values[~np.isfinite(values)] = np.nan
            numbers.write(rows, values, integral=whole, last=len(array) - 1)
            return numbers.part(rows, 0)
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            array = pa.array([_text(value) for value in array.to_pylist()], pa.string())
        coded = array.dictionary_encode()
        labels = self._labels.setdefault(name, Labels())
        if len(labels.texts) > max(4096, 4 * len(array)):  # most are labels of rows that are gone
            labels = self._labels[name] = Labels()
            self._last = None
        indices = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
        codes = labels.encode(Coded(indices, coded.dictionary.to_pylist()))
        return TextColumn.of(codes, labels, len(array)).part(rows, 0)


def has_times(result: pa.Table) -> bool:
    """True if the result has times of its own."""
    return any(_is_time(result, name) for name in _NAMES)


def _is_time(result: pa.Table, name: str) -> bool:
    return name in result.column_names and pa.types.is_timestamp(result.schema.field(name).type)


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    )


def _seconds(array: pa.Array) -> pa.Array:
    """Intervals and durations in seconds. A month is 30 days, as in DuckDB's epoch()."""
    if pa.types.is_duration(array.type):
        return pa.array(array.cast(pa.int64()).to_numpy(False) / _PER_SECOND[array.type.unit])
    parts = np.dtype([("months", "i4"), ("days", "i4"), ("ns", "i8")])
    held = np.frombuffer(array.buffers()[1], parts)[array.offset : array.offset + len(array)]
    seconds = 86_400.0 * (30 * held["months"].astype(np.int64) + held["days"]) + held["ns"] / 1e9
    return pa.array(seconds, mask=array.is_null().to_numpy(zero_copy_only=False))


def _ns(array: pa.Array) -> Ints:
    """Times in ns since the epoch, UTC; MISSING["ns"] for a missing time or one beyond the range of ns."""
    if pa.types.is_date(array.type):
        array = array.cast(pa.timestamp("s"))
    factor = 10**9 // _PER_SECOND[array.type.unit]
    most = np.iinfo(np.int64).max // factor
    held = np.array(array.cast(pa.int64()).fill_null(0))
    known = array.is_valid().to_numpy(zero_copy_only=False) & (held >= -most) & (held <= most)
    return np.where(known, np.where(known, held, 0) * factor, MISSING["ns"])


def _time_texts(array: pa.Array) -> pa.Array:
    """Times as texts in ISO 8601, UTC, except DuckDB's `infinity` and `-infinity`: the greatest integer and
    its negative."""
    forever = np.iinfo(np.int64).max
    if pa.types.is_date(array.type):
        array, forever = array.cast(pa.timestamp("s")), 86_400 * np.iinfo(np.int32).max
    held = np.array(array.cast(pa.int64()).fill_null(0))
    endless = np.abs(held) == forever
    times = np.where(endless, 0, held).view(f"datetime64[{array.type.unit}]")
    texts = [f"{text.removesuffix('.000000')}Z" for text in np.datetime_as_string(times).tolist()]
    for place in np.flatnonzero(endless).tolist():
        texts[place] = "infinity" if held[place] > 0 else "-infinity"
    return pa.array(texts, pa.string(), mask=array.is_null().to_numpy(zero_copy_only=False))


def _sequences(result: pa.Table) -> Ints:
    if "_seq" in result.column_names and pa.types.is_integer(result.schema.field("_seq").type):
        return np.array(result.column("_seq").combine_chunks().fill_null(0).cast(pa.int64()))
    return np.arange(result.num_rows, dtype=np.int64)


def tables(given: Mapping[str, Table]) -> dict[str, list[str]]:
    """The columns of each table."""
    return {name: names_of(table) for name, table in given.items()}
