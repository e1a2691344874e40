"""A chart of a viewer's choice: drawn here, or written down as the code that draws it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import streamlit as st

from .choose import choose
from .line_chart import line_chart
from .live import View
from .scatter_chart import scatter_chart
from .table import latest_values


@dataclass(frozen=True)
class Chart:
    """A call of one of the functions that pages draw with: what is drawn is what is written down."""

    function: Callable[..., None]
    of: str
    """The field that it shows."""
    arguments: Mapping[str, str | int]
    """What it is given beside the rows."""

    def draw(self, view: View) -> None:
        """Draw it of the rows of `view`."""
        self.function(view, **self.arguments)


def choose_chart(view: View) -> Chart | None:
    """Let the viewer choose a chart of `view`; None where there are no numbers to draw."""
    numbers = [name for name, kind in view.columns.items() if kind == "number"]
    texts = [name for name, kind in view.columns.items() if kind == "text"]
    if not numbers:
        st.info("These messages have no numbers to draw.", icon=":material/show_chart:")
        return None
    with st.container(horizontal=True):
        kind = choose(
            "Chart", ["lines", "latest", "scatter"], help="Over time, newest values, one by another"
        )
        y = choose("Field", numbers)
        x = choose("Against", numbers) if kind == "scatter" else ""
        by = choose("By", texts, default="_subject")
    if kind == "lines":
        return Chart(line_chart, y, {"y": y, "color": by, "height": 380})
    if kind == "latest":
        return Chart(latest_values, y, {"column": y, "by": by})
    return Chart(scatter_chart, y, {"x": x, "y": y, "color": by})
