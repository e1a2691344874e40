"""live(): the rows of a stream as one refresh of a page sees them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import pandas as pd
import streamlit as st

from nats_client import Feed, Gap, Health, NamedFeed, Snapshot, WatchHealth, parse_duration
from nats_client.errors import LookbackError

from ..spent import timed
from .connection import client

FIRST_LOOK = 1.5
"""Seconds that a viewer's first read of a feed waits for the replay. Most are done by then."""


@dataclass(frozen=True, eq=False)
class View:
    """A feed as a page sees it during one refresh. All its parts belong to the same moment."""

    feed: Feed | NamedFeed = field(repr=False)
    snapshot: Snapshot = field(repr=False)
    look_back: pd.Timedelta
    now: int
    """The server's clock, ns since the epoch, UTC."""
    health: Health
    steady: bool = True
    """True if messages are expected at regular intervals, so that silence makes the feed stale."""
    shown_empty: list[str] = field(default_factory=list, repr=False)
    """Not empty once the page itself has said that there are no rows. Otherwise the frame says it."""

    def __len__(self) -> int:
        return len(self.snapshot)

    @property
    def columns(self) -> dict[str, str]:
        """Kind of each column by name: "number" or "text"."""
        return dict(self.snapshot.columns)

    @property
    def gaps(self) -> list[Gap]:
        """What is missing within the look-back, ordered by time."""
        start = self.now - self.look_back.value  # another page's look-back may be longer
        return [gap for gap in self.health.gaps if gap.end > start]

    def latest(self, column: str, by: str = "_subject") -> pd.Series:
        """The newest value of `column` for each value of the text column `by`. Empty if there are no rows.
        Raises ColumnError, naming the columns that exist."""
        if not len(self):
            return pd.Series(dtype=float, name=column)
        return self.feed.latest(column, by, self.look_back).of(self.snapshot)

    def frame(self, columns: list[str] | None = None, *, last: int | None = None) -> pd.DataFrame:
        """The rows as a DataFrame indexed by `_time` (UTC), with `_subject`, `_seq` and the payload's fields.
        `columns` selects columns, `last` the newest rows. Copy it before changing it. Without rows, every
        requested column exists and is empty."""
        if not len(self):
            return _NoRows(columns=columns or [], index=pd.DatetimeIndex([], tz="UTC", name="_time"))
        return self.snapshot.frame(columns, last=last)


class _NoRows(pd.DataFrame):
    """A table without rows. Its columns are not known yet, so any name gives an empty column."""

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str) and key not in self.columns:
            return pd.Series(dtype=float, index=self.index, name=key)
        if isinstance(key, list):
            return pd.DataFrame({name: self[name] for name in key}, index=self.index)
        return super().__getitem__(key)


class Read(Protocol):
    """What a page has read from NATS: the rows of a feed, or the values of a bucket."""

    @property
    def health(self) -> Health | WatchHealth:
        """The state of its feed or watch."""

    @property
    def shown_empty(self) -> list[str]:
        """Not empty once the page itself has said that there is no data yet. Otherwise the frame says it."""

    def __len__(self) -> int: ...


class NothingYet(LookbackError):  # noqa: N818 - drawn as the empty state, not as an error
    """A page reads a bucket that has never been read from the server, so its contents are unknown."""

    def __init__(self, read: Read) -> None:
        super().__init__(f"The bucket {read.health.name!r} has not been read yet.")
        self.read = read


_reads: ContextVar[list[Read] | None] = ContextVar("reads", default=None)


@contextmanager
def collected() -> Iterator[list[Read]]:
    """Collect what the page reads within the block, so that the frame can show its state."""
    reads: list[Read] = []
    token = _reads.set(reads)
    try:
        yield reads
    finally:
        _reads.reset(token)


def collect(read: Read) -> None:
    """Make the frame show the state of `read`."""
    reads = _reads.get()
    if reads is not None:
        reads.append(read)


@timed
def live(
    stream: str | None = None,
    subject: str | None = None,
    *,
    look_back: str = "PT5M",
    time: str | None = None,
    decoder: str = "json",
    archive: str | None = None,
) -> View:
    """The messages of `stream` that match the filter `subject`, from now minus `look_back` until now.

    Without a stream, as in `live(subject="sensors.>")`, it reads plain subjects, which have no history. The
    window fills from now on, and messages published while the connection is down are lost; the frame says
    both.

    The filter may name tokens: "metrics.{kind}.{host}" reads "metrics.*.*" and adds the text columns `kind`
    and `host`; "{rest>}" as the last token takes all remaining tokens. A payload field with the same name
    becomes `payload{name}`, for example `payloadhost`.

    look_back: ISO 8601 duration, such as "PT15M". time: the payload field with a row's time; the default is
    the time at which the server stored the message. decoder: how payloads are decoded: "json", "text", or
    another name in nats_client/decoding/decoders.py. archive: the subject of a history service,
    "history.query" for the one that runs beside the app. Rows that are older than the stream's own history
    then come from the archive, without a gap or a duplicate. All viewers who ask for the same share one
    consumer and one window. Without rows the page goes on: `latest` and `frame` are empty, and the chart or
    table, or else the frame, says so. Raises LookbackError, drawn by the frame, if something cannot be read.
    """
    view = look(stream, subject, look_back=look_back, time=time, decoder=decoder, archive=archive)
    collect(view)
    return view


@timed
def look(
    stream: str | None,
    subject: str | None = None,
    *,
    look_back: str,
    time: str | None = None,
    decoder: str = "json",
    archive: str | None = None,
    steady: bool = True,
) -> View:
    """Like live(), for components that work without rows; the frame does not report the feed's state."""
    length = parse_duration(look_back)
    feed = client().feed(stream, subject, look_back=look_back, time=time, decoder=decoder, archive=archive)
    first_look((feed.name_key, look_back), lambda timeout: feed.wait(timeout, length))
    now = feed.now()
    return View(feed, feed.snapshot().since(now - length.value), length, now, feed.health_of(length), steady)


@timed
def first_look(what: object, wait: Callable[[float], object]) -> None:
    """Call `wait` once per viewer, to give the first state of `what` a moment to arrive."""
    seen: set[object] = st.session_state.setdefault("_seen", set())
    if what not in seen:
        seen.add(what)
        wait(FIRST_LOOK)
