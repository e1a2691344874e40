"""What is known of a stream while it is read: how far, since when, and whether there is a doubt."""

import logging
import time
from collections.abc import Callable
from typing import Any

import pandas as pd

from ..connection.bulk_parser import RunInbox
from ..connection.connection import Connection
from ..errors import LookbackError, StreamNotFound
from ..events import Events
from .by_sequence import ns
from .sink import Phase, Sink
from .stream_list import no_such_stream
from .unmatched import why_empty

TOLD_FOR = 30.0  # seconds for which what there is in place of a stream that is not there is not asked again
BEHIND_FOR = 3.0  # seconds after which a stream that ends before what was read has lost its end for good


class Reading:
    """The state of one reader of one stream and filter. Who reads it looks for a doubt, and acts on it."""

    def __init__(
        self,
        connection: Connection,
        stream: str,
        subject: str | None,
        look_back: Callable[[], pd.Timedelta] | None,
        sink: Sink,
        until: int | None,
    ) -> None:
        """As of a Consumer."""
        self.phase: Phase = "connecting"
        self.since = time.time()
        self.why: LookbackError | None = None
        self._told_at = 0.0
        self.done = 0
        """Messages received since the replay began."""
        self.pending = 0
        """Messages of the stream that the server has still to deliver."""
        self.last_seq: int | None = None
        """Stream sequence of the last message received, None before the first."""
        self.config: dict[str, Any] = {}
        """The stream's configuration, as at the last look."""
        self.events = Events(" ".join(part for part in ("stream", stream, subject) if part))
        """What has happened to it."""
        self.changed: Callable[[], None] = lambda: None
        self._connection = connection
        self._stream = stream
        self._subject = subject
        self._look_back = look_back
        self._sink = sink
        self._until = until
        self._made = 0  # consumers so far
        self.filtered = subject is not None
        self._start: int | None = None
        self._created: str | None = None
        self._clock = 0  # server's clock minus our monotonic one, ns
        self._behind_since: int | None = None  # when the stream began to end before last_seq, monotonic ns
        self._known_at: int | None = None  # when the server had stored the message last_seq
        self._inbox = RunInbox()
        self._doubt: str | None = None
        self.progress = 0.0
        """How far the replay is, 0 to 1; never less than it was."""
        self._current_at = time.monotonic()  # all that was stored by then has been delivered
        self._turns = 0  # of the replays, taken so far
        self._begin_seq: int | None = None  # where the messages begin that can be kept

    @property
    def created(self) -> str | None:
        """When the stream was created, as the server writes it (RFC 3339); tells its incarnations apart."""
        return self._created

    @property
    def restarts(self) -> int:
        """Times that the consumer was made anew."""
        return max(0, self._made - 1)

    @property
    def behind(self) -> float:
        """For how long, in seconds, messages may have been stored that were not delivered yet."""
        return time.monotonic() - self._current_at

    def now(self) -> int:
        """The server's clock, ns since the epoch, UTC; our own until the server has told us its."""
        return time.monotonic_ns() + self._clock if self._clock else time.time_ns()

    def restart(self, why: str) -> None:
        """Make the consumer anew. Where nothing has been received yet, it starts from the look-back."""
        if self.last_seq is None:
            self._start = self._begin_seq = None
        self._doubt = why
        self._inbox.arrived.set()

    async def look(self, *, deleted: bool = False) -> dict[str, Any]:
        """The stream's state and configuration, as `STREAM.INFO` gives them; with the list of `deleted`
        messages when asked for. Tells the sink when it is another stream than before.

        Raises StreamNotFound, RequestFailed.
        """
        asked, last = time.monotonic_ns(), self.last_seq
        info = await self._connection.infos.ask(self._stream, deleted=deleted)
        if ts := info.get("ts"):
            self._clock = ns(ts) - (asked + time.monotonic_ns()) // 2
        if last is None or info["state"]["last_seq"] >= last:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = asked
        rolled_back = self._behind_since is not None and asked - self._behind_since > BEHIND_FOR * 1e9
        if self._created is not None and (info["created"] != self._created or rolled_back):
            self.start_over("the stream is another one now")
        elif self.config and self.config.get("retention") != info["config"].get("retention"):
            self.restart("the stream's retention was changed")
        self._created, self.config = info["created"], info["config"]
        return info

    async def why_empty(self, info: dict[str, Any]) -> str:
        """Why nothing matches the filter, as a sentence; `info` is what look() has found."""
        return await why_empty(self._connection, self._stream, self._subject or ">", info)

    def start_over(self, why: str) -> None:
        """Read anew from the beginning; what was delivered so far is void."""
        self.last_seq = self._known_at = self._behind_since = self._begin_seq = None
        self._turns, self.done, self.progress = 0, 0, 0.0
        self.events.note("started over", why, logging.WARNING)
        self._sink.recreated()
        self.restart(why)

    def _enter(self, phase: Phase, why: LookbackError | None = None) -> None:
        if phase != self.phase:
            self.since = time.time()
        if phase != self.phase or why is not None:
            self.events.note(phase, why or "", logging.INFO if why is None else logging.WARNING)
        self.phase, self.why = phase, why
        self.changed()

    async def _not_there(self) -> StreamNotFound:
        if isinstance(self.why, StreamNotFound) and time.monotonic() - self._told_at < TOLD_FOR:
            return self.why
        error = await no_such_stream(self._connection, self._stream)
        self._told_at = time.monotonic()
        return error
