"""metric(): one live number of a feed."""

from collections.abc import Callable, Mapping
from typing import Any, get_args

import pandas as pd

from nats_client import Duration, LookbackError, format_duration, parse_duration
from nats_client.series.figure import POINTS, Figure, How
from nats_client.series.seen_figure import SeenFigure

from ..choices.clock import clock
from ..data.live import View
from ..data.states import check_times
from ..push.json_element import JsonSource, Kind
from ..spent import timed
from ..units import WIDEST, brief, scales, with_unit

_kind = Kind("metric")


@timed
def metric(
    view: View,
    y: str,
    *,
    how: How = "newest",
    by: str | None = None,
    only: str | None = None,
    over: Duration | None = None,
    title: str | None = None,
    unit: str = "",
    change: Duration | None = None,
    line: bool = True,
    key: str | None = None,
) -> None:
    """Draw the number column `y` as one number, with a small line behind it that shows its course over the
    look-back. The number updates itself. It is "n/a" if there is no value.

    The number is the newest value of each series (one per value of the text column `by`, or only the
    series `only`), combined by `how`: "newest", "least", "greatest", "mean" or "sum". Without `by` all
    rows are one series. `over`, such as "PT1M": combine instead all values that the server stored within this
    duration before now. `title`: above the number; the default is the column's name. `unit`: written after
    the number; bytes and durations are scaled, as in line_chart(). `change`, such as "PT1M": show the
    difference from the number that long ago, computed from the rows stored by then. `line=False` leaves the
    line out. `key`: distinguishes two equal metrics on one page. For a result without times, such as totals,
    the line and `change` begin when a viewer first opens the page.

    Raises LookbackError if `how` is another word or has nothing to combine, `only` comes without `by`, or
    `over` and `change` together are longer than the look-back; DurationError if one of them is not a
    duration; and ColumnError, naming the columns that exist, if a column does not exist or has another kind,
    or if `over` comes with a result without times.
    """
    view = view.drawn
    if not isinstance(y, str):
        raise LookbackError(f"y={y!r} is not valid. A metric shows one column: give its name.")
    if how != "newest" and how in get_args(How) and by is None and over is None:
        raise LookbackError(
            f"how={how!r} combines the newest values of several series, or all values of a stretch. Name the "
            "series with by='_subject', or give a stretch with over='PT1M'."
        )
    lengths = {
        what: parse_duration(text, what) if text is not None else None
        for what, text in (("over", over), ("change", change))
    }

    timeless = view.timeless

    def figure() -> Figure | SeenFigure:
        if timeless:
            of_rows = Figure(y, how, view.look_back, by=by, only=only)
            return SeenFigure(of_rows, view.look_back, lengths["change"])
        return Figure(y, how, view.look_back, by=by, only=only, **lengths)

    if over is not None:
        check_times(view, f"over={over!r}")
    if clock().length is not None:  # the viewer's length may be shorter than `over` and `change` need
        if (asked := lengths["over"]) is not None:
            lengths["over"] = min(asked, view.look_back)
        if (lengths["over"] or pd.Timedelta(0)) + (lengths["change"] or pd.Timedelta(0)) > view.look_back:
            lengths["change"] = None
    step = figure().step  # raises if something is wrong with it
    young: dict[str, Any] = (
        {} if view.young_since is None or not line else {"young": view.young_since // step}
    )
    if view:
        view.snapshot.numbers(y, view.snapshot.end)
        if by is not None:
            view.snapshot.codes(by, view.snapshot.end)
    of = view.feed, view.look_back, y, how, by, only, *lengths.values(), unit, line, timeless
    since = "" if lengths["change"] is None else f"in {format_duration(lengths['change'])}"
    _kind.draw(
        key or f"{view.feed.name_key} {of[1:]} {title}",
        of,
        lambda: _MetricSource(view, figure(), unit, line=line),
        title=y if title is None else title,
        since=since,
        points=POINTS if line else 0,
        **young,  # the number of the step in which the stream began
    )


class _MetricSource(JsonSource):
    """A figure as text, and its course: the entries `text`, `exact`, `change`, `way` (up: 1, down: -1),
    `step` (the number of the current one), and `p<step>`."""

    def __init__(self, view: View, figure: Figure | SeenFigure, unit: str, *, line: bool) -> None:
        super().__init__()
        self._feed = view.feed
        self._figure = figure
        self._look_back = view.look_back
        self._unit = unit
        self._line = line
        self._past = view.past

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """New messages."""
        return self._feed.watch(changed)

    def look(self) -> Mapping[str, Any]:
        """Take the new rows into the figure."""
        now, figure = self._feed.now(), self._figure
        # Only the loaded part of a stretch is processed, because a figure can only move forward in time.
        known_to = self._feed.health_of(self._look_back).known_to(now) if self._past else now
        snapshot = self._feed.snapshot().since(now - self._look_back.value)
        if len(snapshot):
            figure.update(snapshot, known_to)
        else:  # a snapshot without rows may lack the columns
            figure.clear()
        value, before = figure.value, figure.before
        content: dict[str, Any] = {"text": figure_text(value, self._unit)}
        if value is not None:
            exact = int(value) if value == int(value) and abs(value) < WIDEST else value
            unit = self._unit
            content["exact"] = with_unit(exact, unit) if scales(unit) else f"{exact:,} {unit}".strip()
            if before is not None:
                content["change"] = figure_text(abs(value - before), self._unit)
                content["way"] = (value > before) - (value < before)
        if self._line:
            content["step"] = now // figure.step
            content |= {f"p{step}": _short(each) for step, each in figure.course.items() if each is not None}
            if value is not None and known_to >= now:
                content["p"] = _short(value)
        return content


def figure_text(value: float | int | None, unit: str) -> str:
    """A number with its unit; "n/a" if there is no number."""
    return "n/a" if value is None else brief(value, unit)


def _short(value: float) -> float:
    """Round to the digits that a small line can show."""
    return float(f"{value:.5g}")
