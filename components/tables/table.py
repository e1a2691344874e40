"""Rows as a table."""

from typing import Any

import pandas as pd
import streamlit as st

from nats_client.table.values import EXACT

from ..data.live import View
from ..data.states import empty_state
from ..spent import timed
from ..words import local, plain, rounded

MOST = 500
"""Values to show in a table of newest values."""


@timed
def newest_rows(view: View, rows: int = 20) -> None:
    """Draw a table of the newest rows, newest first, times in the viewer's time zone."""
    if not len(view):
        empty_state(view)
        return
    table = view.frame(last=rows).reset_index().iloc[::-1]
    config: dict[str, Any] = {
        "_subject": "Subject",
        "_seq": st.column_config.NumberColumn("Sequence", format="%d"),
    }
    for name in map(str, table.select_dtypes("datetimetz")):
        label = "Time" if name == "_time" else name
        table = local(table, name)
        config[name] = st.column_config.DatetimeColumn(label, format="YYYY-MM-DD HH:mm:ss.SSS")
    for name in map(str, table.select_dtypes("integer")):
        if not _in_browsers(table[name]):
            table[name] = table[name].astype("str")
    st.dataframe(table, column_config=config, hide_index=True, placeholder="n/a")


def _in_browsers(values: pd.Series) -> bool:
    """True if a browser's numbers (float64) can represent these integers exactly."""
    held = values.dropna()
    return held.empty or bool(held.abs().max() < EXACT)


@timed
def latest_values(view: View, column: str, by: str = "_subject") -> None:
    """Draw a table of the newest value of the numeric `column` for each value of `by`, largest first, at most
    MOST rows. Raises ColumnError, naming the columns that exist."""
    if not len(view):
        empty_state(view)
        return
    view.snapshot.numbers(column)
    found = view.latest(column, by).sort_values(ascending=False)
    if found.empty:  # only messages before the look-back had this field
        st.info(
            f"No row within the look-back has a value of {plain(column)}.", icon=":material/hourglass_empty:"
        )
        return
    latest = found[:MOST]
    whole = pd.api.types.is_integer_dtype(latest.dtype) and _in_browsers(latest)
    st.dataframe(
        (latest if whole else latest.map(rounded)).rename("latest").rename_axis(by).reset_index(),
        column_config={
            by: "Subject" if by == "_subject" else by,
            "latest": st.column_config.ProgressColumn(
                column,
                format="plain",
                min_value=min(0.0, float(latest.min())),
                max_value=float(latest.max()) or 1.0,
            ),
        },
        hide_index=True,
        height=min(38 + 35 * len(latest), 320),
    )
    if len(latest) < len(found):
        st.caption(f"The {MOST} largest of {len(found):,}.")
