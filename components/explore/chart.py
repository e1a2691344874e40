"""A chart that the viewer chooses: drawn here, or written as the code that draws it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from nats_client import iso_duration, parse_duration
from nats_client.series.bins import MOST, ROUND_STEPS
from nats_client.sql.names import AGGREGATES, quoted

from ..charts.counts import counts
from ..charts.heatmap import heatmap
from ..charts.line_chart import line_chart
from ..charts.scatter_chart import scatter_chart
from ..charts.states import MOST_STATES, states
from ..choices.choose import choose, chosen
from ..data.live import View
from ..data.states import empty_state
from ..sql.views import every, rate
from ..tables.fields import time_fields
from ..tables.latest_values import latest_values
from ..tables.tail import tail
from ..words import plain

SHOW = "value: as it is; rate: per second, of a counter; the others: of each bucket"
HOLDS = "steps: a value holds until the next one"
AXES: dict[str, dict[str, bool]] = {
    "fitted": {},
    "from zero": {"from_zero": True},
    "logarithmic": {"log_y": True},
}
"""Arguments of line_chart() by the choice of its axis."""
SCATTER_AXES: dict[str, dict[str, bool]] = {
    "linear": {},
    "logarithmic x": {"log_x": True},
    "logarithmic y": {"log_y": True},
    "logarithmic": {"log_x": True, "log_y": True},
}
"""Arguments of scatter_chart() by the choice of its axes."""
HEAT_AXES: dict[str, dict[str, bool]] = {"linear": {}, "logarithmic": {"log_y": True}}
"""Arguments of heatmap() by the choice of its axis."""
LINES: dict[str, dict[str, bool]] = {"straight": {}, "steps": {"steps": True}}
"""Arguments of line_chart() by the choice of its lines."""
ALL, NONE = "(all)", "(none)"
"""The choices of no column: all rows are counted together, and lines have no level."""
TEXTS = ("message", "msg", "text", "line", "log", "body", "value")
LEVELS = ("level", "lvl", "severity", "priority", "loglevel", "level_name")
"""Common names of the columns that tail() shows."""
STATES = ("state", "status", "mode", "phase")
"""Common names of columns with states."""
LOOKED_AT = 2000
"""Newest rows that are searched for a text column that splits the rows of a message into series."""
TOGETHER = "all in one chart"
"""The choice of a single chart, without small multiples."""
PANELS = "for each value of this field a small chart of its own"
FIT = "fit"
BUCKETS = 60
"""The least number of buckets in the look-back, if their length is chosen automatically."""


@dataclass(frozen=True)
class Step:
    """A call of rate() or every(), whose result is drawn in place of the rows."""

    name: str
    """The name of the result's column, from which the variable in the page's code is named, too."""
    function: Callable[..., View]
    per: str | None
    """Length of a bucket; None for rate()."""
    arguments: Mapping[str, str]

    def of(self, view: View) -> View:
        """The result for the rows of `view`."""
        return self.function(*([self.per] if self.per else []), view, **self.arguments)


@dataclass(frozen=True)
class Chart:
    """A call of one of the drawing functions. The same call is drawn on the page and written as code."""

    function: Callable[..., None]
    of: str
    """The subject of the chart, for the title."""
    arguments: Mapping[str, str | int]
    """Its arguments besides the rows."""
    step: Step | None = None
    """The call whose result is drawn in place of the rows; None to draw the rows."""

    def draw(self, view: View) -> None:
        """Draw the chart from the rows of `view`."""
        self.function(self.step.of(view) if self.step else view, **self.arguments)


@dataclass(frozen=True)
class Given:
    """The view and the columns from which a viewer chooses a chart."""

    view: View
    row: DeltaGenerator
    """The line of widgets that begins with the kind of the chart."""
    numbers: list[str]
    """Columns of numbers. Columns with times come last: a time may be a number, but is rarely drawn."""
    texts: list[str]
    states: list[str]
    """Text columns with few different values, other than the subject."""


@dataclass(frozen=True)
class Kind:
    """A kind of chart."""

    what: str
    """The contents of the chart in words, for the help."""
    fits: Callable[[Given], object]
    """Returns something true if there are columns for this kind."""
    choose: Callable[[Given], Chart]
    """Lets the viewer choose the chart's fields."""


