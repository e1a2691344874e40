"""Decodes Avro: object containers, which contain their schema, or the schema of a file: `avro:FILE`.

Messages with the schema of a file are bare values, or the single-object encoding with its fingerprint.

fastavro trusts its schemas: a recursive schema overflows the stack, and items without bytes can be repeated
without limit. So each schema is checked first, and each block is decompressed here, up to a limit.
"""

import io
import json
import zlib
from functools import lru_cache
from typing import Any

import pyarrow as pa

from ..errors import SettingsError
from .decoder import Decoder
from .plain_values import plain
from .schema_files import FileVersion, file_version, files_with, read_schema, schema_file
from .unpacked import LARGEST, snappy_block

CONTAINER, SINGLE = b"Obj\x01", b"\xc3\x01"
"""First bytes of an object container, and of the single-object encoding."""
ENDINGS = (".avsc",)
MOST_TYPES = 2_000
"""Maximum types in a schema, each counted wherever it is used."""
DEEPEST_SCHEMA = 32
MOST_RECORDS = 1_000_000
"""Maximum records in one payload."""
LARGEST_HEAD = 1 << 20
"""Maximum bytes of a container's schema."""
_PRIMITIVE = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}


def avro_of(options: str) -> Decoder:
    """The decoder for bare values with the schema in the file `options`. Raises SettingsError."""
    schema, fingerprint = _schema_in(options, file_version(schema_file(options, *ENDINGS)))

    def one(payload: bytes) -> Any:
        if payload.startswith(CONTAINER):
            return read_container(payload)
        if payload.startswith(SINGLE + fingerprint):
            payload = payload[10:]
        return plain(_values(schema, payload, 1)[0])

    return Decoder(one)


def offered() -> list[str]:
    """Names of decoders, one for each schema in the folder."""
    return [f"avro:{file.name}" for file in files_with(*ENDINGS)]


@lru_cache(maxsize=32)
def _schema_in(name: str, _: FileVersion) -> tuple[Any, bytes]:
    """The schema of a file, and its fingerprint (CRC-64-AVRO, little-endian)."""
    import fastavro  # loaded only when used

    try:
        written = json.loads(read_schema(schema_file(name, *ENDINGS)))
        schema = _checked(written, repeated=False)
        canonical = fastavro.schema.to_parsing_canonical_form(written)
        return schema, bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))
    except SettingsError:
        raise
    except Exception as error:
        raise SettingsError(f"{name!r} is not a usable Avro schema: {str(error)[:200]}.") from None


def read_container(payload: bytes) -> Any:
    """Decode an object container into an array of its records. Raises ValueError."""
    if not payload.startswith(CONTAINER):
        raise ValueError("not an Avro object container; a bare value needs a schema: 'avro:FILE'")
    try:
        return _container(payload)
    except (EOFError, IndexError, KeyError, zlib.error, pa.ArrowException, OSError) as error:
        raise ValueError(f"damaged Avro: {str(error)[:100] or 'cut off'}") from None


def _container(payload: bytes) -> list[Any]:
    stream = io.BytesIO(payload)
    stream.seek(len(CONTAINER))
    head: dict[str, bytes] = {}
    while count := _long(stream):
        if count < 0:
            _long(stream)
        for _ in range(min(abs(count), 1000)):
            key = _bytes(stream)
            head[key.decode("utf-8", "replace")] = _bytes(stream)
    marker = _exactly(stream, 16)
    codec = head.get("avro.codec", b"null").decode("ascii", "replace")
    schema = _schema_of(head["avro.schema"])
    found: list[Any] = []
    size = 0
    while stream.tell() < len(payload):
        count = _long(stream)
        block = _block(_bytes(stream), codec)
        size += len(block)
        if not 0 <= count <= MOST_RECORDS - len(found) or size > LARGEST:
            raise ValueError(f"more than {MOST_RECORDS:,} records or {LARGEST >> 20} MiB in one message")
        if _exactly(stream, 16) != marker:
            raise ValueError("damaged Avro: a block does not end where it should")
        found += _values(schema, block, count)
    return [plain(each) for each in found]


@lru_cache(maxsize=64)
def _schema_of(text: bytes) -> Any:
    if len(text) > LARGEST_HEAD:
        raise ValueError(f"an Avro schema of more than {LARGEST_HEAD >> 20} MiB")
    try:
        return _checked(json.loads(text), repeated=True)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"not an Avro schema: {str(error)[:100]}") from None


