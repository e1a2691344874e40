"""The columns of a window: numbers, texts and times as numpy arrays, and the batches that come into them."""

import math
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from .iso_times import MISSING, STAMP, Stamps, stamp_texts

Kind = Literal["number", "text", "time"]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int32]

EXACT = 2**53
"""From here on float64 no longer tells integers apart."""
NULL = np.array([0x7FF8000000000001], dtype=np.int64).view(np.float64)[0]
"""An explicit null in a column of numbers: a NaN that can be told from that of a row without the field."""
_NULL_BITS = 0x7FF8000000000001
_DIGITS = re.compile(r"-?\d{1,40}")

NO_ROW = -(2**62)
"""An ordinal below that of any row."""
NONE, NUMBER, INTEGER, TEXT, NUMERIC = range(5)
"""What a row of a mixed column holds: nothing; a number; an integer that float64 cannot hold, with its digits
as text; a text that is no number; a text that is one."""


class Labels:
    """The distinct texts of a column. Only ever grows at its end; read from any thread."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.code_of: dict[str | None, int] = {None: -1}
        self.nbytes = 0
        self._index: pd.Index | None = None
        self._lock = threading.Lock()
        self._tokens: dict[tuple[int, bool], Tokens] = {}

    def encode(self, values: "Sequence[str | None] | Coded") -> Codes:
        """Codes of `values`; labels not seen before are appended."""
        if isinstance(values, Coded):
            return np.append(self.encode(values.labels), np.int32(-1))[values.codes]
        code_of, first = self.code_of, len(self.texts)
        if new := set(values).difference(code_of):
            # Where all are new they keep their own order, so that their codes need not be looked up.
            fresh = cast(Sequence[str], values if len(new) == len(values) else list(new))  # None has a code
            code_of.update(zip(fresh, range(first, first + len(fresh)), strict=True))
            self.texts.extend(fresh)
            self.nbytes += 120 * len(fresh) + sum(map(len, fresh))
            if fresh is values:
                return np.arange(first, first + len(fresh), dtype=np.int32)
        return np.fromiter(map(code_of.__getitem__, values), dtype=np.int32, count=len(values))

    def index(self) -> pd.Index:
        """The labels as a pandas Index: at least those of every snapshot that was taken before."""
        with self._lock:
            if self._index is None or len(self._index) != len(self.texts):
                self._index = pd.Index(list(self.texts), dtype="str")
            return self._index

    def tokens(self, place: int, rest: bool) -> "Tokens":
        """The token at `place` of each of these subjects; with `rest`, all from there on."""
        with self._lock:
            if (found := self._tokens.get((place, rest))) is None:
                found = self._tokens[place, rest] = Tokens(self, place, rest)
            return found


class Tokens:
    """One token of the subjects in `subjects`: read off their codes, so that it costs per distinct subject,
    and no room in a row. Read from any thread."""

    def __init__(self, subjects: Labels, place: int, rest: bool) -> None:
        self.labels = Labels()
        self._subjects = subjects
        self._place, self._rest = place, rest
        self._lock = threading.Lock()
        self._known = 0
        self._codes: Codes = np.zeros(0, dtype=np.int32)

    def of(self, codes: Codes) -> Codes:
        """The codes of this token in rows with these codes of subjects."""
        if self._known < len(self._subjects.texts):
            with self._lock:
                new = self._subjects.texts[self._known :]
                fresh = self.labels.encode([self._token(subject) for subject in new])
                held = self._codes[: self._known]
                # The last place is that of a row without a subject, whose code is -1.
                self._codes = np.concatenate([held, fresh, np.array([-1], dtype=np.int32)])
                self._known += len(new)
        return self._codes[codes]

    def _token(self, subject: str) -> str | None:
        parts = subject.split(".", self._place + 1) if not self._rest else subject.split(".", self._place)
        return parts[self._place] if len(parts) > self._place else None


class NumberColumn:
    """float64 values, NaN where a row has none, NULL where it says so."""

    kind: Kind = "number"

    def __init__(self, capacity: int) -> None:
        self.data: npt.NDArray[Any] = np.full(capacity, np.nan)
        self.fraction = NO_ROW
        """Ordinal of the newest row that may be something else than an integer."""


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


class TextColumn:
    """Dictionary-encoded strings: int32 codes into `labels`, -1 where a row has none."""

    kind: Kind = "text"

    def __init__(self, capacity: int) -> None:
        self.data: npt.NDArray[Any] = np.full(capacity, -1, dtype=np.int32)
        self.labels = Labels()
        self.wordy = NO_ROW
        """Ordinal of the newest row that may be something else than a time in ISO 8601."""
        self.stamped = NO_ROW
        """Ordinal of the newest row that came as one."""


class TimeColumn:
    """Times in ISO 8601, as STAMP, MISSING where a row has none."""

    kind: Kind = "time"

    def __init__(self, capacity: int) -> None:
        self.data: npt.NDArray[Any] = np.full(capacity, MISSING)


class MixedColumn:
    """Numbers and texts. It is a column of numbers where at least half of the values are some, and of texts
    otherwise: what the window holds decides, and not what came first."""

    def __init__(self, capacity: int) -> None:
        self.data: npt.NDArray[Any] = np.full(capacity, np.nan)
        self.codes: Codes = np.full(capacity, -1, dtype=np.int32)
        self.marks: npt.NDArray[np.uint8] = np.zeros(capacity, dtype=np.uint8)
        self.labels = Labels()
        self.counts = np.zeros(5, dtype=np.int64)
        """How many rows of the window have each of the marks."""
        self.kind: Kind = "number"
        self.fraction = NO_ROW
        """As of a NumberColumn."""

    def write(self, rows: slice, values: Mixed) -> None:
        """Take in `values`; they are not counted yet."""
        codes = self.labels.encode(values.texts)
        numbers = np.array(values.numbers, dtype=np.float64)
        marks = np.where(np.isnan(numbers), NONE, NUMBER).astype(np.uint8)
        texts = np.flatnonzero(codes >= 0)
        marks[texts] = np.where(marks[texts] == NUMBER, INTEGER, TEXT)
        for code in np.unique(codes[(marks == TEXT)]).tolist():
            if (value := number_in(self.labels.texts[code])) is not None:
                mine = codes == code
                numbers[mine], marks[mine] = value, NUMERIC
        self.data[rows], self.codes[rows], self.marks[rows] = numbers, codes, marks
        if self.kind == "text":
            self.spell(rows)

    def spell(self, rows: slice) -> None:
        """Give the numbers in `rows` a text each, for a column of texts."""
        codes = self.codes[rows]
        bare = np.flatnonzero((codes < 0) & (self.marks[rows] == NUMBER))
        if len(bare):
            values, place = np.unique(self.data[rows][bare], return_inverse=True)
            codes[bare] = self.labels.encode(list(map(number_text, values.tolist())))[place]

    def count(self, rows: slice, sign: int = 1) -> None:
        """Count the rows in, or with the sign -1 out."""
        self.counts += sign * np.bincount(self.marks[rows], minlength=5)

    @property
    def mostly(self) -> Kind:
        """What the values of the window say that it is; a text that is a number speaks for neither."""
        numbers = self.counts[NUMBER] + self.counts[INTEGER]
        return "number" if numbers and numbers >= self.counts[TEXT] else "text"


Column = NumberColumn | TextColumn | TimeColumn | MixedColumn


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


def texts_of(values: Values) -> Sequence[str | None]:
    """Values of any kind as the texts that a column of texts holds of them."""
    if isinstance(values, Coded):
        return values.texts()
    if isinstance(values, Mixed):
        numbers = texts_of(values.numbers)
        return [n if t is None else t for n, t in zip(numbers, values.texts, strict=True)]
    if not isinstance(values, np.ndarray):
        return values
    if values.dtype == STAMP:
        return stamp_texts(cast(Stamps, values))
    return [None if value != value else number_text(value) for value in values.tolist()]
