"""Reads plain NATS subjects, without a stream: no history, each message at most once.

Messages published while there is no connection are lost, and their number is unknown. So each interruption is
reported. It starts when the last answered PING was sent, because everything published before that has
arrived. It ends when the subscription is active again. When another connection takes over after a token was
renewed, both are subscribed for a moment, as one queue group: the server gives each message to one of them,
so none is lost or duplicated.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.nuid import NUID

from ..connection.bulk_parser import Inbox
from ..connection.connection import Connection, not_permitted
from ..connection.patched_nats import SafeNatsPy
from ..decoding.raw import Raw
from ..errors import LookbackError, RequestFailed, RequestRefused, SqlError
from ..events import Events
from .ordered_consumer import GATHER, RETRY_AFTER, TOO_SLOW_FOR
from .sink import Phase

PULSE = 2.0  # seconds between PINGs
PULSE_TIMEOUT = 3  # seconds

_nuid = NUID()
_log = logging.getLogger(__name__)


class Listener(Protocol):
    """Receives what a subscriber delivers."""

    async def messages(self, raw: Raw) -> int:
        """Take new messages, in order of arrival. Returns how many were taken, from the first on; the rest is
        delivered again. Raises SqlError if the feed's expressions take too long."""

    def interrupted(self, start: int, end: int) -> None:
        """Record that there was no subscription between `start` and `end` (ns since the epoch, UTC)."""


class Subscriber:
    """Reads one subject and delivers batches to a sink, for as long as run() runs."""

    def __init__(self, connection: Connection, subject: str, sink: Listener) -> None:
        self.phase: Phase = "connecting"
        self.since = time.time()
        self.why: LookbackError | None = None
        self.done = 0
        """Messages received."""
        self.pending = 0
        self.restarts = 0
        self.progress = 1.0
        self.last_seq: int | None = None
        """Messages received so far. Plain messages have no sequence, so they are numbered on arrival."""
        self.history_start: int | None = self.now()
        """When reading began, ns since the epoch, UTC: there are no older messages."""
        self.changed: Callable[[], None] = lambda: None
        self.events = Events(f"subject {subject}")
        """The log of its events."""
        self._connection = connection
        self._subject = subject
        self._sink = sink
        self._inbox = Inbox()
        # Only if a takeover is possible, because a permission may exclude queue groups.
        self._group = _nuid.next().decode() if connection.settings.role else ""
        self._alive: int | None = None  # when the last answered PING was sent, ns since the epoch

    @property
    def behind(self) -> float:
        """Seconds by which the next answered PING is overdue; below zero if it is not due yet."""
        return 0.0 if self._alive is None else (self.now() - self._alive) / 1e9 - PULSE

    def now(self) -> int:
        """Our own clock, ns since the epoch, UTC: plain NATS has none."""
        return time.time_ns()

    def restart(self, why: str) -> None:
        """A no-op: plain subjects have no history to replay."""

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            try:
                client = await self._connection.ready()
                await self._read(client)
            except RequestRefused as error:
                self._enter("stopped", error)
                await asyncio.sleep(RETRY_AFTER)
            except SqlError as error:
                self._enter("stopped", error)
                await asyncio.sleep(TOO_SLOW_FOR)
            except (LookbackError, nats.errors.Error, TimeoutError, OSError) as error:
                why = error if isinstance(error, LookbackError) else RequestFailed("The connection was lost.")
                self._enter("reconnecting", why)
                await self._connection.check()
                await asyncio.sleep(RETRY_AFTER / 4)
            except Exception as error:
                # A bug of ours must be visible and retried; it must not leave a feed that stands still.
                _log.exception("Reading %s failed.", self._subject)
                self._enter("stopped", LookbackError(f"Reading {self._subject!r} failed: {error!r}."))
                await asyncio.sleep(RETRY_AFTER)

    async def _read(self, client: SafeNatsPy) -> None:
        with self._connection.denial(self._subject) as denied:
            await self._listen(client, denied)

    async def _listen(self, client: SafeNatsPy, denied: "asyncio.Future[None]") -> None:
        self._inbox = Inbox()
        listening = await self._subscribe(client)
        pulse = asyncio.create_task(self._pulse(client, denied))
        try:
            began = self.now()
            await client.flush(PULSE_TIMEOUT)
            if denied.done():
                raise not_permitted("to subscribe to", self._subject)
            if self._alive is not None:
                self.restarts += 1
                end = self.now()
                self._sink.interrupted(self._alive, end)
                began = end
            self._alive = began
            self._enter("following")
            while not pulse.done():
                if self._connection.has_moved(client):
                    before, client = (client, listening), await self._connection.ready()
                    listening = await self._subscribe(client)
                    await client.flush(PULSE_TIMEOUT)
                    pulse.cancel()
                    pulse = asyncio.create_task(self._pulse(client, denied))
                    await before[1].drain()  # type: ignore[no-untyped-call]
                    before[0].untap(before[1])
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(GATHER * 10):
                        await self._inbox.arrived.wait()
                self._inbox.arrived.clear()
                await self._deliver()
                await asyncio.sleep(GATHER)
            pulse.result()
        finally:
            pulse.cancel()
            with contextlib.suppress(SqlError):  # it has been reported, or the feed is closed
                await self._deliver()
            client.untap(listening)
            with contextlib.suppress(Exception):
                await listening.unsubscribe()

    async def _subscribe(self, client: SafeNatsPy) -> Subscription:
        listening = await client.subscribe(
            self._subject,
            self._group,
            cb=self._receive,
            pending_msgs_limit=-1,
            pending_bytes_limit=-1,
        )
        client.tap(listening, self._inbox)
        return listening

    async def _pulse(self, client: SafeNatsPy, denied: "asyncio.Future[None]") -> None:
        """Run until the connection is no longer alive. Raises the reason."""
        lost = asyncio.ensure_future(client.ended.wait())
        try:
            await self._ask(client, {denied, lost}, denied)
        finally:
            lost.cancel()

    async def _ask(
        self, client: SafeNatsPy, ends: "set[asyncio.Future[Any]]", denied: "asyncio.Future[None]"
    ) -> None:
        while True:
            await asyncio.wait(ends, timeout=PULSE, return_when=asyncio.FIRST_COMPLETED)
            if denied.done():
                raise not_permitted("to subscribe to", self._subject)
            if client.ended.is_set():
                raise nats.errors.ConnectionClosedError
            asked = self.now()
            await client.flush(PULSE_TIMEOUT)
            self._alive = asked

    async def _receive(self, message: Msg) -> None:
        """The fallback when the fast parser is not available."""
        self._inbox.put(message.subject.encode(), b"", message.data, message.headers)

    async def _deliver(self) -> None:
        batch, self._inbox.messages = self._inbox.messages, []
        if not batch:
            return
        now, last = self.now(), self.last_seq or 0
        raw = Raw(
            list(range(last + 1, last + 1 + len(batch))),
            [now] * len(batch),
            [subject.decode("utf-8", "replace") for subject, _, _, _ in batch],
            [payload for _, _, payload, _ in batch],
        )
        self.last_seq = last + len(batch)
        self.done += len(batch)
        while len(raw) and (taken := await self._sink.messages(raw)):
            raw = raw.after(taken)

    def _enter(self, phase: Phase, why: LookbackError | None = None) -> None:
        if phase != self.phase:
            self.since = time.time()
        if phase != self.phase or why is not None:
            self.events.note(phase, why or "", logging.INFO if why is None else logging.WARNING)
        self.phase, self.why = phase, why
        self.changed()
