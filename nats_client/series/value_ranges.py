"""Ranges of numbers with round ends, and the number of values in each range per interval."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from ..table.snapshot import Snapshot
from ..table.values import Floats, Ints, Truths
from .interval_counts import IntervalCounts
from .zoom_tiles import TOO_LARGE

MOST = 40
"""Maximum number of ranges in use at a time."""
FEW = 8
"""With fewer ranges in use, finer ones are tried."""
UNFIT = -(2**40)
"""The code of values without a place on a logarithmic scale: those below LEAST."""
LEAST = 1e-300
_PLACES = 2.0**50  # ranges are not finer than floats
_DECADES = (
    ("1", "1.2", "1.5", "2", "2.5", "3", "4", "5", "6", "8"),
    ("1", "1.5", "2", "3", "5", "7"),
    ("1", "2", "5"),
    ("1",),
)
"""The beginnings of ranges within a decade, the finest scale first."""
_LONGER = (2, 5, 10, 20)
"""Decades per range, if one range per decade is too fine."""


class Scale(ABC):
    """Ranges numbered by their ascending codes. A range begins with its edge, and ends before the next."""

    @abstractmethod
    def codes(self, values: Floats) -> Ints:
        """The range of each value."""

    @abstractmethod
    def edges(self, codes: Ints) -> Floats:
        """The beginning of each of these ranges."""


@dataclass(frozen=True)
class LinearScale(Scale):
    """Ranges of equal length: `digit` times ten to the power of `power`."""

    digit: int
    power: int

    def codes(self, values: Floats) -> Ints:
        """See Scale. A value at an edge is in the range that begins there."""
        step = self.digit * 10.0**self.power
        with np.errstate(over="ignore"):  # values too far away are clipped
            codes = np.clip(np.floor(values / step), -_PLACES, _PLACES).astype(np.int64)
        codes += values >= self.edges(codes + 1)
        codes -= values < self.edges(codes)
        return codes

    def edges(self, codes: Ints) -> Floats:
        """See Scale. The float next to each decimal number."""
        whole = (codes * self.digit).astype(np.float64)
        return whole * 10.0**self.power if self.power >= 0 else whole / 10.0**-self.power


class LogScale(Scale):
    """Ranges that begin at the same round numbers in each decade, or at some of the decades. Values
    below LEAST have the code UNFIT."""

    def __init__(self, level: int) -> None:
        self.level = level
        if level < len(_DECADES):
            texts = [f"{each}e{power}" for power in range(-300, 308) for each in _DECADES[level]]
        else:
            texts = [f"1e{power}" for power in range(-300, 308, _LONGER[level - len(_DECADES)])]
        self._edges = np.array([float(text) for text in texts])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LogScale) and other.level == self.level

    __hash__ = None  # type: ignore[assignment]

    def codes(self, values: Floats) -> Ints:
        """See Scale."""
        found = np.searchsorted(self._edges, values, side="right").astype(np.int64) - 1
        return np.where(found >= 0, found, UNFIT)

    def edges(self, codes: Ints) -> Floats:
        """See Scale."""
        return self._edges[np.minimum(codes, len(self._edges) - 1)]


def fitting(values: Floats, *, log: bool) -> Scale | None:
    """The finest scale on which `values` are in at most MOST ranges; that of whole numbers has ranges of at
    least one. None if no value has a place."""
    if log:
        values = values[values >= LEAST]
    if not len(values):
        return None
    ends = np.array([values.min(), values.max()])
    if log:
        scales: list[Scale] = [LogScale(level) for level in range(len(_DECADES) + len(_LONGER))]
        return next(scale for scale in scales if _ranges(scale, ends) <= MOST)
    low, high = ends.tolist()
    size = max(abs(low), abs(high))
    length = max((high - low) / MOST, size / _PLACES, (size or 1.0) * 1e-3 if low == high else 0.0, LEAST)
    if (values == np.floor(values)).all():
        length = max(length, 1.0)
    power = math.floor(math.log10(length)) - 1
    steps = [LinearScale(digit, power + more) for more in range(4) for digit in (1, 2, 5)]
    least = length * (1 - 1e-9)
    return next(
        step for step in steps if step.digit * 10.0**step.power >= least and _ranges(step, ends) <= MOST
    )


def _ranges(scale: Scale, ends: Floats) -> int:
    first, last = scale.codes(ends).tolist()
    return int(last - first + 1)


class ValueCounts(IntervalCounts):
    """Counts by range of the number column `field`. Codes are those of `scale`. If its ranges have become too
    many, or few, another scale is chosen and the whole look-back is counted again."""

    def __init__(self, step: int, field: str, *, log: bool) -> None:
        self.field = field
        self.scale: Scale | None = None
        self._log = log
        self._tried = 0  # the interval in which a finer scale was tried last
        super().__init__(step)

    def update(self, snapshot: Snapshot, first: int, last: int) -> set[int]:
        """See IntervalCounts. After a change of `scale` all intervals have changed."""
        changed = super().update(snapshot, first, last)
        low, high = self.extent(first, last)
        many, few = high - low >= MOST, low <= high < low + FEW - 1
        if many or (few and last > self._tried + (last - first) // 10):
            self._tried = last
            found = fitting(self._shown(snapshot, first, last), log=self._log)
            if found is not None and found != self.scale:
                self.scale = found
                self.release()
                changed |= super().update(snapshot, first, last)
        return changed

    def extent(self, first: int, last: int) -> tuple[int, int]:
        """The first and the last code with values in these intervals; (0, -1) without any."""
        ends = []
        for interval in range(first, last + 1):
            codes, _ = self.column(interval)
            start = int(len(codes) > 0 and codes[0] == UNFIT)
            if len(codes) > start:
                ends.append((int(codes[start]), int(codes[-1])))
        return (min(low for low, _ in ends), max(high for _, high in ends)) if ends else (0, -1)

    def _shown(self, snapshot: Snapshot, first: int, last: int) -> Floats:
        intervals = snapshot.time // self.step
        values = snapshot.numbers(self.field)
        return values[(intervals >= first) & (intervals <= last) & (np.abs(values) < TOO_LARGE)]

    def _codes(self, rows: Snapshot) -> tuple[Ints, Truths]:
        values = rows.numbers(self.field)
        held: Truths = np.abs(values) < TOO_LARGE  # false for NaN
        if self.scale is None:
            self.scale = fitting(values[held], log=self._log)
        codes = np.full(len(values), UNFIT)
        if self.scale is not None:
            codes[held] = self.scale.codes(values[held])
        return codes, held
