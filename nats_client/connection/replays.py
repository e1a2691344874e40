"""A second connection for replays, which take turns on it.

In a replay, the server sends as fast as it can. On the main connection, live messages and replies would wait
behind it, and a server closes a connection with too much pending data ("Slow Consumer", setting
`max_pending`). So replays have a second connection, opened on demand and closed when idle. One replay reads
at a time, in short turns while others wait. Flow control limits the data in flight of one consumer, and the
turns limit that of all of them.
"""

import asyncio
import contextlib
import heapq
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, Protocol, TypeVar

from ..events import Events

SLICE = 0.3  # seconds of a turn while other replays wait
IDLE_AFTER = 10.0  # seconds without a replay after which the connection is closed
OPEN_TIMEOUT = 5.0  # seconds that the connection may take to open
AGAIN_AFTER = 30.0  # seconds until a connection that could not be opened is tried again
SLOWEST, FIRST_LIMIT, FASTEST = 2**17, 2**22, 2**26
"""Rate limits in bytes a second: the lowest, the first after the server has cut the connection, and the one
above which the limit is lifted."""
SPEED_UP_AFTER = 3.0  # seconds without a cut after which a limit is doubled


class Connecting(Protocol):
    """The part of Connection that turns need."""

    why_closed: str
    """The reason in the last event. Set before run() is cancelled."""

    @property
    def state(self) -> Any:
        """Its state, with a `status`, and an `error` if there is no connection."""

    @property
    def reconnects(self) -> int:
        """How often the connection was lost."""

    @property
    def events(self) -> Events:
        """The log of its events."""

    async def run(self) -> None: ...

    async def ready(self) -> object: ...

    async def close(self) -> None: ...


C = TypeVar("C", bound=Connecting)


class Turn(Generic[C]):
    """The right to replay on `connection`."""

    def __init__(self, connection: C, rate: int | None, waiting: Callable[[], bool]) -> None:
        self.connection = connection
        self.rate = rate
        """Rate limit for the server in bytes a second; None for no limit."""
        self._waiting = waiting
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the turn has lasted."""
        return time.monotonic() - self._began

    @property
    def is_over(self) -> bool:
        """True if another replay has waited long enough, or if this one may continue at a higher rate."""
        if self.rate is not None and self.seconds > SPEED_UP_AFTER:
            return True
        return self.seconds > SLICE and self._waiting()


class Replays(Generic[C]):
    """The second connection of a client, for one replay at a time. Everything here runs on one event loop."""

    def __init__(self, main: C, make: Callable[[], C]) -> None:
        self._main = main
        self._make = make
        self._connection: C | None = None
        self._running: asyncio.Task[None] | None = None
        self._closing: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None
        self._busy = False
        self._queue: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._refused_until = 0.0
        self._rate: int | None = None

    @contextlib.asynccontextmanager
    async def turn(self, turns: int) -> AsyncIterator[Turn[C]]:
        """Wait for a turn. `turns` is the number of turns that the caller has had. Callers with fewer go
        first, so that a short replay does not wait for long ones."""
        await self._wait(turns)
        try:
            connection = await self._open()
            turn = Turn(connection, self._rate, lambda: bool(self._queue))
            losses = self._main.reconnects, connection.reconnects
            try:
                yield turn
            finally:
                await self._note_cut(turn, losses)
        finally:
            self._next()

    async def close(self) -> None:
        """End the connection."""
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if self._ending is not None:
            await self._ending
        await self._end(self._main.why_closed)

    async def _wait(self, turns: int) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if not self._busy:
            self._busy = True
            return
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (turns, next(self._order), ready))
        try:
            await ready
        except asyncio.CancelledError:
            if ready.done() and not ready.cancelled():
                self._next()
            raise

    def _next(self) -> None:
        while self._queue:
            _, _, ready = heapq.heappop(self._queue)
            if not ready.done():
                ready.set_result(None)
                return
        self._busy = False
        self._closing = asyncio.get_running_loop().call_later(IDLE_AFTER, self._close_idle)

    async def _open(self) -> C:
        """The replay connection, or the main one if a second cannot be opened."""
        if self._ending is not None:
            await self._ending
        if time.monotonic() < self._refused_until:
            return self._main
        if self._connection is None:
            self._connection = self._make()
            self._running = asyncio.create_task(self._connection.run(), name="replay connection")
        try:
            async with asyncio.timeout(OPEN_TIMEOUT):
                await self._connection.ready()
            return self._connection
        except TimeoutError:
            if self._main.state.status == "connected":
                why = self._connection.state.error or ""
                self._main.events.note("cannot open a second connection for replays", why, logging.WARNING)
                self._refused_until = time.monotonic() + AGAIN_AFTER
                await self._end(f"it could not be opened in {OPEN_TIMEOUT:g} s")
            return self._main

    async def _note_cut(self, turn: Turn[C], before: tuple[int, int]) -> None:
        """Adjust the rate limit. If the server has cut only the replay connection, too much data was pending
        on it, so the next replays are slower."""
        connection = turn.connection
        if connection is self._main:
            return
        if connection.state.status == "connected" and connection.reconnects == before[1]:
            if turn.rate is not None and turn.seconds > SPEED_UP_AFTER:
                self._rate = turn.rate * 2 if turn.rate * 2 < FASTEST else None
            return
        if self._main.state.status != "connected" or self._main.reconnects != before[0]:
            return
        self._rate = FIRST_LIMIT if self._rate is None else max(SLOWEST, self._rate // 2)
        self._main.events.note(
            f"replays limited to {self._rate // 1024} KiB/s",
            "the server closed their connection; its setting 'max_pending' may be small",
            logging.WARNING,
        )

    def _close_idle(self) -> None:
        self._closing = None
        end = self._end(f"no replay for {IDLE_AFTER:g} s")
        self._ending = asyncio.create_task(end, name="close replay connection")
        self._ending.add_done_callback(self._ended)

    def _ended(self, _: "asyncio.Task[None]") -> None:
        self._ending = None

    async def _end(self, why: str) -> None:
        connection, self._connection = self._connection, None
        running, self._running = self._running, None
        if connection is not None:
            connection.why_closed = why
        if running is not None:
            while not running.done():  # in Python 3.11 nats-py can swallow a cancellation
                running.cancel()
                await asyncio.wait({running}, timeout=0.5)
        if connection is not None:
            await connection.close()
