"""Puts older rows before those of a window: out of the stream when a look-back becomes longer, and out of the
archive from before the stream's own history."""

import asyncio
import logging
from collections.abc import Callable

import numpy as np
import pandas as pd

from ..connection.connection import Connection
from ..decoding.decoders import Raw
from ..errors import LookbackError
from ..streams.ordered_consumer import Consumer
from .archive import Archive, Extent
from .gaps import Gap
from .intake import Intake
from .reconcile import Audit
from .removals import Endings, holes_tell, loses

OLDER_RETRY = 2.0
"""Seconds until older rows that could not be read are asked for again."""
ARCHIVE_LOOK = 0.1
"""Seconds between two looks at whether the archive is wanted."""
ARCHIVE_RETRY = 5.0
"""Seconds until an archive that could not be read is asked again."""

_log = logging.getLogger(__name__)


class Backfill:
    """The older rows of one feed of a stream. Everything here runs on the client's loop."""

    def __init__(
        self,
        connection: Connection,
        intake: Intake,
        consumer: Consumer,
        audit: Audit,
        archive: Archive | None,
        changed: Callable[[], None],
    ) -> None:
        """`consumer` reads what is new. `changed` is called when something was fetched, or has failed."""
        self.reached = intake.look_back
        """The look-back that the stream has been read to."""
        self.older: Older | None = None
        """What is being fetched out of the stream."""
        self.failed: LookbackError | None = None
        """Why that failed, until it succeeds."""
        self.archive = archive
        self.archived = pd.Timedelta(0)
        """The look-back that the archive has been read to."""
        self._connection = connection
        self._intake = intake
        self._window = intake.window
        self._consumer = consumer
        self._audit = audit
        self._changed = changed

    @property
    def fetched(self) -> bool:
        """Whether all of the look-back was fetched, as far as it can be."""
        archive, look_back = self.archive, self._intake.look_back
        done = archive is None or archive.error is not None or self.archived >= look_back
        return self.reached >= look_back and done

    def start_over(self) -> None:
        """The stream is another one: what the archive was asked says nothing of it."""
        if self.archive is not None:
            self.archive.extent, self.archived = Extent(), pd.Timedelta(0)
            self._audit.first = None  # until the new stream was looked at

    async def fetch_older(self) -> None:
        """Put older rows before those of the window until the look-back is reached; what fails is tried
        again, and said to those who look back so far."""
        while self.reached < self._intake.look_back:
            try:
                await self._fetch_to(self._intake.look_back)
                self.failed = None
            except Exception as error:
                if not isinstance(error, LookbackError):
                    _log.exception("older rows of %s", self._intake.key.name)
                    error = LookbackError(f"Reading older rows failed: {error!r}.")
                self.failed = error
                self._changed()
                await asyncio.sleep(OLDER_RETRY)

    async def _fetch_to(self, target: pd.Timedelta) -> None:
        # Polled: what is waited for is either of two things, and happens once in a feed's life.
        while self._consumer.phase != "following" and not len(self._window):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        lives, boundary = self._intake.recreated, self._window.oldest_seq
        if boundary is None and self._consumer.last_seq is not None:
            boundary = self._consumer.last_seq + 1
        if boundary is None:
            self._consumer.restart("the look-back became longer")
        elif len(self._window) < 0.95 * self._window.most_rows:  # in a full one older rows would not stay
            older = Older(self._connection, self._intake, self._audit, target, boundary)
            self.older = older
            try:
                await older.consumer.run()
            finally:
                self.older = None
            # A stream that was recreated meanwhile is read from the start, by the whole look-back.
            same = lives == self._intake.recreated and older.consumer.created in (
                None,
                self._consumer.created,
            )
            if not older.void and same and self._window.oldest_seq in (boundary, None):
                self._window.prepend(older.window)
                self._audit.ends.add(older.ends)
                self._intake.grown()
        self.reached = target

    async def keep_archived(self, archive: Archive) -> None:
        """Put the archive's rows before those of the stream, and again when the look-back becomes longer."""
        while True:
            pause = ARCHIVE_LOOK
            following = self._consumer.phase == "following" and self.reached >= self._intake.look_back
            if following and self.archived < self._intake.look_back:
                target, lives = self._intake.look_back, self._intake.recreated
                try:
                    await self._fetch_archived(archive, target)
                    if self._intake.recreated == lives:  # otherwise what came was of another stream
                        self.archived, archive.error = target, None
                except LookbackError as error:
                    archive.error, pause = error, ARCHIVE_RETRY
                except Exception as error:
                    _log.exception("the archive of %s", self._intake.key.name)
                    archive.error = LookbackError(f"Reading the archive failed: {error!r}.")
                    pause = ARCHIVE_RETRY
                self._changed()
            await asyncio.sleep(pause)

    async def _fetch_archived(self, archive: Archive, look_back: pd.Timedelta) -> None:
        audit, consumer, lives = self._audit, self._consumer, self._intake.recreated
        while audit.first is None:  # noqa: ASYNC110 - it looks at the stream right now
            await asyncio.sleep(ARCHIVE_LOOK)
        since = consumer.now() - look_back.value
        reaches = audit.first <= 1 or (audit.oldest is not None and audit.oldest <= since)
        if reaches or consumer.created is None:
            return  # the stream's own history reaches as far
        extent = await archive.look(consumer.created)
        before, begins = audit.first, audit.oldest or consumer.now()
        if (oldest := self._window.oldest_seq) is not None:
            before = min(before, oldest)
        seam: Gap | None = None
        lost = loses(consumer.config)
        if lost and extent.last and extent.last + 1 < before == audit.first and extent.last_time > since:
            count = before - 1 - extent.last if self._intake.key.subject is None else None
            seam = Gap("removed", extent.last_time, begins, count)
        above: tuple[int, int] | None = None
        async for raw in archive.rows(consumer.created, since, before):
            if self._intake.recreated != lives:
                return
            if seam is not None:
                self._intake.missing(seam)
                seam = None
            self._note_jumps(raw, above)
            above = raw.seq[0], raw.received[0]
            older = self._intake.another_window()
            self._intake.take(raw, older)
            dropped = self._window.dropped
            self._window.prepend(older)
            self._intake.grown()
            if self._window.dropped > dropped:
                return  # the window is full
        if seam is not None:  # told once: where a fetch fails, the next one meets the same seam
            self._intake.missing(seam)

    def _note_jumps(self, raw: Raw, above: tuple[int, int] | None) -> None:
        """Messages of a whole stream that its archive has not got either, among `raw` and up to the row
        `above`, its sequence and when it was stored."""
        if self._intake.key.subject is not None or not holes_tell(self._consumer.config):
            return
        seqs, received = raw.seq, raw.received
        if above is not None:
            seqs, received = [*seqs, above[0]], [*received, above[1]]
        for i in np.flatnonzero(np.diff(seqs) > 1).tolist():
            self._intake.missing(Gap("removed", received[i], received[i + 1], seqs[i + 1] - seqs[i] - 1))

    def begins(self) -> tuple[int | None, int]:
        """When what can be had of the stream begins, and how many messages went before."""
        if self.archive is not None and (extent := self.archive.extent).first:
            before = extent.first - self._audit.base
            return (extent.first_time if before > 0 else None), max(0, before)
        return self._audit.begins, self._audit.earlier


