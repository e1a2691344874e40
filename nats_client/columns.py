"""The columns of a window: numbers, texts and times as numpy arrays, and the batches that come into them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from .stamps import MISSING, STAMP, Stamps, stamp_texts

Kind = Literal["number", "text", "time"]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int32]

_TRUTH = {"true": 1.0, "false": 0.0}  # as in a batch that holds no text


class NumberColumn:
    """float64 values, NaN where a row has none."""

    kind: Kind = "number"

    def __init__(self, capacity: int) -> None:
        self.data: npt.NDArray[Any] = np.full(capacity, np.nan)
        self.integral = True
        """Whether every value so far was an integer: then a DataFrame shows int64."""


@dataclass(frozen=True, slots=True)
class Coded:
    """Texts, each as a place in `labels`; -1 where a row has none."""

    codes: Codes
    labels: list[str]

    def texts(self) -> list[str | None]:
        """One by one."""
        labels = [*self.labels, None]
        return [labels[code] for code in self.codes.tolist()]


class TextColumn:
    """Dictionary-encoded strings: int32 codes into `labels`, -1 where a row has none."""

    kind: Kind = "text"

    def __init__(self, capacity: int) -> None:
        self.data: npt.NDArray[Any] = np.full(capacity, -1, dtype=np.int32)
        self.labels: list[str] = []
        self.code_of: dict[str | None, int] = {None: -1}
        self.label_bytes = 0
        self._index: pd.Index | None = None

    def encode(self, values: Sequence[str | None] | Coded) -> Codes:
        """Codes of `values`; labels not seen before are appended."""
        if isinstance(values, Coded):
            return np.append(self.encode(values.labels), np.int32(-1))[values.codes]
        code_of, first = self.code_of, len(self.labels)
        if new := set(values).difference(code_of):
            # Where all are new they keep their own order, so that their codes need not be looked up.
            fresh = cast(Sequence[str], values if len(new) == len(values) else list(new))  # None has a code
            code_of.update(zip(fresh, range(first, first + len(fresh)), strict=True))
            self.labels.extend(fresh)
            self.label_bytes += 120 * len(fresh) + sum(map(len, fresh))
            if fresh is values:
                return np.arange(first, first + len(fresh), dtype=np.int32)
        return np.fromiter(map(code_of.__getitem__, values), dtype=np.int32, count=len(values))

    def index(self) -> pd.Index:
        """The labels as a pandas Index, rebuilt only when labels were added."""
        if self._index is None or len(self._index) != len(self.labels):
            self._index = pd.Index(list(self.labels), dtype="str")
        return self._index


class TimeColumn:
    """Times in ISO 8601, as STAMP, MISSING where a row has none."""

    kind: Kind = "time"

    def __init__(self, capacity: int) -> None:
        self.data: npt.NDArray[Any] = np.full(capacity, MISSING)


Column = NumberColumn | TextColumn | TimeColumn


Values = Floats | Stamps | Coded | Sequence[str | None]
"""What a batch has of a column: an array of float64 (NaN = missing) or of STAMP, or texts."""


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
    mostly_numbers: frozenset[str] = frozenset()
    """Columns that came as text, since not all their values were numbers, but most were: a new column of
    that name is one of numbers."""
    not_finite: int = 0
    """Values that were NaN or an infinity; they are NaN in the arrays."""

    def __len__(self) -> int:
        return len(self.seq)


def there(kind: Kind, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which of a column's values are not missing."""
    if kind == "number":
        found = ~np.isnan(values)
    else:
        found = values >= 0 if kind == "text" else values["ns"] != MISSING["ns"]
    return cast(npt.NDArray[np.bool_], found)


def utc(stamps: Stamps) -> pd.DatetimeIndex:
    """STAMPs as pandas has times."""
    return pd.DatetimeIndex(np.ascontiguousarray(stamps["ns"]).view("datetime64[ns]")).tz_localize("UTC")


def numbers_in(texts: Sequence[str | None]) -> tuple[Floats, int]:
    """Texts as numbers where they are some, NaN where not, and how many were not."""
    values = np.full(len(texts), np.nan)
    refused = 0
    for i, text in enumerate(texts):
        if text is not None:
            try:
                value = _TRUTH[text] if text in _TRUTH else float(text)
            except ValueError:
                value = np.nan
            if math.isfinite(value):
                values[i] = value
            else:
                refused += 1
    return values, refused


def texts_of(values: Values) -> Sequence[str | None]:
    """Values of any kind as the texts that a column of texts holds of them."""
    if isinstance(values, Coded):
        return values.texts()
    if not isinstance(values, np.ndarray):
        return values
    if values.dtype == STAMP:
        return stamp_texts(cast(Stamps, values))
    return [None if value != value else f"{value:.15g}" for value in values.tolist()]
