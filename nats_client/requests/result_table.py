"""Joins chunks of rows, each a JSON document or an Arrow stream, into one table."""

import threading
from collections.abc import Sequence
from typing import Any

import orjson
import pandas as pd
import pyarrow as pa

from ..decoding.json_payloads import read_json
from ..errors import AnswerBroken, ClosedError
from .content_types import ARROW, JSON

MOST_CELLS = 2_000_000
"""Maximum rows times columns of a JSON document with fewer bytes than that. Rows with different keys could
otherwise make a small document a huge table."""
CELL = 8
"""Minimum bytes of a cell once all chunks have the same columns."""
_UNREADABLE = (pa.ArrowException, ValueError, TypeError, KeyError, OverflowError, OSError)


class Rows:
    """A growing table with a ceiling. One thread may add rows, any thread may read."""

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self.count = 0
        """Rows so far."""
        self.full: str | None = None
        """The ceiling that was reached, in words; None if none was. Rows beyond it are dropped."""
        self._limits = (max_rows, max_bytes)
        self._ceiling = ""
        self._bytes = 0
        self._names: set[str] = set()
        self._new: list[pa.Table] = []
        self._table: pa.Table | None = None
        self._frame: pd.DataFrame | None = None
        self._dropped = False
        self._why_dropped = ""
        self._adding = threading.Lock()
        self._reading = threading.Lock()

    def add(self, part: pa.Table) -> None:
        """Append `part`, as far as the ceilings allow. A no-op once a ceiling was reached."""
        most_rows, most_bytes = self._limits
        names = self._names | set(part.column_names)
        count = self.count + part.num_rows
        if self.full is None and max(self._bytes + part.nbytes, count * len(names) * CELL) > most_bytes:
            self.full = self._ceiling or f"{most_bytes:,} bytes"
        if self.full is not None:
            return
        if count > most_rows:
            self.full = f"{most_rows:,} rows"
            part = part.slice(0, most_rows - self.count)
        self._names = names
        self._bytes += part.nbytes
        with self._adding:
            self._new.append(part)
            self.count += part.num_rows

    def frame(self) -> pd.DataFrame:
        """All rows so far. The same object until rows are added, so copy it before changing it.

        Raises ClosedError after `drop`, and AnswerBroken if pandas cannot represent the values.
        """
        with self._reading:
            if self._dropped:
                why = f": {self._why_dropped}" if self._why_dropped else ""
                raise ClosedError(f"These rows are no longer kept{why}. Run the query again.")
            with self._adding:
                new, self._new = self._new, []
            if new or self._frame is None:
                held = [self._table] if self._table is not None else []
                self._table, self._frame = together([*held, *new]), None
                try:
                    self._frame = self._table.to_pandas(date_as_object=False)
                except _UNREADABLE as error:
                    raise AnswerBroken(f"Cannot build a table of the rows: {_first_line(error)}.") from None
            return self._frame

    @property
    def nbytes(self) -> int:
        """Bytes of the rows in Arrow format."""
        return 0 if self._dropped else self._bytes

    def limit(self, most_bytes: int, why: str) -> None:
        """Lower the ceiling to `most_bytes`; `why` names it, in words."""
        self._limits = (self._limits[0], min(self._limits[1], most_bytes))
        self._ceiling = why

    def drop(self, why: str) -> None:
        """Drop all rows. `why` is the reason in the error of later readers."""
        with self._reading, self._adding:
            self._dropped = True
            self._why_dropped = why
            self._new, self._table, self._frame = [], None, None


def read_rows(body: bytes, content_type: str) -> pa.Table:
    """Decode the rows of one chunk. `content_type` is its MIME type; if empty, the chunk is JSON.

    JSON: an array of objects, or a single object. Keys may differ between rows; anything but an object
    becomes the column `value`; nested values become JSON texts; a column of mixed types becomes text. Arrow:
    a complete IPC stream. Times with a zone become UTC, decimals float64, dictionaries plain values. Raises
    ValueError with an explanation if the chunk is anything else.
    """
    kind = content_type.partition(";")[0].strip().lower()
    try:
        if kind == ARROW:
            return _of_arrow(body)
        if kind in (JSON, ""):
            return _of_json(body)
    except _UNREADABLE as error:
        what = "an Arrow stream" if kind == ARROW else "JSON"
        named = kind or "missing"
        raise ValueError(f"it is not {what} (its Content-Type is {named}): {_first_line(error)}") from None
    raise ValueError(f"its Content-Type is {content_type[:100]!r}; only {JSON} and {ARROW} are supported")


