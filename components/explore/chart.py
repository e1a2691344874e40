"""A chart that the viewer chooses: drawn here, or written as the code that draws it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import streamlit as st

from ..charts.line_chart import line_chart
from ..charts.scatter_chart import scatter_chart
from ..choices.choose import choose, chosen
from ..data.live import View
from ..data.states import empty_state
from ..tables.fields import time_fields
from ..tables.latest_values import latest_values
from ..words import plain

KINDS = "lines: over time; latest: the newest values; scatter: one number against another"


@dataclass(frozen=True)
class Chart:
    """A call of one of the drawing functions. What is drawn and what is written as code are the same call."""

    function: Callable[..., None]
    of: str
    """The field that it shows."""
    arguments: Mapping[str, str | int]
    """Its arguments besides the rows."""

    def draw(self, view: View) -> None:
        """Draw it from the rows of `view`."""
        self.function(view, **self.arguments)


def choose_chart(view: View) -> Chart | None:
    """Let the viewer choose a chart of `view`. None, with the reason on the page, if there are no numbers to
    draw."""
    if not view:
        empty_state(view)
        return None
    columns = view.columns
    awaited = {chosen(label, "_subject") for label in ("Field", "Against", "By")} - set(columns)
    if awaited and view.health.phase in ("connecting", "replaying"):
        st.info(plain(f"Waiting for the replay to reach a message with {', '.join(sorted(awaited))}."))
        return None
    times = time_fields(view.drawn)  # sorted last: a time may be a number, but is rarely the one to draw
    numbers = view.drawn.snapshot.drawable()
    numbers.sort(key=times.__contains__)
    texts = [name for name, kind in columns.items() if kind == "text"]
    if not numbers:
        st.info("These messages have no numeric fields to draw.", icon=":material/show_chart:")
        return None
    with st.container(horizontal=True):
        kind = choose("Chart", ["lines", "latest", "scatter"], default="lines", help=KINDS)
        y = choose("Field", numbers)
        others = [name for name in numbers if name != y] or numbers
        x = choose("Against", others) if kind == "scatter" else ""
        by = choose("By", texts, default="_subject")
    if kind == "lines":
        return Chart(line_chart, y, {"y": y, "color": by, "height": 380})
    if kind == "latest":
        return Chart(latest_values, y, {"column": y, "by": by})
    return Chart(scatter_chart, y, {"x": x, "y": y, "color": by})