def choose_chart(view: View) -> Chart | None:
    """Let the viewer choose a chart of `view`. None, with the reason on the page, if there are no rows."""
    if not view:
        empty_state(view)
        return None
    columns = view.columns
    choices = "Field", "Against", "By", "Line", "Level", "Panels"
    awaited = {chosen(label, "_subject") for label in choices} - {ALL, NONE, TOGETHER, *LINES, *columns}
    if awaited and view.health.phase in ("connecting", "replaying"):
        st.info(plain(f"Waiting for the replay to reach a message with {', '.join(sorted(awaited))}."))
        return None
    times = time_fields(view.drawn)
    numbers = sorted(view.drawn.snapshot.drawable(), key=times.__contains__)
    texts = [name for name, kind in columns.items() if kind == "text"]
    states = [name for name in texts if name != "_subject" and _is_state(view, name)]
    row = st.container(horizontal=True)
    given = Given(view, row, numbers, texts, states)
    with row:
        kinds = [name for name, kind in KINDS.items() if kind.fits(given)]
        kind = choose("Chart", kinds, default="lines", help=HELP)
    return KINDS[kind].choose(given)


def _lines(given: Given) -> Chart:
    with given.row:
        y, by, shown, step = _calculated(given)
    with st.container(horizontal=True):
        each = given.texts if shown == "value" else [by]  # a computed result has no other text column
        facet = choose("Panels", [TOGETHER, *each], default=TOGETHER, help=PANELS)
        axis = AXES[choose("Axis", list(AXES), default="fitted")]
        line = LINES[choose("Line", list(LINES), default="straight", help=HOLDS)]
    lines: dict[str, str | int] = {"by": by} if facet != by else {}
    place: dict[str, str | int] = {"height": 380} if facet == TOGETHER else {"facet": facet}
    title = f"{shown} of {y}" if step else y
    return Chart(line_chart, title, {"y": step.name if step else y, **lines, **place, **axis, **line}, step)


def _latest(given: Given) -> Chart:
    with given.row:
        y, by, shown, step = _calculated(given)
    title = f"{shown} of {y}" if step else y
    return Chart(latest_values, title, {"column": step.name if step else y, "by": by}, step)


def _calculated(given: Given) -> tuple[str, str, str, Step | None]:
    """A column of numbers, the column that splits it into series, the name of the calculation, and its
    call."""
    y = choose("Field", given.numbers)
    by = _by(given)
    shown = choose("Calculate", ["value", "rate", *AGGREGATES], help=SHOW)
    per = _length("Length of a bucket") if shown in AGGREGATES else FIT
    return y, by, shown, _step(given.view, y, by, shown, per)


def _scatter(given: Given) -> Chart:
    with given.row:
        y = choose("Field", given.numbers)
        x = choose("Against", [name for name in given.numbers if name != y] or given.numbers)
        by = _by(given)
    with st.container(horizontal=True):
        axes = SCATTER_AXES[choose("Axes", list(SCATTER_AXES), default="linear")]
    return Chart(scatter_chart, y, {"x": x, "y": y, "by": by, **axes})


def _is_state(view: View, name: str) -> bool:
    """True if a text column has few enough values to split rows into series by it."""
    return len(view.drawn.snapshot.codes(name)[1]) <= MOST_STATES


def _by(given: Given, besides: str | None = None, *more: str) -> str:
    """Let the viewer choose the column to split series by, other than `besides`. The default is the subject,
    unless messages have several rows and a text column with few values splits those."""
    texts = [name for name in given.texts if name != besides]
    best = _within_messages(given.view, texts)
    if best is None:
        return choose("By", [*texts, *more], default="_subject")
    return choose("By", [best, *(name for name in texts if name != best), *more])


