"""alerts(): which series rose above a threshold, and which are still above it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nats_client import format_duration

from ..charts.thresholds import Watched, checked, crossed, series_name
from ..data.live import View
from ..data.states import empty_state
from ..push.json_element import JsonSource, Kind
from ..spent import timed
from ..words import clock_text, in_zone, number_text, zone

MOST_ROWS = 100
"""Crossings to list, newest first."""

_kind = Kind("alerts")


@timed
def alerts(
    view: View,
    y: str | Sequence[str],
    thresholds: Mapping[str, object],
    color: str | None = None,
    unit: str = "",
) -> None:
    """Say how many series of the numeric column `y` (or several) are above each of `thresholds` now, one
    series per value of the text column `color`. List the crossings within the look-back, newest first: times
    in the viewer's zone, the value of the first row above the threshold, and the peak since.

    `thresholds` are as in line_chart(), and both share the computed crossings. Raises ThresholdError on a
    value that is neither a finite number nor None, and ColumnError, naming the columns that exist, if a
    column does not exist or has another kind.
    """
    if not view:
        empty_state(view)
        return
    view = view.drawn
    fields = (y,) if isinstance(y, str) else tuple(y)
    given = checked(thresholds)
    for field in fields:
        view.snapshot.numbers(field, view.snapshot.end)
    if color is not None:
        view.snapshot.codes(color, view.snapshot.end)
    behind = f" ({unit})" if unit else ""
    of = view.feed, view.look_back, fields, color, unit, tuple(given.items()), zone()
    _kind.draw(
        f"{view.feed.name_key} {of[1:5]}",
        of,
        lambda: _AlertsSource(view, fields, color, given, unit, zone()),
        columns=["Threshold", "Series", "Since", "Until", f"At crossing{behind}", f"Peak{behind}"],
    )


class _AlertsSource(JsonSource):
    """`h0` and so on: whether something is above a threshold, and a sentence about it. `total`: how many
    crossings there are. Each crossing is an entry: its cells as text. The names of these entries begin with
    "r" and ascend in time."""

    def __init__(
        self,
        view: View,
        fields: tuple[str, ...],
        color: str | None,
        thresholds: Mapping[str, float],
        unit: str,
        zone: str,
    ) -> None:
        super().__init__()
        self._feed = view.feed
        self._look_back = view.look_back
        self._fields = fields
        self._color = color
        self._thresholds = thresholds
        self._unit = unit
        self._zone = zone

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """New messages."""
        return self._feed.watch(changed)

    def look(self) -> Mapping[str, Any]:
        """The crossings now."""
        now = self._feed.now()
        snapshot = self._feed.snapshot().since(now - self._look_back.value)
        content: dict[str, Any] = {"total": 0}
        if not len(snapshot):
            return content
        health = self._feed.health_of(self._look_back)
        view = View(self._feed, snapshot, self._look_back, now, health, by_code=False)
        watched = crossed(view, self._fields, self._color, self._thresholds)
        several, look_back = len(self._fields) > 1, format_duration(self._look_back)
        for number, one in enumerate(watched):
            text = headline(one, look_back, self._unit, several=several)
            content[f"h{number}"] = [one.found.above > 0, text]
            content["total"] += one.found.total
        rows = [
            (crossing, one.name, series_name(crossing, one.field, self._fields))
            for one in watched
            for crossing in one.found.crossings[:MOST_ROWS]
        ]
        rows.sort(key=lambda row: -row[0].start)
        with in_zone(self._zone):
            for crossing, name, series in rows[:MOST_ROWS]:
                content[f"r{crossing.start:020d}\n{name}\n{series}"] = [
                    name,
                    series,
                    clock_text(crossing.start) if crossing.seen else f"before {clock_text(crossing.start)}",
                    "still above" if crossing.end is None else clock_text(crossing.end),
                    number_text(crossing.value),
                    number_text(crossing.peak),
                ]
        return content


def headline(one: Watched, look_back: str, unit: str, *, several: bool) -> str:
    """The state of one threshold in a sentence."""
    _, total, above, series = one.found
    limit = f"'{one.name}' ({number_text(one.threshold)}{' ' * bool(unit)}{unit})"
    what = f" in '{one.field}'" if several else ""
    if above:
        is_are = "is" if above == 1 else "are"
        who = f"'{one.field}' is" if series == 1 else f"{above} of {series} series {is_are}"
        return f"{who} above {limit} now{what}."
    if total:
        times = "once" if total == 1 else f"{total:,} times"
        return f"Nothing is above {limit} now{what}; it was crossed {times} in the last {look_back}."
    return f"Nothing crossed {limit} in the last {look_back}{what}."
