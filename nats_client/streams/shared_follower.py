"""One consumer on the server for many feeds that differ in one token of their subject.

Each consumer costs the server a heartbeat a second and a reply every other second. If enough feeds of one
stream differ only in one literal token, they share a consumer with `*` in its place once they have caught up.
The shared consumer ends at any doubt. Each feed then continues with a consumer of its own, from its own last
message. So the completeness of a feed does not depend on fault handling here.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from functools import partial

import nats.errors
import pandas as pd

from ..connection.connection import Connection, end_tasks
from ..decoding.raw import Raw
from ..errors import LookbackError, NotPermitted
from .by_sequence import NoConsumerError, check_retention
from .ordered_consumer import CHECK_EVERY, Consumer, FlowControlDeniedError, MovedError
from .seat import Seat
from .sequence import DoubtError

SIBLINGS = 8
"""Minimum number of subjects for a shared consumer to start; it ends when fewer than half are left."""
ASKED_FOR = 2.5 * CHECK_EVERY
"""Seconds for which a feed's request for a seat counts."""
FORMING = 10.0
"""Seconds that feeds have to take their seats."""
AGAIN_AFTER = 5.0
"""Seconds after the end of a shared consumer before another one may start."""
NOISY_FOR = 600.0
"""Seconds before another shared consumer may start, if the last one delivered too many unwanted messages or
was refused by the server."""
COUNTED_FOR = 3.0
"""Seconds over which wanted and unwanted messages are counted."""
MOST_UNWANTED = 4
"""Maximum ratio of unwanted to wanted messages or bytes."""
HEARTBEAT_BYTES = 512
"""Bytes per second that a consumer's heartbeats and CONSUMER.INFO replies cost."""

Key = tuple[str, str]
"""Stream and filter."""

_log = logging.getLogger(__name__)


class _NoisyError(Exception):
    """The consumer delivers too many unwanted messages."""


class _FewError(Exception):
    """Too few feeds are left."""


