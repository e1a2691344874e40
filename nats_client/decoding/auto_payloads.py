"""Recognises the format of each payload, from the message's headers and the first bytes.

The column `_format` contains the recognised format.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..table.values import Coded
from .agent_payloads import fluent_bit_rows, telegraf_rows
from .arrow_payloads import FILE, STREAM, read_arrow
from .avro_payloads import CONTAINER, SINGLE, read_container
from .cbor_payloads import read_cbor
from .cloudevents_payloads import event_of, read_event
from .csv_payloads import DELIMITERS, read_csv
from .decoder import Columns, Decoder, Headers
from .json_columns import read_columns
from .json_payloads import read_json
from .line_protocol import read_line_protocol
from .msgpack_payloads import read_msgpack
from .text_payloads import read_text

FORMAT = "_format"
"""The column with the recognised format."""
_TYPES = {
    "application/json": "json",
    "text/json": "json",
    "application/x-ndjson": "json",
    "application/ndjson": "json",
    "application/jsonl": "json",
    "application/msgpack": "msgpack",
    "application/x-msgpack": "msgpack",
    "application/vnd.msgpack": "msgpack",
    "application/cbor": "cbor",
    "application/cbor-seq": "cbor",
    "text/csv": "csv",
    "text/plain": "text",
    "application/vnd.apache.arrow.stream": "arrow",
    "application/vnd.apache.arrow.file": "arrow",
    "application/avro": "avro",
    "avro/binary": "avro",
    "application/vnd.apache.avro": "avro",
    "application/vnd.influxdb.line-protocol": "influx",
    "application/protobuf": "protobuf",
    "application/x-protobuf": "protobuf",
    "application/vnd.google.protobuf": "protobuf",
}
_READ: dict[str, Callable[[bytes], Any]] = {
    "json": read_json,
    "text": read_text,
    "msgpack": read_msgpack,
    "cbor": read_cbor,
    "csv": read_csv,
    "arrow": read_arrow,
    "avro": read_container,
    "influx": read_line_protocol,
}


def read_auto(payload: bytes, subject: str, headers: Headers) -> Any:
    """Decode one payload. Raises ValueError."""
    name, value = taken_for(payload, headers)
    rows = value if type(value) is list else [value]
    found: list[Any] = []
    for row in rows:
        row = dict(row) if type(row) is dict else {"value": row}
        if FORMAT in row:
            row[f"payload{FORMAT}"] = row.pop(FORMAT)
        row[FORMAT] = name
        found.append(row)
    return found


def taken_for(payload: bytes, headers: Headers) -> tuple[str, Any]:
    """The name of a payload's format, and its value. Raises ValueError if no known format fits."""
    said = headers.get("content-type", "").partition(";")[0].strip().lower()
    if (event := event_of(payload, headers, inner)) is not None:
        return "cloudevents", event
    return inner(payload, said)


def inner(payload: bytes, said: str) -> tuple[str, Any]:
    """Like taken_for, for a payload with the content type `said`, or "" if unknown."""
    name = _TYPES.get(said, "")
    if not name and said.endswith(("+json", "+cbor", "+msgpack")):
        name = said.rpartition("+")[2]
    if name == "protobuf":
        raise ValueError("Protobuf needs a type: choose the decoder 'protobuf:TYPE@FILE'")
    if name:
        try:
            return _shaped(name, _READ[name](payload))
        except ValueError:
            if name == "text":
                raise
            # Some libraries set a content type that has nothing to do with the payload.
    return _shaped(*_recognised(payload))


def _shaped(name: str, value: Any) -> tuple[str, Any]:
    """The format and value, after a check for the conventions of Telegraf, Fluent Bit and CloudEvents."""
    if name in ("json", "msgpack", "cbor"):
        if (rows := telegraf_rows(value)) is not None:
            return "telegraf", rows
        if (rows := fluent_bit_rows(value)) is not None:
            return "fluentbit", rows
        if name == "json" and (event := read_event(value)) is not None:
            return "cloudevents", event
    return name, value


def _recognised(payload: bytes) -> tuple[str, Any]:
    if payload.startswith((STREAM, FILE)):
        return "arrow", read_arrow(payload)
    if payload.startswith(CONTAINER):
        return "avro", read_container(payload)
    if payload.startswith(SINGLE):
        raise ValueError("Avro with the fingerprint of a schema: choose the decoder 'avro:FILE'")
    if (text := _text(payload)) is None:
        return _binary(payload)
    bare = text.lstrip("\ufeff \t\r\n")
    if bare[:1] in '{["-0123456789tfnNI':
        try:
            return "json", read_json(payload)
        except ValueError:
            if bare[:1] == "{":
                raise
    first, _, more = bare.partition("\n")
    if "=" in first and " " in first:
        try:
            return "influx", read_line_protocol(payload)
        except ValueError:
            pass
    if more.strip() and any(each in first for each in DELIMITERS):
        try:
            return "csv", read_csv(payload)
        except ValueError:
            pass
    return "text", text


def _text(payload: bytes) -> str | None:
    """The payload as text; None if it is not text."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return None
    bare = text.rstrip("\0")
    odd = sum(bare.count(chr(code)) for code in (*range(9), *range(14, 27), *range(28, 32)))
    return None if odd or not bare else text


def _binary(payload: bytes) -> tuple[str, Any]:
    """The value of MessagePack or CBOR, if it is an array or a map. Single numbers and texts are not
    accepted, because too many other payloads look like one."""
    first = payload[0]
    kinds = {"msgpack": 0x80 <= first <= 0x9F or 0xDC <= first <= 0xDF, "cbor": 0x80 <= first <= 0xBF}
    kinds["cbor"] |= payload.startswith(b"\xd9\xd9\xf7")  # the tag of self-described CBOR
    for name, possible in kinds.items():
        if possible:
            try:
                return name, _READ[name](payload)
            except ValueError:
                continue
    raise ValueError(f"format not recognised; it begins with {payload[:8].hex(' ')}")


def _columns(payloads: Sequence[bytes], longest: int, exact: int) -> Columns | None:
    found = read_columns(payloads, longest, exact)
    if found is None or {"specversion", FORMAT} & found.values.keys():
        return None
    found.values[FORMAT] = Coded(np.zeros(len(payloads), dtype=np.int32), ["json"])
    return found


def _one(payload: bytes) -> Any:
    return read_auto(payload, "", {})


AUTO = Decoder(_one, columns=_columns, message=read_auto)
