"""line_chart(): a live chart that sends what changed and keeps the viewer's zoom."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from nats_client import format_duration

from .assets import asset_url
from .live import View

# Sent to the browser at each refresh, so it only points to the file that the browser keeps.
_STUB = f"""export default (c) => {{
import(new URL("{asset_url("live_chart.js")}", document.baseURI)).then((m) => m.draw(c))
return () => c.parentElement.lookback?.end()}}"""

_component = st.components.v2.component("lookback_line_chart", js=_STUB, isolate_styles=False)


@dataclass
class _Sent:
    """What a browser was sent, and may therefore hold."""

    epoch: int = 0
    last: int = 0
    before: int = 0
    look: int = 0


def line_chart(
    view: View,
    y: str | Sequence[str],
    *,
    color: str | None = None,
    title: str | None = None,
    height: int = 320,
    unit: str = "",
    key: str | None = None,
) -> None:
    """Draw the numeric column `y` (or several) over time, one line per value of the text column `color`.

    Each line shows the least and the greatest value per pixel column, so what travels depends on the width
    of the chart and not on the number of rows, and no spike is lost. `height` is in pixels, `unit` is
    written behind the numbers, `key` tells two equal charts on one page apart. Raises ColumnError, naming
    what exists, when a column is not there or of another kind.
    """
    fields = (y,) if isinstance(y, str) else tuple(y)
    for name in fields:
        view.snapshot.numbers(name)
    bins = view.feed.bins(fields, color, view.look_back)
    bins.update(view.snapshot, view.now)

    key = key or f"{view.feed.key} {view.look_back} {fields} {color} {title}"
    charts: dict[str, _Sent] = st.session_state.setdefault("_charts", {})
    sent = charts.setdefault(key, _Sent())
    if sent.epoch != bins.epoch:
        sent.epoch, sent.last, sent.before = bins.epoch, 0, 0

    held = view.now - view.look_back.value
    if view.snapshot.ordered and len(view):
        held = max(held, int(view.snapshot.time[0]))
    config = {
        "title": title or "",
        "unit": unit,
        "height": height,
        "window": view.look_back.value / 1e6,
        "empty": f"No numbers in the last {format_duration(view.look_back)}",
    }
    # One refresh may be lost: of two updates in one frame the browser draws the last. So each message
    # starts from what was sent one refresh earlier.
    data = bins.message(sent.before, held // bins.step, view.now, config)
    sent.before, sent.last = sent.last, bins.version

    def send_all() -> None:
        sent.last = sent.before = 0

    _component(key=f"chart {key}", data=data, on_resync_change=send_all, height=height + (30 if title else 0))
