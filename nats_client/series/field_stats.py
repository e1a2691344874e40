"""Statistics of the payload fields of a stream: type, how often a field is present, and its values."""

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..decoding.payload_times import read_times
from ..subjects import ENVELOPE
from ..table.iso_times import MISSING, IsoTimes, iso_texts
from ..table.snapshot import Snapshot
from ..table.values import Floats, Ints

ROWS = 20_000
"""Only this many of the newest rows are examined, so the cost does not grow with the window."""
SAMPLE = 200
"""Number of newest values that decide whether a field is a time."""
_DAY = 24 * 3600 * 10**9
_FROM, _TO = pd.Timestamp("2000-01-01").value, pd.Timestamp("2100-01-01").value
_ISO = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d")
_NANOSECONDS = re.compile(r"\d{16,19}")
_NAMED_SO = re.compile(
    r"(^|[_.-])(t|ts|time|timestamp|datetime|date|at)$|(Time|Timestamp|At)$", re.IGNORECASE
)


@dataclass(frozen=True)
class Field:
    """One payload field, or named token of the subject, in some rows."""

    name: str
    kind: Literal["number", "integer", "time", "text"]
    """"time": ISO 8601 text, or numbers that must be times since the epoch."""
    share: float
    """Share of rows that have the field, 0 to 1."""
    example: float | str | None
    """Its newest value, as received; None if no row has one."""
    least: float | pd.Timestamp | None
    """The smallest number, or earliest time (UTC); None for text."""
    greatest: float | pd.Timestamp | None
    distinct: int
    """Number of distinct values."""


def fields(snapshot: Snapshot) -> list[Field]:
    """The fields of the newest ROWS rows of `snapshot`, in the order in which they first appeared."""
    rows = min(len(snapshot), ROWS)
    start = snapshot.end - rows
    received = snapshot.received[len(snapshot) - rows :]
    found = []
    for name, kind in snapshot.columns.items():
        if name == "_subject" or not rows:
            continue
        if kind == "number":
            found.append(
                _of_numbers(name, snapshot.numbers(name, start), received, snapshot.integers(name, start))
            )
        elif kind == "time":
            found.append(_of_iso_times(name, snapshot.iso_times(name, start)))
        else:
            found.append(_of_texts(name, *snapshot.codes(name, start), received))
    return found


def times_among(found: list[Field]) -> list[str]:
    """Names of those fields in `found` that can be used as the rows' time."""
    renamed = {f"payload{name}" for name in ENVELOPE}
    return [
        field.name
        for field in found
        if field.kind == "time" and field.name not in renamed and not field.name.endswith(" (2)")
    ]


def _of_numbers(name: str, column: Floats, received: Ints, exact: Any) -> Field:
    there = ~np.isnan(column)
    values = column[there]
    if not len(values):
        return Field(name, "number", 0.0, None, None, None, 0)
    share = len(values) / len(column)
    values = values if exact is None else np.array(exact[there].tolist(), dtype=object)
    example = values[-1] if exact is not None else float(values[-1])
    distinct = len(pd.unique(values))
    least, greatest = values.min(), values.max()
    if exact is None:
        least, greatest = float(least), float(greatest)
    if _are_times(name, values[-SAMPLE:].tolist(), received[there][-SAMPLE:]):
        (first, last), _ = read_times([least, greatest])
        return Field(name, "time", share, example, _utc(first), _utc(last), distinct)
    whole = exact is not None or bool((values == np.floor(values)).all())
    return Field(name, "integer" if whole else "number", share, example, least, greatest, distinct)


def _of_iso_times(name: str, column: IsoTimes) -> Field:
    held = column[column["ns"] != MISSING["ns"]]
    if not len(held):
        return Field(name, "time", 0.0, None, None, None, 0)
    (example,) = iso_texts(held[-1:])
    times = held["ns"]
    share, distinct = len(held) / len(column), len(np.unique(held))
    return Field(name, "time", share, example, _utc(times.min()), _utc(times.max()), distinct)


def _of_texts(name: str, codes: npt.NDArray[np.int32], labels: list[str], received: Ints) -> Field:
    there = codes >= 0
    held = codes[there]
    if not len(held):
        return Field(name, "text", 0.0, None, None, None, 0)
    share, example = len(held) / len(codes), labels[held[-1]]
    different = pd.unique(held)
    sample: list[Any] = [labels[code] for code in held[-SAMPLE:]]
    # float64 cannot represent nanoseconds since the epoch exactly, so they are texts here.
    digits = all(map(_NANOSECONDS.fullmatch, sample))
    if digits:
        sample = list(map(int, sample))
    if (digits or all(map(_ISO.match, sample))) and _are_times(name, sample, received[there][-SAMPLE:]):
        texts = [labels[code] for code in different]
        times, readable = read_times([int(text) if _NANOSECONDS.fullmatch(text) else text for text in texts])
        times = times[readable]
        return Field(name, "time", share, example, _utc(times.min()), _utc(times.max()), len(different))
    return Field(name, "text", share, example, None, None, len(different))


def _are_times(name: str, values: list[Any], received: Ints) -> bool:
    """True if `values` must be times: ISO 8601 texts; or numbers of a field with a time's name, or numbers
    that stay within a day of the storage times, as no other quantity would."""
    times, readable = read_times(values)
    if not readable.all() or not ((times > _FROM) & (times < _TO)).all():
        return False
    named = isinstance(values[0], str) or _NAMED_SO.search(name) is not None
    return named or bool((np.abs(times - received) < _DAY).all())


def _utc(time: Any) -> pd.Timestamp:
    return pd.Timestamp(int(time), tz="UTC")
