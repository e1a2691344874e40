"""alerts(): which series rose above a threshold, and which are still above it."""

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from nats_client import format_duration

from ..charts.thresholds import Watched, crossed, series_name
from ..data.live import View
from ..data.states import empty_state
from ..spent import timed
from ..words import number_text, plain, rounded, zone

MOST_ROWS = 100
"""Crossings to list, newest first."""


@timed
def alerts(
    view: View,
    y: str | Sequence[str],
    thresholds: Mapping[str, object],
    color: str | None = None,
    unit: str = "",
) -> None:
    """Say how many series of the numeric column `y` (or several) are above each of `thresholds` now, one
    series per value of the text column `color`. List the crossings within the look-back, newest first: times
    in the viewer's zone, the value of the first row above the threshold, and the peak since.

    `thresholds` are as in line_chart(), and both share the computed crossings. Raises ThresholdError on a
    value that is neither a finite number nor None, and ColumnError, naming the columns that exist, if a
    column does not exist or has another kind.
    """
    if not len(view):
        empty_state(view)
        return
    fields = (y,) if isinstance(y, str) else tuple(y)
    watched = crossed(view, fields, color, thresholds)
    for one in watched:
        st.markdown(headline(one, format_duration(view.look_back), unit, several=len(fields) > 1))
    rows = [
        (crossing.start, one.name, series_name(crossing, one.field, fields), *crossing[1:])
        for one in watched
        for crossing in one.found.crossings[:MOST_ROWS]
    ]
    if not rows:
        return
    rows.sort(key=lambda row: -row[0])
    table = pd.DataFrame(
        rows[:MOST_ROWS], columns=["order", "name", "series", "start", "value", "end", "peak", "seen"]
    )
    since, until = _clock(table["start"]), _clock(table["end"].astype("Int64"))
    behind = f" ({unit})" if unit else ""
    shown = pd.DataFrame(
        {
            "Threshold": table["name"],
            "Series": table["series"],
            "Since": since.where(table["seen"], "before " + since),
            "Until": until.fillna("still above"),
            f"At crossing{behind}": table["value"].map(rounded),
            f"Peak{behind}": table["peak"].map(rounded),
        }
    )
    number = st.column_config.NumberColumn(format="plain")
    config = {f"At crossing{behind}": number, f"Peak{behind}": number}
    st.dataframe(shown, column_config=config, hide_index=True, height=min(38 + 35 * len(shown), 320))
    total = sum(one.found.total for one in watched)
    if total > len(shown):
        st.caption(f"The newest {len(shown)} of {total:,} crossings.")


def headline(one: Watched, look_back: str, unit: str, *, several: bool) -> str:
    """The state of one threshold, as Markdown."""
    _, total, above, series = one.found
    limit = f"'{one.name}' ({number_text(one.threshold)}{' ' * bool(unit)}{unit})"
    what = f" in '{one.field}'" if several else ""
    if above:
        is_are = "is" if above == 1 else "are"
        who = f"'{one.field}' is" if series == 1 else f"{above} of {series} series {is_are}"
        return f":red[:material/trending_up:] {plain(f'{who} above {limit} now{what}.')}"
    if total:
        times = "once" if total == 1 else f"{total:,} times"
        calm = f"Nothing is above {limit} now{what}; it was crossed {times} in the last {look_back}."
    else:
        calm = f"Nothing crossed {limit} in the last {look_back}{what}."
    return f":green[:material/check:] {plain(calm)}"


def _clock(times: pd.Series) -> pd.Series:
    """clock_text() for many times at once; missing ones stay missing."""
    moments = pd.to_datetime(times, utc=True).dt.tz_convert(zone())
    today = moments.dt.date == pd.Timestamp.now(zone()).date()
    return moments.dt.strftime("%H:%M:%S").where(today, moments.dt.strftime("%d %b %H:%M:%S"))
