"""A feed: one consumer, one window, any number of readers."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..connection.connection import Connection, end_tasks
from ..decoding.decoders import Malformed, Raw, decode
from ..errors import ClosedError, LookbackError, RequestFailed
from ..events import Event
from ..memory import SMALLEST, Memory
from ..requests.query import Query
from ..series.bins import MOST, Bins
from ..series.crossings import Crossings
from ..series.latest import Latest
from ..series.periods import Means
from ..streams.core_subscriber import Subscriber
from ..streams.ordered_consumer import CURRENT_FOR, Consumer
from ..streams.sink import Phase
from ..table.memo import Readings
from ..table.window import Snapshot, Window
from .archive import Archive, Extent
from .gaps import Gap, Gaps
from .reconcile import Audit
from .removals import Endings, holes_tell, loses

MOST_MESSAGES = 20
"""Messages of one feed that are kept as they came, as a sample."""
LONGEST_PAYLOAD = 4096
"""Bytes kept of each of them."""
ROW = 16
"""Bytes that a row takes at least, when room is made for rows to come."""
EVICT_EVERY = 0.25
"""Seconds between two looks of readers for rows that are too old; a snapshot is without them anyway."""
ARCHIVE_LOOK = 0.1
"""Seconds between two looks at whether the archive is wanted."""
ARCHIVE_RETRY = 5.0
"""Seconds until an archive that could not be read is asked again."""

OLDER_RETRY = 2.0
"""Seconds until older rows that could not be read are asked for again."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeedKey:
    """What makes two feeds of a client the same one."""

    stream: str | None
    """None: plain subjects, without a stream."""
    subject: str | None
    decoder: str
    time: str | None
    archive: str | None = None
    """Where the history service is asked for older rows; None: nowhere."""

    @property
    def name(self) -> str:
        """What it reads, in words."""
        return " ".join(part for part in (self.stream, self.subject) if part)


@dataclass(frozen=True)
class Message:
    """A message as it came, decoded or not."""

    seq: int
    received: int
    """When the server stored it, ns since the epoch, UTC."""
    subject: str
    payload: bytes
    """At most its first LONGEST_PAYLOAD bytes."""
    size: int
    """Bytes of the whole payload."""


@dataclass(frozen=True)
class Health:
    """Can what the window shows be trusted? Counts are since the feed began."""

    stream: str | None
    """None: plain subjects, without a stream."""
    subject: str | None
    name: str
    """Stream and subject, as they are called on a page."""
    phase: Phase
    """"connecting", "replaying", "following" (live), "reconnecting" or "stopped"."""
    since: float
    """When this phase began, seconds since the epoch."""
    why: LookbackError | None
    """Why it is neither replaying nor following."""
    done: int
    """Messages of this replay received so far."""
    pending: int
    """Messages that the server has still to deliver."""
    rows: int
    bytes: int
    newest: int | None
    """When the server stored the newest row, ns since the epoch, UTC."""
    malformed: int
    """Messages that could not be decoded."""
    samples: tuple[Malformed, ...]
    """The last few of them."""
    dropped: int
    """Rows that the window's ceiling pushed out before their time."""
    dropped_until: int
    """When the server had stored the newest of those, ns since the epoch, UTC."""
    mistyped: int
    """Values in a column of numbers that were no finite numbers; shown as missing."""
    surplus_fields: int
    """Payload fields beyond the number of columns that a window keeps."""
    restarts: int
    """Times that the consumer was made anew."""
    recreated: int
    """Times that the stream turned out to be another one, and the window started over."""
    gaps: tuple[Gap, ...]
    """What is missing within the look-back, by time."""
    begins: int | None
    """When the server stored the oldest message that the stream, or its archive, still holds, ns since the
    epoch, UTC; None where none has gone from its start."""
    earlier: int
    """Messages that the stream held before that one."""
    archive: LookbackError | None
    """Why the rows from before the stream's own cannot be fetched from its archive."""
    limits: str
    """What the stream keeps at most, in words; empty where nothing limits it."""
    squeezed: int = 0
    """The ceiling of the process's memory, in bytes, where it is why the window holds less than it may."""
    hindered: LookbackError | None = None
    """Why it is read in steps of about a megabyte a second, if it is."""
    by_sequence: str | None = None
    """Why it is read by sequence, every half second, if it is: a part of a sentence."""
    hint: str = ""
    """Why not one message matches the subject, in a sentence, where that is known."""

    progress: float = 1.0
    """How far the replay is, 0 to 1; it never goes back while one lasts."""


