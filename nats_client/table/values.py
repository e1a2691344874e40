"""What a batch brings to a window: arrays of numbers and times, texts, and what they mean."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from .iso_times import Stamps

Kind = Literal["number", "text", "time"]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int32]
Truths = npt.NDArray[np.bool_]

NO_ROW = -(2**62)
"""An ordinal below that of any row: those of older rows that come later are below 0."""
EXACT = 2**53
"""From here on float64 no longer tells integers apart."""
NULL = np.array([0x7FF8000000000001], dtype=np.int64).view(np.float64)[0]
"""An explicit null in a column of numbers: a NaN that can be told from that of a row without the field."""
_NULL_BITS = 0x7FF8000000000001
_DIGITS = re.compile(r"-?\d{1,40}")


@dataclass(frozen=True, slots=True)
class Coded:
    """Texts, each as a place in `labels`; -1 where a row has none."""

    codes: Codes
    labels: list[str]

    def texts(self) -> list[str | None]:
        """One by one."""
        labels = [*self.labels, None]
        return [labels[code] for code in self.codes.tolist()]


@dataclass(frozen=True, slots=True)
class Mixed:
    """Numbers among texts: one entry a row in each. `texts` has what is no number, as it came, and the digits
    of an integer that float64 cannot hold; None in all other rows."""

    numbers: Floats
    texts: Sequence[str | None]


Values = Floats | Stamps | Coded | Mixed | Sequence[str | None]
"""What a batch has of a column: an array of float64 (NaN = missing) or of STAMP, texts, or both."""


@dataclass(slots=True)
class Batch:
    """Decoded rows on their way into a window; all sequences have one entry a row.

    seq: stream sequences, int64. received: when the server stored the message, ns since the epoch, UTC.
    time: what the row is about, ns since the epoch, UTC. values: payload columns; `integral` names the
    arrays that held only integers.
    """

    seq: Ints
    received: Ints
    time: Ints
    subject: Sequence[str]
    values: Mapping[str, Values]
    integral: frozenset[str] = frozenset()
    not_finite: int = 0
    """Values that were NaN or an infinity; they are NaN in the arrays."""

    def __len__(self) -> int:
        return len(self.seq)


def utc(stamps: Stamps) -> pd.DatetimeIndex:
    """STAMPs as pandas has times."""
    return pd.DatetimeIndex(np.ascontiguousarray(stamps["ns"]).view("datetime64[ns]")).tz_localize("UTC")


def is_null(numbers: Floats) -> npt.NDArray[np.bool_]:
    """Which rows say that there is no value; others have no such field at all."""
    nulls = np.isnan(numbers)
    if nulls.any():
        nulls &= np.ascontiguousarray(numbers).view(np.int64) == _NULL_BITS
    return nulls


def number_in(text: str) -> float | None:
    """A text as a number, None where it is none that is finite."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def number_text(value: float) -> str:
    """A number as it is written among texts."""
    return str(int(value)) if value.is_integer() and abs(value) < EXACT else repr(value)


def digits(text: str) -> int | None:
    """The integer that `text` writes out, None where it is none."""
    return int(text) if _DIGITS.fullmatch(text) else None
