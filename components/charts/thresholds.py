"""Thresholds: conditions on values, and when they held, for charts and lists."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nats_client.series.bins import series_name
from nats_client.series.conditions import Condition, parse_condition
from nats_client.series.crossings import Found

from ..data.live import View
from ..words import rounded

MOST_MARKS = 200
"""Crossings to mark in a chart, newest first. Further ones are only counted."""


class Watched(NamedTuple):
    """A threshold, and the crossings of one field."""

    name: str
    condition: Condition
    field: str
    found: Found


def checked(thresholds: Mapping[str, object]) -> dict[str, Condition]:
    """The conditions of all thresholds that are not None. Raises ThresholdError as parse_condition() does."""
    given = {str(name): value for name, value in thresholds.items() if value is not None}
    return {name: parse_condition(value, name) for name, value in given.items()}


def crossed(
    view: View, fields: Sequence[str], color: str | None, conditions: Mapping[str, Condition]
) -> list[Watched]:
    """When each of `conditions` held for each of `fields` within the look-back. Raises ColumnError if a
    column does not exist or has another kind."""
    watched = []
    for name, condition in conditions.items():
        for field in fields:
            crossings = view.feed.crossings(field, color, view.look_back, condition)
            crossings.update(view.snapshot, view.now)
            watched.append(Watched(name, condition, field, crossings.found()))
    return watched


def drawn(
    view: View, fields: Sequence[str], color: str | None, conditions: Mapping[str, Condition]
) -> dict[str, object]:
    """The chart's configuration for `conditions`: "thresholds" (name, number and word of each line) and
    "marks". Conditions without limits are not drawn.

    A mark is: index of its line, index of its series in "names", time (ms since the epoch, UTC), and the
    value as shown. "more" counts the crossings that have no mark.
    """
    conditions = {name: condition for name, condition in conditions.items() if condition.limits}
    if not conditions:
        return {}
    watched = crossed(view, fields, color, conditions)
    lines = [line for name, condition in conditions.items() for line in _lines(name, condition)]
    seen = [
        (
            crossing,
            series_name(crossing.series, one.field, fields),
            lines.index(_nearest(one, crossing.value)),
        )
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


def _lines(name: str, condition: Condition) -> list[tuple[str, float, str]]:
    """One line per limit: its name, its number, and the word between a series and the name."""
    limits = condition.limits
    ends = ("",) if len(limits) == 1 else (" low", " high")
    return [(f"{name}{end}", limit, condition.kind) for end, limit in zip(ends, limits, strict=True)]


def _nearest(one: Watched, value: float) -> tuple[str, float, str]:
    """The line nearest to the value."""
    return min(_lines(one.name, one.condition), key=lambda line: abs(line[1] - value))
