"""What a decoder is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..table.values import Values

Row = dict[str, Any]


@dataclass(slots=True)
class Columns:
    """What many payloads hold, one value for each of them."""

    values: dict[str, Values]
    """By field, in the order of the first payload."""
    integral: set[str]
    """Fields that hold only integers."""


def _none(*asked: object) -> None:
    """There is no faster way."""


@dataclass(frozen=True)
class Decoder:
    """How payloads are read. A payload is a row where it is an object, several where it is an array of them,
    and otherwise a row with the column `value`."""

    one: Callable[[bytes], Any]
    """The value of a payload, as JSON has values. Raises ValueError, which says what is wrong with it."""
    rows: Callable[[Sequence[bytes]], list[Row] | None] = _none
    """A faster way: many payloads at once, each an object; None where any is something else."""
    columns: Callable[[Sequence[bytes], int, int], Columns | None] = _none
    """A still faster way, by columns; None where a text has more bytes than the second argument says, where
    a number is as large as the third, or where anything is unusual. Both faster ways must come to the same as
    `one`."""
