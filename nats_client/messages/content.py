"""The content of one message: its value as a tree, its differences from another one, and its bytes in hex."""

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..decoding.auto_payloads import taken_for
from ..decoding.decode import read_value
from ..decoding.decoders import reads_whole
from ..decoding.unpacked import unpacked
from .stored import StoredMessage, joined

MOST_NODES = 2_000
"""Maximum values of a tree."""
MOST_CHILDREN = 200
"""Maximum values shown of one object or array."""
DEEPEST = 40
"""Maximum levels of a tree."""
LONGEST = 1_000
"""Maximum characters of a value."""
MOST_FIELDS = 20_000
"""Maximum fields of a message that are compared."""
MOST_DIFFERENCES = 200
AUTO = "auto"

Node = tuple[int, str, str, str]
"""Level, name, kind and text of a value. The text of an object or array is its number of values. The kinds
are "object", "array", "text", "number", "true or false", "nothing", "bytes", "time", and "more" in place of
values that were cut."""
Difference = tuple[str, str | None, str | None]
"""The path of a field, and its value in the first and in the second message; None if a message lacks it."""


@dataclass(frozen=True)
class Content:
    """The decoded content of a payload."""

    taken_for: str
    """The name of the decoder that read it, "" if none did."""
    value: Any
    why: str
    """Why the requested decoder could not read it; part of a sentence, or empty."""
    unpacked: bytes
    """The payload without compression."""

    @property
    def is_structured(self) -> bool:
        """True if there is a value, and it is more than a text."""
        return bool(self.taken_for) and not isinstance(self.value, str)


def content_of(message: StoredMessage, decoder: str) -> Content:
    """Decode the payload of `message` with `decoder` or, if that fails, in the format that it appears to
    have. The whole payload is decoded, even if `decoder` reads only the rows of an array in it."""
    decoder = reads_whole(decoder)
    if not message.payload:
        return Content("", None, "the payload is empty", b"")
    headers = joined(message.headers)
    lower = {name.lower(): text for name, text in headers.items()}
    try:
        payload = unpacked(message.payload, lower)
    except ValueError as error:
        return Content("", None, str(error), message.payload)
    why = ""
    if decoder.partition("#")[0] != AUTO:
        try:
            return Content(
                decoder, read_value(message.payload, message.subject, headers, decoder), "", payload
            )
        except Exception as error:  # a custom decoder may raise anything
            why = _said(error)
    try:
        name, value = taken_for(payload, lower)
    except Exception as error:
        return Content("", None, why or _said(error), payload)
    return Content(name, value, why, payload)


def tree(value: Any) -> list[Node]:
    """`value` and all values within it, parents first, at most MOST_NODES."""
    nodes: list[Node] = []
    _add(nodes, 0, "", value)
    if len(nodes) >= MOST_NODES:
        nodes.append((0, "", "more", f"The tree is cut after {MOST_NODES:,} values."))
    return nodes


def differences(before: Any, after: Any) -> tuple[list[Difference], int]:
    """The fields in which two values differ, by path, at most MOST_DIFFERENCES, and the number of further
    differences. Only the first MOST_FIELDS fields of each value are compared."""
    one, other = dict(_fields(before)), dict(_fields(after))
    found: list[Difference] = []
    count = 0
    for path in dict.fromkeys([*other, *one]):
        if one.get(path) == other.get(path):
            continue
        count += 1
        if len(found) < MOST_DIFFERENCES:
            was, now = (_cut(each[path]) if path in each else None for each in (one, other))
            found.append((path, was, now))
    return found, count - len(found)


def hex_lines(payload: bytes) -> str:
    """A hex dump. Each line has the offset, sixteen bytes in hex, and the same bytes in ASCII."""
    lines = []
    for at in range(0, len(payload), 16):
        part = payload[at : at + 16]
        shown = "".join(chr(code) if 32 <= code < 127 else "·" for code in part)
        lines.append(f"{at:08x}  {part[:8].hex(' '):23}  {part[8:].hex(' '):23}  {shown}")
    return "\n".join(lines)


def _add(nodes: list[Node], level: int, name: str, value: Any) -> None:
    if len(nodes) >= MOST_NODES:
        return
    if level < DEEPEST and isinstance(value, Mapping | list | tuple):
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        kind = "object" if isinstance(value, Mapping) else "array"
        nodes.append((level, name, kind, f"{len(value):,}"))
        for i, (key, each) in enumerate(pairs):
            if i == MOST_CHILDREN and len(nodes) < MOST_NODES:
                nodes.append((level + 1, "", "more", f"{len(value) - i:,} more"))
            if i >= MOST_CHILDREN:
                break
            _add(nodes, level + 1, _cut(str(key)), each)
        return
    kind, text = _scalar(value)
    nodes.append((level, name, kind, _cut(text)))


def _fields(value: Any) -> Iterator[tuple[str, str]]:
    waiting: list[tuple[str, Any]] = [("", value)]
    count = 0
    while waiting and count < MOST_FIELDS:
        path, each = waiting.pop()
        if isinstance(each, Mapping) and each:
            pairs = [(f"{path}.{key}" if path else str(key), one) for key, one in each.items()]
        elif isinstance(each, list | tuple) and each:
            pairs = [(f"{path}[{i}]", one) for i, one in enumerate(each[:MOST_FIELDS])]
        else:
            count += 1
            kind, text = _scalar(each)
            yield _cut(path or "(value)"), json.dumps(text, ensure_ascii=False) if kind == "text" else text
            continue
        waiting += reversed(pairs[:MOST_FIELDS])


def _scalar(value: Any) -> tuple[str, str]:
    if value is None:
        return "nothing", "null"
    if isinstance(value, bool):
        return "true or false", "true" if value else "false"
    if isinstance(value, str):
        return "text", value
    if isinstance(value, int | float):
        return "number", repr(value)
    if isinstance(value, bytes | bytearray):
        return "bytes", bytes(value[: LONGEST + 1]).hex(" ")
    if isinstance(value, dt.date | dt.time):
        return "time", value.isoformat()
    return ("object" if isinstance(value, Mapping | list | tuple) else "number"), str(value)[: LONGEST + 1]


def _cut(text: str) -> str:
    text = text.encode("utf-8", "replace").decode() if not text.isascii() else text  # lone surrogates
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text):,} characters)"


def _said(error: Exception) -> str:
    text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    return _cut(text)
