"""line_chart(): a live chart that sends only changes and keeps the viewer's zoom."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.errors import StreamlitDuplicateElementKey

from nats_client import LookbackError
from nats_client.errors import ColumnError
from nats_client.results.given_rows import GivenRows, with_times
from nats_client.series.bins import MOST, MOST_SERIES
from nats_client.series.series_choice import RULES, SeriesChoice

from ..choices.address import asked, keep
from ..data.live import View, look_at
from ..data.reads import note_code
from ..data.states import check_times, empty_state
from ..push.tabs import own_tab
from ..spent import timed
from ..web.assets import PREFIX, STUB, plotly_url
from .legend import (
    AS_GIVEN,
    LONGEST_TEXT,
    BinsOf,
    Value,
    bins_for,
    checked_rule,
    read_choices,
    shown_values,
    spelled,
    understood,
)
from .pushed import Varying, place, read_before, zoomed
from .thresholds import checked, drawn
from .wire import ChartState

HEIGHT, PANEL_HEIGHT = 320, 110
"""Heights in pixels of a chart, and of each small multiple, unless the page sets them."""
MOST_PANELS = 50
"""Small multiples of one chart."""

_component = st.components.v2.component("chart", js=STUB.format("chart"), isolate_styles=False)


@timed
def line_chart(
    view: "View | pd.DataFrame | pd.Series[Any]",
    y: str | Sequence[str] | None = None,
    *,
    by: str | None = None,
    facet: str | None = None,
    title: str | None = None,
    height: int | None = None,
    unit: str = "",
    most: int | None = None,
    tell_apart: str = "busiest",
    thresholds: Mapping[str, object] | None = None,
    log_y: bool = False,
    from_zero: bool = False,
    steps: bool = False,
    grow: bool = True,
    key: str | None = None,
) -> None:
    """Draw the numeric column `y` (or several) over time, one line per value of the text column `by`:
    `most` lines (20 unless given, at most 100), and the rest merged into one band ("37 others").
    `tell_apart`: which series have lines, until the viewer chooses others in the legend: "busiest" (with the
    most values), "greatest" (with the greatest value of the look-back), "newest" (that began last) or "name"
    (the first ones by name). Raises LookbackError on anything else.

    With `facet`, a text column, each of its values has a small chart of its own, in which `by` splits
    the rows into lines: small multiples, of one feed. All have the same axes and the same zoom. Unless `most`
    gives another number of lines, 50 small charts are drawn (with `by` or several `y`: at most 100 lines).
    The rest is counted.

    Each line shows the minimum and maximum per pixel column. So the data sent depends on the width of the
    chart and not on the number of rows, and no spike is lost. `height`: pixels, without title and legend, 320
    unless given; with `facet`, of each small chart, 110 unless given.
    `unit`: written after the numbers; "bytes", "bytes/s" and durations ("ns", "µs", "ms", "s", "min", "h")
    are scaled (1.2 GB, 1 min 15 s), "percent" is "%". `key`: distinguishes two equal charts on one page.
    `thresholds`: name to a number or another condition of alerts(), such as "< 10 for 30s", drawn as lines
    across the chart, with a mark wherever it began to hold for a series; None skips one. Raises
    ThresholdError on anything else, and ColumnError, naming the columns that exist, if a column does not
    exist or has another kind.

    `log_y`: the axis is logarithmic; at zero and negative values a line leaves it downwards, and the chart
    says so. `from_zero`: the axis includes zero. Raises LookbackError if both are given. `steps`: a value
    holds until the next value of its series, and the newest until now, for series that are reported only when
    they change. A value continues to hold after its row has left the look-back. A value from before the
    look-back is read from the stream where series are split by subjects (docs/charts.md). Lines end at a
    null. `grow=False`: the time axis spans the whole look-back, even if the stream is younger.

    A DataFrame or a Series is drawn in the same way: its index, or its column `_time` or `time`, must hold
    times. When the page runs again with changed rows, only the differences are sent. Unless given, `y` is all
    number columns of the DataFrame, or the Series itself.
    """
    if not isinstance(view, View):
        view, y = _given(view, y, (by, facet), f"{key} {title}")
    if y is None:
        raise LookbackError("line_chart() needs the column to draw: line_chart(rows, 'percent').")
    if not view:
        empty_state(view)
        return
    view = view.drawn
    fields = (y,) if isinstance(y, str) else tuple(y)
    options = drawing_options(log_y=log_y, from_zero=from_zero, steps=steps)
    if facet is not None:
        by = None if by == facet else by
        options["facet"] = facet
    is_split = by is not None or len(fields) > 1
    if most is None:
        most = MOST if facet is None else MOST_SERIES if is_split else MOST_PANELS
    rule = checked_rule(tell_apart)

    bins_of = bins_for(view.feed, fields, by, view.look_back, most, hold=steps, facet=facet)
    given = checked(thresholds or {})
    # Where small charts have several lines, thresholds have no marks.
    watched = (fields, by) if facet is None else ((), None) if is_split else (fields, facet)
    config = {
        "title": title or "",
        "unit": unit,
        "height": height or (HEIGHT if facet is None else PANEL_HEIGHT),
        "window": view.look_back.value / 1e6,
        "empty": f"No numbers {view.span}",
        **options,
        **({} if grow else {"whole": True}),
    }
    address = address_of(view, key, fields, by, facet, title)
    shown = f"{view.look_back} {view.past} {fields} {by} {most} {rule} {title} {options}"
    key = key or f"{view.feed.name_key} {shown}"
    varying = Varying((given, watched), lambda view: drawn(view, *watched, given))
    draw(view, bins_of, rule, most, config, varying, key, address)


def address_of(view: View, key: str | None, *of: object) -> str:
    """The name of the URL parameter with a viewer's choices in the legend of a chart; the same in each run of
    the page. `of`: values that distinguish the chart from others of its feed, if it has no `key`."""
    feed = view.feed.key
    parts = ("", key) if key else (feed.stream, feed.subject, *of)
    return f"series-{hashlib.blake2b(repr(parts).encode(), digest_size=3).hexdigest()}"


def drawing_options(*, log_y: bool, from_zero: bool, steps: bool) -> dict[str, object]:
    """The settings of a chart's axis and lines that differ from the default. Raises LookbackError if they
    exclude each other."""
    if log_y and from_zero:
        raise LookbackError("A logarithmic axis has no zero. Give log_y=True or from_zero=True, not both.")
    scale = {"scale": "log"} if log_y else {"scale": "zero"} if from_zero else {}
    return {**scale, **({"steps": True} if steps else {})}


def _given(
    table: "pd.DataFrame | pd.Series[Any]",
    y: str | Sequence[str] | None,
    texts: tuple[str | None, ...],
    key: str,
) -> tuple[View, tuple[str, ...]]:
    """A view of a table that the page's code made, and the columns to draw. `texts`: the columns that split
    its rows into series."""
    if not isinstance(table, pd.DataFrame | pd.Series):
        raise LookbackError(
            f"line_chart() draws a view, a DataFrame or a Series, not a {type(table).__name__}."
        )
    note_code("a table of its own")
    frame = with_times(table)
    if isinstance(y, str):
        fields: tuple[str, ...] = (y,)
    elif y is not None:
        fields = tuple(y)
    else:
        numbers = [str(name) for name in frame if pd.api.types.is_numeric_dtype(frame[name].dtype)]
        fields = tuple(name for name in numbers if name not in texts)
    if not fields:
        raise ColumnError("This table has no number columns to draw.")
    of = "given", fields, texts, key
    kept: dict[object, GivenRows] = st.session_state.setdefault("_given", {})
    rows = kept.get(of) or kept.setdefault(of, GivenRows(of))
    rows.put(table, list(dict.fromkeys([*fields, *(name for name in texts if name is not None)])))
    return look_at(rows, rows.look_back, steady=False, by_code=False), fields


def draw(
    view: View,
    bins_of: BinsOf,
    rule: str,
    most: int,
    config: Mapping[str, object],
    varying: Varying,
    key: str,
    address: str,
) -> None:
    """Draw the live chart `key`. `bins_of`: its bins; it must not hold the view, whose rows would stay in
    memory. `rule`: which series have lines of their own, unless the viewer chooses; `most`: how many.
    `config`: its settings; `varying`: those that change with the rows. `address`: see address_of(). Raises
    ColumnError if a column does not exist or has another kind."""
    check_times(view, "A chart over time")
    bins = bins_of(SeriesChoice(rule))
    for name in bins.fields:
        view.snapshot.numbers(name, view.snapshot.end)
    for name in bins.split_by:
        view.snapshot.codes(name, view.snapshot.end)
    key = hashlib.blake2b(key.encode(), digest_size=4).hexdigest()  # short, since each refresh sends it
    if view.past:
        config = {**config, "still": "end" if view.health.plays is None else "now"}
    config = {**config, "key": key, "plotly": plotly_url().removeprefix(f"{PREFIX}/"), "most": most}
    if rule != RULES[0]:
        config["rule"] = rule
    choices = understood(asked(address, ""))
    keep(address, None if choices == AS_GIVEN else spelled(choices, LONGEST_TEXT))
    number = _number(st.session_state.get(key))
    if number or choices != AS_GIVEN:
        config["choices"] = choices.given() | ({"number": number} if number else {})
    tab = own_tab()
    data: object
    if tab.blocked:
        data = _with_the_page(view, bins_of, choices.series(rule), choices.value, config, varying, key)
    else:
        live = place(tab, key, view, bins_of, rule, config, varying, choices)
        data = {"live": live, "height": config["height"]}
    sent = _sent(key)
    try:
        _component(
            key=key,
            data=data,
            on_resync_change=lambda: _resync(key, sent),
            on_range_change=_again,
            on_choices_change=lambda: _choose(key, address),
        )
    except StreamlitDuplicateElementKey:
        raise LookbackError(
            "This page draws the same chart twice. Give one of them a different key, such as key='second'."
        ) from None


def _with_the_page(
    view: View,
    bins_of: BinsOf,
    choice: SeriesChoice,
    value: Value | None,
    config: Mapping[str, object],
    varying: Varying,
    key: str,
) -> bytes:
    """A message with the data that this viewer's chart lacks, to be sent with the page's elements."""
    sent = _sent(key)
    state = st.session_state.get(key)  # read once: Streamlit builds a class at each access
    if state is None:
        sent.forget()  # the viewer was on another page, so Streamlit and the browser dropped the element
    bins = sent.bins = bins_of(choice)
    bins.update(view.snapshot, view.now)
    read_before(view.feed, bins)
    config = {**config, **varying.of(view)}
    if value:
        values = shown_values(bins.numbers(view.snapshot), value)
        config |= {"value": value, "values": values}
    return sent.next(
        bins, config, view.snapshot, zoomed((state or {}).get("range"), view.look_back, view.now)
    )


def _sent(key: str) -> ChartState:
    charts: dict[str, ChartState] = st.session_state.setdefault("_charts", {})
    return charts.get(key) or charts.setdefault(key, ChartState())


def _again() -> None:
    """Intentionally empty: registering it makes Streamlit rerun, and that rerun sends the finer bins."""


def _number(state: Any) -> int:
    """The number that the browser gave to its newest choices in the session's state; 0 if there are none."""
    match (state or {}).get("choices"):
        case {"number": int() as number}:
            return number
    return 0


def _choose(key: str, address: str) -> None:
    """Keep the viewer's choices in the legend for the page's URL."""
    choices = read_choices(st.session_state[key].get("choices"))
    if choices is not None:
        st.session_state[address] = spelled(choices)


def _resync(key: str, sent: ChartState) -> None:
    """The browser missed a message: continue from the last one it applied."""
    match st.session_state[key].get("resync"):
        case [int(sender), int(number)]:
            sent.go_back(sender, number)
        case _:
            sent.forget()
