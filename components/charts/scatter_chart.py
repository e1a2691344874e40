"""scatter_chart(): one number against another, one point per row."""

import time
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from ..data.live import View
from ..data.states import empty_state
from ..spent import timed
from ..words import plotly_text

NEWEST = 5000
"""Rows to draw, newest first."""
COLOURS = ["#0f8aa3", "#e0782f", "#7a5cc0", "#4b9e3f", "#cf4a5f"]
COLOURS += ["#a07b45", "#4c7bd9", "#c99a12", "#7d8b93", "#cc68a8"]
"""One colour for each of the largest groups, the same as in static/live_chart.js."""
REST = "#9aa4a8"
"""Colour of the points that belong to none of these groups."""
_KEEP = 5.0  # seconds to share one figure among viewers: each new figure resets a viewer's zoom


@timed
def scatter_chart(
    view: View, x: str, y: str, *, color: str | None = None, height: int = 380, key: str | None = None
) -> None:
    """Draw the numeric column `y` against the numeric column `x`: one point for each of the newest 5,000 rows
    that has both, coloured by the text column `color`. Redrawn every five seconds. Raises ColumnError, naming
    the columns that exist, if a column does not exist or has another kind."""
    if not len(view):
        empty_state(view)
        return
    for name in (x, y):
        view.snapshot.numbers(name)
    if color is not None:
        view.snapshot.codes(color)
    drawn = "scatter", view.look_back, x, y, color, height
    figure = view.feed.readings.once(
        drawn, time.monotonic() // _KEEP, lambda: _figure(view, x, y, color, height)
    )
    st.plotly_chart(
        figure, key=f"scatter {key or (view.feed.name_key, x, y, color)}", config={"displaylogo": False}
    )


def _figure(view: View, x: str, y: str, color: str | None, height: int) -> dict[str, Any]:
    columns = list(dict.fromkeys([x, y, *([color] if color else [])]))
    rows = view.frame(columns, last=NEWEST).dropna(subset=list({x, y}))
    groups = _groups(rows[color]) if color else [("", slice(None))]
    horizontal, vertical = rows[x].to_numpy(dtype="float64"), rows[y].to_numpy(dtype="float64")
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "others" if name is None else plotly_text(name),
            "x": horizontal[members],
            "y": vertical[members],
            "marker": {"size": 5, "opacity": 0.6, "color": REST if name is None else COLOURS[i]},
            "hovertemplate": "%{x:,}, %{y:,}" + ("" if color else "<extra></extra>"),
        }
        for i, (name, members) in enumerate(groups)
    ]
    axes = {"zeroline": False, "exponentformat": "SI"}
    return {
        "data": traces,
        "layout": {
            "height": height,
            "margin": {"l": 60, "r": 10, "t": 10, "b": 45},
            "xaxis": {**axes, "title": {"text": plotly_text(x)}},
            "yaxis": {**axes, "title": {"text": plotly_text(y)}},
            "showlegend": color is not None,
            "legend": {"orientation": "h", "y": -0.2, "yanchor": "top"},
        },
    }


def _groups(values: pd.Series) -> list[tuple[str | None, Any]]:
    """The largest groups of rows: name, and which rows belong to it. The rest comes last, without a name."""
    codes, labels = values.cat.codes.to_numpy(), values.cat.categories
    found, sizes = np.unique(codes[codes >= 0], return_counts=True)
    largest = found[np.argsort(-sizes, kind="stable")][: len(COLOURS)]
    named = sorted((str(labels[code]), code) for code in largest)
    groups: list[tuple[str | None, Any]] = [(name, codes == code) for name, code in named]
    rest = ~np.isin(codes, largest)
    return [*groups, (None, rest)] if rest.any() else groups
