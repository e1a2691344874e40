"""Events of the connection, and of a page and each feed and bucket that it reads."""

from html import escape

import streamlit as st

from nats_client import Event
from nats_client.feeds.health import FeedKey

from ..data.bucket import Bucket
from ..data.connection import client
from ..data.live import View
from ..data.reads import Reads
from ..push.tabs import own_tab
from ..words import clock_text, plain
from .page_runs import page_events

_READ, _LIST = "_page_reads", "happened"


def keep_reads(page: str, reads: Reads) -> None:
    """Keep the viewer's page and the feeds and buckets that it reads, for what_happened() and the figures.
    The rows are not kept, because they would stay in memory until the page's next run."""
    feeds = [
        (read.health.name, read.watch if isinstance(read, Bucket) else read.feed)
        for read in reads
        if isinstance(read, View | Bucket)
    ]
    st.session_state[_READ] = page, _runs(reads), feeds
    keys = [read.feed.key for read in reads if isinstance(read, View) and isinstance(read.feed.key, FeedKey)]
    own_tab().keep_reads(client(by_code=False), keys)


def is_list_open() -> bool:
    """True if the viewer has opened the list of what_happened()."""
    return bool(st.session_state.get(_LIST))


def what_happened() -> None:
    """Draw a button above the page that opens the newest events. A refresh does not rerun it. Events are sent
    only while the list is open. A page that is embedded in another page has no such button."""
    if st.context.is_embedded:
        return
    with st.popover("What happened", icon=":material/list_alt:", key=_LIST, on_change="rerun") as opened:
        if not opened.open:
            return
        draw_events("Connection", client().events)
        page, runs, feeds = st.session_state.get(_READ, ("", "", []))
        st.caption(plain(runs))
        for events in page_events([page]).values():
            draw_events("Page", events)
        shown = set()
        for name, feed in feeds:
            if name not in shown:
                shown.add(name)
                draw_events(name, feed.events)


def _runs(reads: Reads) -> str:
    """A sentence for the page's author that says when the page runs again."""
    if reads.by_code:
        return f"This page runs again at each refresh: its code uses {', '.join(reads.by_code)}."
    if not reads and not reads.live:
        return "This page runs again at each refresh: it reads no stream or bucket."
    return "This page consists of live elements. It runs again only if its structure changes."


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
