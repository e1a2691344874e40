"""JSON: objects, arrays of objects, scalars."""

import contextlib
import json
from collections.abc import Sequence
from typing import Any

import orjson

from .decoder import Decoder, Row
from .json_columns import read_columns

JOINED = 1000
"""Payloads that are read in one go."""


def read_json(payload: bytes) -> Any:
    """One payload. Raises ValueError."""
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        if b"NaN" in payload or b"Infinity" in payload:
            # No JSON, but what Python and others write for a value that is missing: the rest is sound.
            with contextlib.suppress(ValueError, RecursionError):
                return json.loads(payload, parse_int=_integer)
        raise ValueError(f"not JSON: {error.msg} at byte {error.pos}") from None


def _integer(digits: str) -> int | float:
    """As orjson reads it: a float where 64 bits do not suffice."""
    value = int(digits)
    return value if -(2**63) <= value < 2**64 else float(digits)


def _objects(payloads: Sequence[bytes]) -> list[Row] | None:
    """The rows of `payloads` where each is one JSON object, in which there is no array; None where any is
    not.

    They are read in one go, joined to an array by a comma and a line break. No string of JSON has a line
    break in it, so none reaches from one payload into the next. Before each comma there is a "}" and behind
    it a "{", which within an object would have to be a key. So each payload is one value or several, and all
    are one where together they are as many as there are payloads.
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


JSON = Decoder(read_json, _objects, read_columns)
