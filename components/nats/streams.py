"""What the server holds, for pages that list or choose."""

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
from ..words import bytes_text, clock_text, count_text, local, plain

T = TypeVar("T")

MOST_ON_REQUEST = 100_000
"""Subjects of a stream that are counted when a viewer asks for it."""
KEEP = 2.0  # seconds that a listing serves all viewers

AGAIN = 10.0  # seconds for which a server that did not answer in time is not asked for a first listing

_last: dict[tuple[str, str], list[Any]] = {}
"""The last listings, by rights and kind, for while there is no connection."""
_failed: WeakKeyDictionary[Client, dict[str, tuple[float, RequestFailed]]] = WeakKeyDictionary()
"""When and why there was none, by kind; it takes seconds, which each refresh would wait."""


def is_demo() -> bool:
    """Whether the data is the embedded demo's: this machine's own figures."""
    return is_embedded()


def streams() -> pd.DataFrame:
    """The streams, one a row, indexed by name: `per_second` (messages, over the last 10 s; missing at
    first), `messages`, `bytes`, `newest` (UTC), `subjects`, `description`, `limits` (what it keeps at most),
    `age` (of the newest message, seconds). While there is no connection, as they were last. Raises
    LookbackError when they have never been seen."""
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
    """The names of the streams, for a choice of one that takes a name of the viewer's own as well. Where they
    cannot be listed there are none, and where there are none the page says why."""
    try:
        names = list(streams().index)
    except RequestFailed as error:
        st.warning(
            plain(f"The streams can't be listed: type the name of one. {error}"), icon=":material/lock:"
        )
        return []
    if not names and not chosen("Stream", ""):
        st.info("This server has no streams yet. The page fills by itself when one is made.")
    return names


def listed(what: str, ask: Callable[[str, Client], list[T]]) -> list[T]:
    """What `ask` gives, of what the viewer may see; while there is no connection, or no answer, what it gave
    last. Raises LookbackError when it has never given anything, and when the login no longer permits it."""
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
    """Up to `limit` subjects of `stream`, in alphabetical order; none while there is no connection, and of a
    stream with more than 10,000: its publishers would wait while the server lists them."""
    rights, nats = shared()
    if nats.state.status != "connected":
        return []
    return _counted(rights, nats, stream, ">").counts.index[:limit].tolist()


def subject_list(view: View, most: int = 1000) -> None:
    """Draw the subjects in the stream that `view` may hold, with their numbers of messages: `most` of them,
    those with the most messages."""
    key = view.feed.key
    if key.stream is None:
        st.info("Plain subjects are not kept by a stream, so there is nothing to count.")
        return
    rights, nats = shared()
    found = _counted(rights, nats, key.stream, key.subject or ">")
    if found.too_many:
        asked = f"count subjects {key.name}"
        if found.too_many > MOST_ON_REQUEST:
            st.caption(plain(f"{found.failed} Shown are those of the rows above."))
        elif not st.session_state.get(asked):
            st.caption(plain(f"{found.failed} Shown are those of the rows above."))
            st.button("Count them in the stream", on_click=st.session_state.update, args=({asked: True},))
        else:
            found = _counted_on_request(rights, nats, key.stream, key.subject or ">")
            when = clock_text(found.when)
            st.caption(f"As counted at {when}; the answer is kept for an hour.")
    counts, total = found.counts, found.total
    if found.too_many:
        counts = _in_rows(view)
        total = len(counts)
    elif found.failed:
        st.warning(plain(f"The subjects could not be counted. {found.failed}"))
        return
    table = counts.nlargest(most, keep="first") if len(counts) > most else counts
    words = count_text(total, "subject")
    if len(table) < total:
        of = "" if len(counts) == total else f" of the first {len(counts):,} in alphabetical order"
        words += f", cut to the {len(table):,} with the most messages{of}. A narrower pattern shows others."
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
    """Messages by subject, how many subjects there are, and why it failed: a failure is kept as well, so that
    a server that is slow to count is not asked at each refresh."""

    counts: pd.Series
    total: int
    when: int
    """ns since the epoch, UTC."""
    failed: str = ""
    too_many: int = 0
    """Subjects of a stream that has too many."""


@st.cache_data(ttl=30, show_spinner=False)
def _counted(rights: str, _nats: Client, stream: str, pattern: str) -> _Counted:
    return _count(_nats, stream, pattern, MOST_COUNTED)


@st.cache_data(ttl=3600, max_entries=20, show_spinner=True)
def _counted_on_request(rights: str, _nats: Client, stream: str, pattern: str) -> _Counted:
    """As a person has asked for it; kept for an hour."""
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
    """Rows of `view` by subject."""
    codes, labels = view.snapshot.codes("_subject")
    counts = np.bincount(codes, minlength=len(labels))
    found = np.flatnonzero(counts)
    return pd.Series(counts[found], index=[labels[code] for code in found.tolist()], dtype="int64")


def stream_line(stream: str) -> None:
    """Draw what `streams()` says of one stream, in one line; nothing of one that is not among them."""
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
        # Not its age: the list stays as it is while there is no connection, and while the page is paused.
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
    """Draw the newest message of each of the streams `names`, its payload cut at 300 bytes. All are asked at
    once; those whose nodes do not answer are named."""
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
            plain(f"Not read, since their nodes do not answer: {some}."), icon=":material/hourglass_top:"
        )
    if failed:
        more = f" Nor can those of {len(failed) - 1} more." if len(failed) > 1 else ""
        st.warning(plain(f"A newest message can't be read. {failed[0]}{more}"), icon=":material/lock:")
    if not rows and not failed and not away:
        st.info("No stream holds a message.", icon=":material/hourglass_empty:")
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
