"""Decodes Arrow IPC, streams and files: each row of a record batch is a row.

PyArrow trusts the payload. A compressed buffer states how much memory to reserve for it, and some types have
a length but no bytes. So both are checked before any value is created.
"""

import struct
from typing import Any

import pyarrow as pa

from .decoder import Decoder
from .plain_values import plain
from .unpacked import LARGEST

FILE, STREAM = b"ARROW1\0\0", b"\xff\xff\xff\xff"
"""First bytes of an Arrow file, and of a stream."""
MOST_ROWS = 1_000_000
MOST_FIELDS = 1_000
"""Maximum fields of a schema, nested ones included."""
_PLAIN = (
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_timestamp,
    pa.types.is_date,
    pa.types.is_time,
    pa.types.is_duration,
    pa.types.is_decimal,
)


def read_arrow(payload: bytes) -> Any:
    """Decode one payload into an array of objects. Raises ValueError."""
    try:
        return _rows(payload)
    except (pa.ArrowException, OSError, EOFError, struct.error, OverflowError, MemoryError) as error:
        raise ValueError(f"not Arrow IPC: {str(error)[:100] or type(error).__name__}") from None


def _rows(payload: bytes) -> list[Any]:
    if payload.startswith(FILE):
        payload = payload[len(FILE) :]  # a file is a stream with a table of contents at its end
    _check_sizes(payload)
    found: list[Any] = []
    with pa.ipc.open_stream(pa.BufferReader(payload)) as reader:
        _Types().check(reader.schema)
        size = 0
        for batch in reader:
            size += batch.nbytes
            if len(found) + batch.num_rows > MOST_ROWS or size > LARGEST:
                raise ValueError(f"more than {MOST_ROWS:,} rows or {LARGEST >> 20} MiB in one message")
            batch.validate(full=True)
            names = _names(batch.schema.names)
            columns = [_values(column) for column in batch.columns]
            rows = zip(*columns, strict=True) if columns else iter(())
            found += [dict(zip(names, row, strict=True)) for row in rows]
    rows_found: list[Any] = plain(found)
    return rows_found


def _values(column: Any) -> list[Any]:
    if pa.types.is_dictionary(column.type):
        words = [*column.dictionary.to_pylist(), None]
        return [words[-1 if i is None else i] for i in column.indices.to_pylist()]
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        zone = "Z" if column.type.tz else ""
        texts = pa.compute.strftime(column.cast(pa.timestamp("ns")), format="%Y-%m-%dT%H:%M:%S")
        return [None if text is None else text + zone for text in texts.to_pylist()]
    values: list[Any] = column.to_pylist()
    return values


def _names(names: list[str]) -> list[str]:
    """The names, made unique: a name that is already taken gets a ' at its end."""
    found: dict[str, None] = {}
    for each in names:
        name = each
        while name in found:
            name += "'"
        found[name] = None
    return list(found)


class _Types:
    def __init__(self) -> None:
        self._left = MOST_FIELDS

    def check(self, schema: Any) -> None:
        """Raises ValueError if the schema has too many fields, or a field whose length is not bounded by its
        bytes."""
        for field in schema:
            kind = field.type
            if pa.types.is_dictionary(kind):
                kind = kind.value_type
            self._field(field.name, kind, pa.types.is_null(kind))

    def _field(self, name: str, kind: Any, fine: bool = False) -> None:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"more than {MOST_FIELDS:,} fields")
        if pa.types.is_struct(kind) and kind.num_fields:
            for field in kind:
                self._field(name, field.type)
        elif (
            pa.types.is_list(kind)
            or pa.types.is_large_list(kind)
            or (pa.types.is_fixed_size_list(kind) and kind.list_size)
        ):
            self._field(name, kind.value_type)
        elif not (
            fine
            or any(is_one(kind) for is_one in _PLAIN)
            or (pa.types.is_fixed_size_binary(kind) and kind.byte_width)
        ):
            raise ValueError(f"the field {name[:100]!r} has the type {str(kind)[:100]}, which is not read")


def _check_sizes(payload: bytes) -> None:
    """Raises ValueError if the buffers of a stream, decompressed, are larger than LARGEST, and struct.error
    if it is damaged. See the format's Message.fbs."""
    place = total = 0
    while place + 8 <= len(payload):
        (length,) = struct.unpack_from("<i", payload, place + 4)
        if payload[place : place + 4] != STREAM or length <= 0:
            return  # the end of the stream
        head = payload[place + 8 : place + 8 + length]
        body = place + 8 + length
        message = _Table(head, struct.unpack_from("<I", head)[0])
        kind, batch = message.number(1, "B"), message.table(2)
        if kind == 2 and batch is not None:  # a dictionary contains a record batch
            batch = batch.table(1)
        if kind in (2, 3) and batch is not None and batch.table(3) is not None:
            for offset in batch.buffers(2):
                (size,) = struct.unpack_from("<q", payload, body + offset)
                total += max(size, 0)
        if total > LARGEST:
            raise ValueError(f"more than {LARGEST >> 20} MiB after decompression")
        place = body + max(0, message.number(3, "q"))


class _Table:
    """A table of a FlatBuffer."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data, self._place = data, place
        self._fields = place - struct.unpack_from("<i", data, place)[0]
        if self._fields < 0:
            raise struct.error("damaged")
        (self._size,) = struct.unpack_from("<H", data, self._fields)

    def _at(self, field: int) -> int | None:
        slot = 4 + 2 * field
        if slot + 2 > self._size:
            return None
        (offset,) = struct.unpack_from("<H", self._data, self._fields + slot)
        return self._place + offset if offset else None

    def number(self, field: int, form: str) -> int:
        """The number in a field; 0 if the field is absent."""
        place = self._at(field)
        return 0 if place is None else int(struct.unpack_from(f"<{form}", self._data, place)[0])

    def table(self, field: int) -> "_Table | None":
        """The table in a field; None if the field is absent."""
        place = self._at(field)
        if place is None:
            return None
        return _Table(self._data, place + struct.unpack_from("<I", self._data, place)[0])

    def buffers(self, field: int) -> list[int]:
        """Offsets of the buffers in a field, without the empty ones."""
        place = self._at(field)
        if place is None:
            return []
        place += struct.unpack_from("<I", self._data, place)[0]
        (count,) = struct.unpack_from("<I", self._data, place)
        pairs = struct.iter_unpack("<qq", self._data[place + 4 : place + 4 + 16 * count])
        return [offset for offset, length in pairs if length > 0]


ARROW = Decoder(read_arrow)
