"""scatter_chart(): one number against another, a point a row."""

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from nats_client.feed import FeedKey

from .live import View

NEWEST = 5000
"""Rows that are drawn, the newest."""
NAMED = 10
"""Groups with a colour of their own, the largest; the rest share grey."""
_KEEP = 5.0  # seconds that a figure serves all viewers: each new one undoes a viewer's zoom


def scatter_chart(
    view: View, x: str, y: str, *, color: str | None = None, height: int = 380, key: str | None = None
) -> None:
    """Draw the numeric column `y` against the numeric column `x`: a point for each of the newest 5,000 rows
    that has both, coloured by the text column `color`. Drawn anew every five seconds. Raises ColumnError,
    naming what exists, when a column is not there or of another kind."""
    for name in (x, y):
        view.snapshot.numbers(name)
    if color is not None:
        view.snapshot.codes(color)
    figure = _figure(view.feed.key, view.look_back.value, x, y, color, height, view)
    st.plotly_chart(
        figure, key=f"scatter {key or (view.feed.key, x, y, color)}", config={"displaylogo": False}
    )


@st.cache_data(ttl=_KEEP, show_spinner=False)
def _figure(
    key: FeedKey, look_back: int, x: str, y: str, color: str | None, height: int, _view: View
) -> dict[str, Any]:
    columns = list(dict.fromkeys([x, y, *([color] if color else [])]))
    rows = _view.frame(columns, last=NEWEST).dropna(subset=list({x, y}))
    groups = _groups(rows[color]) if color else [("", np.ones(len(rows), dtype=bool))]
    horizontal, vertical = rows[x].to_numpy(dtype="float64"), rows[y].to_numpy(dtype="float64")
    traces = [
        {
            "type": "scattergl",
            "mode": "markers",
            "name": escape_markup(name or "others"),
            "x": horizontal[members],
            "y": vertical[members],
            "marker": {"size": 5, "opacity": 0.65} | ({} if name or not color else {"color": "#8a9296"}),
            "hovertemplate": "%{x:.6~g}, %{y:.6~g}" + ("" if color else "<extra></extra>"),
        }
        for name, members in groups
    ]
    axes = {"zeroline": False, "exponentformat": "SI"}
    return {
        "data": traces,
        "layout": {
            "height": height,
            "margin": {"l": 60, "r": 10, "t": 10, "b": 45},
            "xaxis": {**axes, "title": {"text": escape_markup(x)}},
            "yaxis": {**axes, "title": {"text": escape_markup(y)}},
            "showlegend": color is not None,
            "legend": {"orientation": "h", "y": -0.2, "yanchor": "top"},
        },
    }


def _groups(values: pd.Series) -> list[tuple[str, np.ndarray]]:
    """The largest groups of rows by name, those of the rest under no name, and which rows each has."""
    codes, labels = values.cat.codes.to_numpy(), values.cat.categories
    found, sizes = np.unique(codes[codes >= 0], return_counts=True)
    largest = found[np.argsort(-sizes, kind="stable")][:NAMED]
    named = sorted(((str(labels[code]), codes == code) for code in largest), key=lambda group: group[0])
    rest = ~np.isin(codes, largest)
    return [*named, *([("", rest)] if rest.any() else [])]


def escape_markup(text: str) -> str:
    """`text` so that Plotly, which reads some HTML in it, shows it to the letter: names come from NATS."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
