"""What the server holds, for pages that list or choose."""

from collections.abc import Callable
from typing import Any, TypeVar

import pandas as pd
import streamlit as st

from nats_client import StreamInfo
from nats_client.errors import RequestFailed, ServerUnreachable

from .connection import client, is_embedded
from .words import local

T = TypeVar("T")

KEEP = 2.0  # seconds that a listing serves all viewers

_last: dict[str, list[Any]] = {}
"""The last listings, for while there is no connection."""


def is_demo() -> bool:
    """Whether the data is the embedded demo's: this machine's own figures."""
    return is_embedded()


def streams() -> pd.DataFrame:
    """The streams, one a row, indexed by name: `per_second` (messages, over the last 10 s; missing at
    first), `messages`, `bytes`, `newest` (UTC), `subjects`, `description`. While there is no connection,
    as they were last. Raises LookbackError when they have never been seen."""
    rows = [
        {
            "stream": info.name,
            "per_second": info.per_second,
            "messages": info.messages,
            "bytes": info.bytes,
            "newest": info.last_time,
            "subjects": ", ".join(info.subjects),
            "description": info.description,
        }
        for info in listed("streams", _listed)
    ]
    columns = ["stream", "per_second", "messages", "bytes", "newest", "subjects", "description"]
    return pd.DataFrame(rows, columns=columns).set_index("stream").astype({"per_second": "float64"})


def listed(what: str, ask: Callable[[], list[T]]) -> list[T]:
    """What `ask` gives; while there is no connection, or no answer, what it gave last. Raises LookbackError
    when it has never given anything."""
    nats = client()
    try:
        if nats.state.status == "connected":
            _last[what] = ask()
        elif what not in _last:
            raise nats.state.error or ServerUnreachable("Not connected to NATS yet.")
    except RequestFailed:
        if what not in _last:
            raise
    return _last[what]


@st.cache_data(ttl=KEEP, show_spinner=False)
def _listed() -> list[StreamInfo]:
    return client().streams()


def subjects(stream: str, limit: int = 200) -> list[str]:
    """Up to `limit` subjects of `stream`, in alphabetical order; none while there is no connection."""
    return _subjects(stream)[:limit] if client().state.status == "connected" else []


@st.cache_data(ttl=30, show_spinner=False)
def _subjects(stream: str) -> list[str]:
    return list(client().subjects(stream))


def stream_list(table: pd.DataFrame) -> None:
    """Draw the table of `streams()`."""
    st.dataframe(
        local(table, "newest"),
        column_config={
            "stream": "Stream",
            "per_second": st.column_config.NumberColumn("Messages per second", format="%.1f"),
            "messages": st.column_config.NumberColumn("Messages", format="localized"),
            "bytes": st.column_config.NumberColumn("Size", format="bytes"),
            "newest": st.column_config.DatetimeColumn("Newest", format="YYYY-MM-DD HH:mm:ss"),
            "subjects": "Subjects",
            "description": "Description",
        },
    )


def newest_messages(names: list[str]) -> None:
    """Draw the newest message of each of the streams `names`, its payload cut at 300 bytes."""
    rows = [
        {"stream": name, "time": found[1], "subject": found[0], "payload": _shown(found[2])}
        for name in names
        if (found := _newest_message(name)) is not None
    ]
    if not rows:
        st.info("No stream holds a message.", icon=":material/hourglass_empty:")
        return
    st.dataframe(
        local(pd.DataFrame(rows), "time"),
        column_config={
            "stream": "Stream",
            "time": st.column_config.DatetimeColumn("Time", format="YYYY-MM-DD HH:mm:ss"),
            "subject": "Subject",
            "payload": "Payload",
        },
        hide_index=True,
    )


def _shown(payload: bytes) -> str:
    text = payload[:300].decode("utf-8", "replace")
    return text + ("…" if len(payload) > 300 else "")


@st.cache_data(ttl=KEEP, show_spinner=False)
def _newest_message(stream: str) -> tuple[str, pd.Timestamp, bytes] | None:
    return client().newest(stream)