def _checked(written: Any, *, repeated: bool) -> Any:
    """Parse a schema. Raises ValueError if it is not safe to use for one value or, if `repeated`, for
    many."""
    import fastavro

    _Check().visit(written, "", 0, (), repeated)
    return fastavro.parse_schema(written, _write_hint=False)


class _Check:
    """Visits every type of a schema, with all types nested in it."""

    def __init__(self) -> None:
        self._left = MOST_TYPES
        self._named: dict[str, tuple[Any, str]] = {}

    def visit(self, schema: Any, space: str, depth: int, within: tuple[str, ...], repeated: bool) -> None:
        """Raises ValueError if the schema contains itself, is too large, or has repeated items without
        bytes."""
        self._left -= 1
        if self._left < 0 or depth > DEEPEST_SCHEMA:
            raise ValueError(f"an Avro schema of more than {MOST_TYPES} types or {DEEPEST_SCHEMA} levels")
        if isinstance(schema, list):
            for each in schema:
                # A null in a union has a byte: the index of its branch.
                self.visit(each, space, depth + 1, within, False if each == "null" else repeated)
            return
        kind = schema.get("type") if isinstance(schema, dict) else schema
        if isinstance(kind, dict | list):
            self.visit(kind, space, depth + 1, within, repeated)
            return
        if not isinstance(kind, str):
            raise ValueError("an Avro schema without a type")
        if kind in _PRIMITIVE:
            if kind == "null" and repeated:
                raise ValueError("an Avro schema with repeated items that have no bytes")
            return
        if kind in ("array", "map"):
            self.visit(schema["items" if kind == "array" else "values"], space, depth + 1, within, True)
            return
        if kind in ("record", "error", "enum", "fixed"):
            name, space = _full(schema.get("name"), schema.get("namespace", space))
            self._named[name] = (schema, space)
        else:
            name, _ = _full(kind, space)
            name = name if name in self._named else kind
            if name not in self._named:
                raise ValueError(f"an Avro schema without the type {kind[:100]!r}")
            schema, space = self._named[name]
            kind = schema["type"]
        if name in within:
            raise ValueError(f"an Avro schema whose type {name[:100]!r} contains itself")
        if kind == "fixed" and repeated and not schema.get("size"):
            raise ValueError("an Avro schema with repeated items that have no bytes")
        if kind in ("record", "error"):
            if repeated and not schema["fields"]:
                raise ValueError("an Avro schema with repeated items that have no bytes")
            for each in schema["fields"]:
                self.visit(each["type"], space, depth + 1, (*within, name), repeated)


def _full(name: Any, space: Any) -> tuple[str, str]:
    if not isinstance(name, str) or not isinstance(space, str | None):
        raise ValueError("an Avro schema with a type without a name")
    if "." in name:
        return name, name.rpartition(".")[0]
    return (f"{space}.{name}" if space else name), space or ""


def _values(schema: Any, block: bytes, count: int) -> list[Any]:
    import fastavro

    stream = io.BytesIO(block)
    try:
        found = [fastavro.schemaless_reader(stream, schema, None) for _ in range(count)]
    except Exception as error:
        raise ValueError(f"does not fit the Avro schema: {str(error)[:100] or 'cut off'}") from None
    if stream.tell() != len(block):
        raise ValueError(f"does not fit the Avro schema: {len(block) - stream.tell()} bytes are left over")
    return found


def _block(block: bytes, codec: str) -> bytes:
    if codec == "null":
        return block
    if codec == "deflate":
        member = zlib.decompressobj(-zlib.MAX_WBITS)
        found = member.decompress(block, LARGEST + 1)
        if not member.eof and len(found) <= LARGEST:
            raise EOFError("cut off")
        return found
    if codec == "snappy":
        return snappy_block(block[:-4])  # the last four bytes are a checksum
    if codec == "zstandard":
        with pa.CompressedInputStream(pa.BufferReader(block), "zstd") as stream:
            text: bytes = stream.read(LARGEST + 1)
        return text
    raise ValueError(f"the Avro codec {codec[:40]!r} is not null, deflate, snappy or zstandard")


def _long(stream: io.BytesIO) -> int:
    value = shift = 0
    while True:
        byte = _exactly(stream, 1)[0]
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return (value >> 1) ^ -(value & 1)
        if shift > 63:
            raise EOFError("an integer that does not end")


def _bytes(stream: io.BytesIO) -> bytes:
    return _exactly(stream, _long(stream))


def _exactly(stream: io.BytesIO, count: int) -> bytes:
    found = stream.read(count) if count >= 0 else b""
    if len(found) != count:
        raise EOFError("cut off")
    return found


AVRO = Decoder(read_container, configured=avro_of)
