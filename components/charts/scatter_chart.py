"""scatter_chart(): a live chart of one number against another, one point per row."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nats_client import LookbackError
from nats_client.series.zoom_tiles import TOO_LARGE
from nats_client.table.snapshot import Snapshot
from nats_client.table.values import Codes

from ..data.behind import Behind, messages_behind
from ..data.live import View
from ..data.states import empty_state
from ..push.json_element import JsonSource, Kind
from ..spent import timed
from ..web.assets import PREFIX, plotly_url
from ..words import cut, rounded

MOST = 5000
"""Points to draw, the newest ones."""
GROUPS = 10
"""Groups with a colour of their own, the largest ones."""
_CLEARLY = 5  # points that a group needs beyond twice another group's size to take its colour
_LONGEST = 200  # characters of a group's name

_kind = Kind("scatter")


@timed
def scatter_chart(
    view: View,
    x: str,
    y: str,
    *,
    by: str | None = None,
    height: int = 380,
    log_x: bool = False,
    log_y: bool = False,
    key: str | None = None,
) -> None:
    """Draw the numeric column `y` against the numeric column `x`, one point for each row that has both. The
    newest 5,000 points of the look-back, in the order in which the server stored them, are drawn. The chart
    updates itself.

    The ten largest groups, one per value of the text column `by`, have a colour each; all other points
    share one. A group keeps its colour until another group is more than twice as large. `height`: pixels,
    without the legend. `log_x`, `log_y`: the axis is logarithmic; points with zero or a negative number are
    not drawn, and the chart says how many. `key`: distinguishes two equal charts on one page. Raises
    ColumnError, naming the columns that exist, if a column does not exist or has another kind.
    """
    if not view:
        empty_state(view)
        return
    view = view.drawn
    for name in (x, y):
        view.snapshot.numbers(name, view.snapshot.end)
    if by is not None:
        view.snapshot.codes(by, view.snapshot.end)
    of = view.feed, view.look_back, x, y, by
    _kind.draw(
        key or f"{view.feed.name_key} {of[1:]} {log_x} {log_y}",
        of,
        lambda: _PointsSource(view, x, y, by, messages_behind(view)),
        axes=[x, y],
        log=[log_x, log_y],
        height=height,
        most=MOST,
        plotly=plotly_url().removeprefix(f"{PREFIX}/"),
    )


class _PointsSource(JsonSource):
    """The points in order: `x` and `y`, rounded as shown, and `of`, the number of each point's group, -1 for
    none. `first`: how many points have left since the source was created. `groups`: number and name of each
    group with a colour, at the place of that colour.

    A browser gets the points that are new, and drops as many as `first` has grown by.
    """

    def __init__(self, view: View, x: str, y: str, by: str | None, behind: Behind | None = None) -> None:
        super().__init__()
        self._behind = behind
        self._feed = view.feed
        self._look_back = view.look_back.value
        self._columns = x, y
        self._by = by
        self._generation: int | None = None
        self._end = 0  # one past the ordinal of the last processed row
        self._first = 0
        self._ordinals = np.zeros(0, dtype=np.int64)
        self._of = np.zeros(0, dtype=np.int32)
        self._points: tuple[list[float], list[float]] = [], []
        self._coloured: list[str] = []

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """New messages."""
        return self._feed.watch(changed)

    def look(self) -> Mapping[str, Any]:
        """Take the new rows into the points."""
        snapshot = self._feed.snapshot().since(self._feed.now() - self._look_back)
        if snapshot.generation != self._generation or not len(snapshot):
            self._drop(len(self._ordinals))
            self._generation, self._end = snapshot.generation, snapshot.first
        labels: list[str] = []
        if len(snapshot):  # a snapshot without rows may lack the columns
            labels = self._take(snapshot)
        self._end = snapshot.end
        self._drop(int(np.searchsorted(self._ordinals, snapshot.first)))
        self._drop(len(self._ordinals) - MOST)
        x, y = self._points
        content: dict[str, Any] = {"first": self._first, "x": x, "y": y}
        if self._by is not None:
            content |= {"of": self._of.tolist(), "groups": self._groups(labels)}
        return content

    def news(self, known: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
        """Only the points that the browser lacks."""
        end = known["first"] + len(known["x"]) if known else content["first"]
        new = max(0, end - content["first"])
        columns = {name: content[name][new:] for name in ("x", "y", "of") if name in content}
        others = [{name: of[name] for name in of.keys() - columns} for of in (known, content)]
        return super().news(*others) | {name: values for name, values in columns.items() if values}

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """The message behind a point. `point`: how many points came before it since the source was created.
        Raises LookbackError if the point has left the chart."""
        with self._lock:
            place = question.get("point")
            known = isinstance(place, int) and self._first <= place < self._first + len(self._ordinals)
            ordinal = int(self._ordinals[place - self._first]) if known and isinstance(place, int) else 0
            snapshot = self._feed.snapshot()
            if not known or snapshot.generation != self._generation or self._behind is None:
                raise LookbackError("This point has left the chart.")
        return self._behind.messages(snapshot.between(ordinal, ordinal + 1))

    def _take(self, snapshot: Snapshot) -> list[str]:
        """Add the new rows that have both numbers. Returns the labels of the groups."""
        start = max(self._end, snapshot.first)
        x, y = (snapshot.numbers(name, start) for name in self._columns)
        good = np.flatnonzero((np.abs(x) < TOO_LARGE) & (np.abs(y) < TOO_LARGE))[-MOST:]  # false for NaN
        # New lists each time, because the content that was sent must not change.
        self._points = (
            self._points[0] + [rounded(value) for value in x[good].tolist()],
            self._points[1] + [rounded(value) for value in y[good].tolist()],
        )
        self._ordinals = np.concatenate([self._ordinals, good + start])
        codes, labels = snapshot.codes(self._by, start) if self._by is not None else (x, [])
        self._of = np.concatenate(
            [self._of, codes[good].astype(np.int32) if labels else np.full(len(good), -1)]
        )
        return labels

    def _drop(self, count: int) -> None:
        """Drop the oldest points."""
        if count > 0:
            self._first += count
            self._ordinals, self._of = self._ordinals[count:], self._of[count:]
            self._points = self._points[0][count:], self._points[1][count:]

    def _groups(self, labels: list[str]) -> list[tuple[int, str] | None]:
        """Number and name of the groups that have a colour; None for a group without points."""
        codes: Codes
        codes, counts = np.unique(self._of[self._of >= 0], return_counts=True)
        sizes = {labels[code]: int(count) for code, count in zip(codes, counts, strict=True)}
        coloured = self._coloured
        waiting = sorted(sizes.keys() - set(coloured), key=lambda name: (-sizes[name], name))
        room = GROUPS - len(coloured)
        coloured += sorted(waiting[:room])
        for name in waiting[room:]:
            least = min(coloured, key=lambda name: sizes.get(name, 0))
            if sizes.get(least) and sizes[name] <= 2 * sizes[least] + _CLEARLY:
                break
            coloured[coloured.index(least)] = name
        code_of = {labels[code]: int(code) for code in codes}
        return [(code_of[name], cut(name, _LONGEST)) if name in code_of else None for name in coloured]
