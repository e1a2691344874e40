"""Back-fills a window with older rows: from the stream when the look-back is extended, and from the archive
for the time before the stream's own history."""

import asyncio
import logging
from collections.abc import Callable

import numpy as np
import pandas as pd

from ..connection.connection import Connection
from ..decoding.raw import Raw
from ..errors import LookbackError
from ..streams.ordered_consumer import Consumer
from .archive import Archive, Extent
from .gaps import Gap
from .intake import Intake
from .message_count import MessageCount
from .reconcile import StreamCheck
from .removals import Endings, holes_are_removals, loses

OLDER_RETRY = 2.0
"""Seconds until a failed read of older rows is retried."""
ARCHIVE_LOOK = 0.1
"""Seconds between checks of whether the archive is needed."""
ARCHIVE_RETRY = 5.0
"""Seconds until a failed read of the archive is retried."""

_log = logging.getLogger(__name__)


class Backfill:
    """Fetches the older rows of one feed of a stream. Everything here runs on the client's loop."""

    def __init__(
        self,
        connection: Connection,
        intake: Intake,
        consumer: Consumer,
        stream_check: StreamCheck,
        archive: Archive | None,
        changed: Callable[[], None],
    ) -> None:
        """`consumer` reads new messages. `changed` is called after each fetch, successful or not."""
        self.reached = intake.look_back
        """The look-back to which the stream has been read."""
        self.older: Older | None = None
        """The current fetch from the stream."""
        self.failed: LookbackError | None = None
        """Why the last fetch failed; None after a success."""
        self.archive = archive
        self.archived = pd.Timedelta(0)
        """The look-back to which the archive has been read."""
        self._connection = connection
        self._intake = intake
        self._window = intake.window
        self._consumer = consumer
        self._stream_check = stream_check
        self._changed = changed

    @property
    def fetched(self) -> bool:
        """True if the whole look-back has been fetched, as far as it can be."""
        return self.fetched_to(self._intake.look_back)

    def fetched_to(self, look_back: pd.Timedelta) -> bool:
        """True if all of `look_back` has been fetched, as far as it can be."""
        archive = self.archive
        done = archive is None or archive.error is not None or self.archived >= look_back
        return self.reached >= look_back and done

    def loaded(self) -> tuple[int, int]:
        """The start and end of the time that has been read completely, ns since the epoch, UTC. If nothing
        has been read, the end is not after the start."""
        check, moment = self._stream_check, self._consumer.moment()
        start = moment - self.reached.value
        end = moment if self._consumer.complete else self._consumer.read_to or start
        if self.archive is None or self.archived >= self.reached:
            return start, end
        # The stream comes first, then the archive, from its newest row on.
        known = [moment - self.archived.value, *self._window.snapshot().received[:1].tolist()]
        return max(start, min(known if check.oldest is None else [*known, check.oldest])), end

    def start_over(self) -> None:
        """The stream is another one: drop everything known of its archive."""
        if self.archive is not None:
            self.archive.extent, self.archived = Extent(), pd.Timedelta(0)
            self._stream_check.first = None  # until the first check of the new stream

    async def fetch_older(self) -> None:
        """Prepend older rows to the window until the look-back is reached. A failure is retried, and shown to
        readers with that look-back."""
        while self.reached < self._intake.look_back:
            try:
                await self._fetch_to(self._intake.look_back)
                self.failed = None
            except Exception as error:
                if not isinstance(error, LookbackError):
                    _log.exception("Back-fill of %s failed.", self._intake.key.name)
                    error = LookbackError(f"Reading older rows failed: {error!r}.")
                self.failed = error
                self._changed()
                await asyncio.sleep(OLDER_RETRY)

    async def _fetch_to(self, target: pd.Timedelta) -> None:
        # Polled, because either of two events ends the wait, and it happens once in a feed's life.
        while self._consumer.phase != "following" and not len(self._window):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        lives, boundary = self._intake.recreated, self._window.oldest_seq
        if boundary is None and self._consumer.last_seq is not None:
            boundary = self._consumer.last_seq + 1
        if boundary is None:
            self._consumer.restart("the look-back became longer")
        elif self._intake.left_early:  # older messages may also follow the oldest row
            self._read_again()
        elif len(self._window) < 0.95 * self._window.most_rows:  # a full window would drop older rows again
            older = Older(self._connection, self._intake, self._stream_check, target, boundary)
            self.older = older
            try:
                await older.consumer.run()
            finally:
                self.older = None
            # If the stream was recreated meanwhile, the consumer replays the whole look-back by itself.
            same = lives == self._intake.recreated and older.consumer.created in (
                None,
                self._consumer.created,
            )
            oldest = self._window.oldest_seq
            if not older.void and same and (oldest is None or oldest >= boundary):
                self._window.prepend(older.window)
                self._intake.counted.prepend(older.counted)
                self._stream_check.ends.add(older.ends)
                self._intake.grown()
        self.reached = target

    async def keep_archived(self, archive: Archive) -> None:
        """Prepend the archive's rows to the window, and again after each extension of the look-back. Runs
        until cancelled."""
        while True:
            pause = ARCHIVE_LOOK
            following = self._consumer.phase == "following" and self.reached >= self._intake.look_back
            if following and self.archived < self._intake.look_back:
                target, lives = self._intake.look_back, self._intake.recreated
                try:
                    fetched = await self._fetch_archived(archive, target)
                    if (
                        fetched and self._intake.recreated == lives
                    ):  # otherwise the rows were of another stream
                        self.archived, archive.error = target, None
                except LookbackError as error:
                    archive.error, pause = error, ARCHIVE_RETRY
                except Exception as error:
                    _log.exception("Reading the archive of %s failed.", self._intake.key.name)
                    archive.error = LookbackError(f"Reading the archive failed: {error!r}.")
                    pause = ARCHIVE_RETRY
                self._changed()
            await asyncio.sleep(pause)

    def _read_again(self) -> None:
        self._intake.left_early, self.archived = False, pd.Timedelta(0)
        self._consumer.read_again("the look-back became longer")

    async def _fetch_archived(self, archive: Archive, look_back: pd.Timedelta) -> bool:
        """Prepend the archive's rows within `look_back`. False if the consumer reads everything again, so the
        archive must be fetched again later."""
        stream_check, consumer, lives = self._stream_check, self._consumer, self._intake.recreated
        while stream_check.first is None:  # noqa: ASYNC110 - the first check of the stream is under way
            await asyncio.sleep(ARCHIVE_LOOK)
        since = consumer.moment() - look_back.value
        reaches = stream_check.first <= 1 or (
            stream_check.oldest is not None and stream_check.oldest <= since
        )
        if consumer.created is None or (
            reaches and (self._intake.key.end is None or stream_check.first <= 1)
        ):
            return True  # the stream itself covers the look-back
        try:
            extent = await archive.query_extent(consumer.created)
        except LookbackError:
            if reaches:
                return True
            raise
        if reaches and extent.last_time <= since:  # it is later only if the clock was set back
            return True
        self._intake.left_early |= reaches
        before, begins = stream_check.first, stream_check.oldest or consumer.now()
        if (oldest := self._window.oldest_seq) is not None:
            before = min(before, oldest)
        if self._intake.key.end is not None and self.archived and before < stream_check.first:
            until = consumer.moment() - self.archived.value
            if await archive.any_above(consumer.created, since, until, before, stream_check.first):
                self._read_again()
                return False
        seam: Gap | None = None
        lost = loses(consumer.config)
        if (
            lost
            and extent.last
            and extent.last + 1 < before == stream_check.first
            and extent.last_time > since
        ):
            count = before - 1 - extent.last if self._every_message_counts else None
            seam = Gap("removed", extent.last_time, begins, count)
        above: tuple[int, int] | None = None
        if before < stream_check.first:  # continue below the rows that the archive has already sent
            above = before, int(self._window.snapshot().received[0])
        async for raw in archive.rows(consumer.created, since, before, self._intake.key.end):
            if self._intake.recreated != lives:
                return True
            if seam is not None:
                self._intake.missing(seam)
                seam = None
            self._note_jumps(raw, above)
            above = raw.seq[0], raw.received[0]
            raw, _ = self._intake.of_stretch(raw, consumer.moment())
            older, counted = self._intake.another_window(), MessageCount(self._intake.counted.lowest)
            while len(raw):
                taken = await self._intake.take(
                    raw, older, counted=counted, valid=lambda: self._intake.recreated == lives
                )
                if taken is None:
                    return True
                raw = raw.after(len(taken.raw))
            dropped = self._window.dropped
            self._window.prepend(older)
            self._intake.counted.prepend(counted)
            self._intake.grown()
            if self._window.dropped > dropped:
                return True  # the window is full
        if seam is not None:  # reported here only: after a failed fetch, the next one finds the same seam
            self._intake.missing(seam)
        return True

    @property
    def _every_message_counts(self) -> bool:
        """True if a missing sequence is a missing row: neither a subject nor a `where` leaves any out."""
        return self._intake.key.subject is None and self._intake.key.where is None

    def _note_jumps(self, raw: Raw, above: tuple[int, int] | None) -> None:
        """Record messages that the archive lacks as well: jumps in the sequence within `raw`, and between
        `raw` and the row `above` (its sequence and storage time). A no-op if a missing sequence need not be a
        loss."""
        if not self._every_message_counts or not holes_are_removals(self._consumer.config):
            return
        seqs, received = raw.seq, raw.received
        if above is not None:
            seqs, received = [*seqs, above[0]], [*received, above[1]]
        for i in np.flatnonzero(np.diff(seqs) > 1).tolist():
            self._intake.missing(Gap("removed", received[i], received[i + 1], seqs[i + 1] - seqs[i] - 1))

    def begins(self) -> tuple[int | None, int]:
        """When the oldest available message was stored (ns since the epoch, UTC; None if none was lost before
        it), and how many messages were lost before it."""
        if self.archive is not None and (extent := self.archive.extent).first:
            before = extent.first - self._stream_check.base
            return (extent.first_time if before > 0 else None), max(0, before)
        return self._stream_check.begins, self._stream_check.earlier


