"""line_chart(): a live chart that sends only changes and keeps the viewer's zoom."""

import hashlib
import math
from collections.abc import Mapping, Sequence

import streamlit as st
from streamlit.errors import StreamlitDuplicateElementKey

from nats_client import LookbackError, format_duration
from nats_client.series.bins import AHEAD, MOST, Bins

from ..data.live import View
from ..data.states import empty_state
from ..spent import timed
from ..web.assets import PREFIX, plotly_url
from .thresholds import drawn
from .wire import Sent

# Streamlit sends this at each refresh, so it is short. It queues the data for live_chart.js, which the tab
# loads once and which also draws what was queued before it was ready.
_STUB = "export default c=>\nnew Promise(r=>(self.lookback??=[]).push([c,r]))"

_component = st.components.v2.component("chart", js=_STUB, isolate_styles=False)


@timed
def line_chart(
    view: View,
    y: str | Sequence[str],
    *,
    color: str | None = None,
    title: str | None = None,
    height: int = 320,
    unit: str = "",
    most: int = MOST,
    thresholds: Mapping[str, object] | None = None,
    key: str | None = None,
) -> None:
    """Draw the numeric column `y` (or several) over time, one line per value of the text column `color`: the
    `most` busiest (at most 100), and the rest merged into one band ("37 others").

    Each line shows the minimum and maximum per pixel column. So the data sent depends on the width of the
    chart and not on the number of rows, and no spike is lost. `height`: pixels, without title and legend.
    `unit`: written after the numbers. `key`: tells two equal charts on one page apart. `thresholds`: name to
    number, drawn as lines across the chart, with a mark wherever a series rises above; None instead of a
    number skips that one. Raises ThresholdError on any other value, and ColumnError, naming the columns that
    exist, if a column does not exist or has another kind.
    """
    if not len(view):
        empty_state(view)
        return
    fields = (y,) if isinstance(y, str) else tuple(y)
    bins = view.feed.bins(fields, color, view.look_back, most)
    config = {
        "title": title or "",
        "unit": unit,
        "height": height,
        "window": view.look_back.value / 1e6,
        "empty": f"No numbers in the last {format_duration(view.look_back)}",
        **drawn(view, fields, color, thresholds or {}),
    }
    draw(view, bins, config, key or f"{view.feed.name_key} {view.look_back} {fields} {color} {most} {title}")


def draw(view: View, bins: Bins, config: Mapping[str, object], key: str) -> None:
    """Bring `bins` up to date and send this viewer's chart `key` what it lacks."""
    bins.update(view.snapshot, view.now)
    key = hashlib.blake2b(key.encode(), digest_size=4).hexdigest()  # short, since each refresh sends it
    charts: dict[str, Sent] = st.session_state.setdefault("_charts", {})
    sent = charts.get(key) or charts.setdefault(key, Sent())
    state = st.session_state.get(key)  # read once: Streamlit builds a class at each access
    if state is None:
        sent.forget()  # the viewer was on another page: Streamlit dropped the element, and so did the browser

    config = {
        **config,
        "key": key,
        "gaps": [[gap.start // 1_000_000, gap.end // 1_000_000] for gap in view.gaps],
        "plotly": plotly_url().removeprefix(f"{PREFIX}/"),
    }
    message = sent.next(bins, config, view.snapshot, _zoom(state, view))
    try:
        _component(key=key, data=message, on_resync_change=lambda: _resync(key, sent), on_range_change=_again)
    except StreamlitDuplicateElementKey:
        raise LookbackError(
            "This page draws the same chart twice. Give one of them a different key, such as key='second'."
        ) from None


def _again() -> None:
    """Intentionally empty: registering it makes Streamlit rerun, and that rerun sends the finer bins."""


def _resync(key: str, sent: Sent) -> None:
    """The browser missed a message: continue from the last one it applied."""
    match st.session_state[key].get("resync"):
        case [int(sender), int(number)]:
            sent.go_back(sender, number)
        case _:
            sent.forget()


def _zoom(state: Mapping[str, object] | None, view: View) -> tuple[int, int] | None:
    """The range the viewer has zoomed into, clipped to the look-back, in ns since the epoch, UTC; None
    without zoom."""
    match (state or {}).get("range"):
        case [int() | float() as start, int() | float() as end] if -math.inf < start < end < math.inf:
            ahead = int(view.look_back.value * AHEAD)
            begin = max(int(start * 1e6), view.now - view.look_back.value)
            stop = min(int(end * 1e6), view.now + ahead)
            return (begin, stop) if begin < stop else None
    return None