def _within_messages(view: View, texts: list[str]) -> str | None:
    """The text column that splits most of the newest rows of the same message; None if messages have one
    row each, or no column does."""
    snapshot = view.drawn.snapshot
    rows = snapshot.between(max(snapshot.first, snapshot.end - LOOKED_AT), snapshot.end)
    messages, of = np.unique(rows.seq, return_inverse=True)
    best, most = None, len(messages)
    for name in texts if len(messages) < len(rows) else []:
        codes = rows.codes(name)[0].astype(np.int64)
        if len(np.unique(codes)) > MOST:
            continue
        found = len(np.unique(np.column_stack([of.ravel(), codes]), axis=0))
        if found > most:
            best, most = name, found
    return best


def _states(given: Given) -> Chart:
    named = sorted(given.states, key=lambda name: name.lower().rpartition(".")[2] not in STATES)
    with given.row:
        y = choose("Field", [*named, *(name for name in given.numbers if name not in named)])
        by = _by(given, y)
    return Chart(states, y, {"y": y, "by": by})


def _counts(given: Given) -> Chart:
    with given.row:
        by = _by(given, None, ALL)
        per = _length("Length of an interval")
    split = {} if by == ALL else {"by": by}
    return Chart(counts, "Events", split if per == FIT else split | {"every": per})


def _heatmap(given: Given) -> Chart:
    with given.row:
        y = choose("Field", given.numbers)
        per = _length("Length of an interval")
        axis = HEAT_AXES[choose("Axis", list(HEAT_AXES), default="linear")]
    return Chart(heatmap, y, {"y": y, **({} if per == FIT else {"every": per}), **axis})


def _tail(given: Given) -> Chart:
    """Let the viewer choose the columns of a log. The first options are columns with common names."""
    columns = list(given.view.columns)
    named = [name for name in columns if name.lower() in TEXTS]
    own = [name for name in columns if name != "_subject"] or columns
    levels = [name for name in columns if name.lower() in LEVELS]
    with given.row:
        text = choose("Line", [*named, *(name for name in own if name not in named)])
        level = choose("Level", [*levels, NONE, *(name for name in own if name not in levels)])
    return Chart(tail, text, {"text": text} if level == NONE else {"text": text, "level": level})


def _length(what: str) -> str:
    return choose("Per", [FIT, "1s", "10s", "1m", "5m", "1h"], own=True, help=what)


def _step(view: View, field: str, by: str, shown: str, per: str) -> Step | None:
    if shown == "value":
        return None
    if shown == "rate":
        return Step("rate", rate, None, {"field": field, "by": by})
    length = fitting(view.look_back) if per == FIT else parse_duration(per, "length of a bucket")
    name = shown if shown != by else f"{shown}_"
    column = field if field.isascii() and field.isidentifier() else quoted(field)
    return Step(name, every, iso_duration(length), {"by": by, name: AGGREGATES[shown].format(column)})


def fitting(look_back: pd.Timedelta) -> pd.Timedelta:
    """The longest round length of a bucket of which at least BUCKETS are in the look-back."""
    fits = [step for step in ROUND_STEPS if step * BUCKETS <= look_back.value]
    return pd.Timedelta(max(fits, default=ROUND_STEPS[0]))


def _numbers(given: Given) -> list[str]:
    return given.numbers


def _always(_: Given) -> bool:
    return True


KINDS = {
    "lines": Kind("over time", _numbers, _lines),
    "latest": Kind("the newest values", _numbers, _latest),
    "scatter": Kind("one number against another", _numbers, _scatter),
    "states": Kind("which value each series had when", lambda given: given.numbers or given.states, _states),
    "counts": Kind("how many messages per interval", _always, _counts),
    "tail": Kind("lines of a log", _always, _tail),
    "heatmap": Kind("the distribution of a number over time", _numbers, _heatmap),
}
"""The kinds of charts that the Explore page offers."""
HELP = "; ".join(f"{name}: {kind.what}" for name, kind in KINDS.items())
