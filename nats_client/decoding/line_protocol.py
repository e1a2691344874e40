"""Decodes InfluxDB line protocol, which Telegraf sends by default.

A line is a row: `measurement`, its tags and its fields are columns, and `time` is its timestamp.
"""

import re
from typing import Any

from .decoder import Decoder
from .plain_values import epoch_text

# Each part matches a character in one way only, so the time is linear in the length of the line.
_NAME = r"(?:[^,=\s\\]|\\.)+"
_MEASUREMENT = re.compile(r"(?:[^,\s\\#]|\\.)(?:[^,\s\\]|\\.)*")
_TAG = re.compile(rf",({_NAME})=({_NAME})")
_FIELD = re.compile(rf'({_NAME})=("(?:[^"\\]|\\.)*"|[^,\s"]+)', re.DOTALL)
_TIME = re.compile(r" +(-?\d{1,19})[ \r]*(?:\n|$)|[ \r]*(?:\n|$)")
_ESCAPED = re.compile(r"\\([,= \\])")
_QUOTED = re.compile(r'\\(["\\])')
_INTEGER = re.compile(r"-?\d{1,20}[iu]")
_FLOAT = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?")
_TRUTH = {**dict.fromkeys(("t", "T", "true", "True", "TRUE"), True)} | dict.fromkeys(
    ("f", "F", "false", "False", "FALSE"), False
)


def read_line_protocol(payload: bytes) -> Any:
    """Decode one payload into an array of objects. Raises ValueError."""
    try:
        text = payload.decode("utf-8-sig").rstrip("\0\r\n ")
    except UnicodeDecodeError:
        raise ValueError("not line protocol: not UTF-8 text") from None
    rows: list[Any] = []
    place, number = 0, 1
    while place < len(text):
        if text[place] in "\r\n#":
            end = text.find("\n", place)
            place = len(text) if end < 0 else end + 1
            number += 1
            continue
        row, place = _line(text, place, number)
        rows.append(row)
        number += 1
    if not rows:
        raise ValueError("not line protocol: no line")
    return rows


def _line(text: str, place: int, number: int) -> tuple[dict[str, Any], int]:
    found = _MEASUREMENT.match(text, place)
    if found is None:
        raise _wrong(number, "no measurement")
    row: dict[str, Any] = {"measurement": _plain(found[0])}
    place = found.end()
    while place < len(text) and text[place] == ",":
        found = _TAG.match(text, place)
        if found is None:
            raise _wrong(number, "a tag is not name=value")
        row[_free(_plain(found[1]), row)] = _plain(found[2])
        place = found.end()
    if text[place : place + 1] != " ":
        raise _wrong(number, "no field")
    while text[place : place + 1] == " ":
        place += 1
    while True:
        found = _FIELD.match(text, place)
        if found is None:
            raise _wrong(number, "a field is not name=value")
        row[_free(_plain(found[1]), row)] = _value(found[2], number)
        place = found.end()
        if text[place : place + 1] != ",":
            break
        place += 1
    found = _TIME.match(text, place)
    if found is None:
        raise _wrong(number, "no timestamp, or a wrong one")
    if found[1]:
        row[_free("time", row)] = epoch_text(int(found[1]))
    return row, found.end()


def _value(text: str, number: int) -> Any:
    if text[0] == '"':
        return _QUOTED.sub(r"\1", text[1:-1])
    if _INTEGER.fullmatch(text):
        return int(text[:-1])
    if _FLOAT.fullmatch(text):
        return float(text)
    if text in _TRUTH:
        return _TRUTH[text]
    raise _wrong(number, f"{text[:40]!r} is not a value")


def _plain(text: str) -> str:
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text


def _free(name: str, row: dict[str, Any]) -> str:
    """`name`, with a ' at its end if the row already has a column of that name."""
    while name in row:
        name += "'"
    return name


def _wrong(number: int, why: str) -> ValueError:
    return ValueError(f"not line protocol: {why} in line {number}")


LINE_PROTOCOL = Decoder(read_line_protocol)
