"""Reads plain NATS subjects, without a stream: no history, each message at most once.

What is published while there is no connection is lost, and nobody can tell how much it was. So each
interruption is told: from when the last PING was sent that was answered, since all that was published before
it has come, to the moment that the subscription stands again. Where another connection takes over, since a
token was renewed, both listen for a moment, as one queue group: the server gives each message to one of them,
so none is lost or doubled.
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
from ..decoding.decoders import Raw
from ..errors import LookbackError, RequestFailed, RequestRefused
from ..events import Events
from .ordered_consumer import GATHER, RETRY_AFTER
from .sink import Phase

PULSE = 2.0  # seconds between two signs of life that are asked for
PULSE_TIMEOUT = 3  # seconds

_nuid = NUID()
_log = logging.getLogger(__name__)


class Listener(Protocol):
    """Where a subscriber delivers to."""

    def messages(self, raw: Raw) -> None:
        """New messages, in the order in which they came."""

    def interrupted(self, start: int, end: int) -> None:
        """Nobody listened between `start` and `end` (ns since the epoch, UTC)."""


class Subscriber:
    """One reader of one subject, delivering batches to a sink; `run()` is its whole life."""

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
        """Messages received so far: plain messages carry no sequence, so they are counted as they come."""
        self.changed: Callable[[], None] = lambda: None
        self.events = Events(f"subject {subject}")
        """What has happened to it."""
        self._connection = connection
        self._subject = subject
        self._sink = sink
        self._inbox = Inbox()
        # Only where a connection may take over from another: a permission can be for no queue group
        self._group = _nuid.next().decode() if connection.settings.role else ""
        self._alive: int | None = None  # the last sign of life, ns since the epoch

    @property
    def behind(self) -> float:
        """For how long, in seconds, a sign of life has been due."""
        return 0.0 if self._alive is None else (self.now() - self._alive) / 1e9 - PULSE

    def now(self) -> int:
        """Our own clock, ns since the epoch, UTC: plain NATS has none."""
        return time.time_ns()

    def restart(self, why: str) -> None:
        """Nothing to do: there is no history to start over from."""

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            try:
                client = await self._connection.ready()
                await self._read(client)
            except RequestRefused as error:
                self._enter("stopped", error)
                await asyncio.sleep(RETRY_AFTER)
            except (LookbackError, nats.errors.Error, TimeoutError, OSError) as error:
                why = error if isinstance(error, LookbackError) else RequestFailed("The connection was lost.")
                self._enter("reconnecting", why)
                await self._connection.check()
                await asyncio.sleep(RETRY_AFTER / 4)
            except Exception as error:
                # A mistake of ours must show and be tried again, not leave a feed that stands still.
                _log.exception("reading %s", self._subject)
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
                self._deliver()
                await asyncio.sleep(GATHER)
            pulse.result()
        finally:
            pulse.cancel()
            self._deliver()
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
        """Ends, with the reason, when the connection is no longer alive."""
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
        """The ordinary way in, where the fast one is not to be had."""
        self._inbox.put(message.subject.encode(), b"", message.data, message.headers)

    def _deliver(self) -> None:
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
        self._sink.messages(raw)

    def _enter(self, phase: Phase, why: LookbackError | None = None) -> None:
        if phase != self.phase:
            self.since = time.time()
        if phase != self.phase or why is not None:
            self.events.note(phase, why or "", logging.INFO if why is None else logging.WARNING)
        self.phase, self.why = phase, why
        self.changed()
