"""The server's streams, for pages that list or choose them."""

import contextlib
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import streamlit as st

from nats_client import Client, LookbackError, StreamInfo
from nats_client.errors import (
    NotPermitted,
    RequestFailed,
    RequestTimeout,
    ServerUnreachable,
    TooManySubjects,
)
from nats_client.streams.stream_list import MOST_COUNTED, Newest

from ..choices.choose import chosen
from ..data.connection import is_embedded, shared
from ..data.live import View
from ..spent import timed
from ..words import bytes_text, clock_text, count_text, local, plain

T = TypeVar("T")

MOST_ON_REQUEST = 100_000
"""A stream's subjects are counted up to this number when a viewer asks for it."""
KEEP = 2.0  # seconds to share a listing among viewers

AGAIN = 10.0  # seconds before retrying a first listing that timed out

_last: dict[tuple[str, str], list[Any]] = {}
"""The last listings, by rights and kind, shown while there is no connection."""
_failed: WeakKeyDictionary[Client, dict[str, tuple[float, RequestFailed]]] = WeakKeyDictionary()
"""When and why a listing failed, by kind. A failure takes seconds, which every refresh would wait again."""


def is_demo() -> bool:
    """True if the data is the embedded demo's: figures of this machine."""
    return is_embedded()


@timed
def streams() -> pd.DataFrame:
    """The streams, one per row, indexed by name: `per_second` (messages, over the last 10 s; missing at
    first), `messages`, `bytes`, `newest` (UTC), `subjects`, `description`, `limits`, `age` (of the newest
    message, seconds). The last known list while there is no connection. Raises LookbackError if there never
    was one."""
    rows = [
        {
            "stream": info.name,
            "per_second": info.per_second,
            "messages": info.messages,
            "bytes": info.bytes,
            "newest": info.last_time,
            "subjects": ", ".join(info.subjects),
            "description": info.description,
            "limits": info.limits,
            "age": info.age.total_seconds() if info.age is not None else None,
            "state": "its nodes do not answer" if info.away else "",
        }
        for info in listed("streams", _listed)
    ]
    columns = ["stream", "per_second", "messages", "bytes", "newest", "subjects", "description", "limits"]
    table = pd.DataFrame(rows, columns=[*columns, "age", "state"]).set_index("stream")
    return table.astype({"per_second": "float64", "age": "float64"})


def stream_names() -> list[str]:
    """The names of the streams, for a choice that also accepts a typed name. Empty if they cannot be listed
    or if there are none; then the page says why."""
    try:
        names = list(streams().index)
    except RequestFailed as error:
        st.warning(plain(f"Cannot list the streams. Type the name of one. {error}"), icon=":material/lock:")
        return []
    if not names and not chosen("Stream", ""):
        st.info("This server has no streams yet. New ones will appear here.")
    return names


def listed(what: str, ask: Callable[[str, Client], list[T]]) -> list[T]:
    """The list that `ask` returns, as far as the viewer may see it. Without a connection or a reply, the last
    list. Raises LookbackError if there never was one, or if the login no longer permits it."""
    rights, nats = shared()
    kept = rights, what
    failed_at, failed = _failed.get(nats, {}).get(what, (0.0, None))
    if failed is not None and kept not in _last and time.monotonic() - failed_at < AGAIN:
        raise copy.copy(failed)
    try:
        if nats.state.status == "connected":
            _last[kept] = ask(rights, nats)
        elif kept not in _last:
            raise nats.state.error or ServerUnreachable("Not connected to NATS yet.")
    except NotPermitted:
        _last.pop(kept, None)
        raise
    except RequestFailed as error:
        _failed.setdefault(nats, {})[what] = time.monotonic(), error
        if kept not in _last:
            raise
    return _last[kept]


@st.cache_data(ttl=KEEP, show_spinner=False)
def _listed(rights: str, _nats: Client) -> list[StreamInfo]:
    return _nats.streams()


def subjects(stream: str, limit: int = 200) -> list[str]:
    """Up to `limit` subjects of `stream`, in alphabetical order. Empty while there is no connection, and for
    a stream with more than 10,000 subjects, because its publishers wait while the server lists them."""
    rights, nats = shared()
    if nats.state.status != "connected":
        return []
    return _counted(rights, nats, stream, ">").counts.index[:limit].tolist()


