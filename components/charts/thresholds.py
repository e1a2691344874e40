"""Thresholds and their crossings, as charts and lists have them."""

from collections.abc import Mapping, Sequence
from math import isfinite
from numbers import Real
from typing import NamedTuple

from nats_client.errors import ThresholdError
from nats_client.series.crossings import Crossing, Found

from ..data.live import View
from ..words import rounded

MOST_MARKS = 200
"""Crossings that a chart marks, the newest; further ones are counted."""


class Watched(NamedTuple):
    """A threshold, and what one field did at it."""

    name: str
    threshold: float
    field: str
    found: Found


def checked(thresholds: Mapping[str, object]) -> dict[str, float]:
    """Those that have a number. Raises ThresholdError on what is neither a finite number nor None."""
    numbers = {}
    for name, value in thresholds.items():
        if value is None:
            continue
        if not isinstance(value, Real) or isinstance(value, bool) or not isfinite(value):
            raise ThresholdError(
                f"The threshold {name!r} is {value!r}, which is no finite number. "
                "Give it one, such as 90, or None to leave it out."
            )
        numbers[str(name)] = float(value)
    return numbers


def crossed(
    view: View, fields: Sequence[str], color: str | None, thresholds: Mapping[str, object]
) -> list[Watched]:
    """What each of `fields` did at each of `thresholds` within the look-back. Raises ThresholdError, and
    ColumnError when a column is not there or of another kind."""
    watched = []
    for name, threshold in checked(thresholds).items():
        for field in fields:
            crossings = view.feed.crossings(field, color, view.look_back, threshold)
            crossings.update(view.snapshot, view.now)
            watched.append(Watched(name, threshold, field, crossings.found()))
    return watched


def series_name(crossing: Crossing, field: str, fields: Sequence[str]) -> str:
    """What a chart of `fields` calls the series."""
    return f"{crossing.series} {field}".strip() if len(fields) > 1 or not crossing.series else crossing.series


def drawn(
    view: View, fields: Sequence[str], color: str | None, thresholds: Mapping[str, object]
) -> dict[str, object]:
    """What the chart is to draw of `thresholds`: its settings "thresholds", names and numbers, and "marks".

    A mark is the number of its threshold, of its series among "names", its time (ms since the epoch, UTC),
    and the value as it is shown; "more" says how many crossings have none.
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
