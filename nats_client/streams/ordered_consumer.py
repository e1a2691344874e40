"""Reads a stream in order, exactly once, whatever happens between us and it.

The truth is the stream sequence. The consumer on the server is ephemeral and disposable: after any doubt
(connection lost, heartbeat missed, gap in the consumer sequence, an error status) it is made anew from the
last stream sequence received. That one message comes a second time, and must be the same: otherwise the
stream was restored from a backup, or lost its end, and has been written on since. nats-py's own ordered
consumer is not used: started by time, as a look-back must be, it cannot be created again once its consumer
is gone.

Design: ADR-17 (ordered consumer) of https://github.com/nats-io/nats-architecture-and-design; a push consumer
with flow control, since pull requests across accounts do not notice that the puller has gone.
"""

import asyncio
import contextlib
import logging
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import nats.errors
import numpy as np
import pandas as pd
from nats.aio.msg import Msg
from nats.nuid import NUID

from ..connection.bulk_parser import BEFORE, Arrived, Run, RunInbox
from ..connection.connection import Connection, not_permitted
from ..connection.patched_nats import SafeNatsPy
from ..connection.replays import Turn
from ..decoding.decoders import Raw
from ..errors import LookbackError, NotPermitted, RequestFailed, RequestRefused, StreamNotFound, one_of
from ..events import Events
from ..subjects import matches
from .by_sequence import CONSUMER_AGAIN, EVERY, BySequence, NoConsumerError, check_retention, refused
from .stream_list import list_names
from .unmatched import why_empty

HEARTBEAT = 1.0  # seconds between the server's signs of life on an idle stream
PATIENCE = 3.5  # seconds of silence that put the consumer in doubt
GATHER = 0.05  # seconds in which messages gather to a batch
INACTIVE = 10.0  # seconds after which the server forgets a consumer that nobody listens to
RETRY_AFTER = 1.0  # seconds between tries while the stream cannot be read
TOLD_FOR = 30.0  # seconds for which what there is in place of a stream that is not there is not asked again
MOST_NAMES = 5000
"""Names of streams among which the nearest is looked for."""
CHECK_EVERY = 2.0  # seconds between two looks at whether the consumer is still as it was made
BEHIND_FOR = 3.0  # seconds after which a stream that ends before what was read has lost its end for good
MOST_NAMES = 100_000  # subjects whose text is kept at hand
BUCKET = "KV_"  # how the stream of a key-value bucket begins (ADR-8)
MOST_AT_ONCE = 5_000  # messages decoded between two looks at the loop: pages want the interpreter too
SMALL = 1024 * 1024  # bytes that may be read at once without a turn of the replays
CURRENT_FOR = 3.0  # seconds for which what was known to be complete counts as live
FITTING = 6  # tries to find where the messages begin that a window keeps
SURE = 100_000  # messages read before the size of their rows says how many more fit

_nuid = NUID()
_log = logging.getLogger(__name__)

Phase = Literal["connecting", "replaying", "following", "reconnecting", "stopped"]


class Sink(Protocol):
    """Where a consumer delivers to."""

    def messages(self, raw: Raw) -> None:
        """New messages, in order, each stream sequence once."""

    def recreated(self) -> None:
        """The stream is another one now: what its sequences mean starts over."""

    def gone(self, count: int, start: int, end: int) -> None:
        """`count` messages of the stream, between `start` and `end` (ns since the epoch, UTC), were taken
        from it before they could be read."""

    def room(self) -> int | None:
        """How many messages can be kept at most, as far as that is known; None: all."""

    def left_out(self, count: int, until: int) -> None:
        """`count` messages, the newest stored at `until` (ns since the epoch, UTC), were not read since newer
        ones take all the room; so did what was delivered before."""

    def back_to(self, seq: int, stored: int) -> None:
        """What was delivered behind `seq`, which was stored at `stored` (ns since the epoch, UTC), is void:
        some of it may have been left out. It comes again, complete."""


class _AnotherStreamError(Exception):
    """The last message, sent once more, is another one than it was."""


