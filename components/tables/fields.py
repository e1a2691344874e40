"""The fields of the payloads, as a table."""

import time

import pandas as pd
import streamlit as st

from nats_client.series.field_stats import ROWS, Field, fields, times_among

from ..data.live import View
from ..spent import timed
from ..words import clock_text, cut, number_text, plain

_KEEP = 1.0  # seconds to share one reading of the rows among viewers
_LONGEST = 80  # characters of an example


def fields_of(view: View) -> list[Field]:
    """The fields in the newest rows of `view`, at most a second old. Read-only."""
    moment = time.monotonic() // _KEEP
    return view.feed.readings.once(("fields", view.look_back), moment, lambda: fields(view.snapshot))


def time_fields(view: View) -> list[str]:
    """The fields that hold times and can be a row's own time in `live(time=…)`."""
    return times_among(fields_of(view))


@timed
def field_list(view: View) -> None:
    """Draw a table of the payload's fields: type, share of rows that have it, newest value, minimum and
    maximum."""
    found = fields_of(view)
    if not found:
        st.info("The rows have no fields.", icon=":material/hourglass_empty:")
        return
    table = pd.DataFrame(
        {
            "field": [field.name for field in found],
            "type": [field.kind for field in found],
            "share": [field.share * 100 for field in found],
            "example": [_text(field.example) for field in found],
            "least": [_text(field.least) for field in found],
            "greatest": [_text(field.greatest) for field in found],
            "distinct": [field.distinct for field in found],
        }
    )
    st.dataframe(
        table,
        column_config={
            "field": "Field",
            "type": "Type",
            "share": st.column_config.ProgressColumn("In rows", format="%.0f %%", min_value=0, max_value=100),
            "example": "Newest",
            "least": "Minimum",
            "greatest": "Maximum",
            "distinct": st.column_config.NumberColumn("Different values", format="localized"),
        },
        hide_index=True,
        height="content" if len(table) <= 12 else 456,
    )
    notes = [f"Computed from the newest {ROWS:,} of {len(view):,} rows."] if len(view) > ROWS else []
    if view.feed.key.time is None and (times := times_among(found)):
        notes.append(f"Can be used as the row time: {', '.join(times)}.")
    if notes:
        st.caption(plain(" ".join(notes)))


def _text(value: float | str | pd.Timestamp | None) -> str:
    if value is None:
        return ""
    if isinstance(value, pd.Timestamp):
        return clock_text(value.value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number_text(value)
    return cut(value, _LONGEST)
