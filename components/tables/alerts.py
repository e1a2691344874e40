"""alerts(): the series for which a condition held, and those for which it still holds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from nats_client import Feed, LookbackError, NamedFeed, format_duration
from nats_client.series.bins import series_name
from nats_client.series.conditions import Condition
from nats_client.series.crossings import Crossing
from nats_client.series.point_rows import rows_at

from ..charts.thresholds import Watched, checked, crossed
from ..data.behind import Behind, messages_behind
from ..data.live import View, look_at
from ..data.reads import mark
from ..data.states import check_times, empty_state
from ..push.json_element import JsonSource, Kind
from ..spent import timed
from ..units import number_text, scales, with_unit
from ..words import age_text, clock_text, cut, in_zone, zone

MOST_ROWS = 100
"""Crossings to list, newest first."""
LONGEST = 200
"""Characters of a text value in the list."""

_kind = Kind("alerts")


@timed
def alerts(
    view: View,
    y: str | Sequence[str],
    thresholds: Mapping[str, object],
    by: str | None = None,
    unit: str = "",
) -> None:
    """Show for how many series of the numeric column `y` (or several) each of `thresholds` holds now, with
    one series per value of the text column `by`. Below, list when the conditions held within the look-back,
    newest first: times in the viewer's zone, the value of the first row, and the value furthest beyond the
    limit.

    `thresholds`: name to condition. A number holds for values above it. Text can be "> 90", ">= 90", "< 10",
    "<= 10", "outside 10..90" or "inside 10..90", each optionally with how long it must hold, as in
    "> 90 for 10s". Or it can be "changed", for a number or text that differs from the value before; or
    "silent for 30s", if no value arrived for that long. None skips a threshold. line_chart() shares the
    computation. The list is on the page only; no notifications are sent. Raises ThresholdError on anything
    else, and ColumnError, naming the columns that exist, if a column does not exist or has another kind.
    """
    if not view:
        empty_state(view)
        return
    view = view.drawn
    check_times(view, "A list of alerts")
    fields = (y,) if isinstance(y, str) else tuple(y)
    given = checked(thresholds)
    numbers = any(condition.limits for condition in given.values())
    for field in fields:
        if numbers:
            view.snapshot.numbers(field, view.snapshot.end)
        view.snapshot.kind_of(field)
    if by is not None:
        view.snapshot.codes(by, view.snapshot.end)
    if view.stretch is not None:
        mark(_Began(view.stretch, fields, by, tuple(given.items())))
    behind = f" ({unit})" if unit and not scales(unit) else ""
    of = view.feed, view.look_back, fields, by, unit, tuple(given.items()), zone()
    _kind.draw(
        f"{view.feed.name_key} {of[1:5]}",
        of,
        lambda: _AlertsSource(view, fields, by, given, unit, zone(), messages_behind(view)),
        columns=["Threshold", "Series", "Since", "Until", f"Value{behind}", f"Peak{behind}"],
    )


@dataclass(frozen=True)
class _Began:
    """Returns, when called, the times at which the conditions began to hold in a whole stretch."""

    stretch: Feed | NamedFeed
    fields: tuple[str, ...]
    by: str | None
    conditions: tuple[tuple[str, Condition], ...]

    def __call__(self) -> list[int]:
        """Times, ns since the epoch, UTC. Raises LookbackError."""
        whole = look_at(self.stretch, self.stretch.look_back, False, by_code=False)
        watched = crossed(whole, self.fields, self.by, dict(self.conditions))
        return [crossing.start for one in watched for crossing in one.found.crossings if crossing.seen]


class _AlertsSource(JsonSource):
    """`h0` and so on, one per condition and column: whether it holds for any series, and a sentence about it.
    `total`: how many crossings there are. Each crossing is an entry: its cells as text. The names of these
    entries begin with "r" and ascend in time."""

    def __init__(
        self,
        view: View,
        fields: tuple[str, ...],
        by: str | None,
        conditions: Mapping[str, Condition],
        unit: str,
        zone: str,
        behind: Behind | None = None,
    ) -> None:
        super().__init__()
        self._behind = behind
        self._listed: dict[str, tuple[Watched, Crossing]] = {}
        self._feed = view.feed
        self._look_back = view.look_back
        self._fields = fields
        self._by = by
        self._conditions = conditions
        self._unit = unit
        self._zone = zone
        self._current = 0  # until when all messages were received, on the server's clock

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """New messages."""
        return self._feed.watch(changed)

    def look(self) -> Mapping[str, Any]:
        """The crossings now."""
        health = self._feed.health_of(self._look_back)
        self._current = max(self._current, health.known_to(self._feed.now()))
        now = self._current  # while nothing can be received, silence does not count
        snapshot = self._feed.snapshot().since(now - self._look_back.value)
        content: dict[str, Any] = {"total": 0}
        if not len(snapshot) and all(each.kind != "silent" for each in self._conditions.values()):
            return content
        view = View(self._feed, snapshot, self._look_back, now, health, by_code=False)
        watched = crossed(view, self._fields, self._by, self._conditions)
        several = len(self._fields) > 1
        for number, one in enumerate(watched):
            with in_zone(self._zone):
                text = headline(one, view, self._unit, several=several)
            content[f"h{number}"] = [one.found.above > 0, text]
            content["total"] += one.found.total
        rows = [
            (crossing, one, series_name(crossing.series, one.field, self._fields))
            for one in watched
            for crossing in one.found.crossings[:MOST_ROWS]
        ]
        rows.sort(key=lambda row: -row[0].start)
        listed: dict[str, tuple[Watched, Crossing]] = {}
        with in_zone(self._zone):
            for crossing, one, series in rows[:MOST_ROWS]:
                since = clock_text(crossing.start)
                key = f"r{crossing.start:020d}\n{one.name}\n{series}"
                listed[key] = one, crossing
                content[key] = [
                    one.name,
                    series,
                    since if crossing.seen else f"before {since}",
                    _until(one.condition, crossing),
                    *_values(one.condition, crossing, self._unit if scales(self._unit) else ""),
                ]
        self._listed = listed
        return content

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """The message with which a crossing began, or the last message before a silence. `row`: the name of
        the crossing's entry. Raises LookbackError."""
        known = self._listed.get(str(question.get("row")))
        if known is None or self._behind is None:
            raise LookbackError("This crossing has left the list.")
        self._behind.check()
        one, crossing = known
        silence = one.condition.lasting if one.condition.kind == "silent" else 0
        time = crossing.start - silence
        rows = rows_at(self._feed.snapshot(), one.field, self._by, crossing.series, time)
        return {**self._behind.messages(rows), "silent": bool(silence)}