@dataclass(slots=True)
class _At:
    """How far a batch has been taken in."""

    last: int
    """Stream sequence of the last message."""
    expected: int
    """Consumer sequence of the next."""
    pending: int
    known_at: int | None


class _DoubtError(Exception):
    """The consumer can no longer be trusted; the text says why."""


class _MovedError(Exception):
    """Another connection has taken over from the one that is read, or should; nothing is in doubt."""


class _HinderedError(Exception):
    """The server waits for an answer that the login does not permit to give; the text is its subject."""


class Consumer:
    """One reader of one stream and filter, delivering batches to a sink; `run()` is its whole life."""

    def __init__(
        self,
        connection: Connection,
        stream: str,
        subject: str | None,
        look_back: Callable[[], pd.Timedelta] | None,
        sink: Sink,
        *,
        until: int | None = None,
    ) -> None:
        """Without a look-back, the newest message of each subject comes first; that needs a filter."""
        self.phase: Phase = "connecting"
        self.since = time.time()
        self.why: LookbackError | None = None
        self._told_at = 0.0
        self.hindered: LookbackError | None = None
        """Why it is read in steps of about a megabyte a second: the login does not permit flow control."""
        self.by_sequence: str | None = None
        """Why it is read by sequence, without a consumer on the server; None: it is not."""
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
        self._from_first = False  # the server cannot be asked for a time
        self._created: str | None = None
        self._clock = 0  # server's clock minus our monotonic one, ns
        self._expected = 1
        self._behind_since: int | None = None  # when the stream began to end before last_seq, monotonic ns
        self._known_at: int | None = None  # when the server had stored the message last_seq
        self._inbox = RunInbox()
        self._subjects: dict[bytes, str] = {}
        self._doubt: str | None = None
        self._denied: asyncio.Future[None] | None = None
        self._moving = False  # to another connection: no doubt, and nothing that a reader need know of
        self._flow: asyncio.Future[None] | None = None  # done when flow control is denied
        self._flow_subject = ""
        self._deaf = False  # whether nothing of the last consumer has arrived, heartbeats included
        self.progress = 0.0
        """How far the replay is, 0 to 1; never less than it was."""
        self._current_at = time.monotonic()  # all that was stored by then has been delivered
        self._on = connection  # where it is read: the connection of replays, or the one of everything else
        self._turn: Turn[Connection] | None = None
        self._turns = 0
        self._begin_seq: int | None = None  # where the messages begin that can be kept
        self._unread: int | None = None  # messages before that, not told yet
        self._per_message = 0.0  # bytes, on average

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
            self._clock = _ns(ts) - (asked + time.monotonic_ns()) // 2
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

    async def run(self) -> None:
        """Read until cancelled; with `until`, up to the message before that stream sequence."""
        while True:
            try:
                if self._moving and self._connection.state.status != "connected":
                    raise _DoubtError("the connection to the server was lost")
                await self._connection.ready()
                try:
                    if await self._read_where_it_fits():
                        return
                except NoConsumerError as reason:
                    if await self._read_by_sequence(reason):
                        return
            except _MovedError:
                self._moving = True
                continue
            except _HinderedError as error:
                self.hindered = not_permitted("to publish to", str(error))
                self.events.note("read in steps", self.hindered, logging.WARNING)
                self.changed()
                await asyncio.sleep(RETRY_AFTER)
            except _DoubtError as doubt:
                self._enter("reconnecting", RequestFailed(str(doubt)))
            except StreamNotFound:
                self._enter("stopped", await self._no_stream())
                await asyncio.sleep(RETRY_AFTER)
            except RequestRefused as error:
                self._enter("stopped", error)
                await asyncio.sleep(RETRY_AFTER)
            except LookbackError as error:
                self._enter("reconnecting", error)
                await asyncio.sleep(RETRY_AFTER / 4)
            except (TimeoutError, OSError, nats.errors.Error) as error:
                self._enter("reconnecting", RequestFailed(str(error) or "The server does not answer."))
                await asyncio.sleep(RETRY_AFTER / 4)
            except Exception as error:
                # A mistake of ours must show and be tried again, not leave a feed that stands still.
                _log.exception("reading %s", self._stream)
                self._enter("stopped", LookbackError(f"Reading {self._stream!r} failed: {error!r}."))
                await asyncio.sleep(RETRY_AFTER)
            self._moving = False
            if self.phase == "reconnecting":
                await self._connection.check()

    async def _read_where_it_fits(self) -> bool:
        """Read on the connection of everything else what is little, and on that of replays, when it is this
        one's turn, what is much. True when `until` is reached."""
        info = await self.look()
        check_retention(info["config"])
        if self._bytes_ahead(info["state"]) <= SMALL:
            self._on, self._turn = self._connection, None
            return await self._read_on(info)
        try:
            async with self._connection.replays.turn(self._turns) as self._turn:
                self._turns += 1
                self._on = self._turn.connection
                try:
                    return await self._read_on(await self.look())
                except _DoubtError:
                    lost = self._on is not self._connection and self._on.state.status != "connected"
                    if lost and self._connection.state.status == "connected":
                        raise _MovedError from None  # it goes on by itself, more slowly
                    raise
        finally:
            self._on, self._turn = self._connection, None

    async def _read_on(self, info: dict[str, Any]) -> bool:
        client = await self._on.ready()
        async with self._attached(client, info) as doubt_at:
            return await self._read(client, doubt_at)

    def _bytes_ahead(self, state: dict[str, Any]) -> float:
        """How many bytes of the stream there are to be read at most."""
        if not state["messages"]:
            return 0
        self._per_message = state["bytes"] / state["messages"]
        if self.last_seq is None:
            return float(state["bytes"])
        last = int(state["last_seq"]) if self._until is None else self._until
        return float(max(0, last - self.last_seq) * self._per_message)

    @contextlib.asynccontextmanager
    async def _attached(self, client: SafeNatsPy, info: dict[str, Any]) -> Any:
        """A fresh consumer on the server, listening; gone again at the end."""
        before = self._created
        name = _nuid.next().decode()
        address = client.new_inbox()
        self._inbox = RunInbox()
        self._subjects = {}
        self._expected = 1
        self._doubt = None
        denial = self._on.denial
        with denial(address) as self._denied, denial(f".{name}.") as self._flow:
            for denied in (self._denied, self._flow):
                denied.add_done_callback(lambda _: self._inbox.arrived.set())
            listening = await client.subscribe(
                address, cb=self._receive, pending_msgs_limit=-1, pending_bytes_limit=-1
            )
            client.tap(listening, self._inbox)
            try:
                answer = await self._create(name, address, info["state"])
                self._made += not (self._moving and self._made)
                if await self._passes_over(answer, info["state"]):
                    self._from_first = True
                    raise _DoubtError("the server passes over messages of the look-back")
                await self.look()
                if self._created != before:
                    raise _DoubtError("the stream was recreated meanwhile")
                if self._doubt:
                    raise _DoubtError(self._doubt)
                self.by_sequence = None
                self.pending = int(answer.get("num_pending", 0))
                if not self._moving and self.phase != "reconnecting":
                    self.done, self.progress = 0, 0.0
                if not self._deaf and not (self._moving and self.phase == "following"):
                    self._enter("replaying" if self.pending else "following")
                self._moving = False
                checking = asyncio.create_task(
                    self._check(answer, info["state"], self.last_seq, self._known_at)
                )
                try:
                    yield time.monotonic() + PATIENCE
                finally:
                    checking.cancel()
            finally:
                client.untap(listening)
                with contextlib.suppress(Exception):
                    await listening.unsubscribe()
                with contextlib.suppress(Exception):
                    subject = f"{self._connection.api_prefix}.CONSUMER.DELETE.{self._stream}.{name}"
                    await client.publish(subject)

    async def _create(self, name: str, address: str, state: dict[str, Any]) -> dict[str, Any]:
        config: dict[str, Any] = {
            "name": name,
            "deliver_subject": address,
            "ack_policy": "none",
            "max_deliver": 1,
            "replay_policy": "instant",
            "mem_storage": True,
            "num_replicas": 0,  # as many as the stream wants
            "flow_control": True,
            "idle_heartbeat": int(HEARTBEAT * 1e9),
            "inactive_threshold": int(INACTIVE * 1e9),
        }
        limits = self.config.get("consumer_limits") or {}
        if 0 < (shortest := limits.get("inactive_threshold", 0)) < config["inactive_threshold"]:
            config["inactive_threshold"] = shortest
        if self._turn is not None and self._turn.rate is not None:
            config["rate_limit_bps"] = self._turn.rate * 8
        if self.last_seq is not None:
            config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": max(1, self.last_seq)}
        elif self._look_back is None:
            config |= {"deliver_policy": "last_per_subject"}
        else:
            if self._start is None:
                self._start = self.now() - self._look_back().value
            if self._from_first or (state["messages"] and _ns(state["first_ts"]) >= self._start):
                config |= {"deliver_policy": "all"}
            else:
                start = datetime.fromtimestamp(self._start / 1e9, UTC).isoformat()
                config |= {"deliver_policy": "by_start_time", "opt_start_time": start}
            if self._turn is not None and self._begin_seq is None:
                await self._find_beginning(config, state)
            if self._begin_seq is not None:
                config.pop("opt_start_time", None)
                config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": self._begin_seq}
        return await self._ask_for(config)

    async def _ask_for(self, config: dict[str, Any]) -> dict[str, Any]:
        subject = f"CONSUMER.CREATE.{self._stream}.{config['name']}"
        if self._subject is not None:
            config["filter_subject"] = self._subject
            subject += f".{self._subject}"  # a permission can pin the filter this way
        request = {"stream_name": self._stream, "config": config, "action": "create"}
        try:
            return await self._on.api(subject, request)
        except NotPermitted:
            raise
        except RequestRefused as error:
            raise refused(error) from error

    async def _count(self, start: dict[str, Any]) -> int:
        """How many messages a consumer with this start has to deliver. It is one that delivers nothing."""
        name = _nuid.next().decode()
        config = start | {
            "name": name,
            "ack_policy": "none",
            "mem_storage": True,
            "num_replicas": 0,
            "inactive_threshold": int(HEARTBEAT * 1e9),
        }
        answer = await self._ask_for(config)
        with contextlib.suppress(LookbackError):
            await self._on.api(f"CONSUMER.DELETE.{self._stream}.{name}")
        return int(answer.get("num_pending", 0))

    async def _find_beginning(self, config: dict[str, Any], state: dict[str, Any]) -> None:
        """Where more is stored than can be kept: have it read from where it fits. The server says how many
        messages there are from a sequence on, so a few guesses between two known points find it."""
        room = self._sink.room()
        if room is None or self._until is not None or int(state["messages"]) <= room:
            return
        start: dict[str, Any] = {"deliver_policy": config["deliver_policy"]}
        if "opt_start_time" in config:
            start["opt_start_time"] = config["opt_start_time"]
        count = await self._count(start)
        if count <= room:
            return
        low, high = int(state["first_seq"]), int(state["last_seq"]) + 1
        at_low, at_high = count, 0
        most, guess, held = room, high, 0
        for _ in range(FITTING):
            share = (at_low - 0.98 * most) / max(1, at_low - at_high)
            guess = min(high - 1, max(low + 1, low + int((high - low) * share)))
            held = await self._count({"deliver_policy": "by_start_sequence", "opt_start_seq": guess})
            if held > most:
                low, at_low = guess, held
            else:
                high, at_high = guess, held
                if held > 0.9 * most:
                    break
        if at_high:
            self._begin_seq, self._unread = high, count - at_high

    async def _check(
        self, made: dict[str, Any], state: dict[str, Any], last: int | None, known_at: int | None
    ) -> None:
        """See to it that the consumer stays as it was made: an administrator can pause it, or have it leave
        messages out, and neither shows in what it sends. What came since the last look comes again."""
        first = int(state["first_seq"]) - 1
        sound = last, known_at
        while True:
            asked = self.last_seq, self._known_at
            try:
                info = await self._connection.api(f"CONSUMER.INFO.{self._stream}.{made['name']}")
            except NotPermitted:
                return
            except RequestRefused as error:
                self.restart(str(error))
                return
            except (LookbackError, TimeoutError, OSError):
                pass  # others look at whether the server answers
            else:
                if info.get("paused") or _settings(info) != _settings(made):
                    self.last_seq, self._known_at = sound
                    self._sink.back_to(first if sound[0] is None else sound[0], sound[1] or 0)
                    self.restart("the consumer was paused, or changed")
                    return
                sound = asked
            await asyncio.sleep(CHECK_EVERY)

    async def _read_by_sequence(self, reason: NoConsumerError) -> bool:
        """Deliver what the stream holds without a consumer; True when `until` is reached, False when it is
        time to ask for one again. Raises _DoubtError, LookbackError."""
        reader = BySequence(self._connection, self._stream, self._subject, str(reason))
        self.by_sequence, self._doubt, self._moving = str(reason), None, False
        self.events.note("read by sequence", reason)
        self._inbox = RunInbox()
        again = None if reason.for_good else time.monotonic() + CONSUMER_AGAIN
        info = await self.look()
        if self.last_seq is not None:
            stored = await reader.stored(self.last_seq)
            if None not in (stored, self._known_at) and stored != self._known_at:
                self.start_over("the stream is another one now")
        at = await self._begin(reader, info["state"])
        if self.phase != "following":
            self.done = 0
            self._enter("replaying")
        while True:
            if self._doubt:
                raise _DoubtError(self._doubt)
            state = info["state"]
            last, ends = int(state["last_seq"]), self._until is not None
            if self._until is not None:
                last = min(last, self._until - 1)
            at = max(at, int(state["first_seq"]))
            while at <= last:
                raw, at = await reader.some(at, last, state)
                if self._doubt:
                    raise _DoubtError(self._doubt)
                self.pending = max(0, last + 1 - at)
                self._deliver_found(raw)
            self.pending = 0
            if ends:
                return True
            if self.phase != "following":
                self._enter("following")
            self._current_at = time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await self._inbox.arrived.wait()  # until there is a doubt
            if again is not None and time.monotonic() > again:
                return False
            info = await self.look()

    async def _begin(self, reader: BySequence, state: dict[str, Any]) -> int:
        if self.last_seq is not None:
            return self.last_seq + 1
        if self._look_back is None:
            return int(state["first_seq"])
        if self._start is None:
            self._start = self.now() - self._look_back().value
        return await reader.since(self._start, state)

    def _deliver_found(self, raw: Raw) -> None:
        if not len(raw):
            return
        if self._subject is None:
            before, known = self.last_seq, self._known_at
            for seq, stored in zip(raw.seq, raw.received, strict=True):
                if before is not None and known is not None and seq > before + 1:
                    self._sink.gone(seq - before - 1, known, stored)
                before, known = seq, stored
        self._sink.messages(raw)
        self.done += len(raw)
        self.last_seq, self._known_at = raw.seq[-1], raw.received[-1]

    async def _passes_over(self, answer: dict[str, Any], state: dict[str, Any]) -> bool:
        """Whether a consumer that begins at a time stands behind messages of that time. After a purge that
        rewrites the newest part of a stream, nats-server 2.15.1 takes each time for one after the end."""
        by_time = answer["config"].get("deliver_policy") == "by_start_time"
        at_end = by_time and answer["delivered"]["stream_seq"] >= state["last_seq"] and state["messages"]
        if not at_end or self._start is None or _ns(state["last_ts"]) < self._start:
            return False
        if self._subject is None:
            return True
        try:  # of a filter, there may be none
            last = await self._connection.api(
                f"STREAM.MSG.GET.{self._stream}", {"last_by_subj": self._subject}
            )
        except RequestRefused:
            return False
        return _ns(last["message"]["time"]) >= self._start

    async def _receive(self, message: Msg) -> None:
        """The ordinary way in, where the fast one is not to be had."""
        self._inbox.put(message.subject.encode(), message.reply.encode(), message.data, message.headers)

    async def _read(self, client: SafeNatsPy, deadline: float) -> bool:
        """Deliver what arrives; True when `until` is reached. Raises _DoubtError."""
        if self._until is not None and not self.pending:
            return True
        inbox, heard = self._inbox, False
        while True:
            looked = time.monotonic()
            # Not wait_for: in Python 3.11 it can swallow a cancellation.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT / 2):
                    await inbox.arrived.wait()
            inbox.arrived.clear()
            if self._denied is not None and self._denied.done():
                raise not_permitted("to subscribe to", self._connection.inboxes)
            if self._flow is not None and self._flow.done():
                raise _HinderedError(self._flow_subject)
            if self._doubt:
                raise _DoubtError(self._doubt)
            if self._on.has_moved(client) or self._should_move():
                raise _MovedError
            if inbox.messages:
                if not heard:
                    heard = True
                    self._hear()
                deadline = time.monotonic() + PATIENCE
                while inbox.messages and not self._doubt:
                    await self._deliver(client, _some(inbox.messages))
                    if self._turn is not None and (self._turn.is_over or self._skips()):
                        raise _MovedError
                    if self._until is not None and (self._reached() or not self.pending):
                        return True
                    await asyncio.sleep(0)
                if not self.pending:
                    self._current_at = time.monotonic()
                if self.phase == "following":  # in a replay they come as fast as they are taken
                    await asyncio.sleep(GATHER)
            elif not client.is_connected:
                raise _DoubtError("the connection to the server was lost")
            elif time.monotonic() - looked > 2 * HEARTBEAT:
                deadline = time.monotonic() + PATIENCE  # we slept, not the server: it gets another chance
            elif time.monotonic() > deadline:
                raise _DoubtError("the server's heartbeat is missing" if heard else self._nothing_heard())

    def _should_move(self) -> bool:
        """Whether it is time for the other connection: a replay is over, or so much has come at once that
        reading on is one."""
        if self._turn is not None:
            return self._on is not self._connection and not self.pending and self._until is None
        return self.pending * self._per_message > 4 * SMALL

    def _skips(self) -> bool:
        """Have a replay that brings far more than can be kept go on from where it fits; true when so."""
        room = self._sink.room()
        if room is None or self.done < SURE or self._begin_seq is not None or self._until is not None:
            return False
        if self._look_back is None or self.pending < 1.5 * room:
            return False
        self.last_seq = self._known_at = None
        self._unread = None
        self._sink.left_out(0, 0)
        return True

    def _hear(self) -> None:
        if self._deaf:
            self._deaf = False
            self._enter("replaying" if self.pending else "following")

    def _nothing_heard(self) -> str:
        self._deaf = True
        return (
            f"The server has made a consumer of {self._stream!r}, and nothing of it arrives at "
            f"{self._connection.inboxes!r}. Where the stream is another account's, 'inbox_prefix' must be "
            "below what that account exports."
        )

    def _reached(self) -> bool:
        return self._until is not None and self.last_seq is not None and self.last_seq + 1 >= self._until

    async def _deliver(self, client: SafeNatsPy, batch: "list[Arrived | Run]") -> None:
        """Hand the batch to the sink, as far as it is in order; then answer flow control."""
        raw = Raw()
        at = _At(
            self.last_seq if self.last_seq is not None else -1, self._expected, self.pending, self._known_at
        )
        replies: list[str] = []
        doubt: str | None = None
        if len(self._subjects) > MOST_NAMES:
            self._subjects.clear()
        try:
            for part in batch:
                if isinstance(part, Run):
                    doubt = self._take_run(part, raw, at)
                elif part[1].startswith(b"$JS.ACK."):
                    doubt = self._take(*part, raw, at)
                else:
                    _, reply, _, headers = part
                    doubt = self._status(reply.decode(), headers or {}, replies, at.expected)
                    if not doubt and _is_idle(reply, headers or {}):
                        at.pending = 0  # what was counted and has not come was purged meanwhile
                if doubt:
                    break
        except _AnotherStreamError:
            self.start_over("the stream is another one now")
            return
        if len(raw):
            if self._unread is not None:
                self._sink.left_out(self._unread, raw.received[0] - 1)
                self._unread = None
            self._sink.messages(raw)  # first: what it could not take must come again
            self.done += len(raw)
            stored = (raw.received[-1] - self._clock) / 1e9 if self._clock else 0.0
            self._current_at = max(self._current_at, min(stored, time.monotonic()))
        self._expected = at.expected
        self._known_at = at.known_at
        self.pending = at.pending
        self.progress = max(self.progress, self.done / max(1, self.done + self.pending))
        if at.last >= 0:
            self.last_seq = at.last
        if not doubt and not self.pending and self.phase == "replaying":
            self._enter("following")
        for asked in replies:
            self._flow_subject = ".".join([*asked.split(".")[:-2], ">"])  # without consumer and number
            await client.publish(asked)
        if replies and self.hindered is not None and self._flow is not None:
            await client.flush(int(PATIENCE))  # a refusal comes before the answer to this
            if not self._flow.done():
                self.hindered = None
        if doubt:
            raise _DoubtError(doubt)

    def _take(
        self,
        subject: bytes,
        reply: bytes,
        payload: bytes,
        headers: dict[str, str] | None,
        raw: Raw,
        at: "_At",
    ) -> str | None:
        """Take in one message; why the consumer is in doubt, if it is. Raises _AnotherStreamError."""
        tokens = reply.split(b".")
        # $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>, in the second
        # version with <domain>.<account> in front of the stream (ADR-15).
        first = 5 if len(tokens) == 9 else 7
        ack = list(map(int, tokens[first : first + 4]))
        return self._take_one(subject, ack, payload, headers, raw, at)

    def _take_one(
        self,
        subject: bytes,
        ack: list[int],
        payload: bytes,
        headers: dict[str, str] | None,
        raw: Raw,
        at: "_At",
    ) -> str | None:
        seq, order, stored, pending = ack
        if order != at.expected:
            return f"message {at.expected} of the consumer is missing"
        at.expected += 1
        at.pending = pending
        limit = self._until if self._until is not None else 2**63
        if at.last < seq < limit:
            if self._subject is None and at.known_at is not None and seq != at.last + 1:
                self._sink.gone(seq - at.last - 1, at.known_at, stored)
            at.known_at = stored
            raw.seq.append(seq)
            raw.received.append(stored)
            raw.subject.append(self._name(subject))
            raw.payload.append(payload)
            if headers:
                raw.headers[seq] = headers
            at.last = seq
        elif seq >= limit:
            if self._subject is None and at.known_at is not None and at.last < limit - 1:
                self._sink.gone(limit - 1 - at.last, at.known_at, stored)
            at.last = max(at.last, limit - 1)
        elif seq == at.last and at.known_at is not None and stored != at.known_at:
            raise _AnotherStreamError
        return None

    def _take_run(self, run: Run, raw: Raw, at: "_At") -> str | None:
        """As _take for each message of a run; at once, where nothing about them is out of the ordinary."""
        seq, order, stored, pending = run.acks.T
        count = len(run)
        in_order = bool((order == np.arange(at.expected, at.expected + count)).all())
        ascending = seq[0] > at.last and bool((seq[1:] > seq[:-1]).all())
        if not in_order or not ascending or (self._until is not None and seq[-1] >= self._until):
            for subject, ack, payload in zip(run.subjects, run.acks.tolist(), run.payloads, strict=True):
                if doubt := self._take_one(subject.removeprefix(BEFORE), ack, payload, None, raw, at):
                    return doubt
            return None
        if self._subject is None and at.known_at is not None and seq[-1] - at.last != count:
            before, known = np.append(at.last, seq[:-1]), np.append(at.known_at, stored[:-1])
            for i in np.flatnonzero(seq - before > 1).tolist():
                self._sink.gone(int(seq[i] - before[i] - 1), int(known[i]), int(stored[i]))
        elif self._subject is None and seq[-1] - seq[0] != count - 1:
            for i in (np.flatnonzero(np.diff(seq) > 1) + 1).tolist():
                self._sink.gone(int(seq[i] - seq[i - 1] - 1), int(stored[i - 1]), int(stored[i]))
        raw.seq.extend(array("q", seq.tobytes()))
        raw.received.extend(array("q", stored.tobytes()))
        names = self._subjects
        for subject in set(run.subjects).difference(names):
            names[subject] = self._name(subject.removeprefix(BEFORE))
        raw.subject.extend(map(names.__getitem__, run.subjects))
        raw.payload.extend(run.payloads)
        at.expected += count
        at.last, at.known_at, at.pending = int(seq[-1]), int(stored[-1]), int(pending[-1])
        return None

    def _name(self, subject: bytes) -> str:
        name = self._subjects.get(subject)
        if name is None:
            name = subject.decode("utf-8", "replace")
            if self._subject is not None and not matches(name, self._subject):
                raise _DoubtError(f"the consumer sends {name!r}, which was not asked for")
            self._subjects[subject] = name
        return name

    def _status(self, reply: str, headers: dict[str, str], replies: list[str], expected: int) -> str | None:
        """Take a control message; why the consumer is in doubt, if it is. Flow control is answered later,
        when what came before it is in the window: that bounds what is under way."""
        status = headers.get("Status", "")
        if status == "100":
            if reply:
                replies.append(reply)
            elif stalled := headers.get("Nats-Consumer-Stalled"):
                replies.append(stalled)
            told = headers.get("Nats-Last-Consumer")
            if told is not None and int(told) >= expected:
                return f"messages {expected} to {told} of the consumer are missing"
            return None
        return f"the server says: {status} {headers.get('Description', '')}".strip()

    def _enter(self, phase: Phase, why: LookbackError | None = None) -> None:
        if phase != self.phase:
            self.since = time.time()
        if phase != self.phase or why is not None:
            self.events.note(phase, why or "", logging.INFO if why is None else logging.WARNING)
        self.phase, self.why = phase, why
        self.changed()

    async def _no_stream(self) -> StreamNotFound:
        if isinstance(self.why, StreamNotFound) and time.monotonic() - self._told_at < TOLD_FOR:
            return self.why
        known: Sequence[str] | None = self._connection.rights.streams
        if known is None:
            with contextlib.suppress(LookbackError, OSError):
                known = await list_names(self._connection, MOST_NAMES)
        names = list(known or ())
        name, what = self._stream, "stream"
        if name.startswith(BUCKET):
            name, what = name.removeprefix(BUCKET), "bucket"
            names = [other.removeprefix(BUCKET) for other in names if other.startswith(BUCKET)]
        near = ""
        if known is not None:  # in a thread: of thousands the nearest takes a while
            near = await asyncio.to_thread(one_of, name, set(names) - {name}, what=what)
        self._told_at = time.monotonic()
        return StreamNotFound(f"There is no {what} {name!r} on this server. {near}".strip())


def _some(messages: "list[Arrived | Run]") -> "list[Arrived | Run]":
    """The first of `messages`, about MOST_AT_ONCE, taken out of the list."""
    count, end = 0, 0
    while end < len(messages) and count < MOST_AT_ONCE:
        part = messages[end]
        count += len(part) if isinstance(part, Run) else 1
        end += 1
    some = messages[:end]
    del messages[:end]
    return some


def _settings(info: dict[str, Any]) -> dict[str, Any]:
    """What a consumer is set to; the server notes in the metadata what it needs to know for itself."""
    return {
        name: value
        for name, value in info["config"].items()
        if name not in ("metadata", "pause_until") and value
    }


def _is_idle(reply: bytes, headers: dict[str, str]) -> bool:
    """Whether a control message is the heartbeat of a consumer that has nothing to deliver; one that waits
    for an answer to its flow control says that it is stalled, or asks for it."""
    return not reply and "Nats-Last-Consumer" in headers and "Nats-Consumer-Stalled" not in headers


def _ns(text: str) -> int:
    """An RFC 3339 time of the server, with up to nine digits of a second, in ns since the epoch."""
    return int(pd.Timestamp(text).value)
