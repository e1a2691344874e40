"""A feed: one consumer, one window, any number of readers."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Hashable, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import pandas as pd

from ..connection.connection import Connection, end_tasks
from ..decoding.raw import Raw
from ..errors import ClosedError, LookbackError, NotPermitted, RequestFailed, RequestRefused
from ..events import Event
from ..memory import SMALLEST, Memory, wait_as_reader
from ..requests.query import Query
from ..sql.row_filter import unseen_text
from ..streams.by_sequence import fetch_messages
from ..streams.last_before import last_before
from ..streams.ordered_consumer import CURRENT_FOR, Consumer
from ..streams.plain_subscriber import Subscriber
from ..streams.seat import Seats
from ..table.memo import Memo
from ..table.snapshot import Snapshot
from ..watchers import Watchers
from .archive import Archive
from .backfill import OLDER_RETRY, Backfill
from .derived import Derived
from .gaps import Gap
from .health import LONGEST_PAYLOAD, FeedKey, Health, Message, kept_headers, shortened
from .intake import Intake
from .reconcile import StreamCheck
from .removals import Endings
from .wanted import Wanted

MOST_MESSAGES = 20
"""Raw messages kept per feed, as a sample."""
EVICT_EVERY = 0.25
"""Seconds between evictions of old rows by readers. A snapshot never shows them anyway."""


class Feed(Derived):
    """Replays a stream from now minus the look-back, then follows it; or reads a stretch that ends in the
    past. `Client.feed` creates it and shares it between all readers with an equal key. Reading it keeps it
    alive."""

    def __init__(
        self,
        connection: Connection,
        loop: asyncio.AbstractEventLoop,
        key: FeedKey,
        look_back: pd.Timedelta,
        *,
        max_rows: int,
        max_bytes: int,
        memory: Memory,
        ask: Callable[[dict[str, Any]], Query] | None = None,
        seats: Seats | None = None,
    ) -> None:
        """`ask` sends a query to the history service of the key's archive. `seats` are those of shared
        consumers."""
        super().__init__()
        self.key = key
        self._memory = memory
        self._most_bytes = max_bytes
        self._squeezed = 0
        self.by_names = Memo()
        """This feed with names for tokens of its subject; see named_feed.py."""
        self._derived_bytes = 0
        limits = {"max_rows": max_rows, "max_bytes": max_bytes}
        room, grown = (lambda: memory.room_for(self)), (lambda: memory.note(self))
        self._intake = Intake(key, look_back, limits, room, grown)
        self.window = self._intake.window
        self.last_read = time.monotonic()
        self._evict_again = 0.0
        self._connection = connection
        self._loop = loop
        self._messages: list[Message] = []
        self._watchers = Watchers()
        self._direct_denied = False
        self._closed = False
        self._wanted = Wanted()
        self._loaded: tuple[int, int] | None = None  # while it is halted: the loaded start and end
        self._turning: asyncio.Task[None] | None = None
        self._voided = 0  # grows when messages that are under way become void
        self._settled = threading.Event()
        self._replayed = threading.Event()  # set after the consumer's own replay, without older rows
        self._stream_check: StreamCheck | None = None
        self._backfill: Backfill | None = None
        self._consumer: Consumer | Subscriber
        if key.stream is None:
            assert key.subject is not None
            self._consumer = Subscriber(connection, key.subject, self)
        else:
            consumer = Consumer(
                connection, key.stream, key.subject, lambda: self.look_back, self, end=key.end, seats=seats
            )
            archive = Archive(ask, key.stream, key.subject) if ask is not None else None
            self._consumer = consumer
            left = self._intake.counted.remove_before
            self._stream_check = StreamCheck(consumer, self.window, self._intake.missing, archive, left)
            self._backfill = Backfill(
                connection, self._intake, consumer, self._stream_check, archive, self._check_settled
            )
        self._consumer.changed = self._check_settled
        self._tasks: list[asyncio.Task[None]] = []  # they read the stream and the archive
        self._further: list[asyncio.Task[None]] = []
        self._reading_before = asyncio.Lock()
        self._read()

    @property
    def look_back(self) -> pd.Timedelta:
        """How far back this feed reaches: the longest look-back that any reader has requested."""
        return self._intake.look_back

    @property
    def is_loading(self) -> bool:
        """True while it still reads a stretch whose end has passed."""
        return (
            self.key.end is not None and self.key.end <= self._consumer.now() and not self._settled.is_set()
        )

    @property
    def _reached(self) -> pd.Timedelta:
        """The look-back that has been read. Plain subjects have nothing older."""
        return self._backfill.reached if self._backfill is not None else self.look_back

    @property
    def _archive(self) -> Archive | None:
        return self._backfill.archive if self._backfill is not None else None

    def now(self) -> int:
        """The server's clock, ns since the epoch, UTC; the end of the stretch once that has passed."""
        consumer = self._consumer
        return consumer.moment() if isinstance(consumer, Consumer) else consumer.now()

    def snapshot(self) -> Snapshot:
        """The current rows within the look-back. Raises ClosedError after the feed was closed."""
        if self._closed:
            raise ClosedError(f"The feed of {self.key.name!r} is closed. Open it again with client.feed().")
        self.last_read = time.monotonic()
        oldest = self.now() - self.look_back.value
        if self.last_read >= self._evict_again:
            self._evict_again = self.last_read + EVICT_EVERY
            self.window.evict(oldest)
        return self.window.snapshot().since(oldest)

    def frame(self) -> pd.DataFrame:
        """`snapshot().frame()`: the rows as a DataFrame indexed by `_time` (UTC)."""
        return self.snapshot().frame()

    def newest(self) -> list[Message]:
        """The raw messages within the look-back, newest first, at most MOST_MESSAGES. Includes those that
        could not be decoded. Raises ClosedError after the feed was closed."""
        self.snapshot()  # reading keeps the feed alive
        start, stream_check = self.now() - self.look_back.value, self._stream_check
        return [
            message
            for message in reversed(self._messages)
            if message.received >= start and (stream_check is None or stream_check.holds(message.seq))
        ]

    def stored(self, seqs: Sequence[int], timeout: float) -> list[Message]:
        """The raw messages with these sequences, in their order, without those that have left the stream.
        Waits at most `timeout` seconds. Do not call it on the client's own thread. Raises RequestFailed, and
        ClosedError (also for plain subjects)."""
        if self._closed or self.key.stream is None:
            raise ClosedError(f"The feed of {self.key.name!r} cannot be asked for messages any more.")
        work = fetch_messages(self._connection, self.key.stream, seqs)
        try:
            future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, timeout), self._loop)
            return _kept(future.result(timeout + 1))
        except (TimeoutError, FutureTimeoutError):
            raise RequestFailed(f"The server did not send messages of {self.key.name!r} in time.") from None

    def read_before(self, moment: int, split_by: Collection[str], take: Callable[[Snapshot], None]) -> None:
        """See Derived. The rows can be looked up if the stream has `allow_direct`, the series are split by
        subjects or their tokens, and the feed has neither `where` nor `columns`."""
        if self.key.stream is None or self._intake.filter is not None or set(split_by) - {"_subject"}:
            return
        with contextlib.suppress(RuntimeError):  # the client is closed, and its loop with it
            self._loop.call_soon_threadsafe(self._start_reading_before, moment, take)

    def wait(self, timeout: float, look_back: pd.Timedelta | None = None) -> bool:
        """Wait at most `timeout` seconds until the replay of `look_back` (default: all) has ended, failed or
        been halted. False on timeout."""
        if look_back is not None and look_back <= self._reached and self._archive is None:
            return wait_as_reader(self, self._replayed, timeout)
        return wait_as_reader(self, self._settled, timeout)

    def want(self, reader: Hashable) -> None:
        """Request the whole stretch for `reader`: loading continues where it was halted. The request expires
        after WANTED_FOR seconds unless it is repeated. Then another reader can halt loading."""
        self._wanted.want(reader)
        if self._loaded is not None:
            self._turn_soon()

    def stop(self, reader: Hashable) -> None:
        """Withdraw the request of `reader`, who needs only the loaded part of the stretch. Unless another
        reader requests the stretch, loading halts, and nothing is read from the server until the next
        want()."""
        self._wanted.stop(reader)
        self._turn_soon()

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` after each batch of messages, on the client's thread, so it must return at once.
        Returns a function that ends this. `changed` is not called for other changes, such as rows that leave
        the look-back."""
        return self._watchers.add(changed)

    @property
    def health(self) -> Health:
        """The feed's current health."""
        return self.health_of(self.look_back)

    def health_of(self, look_back: pd.Timedelta) -> Health:
        """The health for a reader with this look-back. A fetch of older rows for other readers does not
        affect it."""
        consumer, stream_check, backfill = self._consumer, self._stream_check, self._backfill
        phase, why = consumer.phase, consumer.why
        pending = consumer.left if isinstance(consumer, Consumer) else consumer.pending
        done, progress = consumer.done, consumer.progress
        ended = isinstance(consumer, Consumer) and consumer.complete
        if backfill is not None and phase == "following" and look_back > backfill.reached:
            phase, older = "replaying", backfill.older
            if older is not None:
                consumer = older.consumer
                done, pending, progress = consumer.done, consumer.pending, consumer.progress
                if consumer.phase in ("stopped", "reconnecting"):
                    phase, why = consumer.phase, consumer.why
            elif backfill.failed is not None:
                phase, why = "stopped", backfill.failed
        archive = self._archive
        if backfill and archive and archive.pending and not pending and look_back > backfill.archived:
            done, pending = archive.done, archive.pending
            progress = done / (done + pending)
            phase = "replaying" if phase == "following" else phase
        elif phase == "following" and backfill and self.key.end and not backfill.fetched_to(look_back):
            phase = "replaying"
        if phase == "following" and consumer.behind > CURRENT_FOR:
            phase = "replaying" if pending else "reconnecting"
            if not pending:
                why = RequestFailed(f"Nothing received from the server for {consumer.behind:.0f} s.")
        unread = self._unread(look_back)
        if unread is not None:
            phase, why = "halted", None
        begins, earlier = backfill.begins() if backfill is not None else (None, 0)
        counted = self._intake.counted
        read = counted.since(self.now() - look_back.value) if self.key.where is not None else 0
        return Health(
            stream=self.key.stream,
            subject=self.key.subject,
            name=self.key.name,
            phase=phase,
            since=self._consumer.since,
            why=why,
            ended=ended and phase == "following",
            progress=progress,
            done=done,
            pending=pending,
            rows=len(self.window),
            bytes=self.window.nbytes,
            newest=self.window.newest_time,
            malformed=self._intake.malformed,
            samples=tuple(self._intake.samples),
            dropped=self.window.dropped,
            dropped_until=self.window.dropped_until,
            mistyped=self.window.mistyped,
            surplus_fields=len(self.window.surplus_fields),
            restarts=self._consumer.restarts,
            recreated=self._intake.recreated,
            squeezed=self._squeezed if self.window.dropped else 0,
            gaps=self._gaps(unread or ()),
            begins=begins,
            earlier=earlier,
            history_start=self._history_start(look_back),
            archive=archive.error if archive else None,
            limits=stream_check.limits if stream_check else "",
            flow_control_denied=consumer.flow_control_denied if isinstance(consumer, Consumer) else None,
            by_sequence=consumer.by_sequence if isinstance(consumer, Consumer) else None,
            hint=stream_check.hint if stream_check and not len(self.window) and not read else "",
            where=None if self.key.where is None else shortened(self.key.where),
            read=read,
            read_until=counted.newest,
            doubts=self._doubts(read),
        )

    def _unread(self, look_back: pd.Timedelta) -> list[Gap] | None:
        """While it is halted: the parts of this look-back that are not loaded, as gaps. Otherwise None."""
        if (loaded := self._loaded) is None:
            return None
        end = self.now()
        start = end - look_back.value
        first, last = (max(start, min(end, edge)) for edge in loaded)
        parts = [(start, first), (last, end)] if first < last else [(start, end)]
        return [Gap("unread", *part, None) for part in parts if part[0] < part[1]]

    def _gaps(self, unread: Collection[Gap]) -> tuple[Gap, ...]:
        known = self._intake.gaps.since(self.now() - self.look_back.value)
        return tuple(sorted((*known, *unread), key=lambda gap: gap.start)) if unread else known

    def _history_start(self, look_back: pd.Timedelta) -> int | None:
        start, archive = self._consumer.history_start, self._archive
        if archive is None or self._backfill is None or archive.error is not None:
            return start
        if look_back > self._backfill.archived:
            return None
        return start if not archive.extent.first or start is None else min(start, archive.extent.first_time)

    def _doubts(self, read: int) -> tuple[str, ...]:
        row_filter = self._intake.filter
        if row_filter is None or (not read and not len(self.window)):
            return ()
        seen = row_filter.seen
        return (*(unseen_text(name, seen) for name in seen.absent), *seen.notes)

    @property
    def events(self) -> tuple[Event, ...]:
        """The newest events of this feed, oldest first, with their reasons."""
        return self._consumer.events.newest

    @property
    def name_key(self) -> tuple[FeedKey, tuple[str, ...]]:
        """The key and the token names. Equal for feeds that look the same to readers."""
        return self.key, ()

    # -- memory, from any thread -------------------------------------------------------------------------

    @property
    def nbytes(self) -> int:
        """Bytes held in total, at the last count."""
        older = self._backfill.older if self._backfill is not None else None
        return self.window.nbytes + (older.window.nbytes if older is not None else 0) + self._derived_bytes

    def count_derived(self) -> None:
        """Count the bytes of derived values, evict rows older than the look-back, and halt loading if the
        readers who requested it have left. Called on the client's loop."""
        named = [feed.derived_bytes for feed in self.by_names.values()]
        self._derived_bytes = self.derived_bytes + sum(named)
        self.window.evict(self.now() - self.look_back.value)
        self._turn()

    def shrink(self, nbytes: int, ceiling: int) -> None:
        """Shrink to `nbytes`, because all feeds of the process together may hold at most `ceiling` bytes."""
        self._squeezed = ceiling
        self._consumer.events.note(
            "dropped its oldest rows",
            f"the memory ceiling of {ceiling >> 20} MiB was reached (setting 'memory')",
            logging.WARNING,
        )
        if self._derived_bytes > nbytes // 2:
            self.forget_derived()
            self.by_names.clear()
            self._derived_bytes = self.derived_bytes
        most = max(SMALLEST, min(self._most_bytes, nbytes - self._derived_bytes))
        self._intake.limits["max_bytes"] = most
        self.window.shrink(most)
        if self._backfill is not None and (older := self._backfill.older) is not None:
            older.window.shrink(max(SMALLEST, most - self.window.nbytes))

    def relax(self) -> None:
        """Lift the limit of shrink(): there is room again."""
        self._intake.limits["max_bytes"] = self.window.max_bytes = self._most_bytes

    # -- on the client's loop ----------------------------------------------------------------------------

    def room(self) -> int | None:
        """How many messages fit into the window, estimated from the size of its rows. With a `where`, None
        (all): how many messages have a row is known only after they are read."""
        return None if self.key.where is not None else self.window.most_rows

    def left_out(self, count: int, until: int) -> None:
        """Record messages that were not read, because the window had no room for them."""
        self._voided += 1
        self.window.leave_out(count, until)

    async def messages(self, raw: Raw) -> int:
        """Add the consumer's messages to the window."""
        count = len(raw)
        raw, places = self._intake.of_stretch(raw, self.now())
        if not len(raw):
            return count
        if self._consumer.history_start is None and len(raw):  # the stream was empty at the last check
            self._consumer.history_start = raw.received[0]
        voided = self._voided
        taken = await self._intake.take(
            raw,
            self.window,
            self._consumer.pending,
            valid=lambda: self._voided == voided and not self._closed,
        )
        if taken is None:
            return 0
        if self._stream_check is not None and taken.raw.headers:
            self._stream_check.ends.note(taken.raw, taken.sequences())
        self._messages = [*self._messages, *_kept(taken.newest(MOST_MESSAGES))][-MOST_MESSAGES:]
        oldest = self.now() - self.look_back.value
        self.window.evict(oldest)
        self._intake.counted.forget(oldest)
        self._watchers.notify()
        if len(taken.raw) == len(raw):
            return count
        return len(taken.raw) if places is None else places[len(taken.raw) - 1] + 1

    def recreated(self) -> None:
        """Start over: the window's rows belong to a stream that no longer exists."""
        self._voided += 1
        self._intake.counted.clear()
        self._intake.recreated += 1
        self._intake.gaps.clear()
        self._messages = []
        self.window.clear()
        if self._backfill is not None:
            self._backfill.start_over()
        if self._stream_check is not None:
            self._stream_check.ends = Endings()

    def gone(self, count: int, start: int, end: int) -> None:
        """Record messages that left the stream before they could be read."""
        if self._stream_check is not None:
            known = count if self.key.where is None else None  # how many of them had rows is unknown
            self._stream_check.unread(Gap("removed", start, end, known))

    def back_to(self, seq: int, stored: int) -> None:
        """Remove everything delivered after `seq` (stored at `stored`), gaps included."""
        self._voided += 1
        held = self.window.snapshot().seq
        self.window.remove(held[held > seq])
        self._messages = [message for message in self._messages if message.seq <= seq]
        self._intake.gaps.forget_after(stored)

    def interrupted(self, start: int, end: int) -> None:
        """Record a time without a subscription."""
        self._intake.missing(Gap("interrupted", start, end, None))

    def _start_reading_before(self, moment: int, take: Callable[[Snapshot], None]) -> None:
        if self._closed or self._direct_denied:
            return
        task = self._loop.create_task(self._read_before(moment, take), name="values before")
        self._further.append(task)

        def forget(done: asyncio.Task[None]) -> None:
            self._further = [each for each in self._further if each is not done]

        task.add_done_callback(forget)

    async def _read_before(self, moment: int, take: Callable[[Snapshot], None]) -> None:
        consumer = self._consumer
        assert isinstance(consumer, Consumer)
        assert self.key.stream is not None
        while not consumer.config:  # noqa: ASYNC110 - the first check of the stream is under way
            await asyncio.sleep(0.05)
        if not consumer.config.get("allow_direct"):
            return
        # One request at a time: a server that does not reply gets no further ones, however many parts of a
        # chart a viewer visits.
        async with self._reading_before:
            raw = await self._before(self.key.stream, moment)
        if raw is None:
            return
        take(self._intake.decoded(raw).snapshot())
        self._watchers.notify()

    async def _before(self, stream: str, moment: int) -> Raw | None:
        while not self._direct_denied:
            try:
                return await last_before(self._connection, stream, self.key.subject, moment)
            except NotPermitted:
                self._direct_denied = True  # the server logs each denial
            except LookbackError as error:
                self._consumer.events.note("values before the look-back not read", error)
                if isinstance(error, RequestRefused):
                    return None
                await asyncio.sleep(OLDER_RETRY)
        return None

    def extend(self, look_back: pd.Timedelta) -> None:
        """Extend the look-back and fetch only the missing rows. A no-op for a shorter look-back."""
        if look_back <= self.look_back:
            return
        fetching = self._reached < self.look_back
        self._intake.look_back = look_back
        if self._backfill is None or self._loaded is not None:
            return
        self._settled.clear()
        if not fetching:
            self._reach_back(self._backfill)

    def _reach_back(self, backfill: Backfill) -> None:
        self._tasks.append(self._loop.create_task(self._fetch_older(backfill), name="older rows"))

    async def _fetch_older(self, backfill: Backfill) -> None:
        await backfill.fetch_older()
        self._tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        self._check_settled()

    def _read(self) -> None:
        """Start reading, or continue where it was halted."""
        self._tasks = [
            self._loop.create_task(part.run(), name=f"feed {self.key.name}")
            for part in (self._consumer, self._stream_check)
            if part is not None
        ]
        if (backfill := self._backfill) is None:
            return
        if backfill.archive is not None:
            keeping = backfill.keep_archived(backfill.archive)
            self._tasks.append(self._loop.create_task(keeping, name=f"archive {self.key.name}"))
        if backfill.reached < self.look_back:
            self._reach_back(backfill)

    def _turn_soon(self) -> None:
        with contextlib.suppress(RuntimeError):  # the client is closed, and its loop with it
            self._loop.call_soon_threadsafe(self._turn)

    def _turn(self) -> None:
        """Halt or continue loading, as its readers have requested."""
        if not self._is_as_wanted and (self._turning is None or self._turning.done()):
            self._turning = self._loop.create_task(self._turn_over(), name=f"halt {self.key.name}")

    @property
    def _is_as_wanted(self) -> bool:
        if self._closed or self._backfill is None:
            return True
        halted = self._loaded is not None
        return halted == (self._wanted.by_nobody and (halted or self.is_loading))

    async def _turn_over(self) -> None:
        assert self._backfill is not None
        while not self._is_as_wanted:
            if self._loaded is None:
                self._loaded = self._backfill.loaded()
                self._consumer.events.note("halted", "its readers have stopped loading")
                self._settled.set()
                self._replayed.set()
                await end_tasks(self._tasks)
            else:
                self._loaded = None
                self._consumer.events.note("continues loading")
                self._settled.clear()
                self._replayed.clear()
                self._read()
                self._check_settled()
            self._watchers.notify()

    async def close(self, why: str) -> None:
        """Stop reading and release the rows. `why` is the reason in the last event."""
        self._closed = True
        self._consumer.events.note("closed", why)
        self._settled.set()
        self._replayed.set()
        self._intake.close()
        turning = [] if self._turning is None else [self._turning]
        await end_tasks([*turning, *self._tasks, *self._further])
        # A reference may remain, for example in a download link. It must not keep the rows alive.
        self.window.clear()
        self.forget_derived()
        self.by_names.clear()
        self._messages, self._intake.samples = [], []
        self._memory.leave(self)

    def _check_settled(self) -> None:
        backfill = self._backfill
        phase = self._consumer.phase
        if phase in ("stopped", "following"):
            self._replayed.set()
        failed = backfill is not None and backfill.failed is not None
        ended = phase == "following" and (backfill is None or backfill.fetched)
        if phase == "stopped" or failed or ended:
            self._settled.set()


def _kept(raw: Raw) -> list[Message]:
    """Raw messages as Message, with long payloads and headers shortened."""
    each = zip(raw.seq, raw.received, raw.subject, raw.payload, strict=True)
    return [
        Message(
            seq,
            received,
            subject,
            bytes(payload[:LONGEST_PAYLOAD]),
            len(payload),
            kept_headers(raw.headers.get(seq)),
        )
        for seq, received, subject, payload in each
    ]
