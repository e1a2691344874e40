"""The messages that a page shows in place of something that cannot be drawn."""

import streamlit as st

from nats_client import Health, LookbackError, Result, WatchHealth
from nats_client.errors import ColumnError
from nats_client.results.given_rows import GivenRows

from ..words import count_text, plain
from .live import View
from .reads import Read


def empty_state(read: Read) -> None:
    """Show why there is nothing to draw yet: there are no rows, or the bucket has not been read."""
    read.shown_empty.append("empty")
    health = read.health
    if isinstance(read, View) and isinstance(read.feed, Result) and health.phase == "following":
        done = read.feed.ready
        if not done:
            says = "The query is under way."
        elif read.past:
            says = "No rows match this query."
        else:
            says = "No rows match this query yet. New ones will appear here."
        st.info(says, icon=f":material/hourglass_{'empty' if done else 'top'}:")
        return
    if isinstance(read, View) and isinstance(read.feed, GivenRows):
        st.info("This table has no rows yet.", icon=":material/hourglass_empty:")
        return
    if isinstance(health, WatchHealth):
        what = f"bucket {health.name}"
    else:
        parts = {"stream": health.stream, "subject": health.subject}
        what = ", ".join(f"{kind} {name}" for kind, name in parts.items() if name)
    if isinstance(read, View) and health.phase == "following" and read.health.read:
        count = count_text(read.health.read, "message")
        doubts = "".join(f" {sentence}" for sentence in (*_undecoded(read.health), *read.health.doubts))
        st.info(
            f"None of the {count} {plain(read.span)} matches "
            f"{plain(read.health.where or '')}.{plain(doubts)}"
            + ("" if read.past else " New ones that do will appear here."),
            icon=":material/filter_alt:",
        )
    elif isinstance(read, View) and health.phase == "following" and read.health.malformed:
        says = f"No rows {read.span} ({what}). {' '.join(_undecoded(read.health))}"
        st.info(plain(says), icon=":material/data_object:")
    elif isinstance(read, View) and health.phase == "following":
        st.info(
            f"No messages {plain(read.span)} ({plain(what)}). {plain(read.health.hint)}"
            + ("" if read.past else " New ones will appear here."),
            icon=":material/hourglass_empty:",
        )
    elif health.phase == "halted":
        st.info(
            f"No messages in the part of the stretch that was loaded ({plain(what)}).",
            icon=":material/pause_circle:",
        )
    elif health.phase in ("connecting", "replaying"):
        st.info(f"Waiting for {plain(what)}.", icon=":material/hourglass_top:")


def _undecoded(health: Health) -> list[str]:
    """A sentence about the messages that could not be decoded into rows; an empty list if there are none.
    They are counted since the feed was opened, so they need not be in the look-back."""
    if not health.malformed:
        return []
    count = count_text(health.malformed, "message")
    return [f"{count} read so far could not be decoded. The latest: {health.samples[-1].reason}."]


def check_times(view: View, what: str) -> None:
    """Raise ColumnError if the rows of `view` have no times of their own. `what`: the element that needs
    them, for the error's text."""
    if view.timeless:
        raise ColumnError(
            f"{what} needs times, and this result has none. Let every() make its rows, or select a time as "
            "`_time` or `time`: time_bucket(INTERVAL 10 s, _time) AS time."
        )


def mistake(error: LookbackError) -> None:
    """Draw one of Lookback's own errors. Its text says what is wrong and what to do."""
    st.error(plain(str(error)), icon=":material/error:")