@timed
def subject_list(view: View, most: int = 1000) -> None:
    """Draw the subjects of the stream that match the filter of `view`, with their message counts: the `most`
    with the most messages."""
    key = view.feed.key
    if key.stream is None:
        st.info("No stream stores plain subjects, so there is nothing to count.")
        return
    rights, nats = shared()
    found = _counted(rights, nats, key.stream, key.subject or ">")
    if found.too_many:
        asked = f"count subjects {key.name}"
        if found.too_many > MOST_ON_REQUEST:
            st.caption(plain(f"{found.failed} The table shows only the subjects of the rows above."))
        elif not st.session_state.get(asked):
            st.caption(plain(f"{found.failed} The table shows only the subjects of the rows above."))
            st.button("Count them in the stream", on_click=st.session_state.update, args=({asked: True},))
        else:
            found = _counted_on_request(rights, nats, key.stream, key.subject or ">")
            when = clock_text(found.when)
            st.caption(f"Counted at {when}. Counted again after an hour.")
    counts, total = found.counts, found.total
    if found.too_many:
        counts = _in_rows(view)
        total = len(counts)
    elif found.failed:
        st.warning(plain(f"Cannot count the subjects. {found.failed}"))
        return
    table = counts.nlargest(most, keep="first") if len(counts) > most else counts
    words = count_text(total, "subject")
    if len(table) < total:
        of = "" if len(counts) == total else f" of the first {len(counts):,} in alphabetical order"
        words += (
            f". The {len(table):,} with the most messages{of} are shown. Narrow the filter to see others."
        )
    st.caption(plain(words))
    st.dataframe(
        table.rename_axis("subject").reset_index(name="messages"),
        column_config={
            "subject": "Subject",
            "messages": st.column_config.ProgressColumn(
                "Messages", format="localized", min_value=0, max_value=int(table.max()) if len(table) else 1
            ),
        },
        hide_index=True,
        height="content" if len(table) <= 12 else 456,
    )


@dataclass(frozen=True)
class _Counted:
    """Messages by subject, the number of subjects, and why counting failed. A failure is cached too, so that
    a slow server is not asked again at each refresh."""

    counts: pd.Series
    total: int
    when: int
    """ns since the epoch, UTC."""
    failed: str = ""
    too_many: int = 0
    """The number of subjects, if there are too many to list."""


@st.cache_data(ttl=30, show_spinner=False)
def _counted(rights: str, _nats: Client, stream: str, pattern: str) -> _Counted:
    return _count(_nats, stream, pattern, MOST_COUNTED)


@st.cache_data(ttl=3600, max_entries=20, show_spinner=True)
def _counted_on_request(rights: str, _nats: Client, stream: str, pattern: str) -> _Counted:
    """Counted because a viewer asked for it; cached for an hour."""
    return _count(_nats, stream, pattern, MOST_ON_REQUEST)


def _count(nats: Client, stream: str, pattern: str, most: int) -> _Counted:
    when = time.time_ns()
    try:
        found = nats.subjects(stream, pattern, most=most)
    except LookbackError as error:
        total = error.total if isinstance(error, TooManySubjects) else 0
        return _Counted(pd.Series(dtype="int64"), 0, when, str(error), total)
    return _Counted(pd.Series(found.counts, dtype="int64").sort_index(), found.total, when)


def _in_rows(view: View) -> pd.Series:
    """Number of rows of `view` by subject."""
    codes, labels = view.snapshot.codes("_subject")
    counts = np.bincount(codes, minlength=len(labels))
    found = np.flatnonzero(counts)
    return pd.Series(counts[found], index=[labels[code] for code in found.tolist()], dtype="int64")


def stream_line(stream: str) -> None:
    """Draw one line with the facts of `streams()` about one stream; nothing if it is not listed."""
    try:
        table = streams()
    except RequestFailed:
        return
    if stream not in table.index:
        return
    row: Any = table.loc[stream]
    parts = [
        row["state"],
        row["description"],
        count_text(row["messages"], "message"),
        bytes_text(row["bytes"]),
        f"limits: {row['limits'] or 'none'}",
        "no message yet" if pd.isna(row["newest"]) else "",
        # Not its age: the list does not change while there is no connection or the page is paused.
        "" if pd.isna(row["newest"]) else f"newest at {clock_text(row['newest'].value)}",
    ]
    st.caption(plain(" · ".join(part for part in parts if part)))


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
            "limits": "Keeps at most",
            "age": None,
            "state": "State" if table["state"].any() else None,
        },
        placeholder="n/a",
    )


def newest_messages(names: list[str]) -> None:
    """Draw the newest message of each of the streams `names`, its payload cut at 300 bytes. The streams are
    asked in parallel; those whose nodes do not answer are named."""
    known: list[str] = []
    with contextlib.suppress(RequestFailed):
        known = [info.name for info in listed("streams", _listed) if info.away]
    asked = tuple(name for name in names if name not in known)
    found = _newest_messages(*shared(), asked)
    away = [name for name in names if name in known or isinstance(found[name], RequestTimeout)]
    failed = [
        str(found[name]) for name in asked if isinstance(found[name], RequestFailed) and name not in away
    ]
    rows = [
        {"stream": name, "time": newest[1], "subject": newest[0], "payload": _shown(newest[2])}
        for name in asked
        if isinstance(newest := found[name], tuple)
    ]
    if away:
        some = ", ".join(repr(name) for name in away[:5]) + ", …" * (len(away) > 5)
        st.warning(
            plain(f"Not read, because their nodes do not answer: {some}."), icon=":material/hourglass_top:"
        )
    if failed:
        more = f" The same for {len(failed) - 1} more." if len(failed) > 1 else ""
        st.warning(plain(f"Cannot read a newest message. {failed[0]}{more}"), icon=":material/lock:")
    if not rows and not failed and not away:
        st.info("All streams are empty.", icon=":material/hourglass_empty:")
    if not rows:
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
def _newest_messages(
    rights: str, _nats: Client, names: tuple[str, ...]
) -> dict[str, Newest | RequestFailed | None]:
    return _nats.newest_each(names)
