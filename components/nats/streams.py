"""The server's streams, for pages that list or choose them."""

import contextlib
import copy
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

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
from nats_client.streams.stream_list import MOST_COUNTED, PAGE, Newest
from nats_client.subjects import filters_of

from ..choices.choose import chosen
from ..choices.clock import clock
from ..data.connection import is_embedded, shared
from ..data.playing import now_of
from ..data.reads import note_live, note_then, rerun_on
from ..push.asked import Asked, asked
from ..push.json_element import JsonSource, Kind
from ..spent import timed
from ..words import bytes_text, clock_text, count_text, in_zone, local, plain, zone

T = TypeVar("T")
S = TypeVar("S")

MOST_ON_REQUEST = 500_000
"""The greatest number of subjects that are counted when a viewer requests it."""
MOST_KEPT = 3
"""Counts on request to keep for one client; each may take 100 MB."""
KEPT_FOR = 3600.0  # seconds that such a count is kept
KEEP = 2.0  # seconds to share a listing among viewers
COUNT_AGAIN = 30.0  # seconds to share the subjects of a stream

AGAIN = 10.0  # seconds before retrying a first listing that timed out

_last: dict[tuple[str, str], list[Any]] = {}
"""The last listings, by rights and kind. They are shown while there is no connection."""
_failed: WeakKeyDictionary[Client, dict[str, tuple[float, RequestFailed]]] = WeakKeyDictionary()
"""When and why a listing failed, by kind. A failure takes seconds, so not every refresh may repeat it."""

_line = Kind("stream_line")


def is_demo() -> bool:
    """True if the data comes from the embedded demo, which publishes figures of this machine."""
    return is_embedded()


@timed
def streams() -> pd.DataFrame:
    """The streams, one per row, indexed by name: `per_second` (messages, over the last 10 s; missing at
    first), `messages`, `bytes`, `newest` (UTC), `subjects`, `description`, `limits`, `age` (of the newest
    message, seconds), `state` (what is wrong; empty if nothing is). While there is no connection, the last
    list. Raises LookbackError if there has never been a list."""
    return _table(listed("streams", _listed))


def _table(infos: list[StreamInfo]) -> pd.DataFrame:
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
            "state": stream_state(info),
        }
        for info in infos
    ]
    columns = ["stream", "per_second", "messages", "bytes", "newest", "subjects", "description", "limits"]
    table = pd.DataFrame(rows, columns=[*columns, "age", "state"]).set_index("stream")
    return table.astype({"per_second": "float64", "age": "float64"})


def stream_state(info: StreamInfo) -> str:
    """The fault of a stream, in words; empty if there is none."""
    if info.away:
        return "its nodes do not answer"
    return "no leader, nothing is stored" if info.leaderless else ""


@timed
def stream_names() -> list[str]:
    """The names of the streams, for a choice that also accepts a typed name. The page runs again when the
    names change. Empty if the streams cannot be listed or if there are none; the page then shows why."""
    names: list[str] = []
    try:
        names = [info.name for info in listed("streams", _listed, by_code=False)]
    except RequestFailed as error:
        st.warning(plain(f"Cannot list the streams. Type the name of one. {error}"), icon=":material/lock:")
    else:
        if not names and not chosen("Stream", ""):
            st.info("This server has no streams yet. New ones will appear here.")
    rerun_on(_OtherStreams(shared(by_code=False)[1], tuple(names)))
    return names


@dataclass(frozen=True)
class _OtherStreams:
    """True, when called, if the server's streams differ from those that a page was drawn with."""

    nats: Client
    drawn: tuple[str, ...]

    def __call__(self) -> bool:
        infos = _soon(self.nats)
        return infos is not None and tuple(info.name for info in infos) != self.drawn


def listed(what: str, ask: Callable[[str, Client], list[T]], *, by_code: bool = True) -> list[T]:
    """The list that `ask` returns, as far as the viewer may see it. Without a connection or a reply, the last
    list. `by_code`: whether the page must run again to see a newer list. Raises LookbackError if there has
    never been a list, or if the login no longer permits it."""
    rights, nats = shared(by_code=by_code)
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


def _listed(rights: str, nats: Client) -> list[StreamInfo]:
    infos: list[StreamInfo] = asked(nats, "streams").now(KEEP, nats.streams)
    return infos


def _soon(nats: Client) -> list[StreamInfo] | None:
    """The last list; None if there is none. An old list is refreshed in the background. For live elements,
    which do not wait."""
    return _soon_of(nats, "streams", KEEP, nats.streams)


def _soon_of(nats: Client, what: Hashable, every: float, ask: Callable[[], S]) -> S | None:
    answer: Asked[S] = asked(nats, what)
    return answer.soon(every, ask) if nats.state.status == "connected" else answer.last


@timed
def subjects(stream: str, limit: int = 200) -> list[str]:
    """Up to `limit` subjects of `stream`, in alphabetical order. The page runs again when they change. Empty
    while there is no connection, and for a stream with more than 10,000 subjects, because its publishers wait
    while the server lists them."""
    _, nats = shared(by_code=False)
    names: tuple[str, ...] = ()
    if nats.state.status == "connected":
        names = _first(counted(nats, stream, ">"), limit)
        rerun_on(_OtherSubjects(nats, stream, limit, names))
    return list(names)


@dataclass(frozen=True)
class _OtherSubjects:
    """True, when called, if the stream's subjects differ from those that a page was drawn with."""

    nats: Client
    stream: str
    limit: int
    drawn: tuple[str, ...]

    def __call__(self) -> bool:
        found = counted_soon(self.nats, self.stream, ">")
        # A single failed count does not make the page run again.
        return found is not None and not found.failed and _first(found, self.limit) != self.drawn


