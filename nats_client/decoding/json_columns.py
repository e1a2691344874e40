"""Reads many JSON objects with the same fields by columns instead of by rows.

Arrow's reader creates no Python objects and releases the GIL, so a replay is faster and pages stay
responsive. It is used only for flat objects with equal fields. If Arrow would decode even one value
differently from `json_payloads.py`, all payloads are left to that module.
"""

from collections.abc import Sequence

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from ..table.iso_times import LONGEST, MISSING, parse_joined
from ..table.values import NULL, Coded, Floats, Values
from .decoder import Columns

FEWEST = 64
"""Minimum number of payloads for which reading by columns pays off."""
MOST_FIELDS = 64
LARGEST = 1 << 26
"""Maximum bytes of all payloads together."""
_KINDS = {str: pa.string(), float: pa.float64()}
_FLAT = {str, int, float, bool, type(None)}


def read_columns(payloads: Sequence[bytes], longest: int, exact: int) -> Columns | None:
    """Decode `payloads`, if each is a flat JSON object with the fields of the first. None if one is not, has
    a text of more than `longest` bytes, or has a number of at least `exact`."""
    if len(payloads) < FEWEST or not payloads[0].startswith(b'{"'):
        return None
    try:
        first = orjson.loads(payloads[0])
    except orjson.JSONDecodeError:
        return None
    if len(first) > MOST_FIELDS or not set(map(type, first.values())) <= _FLAT:
        return None
    text = b"\n".join(payloads)
    # Then every line starts and ends like an object. If Arrow finds as many rows as lines, each is one
    # object.
    between = len(payloads) - 1
    lines = np.count_nonzero(np.frombuffer(text, dtype=np.uint8) == ord("\n"))  # twice as fast as count()
    if text.count(b"}\n{") != between or lines != between or not text.endswith(b"}"):
        return None
    if len(text) >= LARGEST or not (text.isascii() or _is_utf8(text)):
        return None
    # Without a schema, Arrow would parse texts as times. Integers have no type here, because the next payload
    # may have a float.
    kinds = pa.schema([(name, _KINDS[type(value)]) for name, value in first.items() if type(value) in _KINDS])
    try:
        table = pyarrow.json.read_json(
            pa.BufferReader(text),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(text) + 1),
            parse_options=pyarrow.json.ParseOptions(explicit_schema=kinds),
        )
    except pa.ArrowException:
        return None
    if table.num_rows != len(payloads) or set(table.column_names) != set(first):
        return None
    # Arrow does not distinguish an explicit null from a missing field.
    nulls = sum(table[name].null_count for name in first)
    written = _written_nulls(text, table) if nulls else 0
    if written not in (0, nulls):
        return None
    found = Columns({}, set())
    for name in first:
        column = table[name].combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0)
        if pa.types.is_null(column.type):
            if written:
                found.values[name] = np.full(len(column), NULL)
            continue
        numbers: Floats | None = None
        if pa.types.is_string(column.type):
            values: Values | None = _texts(column, longest)
        else:
            numbers = values = _numbers(column, exact)
            if pa.types.is_integer(column.type) and not column.null_count:
                found.integral.add(name)
            if pa.types.is_boolean(column.type):
                found.truths.add(name)
        if values is None:
            return None
        if written and column.null_count and numbers is not None:
            numbers[~column.is_valid().to_numpy(zero_copy_only=False)] = NULL
        found.values[name] = values
    return found


def _written_nulls(text: bytes, table: pa.Table) -> int | None:
    """Count the explicit nulls in `text`, which was read as `table`; None if that is uncertain."""
    found = text.count(b"null")
    if not found:
        return 0
    # Only these escapes can hide or fake the letters "null" in a text.
    if b"\\u" in text or b"\\null" in text or any("null" in name for name in table.column_names):
        return None
    texts = [column for column in table.columns if pa.types.is_string(column.type)]
    return found - sum(pc.sum(pc.count_substring(column, "null")).as_py() or 0 for column in texts)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _numbers(column: pa.Array, exact: int) -> Floats | None:
    """A column of numbers as float64, NaN where null. None if the column is not numeric, or a number is not
    finite or not exact."""
    kind = column.type
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif not (pa.types.is_int64(kind) or pa.types.is_float64(kind)):
        return None
    values: Floats = column.to_numpy(zero_copy_only=False).astype(np.float64)
    bad = ~(np.abs(values) < exact)  # true for NaN, too
    return None if np.count_nonzero(bad) > column.null_count else values


def _texts(column: pa.Array, longest: int) -> Values | None:
    """A column of texts, as times if all are times; None if one is too long."""
    held = column.drop_null() if column.null_count else column
    if not len(held):
        return None
    _, offsets, letters = held.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)[held.offset : held.offset + len(held) + 1]
    lengths = np.diff(ends)
    if lengths.max() > longest:
        return None
    times = None
    if letters is not None and lengths.max() <= LONGEST:
        times = parse_joined(np.frombuffer(letters, dtype=np.uint8)[ends[0] : ends[-1]], lengths)
    if times is not None:
        if not column.null_count:
            return times
        found = np.full(len(column), MISSING)
        found[column.is_valid().to_numpy(zero_copy_only=False)] = times
        return found
    coded = column.dictionary_encode()
    codes = coded.indices.fill_null(-1) if column.null_count else coded.indices
    return Coded(codes.to_numpy(), coded.dictionary.to_pylist())
