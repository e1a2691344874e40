"""line_chart(): a live chart that sends what changed and keeps the viewer's zoom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import streamlit as st
from streamlit.errors import StreamlitDuplicateElementKey

from nats_client import LookbackError, format_duration
from nats_client.bins import MOST, Bins

from .assets import PREFIX, asset_url
from .live import View
from .thresholds import drawn

# Sent to the browser at each refresh, so it only points to the file that the browser keeps. Streamlit's own
# script tells where the app's root is, also below a base path or a proxy's.
_STUB = f"""const root = new URL("../../", document.querySelector('script[src*="static/js/"]').src)
export default async (c) => {{
(await import(new URL("{asset_url("live_chart.js")}", root))).draw(c)
return () => c.parentElement.lookback?.end()}}"""

_component = st.components.v2.component("lookback_line_chart", js=_STUB, isolate_styles=False)


@dataclass
class Sent:
    """What a browser was sent, and may therefore hold."""

    epoch: int = 0
    last: int = 0
    before: int = 0
    config: Mapping[str, object] = field(default_factory=dict)
    config_before: Mapping[str, object] = field(default_factory=dict)

    def forget(self) -> None:
        """The browser holds nothing: send everything next time."""
        self.last = self.before = 0

    def next(self, bins: Bins, config: Mapping[str, object]) -> bytes:
        """What to send now.

        One refresh may be lost, since of two updates in one frame the browser draws the last. So each
        message starts from what was sent one refresh earlier. The first is not sent twice; a browser that
        missed it asks.
        """
        configured = config == self.config == self.config_before
        message = bins.message(self.epoch, self.before, config, configured=configured)
        whole = message.epoch != self.epoch or not self.before
        self.before = message.version if whole else self.last
        self.epoch, self.last = message.epoch, message.version
        self.config_before, self.config = self.config, config
        return message.data


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
    `most` busiest (at most 100), and the rest folded into one band ("37 others").

    Each line shows the least and the greatest value per pixel column, so what travels depends on the width
    of the chart and not on the number of rows, and no spike is lost. `height` is that of the chart
    without title and legend, in pixels; `unit` is written behind the numbers; `key` tells two equal charts
    on one page apart. `thresholds` are lines across the chart, name to number, at which each rise of a line
    above is marked; None in place of a number leaves one out. Raises ThresholdError on anything else, and
    ColumnError, naming what exists, when a column is not there or of another kind.
    """
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
    draw(view, bins, config, key or f"{view.feed.key} {view.look_back} {fields} {color} {most} {title}")


def draw(view: View, bins: Bins, config: Mapping[str, object], key: str) -> None:
    """Bring `bins` up to date, and send the chart `key` of this viewer what it lacks."""
    bins.update(view.snapshot, view.now)
    key = f"chart {key}".replace("_", "_ ")  # Streamlit refuses two underscores in a row
    charts: dict[str, Sent] = st.session_state.setdefault("_charts", {})
    sent = charts.setdefault(key, Sent())
    if key not in st.session_state:
        sent.forget()  # Streamlit forgets elements that a run did not draw: the viewer was on another page

    config = {
        **config,
        "key": key,
        "gaps": [[gap.start // 1_000_000, gap.end // 1_000_000] for gap in view.gaps],
        "plotly": asset_url("plotly.min.js").removeprefix(f"{PREFIX}/"),
    }
    try:
        _component(key=key, data=sent.next(bins, config), on_resync_change=sent.forget)
    except StreamlitDuplicateElementKey:
        raise LookbackError(
            "This page draws the same chart twice. Give one of them a key of its own, such as key='second'."
        ) from None
