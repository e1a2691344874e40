"""Reads a stream in order and exactly once, through any connection or server failure.

The stream sequence is the only source of truth. The consumer on the server is ephemeral and disposable. After
any doubt (connection lost, heartbeat missed, gap in the consumer sequence, error status) it is recreated at
the last stream sequence received. That message is delivered a second time and must be identical. If it is
not, the stream was restored from a backup or lost its last messages, and has been written to since. We do not
use nats-py's ordered consumer: a look-back has to start by time, and that consumer cannot be recreated after
such a start.

Design: ADR-17 (ordered consumer) of https://github.com/nats-io/nats-architecture-and-design. It is a push
consumer with flow control, because a pull request across accounts does not notice when the puller is gone.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

import nats.errors
import pandas as pd
from nats.aio.msg import Msg
from nats.nuid import NUID

from ..connection.arrivals import Arrived, MessageBlock
from ..connection.bulk_parser import BlockInbox
from ..connection.connection import Connection, not_permitted
from ..connection.patched_nats import SafeNatsPy
from ..connection.replays import Turn
from ..decoding.raw import Raw
from ..errors import (
    LookbackError,
    NotPermitted,
    RequestFailed,
    RequestRefused,
    SqlError,
    StreamNotFound,
)
from ..subjects import filters_of
from .by_sequence import CONSUMER_AGAIN, EVERY, BySequence, NoConsumerError, check_retention, ns
from .consumer_config import (
    HEARTBEAT,
    create_consumer,
    find_beginning,
    find_end,
    find_start,
    from_sequence,
    from_time,
    push_config,
    settings_of,
    skips_messages,
)
from .reading import STORED_WITHIN, Reading
from .seat import Seat, Seats
from .sequence import AnotherStreamError, DoubtError, Position, Tracker
from .sink import Sink

PATIENCE = 3.5  # seconds of silence after which the consumer is in doubt
GATHER = 0.05  # seconds during which messages are collected into a batch
RETRY_AFTER = 1.0  # seconds between retries while the stream cannot be read
TOO_SLOW_FOR = 60.0  # seconds until a feed whose expressions took too long continues
CHECK_EVERY = 2.0  # seconds between checks that the consumer's configuration is unchanged
MOST_AT_ONCE = 5_000  # messages decoded before control returns to the loop, so that pages are not blocked
SMALL = 1024 * 1024  # bytes that may be read without a turn of the replays
CURRENT_FOR = 3.0  # seconds for which a window that was known to be complete counts as live
SURE = 100_000  # messages to read before their row size is a fair estimate of how many more fit

_nuid = NUID()
_log = logging.getLogger(__name__)


class MovedError(Exception):
    """Another connection has taken over from the one we read on, or should. Nothing is in doubt."""


class FlowControlDeniedError(Exception):
    """The server waits for a reply that the login may not publish; the text is its subject."""


class Consumer(Reading):
    """Reads one stream and filter and delivers batches to a sink, for as long as run() runs."""

    def __init__(
        self,
        connection: Connection,
        stream: str,
        subject: str | None,
        look_back: Callable[[], pd.Timedelta] | None,
        sink: Sink,
        *,
        until: int | None = None,
        end: int | None = None,
        seats: Seats | None = None,
    ) -> None:
        """Without a look-back, it starts with the newest message of each subject, and needs a filter. `until`
        is the first stream sequence that it does not read. `end` is the time (ns since the epoch, UTC) at
        which the look-back ends, instead of now. `seats` assigns it a seat at a shared consumer once it has
        caught up."""
        super().__init__(connection, stream, subject, look_back, sink, until, end)
        self.flow_control_denied: LookbackError | None = None
        """Why reading is slow (about a megabyte a second): the login does not permit flow control."""
        self.by_sequence: str | None = None
        """Why it is read by sequence, without a consumer on the server; None if it is not."""
        self._from_first = False  # True if the server cannot find a start by time
        self._expected = 1
        self._tracker = Tracker(until)
        self._denied: asyncio.Future[None] | None = None
        self._moving = False  # to another connection: no doubt, and hidden from readers
        self._flow: asyncio.Future[None] | None = None  # done when flow control is denied
        self._flow_subject = ""
        self._silent = False  # True if nothing arrived from the last consumer, not even a heartbeat
        self._on = connection  # the connection it reads on: the main one, or the one for replays
        self._turn: Turn[Connection] | None = None
        self._unread: int | None = None  # messages before _begin_seq, not reported yet
        self._per_message = 0.0  # bytes, on average
        self._seats = seats
        self._seat: Seat | None = None
        self._scanned_to = 0  # stream sequence up to which the consumer has delivered everything
        self._created_as: dict[str, Any] = {}  # the server's reply when the consumer was created
        self._before = 0  # the sequence before the stream's first one at that time
        self._verified: tuple[int | None, int | None] = None, None  # last message at the last good check

    async def run(self) -> None:
        """Read until cancelled, or up to the last message before `until`. A second call continues there. With
        an `end` alone, it holds no consumer once everything is read, waits, and reads on after any doubt."""
        while True:
            try:
                if self._moving and self._connection.state.status != "connected":
                    raise DoubtError("the connection to the server was lost")
                await self._connection.ready()
                try:
                    if await self._read_where_it_fits() and not self._to_end:
                        return
                except NoConsumerError as reason:
                    if await self._read_by_sequence(reason) and not self._to_end:
                        return
                if self._to_end and self._until is not None:
                    await self._stay()
            except MovedError:
                self._moving = True
                continue
            except asyncio.CancelledError:
                self._moving = True
                raise
            except FlowControlDeniedError as error:
                self.flow_control_denied = not_permitted("to publish to", str(error))
                self.events.note("read in steps", self.flow_control_denied, logging.WARNING)
                self.changed()
                await asyncio.sleep(RETRY_AFTER)
            except DoubtError as doubt:
                self._enter("reconnecting", RequestFailed(str(doubt)))
            except StreamNotFound:
                self._enter("stopped", await self._not_found())
                await asyncio.sleep(RETRY_AFTER)
            except RequestRefused as error:
                self._enter("stopped", error)
                await asyncio.sleep(RETRY_AFTER)
            except SqlError as error:
                self._enter("stopped", error)
                await asyncio.sleep(TOO_SLOW_FOR)
            except LookbackError as error:
                self._enter("reconnecting", error)
                await asyncio.sleep(RETRY_AFTER / 4)
            except (TimeoutError, OSError, nats.errors.Error) as error:
                self._enter("reconnecting", RequestFailed(str(error) or "The server does not respond."))
                await asyncio.sleep(RETRY_AFTER / 4)
            except Exception as error:
                # A bug of ours must be visible and retried; it must not leave a feed that stands still.
                _log.exception("Reading %s failed.", self._stream)
                self._enter("stopped", LookbackError(f"Reading {self._stream!r} failed: {error!r}."))
                await asyncio.sleep(RETRY_AFTER)
            self._moving = False
            if self.phase == "reconnecting":
                await self._connection.check()

    async def _read_where_it_fits(self) -> bool:
        """Read on the main connection if there is little to read. Otherwise wait for a turn and read on the
        replay connection. True when `until` is reached."""
        info = await self.fetch_info()
        check_retention(info["config"])
        if self._is_over():
            assert self._end is not None
            self._until, self._after = await find_end(
                self._connection, self._stream, self._subject, self._end, info["state"]
            )
        if self._bytes_ahead(info["state"]) <= SMALL:
            self._on, self._turn = self._connection, None
            return await self._read_on(info)
        try:
            async with self._connection.replays.turn(self._turns) as self._turn:
                self._turns += 1
                self._on = self._turn.connection
                try:
                    return await self._read_on(await self.fetch_info())
                except DoubtError:
                    lost = self._on is not self._connection and self._on.state.status != "connected"
                    if lost and self._connection.state.status == "connected":
                        raise MovedError from None  # the main connection continues alone, more slowly
                    raise
        finally:
            self._on, self._turn = self._connection, None

    async def _stay(self) -> None:
        """Wait for a doubt, after everything up to the end has been read. Raises DoubtError."""
        self._moving, self.pending, self._total, self.progress = False, 0, None, 1.0
        self.complete = True
        self._enter("following")
        try:
            while not self._doubt:
                await self._inbox.arrived.wait()
                self._inbox.arrived.clear()
        finally:
            self.complete = False
        raise DoubtError(self._doubt)

    async def _read_on(self, info: dict[str, Any]) -> bool:
        client = await self._on.ready()
        try:
            async with self._attached(client, info) as doubt_at:
                if await self._read(client, doubt_at):
                    return True
                await self._verify_before_sharing()
            assert self._seat is not None
            await self._share(self._seat)
        finally:
            self._leave_seat()
        return False

    def _bytes_ahead(self, state: dict[str, Any]) -> float:
        """Upper bound of the bytes still to read."""
        if not state["messages"]:
            return 0
        self._per_message = state["bytes"] / state["messages"]
        if self.last_seq is None:
            return float(state["bytes"])
        last = int(state["last_seq"]) if self._until is None else self._until
        return float(max(0, last - self.last_seq) * self._per_message)

    @contextlib.asynccontextmanager
    async def _attached(self, client: SafeNatsPy, info: dict[str, Any]) -> Any:
        """A context with a new consumer and a subscription to it. Both are removed at the end."""
        before = self._created
        name = _nuid.next().decode()
        address = client.new_inbox()
        self._inbox = BlockInbox()
        self._tracker = Tracker(self._until)
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
                # Messages of the previous consumer may still be in flight, ahead of the server's reply.
                if self._made:
                    await client.flush(int(PATIENCE))
                answer = await self._create(name, address, info["state"])
                self._made += not (self._moving and self._made)
                if await skips_messages(
                    self._connection, self._stream, self._subject, self._start, answer, info["state"]
                ):
                    self._from_first = True
                    raise DoubtError("the consumer skips messages of the look-back")
                await self.fetch_info()
                if self._created != before:
                    raise DoubtError("the stream was recreated")
                if self._doubt:
                    raise DoubtError(self._doubt)
                self.by_sequence = None
                self.pending = int(answer.get("num_pending", 0))
                if not self._moving and self.phase != "reconnecting":
                    self.done, self.progress = 0, 0.0
                if not self._silent and not (self._moving and self.phase == "following"):
                    self._enter("replaying" if self.pending else "following")
                self._moving = False
                to_time = self._to_end and self._until is not None
                self._total = self.done + max(0, self.pending - self._after) if to_time else None
                self._created_as, self._scanned_to = answer, 0
                self._before = int(info["state"]["first_seq"]) - 1
                self._verified = self.last_seq, self._known_at
                checking = asyncio.create_task(self._check())
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
        turn = self._turn
        config = push_config(name, address, self.config, turn.rate if turn is not None else None)
        if self.last_seq is not None:
            config |= from_sequence(max(1, self.last_seq))
        elif self._look_back is None:
            config |= {"deliver_policy": "last_per_subject"}
        else:
            config |= await self._beginning(self._look_back, state)
        return await create_consumer(self._on, self._stream, self._subject, config)

    async def _beginning(
        self, look_back: Callable[[], pd.Timedelta], state: dict[str, Any]
    ) -> dict[str, Any]:
        """The consumer's start, so that it delivers the look-back, or as much of it as the sink can keep."""
        if self._start is None:
            self._start = self.moment() - look_back().value
        all_of_it = self._from_first or (state["messages"] and ns(state["first_ts"]) >= self._start)
        if all_of_it:
            start = {"deliver_policy": "all"}
        elif state["messages"] and (
            self._end is not None or ns(state["last_ts"]) > self.now() + STORED_WITHIN
        ):
            start = await find_start(self._on, self._stream, self._subject, self._start)
        else:
            start = from_time(self._start)
        room = self._sink.room() if self._turn is not None and self._begin_seq is None else None
        to_time = self._until is None or self._to_end
        if room is not None and to_time and int(state["messages"]) > room:
            end = None if self._until is None else (self._until, self._after)
            found = await find_beginning(self._on, self._stream, self._subject, start, state, room, end)
            if found is not None:
                self._begin_seq, self._unread = found
        return start if self._begin_seq is None else from_sequence(self._begin_seq)

    async def _check(self) -> None:
        """Check that the consumer's configuration stays as created. An administrator can pause it or change
        its filter, and neither shows in what it sends. After a change, all messages since the last good check
        are read again."""
        while True:
            try:
                if not await self._is_unchanged():
                    return
            except NotPermitted:
                return
            except RequestRefused as error:
                self.restart(str(error))
                return
            except (LookbackError, TimeoutError, OSError):
                pass  # whether the server answers is checked elsewhere
            else:
                self._ask_for_seat()
            await asyncio.sleep(CHECK_EVERY)

    async def _is_unchanged(self) -> bool:
        asked, made = (self.last_seq, self._known_at), self._created_as
        info = await self._connection.api(f"CONSUMER.INFO.{self._stream}.{made['name']}")
        if info.get("paused") or settings_of(info) != settings_of(made):
            self.last_seq, self._known_at = self._verified
            self._sink.back_to(self._before if self.last_seq is None else self.last_seq, self._known_at or 0)
            self.restart("the consumer was paused or changed")
            return False
        self._verified = asked
        return True

    # -- with a consumer that others share ---------------------------------------------------------------

    def _is_calm(self) -> bool:
        quiet = self.phase == "following" and not self.pending and not self._doubt and self._turn is None
        return (
            quiet
            and self._until is None
            and self._end is None
            and self._look_back is not None
            and self.flow_control_denied is None
        )

    def _ask_for_seat(self) -> None:
        """Request a seat at a shared consumer. The seat keeps messages until our own consumer has delivered
        them."""
        if self._seat is not None and self._seat.ended is None:
            self._seat.forget(-1 if self._verified[0] is None else self._verified[0])
        elif (
            self._seats is not None
            and self._subject is not None
            and len(filters_of(self._subject)) == 1
            and self._is_calm()
        ):
            self._seat = self._seats.seat(self._stream, self._subject, self._created, self._wake)

    def _wake(self) -> None:
        self._inbox.arrived.set()

    def _can_share(self) -> bool:
        """True if our own consumer has delivered everything that the seat does not have."""
        seat = self._seat
        return seat is not None and seat.ended is None and self._scanned_to >= seat.since and self._is_calm()

    async def _verify_before_sharing(self) -> None:
        """Check that our own consumer was unchanged to its end. Raises DoubtError."""
        with contextlib.suppress(RequestRefused):
            if await self._is_unchanged() and not self._doubt:
                return
        raise DoubtError(self._doubt or "the consumer no longer exists")

    async def _share(self, seat: Seat) -> None:
        """Deliver the messages of the shared consumer until it ends or is in doubt. Raises DoubtError,
        MovedError."""
        self.events.note("follows a shared consumer")
        verified = -1 if self.last_seq is None else self.last_seq
        woke_at = progressed_at = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT / 2):
                    await self._inbox.arrived.wait()
            self._inbox.arrived.clear()
            before, woke_at = woke_at, time.monotonic()
            if seat.current_at() > self._current_at or woke_at - before > 2 * HEARTBEAT:  # or suspended
                progressed_at = woke_at
            if self._doubt:
                why, doubted = self._doubt, True
                break
            if seat.ended is not None:
                why, doubted = seat.ended, seat.doubted
                break
            if woke_at - progressed_at > 2 * PATIENCE:
                why, doubted = "the shared consumer stalled", True
                break
            current_at = seat.current_at()
            raw = seat.take(-1 if self.last_seq is None else self.last_seq)
            if len(raw):
                try:
                    await self._hand_over(raw)
                except SqlError:
                    self._go_back(seat, verified)
                    raise
            self._current_at = max(self._current_at, current_at)
            await asyncio.sleep(GATHER)
        self._go_back(seat, verified)
        self.events.note("follows its own consumer", why)
        if doubted:
            raise DoubtError(why)
        raise MovedError

    def _go_back(self, seat: Seat, verified: int) -> None:
        """Forget the messages of the shared consumer since it was last known to be unchanged. Those up to
        `verified` are from our own consumer."""
        if seat.valid_to is None or self.last_seq is None:
            return
        verified = max(verified, seat.valid_to)
        if self.last_seq > verified:
            self.last_seq, self._known_at = verified, None
            self._sink.back_to(verified, self.now())  # with a filter, a jump in the sequence is no gap

    def _leave_seat(self) -> None:
        seat, self._seat = self._seat, None
        if seat is not None:
            seat.leave()

    async def _read_by_sequence(self, reason: NoConsumerError) -> bool:
        """Read the stream without a consumer. True when `until` is reached, False when it is time to try a
        consumer again. Raises DoubtError, LookbackError."""
        reader = BySequence(self._connection, self._stream, self._subject, str(reason))
        self.by_sequence, self._doubt, self._moving, self._total = str(reason), None, False, None
        self.events.note("read by sequence", reason)
        self._inbox = BlockInbox()
        again = None if reason.for_good else time.monotonic() + CONSUMER_AGAIN
        info = await self.fetch_info()
        if self.last_seq:  # the first sequence is 1
            stored = await reader.stored(self.last_seq)
            if None not in (stored, self._known_at) and stored != self._known_at:
                self.start_over("the stream was recreated, restored or rolled back")
        at = await self._begin(reader, info["state"])
        if self._is_over():
            assert self._end is not None
            self._until = await reader.since(self._end, info["state"])
        if self.phase != "following":
            self.done = 0
            self._enter("replaying")
        while True:
            if self._doubt:
                raise DoubtError(self._doubt)
            state = info["state"]
            last, ends = int(state["last_seq"]), self._until is not None
            if self._until is not None:
                last = min(last, self._until - 1)
            at = max(at, int(state["first_seq"]))
            while at <= last:
                raw, at = await reader.some(at, last, state)
                if self._doubt:
                    raise DoubtError(self._doubt)
                self.pending = max(0, last + 1 - at)
                await self._deliver_found(raw)
            self.pending = 0
            if ends:
                return True
            if self.phase != "following":
                self._enter("following")
            self._current_at = time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await self._inbox.arrived.wait()  # set by a doubt
            if (again is not None and time.monotonic() > again) or (self._is_over() and self._until is None):
                return False
            info = await self.fetch_info()

    async def _begin(self, reader: BySequence, state: dict[str, Any]) -> int:
        if self.last_seq is not None:
            return self.last_seq + 1
        if self._look_back is None:
            return int(state["first_seq"])
        if self._start is None:
            self._start = self.moment() - self._look_back().value
        return await reader.since(self._start, state)

    async def _deliver_found(self, raw: Raw) -> None:
        if not len(raw):
            return
        if self._subject is None:
            before, known = self.last_seq, self._known_at
            for seq, stored in zip(raw.seq, raw.received, strict=True):
                if before is not None and known is not None and seq > before + 1:
                    self._sink.gone(seq - before - 1, known, stored)
                before, known = seq, stored
        await self._hand_over(raw)

    async def _receive(self, message: Msg) -> None:
        """The fallback when the fast parser is not available."""
        self._inbox.put(message.subject.encode(), message.reply.encode(), message.data, message.headers)

    async def _read(self, client: SafeNatsPy, deadline: float) -> bool:
        """Deliver messages as they arrive. True when `until` is reached, False when a shared consumer can
        take over. Raises DoubtError."""
        if self._until is not None and not self.pending:
            return True
        inbox, arrived = self._inbox, False
        while True:
            woke_at = time.monotonic()
            # Not wait_for: in Python 3.11 it can swallow a cancellation.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT / 2):
                    await inbox.arrived.wait()
            inbox.arrived.clear()
            if self._denied is not None and self._denied.done():
                raise not_permitted("to subscribe to", self._connection.inboxes)
            if self._flow is not None and self._flow.done():
                raise FlowControlDeniedError(self._flow_subject)
            if self._doubt:
                raise DoubtError(self._doubt)
            if self._on.has_moved(client) or self._should_move() or (self._is_over() and self._until is None):
                raise MovedError
            if self._can_share():
                return False
            if inbox.messages:
                if not arrived:
                    arrived = True
                    self._first_arrival()
                deadline = time.monotonic() + PATIENCE
                while inbox.messages and not self._doubt:
                    await self._deliver(client, _some(inbox.messages))
                    if self._turn is not None and (self._turn.is_over or self._skips()):
                        raise MovedError
                    if self._until is not None and (self._reached() or not self.pending):
                        return True
                    await asyncio.sleep(0)
                if not self.pending:
                    self._current_at = time.monotonic()
                if self.phase == "following":  # a replay needs no pause: it arrives as fast as we read
                    await asyncio.sleep(GATHER)
            elif not client.is_connected:
                raise DoubtError("the connection to the server was lost")
            elif time.monotonic() - woke_at > 2 * HEARTBEAT:
                deadline = time.monotonic() + PATIENCE  # our own process was suspended: wait once more
            elif time.monotonic() > deadline:
                raise DoubtError(
                    "the consumer's heartbeat is missing" if arrived else self._nothing_arrives()
                )

    def _should_move(self) -> bool:
        """True if it should read on the other connection: a replay is over, or so much is pending that the
        rest counts as a replay."""
        if self._turn is not None:
            return self._on is not self._connection and not self.pending and self._until is None
        return self.pending * self._per_message > 4 * SMALL

    def _skips(self) -> bool:
        """If a replay has far more rows than the sink can keep, reset it, so that it continues at the first
        sequence from which the rest fits. True if it was reset."""
        room = self._sink.room()
        if room is None or self.done < SURE or self._begin_seq is not None:
            return False
        if self._look_back is None or self.left < 1.5 * room:
            return False
        if self._until is not None and not self._to_end:
            return False
        self.last_seq = self._known_at = None
        self._unread = None
        self._sink.left_out(0, 0)
        return True

    def _first_arrival(self) -> None:
        if self._silent:
            self._silent = False
            self._enter("replaying" if self.pending else "following")

    def _nothing_arrives(self) -> str:
        self._silent = True
        return (
            f"The server created a consumer on {self._stream!r}, but none of its messages arrive at "
            f"{self._connection.inboxes!r}. If the stream belongs to another account, set 'inbox_prefix' to "
            "a prefix that this account imports from there."
        )

    def _reached(self) -> bool:
        return self._until is not None and self.last_seq is not None and self.last_seq + 1 >= self._until

    async def _hand_over(self, raw: Raw, *, whole: bool = True) -> None:
        """Deliver messages to the sink, which may take some time, and advance the position. Raises MovedError
        if the turn is over before all are taken, unless `whole` is true. Raises DoubtError if they have
        become void meanwhile, because the stream was recreated or the consumer changed; the position was then
        reset."""
        while len(raw):
            taken = await self._sink.messages(raw)
            if not taken:
                raise DoubtError(self._doubt or "messages became void while they were taken in")
            self.done += taken
            self.last_seq, self._known_at = raw.seq[taken - 1], raw.received[taken - 1]
            raw = raw.after(taken)
            if len(raw) and not whole and self._turn is not None and self._turn.is_over:
                raise MovedError

    async def _deliver(self, client: SafeNatsPy, batch: "list[Arrived | MessageBlock]") -> None:
        """Deliver the batch to the sink, up to the first doubt. Then answer flow control."""
        last = self.last_seq if self.last_seq is not None else -1
        try:
            at = Position(last, self._expected, self.pending, self._known_at)
            taken = self._tracker.take(batch, at, self._subject)
        except AnotherStreamError:
            self.start_over("the stream was recreated, restored or rolled back")
            return
        raw, at = taken.raw, taken.at
        for gone in taken.gone:
            self._sink.gone(*gone)
        if len(raw):
            if self._unread is not None:
                self._sink.left_out(self._unread, raw.received[0] - 1)
                self._unread = None
            # Messages that are not taken are read again. A gap must be reported only once, so a batch with
            # one is taken as a whole.
            await self._hand_over(raw, whole=bool(taken.gone))
            stored = (raw.received[-1] - self._clock) / 1e9 if self._clock else 0.0
            self._current_at = max(self._current_at, min(stored, time.monotonic()))
        self._expected = at.expected
        self._known_at = at.known_at
        self.pending = at.pending
        self.progress = max(self.progress, self.done / max(1, self.done + self.left))
        if at.last >= 0:
            self.last_seq = at.last
        self._scanned_to = max(self._scanned_to, at.scanned_to, at.last)
        if not taken.doubt and not self.pending and self.phase == "replaying":
            self._enter("following")
        for asked in taken.replies:
            self._flow_subject = ".".join([*asked.split(".")[:-2], ">"])  # without consumer and number
            await client.publish(asked)
        if taken.replies and self.flow_control_denied is not None and self._flow is not None:
            await client.flush(int(PATIENCE))  # a permission error would arrive before the PONG
            if not self._flow.done():
                self.flow_control_denied = None
        if taken.doubt:
            raise DoubtError(taken.doubt)


def _some(messages: "list[Arrived | MessageBlock]") -> "list[Arrived | MessageBlock]":
    """Remove about MOST_AT_ONCE messages from the front of the list and return them."""
    count, end = 0, 0
    while end < len(messages) and count < MOST_AT_ONCE:
        part = messages[end]
        count += len(part) if isinstance(part, MessageBlock) else 1
        end += 1
    some = messages[:end]
    del messages[:end]
    return some