class Derived:
    """What is worked out of the rows of a feed, once for all its viewers."""

    def __init__(self) -> None:
        self.means = Means()
        """Means of periods, which all viewers of the same table share."""
        self.readings = Readings()
        """Whatever else is worked out of the rows for all viewers."""
        self._bins, self._crossings, self._latest = Readings(), Readings(), Readings()

    def bins(
        self,
        fields: tuple[str, ...],
        color: str | None,
        look_back: pd.Timedelta,
        most: int = MOST,
        step: int | None = None,
    ) -> Bins:
        """The bins that all viewers of the same chart share; whoever draws brings them up to date first.
        Raises LookbackError, as Bins does."""
        key = (fields, color, look_back.value, most, step)
        return self._bins.once(key, None, lambda: Bins(fields, color, look_back, most=most, step=step))

    def crossings(
        self, field: str, color: str | None, look_back: pd.Timedelta, threshold: float
    ) -> Crossings:
        """The crossings that all viewers of the same threshold share, as with bins()."""
        key = (field, color, look_back.value, threshold)
        return self._crossings.once(key, None, lambda: Crossings(field, color, look_back, threshold))

    def latest(self, column: str, by: str, look_back: pd.Timedelta) -> Latest:
        """The newest values that all viewers of the same look-back share."""
        key = (column, by, look_back.value)
        return self._latest.once(key, None, lambda: Latest(column, by))

    @property
    def derived_bytes(self) -> int:
        """Bytes of what is kept, roughly."""
        kept = (self._bins, self._crossings, self._latest, self.readings, self.means.tables)
        return sum(each.nbytes for each in kept)

    def forget_derived(self) -> None:
        """Let go of it; who asks again has it worked out again."""
        for each in (self._bins, self._crossings, self._latest, self.readings, self.means.tables):
            each.clear()