class Older:
    """The rows before those of a window, on their way."""

    def __init__(
        self, connection: Connection, intake: Intake, audit: Audit, look_back: pd.Timedelta, boundary: int
    ) -> None:
        """Of messages within `look_back` and below the stream sequence `boundary`."""
        self.window = intake.another_window()
        self.ends = Endings()
        self.void = False
        """Whether the stream turned out to be another one."""
        self._intake = intake
        self._audit = audit
        key = intake.key
        assert key.stream is not None
        self.consumer = Consumer(connection, key.stream, key.subject, lambda: look_back, self, until=boundary)

    def room(self) -> None:
        """All of what is asked for is read: that older rows fit was seen to before."""

    def left_out(self, count: int, until: int) -> None:
        """Never: there is room for all."""

    def messages(self, raw: Raw) -> None:
        """Take them in."""
        self.ends.note(raw)
        self._intake.take(raw, self.window)

    def recreated(self) -> None:
        """What was read is void."""
        self.void = True

    def gone(self, count: int, start: int, end: int) -> None:
        """Note messages that left the stream before they could be read."""
        self._audit.unread(Gap("removed", start, end, count))

    def back_to(self, seq: int, stored: int) -> None:
        """Forget what was delivered behind `seq`."""
        held = self.window.snapshot().seq
        self.window.remove(held[held > seq])
