"""Conditions of values, written as text such as "> 90 for 10s"."""

import math
import re
from dataclasses import dataclass
from numbers import Real
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..duration import parse_duration
from ..errors import DurationError, ThresholdError
from ..table.values import Floats

Kind = Literal["above", "below", "outside", "inside", "changed", "silent"]

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_COMPARED = re.compile(rf"(?P<sign>>=?|<=?)\s*(?P<limit>{_NUMBER})")
_RANGE = re.compile(rf"(?P<side>outside|inside)\s+(?P<low>{_NUMBER})\s*\.\.\s*(?P<high>{_NUMBER})")
_LONGEST = 200
_EXAMPLES = 'Write for example 90, "< 10 for 30s", "outside 10..90", "changed" or "silent for 1m".'


@dataclass(frozen=True)
class Condition:
    """A condition to watch for in the values of a series. Equal conditions have equal results."""

    kind: Kind
    low: float = math.nan
    high: float = math.nan
    """The limits. A range has both, "changed" and "silent" have none, other kinds have one. NaN for none."""
    reached: bool = False
    """True if the limit itself is enough: >= and <=."""
    lasting: int = 0
    """How long the condition must hold to count, ns. For "silent": the time without a value."""

    @property
    def limits(self) -> tuple[float, ...]:
        """The numbers at which it begins or ends, ascending."""
        return tuple(limit for limit in (self.low, self.high) if not math.isnan(limit))

    def holds(self, values: Floats) -> npt.NDArray[np.bool_]:
        """True for each value for which the condition holds. Raises ThresholdError for "changed" and
        "silent", which cannot be decided from single values."""
        match self.kind:
            case "above":
                return values >= self.high if self.reached else values > self.high
            case "below":
                return values <= self.low if self.reached else values < self.low
            case "outside":
                return (values < self.low) | (values > self.high)
            case "inside":
                return (values >= self.low) & (values <= self.high)
        raise ThresholdError(f"One value does not tell whether a series is {self.kind}.")

    def severity(self, values: Floats) -> Floats:
        """Numbers that are greater the further the values are beyond the limits."""
        match self.kind:
            case "below":
                return -values
            case "outside":
                return np.maximum(self.low - values, values - self.high)
            case "inside":
                return np.minimum(values - self.low, self.high - values)
        return values


def parse_condition(given: object, name: str = "") -> Condition:
    """Parse a condition.

    - a number, or a number as text: holds above it
    - "> 90", ">= 90", "< 10" or "<= 10"
    - "outside 10..90" or "inside 10..90"; the limits themselves are inside
    - "changed": a value differs from the previous one
    - "silent for 30s": no value has arrived for that long

    A text except "changed" may end with the time for which the condition must hold, as in "> 90 for 10s".
    Raises ThresholdError, which names the value and `name`, for anything else.
    """
    what = f"The condition {name!r}" if name else "The condition"
    wrong = f"{what} is {_short(given)}, which is none. {_EXAMPLES}"
    if isinstance(given, Condition):
        return given
    if isinstance(given, Real) and not isinstance(given, bool):
        if not math.isfinite(given):
            raise ThresholdError(wrong)
        return Condition("above", high=float(given))
    if not isinstance(given, str) or len(given) > _LONGEST:
        raise ThresholdError(wrong)
    said, _, lasting = (part.strip() for part in given.strip().partition(" for "))
    try:
        length = parse_duration(lasting, "time").value if lasting else 0
    except DurationError as error:
        raise ThresholdError(f"{what} is {_short(given)}. {error}") from None
    if said == "silent" and length:
        return Condition("silent", lasting=length)
    if said == "changed" and not length:
        return Condition("changed")
    if re.fullmatch(_NUMBER, said):
        said = f"> {said}"
    if found := _COMPARED.fullmatch(said):
        limit, reached = float(found["limit"]), found["sign"].endswith("=")
        if not math.isfinite(limit):
            raise ThresholdError(wrong)
        if found["sign"].startswith(">"):
            return Condition("above", high=limit, reached=reached, lasting=length)
        return Condition("below", low=limit, reached=reached, lasting=length)
    if found := _RANGE.fullmatch(said):
        low, high = float(found["low"]), float(found["high"])
        if not -math.inf < low <= high < math.inf:
            raise ThresholdError(f"{what} is {_short(given)}. A range begins with its smaller limit.")
        kind: Kind = "outside" if found["side"] == "outside" else "inside"
        return Condition(kind, low, high, lasting=length)
    raise ThresholdError(wrong)


def _short(given: object) -> str:
    text = repr(given)
    return text if len(text) <= 60 else text[:59] + "…"
