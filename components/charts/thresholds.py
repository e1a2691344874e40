"""Thresholds and their crossings, for charts and lists."""

from collections.abc import Mapping, Sequence
from math import isfinite
from numbers import Real
from typing import NamedTuple

from nats_client.errors import ThresholdError
from nats_client.series.crossings import Crossing, Found

from ..data.live import View
from ..words import rounded

MOST_MARKS = 200
"""Crossings to mark in a chart, newest first. Further ones are only counted."""


class Watched(NamedTuple):
    """A threshold, and the crossings of one field."""

    name: str
    threshold: float
    field: str
    found: Found


def checked(thresholds: Mapping[str, object]) -> dict[str, float]:
    """The thresholds that have a number. Raises ThresholdError on a value that is neither a finite number nor
    None."""
    numbers = {}
    for name, value in thresholds.items():
        if value is None:
            continue
        if not isinstance(value, Real) or isinstance(value, bool) or not isfinite(value):
            raise ThresholdError(
                f"The threshold {name!r} is {value!r}, which is not a finite number. "
                "Use a number such as 90, or None to skip it."
            )
        numbers[str(name)] = float(value)
    return numbers


def crossed(
    view: View, fields: Sequence[str], color: str | None, thresholds: Mapping[str, object]
) -> list[Watched]:
    """The crossings of each of `fields` at each of `thresholds` within the look-back. Raises ThresholdError,
    and ColumnError if a column does not exist or has another kind."""
    watched = []
    for name, threshold in checked(thresholds).items():
        for field in fields:
            crossings = view.feed.crossings(field, color, view.look_back, threshold)
            crossings.update(view.snapshot, view.now)
            watched.append(Watched(name, threshold, field, crossings.found()))
    return watched


def series_name(crossing: Crossing, field: str, fields: Sequence[str]) -> str:
    """The name that a chart of `fields` gives the series."""
    return f"{crossing.series} {field}".strip() if len(fields) > 1 or not crossing.series else crossing.series


def drawn(
    view: View, fields: Sequence[str], color: str | None, thresholds: Mapping[str, object]
) -> dict[str, object]:
    """The chart's configuration for `thresholds`: "thresholds" (names and numbers) and "marks".

    A mark is: index of its threshold, index of its series in "names", time (ms since the epoch, UTC), and the
    value as shown. "more" counts the crossings that have no mark.
    """
    if not thresholds:
        return {}
    watched = crossed(view, fields, color, thresholds)
    lines = list(dict.fromkeys((one.name, one.threshold) for one in watched))
    seen = [
        (crossing, series_name(crossing, one.field, fields), lines.index((one.name, one.threshold)))
        for one in watched
        for crossing in one.found.crossings
        if crossing.seen
    ]
    unlisted = sum(one.found.total - len(one.found.crossings) for one in watched)
    seen.sort(key=lambda mark: -mark[0].start)
    marked = seen[:MOST_MARKS]
    names = list(dict.fromkeys(name for _, name, _ in marked))
    return {
        "thresholds": lines,
        "marks": {
            "names": names,
            "at": [
                [line, names.index(name), crossing.start // 1_000_000, rounded(crossing.value)]
                for crossing, name, line in marked
            ],
            "more": unlisted + len(seen) - len(marked),
        },
    }