def together(parts: Sequence[pa.Table]) -> pa.Table:
    """Concatenate `parts`. A column is null in the parts that lack it. If the types of a column cannot be
    unified, it becomes text."""
    if not parts:
        return pa.table({})
    if all(part.schema == parts[0].schema for part in parts):
        return pa.concat_tables(parts)
    names = list(dict.fromkeys(name for part in parts for name in part.column_names))
    return pa.table({name: _column(name, parts) for name in names})


def with_times(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with each text column parsed into times (UTC) if all its values are ISO 8601 times, because
    JSON has no time type."""
    times: dict[str, pd.Series] = {}
    for name, column in frame.items():
        if isinstance(column.dtype, pd.StringDtype):
            some = column.dropna().iloc[:1]
            if len(some) and some.str.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d").all():
                parsed = pd.to_datetime(column, utc=True, format="ISO8601", errors="coerce")
                if parsed.notna().sum() == column.notna().sum():
                    times[str(name)] = parsed
    return frame.assign(**times) if times else frame


def _column(name: str, parts: Sequence[pa.Table]) -> pa.ChunkedArray:
    columns = [
        part.column(name)
        if name in part.column_names
        else pa.chunked_array([pa.nulls(part.num_rows)], pa.null())
        for part in parts
    ]
    try:
        kinds = [pa.schema([(name, column.type)]) for column in columns]
        kind = pa.unify_schemas(kinds, promote_options="permissive").field(0).type
        columns = [column.cast(kind) for column in columns]
    except pa.ArrowException:
        kind = pa.string()
        columns = [_texts(column) for column in columns]
    return pa.chunked_array([chunk for column in columns for chunk in column.chunks], kind)


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(pa.string())
    except pa.ArrowException:
        return pa.chunked_array([pa.array(map(_text, column.to_pylist()), pa.string())])


def _of_arrow(body: bytes) -> pa.Table:
    table = pa.ipc.open_stream(body).read_all()
    table.validate(full=True)  # read_all does not check offsets; wrong ones read other memory
    names: list[str] = []
    for name in table.column_names:
        unique, count = name, 1
        while unique in names:
            unique, count = f"{name}_{count}", count + 1
        names.append(unique)
    return pa.table([_simple(column) for column in table.columns], names=names)


def _simple(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _simple(column.cast(kind.storage_type))
    if pa.types.is_dictionary(kind):
        return _simple(column.cast(kind.value_type))
    if pa.types.is_decimal(kind):
        return column.cast(pa.float64())
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return column.cast(pa.timestamp(kind.unit, "UTC"))
    return column


def _of_json(body: bytes) -> pa.Table:
    value = read_json(body)
    rows = [
        row if isinstance(row, dict) else {"value": row}
        for row in (value if isinstance(value, list) else [value])
    ]
    names = list(dict.fromkeys(key for row in rows for key in row))
    if len(names) * len(rows) > max(MOST_CELLS, len(body)):
        raise ValueError(f"{len(rows):,} rows with {len(names):,} different keys")
    return pa.table({name: _of_values([row.get(name) for row in rows]) for name in names})


def _of_values(values: list[Any]) -> pa.Array:
    kinds = set(map(type, values)) - {type(None)}
    if (len(kinds) <= 1 and not kinds & {dict, list}) or kinds == {int, float}:
        try:
            return pa.array(values)
        except (pa.ArrowException, OverflowError):
            pass  # integers beyond 64 bits, or not exact in float64
    return pa.array(map(_text, values), pa.string())


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200].rstrip(".")
