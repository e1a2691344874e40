"""Events of the connection, and of a page and each feed and bucket that it reads."""

from collections.abc import Iterable
from html import escape

import streamlit as st

from nats_client import Event

from ..data.bucket import Bucket
from ..data.connection import client
from ..data.live import View
from ..data.reads import Read
from ..words import clock_text, plain
from .page_runs import page_events

_READ = "_page_reads"


def keep_reads(page: str, reads: Iterable[Read]) -> None:
    """Keep which page the viewer sees and what it reads, for what_happened()."""
    st.session_state[_READ] = page, [read for read in reads if isinstance(read, View | Bucket)]


def what_happened() -> None:
    """Draw a button in the menu that opens the newest events. A refresh does not rerun the menu. Events are
    sent only while the list is open."""
    with st.popover("What happened", key="happened", on_change="rerun", width="stretch") as opened:
        if not opened.open:
            return
        draw_events("Connection", client().events)
        page, reads = st.session_state.get(_READ, ("", []))
        for events in page_events([page]).values():
            draw_events("Page", events)
        shown = set()
        for read in reads:
            if (name := read.health.name) not in shown:
                shown.add(name)
                draw_events(name, read.watch.events if isinstance(read, Bucket) else read.feed.events)


def draw_events(name: str, events: tuple[Event, ...]) -> None:
    """Draw the events of `name`, newest first, with the whole reason of each."""
    st.markdown(f"**{plain(name)}**")
    lines = [
        f"<div><time>{clock_text(int(event.at * 1e9))}</time>{escape(event.what)}"
        + (f", {event.times:,} times" if event.times > 1 else "")
        + (f"<br><em>{escape(event.why)}</em>" if event.why else "")
        + "</div>"
        for event in reversed(events)
    ]
    st.html(f'<div class="lb-log">{"".join(lines) or "No events yet."}</div>')
