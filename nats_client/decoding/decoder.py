"""The interface of decoders."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..table.values import Values

LONGEST_TEXT = 4096
"""Maximum characters kept of a text value."""

Row = dict[str, Any]
Headers = Mapping[str, str]
Question = tuple[bytes, str, dict[str, str]]
"""Payload, subject and headers of a message."""
Answer = tuple[bool, Any]
"""True and the value, or False and the reason why there is none."""


@dataclass(slots=True)
class Columns:
    """The fields of many payloads as columns, with one value per payload."""

    values: dict[str, Values]
    """Columns by field name, in the order of the first payload."""
    integral: set[str]
    """Fields that hold only integers."""
    truths: set[str] = field(default_factory=set)
    """Fields that hold only true and false."""


def _none(*asked: object) -> None:
    """The default: no faster way."""


@dataclass(frozen=True)
class Decoder:
    """Functions that decode payloads. An object becomes one row, an array one row per item, and anything else
    a row with the column `value`."""

    one: Callable[[bytes], Any]
    """Decode one payload to a value as in JSON. Raises ValueError with the reason."""
    rows: Callable[[Sequence[bytes]], list[Row] | None] = _none
    """A faster way: decode many payloads at once, if each is an object; None otherwise."""
    columns: Callable[[Sequence[bytes], int, int], Columns | None] = _none
    """The fastest way: decode many payloads into columns. None if a text has more bytes than the second
    argument, if the size of a number is at least the third, or if anything is unusual. Both faster ways must
    have the same result as `one`."""
    message: Callable[[bytes, str, Headers], Any] | None = None
    """Decode one payload with the message's subject and headers, in place of `one`. The names of the headers
    are in lower case."""
    many: Callable[[Sequence[Question]], list[Answer]] | None = None
    """Decode many messages, in place of `one`, without raising."""
    needs_options: bool = False
    """True if the decoder cannot decode anything without options."""
    configured: "Callable[[str], Decoder] | None" = None
    """The same decoder with options, the text after the colon in its name. Raises SettingsError."""
