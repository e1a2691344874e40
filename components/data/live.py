"""live(): the rows of a stream, as this refresh of a page sees them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import pandas as pd
import streamlit as st

from nats_client import Feed, Gap, Health, NamedFeed, Snapshot, WatchHealth, parse_duration
from nats_client.errors import LookbackError

from .connection import client

FIRST_LOOK = 1.5
"""Seconds that the first look of a viewer at a feed waits for the replay: most are done by then."""


@dataclass(frozen=True, eq=False)
class View:
    """What a page sees of a feed during one refresh; all its parts belong to the same moment."""

    feed: Feed | NamedFeed = field(repr=False)
    snapshot: Snapshot = field(repr=False)
    look_back: pd.Timedelta
    now: int
    """The server's clock, ns since the epoch, UTC."""
    health: Health
    steady: bool = True
    """Whether messages come at a pace, so that silence says something."""
    told: list[str] = field(default_factory=list, repr=False)
    """Where the page says that there are no rows; the frame does where nothing else has."""

    def __len__(self) -> int:
        return len(self.snapshot)

    @property
    def columns(self) -> dict[str, str]:
        """Column name to kind, "number" or "text"."""
        return dict(self.snapshot.columns)

    @property
    def gaps(self) -> list[Gap]:
        """What is missing within the look-back, by time."""
        start = self.now - self.look_back.value  # the feed may reach further back
        return [gap for gap in self.health.gaps if gap.end > start]

    def latest(self, column: str, by: str = "_subject") -> pd.Series:
        """The newest value of `column` for each value of the text column `by`; empty where there
        are no rows. Raises ColumnError, naming what exists."""
        if not len(self):
            return pd.Series(dtype=float, name=column)
        return self.feed.latest(column, by, self.look_back).of(self.snapshot)

    def frame(self, columns: list[str] | None = None, *, last: int | None = None) -> pd.DataFrame:
        """The rows as a DataFrame indexed by `_time` (UTC), `_subject` and `_seq` beside the payload's
        columns; only `columns` of these, only the `last` rows, when given. Copy it before changing it.
        Without rows each column that is asked for is there, and empty."""
        if not len(self):
            return _NoRows(columns=columns or [], index=pd.DatetimeIndex([], tz="UTC", name="_time"))
        return self.snapshot.frame(columns, last=last)


class _NoRows(pd.DataFrame):
    """A table without rows, whose columns nobody knows yet: any name gives an empty one."""

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str) and key not in self.columns:
            return pd.Series(dtype=float, index=self.index, name=key)
        if isinstance(key, list):
            return pd.DataFrame({name: self[name] for name in key}, index=self.index)
        return super().__getitem__(key)


class Read(Protocol):
    """What a page has read of NATS: the rows of a feed, or the values of a bucket."""

    @property
    def health(self) -> Health | WatchHealth:
        """How its feed, or its watch, is doing."""

    @property
    def told(self) -> list[str]:
        """Where the page says that there is nothing of it yet; the frame does where nothing else has."""

    def __len__(self) -> int: ...


class NothingYet(LookbackError):  # noqa: N818 - an outcome, drawn as the empty state and not as an error
    """A page asks what is in a bucket that has never been read: nobody knows."""

    def __init__(self, read: Read) -> None:
        super().__init__(f"The bucket {read.health.name!r} has not been read yet.")
        self.read = read


_reads: ContextVar[list[Read] | None] = ContextVar("reads", default=None)


@contextmanager
def collected() -> Iterator[list[Read]]:
    """What the page reads within the block; the frame draws its state."""
    reads: list[Read] = []
    token = _reads.set(reads)
    try:
        yield reads
    finally:
        _reads.reset(token)


def collect(read: Read) -> None:
    """Have the frame draw the state of `read`."""
    reads = _reads.get()
    if reads is not None:
        reads.append(read)


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

    Without a stream, `live(subject="sensors.>")`: plain subjects, which have no history. The window fills
    from now on, and what is published while the connection is down is lost; the frame says both.

    The filter may name tokens: "metrics.{kind}.{host}" reads "metrics.*.*" and gives the text columns `kind`
    and `host`; "{rest>}" as the last token holds all that follow. A payload field of that name becomes
    `payload{name}`, as `payloadhost`.

    look_back: ISO 8601 duration, such as "PT15M". time: the payload field that holds a row's time; default
    is when the server stored it. decoder: how payloads are read, "json", "text", or another name in
    nats_client/decoding/decoders.py. archive: the subject of a history service, "history.query" for the one
    that runs beside the app: what is older than the stream's own history comes from there, without a seam or
    a double row. All viewers who ask for the same share one
    consumer and one window. Without a single row the page goes on: `latest` and `frame` give nothing, what
    draws it says so in its place, and so does the frame where nothing else does. Raises LookbackError, drawn
    by the frame, on what cannot be read.
    """
    view = look(stream, subject, look_back=look_back, time=time, decoder=decoder, archive=archive)
    collect(view)
    return view


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
    """As live(), for components that can do without rows, and without the frame's telling of the feed."""
    length = parse_duration(look_back)
    feed = client().feed(stream, subject, look_back=look_back, time=time, decoder=decoder, archive=archive)
    first_look((feed.name_key, look_back), lambda timeout: feed.wait(timeout, length))
    now = feed.now()
    return View(feed, feed.snapshot().since(now - length.value), length, now, feed.health_of(length), steady)


def first_look(what: object, wait: Callable[[float], object]) -> None:
    """Have `wait` wait a moment for the first state of `what`, once for each viewer."""
    seen: set[object] = st.session_state.setdefault("_seen", set())
    if what not in seen:
        seen.add(what)
        wait(FIRST_LOOK)
