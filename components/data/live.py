"""live(): the rows of a stream as one refresh of a page sees them."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import pandas as pd
import streamlit as st

from nats_client import Duration, Feed, Gap, Health, NamedFeed, PlayedFeed, Result, Snapshot, format_duration
from nats_client.results.given_rows import GivenRows

from ..choices.clock import clock
from ..spent import timed
from ..words import clock_text
from .connection import client
from .loading import loading
from .playing import playback
from .reads import collect, note_code

FIRST_WAIT = 1.5
"""Seconds that a viewer's first read of a feed waits for the replay. Most replays are done by then."""


Readable = Feed | NamedFeed | PlayedFeed | Result | GivenRows
"""The types that a view can show."""


class View:
    """A feed, or a result of sql(), as a page sees it during one refresh. All its parts belong to the same
    moment.

    A page whose code takes rows from it (`frame`, `latest`, `len`, `snapshot`) reruns at the viewer's refresh
    interval. Elements that update themselves, such as line_chart(), need no rerun. Neither do `if view:`, the
    columns and the gaps: the page reruns when they change.
    """

    def __init__(
        self,
        feed: Readable,
        snapshot: Snapshot,
        look_back: pd.Timedelta,
        now: int,
        health: Health,
        steady: bool = True,
        *,
        by_code: bool = True,
    ) -> None:
        """`by_code`: whether taking rows counts as done by the page's code."""
        self.feed = feed
        self.look_back = look_back
        self.now = now
        """The server's clock, ns since the epoch, UTC."""
        self.health = health
        self._steady = steady
        self._uses: set[Literal["rows", "marks"]] = set()
        self.shown_empty: list[str] = []
        """Not empty once the page itself has said that there are no rows. Otherwise the frame says it."""
        self._snapshot = snapshot
        self._by_code = by_code

    @property
    def steady(self) -> bool:
        """True if messages are expected at regular intervals, so that silence makes the feed stale. False if
        the page shows the view only as marks in charts."""
        return self._steady and self._uses != {"marks"}

    @property
    def drawn(self) -> "View":
        """The same view for a live element, which does not make the page rerun."""
        if self._by_code:
            self._uses.add("rows")
        return self.watched

    @property
    def marked(self) -> "View":
        """The same view for marks in charts."""
        self._uses.add("marks")
        return self.watched

    @property
    def watched(self) -> "View":
        """The same view for the frame, which shows nothing of its rows."""
        same = View(
            self.feed, self._snapshot, self.look_back, self.now, self.health, self._steady, by_code=False
        )
        same.shown_empty, same._uses = self.shown_empty, self._uses
        return same

    @property
    def again(self) -> "Callable[[], View]":
        """A function that returns this view's current state when called, for a live element or the frame. The
        function raises ClosedError if the feed was closed. It does not keep the rows in memory."""
        return partial(look_at, self.feed, self.look_back, self._steady, by_code=False)

    @property
    def past(self) -> bool:
        """True if the view shows a stretch in the past: `now` is then its end, or the moment of the
        playback."""
        return self.feed.key.end is not None

    @property
    def stretch(self) -> Feed | NamedFeed | None:
        """All rows of the stretch that is being played, including those after the playback's moment. None
        without a playback."""
        return self.feed.stretch if isinstance(self.feed, PlayedFeed | NamedFeed) else None

    @property
    def loaded(self) -> tuple[int, int] | None:
        """The loaded part of a stretch whose loading was stopped: its start and end, ns since the epoch, UTC;
        equal if nothing is loaded. None if loading was not stopped."""
        if self.health.phase != "halted":
            return None
        end = self.feed.now()
        start = first = end - self.look_back.value
        last = end
        for gap in self.gaps:
            if gap.why == "unread" and gap.start <= start:
                first = gap.end
            elif gap.why == "unread":
                last = gap.start
        return (first, last) if first < last else (start, start)

    @property
    def span(self) -> str:
        """The time range of the rows, in words: "in the last 5 minutes"; "from 14:00:00 to 14:20:00" in the
        viewer's zone for a stretch, or for the part of it that was loaded; or, in a playback, "in the 5
        minutes before the playback's time"."""
        if not self.past:
            return f"in the last {format_duration(self.look_back)}"
        if (loaded := self.loaded) is not None:
            first, last = loaded
            return f"from {clock_text(first)} to {clock_text(last)}, the part that was loaded"
        if self.health.plays is not None:
            return f"in the {format_duration(self.look_back)} before the playback's time"
        return f"from {clock_text(self.now - self.look_back.value)} to {clock_text(self.now)}"

    @property
    def timeless(self) -> bool:
        """True if the rows come from a result without times: all rows then have the time of the result."""
        return isinstance(self.feed, Result) and bool(self) and self.feed.timeless

    @property
    def snapshot(self) -> Snapshot:
        """The rows."""
        return self._taken("snapshot")

    def __len__(self) -> int:
        return len(self._taken("len()"))

    def _taken(self, how: str) -> Snapshot:
        if self._by_code:
            note_code(how)
            self._uses.add("rows")
        return self._snapshot

    def __bool__(self) -> bool:
        return len(self._snapshot) > 0

    @property
    def columns(self) -> dict[str, str]:
        """Kind of each column by name: "number" or "text"."""
        return dict(self._snapshot.columns)

    @property
    def gaps(self) -> list[Gap]:
        """What is missing within the look-back, ordered by time."""
        start = self.now - self.look_back.value  # the feed may reach further back, for another page
        return [gap for gap in self.health.gaps if gap.end > start]

    @property
    def young_since(self) -> int | None:
        """If the stream is younger than the look-back: when its history began, ns since the epoch, UTC. None
        otherwise, and while it is unknown."""
        edge, start = self.now - self.look_back.value, self.health.history_start
        if self.past or start is None or start <= edge:
            return None
        # A row's own time may be earlier than the history, and the chart must also show earlier gaps.
        rows = self._snapshot.time
        first = min(start, int(rows.min(initial=start)), *(gap.start for gap in self.gaps))
        return first if first > edge else None

    def __getitem__(self, column: str) -> "pd.Series[Any]":
        """One column as a Series, as in frame(): `rows["ms"]`. Raises ColumnError, naming the columns that
        exist."""
        found: pd.Series[Any] = self.frame([column])[column]
        return found

    def latest(self, column: str, by: str = "_subject") -> pd.Series:
        """The newest value of `column` for each value of the text column `by`. Empty if there are no rows.
        Raises ColumnError, naming the columns that exist."""
        rows = self._taken("latest()")
        if not len(rows):
            return pd.Series(dtype=float, name=column)
        return self.feed.latest(column, by, self.look_back).of(rows)

    def frame(self, columns: list[str] | None = None, *, last: int | None = None) -> pd.DataFrame:
        """The rows as a DataFrame indexed by `_time` (UTC), with `_subject`, `_seq` and the payload's fields.
        `columns` selects columns, `last` the newest rows. Copy it before changing it. Without rows, every
        requested column exists and is empty."""
        rows = self._taken("frame()")
        if not len(rows):
            return _NoRows(columns=columns or [], index=pd.DatetimeIndex([], tz="UTC", name="_time"))
        return rows.frame(columns, last=last)