@dataclass(frozen=True)
class Counted:
    """Messages by subject, the number of subjects, and why counting failed. A failure is cached too, so that
    not every refresh sends a request to a slow server."""

    counts: dict[str, int]
    """In alphabetical order of the subjects."""
    total: int
    when: int
    """ns since the epoch, UTC."""
    failed: str = ""
    too_many: int = 0
    """The number of subjects, if there are too many to list."""


def _first(found: Counted, limit: int) -> tuple[str, ...]:
    return tuple(islice(found.counts, limit))


def counted(nats: Client, stream: str, pattern: str) -> Counted:
    """The subjects of a stream that match `pattern`, at most half a minute old. A stream with many subjects
    is not counted, because its publishers wait while the server lists them."""
    answer: Asked[Counted] = asked(nats, ("subjects", stream, pattern))
    return answer.now(COUNT_AGAIN, partial(_count, nats, stream, pattern, MOST_COUNTED))


def counted_soon(nats: Client, stream: str, pattern: str) -> Counted | None:
    """Like counted(), without waiting; None before the first answer."""
    ask = partial(_count, nats, stream, pattern, MOST_COUNTED)
    return _soon_of(nats, ("subjects", stream, pattern), COUNT_AGAIN, ask)


@dataclass(eq=False)
class Counting:
    """A count that a viewer requested, and its progress."""

    answer: Asked[Counted] = field(default_factory=Asked)
    done: int = 0
    total: int = 0

    def progress(self, done: int, total: int) -> None:
        """Record that `done` of `total` subjects are counted."""
        self.done, self.total = done, total


def subjects_on_request(nats: Client, stream: str, pattern: str, total: int) -> Counting:
    """A count of `total` subjects that a viewer requested, shared by all viewers with the same rights and
    kept for an hour. If one reply of the server contains all subjects, this waits for it."""
    kept: Asked[Counting] = asked(nats, ("subjects", stream, pattern), MOST_KEPT)
    counting = kept.now(float("inf"), Counting)
    last = counting.answer.last
    every = COUNT_AGAIN if last is not None and last.failed else KEPT_FOR
    ask = partial(_count, nats, stream, pattern, MOST_ON_REQUEST, counting.progress)
    if total <= PAGE:
        counting.answer.now(every, ask)
    else:
        counting.answer.soon(every, ask)
    return counting


def _count(
    nats: Client,
    stream: str,
    pattern: str,
    most: int,
    progress: Callable[[int, int], None] | None = None,
) -> Counted:
    when = time.time_ns()
    try:
        parts = [nats.subjects(stream, each, most=most, progress=progress) for each in filters_of(pattern)]
    except LookbackError as error:
        total = error.total if isinstance(error, TooManySubjects) else 0
        return Counted({}, 0, when, str(error), total)
    counts = {subject: count for part in parts for subject, count in part.counts.items()}
    return Counted(dict(sorted(counts.items())), sum(part.total for part in parts), when)


@timed
def stream_line(stream: str) -> None:
    """Draw one line with the facts of `streams()` about one stream; nothing if it is not listed. The line
    updates itself."""
    _, nats = shared(by_code=False)
    note_live()
    of = nats, stream, zone()
    _line.draw(stream, of, lambda: _FactsSource(nats, stream, zone()))


class _FactsSource(JsonSource):
    """`text`: the line."""

    def __init__(self, nats: Client, stream: str, zone: str) -> None:
        super().__init__()
        self._nats = nats
        self._stream = stream
        self._zone = zone

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Never calls `changed`: the list is polled once a second, which is enough."""
        return lambda: None

    def look(self) -> Mapping[str, Any]:
        """The line now."""
        found = [info for info in _soon(self._nats) or [] if info.name == self._stream]
        with in_zone(self._zone):
            return {"text": _facts(found[0]) if found else ""}


def _facts(info: StreamInfo) -> str:
    parts = [
        stream_state(info),
        info.description,
        count_text(info.messages, "message"),
        bytes_text(info.bytes),
        f"limits: {info.limits or 'none'}",
        # A time, not an age: the list does not change while there is no connection or the page is paused.
        "no message yet" if info.last_time is None else f"newest at {clock_text(info.last_time.value)}",
    ]
    return " · ".join(part for part in parts if part)


def stream_list(table: pd.DataFrame) -> None:
    """Draw the table of `streams()`. At a time in the past, a caption says that the table is current."""
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
    if clock().end_time is not None:
        st.caption("The streams as they are now. A list of streams has no past.")


def newest_messages(names: list[str]) -> None:
    """Draw the newest message of each of the streams `names`, its payload cut at 300 bytes. At a time in the
    past, the newest message from before that time. The requests run in parallel; a warning names the streams
    whose nodes do not reply."""
    when = clock()
    end = None if when.end_time is None else now_of(when)
    if end is not None:
        note_then()
    known: list[str] = []
    with contextlib.suppress(RequestFailed):
        known = [info.name for info in listed("streams", _listed) if info.away]
    asked = tuple(name for name in names if name not in known)
    found = _newest_messages(*shared(), asked, end)
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
        said = "All streams are empty." if end is None else "No stream has a message from before then."
        st.info(said, icon=":material/hourglass_empty:")
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


@st.cache_data(ttl=KEEP, max_entries=1000, show_spinner=False)
def _newest_messages(
    rights: str, _nats: Client, names: tuple[str, ...], end: pd.Timestamp | None
) -> dict[str, Newest | RequestFailed | None]:
    return _nats.newest_each(names, end=end)
