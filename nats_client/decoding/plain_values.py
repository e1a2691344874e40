"""Converts what decoding libraries return into values as in JSON.

Meaning is kept. Times become ISO 8601 texts, and bytes become hexadecimal texts. Decimals become numbers if
float64 holds them exactly, and texts otherwise. Integers beyond 64 bits become texts.
"""

import datetime as dt
import math
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

LARGEST_VALUE = 1 << 25
"""The default size of a payload in bytes: the maximum after decompression."""
DEEPEST_VALUE = 100
"""Maximum levels of arrays and objects."""
LONGEST_BYTES = 2048
"""Bytes of a binary value that are kept."""
_WIDE = 128
"""Bits of the longest integer that is kept to the digit."""


class _Budget:
    __slots__ = ("text", "values")

    def __init__(self, size: int) -> None:
        # In formats with references, a few bytes can repeat a large value.
        self.values = 1_000 + min(size, 1_000_000) * 2
        self.text = 10_000 + size * 4


def plain(value: Any, size: int = LARGEST_VALUE) -> Any:
    """Convert `value` and what it contains. Raises ValueError if it is nested too deeply, or too large for a
    payload of `size` bytes."""
    return _plain(value, _Budget(size), DEEPEST_VALUE)


def _plain(value: Any, left: _Budget, depth: int) -> Any:
    left.values -= 1
    kind = type(value)
    if kind is str:
        left.text -= len(value)
    if left.values < 0 or left.text < 0:
        raise ValueError("too many values, or too much text")
    if kind is str or kind is bool or value is None:
        return value
    if kind is float:
        return value if value == value else math.nan  # a NaN with other bits would be a null in a column
    if kind is int:
        return value if -(2**63) <= value < 2**64 else _long(value)
    if depth == 0:
        raise ValueError("nested too deeply")
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for key, item in value.items():
            name = key if type(key) is str else _key(key)
            left.text -= len(name)
            found[_free(name, found)] = _plain(item, left, depth - 1)
        return found
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, left, depth - 1) for item in value]
    return _scalar(value, left)


def _scalar(value: Any, left: _Budget) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        left.text -= 2 * min(len(value), LONGEST_BYTES)
        return hexadecimal(bytes(value))
    if isinstance(value, dt.datetime):
        return iso_text(value)
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return decimal_value(value)
    if isinstance(value, int | float | str):  # subclasses, such as enumerations
        base: Any = next(each for each in (bool, int, float, str) if isinstance(value, each))
        return _plain(base(value), left, DEEPEST_VALUE)
    try:
        text = str(value)
    except Exception:
        text = type(value).__name__
    left.text -= len(text)
    return text[:LONGEST_BYTES]


def hexadecimal(value: bytes) -> str:
    """Bytes as hexadecimal text with the prefix 0x."""
    more = "…" if len(value) > LONGEST_BYTES else ""
    return f"0x{value[:LONGEST_BYTES].hex()}{more}"


def iso_text(value: dt.datetime) -> str:
    """A time in ISO 8601: in UTC with the zone Z, or without a zone if it has none."""
    if value.tzinfo is None:
        return value.isoformat()
    try:
        value = value.astimezone(dt.UTC)
    except OverflowError:
        return value.isoformat()
    return f"{value.replace(tzinfo=None).isoformat()}Z"


def iso_of_ns(ns: int) -> str | None:
    """A time in ns since the epoch as ISO 8601 with nanoseconds, in UTC; None outside the years 1 to 9999."""
    seconds, rest = divmod(ns, 10**9)
    try:
        time = dt.datetime.fromtimestamp(seconds, dt.UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return f"{time.replace(tzinfo=None).isoformat()}.{rest:09}Z"


def epoch_text(value: float) -> Any:
    """A time since the epoch as ISO 8601; its size decides between seconds and nanoseconds. `value` itself if
    it is not a time."""
    size = abs(value)
    scale = 10**9 if size < 1e11 else 10**6 if size < 1e14 else 10**3 if size < 1e17 else 1
    try:
        # Today's time in seconds as a float is exact to about a microsecond.
        ns = value * scale if type(value) is int else round(value * scale / 1000) * 1000
        return iso_of_ns(int(ns)) or value
    except (OverflowError, ValueError):
        return value


def decimal_value(value: Decimal) -> float | int | str:
    """A decimal as a number if float64 holds it exactly, otherwise as text with its digits."""
    try:
        number = float(value)
        if not value.is_finite() or Decimal(repr(number)) == value:
            return number
    except (OverflowError, ValueError, InvalidOperation):
        pass
    return str(value)


def _long(value: int) -> str:
    return str(value) if value.bit_length() <= _WIDE else f"an integer of {value.bit_length()} bits"


def _key(key: Any) -> str:
    if isinstance(key, bytes):
        try:
            return key.decode()
        except UnicodeDecodeError:
            return hexadecimal(key)
    try:
        return str(key)[:LONGEST_BYTES]
    except Exception:
        return type(key).__name__


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """`name`, or a longer one if keys of different types have the same text."""
    while name in taken:
        name += "'"
    return name
