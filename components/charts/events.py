"""events(): marks of what happened, in all charts over time of a page."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from nats_client import LookbackError, Snapshot

from ..data.live import View
from ..data.states import check_times
from ..push.json_element import JsonSource, Kind
from ..spent import timed
from ..units import number_text
from ..words import count_text, cut

MOST = 100
"""Marks to draw, the newest ones."""
LONGEST = 60
"""Characters of a mark's text."""

_NAMED = re.compile(r"\{([^{}]*)\}")
_kind = Kind("events")


@timed
def events(view: View, text: str = "{_subject}", *, key: str | None = None) -> None:
    """Mark each row of `view` in all charts over time of the page, as a thin line with a short text at the
    row's time: deploys, workflow runs, or other messages of a stream. The newest 100 rows are marked. The
    marks update themselves. At its own place the element shows nothing, unless there are more rows than that.

    text: the text at a mark, cut to 60 characters. Names of columns in braces are replaced by the
    row's values: "deploy {version}", "{workflow} {status}". `live(..., where=...)` chooses which rows are
    events. key: distinguishes two equal calls on one page. Raises ColumnError, naming the columns that exist,
    if a column does not exist.

    A view without rows is not shown as an empty state here. Such rows arrive at no regular intervals, so
    their silence does not make the page stale, unless the page also shows the view in another way.
    """
    if not isinstance(view, View):
        raise LookbackError(
            f"events() marks the rows of a view, such as live(...), not a {type(view).__name__}."
        )
    names = tuple(dict.fromkeys(_NAMED.findall(text)))
    drawn = view.marked
    view.shown_empty.append("events")
    if drawn:
        check_times(drawn, "A mark in charts over time")
        for name in set(names) - {"_seq"}:
            drawn.snapshot.kind_of(name)
    of = drawn.feed, drawn.look_back, text
    _kind.draw(
        key or f"{drawn.feed.name_key} {of[1:]}", of, lambda: _EventsSource(drawn, text, names), most=MOST
    )


class _EventsSource(JsonSource):
    """Each mark is an entry: its time (ms since the epoch, UTC) and its text. The names of these entries
    begin with "e" and ascend in time. `more`: how many rows have no mark, in words."""

    def __init__(self, view: View, text: str, names: Sequence[str]) -> None:
        super().__init__()
        self._feed = view.feed
        self._look_back = view.look_back.value
        self._text = text
        self._names = names

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """New messages."""
        return self._feed.watch(changed)

    def look(self) -> Mapping[str, Any]:
        """The marks now."""
        rows = self._feed.snapshot().since(self._feed.now() - self._look_back)
        content: dict[str, Any] = {}
        if len(rows) > MOST:
            content["more"] = f"The newest {MOST} of {count_text(len(rows), 'event')} are marked."
        if len(rows):
            content |= _marks(rows, self._text, self._names)
        return content


def _marks(rows: Snapshot, text: str, names: Sequence[str]) -> dict[str, Any]:
    held = [name for name in names if name in rows.columns or name == "_seq"]
    table = rows.frame(list(dict.fromkeys(["_seq", *held])), last=MOST)
    columns = {name: table[name].tolist() for name in held}
    times, seqs = pd.DatetimeIndex(table.index).as_unit("ns").asi8.tolist(), table["_seq"].tolist()
    marks = {}
    for place, (time, seq) in enumerate(zip(times, seqs, strict=True)):
        values = {name: _shown(column[place]) for name, column in columns.items()}
        said = _NAMED.sub(lambda found, values=values: values.get(found[1], ""), text)  # type: ignore[misc]
        marks[f"e{time:020d}.{seq}"] = [time // 1_000_000, cut(" ".join(said.split()), LONGEST)]
    return marks


def _shown(value: object) -> str:
    """A value as a mark shows it; empty for a missing value."""
    if value is None or value is pd.NaT or value is pd.NA or value != value:
        return ""
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return str(value)[: 4 * LONGEST]