class Feed(Derived):
    """Replays a stream from now minus the look-back and follows it. Made by `Client.feed`, shared by all
    who ask for the same; reading it keeps it alive."""

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
    ) -> None:
        """`ask` puts a question to the history service of the key's archive."""
        super().__init__()
        self.key = key
        self._memory = memory
        self._limits: dict[str, Any] = {"max_rows": max_rows, "max_bytes": max_bytes}
        self._most_bytes = max_bytes
        self._squeezed = 0
        self._named = Readings()
        self._derived_bytes = 0
        self.window = Window(**self._limits)
        self.last_read = time.monotonic()
        self._evict_again = 0.0
        self._connection = connection
        self._loop = loop
        self._look_back = look_back
        self._reached = look_back
        self._older: _Older | None = None
        self._malformed = 0
        self._samples: list[Malformed] = []
        self._messages: list[Message] = []
        self._recreated = 0
        self._closed = False
        self._settled = threading.Event()
        self._replayed = threading.Event()  # the consumer's own replay, whatever is fetched beside it
        self._older_failed: LookbackError | None = None
        self._gaps = Gaps()
        self._audit: Audit | None = None
        self._archive: Archive | None = None
        self._archived = pd.Timedelta(0)  # the look-back that the archive has been asked for
        self._consumer: Consumer | Subscriber
        if key.stream is None:
            assert key.subject is not None
            self._consumer = Subscriber(connection, key.subject, self)
        else:
            self._consumer = Consumer(connection, key.stream, key.subject, lambda: self._look_back, self)
            if ask is not None:
                self._archive = Archive(ask, key.stream, key.subject)
            self._audit = Audit(self._consumer, self.window, self._missing, self._archive)
        self._consumer.changed = self._check_settled
        self._tasks = [
            loop.create_task(part.run(), name=f"feed {key.name}")
            for part in (self._consumer, self._audit)
            if part is not None
        ]
        if self._archive is not None:
            self._tasks.append(
                loop.create_task(self._keep_archived(self._archive), name=f"archive {key.name}")
            )

    @property
    def look_back(self) -> pd.Timedelta:
        """How far back this feed reaches: the longest that anybody asked for."""
        return self._look_back

    def now(self) -> int:
        """The server's clock, ns since the epoch, UTC."""
        return self._consumer.now()

    def snapshot(self) -> Snapshot:
        """The rows within the look-back as they are now. Raises ClosedError after the feed was closed."""
        if self._closed:
            raise ClosedError(f"The feed of {self.key.name!r} is closed. Ask the client for it again.")
        self.last_read = time.monotonic()
        oldest = self.now() - self._look_back.value
        if self.last_read >= self._evict_again:
            self._evict_again = self.last_read + EVICT_EVERY
            self.window.evict(oldest)
        return self.window.snapshot().since(oldest)

    def frame(self) -> pd.DataFrame:
        """`snapshot().frame()`: the rows as a DataFrame indexed by `_time` (UTC)."""
        return self.snapshot().frame()

    def newest(self) -> list[Message]:
        """The newest messages within the look-back, newest first, at most MOST_MESSAGES: as they came, also
        those that could not be decoded. Raises ClosedError after the feed was closed."""
        self.snapshot()  # reading keeps the feed alive
        start, audit = self.now() - self._look_back.value, self._audit
        return [
            message
            for message in reversed(self._messages)
            if message.received >= start and (audit is None or audit.holds(message.seq))
        ]

    def wait(self, timeout: float, look_back: pd.Timedelta | None = None) -> bool:
        """Wait at most `timeout` seconds for the replay of `look_back` (default: the whole) to end, or to
        fail; whether it did either."""
        if look_back is not None and look_back <= self._reached and self._archive is None:
            return self._replayed.wait(timeout)
        return self._settled.wait(timeout)

    @property
    def health(self) -> Health:
        """How the feed is doing at this moment."""
        return self.health_of(self._look_back)

    def health_of(self, look_back: pd.Timedelta) -> Health:
        """The same for a reader who looks back so far: older rows that are fetched for others are nothing
        to it."""
        consumer, audit = self._consumer, self._audit
        phase, why = consumer.phase, consumer.why
        done, pending, progress = consumer.done, consumer.pending, consumer.progress
        if phase == "following" and look_back > self._reached:
            phase, older = "replaying", self._older
            if older is not None:
                consumer = older.consumer
                done, pending, progress = consumer.done, consumer.pending, consumer.progress
                if consumer.phase in ("stopped", "reconnecting"):
                    phase, why = consumer.phase, consumer.why
            elif self._older_failed is not None:
                phase, why = "stopped", self._older_failed
        if self._archive is not None and self._archive.pending and not pending and look_back > self._archived:
            done, pending = self._archive.done, self._archive.pending
            progress = done / (done + pending)
            phase = "replaying" if phase == "following" else phase
        if phase == "following" and consumer.behind > CURRENT_FOR:
            phase = "replaying" if pending else "reconnecting"
            if not pending:
                why = RequestFailed(f"Nothing was heard of the server for {consumer.behind:.0f} s.")
        begins, earlier = self._begins()
        return Health(
            stream=self.key.stream,
            subject=self.key.subject,
            name=self.key.name,
            phase=phase,
            since=self._consumer.since,
            why=why,
            progress=progress,
            done=done,
            pending=pending,
            rows=len(self.window),
            bytes=self.window.nbytes,
            newest=self.window.newest_time,
            malformed=self._malformed,
            samples=tuple(self._samples),
            dropped=self.window.dropped,
            dropped_until=self.window.dropped_until,
            mistyped=self.window.mistyped,
            surplus_fields=len(self.window.surplus_fields),
            restarts=self._consumer.restarts,
            recreated=self._recreated,
            squeezed=self._squeezed if self.window.dropped else 0,
            gaps=self._gaps.since(self.now() - self._look_back.value),
            begins=begins,
            earlier=earlier,
            archive=self._archive.error if self._archive else None,
            limits=audit.limits if audit else "",
            hindered=consumer.hindered if isinstance(consumer, Consumer) else None,
            by_sequence=consumer.by_sequence if isinstance(consumer, Consumer) else None,
            hint=audit.hint if audit and not len(self.window) else "",
        )

    @property
    def events(self) -> tuple[Event, ...]:
        """The newest things that happened to it, oldest first, with their reasons."""
        return self._consumer.events.newest

    @property
    def name_key(self) -> tuple[FeedKey, tuple[str, ...]]:
        """What makes two feeds the same to their readers: the names of tokens as well."""
        return self.key, ()

    def named(self, names: tuple[str, ...]) -> "Feed | NamedFeed":
        """This feed with names for tokens of its subject, as in subjects.Pattern: the same consumer and the
        same window."""
        if not any(names):
            return self
        return self._named.once(names, None, lambda: NamedFeed(self, names))

    # -- memory, from any thread -------------------------------------------------------------------------

    @property
    def nbytes(self) -> int:
        """Bytes of all that it holds, as last counted."""
        older = self._older
        return self.window.nbytes + (older.window.nbytes if older is not None else 0) + self._derived_bytes

    def count_derived(self) -> None:
        """Count what was worked out of the rows, and let go of rows that nobody has looked at for long."""
        named = [feed.derived_bytes for feed in self._named.values()]
        self._derived_bytes = self.derived_bytes + sum(named)
        self.window.evict(self.now() - self._look_back.value)

    def shrink(self, nbytes: int, ceiling: int) -> None:
        """Hold at most `nbytes`, since all feeds of the process together may not hold more than `ceiling`."""
        self._squeezed = ceiling
        self._consumer.events.note(
            "gave up its oldest rows",
            f"all feeds together may hold {ceiling >> 20} MiB: the setting 'memory'",
            logging.WARNING,
        )
        if self._derived_bytes > nbytes // 2:
            self.forget_derived()
            self._named.clear()
            self._derived_bytes = 0
        most = max(SMALLEST, min(self._most_bytes, nbytes - self._derived_bytes))
        self._limits["max_bytes"] = most
        self.window.shrink(most)
        if (older := self._older) is not None:
            older.window.shrink(max(SMALLEST, most - self.window.nbytes))

    def relax(self) -> None:
        """Hold as much as it may by itself: there is room again."""
        self._limits["max_bytes"] = self.window.max_bytes = self._most_bytes

    # -- on the client's loop ----------------------------------------------------------------------------

    def room(self) -> int | None:
        """As many messages as the window has room for, by the size of the rows that it holds."""
        return self.window.most_rows

    def left_out(self, count: int, until: int) -> None:
        """Note messages that were not read, since the window had no room for them."""
        self.window.leave_out(count, until)

    def messages(self, raw: Raw) -> None:
        """Take messages of the consumer into the window."""
        if self._audit is not None:
            self._audit.ends.note(raw)
        self._take(raw, self.window, self._consumer.pending)
        last = slice(-MOST_MESSAGES, None)
        each = zip(raw.seq[last], raw.received[last], raw.subject[last], raw.payload[last], strict=True)
        newest = [
            Message(seq, received, subject, bytes(payload[:LONGEST_PAYLOAD]), len(payload))
            for seq, received, subject, payload in each
        ]
        self._messages = [*self._messages, *newest][last]
        self.window.evict(self.now() - self._look_back.value)

    def recreated(self) -> None:
        """Start the window over: its rows belong to a stream that is no more."""
        self._recreated += 1
        self._gaps.clear()
        self._messages = []
        self.window.clear()
        if self._archive is not None and self._audit is not None:
            self._archive.extent, self._archived = Extent(), pd.Timedelta(0)
            self._audit.first = None  # until the new stream was looked at
        if self._audit is not None:
            self._audit.ends = Endings()

    def gone(self, count: int, start: int, end: int) -> None:
        """Note messages that left the stream before they could be read."""
        if self._audit is not None:
            self._audit.unread(Gap("removed", start, end, count))

    def back_to(self, seq: int, stored: int) -> None:
        """Forget what was delivered behind `seq`, stored at `stored`, and what seemed to be missing there."""
        held = self.window.snapshot().seq
        self.window.remove(held[held > seq])
        self._messages = [message for message in self._messages if message.seq <= seq]
        self._gaps.forget_after(stored)

    def interrupted(self, start: int, end: int) -> None:
        """Note a time in which nobody listened."""
        self._missing(Gap("interrupted", start, end, None))

    def _missing(self, gap: Gap) -> None:
        self._gaps.add(gap, self._look_back)

    def extend(self, look_back: pd.Timedelta) -> None:
        """Reach further back; only what is missing is fetched. A shorter look-back changes nothing."""
        if look_back <= self._look_back:
            return
        fetching = self._reached < self._look_back
        self._look_back = look_back
        if self.key.stream is None:
            self._reached = look_back  # there is nothing older
            return
        self._settled.clear()
        if not fetching:
            self._tasks.append(self._loop.create_task(self._fetch_older(), name="older rows"))

    async def close(self, why: str = "") -> None:
        """End the consumers and forget the rows; `why` is for the log."""
        self._closed = True
        self._consumer.events.note("closed", why)
        self._settled.set()
        self._replayed.set()
        await end_tasks(self._tasks)
        # Who still holds it, as a link to a file does, holds no rows.
        self.window.clear()
        self.forget_derived()
        self._named.clear()
        self._messages, self._samples = [], []
        self._memory.leave(self)

    async def _fetch_older(self) -> None:
        """Put older rows before those of the window until the look-back is reached; what fails is tried
        again, and said to those who look back so far."""
        while self._reached < self._look_back:
            try:
                await self._fetch_to(self._look_back)
                self._older_failed = None
            except Exception as error:
                if not isinstance(error, LookbackError):
                    _log.exception("older rows of %s", self.key.name)
                    error = LookbackError(f"Reading older rows failed: {error!r}.")
                self._older_failed = error
                self._check_settled()
                await asyncio.sleep(OLDER_RETRY)
        self._tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        self._check_settled()

    async def _fetch_to(self, target: pd.Timedelta) -> None:
        # Polled: what is waited for is either of two things, and happens once in a feed's life.
        while self._consumer.phase != "following" and not len(self.window):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        lives, boundary = self._recreated, self.window.oldest_seq
        if boundary is None and self._consumer.last_seq is not None:
            boundary = self._consumer.last_seq + 1
        if boundary is None:
            self._consumer.restart("the look-back became longer")
        elif len(self.window) < 0.95 * self.window.most_rows:  # in a full one older rows would not stay
            older = _Older(self, target, boundary, self._limits)
            self._older = older
            try:
                await older.consumer.run()
            finally:
                self._older = None
            # A stream that was recreated meanwhile is read from the start, by the whole look-back.
            same = lives == self._recreated and older.consumer.created in (None, self._created)
            if not older.void and same and self.window.oldest_seq in (boundary, None):
                self.window.prepend(older.window)
                if self._audit is not None:
                    self._audit.ends.add(older.ends)
                self._memory.note(self)
        self._reached = target

    @property
    def _created(self) -> str | None:
        return self._consumer.created if isinstance(self._consumer, Consumer) else None

    async def _keep_archived(self, archive: Archive) -> None:
        """Put the archive's rows before those of the stream, and again when the look-back becomes longer."""
        while True:
            pause = ARCHIVE_LOOK
            following = self._consumer.phase == "following" and self._reached >= self._look_back
            if following and self._archived < self._look_back:
                target, lives = self._look_back, self._recreated
                try:
                    await self._fetch_archived(archive, target)
                    if self._recreated == lives:  # otherwise what came was of another stream
                        self._archived, archive.error = target, None
                except LookbackError as error:
                    archive.error, pause = error, ARCHIVE_RETRY
                except Exception as error:
                    _log.exception("the archive of %s", self.key.name)
                    archive.error = LookbackError(f"Reading the archive failed: {error!r}.")
                    pause = ARCHIVE_RETRY
                self._check_settled()
            await asyncio.sleep(pause)

    async def _fetch_archived(self, archive: Archive, look_back: pd.Timedelta) -> None:
        audit, consumer, lives = self._audit, self._consumer, self._recreated
        assert audit is not None
        assert isinstance(consumer, Consumer)
        while audit.first is None:  # noqa: ASYNC110 - it looks at the stream right now
            await asyncio.sleep(ARCHIVE_LOOK)
        since = self.now() - look_back.value
        reaches = audit.first <= 1 or (audit.oldest is not None and audit.oldest <= since)
        if reaches or consumer.created is None:
            return  # the stream's own history reaches as far
        extent = await archive.look(consumer.created)
        before, begins = audit.first, audit.oldest or self.now()
        if (oldest := self.window.oldest_seq) is not None:
            before = min(before, oldest)
        seam: Gap | None = None
        lost = loses(consumer.config)
        if lost and extent.last and extent.last + 1 < before == audit.first and extent.last_time > since:
            count = before - 1 - extent.last if self.key.subject is None else None
            seam = Gap("removed", extent.last_time, begins, count)
        above: tuple[int, int] | None = None
        async for raw in archive.rows(consumer.created, since, before):
            if self._recreated != lives:
                return
            if seam is not None:
                self._missing(seam)
                seam = None
            self._note_jumps(raw, above)
            above = raw.seq[0], raw.received[0]
            older = Window(**self._limits)
            self._take(raw, older)
            dropped = self.window.dropped
            self.window.prepend(older)
            self._memory.note(self)
            if self.window.dropped > dropped:
                return  # the window is full
        if seam is not None:  # told once: where a fetch fails, the next one meets the same seam
            self._missing(seam)

    def _note_jumps(self, raw: Raw, above: tuple[int, int] | None) -> None:
        """Messages of a whole stream that its archive has not got either, among `raw` and up to the row
        `above`, its sequence and when it was stored."""
        if self.key.subject is not None or not isinstance(self._consumer, Consumer):
            return
        if not holes_tell(self._consumer.config):
            return
        seqs, received = raw.seq, raw.received
        if above is not None:
            seqs, received = [*seqs, above[0]], [*received, above[1]]
        for i in np.flatnonzero(np.diff(seqs) > 1).tolist():
            self._missing(Gap("removed", received[i], received[i + 1], seqs[i + 1] - seqs[i] - 1))

    def _begins(self) -> tuple[int | None, int]:
        """When what can be had of the stream begins, and how many messages went before."""
        if self._archive is not None and (extent := self._archive.extent).first:
            before = extent.first - (self._audit.base if self._audit else 1)
            return (extent.first_time if before > 0 else None), max(0, before)
        return (self._audit.begins, self._audit.earlier) if self._audit else (None, 0)

    def _take(self, raw: Raw, window: Window, expected: int = 0) -> None:
        try:
            batch, samples, malformed = decode(raw, self.key.decoder, self.key.time)
        except Exception as error:
            if len(raw) > 1:
                for one in raw.split():
                    self._take(one, window)
                return
            # No payload may stop the others, not even one that the decoder did not foresee.
            reason = str(error) if isinstance(error, ValueError) else repr(error)
            sample = Malformed(raw.subject[0], raw.seq[0], reason, repr(raw.payload[0][:200]))
            self._malformed += 1
            self._samples = [*self._samples, sample][-5:]
            return
        self._malformed += malformed
        self._samples = [*self._samples, *samples][-5:]
        window.append(batch, expected=min(expected, self._memory.room_for(self) // ROW))
        self._memory.note(self)

    def _check_settled(self) -> None:
        archive = self._archive
        fetched = archive is None or archive.error is not None or self._archived >= self._look_back
        ended = self._reached >= self._look_back and fetched
        phase = self._consumer.phase
        if phase in ("stopped", "following"):
            self._replayed.set()
        if phase == "stopped" or self._older_failed or (phase == "following" and ended):
            self._settled.set()


class _Older:
    """The rows before those of a window, on their way."""

    def __init__(self, feed: Feed, look_back: pd.Timedelta, boundary: int, limits: dict[str, Any]) -> None:
        self.window = Window(**limits)
        self.ends = Endings()
        self.void = False
        self._feed = feed
        assert feed.key.stream is not None
        self.consumer = Consumer(
            feed._connection, feed.key.stream, feed.key.subject, lambda: look_back, self, until=boundary
        )

    def room(self) -> None:
        """All of what is asked for is read: that older rows fit was seen to before."""

    def left_out(self, count: int, until: int) -> None:
        """Never: there is room for all."""

    def messages(self, raw: Raw) -> None:
        self.ends.note(raw)
        self._feed._take(raw, self.window)

    def recreated(self) -> None:
        self.void = True

    def gone(self, count: int, start: int, end: int) -> None:
        self._feed.gone(count, start, end)

    def back_to(self, seq: int, stored: int) -> None:
        held = self.window.snapshot().seq
        self.window.remove(held[held > seq])


class NamedFeed(Derived):
    """A feed in which tokens of the subject have names. What is worked out of the rows goes by these names,
    so it is kept by itself; consumer and window are those of the feed."""

    def __init__(self, feed: Feed, names: tuple[str, ...]) -> None:
        super().__init__()
        self._feed = feed
        self.names = names

    @property
    def key(self) -> FeedKey:
        """Of the feed."""
        return self._feed.key

    @property
    def name_key(self) -> tuple[FeedKey, tuple[str, ...]]:
        """As of a Feed."""
        return self.key, self.names

    @property
    def window(self) -> Window:
        """Of the feed; its tokens have no names."""
        return self._feed.window

    @property
    def look_back(self) -> pd.Timedelta:
        """How far back the feed reaches."""
        return self._feed.look_back

    @property
    def health(self) -> Health:
        """How the feed is doing at this moment."""
        return self._feed.health

    @property
    def events(self) -> tuple[Event, ...]:
        """As of a Feed."""
        return self._feed.events

    def health_of(self, look_back: pd.Timedelta) -> Health:
        """As of a Feed."""
        return self._feed.health_of(look_back)

    @property
    def last_read(self) -> float:
        """When anybody last read the feed, on the monotonic clock."""
        return self._feed.last_read

    def now(self) -> int:
        """The server's clock, ns since the epoch, UTC."""
        return self._feed.now()

    def snapshot(self) -> Snapshot:
        """The rows within the look-back, with the named tokens as text columns. Raises ClosedError."""
        return self._feed.snapshot().named(self.names)

    def frame(self) -> pd.DataFrame:
        """`snapshot().frame()`."""
        return self.snapshot().frame()

    def newest(self) -> list[Message]:
        """The newest messages as they came. Raises ClosedError."""
        return self._feed.newest()

    def wait(self, timeout: float, look_back: pd.Timedelta | None = None) -> bool:
        """As of a Feed."""
        return self._feed.wait(timeout, look_back)
