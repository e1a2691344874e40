"""states(): the state of each series over time, as bands."""

from collections.abc import Callable, Mapping
from typing import Any

from nats_client import LookbackError
from nats_client.series.conditions import parse_condition
from nats_client.series.value_changes import Span, ValueChanges

from ..data.live import View
from ..data.states import check_times, empty_state
from ..push.json_element import JsonSource, Kind
from ..spent import timed
from ..units import number_text
from ..words import cut

MOST = 30
"""Series to draw unless the page says otherwise."""
MOST_SERIES = 200
MOST_STATES = 40
"""States with a colour and a name of their own; all further states share one."""
LONGEST = 60
"""Characters of a name."""
OTHERS = "others"
MS = 1_000_000
"""ns in a millisecond."""

_CHANGED = parse_condition("changed")
_kind = Kind("states")


@timed
def states(
    view: View,
    y: str,
    by: str | None = "_subject",
    *,
    title: str | None = None,
    colors: Mapping[str, str] | None = None,
    most: int = MOST,
    key: str | None = None,
) -> None:
    """Draw the state of each series over time, as bands. States are the values of the column `y`, text or
    number. There is one series for each value of the text column `by`, or one for all rows if `by` is None.

    A state lasts from its first row to the next row with a different state. The newest lasts until now, as
    long as its series has a row in the look-back. The legend shows the share of the time that each state had,
    over all series shown. At most `most` series (up to MOST_SERIES) are drawn, the first ones by name, with
    the newest 1,000 changes. True and false in the payload are the states "true" and "false". `colors`: maps
    a state to a CSS colour. Common words for states have colours of their own, such as green for RUN and red
    for FAULT. `key` distinguishes two equal elements on one page. Raises LookbackError if `most` is out of
    range, and ColumnError, naming the columns that exist, if a column does not exist or `by` is no text
    column.
    """
    if not 1 <= most <= MOST_SERIES:
        raise LookbackError(f"states() draws from 1 to {MOST_SERIES} series, not most={most}.")
    if not view:
        empty_state(view)
        return
    view = view.drawn
    check_times(view, "Bands over time")
    view.snapshot.kind_of(y)
    if by is not None:
        view.snapshot.codes(by, view.snapshot.end)
    of = view.feed, view.look_back, y, by, most
    _kind.draw(
        key or f"{view.feed.name_key} {of[1:]}",
        of,
        lambda: _StatesSource(view, y, by, most),
        title=title or "",
        window=view.look_back.value / 1e6,
        still=view.past,
        when=f"{view.look_back.value} {view.feed.key.end}",
        colors=dict(colors or {}),
        empty=f"No states {view.span}",
    )


class _StatesSource(JsonSource):
    """`until`: the right edge, ms since the epoch, UTC. `gaps`: the parts that are not loaded, from and to,
    in ms. `states`: the names of the states, in the order in which they first appeared. `series`: how many
    series there are. `missing`: how many changes are not drawn. Each band is an entry: series, index of the
    state, start, and end or 0 if it lasts, in ms. The names of these entries begin with "b"."""

    def __init__(self, view: View, field: str, by: str | None, most: int) -> None:
        super().__init__()
        self._feed = view.feed
        self._look_back = view.look_back
        self._field = field
        self._by = by
        self._most = most
        self._states: dict[str, int] = {}
        self._current = 0  # until when all messages were received, on the server's clock

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """New messages."""
        return self._feed.watch(changed)

    def look(self) -> Mapping[str, Any]:
        """The bands now."""
        health = self._feed.health_of(self._look_back)
        if health.phase == "following" or not self._current:
            self._current = self._feed.now()
        now = self._current
        known_to = health.known_to(now) if self._feed.key.end is not None else now
        snapshot = self._feed.snapshot().since(now - self._look_back.value)
        content: dict[str, Any] = {"until": now // MS, "series": 0, "missing": 0, "states": []}
        if unread := [[gap.start // MS, gap.end // MS] for gap in health.gaps if gap.why == "unread"]:
            content["gaps"] = unread
        if not len(snapshot):
            return content
        changes = self._feed.crossings(self._field, self._by, self._look_back, _CHANGED)
        assert isinstance(changes, ValueChanges)
        changes.update(snapshot, now)
        spans, content["missing"] = changes.spans()
        series = sorted({span.series for span in spans})
        shown = set(series[: self._most])
        for span in spans:
            if span.series in shown:
                name = f"b{span.start:x}\n{span.series}"
                content[name] = [
                    cut(span.series, LONGEST),
                    self._state(span, truths=self._field in snapshot.truths),
                    span.start // MS,
                    0 if span.end is None and known_to >= now else min(span.end or now, known_to) // MS,
                ]
        return {**content, "series": len(series), "states": list(self._states)}

    def _state(self, span: Span, *, truths: bool) -> int:
        """The index of the state's name. `truths`: 1 and 0 are true and false."""
        value = span.value
        if isinstance(value, str):
            name = cut(value, LONGEST)
        else:
            name = str(bool(value)).lower() if truths else number_text(value)
        if name not in self._states and len(self._states) >= MOST_STATES:
            name = OTHERS
        return self._states.setdefault(name, len(self._states))