def headline(one: Watched, view: View, unit: str, *, several: bool) -> str:
    """The state of one condition in a sentence."""
    end = "at the end" if view.health.plays is None else "at this moment"
    if view.health.phase == "halted" and view.health.known_to(view.feed.now()) < view.feed.now():
        end = "at the end of what was loaded"
    span, at = view.span, end if view.past else "now"
    _, total, now, series = one.found
    what = f" in '{one.field}'" if several else ""
    times = {1: "once", 2: "twice"}.get(total, f"{total:,} times")
    match one.condition.kind:
        case "changed":
            changed = f"changed {times}" if total else "did not change"
            return f"'{one.field}' {changed} {span} ('{one.name}')."
        case "silent":
            length = format_duration(pd.Timedelta(one.condition.lasting))
            state, past = f"silent for more than {length} ('{one.name}')", "that was so"
        case kind:
            lasting = one.condition.lasting
            held = f" for {format_duration(pd.Timedelta(lasting))} or longer" if lasting else ""
            state, past = f"{kind} '{one.name}' ({_limits(one.condition, unit)}){held}", "it was crossed"
    if now:
        is_are = "is" if now == 1 else "are"
        who = f"'{one.field}' is" if series == 1 else f"{now} of {series} series {is_are}"
        return f"{who} {state} {at}{what}."
    if total:
        return f"Nothing is {state} {at}{what}; {past} {times} {span}."
    if one.condition.kind == "above" and not one.condition.lasting:
        return f"Nothing crossed '{one.name}' ({_limits(one.condition, unit)}) {span}{what}."
    return f"Nothing was {state} {span}{what}."


def _limits(condition: Condition, unit: str) -> str:
    if scales(unit):
        return " to ".join(with_unit(limit, unit) for limit in condition.limits)
    return " to ".join(map(number_text, condition.limits)) + (f" {unit}" if unit else "")


def _until(condition: Condition, crossing: Crossing) -> str:
    if condition.kind == "changed":
        return ""
    return f"still {condition.kind}" if crossing.end is None else clock_text(crossing.end)


def _values(condition: Condition, crossing: Crossing, unit: str) -> tuple[str, str]:
    """The table's texts for the first value, and for the value furthest beyond the limit."""
    match condition.kind:
        case "changed":
            return cut(crossing.text, LONGEST) if crossing.text else with_unit(crossing.value, unit), ""
        case "silent":
            return "", age_text(crossing.peak)
    return with_unit(crossing.value, unit), with_unit(crossing.peak, unit)