class _NoRows(pd.DataFrame):
    """A table without rows. Its columns are unknown, so any name returns an empty column."""

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str) and key not in self.columns:
            return pd.Series(dtype=float, index=self.index, name=key)
        if isinstance(key, list):
            return pd.DataFrame({name: self[name] for name in key}, index=self.index)
        return super().__getitem__(key)


@timed
def live(
    stream: str | None = None,
    subject: str | Sequence[str] | None = None,
    *,
    look_back: Duration = "PT5M",
    time: str | None = None,
    decoder: str = "json",
    archive: str | None = None,
    where: str | None = None,
    columns: Mapping[str, str] | None = None,
    headers: Sequence[str] = (),
) -> View:
    """The messages of `stream` that match the filter `subject`, or one of several filters, as in
    `live("SHOP", ["orders.>", "refunds.*"])`, from now minus `look_back` until now. If the viewer set the
    clock above the page, the clock's time applies.

    Without a stream, as in `live(subject="sensors.>")`, it reads plain subjects, which have no history. The
    window fills from now on, and messages published while the connection is down are lost. The frame reports
    both.

    The filter may name tokens: "metrics.{kind}.{host}" reads "metrics.*.*" and adds the text columns `kind`
    and `host`; "{rest>}" as the last token takes all remaining tokens. A payload field with the same name
    becomes `payload{name}`, for example `payloadhost`.

    look_back: a duration, such as "15m", "6 hours", a timedelta, or ISO 8601 ("PT15M"). time: the payload
    field with a row's time; the default is the time at which the server stored the message. "params.ts" is a
    nested field, "ts@Europe/Berlin" the zone of times that have none. decoder: how payloads are decoded:
    "json", "auto", "text", "msgpack", "protobuf:TYPE@FILE" or another name in docs/payloads.md. headers:
    names of message headers, such as ("traceparent",). Each is a column, and a payload field with its name
    becomes `payload{name}`; rows from the archive have none. archive: the subject of a history service,
    "history.query" for the one that runs beside the app. Rows that are older than the stream's own history
    then come from the archive, without a gap or a duplicate.

    where: an SQL expression such as `"level = 'error' AND ms > 100"`. Only rows for which it is true are
    kept; other rows take no memory, and the status line counts both. columns: computed columns, as names and
    SQL expressions, such as `{"kw": "w / 1000"}`. Expressions see the fields of one message, named tokens,
    `_subject`, `_time` and `_seq`; a field that a message lacks is NULL (docs/filters.md).

    All viewers who request the same share one consumer and one window. Without rows the page continues:
    `latest` and `frame` are empty, and the chart or table, or else the frame, says so. Raises LookbackError,
    drawn by the frame, if something cannot be read.
    """
    view = read_view(
        stream,
        subject,
        look_back=look_back,
        time=time,
        decoder=decoder,
        archive=archive,
        where=where,
        columns=columns,
        headers=headers,
    )
    collect(view)
    return view


