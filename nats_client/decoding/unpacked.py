"""Decompresses payloads: gzip, zstd and snappy, recognised by a header or by their first bytes.

The size of the result is bounded before it is allocated, so a small payload cannot use up the memory.
"""

import struct
import zlib

import pyarrow as pa

from .decoder import Headers

LARGEST = 1 << 25
"""Maximum bytes of one payload after decompression."""
GZIP, ZSTD, SNAPPY = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\xff\x06\x00\x00sNaPpY"
_ENCODINGS = {
    "gzip": "gzip",
    "x-gzip": "gzip",
    "zstd": "zstd",
    "snappy": "snappy",
    "x-snappy-framed": "snappy",
    "identity": "",
    "": "",
}
_NESTED = 2
"""Maximum layers of compression."""


def unpacked(payload: bytes, headers: Headers) -> bytes:
    """Decompress a payload; one that is not compressed is returned as it is. `headers` have names in lower
    case. Raises ValueError if it is damaged or larger than LARGEST."""
    named = [each.strip().lower() for each in headers.get("content-encoding", "").split(",")][::-1]
    layers = 0
    for encoding in named[:_NESTED]:
        if encoding not in _ENCODINGS:
            raise ValueError(f"Content-Encoding {encoding[:40]!r} is not gzip, zstd or snappy")
        if kind := _ENCODINGS[encoding]:
            # Some libraries set the header but send the payload uncompressed. That is not an error.
            if kind != "snappy" and _magic(payload) != kind:
                continue
            payload = _decompressed(payload, kind)
            layers += 1
    while layers < _NESTED and (kind := _magic(payload)):
        payload = _decompressed(payload, kind)
        layers += 1
    return payload


def is_packed(payload: bytes) -> bool:
    """True if the first bytes are those of a compressed payload."""
    return payload.startswith((GZIP, ZSTD, SNAPPY))


def _magic(payload: bytes) -> str:
    if payload.startswith(GZIP):
        return "gzip"
    if payload.startswith(ZSTD):
        return "zstd"
    return "snappy" if payload.startswith(SNAPPY) else ""


def _decompressed(payload: bytes, kind: str) -> bytes:
    try:
        if kind == "gzip":
            return _gzip(payload)
        if kind == "zstd":
            with pa.CompressedInputStream(pa.BufferReader(payload), "zstd") as stream:
                found: bytes = stream.read(LARGEST + 1)
            return _checked(found)
        return _snappy_frames(payload) if payload.startswith(SNAPPY) else snappy_block(payload)
    except (zlib.error, OSError, EOFError, pa.ArrowException, struct.error, IndexError) as error:
        raise ValueError(f"damaged {kind}: {str(error)[:100] or 'cut off'}") from None


def _gzip(payload: bytes) -> bytes:
    parts: list[bytes] = []
    size = 0
    while payload.startswith(GZIP[:2]):
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        parts.append(member.decompress(payload, LARGEST + 1 - size))
        size += len(parts[-1])
        if size > LARGEST:
            break
        if not member.eof:
            raise EOFError("cut off")
        payload = member.unused_data
    return _checked(b"".join(parts))


def snappy_block(payload: bytes) -> bytes:
    """Decompress one snappy block without a frame. Raises ValueError if it is too large, and ArrowException
    or IndexError if it is damaged."""
    size = shift = place = 0
    while True:  # the size is a varint
        byte = payload[place]
        size |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            break
        if shift > 28:
            raise ValueError("damaged snappy: no size at its start")
    _check(size)
    found: bytes = pa.Codec("snappy").decompress(payload, decompressed_size=size, asbytes=True)
    return found


def _snappy_frames(payload: bytes) -> bytes:
    parts: list[bytes] = []
    size, place = 0, 0
    while place < len(payload):
        kind, length = payload[place], int.from_bytes(payload[place + 1 : place + 4], "little")
        chunk = payload[place + 4 : place + 4 + length]
        if len(chunk) < length or (kind < 2 and length < 4):
            raise EOFError("cut off")
        if kind == 0:
            parts.append(snappy_block(chunk[4:]))
        elif kind == 1:
            parts.append(chunk[4:])
        elif 2 <= kind < 128:
            raise OSError(f"a chunk of the unknown kind {kind}")
        if kind < 2:
            size += len(parts[-1])
            _check(size)
        place += 4 + length
    return b"".join(parts)


def _check(size: int) -> None:
    if size > LARGEST:
        raise ValueError(f"more than {LARGEST >> 20} MiB after decompression")


def _checked(found: bytes) -> bytes:
    _check(len(found))
    return found
