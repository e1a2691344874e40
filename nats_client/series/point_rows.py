"""The rows behind a point of a chart, or behind a crossing."""

from typing import NamedTuple

import numpy as np

from ..table.snapshot import Snapshot
from ..table.values import Floats, Ints
from .bins import Bins
from .zoom_tiles import TOO_LARGE


def rows_of_point(
    snapshot: Snapshot, bins: Bins, series: str | None, start: int, end: int
) -> tuple[Snapshot, Floats]:
    """The rows of a series of `bins` from `start` up to, but not including, `end`, and their values.

    Times are ns since the epoch, UTC, by `_time`. `series`: its name in the chart, or None for the series
    into which all undrawn ones are folded. Call bins.update() with the snapshot first. The rows' ordinals
    are not valid. Raises ColumnError.
    """
    part = _within(snapshot, start, end)
    _, others, rows = bins.rows()
    places: list[Ints] = []
    values: list[Floats] = []
    for number, field in enumerate(bins.fields if len(part) else ()):
        found = part.numbers(field)
        codes, labels = bins.codes(part)
        if series is not None:
            known = enumerate(labels)
            wanted = [code for code, label in known if bins.name_of(label, field) == series]
        else:
            wanted = [] if others is None else np.flatnonzero(rows[number] == others).tolist()
        kept = np.flatnonzero((np.abs(found) < TOO_LARGE) & np.isin(codes, wanted))  # false for NaN
        places.append(kept)
        values.append(found[kept])
    if not places:
        return part, np.zeros(0)
    return part.where(np.concatenate(places)), np.concatenate(values)


class Extreme(NamedTuple):
    """The place of the least or the greatest value."""

    series: str
    value: float
    time: int
    """ns since the epoch, UTC."""


def extremes_of_others(snapshot: Snapshot, bins: Bins, start: int, end: int) -> tuple[int, list[Extreme]]:
    """The number of undrawn series with values, and their least and greatest value.

    These are the series of `bins` that are folded into one, from `start` up to, but not including, `end` (ns
    since the epoch, UTC, by `_time`). Of equal values the first counts. The list is empty if there are none.
    Call bins.update() with the snapshot first. Raises ColumnError.
    """
    part = _within(snapshot, start, end)
    _, others, rows = bins.rows()
    series = 0
    found: list[Extreme] = []
    if others is None or not len(part):
        return 0, []
    codes, labels = bins.codes(part)
    for row_of, field in zip(rows, bins.fields, strict=True):
        values = part.numbers(field)
        folded = np.isin(codes, np.flatnonzero(row_of == others))
        places = np.flatnonzero((np.abs(values) < TOO_LARGE) & folded)  # false for NaN
        if not len(places):
            continue
        series += len(np.unique(codes[places]))
        places = places[np.argsort(part.time[places], kind="stable")]
        for at in (places[np.argmin(values[places])], places[np.argmax(values[places])]):
            name = bins.name_of(labels[codes[at]], field)
            found.append(Extreme(name, float(values[at]), int(part.time[at])))
    if not found:
        return 0, []
    least = min(found, key=lambda each: (each.value, each.time))
    greatest = min(found, key=lambda each: (-each.value, each.time))
    return series, [least, greatest]


def rows_at(snapshot: Snapshot, field: str, color: str | None, label: str, time: int) -> Snapshot:
    """The rows at `time` (ns since the epoch, UTC, by `_time`) that have a value in the column `field`, and
    `label` in the text column `color`. Their ordinals are not valid. Raises ColumnError."""
    part = _within(snapshot, time, time + 1)
    if not len(part):
        return part
    kept = part.present(field)
    if color is not None:
        codes, labels = part.codes(color)
        kept = kept & np.isin(codes, [code for code, each in enumerate(labels) if each == label])
    return part.where(kept)


def _within(snapshot: Snapshot, start: int, end: int) -> Snapshot:
    if snapshot.ordered:
        first, last = np.searchsorted(snapshot.time, [start, end])
        return snapshot.between(snapshot.first + int(first), snapshot.first + int(last))
    return snapshot.where((snapshot.time >= start) & (snapshot.time < end))
