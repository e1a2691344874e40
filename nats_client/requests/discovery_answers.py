"""Validates the replies to `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS` (ADR-32).

Anyone who may publish may reply, so each part is checked before use.
"""

from typing import Any

import orjson
import pandas as pd

LARGEST = 128 * 1024
"""Maximum bytes of a reply."""
LONGEST_NAME = 256
"""Maximum characters of a name, id, version or subject."""


def read_answer(verb: str, payload: bytes) -> dict[str, Any]:
    """Parse and validate the reply to `verb` ("PING", "INFO" or "STATS"). Returns the fields that are used:
    name, id, version, metadata; with INFO description; with STATS started (UTC or None); with both endpoints,
    with times in seconds. Raises ValueError if the reply violates the protocol."""
    if len(payload) > LARGEST:
        raise ValueError(f"too large ({len(payload):,} bytes)")
    answer = orjson.loads(payload)
    if not isinstance(answer, dict):
        raise ValueError("not a JSON object")
    kind = f"io.nats.micro.v1.{verb.lower()}_response"
    if answer.get("type") != kind:
        raise ValueError(f"its type is not {kind!r}")
    checked: dict[str, Any] = {part: _name(answer, part) for part in ("name", "id", "version")}
    checked["metadata"] = _metadata(answer)
    if verb == "INFO":
        checked["description"] = _text(answer, "description")
    if verb == "STATS":
        checked["started"] = _time(answer)
    if verb != "PING":
        checked["endpoints"] = [_endpoint(each, verb) for each in _list(answer)]
    return checked


def _endpoint(answer: Any, verb: str) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise ValueError("an endpoint is not a JSON object")
    checked: dict[str, Any] = {part: _name(answer, part) for part in ("name", "subject")}
    checked |= {"queue_group": _text(answer, "queue_group")[:LONGEST_NAME], "metadata": _metadata(answer)}
    if verb == "STATS":
        checked |= {part: int(_number(answer, part)) for part in ("num_requests", "num_errors")}
        for part in ("processing_time", "average_processing_time"):
            checked[part] = _number(answer, part) / 1e9
        checked["last_error"] = _text(answer, "last_error")
    return checked


def _name(answer: dict[str, Any], part: str) -> str:
    value = answer.get(part)
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME:
        raise ValueError(f"{part!r} is not a string of 1 to {LONGEST_NAME} characters")
    return value


def _text(answer: dict[str, Any], part: str) -> str:
    value = answer.get(part)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{part!r} is not a string")
    return value or ""


def _number(answer: dict[str, Any], part: str) -> float:
    value = answer.get(part)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**63:
        raise ValueError(f"{part!r} is not a number of at least 0")
    return value


def _metadata(answer: dict[str, Any]) -> dict[str, str]:
    value = answer.get("metadata")
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise ValueError("'metadata' is not an object of strings")
    return value


def _list(answer: dict[str, Any]) -> list[Any]:
    value = answer.get("endpoints")
    if value is not None and not isinstance(value, list):
        raise ValueError("'endpoints' is not a list")
    return value or []


def _time(answer: dict[str, Any]) -> pd.Timestamp | None:
    """When an instance started, UTC; None if missing or unreadable."""
    text = _text(answer, "started")
    try:
        moment = pd.Timestamp(text)
        moment = moment.tz_localize("UTC") if moment.tz is None else moment.tz_convert("UTC")
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if 1970 < moment.year < 2200 else None  # Go's zero time is in year 1