class Older:
    """A fetch of rows older than those of a window."""

    def __init__(
        self,
        connection: Connection,
        intake: Intake,
        stream_check: StreamCheck,
        look_back: pd.Timedelta,
        boundary: int,
    ) -> None:
        """Fetch messages within `look_back` and below the stream sequence `boundary`."""
        self.window = intake.another_window()
        self.counted = MessageCount(intake.counted.lowest)
        self.ends = Endings()
        self.void = False
        """True if the stream turned out to be another one."""
        self._voided = 0
        self._intake = intake
        self._stream_check = stream_check
        key = intake.key
        assert key.stream is not None
        self.consumer = Consumer(
            connection, key.stream, key.subject, lambda: look_back, self, until=boundary, end=key.end
        )

    def room(self) -> None:
        """No limit: whether older rows fit was checked before."""

    def left_out(self, count: int, until: int) -> None:
        """Never called, because room() is unlimited."""

    async def messages(self, raw: Raw) -> int:
        """Add the consumer's messages to the window."""
        voided, count = self._voided, len(raw)
        raw, places = self._intake.of_stretch(raw, self.consumer.moment())
        if not len(raw):
            return count
        taken = await self._intake.take(
            raw, self.window, counted=self.counted, valid=lambda: self._voided == voided
        )
        if taken is None:
            return 0
        if taken.raw.headers:
            self.ends.note(taken.raw, taken.sequences())
        if len(taken.raw) == len(raw):
            return count
        return len(taken.raw) if places is None else places[len(taken.raw) - 1] + 1

    def recreated(self) -> None:
        """Everything read so far is void."""
        self.void = True
        self._voided += 1

    def gone(self, count: int, start: int, end: int) -> None:
        """Record messages that left the stream before they could be read."""
        self._stream_check.unread(Gap("removed", start, end, count))

    def back_to(self, seq: int, stored: int) -> None:
        """Remove everything delivered after `seq`."""
        self._voided += 1
        held = self.window.snapshot().seq
        self.window.remove(held[held > seq])
