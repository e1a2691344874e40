"""The rows behind a point of a chart, or behind a crossing."""

import numpy as np

from ..table.snapshot import Snapshot
from ..table.values import Floats, Ints
from .bins import Bins
from .zoom_tiles import TOO_LARGE


def rows_of_point(
    snapshot: Snapshot, bins: Bins, series: str | None, start: int, end: int
) -> tuple[Snapshot, Floats]:
    """The rows of a series of `bins` from `start` up to, but not including, `end` (ns since the epoch, UTC,
    by `_time`), and their values. `series`: its name in the chart, None for the one that holds all undrawn
    ones. `bins` must have taken in this snapshot. The rows' ordinals are not valid. Raises ColumnError."""
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
