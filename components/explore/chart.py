"""A chart that the viewer chooses: drawn here, or written as the code that draws it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

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
KINDS = (
    "lines: over time; latest: the newest values; scatter: one number against another; states: which value "
    "each series had when; counts: how many messages per interval; tail: lines of a log; "
    "heatmap: the distribution of a number over time"
)
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
"""No column: all rows count together, lines have no level."""
TEXTS = ("message", "msg", "text", "line", "log", "body", "value")
LEVELS = ("level", "lvl", "severity", "priority", "loglevel", "level_name")
"""Names that people give to what tail() shows."""
STATES = ("state", "status", "mode", "phase")
"""Names that people give to states."""
LOOKED_AT = 2000
"""Newest rows that are searched for a text column that splits the rows of a message into series."""
TOGETHER = "all in one chart"
"""The choice of no small multiples."""
PANELS = "for each value of this field a small chart of its own"
FIT = "fit"
BUCKETS = 60
"""Buckets at least if their length fits the look-back."""


@dataclass(frozen=True)
class Step:
    """A call of rate() or every(), whose result is drawn in place of the rows."""

    name: str
    """The variable that holds it, and its column."""
    function: Callable[..., View]
    per: str | None
    """Length of a bucket."""
    arguments: Mapping[str, str]

    def of(self, view: View) -> View:
        """The result for the rows of `view`."""
        return self.function(*([self.per] if self.per else []), view, **self.arguments)


@dataclass(frozen=True)
class Chart:
    """A call of one of the drawing functions. What is drawn and what is written as code are the same call."""

    function: Callable[..., None]
    of: str
    """What it shows, for the title."""
    arguments: Mapping[str, str | int]
    """Its arguments besides the rows."""
    step: Step | None = None
    """What is drawn in place of the rows, if anything."""

    def draw(self, view: View) -> None:
        """Draw it from the rows of `view`."""
        self.function(self.step.of(view) if self.step else view, **self.arguments)


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
    times = time_fields(view.drawn)  # sorted last: a time may be a number, but is rarely the one to draw
    numbers = view.drawn.snapshot.drawable()
    numbers.sort(key=times.__contains__)
    texts = [name for name, kind in columns.items() if kind == "text"]
    named = [name for name in texts if name != "_subject" and _is_state(view, name)]
    kinds = [*(["lines", "latest", "scatter"] if numbers else []), *(["states"] if numbers or named else [])]
    kinds += ["counts", "tail", *(["heatmap"] if numbers else [])]
    with st.container(horizontal=True):
        kind = choose("Chart", kinds, default="lines", help=KINDS)
        if kind == "states":
            return _states(view, named, numbers, texts)
        if kind == "counts":
            return _counts(view, texts)
        if kind == "tail":
            return _tail(list(columns))
        if kind == "heatmap":
            return _heatmap(numbers)
        y = choose("Field", numbers)
        others = [name for name in numbers if name != y] or numbers
        x = choose("Against", others) if kind == "scatter" else ""
        by = _by(view, texts)
        shown = (
            choose("Calculate", ["value", "rate", *AGGREGATES], help=SHOW) if kind != "scatter" else "value"
        )
        per = FIT
        if shown in AGGREGATES:
            per = _length("Length of a bucket")
    drawn: dict[str, bool] = {}
    facet = TOGETHER
    with st.container(horizontal=True):
        if kind == "lines":
            each = texts if shown == "value" else [by]  # what is worked out has no other one
            facet = choose("Panels", [TOGETHER, *each], default=TOGETHER, help=PANELS)
            drawn |= AXES[choose("Axis", list(AXES), default="fitted")]
            drawn |= LINES[choose("Line", list(LINES), default="straight", help=HOLDS)]
        elif kind == "scatter":
            drawn |= SCATTER_AXES[choose("Axes", list(SCATTER_AXES), default="linear")]
    if kind == "scatter":
        return Chart(scatter_chart, y, {"x": x, "y": y, "by": by, **drawn})
    step = _step(view, y, by, shown, per)
    column = step.name if step else y
    title = f"{shown} of {y}" if step else y
    if kind == "lines":
        lines: dict[str, str | int] = {"by": by} if facet != by else {}
        place: dict[str, str | int] = {"height": 380} if facet == TOGETHER else {"facet": facet}
        return Chart(line_chart, title, {"y": column, **lines, **place, **drawn}, step)
    return Chart(latest_values, title, {"column": column, "by": by}, step)


def _is_state(view: View, name: str) -> bool:
    """True if a text column has few enough values to split rows into series by it."""
    return len(view.drawn.snapshot.codes(name)[1]) <= MOST_STATES


def _by(view: View, texts: list[str], *more: str) -> str:
    """The column to split series by: the subject, unless messages have several rows and a text column of
    few values splits those."""
    best = _within_messages(view, texts)
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


def _states(view: View, named: list[str], numbers: list[str], texts: list[str]) -> Chart:
    named.sort(key=lambda name: name.lower().rpartition(".")[2] not in STATES)
    y = choose("Field", [*named, *(name for name in numbers if name not in named)])
    by = _by(view, [name for name in texts if name != y])
    return Chart(states, y, {"y": y, "by": by})


def _counts(view: View, texts: list[str]) -> Chart:
    by = _by(view, texts, ALL)
    per = _length("Length of an interval")
    given = {} if by == ALL else {"by": by}
    return Chart(counts, "Events", given if per == FIT else given | {"every": per})


def _heatmap(numbers: list[str]) -> Chart:
    y = choose("Field", numbers)
    per = _length("Length of an interval")
    axis = HEAT_AXES[choose("Axis", list(HEAT_AXES), default="linear")]
    return Chart(heatmap, y, {"y": y, **({} if per == FIT else {"every": per}), **axis})


def _tail(columns: list[str]) -> Chart:
    """Lines of the column that is most likely a text to read."""
    named = [name for name in columns if name.lower() in TEXTS]
    own = [name for name in columns if name != "_subject"] or columns
    text = choose("Line", [*named, *(name for name in own if name not in named)])
    levels = [name for name in columns if name.lower() in LEVELS]
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
    """The length of a bucket of which at least BUCKETS are in the look-back."""
    fits = [step for step in ROUND_STEPS if step * BUCKETS <= look_back.value]
    return pd.Timedelta(max(fits, default=ROUND_STEPS[0]))
