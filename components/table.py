"""Rows as a table, and as a file."""

import io
from typing import Any

import pandas as pd
import streamlit as st

from .live import View
from .words import local


def newest_rows(view: View, rows: int = 20) -> None:
    """A table of the newest rows, newest first, times in the viewer's zone."""
    table = local(view.frame(last=rows).reset_index(), "_time").iloc[::-1]
    config: dict[str, Any] = {
        "_time": st.column_config.DatetimeColumn("Time", format="YYYY-MM-DD HH:mm:ss.SSS"),
        "_subject": "Subject",
        "_seq": st.column_config.NumberColumn("Sequence", format="%d"),
    }
    st.dataframe(table, column_config=config, hide_index=True)


def latest_values(view: View, column: str, by: str = "_subject") -> None:
    """A table of the newest value of the numeric `column` for each value of `by`, the largest first."""
    latest = view.latest(column, by).sort_values(ascending=False)
    st.dataframe(
        latest.rename("latest").rename_axis(by).reset_index(),
        column_config={
            by: "Subject" if by == "_subject" else by,
            "latest": st.column_config.ProgressColumn(
                column,
                format="%.6g",
                min_value=min(0.0, float(latest.min())),
                max_value=float(latest.max()) or 1.0,
            ),
        },
        hide_index=True,
        height=min(38 + 35 * len(latest), 320),
    )


def downloads(view: View, name: str) -> None:
    """Buttons that download all rows of `view`: CSV (times in ISO 8601, UTC) and Parquet. The file is made
    when a button is clicked, of the rows as they are at that moment."""
    feed, look_back = view.feed, view.look_back.value

    def frame() -> pd.DataFrame:
        return feed.snapshot().since(feed.now() - look_back).frame()

    def csv() -> bytes:
        return frame().to_csv(date_format="%Y-%m-%dT%H:%M:%S.%fZ").encode()

    def parquet() -> bytes:
        buffer = io.BytesIO()
        frame().to_parquet(buffer)
        return buffer.getvalue()

    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    with st.container(horizontal=True):
        st.download_button(
            "CSV", csv, f"{safe}.csv", "text/csv", icon=":material/download:", on_click="ignore"
        )
        st.download_button(
            "Parquet",
            parquet,
            f"{safe}.parquet",
            "application/vnd.apache.parquet",
            icon=":material/download:",
            on_click="ignore",
        )
