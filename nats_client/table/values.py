"""The values of a batch: arrays of numbers and times, texts, and conversions between them."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from .iso_times import IsoTimes

Kind = Literal["number", "text", "time"]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int32]
Truths = npt.NDArray[np.bool_]

NO_VALUE, IS_NUMBER, IS_TEXT, IS_TIME = range(4)
"""The type of a row's value as it was received, whatever kind the column is shown as."""
NO_ROW = -(2**62)
"""An ordinal below that of any row. Rows that are back-filled later can have ordinals below 0."""
EXACT = 2**53
"""From this integer on, float64 is not exact."""
NULL = np.array([0x7FF8000000000001], dtype=np.int64).view(np.float64)[0]
"""An explicit null in a number column: a NaN with other bits than that of a row without the field."""
_NULL_BITS = 0x7FF8000000000001
_TEXT_BITS = 0x7FFC000000000000
_ISO_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?\s?(?:[zZ]|[+-]\d\d:?\d\d)?")
_DIGITS = re.compile(r"-?\d{1,40}")


@dataclass(frozen=True, slots=True)
class Coded:
    """Texts as indexes into `labels`; -1 if a row has none."""

    codes: Codes
    labels: list[str]

    def texts(self) -> list[str | None]:
        """The text of each row; None if it has none."""
        labels = [*self.labels, None]
        return [labels[code] for code in self.codes.tolist()]


@dataclass(frozen=True, slots=True)
class Mixed:
    """Numbers and texts in one column, one entry per row in each. `texts` has values that are not numbers,
    unchanged, and the digits of integers that float64 cannot hold; None in all other rows."""

    numbers: Floats
    texts: Sequence[str | None]


Values = Floats | IsoTimes | Coded | Mixed | Sequence[str | None]
"""A batch's values of one column: an array of float64 (NaN = missing) or ISO_TIME, texts, or both."""


@dataclass(slots=True)
class Batch:
    """Decoded rows for a window. All arrays and sequences have one entry per row.

    seq: stream sequences, int64. received: when the server stored the message, ns since the epoch, UTC.
    time: event time of the row, ns since the epoch, UTC. values: payload columns; `integral` names the
    columns that have only integers, `truths` those whose numbers are all true (1) and false (0).
    """

    seq: Ints
    received: Ints
    time: Ints
    subject: Sequence[str]
    values: Mapping[str, Values]
    integral: frozenset[str] = frozenset()
    not_finite: int = 0
    """Number of values that were NaN or infinite; they are NaN in the arrays."""
    truths: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.seq)


def utc(times: IsoTimes) -> pd.DatetimeIndex:
    """Convert an array of ISO_TIME to a DatetimeIndex in UTC."""
    return pd.DatetimeIndex(np.ascontiguousarray(times["ns"]).view("datetime64[ns]")).tz_localize("UTC")


def is_null(numbers: Floats) -> npt.NDArray[np.bool_]:
    """Which rows have an explicit null, as opposed to no such field."""
    nulls = np.isnan(numbers)
    if nulls.any():
        nulls &= np.ascontiguousarray(numbers).view(np.int64) == _NULL_BITS
    return nulls


def number_in(text: str) -> float | None:
    """Parse a text as a finite number; None if it is not one."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


_STATES = {"on": 1.0, "off": 0.0, "true": 1.0, "false": 0.0}


def number_of(text: str) -> float:
    """A text read as a number: the number that it contains, 1 for on and true, 0 for off and false, or
    NaN."""
    found = number_in(text)
    return _STATES.get(text.lower(), math.nan) if found is None else found


def is_iso_time(text: str) -> bool:
    """True if a text is written as a date and a time of day in ISO 8601."""
    return len(text) <= 64 and _ISO_TIME.fullmatch(text) is not None


def number_keys(numbers: Floats) -> Ints:
    """An integer for each number, equal for equal numbers."""
    return np.ascontiguousarray(numbers + 0.0).view(np.int64)  # 0.0 for -0.0


def text_keys(codes: Codes) -> Ints:
    """An integer for each code of a text, equal for equal codes and different from all number_keys()."""
    return codes.astype(np.int64) + _TEXT_BITS + 1


def number_text(value: float) -> str:
    """Format a number as text for a text column."""
    return str(int(value)) if value.is_integer() and abs(value) < EXACT else repr(value)


def digits(text: str) -> int | None:
    """Parse a text of up to 40 decimal digits as an integer; None if it is not one."""
    return int(text) if _DIGITS.fullmatch(text) else None
