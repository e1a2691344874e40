"""The choice of the series that have lines of their own, when there are more than a chart has room for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import LookbackError
from ..table.values import Floats, Ints

RULES = ("busiest", "greatest", "newest", "name")
"""The rules, applied to the look-back: the series with the most values, with the greatest value, that began
last, or that come first by name. When a series began is known only while a viewer has the chart open."""


@dataclass(frozen=True)
class SeriesChoice:
    """A choice of the series that have lines of their own. The others are drawn as one band."""

    rule: str = RULES[0]
    names: frozenset[str] = frozenset()
    """Names of series, as in the chart, that come before all others."""

    def __post_init__(self) -> None:
        """Raise LookbackError if there is no such rule."""
        if self.rule not in RULES:
            raise LookbackError(
                f"tell_apart={self.rule!r} is not valid. Choose one of: {', '.join(RULES)}. "
                "They say which series have lines of their own."
            )

    def order(self, of: Ints, codes: Ints, values: Floats, began: Ints, labels: Sequence[str]) -> Ints:
        """The codes `of`, in the order in which they get lines of their own.

        `codes` and `values` have an entry per value. `began` (the bin in which each series began) and
        `labels` are indexed by code. Without labels there is only one series.
        """
        if not labels:
            return of
        if self.rule == "name":
            return np.array(sorted(of.tolist(), key=lambda code: by_name(labels[code])), dtype=np.int64)
        if self.rule == "newest":
            return of[np.argsort(-began[of], kind="stable")]
        size = int(of.max(initial=-1)) + 1
        codes, values = codes[codes < size], values[codes < size]
        if self.rule == "busiest":
            score = np.bincount(codes, minlength=size).astype(float)
        else:
            score = np.full(size, -np.inf)
            np.maximum.at(score, codes, values)
        return of[np.argsort(-score[of], kind="stable")]


def by_name(name: str) -> tuple[list[str | tuple[int, str]], str]:
    """Sort key of names as people read them: capitals do not count, "core-2" is before "core-10"."""
    return natural(name.casefold()), name


def natural(name: str) -> list[str | tuple[int, str]]:
    """Sort key that puts "core-2" before "core-10"."""
    parts = re.split(r"(\d+)", name)
    # By length and digits: int() refuses thousands of them
    return [(len(n := part.lstrip("0")), n) if i % 2 else part for i, part in enumerate(parts)]
