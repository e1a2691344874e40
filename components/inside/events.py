"""Events of the connection and of each feed and bucket that a page reads."""

from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape

import pandas as pd
import streamlit as st

from nats_client import Event

from ..data.bucket import Bucket
from ..data.connection import client
from ..data.live import View
from ..data.reads import Read
from ..words import clock_text, local, plain

_READ = "_happened"


def keep_reads(reads: Iterable[Read]) -> None:
    """Keep what the page reads, for what_happened()."""
    st.session_state[_READ] = [read for read in reads if isinstance(read, View | Bucket)]


def what_happened() -> None:
    """Draw a button in the menu that opens the newest events. A refresh does not rerun the menu. Events are
    sent only while the list is open."""
    with st.popover("What happened", key="happened", on_change="rerun", width="stretch") as opened:
        if not opened.open:
            return
        _draw("Connection", client().events)
        shown = set()
        for read in st.session_state.get(_READ, []):
            if (name := read.health.name) not in shown:
                shown.add(name)
                _draw(name, read.watch.events if isinstance(read, Bucket) else read.feed.events)


def _draw(name: str, events: tuple[Event, ...]) -> None:
    st.markdown(f"**{plain(name)}**")
    lines = [
        f"<div><time>{clock_text(int(event.at * 1e9))}</time>{escape(event.what)}"
        + (f", {event.times:,} times" if event.times > 1 else "")
        + (f"<br><em>{escape(event.why)}</em>" if event.why else "")
        + "</div>"
        for event in reversed(events)
    ]
    st.html(f'<div class="lb-log">{"".join(lines) or "No events yet."}</div>')


def event_list(events: tuple[Event, ...]) -> None:
    """A table of events, newest first, times in the viewer's time zone."""
    if not events:
        st.caption("No events yet.")
        return
    table = pd.DataFrame(
        {
            "Time": [datetime.fromtimestamp(event.at, UTC) for event in reversed(events)],
            "What": [event.what for event in reversed(events)],
            "Why": [event.why for event in reversed(events)],
            "Times": [event.times for event in reversed(events)],
        }
    )
    st.dataframe(
        local(table, "Time"),
        column_config={"Time": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss")},
        hide_index=True,
    )