@timed
def read_view(
    stream: str | None,
    subject: str | Sequence[str] | None = None,
    *,
    look_back: Duration,
    time: str | None = None,
    decoder: str = "json",
    archive: str | None = None,
    where: str | None = None,
    columns: Mapping[str, str] | None = None,
    headers: Sequence[str] = (),
    steady: bool = True,
) -> View:
    """Like live(), for components that work without rows; the frame does not report the feed's state."""
    when = clock()
    length = when.reach(look_back)
    nats = client(by_code=False)
    of: dict[str, Any] = {
        "look_back": length,
        "time": time,
        "decoder": decoder,
        "archive": archive,
        "where": where,
        "columns": columns,
        "headers": headers,
    }
    played = playback()
    feed: Feed | NamedFeed | PlayedFeed
    if played is None:
        feed = nats.feed(stream, subject, end=when.end_time, **of)
    else:
        feed = played.feed(stream, subject, **of)
    if loading().read(feed):
        wait_once((feed.name_key, length), lambda timeout: feed.wait(timeout, length))
    return look_at(feed, length, steady)


def look_at(feed: Readable, look_back: pd.Timedelta, steady: bool, *, by_code: bool = True) -> View:
    """The current view of a feed or result. Raises ClosedError."""
    now = feed.now()
    rows = feed.snapshot().since(now - look_back.value)
    return View(feed, rows, look_back, now, feed.health_of(look_back), steady, by_code=by_code)


@timed
def wait_once(what: object, wait: Callable[[float], object]) -> None:
    """Call `wait` once per viewer, to give the first state of `what` a moment to arrive."""
    seen: set[object] = st.session_state.setdefault("_seen", set())
    if what not in seen:
        seen.add(what)
        wait(FIRST_WAIT)
