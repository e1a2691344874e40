"""Rows to chunks: message bodies in JSON or Arrow, each complete in itself."""

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from nats_client.errors import LookbackError
from nats_client.requests.content_types import ARROW, JSON

KINDS = (JSON, ARROW)


class NotWritable(LookbackError):  # noqa: N818 - an outcome
    """A value cannot be written as JSON, such as a date outside any calendar."""


@dataclass(frozen=True)
class Chunk:
    """The rows of one message."""

    body: bytes
    rows: int


def chunks(batches: Iterable[pa.RecordBatch], schema: pa.Schema, kind: str, size: int) -> Iterator[Chunk]:
    """The rows in chunks of about `size` bytes at most. A larger single row is a chunk by itself.

    JSON: an array of objects; times in ISO 8601 (UTC if they have a zone), bytes in base64, NaN and
    infinities as null, arrow.json nested. Arrow: a complete stream. Raises NotWritable.
    """
    return _arrow_chunks(batches, schema, size) if kind == ARROW else _json_chunks(batches, size)


def empty(schema: pa.Schema, kind: str) -> bytes:
    """A chunk without rows."""
    return b"[]" if kind == JSON else _stream([], schema)


def dumps(value: Any) -> bytes:
    """`value` as JSON."""
    try:
        return orjson.dumps(value, default=_plain, option=orjson.OPT_UTC_Z)
    except orjson.JSONEncodeError as error:
        raise NotWritable(f"A value cannot be written as JSON: {error}.") from None


def _json_chunks(batches: Iterable[pa.RecordBatch], size: int) -> Iterator[Chunk]:
    held: list[bytes] = []
    length = 2
    for batch in batches:
        for row in _json_rows(batch):
            if held and length + len(row) > size:
                yield Chunk(b"[" + b",".join(held) + b"]", len(held))
                held, length = [], 2
            held.append(row)
            length += len(row) + 1
    if held:
        yield Chunk(b"[" + b",".join(held) + b"]", len(held))


def _json_rows(batch: pa.RecordBatch) -> Iterator[bytes]:
    names = batch.schema.names
    columns = [_json_values(column) for column in batch.columns]
    for row in zip(*columns, strict=True):
        yield dumps(dict(zip(names, row, strict=True)))


def _json_values(column: pa.Array) -> list[Any]:
    if isinstance(column.type, pa.JsonType):
        return [None if text is None else orjson.Fragment(text) for text in column.storage.to_pylist()]
    if pa.types.is_timestamp(column.type):
        # As one column: millions of datetime objects are slow to create and to write
        texts = column.cast(pa.timestamp(column.type.unit)).cast(pa.string())
        zone = "" if column.type.tz is None else "Z"
        column = pc.binary_join_element_wise(pc.replace_substring(texts, " ", "T"), zone, "")
    try:
        values: list[Any] = column.to_pylist()
    except (OverflowError, ValueError) as error:
        raise NotWritable(f"A {column.type} value cannot be written as JSON: {error}.") from None
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _arrow_chunks(batches: Iterable[pa.RecordBatch], schema: pa.Schema, size: int) -> Iterator[Chunk]:
    held: list[pa.RecordBatch] = []
    length = 0
    for batch in batches:
        for part in _parts(batch, size):
            if held and length + part.nbytes > size:
                yield Chunk(_stream(held, schema), sum(b.num_rows for b in held))
                held, length = [], 0
            held.append(part)
            length += part.nbytes
    if held:
        yield Chunk(_stream(held, schema), sum(b.num_rows for b in held))


def _parts(batch: pa.RecordBatch, size: int) -> Iterator[pa.RecordBatch]:
    if batch.nbytes <= size or batch.num_rows <= 1:
        yield batch
        return
    half = batch.num_rows // 2
    yield from _parts(batch.slice(0, half), size)
    yield from _parts(batch.slice(half), size)


def _stream(batches: list[pa.RecordBatch], schema: pa.Schema) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    body: bytes = sink.getvalue().to_pybytes()
    return body
