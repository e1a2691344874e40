"""Decodes JSON: objects, arrays of objects, scalars, and one of these per line (NDJSON)."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from .decoder import Row
from .elements import with_path
from .json_columns import read_columns

JOINED = 1000
"""Payloads parsed in one call."""


BOM = b"\xef\xbb\xbf"


def read_json(payload: bytes) -> Any:
    """Decode one payload. NaN and Infinity are accepted, and so are a byte order mark before and zero bytes
    after the JSON. Several lines, each of them JSON, become an array. Raises ValueError if it is not JSON."""
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        if b"NaN" in payload or b"Infinity" in payload:
            # Not valid JSON, but Python and others write it for missing values.
            with contextlib.suppress(ValueError, RecursionError):
                return json.loads(payload, parse_int=_integer)
        bare = payload.removeprefix(BOM).rstrip(b"\0")
        if len(bare) < len(payload) and bare:
            return read_json(bare)
        if b"\n" in payload.strip() and (values := _lines(payload)) is not None:
            return values
        raise ValueError(f"not JSON: {error.msg} at byte {error.pos}") from None


def _lines(payload: bytes) -> list[Any] | None:
    """The values of the lines; None if one of them is not JSON."""
    lines = [line for line in payload.split(b"\n") if line.strip(b" \t\r\0")]
    try:
        return [orjson.loads(line) for line in lines]
    except orjson.JSONDecodeError:
        return None


def _integer(digits: str) -> int | float:
    """Like orjson: a float if the integer does not fit into 64 bits."""
    value = int(digits)
    return value if -(2**63) <= value < 2**64 else float(digits)


def _objects(payloads: Sequence[bytes]) -> list[Row] | None:
    """Decode `payloads`, if each is one JSON object without arrays; None otherwise.

    They are joined with ",\\n" into one array and parsed in one call. A JSON string cannot contain a line
    break, so none can span two payloads. Each join is "},\\n{", which cannot occur inside an object, because
    a key would have to follow the comma. So each payload is one or more values. If there are as many values
    as payloads, each payload is exactly one.
    """
    rows: list[Row] = []
    for start in range(0, len(payloads), JOINED):
        part = payloads[start : start + JOINED]
        text = b"[%s]" % b",\n".join(part)
        between = len(part) - 1
        if text.count(b"},\n{") != between or text.count(b"\n") != between or text.count(b"[") != 1:
            return None
        try:
            found = orjson.loads(text)
        except orjson.JSONDecodeError:
            return None
        if len(found) != len(part) or type(found[0]) is not dict or type(found[-1]) is not dict:
            return None
        rows += found
    return rows


JSON = replace(with_path("json", read_json), rows=_objects, columns=read_columns)
