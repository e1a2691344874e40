"""The state of a stream's reader: position, phase and doubt."""

import logging
import time
from collections.abc import Callable
from typing import Any

import pandas as pd

from ..connection.bulk_parser import BlockInbox
from ..connection.connection import Connection
from ..errors import LookbackError, StreamNotFound
from ..events import Events
from ..subjects import filters_of
from .by_sequence import ns
from .sink import Phase, Sink
from .stream_list import no_such_stream
from .unmatched import why_empty

NOT_FOUND_FOR = 30.0  # seconds for which the error of a missing stream, with its suggestion, is reused
STORED_WITHIN = 1_000_000_000  # ns after which a message with an earlier time is surely stored
MOST_EXPLAINED = 3  # filters for which why_empty() gives a reason
BEHIND_FOR = 3.0  # seconds for which a stream may end before last_seq; after that it was rolled back


class Reading:
    """The state of one reader of one stream and filter. The reader checks `_doubt` and acts on it."""

    def __init__(
        self,
        connection: Connection,
        stream: str,
        subject: str | None,
        look_back: Callable[[], pd.Timedelta] | None,
        sink: Sink,
        until: int | None,
        end: int | None,
    ) -> None:
        """See Consumer."""
        self.phase: Phase = "connecting"
        self.since = time.time()
        self.why: LookbackError | None = None
        self._not_found_at = 0.0
        self.done = 0
        """Messages received since the replay began."""
        self.pending = 0
        """Messages that the server has not delivered yet."""
        self.last_seq: int | None = None
        """Stream sequence of the last message received, None before the first."""
        self.config: dict[str, Any] = {}
        """The stream's configuration at the last check."""
        self.events = Events(" ".join(part for part in ("stream", stream, subject) if part))
        """The log of its events."""
        self.changed: Callable[[], None] = lambda: None
        self._connection = connection
        self._stream = stream
        self._subject = subject
        self._look_back = look_back
        self._sink = sink
        self._until = until
        self._end = end
        self._to_end = end is not None and until is None  # `until` is then derived from `end`
        self._after = 0  # messages after the end, at the last count
        self._total: int | None = None  # value of `done` once a stretch is read
        self.complete = False
        """True while all messages up to the end have been read."""
        self._made = 0  # consumers created so far
        self.filtered = subject is not None
        self._start: int | None = None
        self._created: str | None = None
        self.history_start: int | None = None
        """When the stream's oldest message was stored, ns since the epoch, UTC, as of the first check that
        found any message; None before. It does not change when messages leave the stream."""
        self._clock = 0  # server's clock minus our monotonic one, ns
        self._behind_since: int | None = None  # since when the stream ends before last_seq, monotonic ns
        self._known_at: int | None = None  # when the server stored the message last_seq
        self._inbox = BlockInbox()
        self._doubt: str | None = None
        self.progress = 0.0
        """Progress of the replay, 0 to 1; it never decreases."""
        self._current_at = time.monotonic()  # all messages stored before this have been delivered
        self._turns = 0  # turns of the replays taken so far
        self._begin_seq: int | None = None  # the first sequence from which all messages fit

    @property
    def created(self) -> str | None:
        """When the stream was created, as text from the server (RFC 3339). It differs if the stream was
        recreated."""
        return self._created

    @property
    def read_to(self) -> int | None:
        """When the server stored the last message received, ns since the epoch, UTC; None if unknown."""
        return self._known_at

    @property
    def restarts(self) -> int:
        """How often the consumer was recreated."""
        return max(0, self._made - 1)

    @property
    def behind(self) -> float:
        """Seconds since we last knew that everything stored had been delivered."""
        return 0.0 if self.complete else time.monotonic() - self._current_at

    def now(self) -> int:
        """The server's clock, ns since the epoch, UTC; our own until the server's is known."""
        return time.monotonic_ns() + self._clock if self._clock else time.time_ns()

    @property
    def left(self) -> int:
        """Messages not received yet, up to the end if there is one."""
        return self.pending if self._total is None else max(0, self._total - self.done)

    def moment(self) -> int:
        """now(), or the end if that has passed."""
        return self.now() if self._end is None else min(self.now(), self._end)

    def _is_over(self) -> bool:
        """True if it reads up to an end in time that has passed: all messages before it are stored by now."""
        return self._to_end and self._end is not None and self.now() > self._end + STORED_WITHIN

    def restart(self, why: str) -> None:
        """Recreate the consumer at the last sequence, or at the look-back if nothing was received yet."""
        if self.last_seq is None:
            self._start = self._begin_seq = None
        self._doubt = why
        self._inbox.arrived.set()

    def read_again(self, why: str) -> None:
        """Read the look-back again; rows delivered so far are void."""
        self.last_seq = self._known_at = None
        self._sink.back_to(0, 0)
        self.restart(why)

    async def fetch_info(self, *, deleted: bool = False) -> dict[str, Any]:
        """The stream's `STREAM.INFO`: state and configuration, and the list of deleted messages if `deleted`
        is true. Starts over if it is another stream than before.

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
            self.start_over("the stream was recreated, restored or rolled back")
        elif self.config and self.config.get("retention") != info["config"].get("retention"):
            self.restart("the stream's retention policy was changed")
        self._created, self.config = info["created"], info["config"]
        if self.history_start is None and info["state"]["messages"]:
            self.history_start = ns(info["state"]["first_ts"])
        return info

    async def why_empty(self, info: dict[str, Any]) -> str:
        """Why nothing matches the filter, as a sentence. `info` is the result of fetch_info()."""
        filters = filters_of(self._subject or ">")[:MOST_EXPLAINED]
        reasons = [await why_empty(self._connection, self._stream, each, info) for each in filters]
        return " ".join(filter(None, reasons))

    def start_over(self, why: str) -> None:
        """Replay from the beginning; everything delivered so far is void."""
        self.last_seq = self._known_at = self._behind_since = self._begin_seq = None
        self.history_start = None
        self._turns, self.done, self.progress = 0, 0, 0.0
        if self._to_end:
            self._until = None
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

    async def _not_found(self) -> StreamNotFound:
        if isinstance(self.why, StreamNotFound) and time.monotonic() - self._not_found_at < NOT_FOUND_FOR:
            return self.why
        error = await no_such_stream(self._connection, self._stream)
        self._not_found_at = time.monotonic()
        return error
