"""Decodes CloudEvents, with the attributes in headers (binary mode) or in JSON (structured mode).

Both modes have the same columns: one per attribute, and those of the data with the prefix `data.`.
"""

import base64
import binascii
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from .decoder import Decoder, Headers
from .json_payloads import read_json

REQUIRED = {"specversion", "id", "source", "type"}
PREFIX = "ce-"
BATCH = "application/cloudevents-batch+json"
Inner = Callable[[bytes, str], tuple[str, Any]]
"""Decodes the data of an event with this content type, or "" if unknown, to the name of its format and its
value."""


def read_event(value: Any) -> Any:
    """The event or events of a JSON value in structured mode; None if the value is something else."""
    if (
        type(value) is list
        and value
        and all(type(each) is dict and each.keys() >= REQUIRED for each in value)
    ):
        return [_structured(each) for each in value]
    return _structured(value) if type(value) is dict and value.keys() >= REQUIRED else None


def event_of(payload: bytes, headers: Headers, inner: Inner) -> Any:
    """The event of a message in binary mode; None if its headers are not those of an event. Raises
    ValueError."""
    attributes = {
        name[len(PREFIX) :]: unquote(text) for name, text in headers.items() if name.startswith(PREFIX)
    }
    if not attributes.keys() >= REQUIRED:
        return None
    said = headers.get("content-type", "")
    event: dict[str, Any] = {key: attributes[key] for key in ("specversion", "id", "source", "type")}
    event |= attributes
    if said:
        event["datacontenttype"] = said
    if payload:
        event["data"] = inner(payload, said.partition(";")[0].strip().lower())[1]
    return event


def _structured(value: dict[str, Any]) -> dict[str, Any]:
    event = dict(value)
    encoded = event.pop("data_base64", None)
    if isinstance(encoded, str):
        try:
            event["data"] = f"0x{base64.b64decode(encoded, validate=True).hex()}"
        except binascii.Error:
            raise ValueError("not a CloudEvent: data_base64 is not base64") from None
    return event


def _json_or_text(payload: bytes, said: str) -> tuple[str, Any]:
    if said in ("", "application/json", "text/json") or said.endswith("+json"):
        return "json", read_json(payload)
    try:
        return "text", payload.decode()
    except UnicodeDecodeError:
        return "bytes", f"0x{payload.hex()}"


def _message(payload: bytes, subject: str, headers: Headers) -> Any:
    """Decode one message. Raises ValueError if it is not an event."""
    event = event_of(payload, headers, _json_or_text)
    if event is None:
        event = read_event(read_json(payload))
    if event is None:
        raise ValueError("not a CloudEvent: no specversion, id, source and type, in headers or in JSON")
    return event


def _one(payload: bytes) -> Any:
    return _message(payload, "", {})


CLOUDEVENTS = Decoder(_one, message=_message)