class SharedFollower(Consumer):
    """A consumer whose messages go to the seats of feeds, by subject. It is never recreated: it ends at the
    first doubt."""

    def __init__(self, connection: Connection, stream: str, pattern: str) -> None:
        self._sharing = _Sharing()
        super().__init__(connection, stream, pattern, lambda: pd.Timedelta(0), self._sharing)
        self._sharing.current_at = lambda: self._current_at
        self.pause = (AGAIN_AFTER, math.inf)
        """Seconds after its end until another shared consumer may start, and the number of subjects from
        which on one may start earlier."""

    async def run(self) -> None:
        """Read until cancelled or in doubt, or until sharing no longer pays off."""
        why, doubted = "closed", False
        try:
            await self._follow_stream()
        except (NoConsumerError, NotPermitted) as error:
            why = str(error)
            refused = isinstance(error, NotPermitted)
            self.pause = (math.inf if refused else NOISY_FOR, math.inf)
        except FlowControlDeniedError:
            why = "the login does not permit flow control"
            self.pause = (math.inf, math.inf)
        except _NoisyError as error:
            why = str(error)
            self.pause = (NOISY_FOR, 2 * self._sharing.subjects)
        except _FewError as error:
            why = str(error)
        except MovedError:
            why = "another connection took over, or too many messages are pending"
        except (DoubtError, LookbackError, TimeoutError, OSError, nats.errors.Error) as error:
            why, doubted = str(error) or "the server does not respond", True
        except Exception as error:
            _log.exception("The shared consumer of %s failed.", self._stream)
            why, doubted = f"the shared consumer failed: {error!r}", True
        finally:
            self.phase = "stopped"
            self.events.note("no longer shared", why)
            self._sharing.end(why, doubted=doubted)

    def seat(self, subject: str, created: str | None, wake: Callable[[], None]) -> Seat | None:
        """A seat for a feed of `subject` in the stream created at `created`; None while there is none."""
        if self.phase != "following" or self._doubt or self.last_seq is None or created != self.created:
            return None
        return self._sharing.add(subject, self.last_seq, wake)

    async def _follow_stream(self) -> None:
        info = await self.fetch_info()
        check_retention(info["config"])
        self._bytes_ahead(info["state"])
        self.last_seq = int(info["state"]["last_seq"])  # start here: the feeds have read all older messages
        client = await self._connection.ready()
        async with self._attached(client, info) as doubt_at:
            reading = asyncio.create_task(self._read(client, doubt_at))
            judging = asyncio.create_task(self._sharing.judge())
            try:
                await asyncio.wait({reading, judging}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                ended = [task for task in (reading, judging) if task.done()]
                await end_tasks({reading, judging}.difference(ended))
            for error in [task.exception() for task in ended]:
                if error is not None:
                    raise error


class _Sharing:
    """The seats of one shared consumer: a sink that passes each message to the seats of its subject."""

    def __init__(self) -> None:
        self.current_at: Callable[[], float] = lambda: 0.0
        self._seats: dict[str, list[Seat]] = {}
        self._wanted = self._unwanted = (0, 0)  # messages, bytes
        self._few = asyncio.Event()
        self._formed = False

    @property
    def subjects(self) -> int:
        """Number of subjects with a seat."""
        return len(self._seats)

    def add(self, subject: str, since: int, wake: Callable[[], None]) -> Seat:
        """A seat for the messages above the stream sequence `since`."""
        seat = Seat(subject, since, wake, lambda: self._remove(seat), self.current_at)
        self._seats.setdefault(subject, []).append(seat)
        return seat

    def end(self, why: str, *, doubted: bool) -> None:
        """End all seats."""
        for seat in [seat for seats in self._seats.values() for seat in seats]:
            seat.end(why, doubted=doubted)

    async def judge(self) -> None:
        """Wait until sharing no longer pays off. Raises _FewError, _NoisyError."""
        began = time.monotonic()
        while True:
            self._wanted = self._unwanted = (0, 0)
            counted_from = time.monotonic()
            self._few.clear()
            try:
                async with asyncio.timeout(COUNTED_FOR):
                    await self._few.wait()
            except TimeoutError:
                pass
            now = time.monotonic()
            self._formed = self._formed or len(self._seats) >= SIBLINGS or now - began > FORMING
            if self._formed and len(self._seats) < SIBLINGS / 2:
                raise _FewError("too few feeds share it")
            if now - began > ASKED_FOR + COUNTED_FOR:  # all feeds that want a seat have one
                self._judge_noise(now - counted_from)

    def _judge_noise(self, seconds: float) -> None:
        """A shared consumer saves a heartbeat a second for each feed. Unwanted messages may cost no more than
        that, or at most MOST_UNWANTED times as much as the wanted ones."""
        saved = seconds * sum(map(len, self._seats.values()))
        limits = saved, saved * HEARTBEAT_BYTES
        for wanted, unwanted, limit in zip(self._wanted, self._unwanted, limits, strict=True):
            if unwanted > limit and unwanted > MOST_UNWANTED * wanted:
                messages = f"{self._unwanted[0]} of {self._unwanted[0] + self._wanted[0]} messages"
                raise _NoisyError(f"no feed reads the subjects of {messages}")

    def _remove(self, seat: Seat) -> None:
        seats = self._seats.get(seat.subject, [])
        if seat in seats:
            seats.remove(seat)
            if not seats:
                del self._seats[seat.subject]
        if self._formed and len(self._seats) < SIBLINGS / 2:
            self._few.set()

    # -- as a sink ---------------------------------------------------------------------------------------

    async def messages(self, raw: Raw) -> int:
        """Pass each message to the seats of its subject."""
        woken: dict[Seat, None] = {}
        wanted, unwanted = list(self._wanted), list(self._unwanted)
        for i, subject in enumerate(raw.subject):
            seats = self._seats.get(subject)
            count = wanted if seats else unwanted
            count[0] += 1
            count[1] += len(raw.payload[i])
            for seat in seats or ():
                seat.put(raw, i)
                woken[seat] = None
        self._wanted, self._unwanted = (wanted[0], wanted[1]), (unwanted[0], unwanted[1])
        for seat in woken:
            seat.wake()
        return len(raw)

    def recreated(self) -> None:
        """A no-op: another stream is a doubt, so the consumer ends."""

    def gone(self, count: int, start: int, end: int) -> None:
        """A no-op: with a filter, a jump in the sequence is no loss."""

    def room(self) -> int | None:
        """No limit: messages go to the feeds at once."""
        return None

    def left_out(self, count: int, until: int) -> None:
        """A no-op: nothing is skipped."""

    def back_to(self, seq: int, stored: int) -> None:
        """Make each feed go back to `seq`."""
        for seats in self._seats.values():
            for seat in seats:
                seat.valid_to = seq


class Followers:
    """The shared consumers of one client. Everything here runs on its event loop."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._running: dict[Key, tuple[SharedFollower, asyncio.Task[None]]] = {}
        self._asked: dict[Key, dict[str, float]] = {}  # when a seat was last requested for each subject
        self._not_until: dict[Key, tuple[float, float]] = {}
        self._forget_at = 0.0

    async def close(self) -> None:
        """End all shared consumers."""
        await end_tasks([task for _, task in self._running.values()])

    def seat(self, stream: str, subject: str, created: str | None, wake: Callable[[], None]) -> Seat | None:
        """See Seats. A shared consumer starts once enough feeds have requested a seat."""
        now = time.monotonic()
        self._forget(now)
        keys = _keys(stream, subject)
        for key in keys:
            if key in self._running:
                return self._running[key][0].seat(subject, created, wake)
        for key in keys:
            self._asked.setdefault(key, {})[subject] = now
        for key in sorted(keys, key=lambda key: -len(self._asked[key])):
            since = now - ASKED_FOR
            count = sum(asked > since for asked in self._asked[key].values())
            free_at, free_from = self._not_until.get(key, (0.0, math.inf))
            if count >= SIBLINGS and (now >= free_at or count >= free_from):
                self._start(key)
                break
        return None

    def _start(self, key: Key) -> None:
        follower = SharedFollower(self._connection, *key)
        task = asyncio.create_task(follower.run(), name=f"shared consumer {key[1]}")
        self._running[key] = follower, task
        task.add_done_callback(partial(self._ended, key))

    def _ended(self, key: Key, _: "asyncio.Task[None]") -> None:
        follower, _task = self._running.pop(key)
        seconds, subjects = follower.pause
        self._not_until[key] = time.monotonic() + seconds, subjects

    def _forget(self, now: float) -> None:
        """Forget old requests for seats, every ASKED_FOR seconds."""
        if now < self._forget_at:
            return
        self._forget_at = now + ASKED_FOR
        for key, asked in list(self._asked.items()):
            kept = {subject: when for subject, when in asked.items() if when > now - ASKED_FOR}
            if kept:
                self._asked[key] = kept
            else:
                del self._asked[key]
        self._not_until = {key: until for key, until in self._not_until.items() if until[0] > now}


def _keys(stream: str, subject: str) -> list[Key]:
    """The consumers that a feed of `subject` can share: for each token, the filter with a wildcard in its
    place. Empty if `subject` has a wildcard."""
    tokens = subject.split(".")
    if {"*", ">"} & set(tokens):
        return []
    return [(stream, ".".join([*tokens[:i], "*", *tokens[i + 1 :]])) for i in range(len(tokens))]
