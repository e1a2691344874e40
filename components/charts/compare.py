"""compare(): the current hour, day or week drawn over the earlier ones."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from nats_client import Duration, iso_duration, parse_duration
from nats_client.series.bins import MOST
from nats_client.series.periods import check_reach, full_reach, period_names, period_starts, step_of
from nats_client.series.series_choice import RULES

from ..choices.clock import Fixed
from ..data.live import View
from ..data.states import check_times, empty_state
from ..spent import timed
from ..words import exact_numbers, rounded, zone
from .legend import bins_for
from .line_chart import address_of, draw, drawing_options
from .pushed import Varying

MOST_ROWS = 100
"""Rows in a table of means: the ones with the largest differences."""


def look_back_for(period: Duration = "PT1H", earlier: int = 1) -> str:
    """The look-back that covers the current `period` and the `earlier` ones before it: (earlier + 1) periods,
    plus an hour for days, since a day may have 25 hours. A length that the viewer chose in the clock does not
    change it. Raises LookbackError."""
    return Fixed(iso_duration(full_reach(parse_duration(period, "period"), earlier)))


@timed
def compare(
    view: View,
    y: str | Sequence[str],
    period: Duration = "PT1H",
    earlier: int = 1,
    *,
    by: str | None = None,
    title: str | None = None,
    height: int = 380,
    unit: str = "",
    most: int = MOST,
    log_y: bool = False,
    from_zero: bool = False,
    steps: bool = False,
    key: str | None = None,
) -> None:
    """Draw the current period so far over the `earlier` ones (at most 30) before it, as a live chart.

    period: a duration. "PT1H" means clock hours, "P1D" days from the viewer's local midnight, "P7D"
    weeks from Monday. Other periods start where the local clock shows a multiple of their length. Across a
    daylight-saving change each day still starts at its own midnight, and values at the same distance from
    midnight are compared. The other arguments are those of line_chart(). Raises LookbackError, naming the
    look-back that is needed (see look_back_for), if the look-back of `view` is too short, and ColumnError as
    line_chart() does.
    """
    length = parse_duration(period, "period")
    check_reach(view.look_back, length, earlier)
    if not view:
        empty_state(view)
        return
    view = view.drawn
    fields = (y,) if isinstance(y, str) else tuple(y)
    look_back = min(view.look_back, full_reach(length, earlier))
    starts = _starts(view, length, earlier)
    options = drawing_options(log_y=log_y, from_zero=from_zero, steps=steps)
    bins_of = bins_for(view.feed, fields, by, look_back, most, step_of(length, starts), hold=steps)
    config = {
        "title": title or "",
        "unit": unit,
        "height": height,
        "window": look_back.value / 1e6,
        "empty": f"No numbers {view.span}",
        **options,
    }

    def periods(view: View) -> dict[str, object]:
        starts = _starts(view, length, earlier)
        return {
            "compare": {
                "starts": [start // 1_000_000 for start in starts[1:]],
                "end": (starts[1] + int(-np.diff(starts).min()))
                // 1_000_000,  # where the longest period would end if it started now
                "names": period_names(length, earlier),
            }
        }

    address = address_of(view, key, fields, by, "compare", title)
    key = key or f"{view.feed.name_key} {period} {earlier} {fields} {by} {most} {title} {options}"
    draw(view, bins_of, RULES[0], most, config, Varying((period, earlier), periods), key, address)


@timed
def compared_means(
    view: View, y: str, period: Duration = "PT1H", *, by: str | None = None, unit: str = ""
) -> None:
    """A table of the means of the numeric column `y` for each value of `by`: in the current period so far,
    in the same part of the period before, and the difference in percent. Raises as compare() does."""
    length = parse_duration(period, "period")
    check_reach(view.look_back, length, 1)
    if not len(view):
        empty_state(view)
        return
    check_times(view, "A comparison over time")
    starts = _starts(view, length, 1)
    means = view.feed.means.table(view.snapshot, y, by, starts, view.now)
    current, before = period_names(length, 1)
    behind = f" ({unit})" if unit else ""
    shown = means.assign(current=means["current"].map(rounded), before=means["before"].map(rounded))
    if len(means) > MOST_ROWS:
        greatest = means["change"].abs().nlargest(MOST_ROWS).index
        shown = shown[shown.index.isin(greatest)]
        st.caption(f"The {MOST_ROWS} of {len(means):,} series with the largest differences.")
    labels = {
        "current": f"Mean, {current} so far{behind}",
        "before": f"Mean, {before}, same part{behind}",
    }
    shown, configurations = exact_numbers(shown.rename_axis("_series").reset_index())
    for name, label in labels.items():
        configurations[name]["label"] = label
    st.dataframe(
        shown,
        column_config={
            "_series": "Subject" if by == "_subject" else by or "Field",
            **configurations,
            "change": st.column_config.NumberColumn("Difference", format="%+.1f %%"),
        },
        hide_index=True,
        placeholder="n/a",
    )


def _starts(view: View, length: pd.Timedelta, earlier: int) -> list[int]:
    """See period_starts(). A stretch has no row at its end, so one that ends on the hour ends with that
    hour."""
    return period_starts(length, earlier, view.now - view.past, zone())
