"""Copies streams into the archive, as runs of the workflow `archive`: every five minutes, and when asked to.

It runs in the history service's process, since only one process may open a DuckDB file. For each stream a run
looks what is new, copies it in order, checks the copy against what was read, and forgets what has become
old. A run that ends early leaves nothing half done: the next one goes on behind the newest sequence stored,
and storing a message again changes nothing.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from nats_client.connection.connection import Connection, end_tasks
from nats_client.connection.settings import Settings
from nats_client.decoding.decoders import Raw
from nats_client.errors import LookbackError
from nats_client.feeds.removals import loses
from nats_client.streams.ordered_consumer import Consumer
from services.history.database import Database, Message
from services.workflow import Job, Workflow, serve

EVERY = 300.0  # seconds between two runs
KEEP = timedelta(days=30)  # what is older is forgotten
PART = 20_000  # messages that are copied at once
READ_TIMEOUT = 60.0  # seconds that reading one part may take
RETRY_AFTER = 1.0  # seconds between two looks for a stream that is not there yet

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

log = logging.getLogger("services.history.archiver")


class ArchiveError(LookbackError):
    """A stream cannot be archived as it is."""


class Part:
    """Messages on their way into the archive: where a consumer delivers to."""

    def __init__(self) -> None:
        self.raw = Raw()
        self.lost = 0
        """Messages that left the stream before they could be read."""
        self.void = False
        """Whether the stream turned out to be another one."""

    def room(self) -> None:
        """All messages are read."""

    def left_out(self, count: int, until: int) -> None:
        """Never: there is room for all."""

    def messages(self, raw: Raw) -> None:
        """Take in messages, in order."""
        self.raw.seq.extend(raw.seq)
        self.raw.received.extend(raw.received)
        self.raw.subject.extend(raw.subject)
        self.raw.payload.extend(raw.payload)

    def back_to(self, seq: int, stored: int) -> None:
        """Forget what came behind `seq`: it comes again."""
        kept = int(np.searchsorted(self.raw.seq, seq, "right"))
        for column in (self.raw.seq, self.raw.received, self.raw.subject, self.raw.payload):
            del column[kept:]

    def recreated(self) -> None:
        """What was read belongs to a stream that is no more."""
        self.void = True

    def gone(self, count: int, start: int, end: int) -> None:
        """Count what was lost."""
        self.lost += count


class Archiver:
    """Copies `streams` into `database`."""

    def __init__(
        self, database: Database, settings: Settings, streams: Sequence[str], *, keep: timedelta = KEEP
    ) -> None:
        self._database = database
        self._settings = replace(settings, name="lookback-archiver")
        self._streams = streams
        self._keep = keep

    async def serve(self, every: float = EVERY) -> None:
        """Run every `every` seconds, and when a request asks for it, until cancelled. The first run waits for
        the streams: what starts together comes up in any order."""
        async with serve("archive", self.run, url=self._settings.url) as service:
            async with self._connected() as connection:
                for stream in self._streams:
                    await _wait_for(connection, stream)
            while True:
                if service.current is None:
                    service.start("schedule")
                await asyncio.sleep(every)

    async def run(self, workflow: Workflow) -> None:
        """One run: each stream is a job. A stream that fails does not hold up the others."""
        failed: list[str] = []
        async with self._connected() as connection:
            for stream in self._streams:
                try:
                    with workflow.job(stream) as job:
                        await self._archive(connection, stream, job)
                except (LookbackError, TimeoutError) as error:
                    failed.append(f"{stream}: {error or 'no answer in time'}")
        if failed:
            raise ArchiveError(" ".join(failed))

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        connection = Connection(self._settings)
        connecting = asyncio.create_task(connection.run())
        try:
            yield connection
        finally:
            await end_tasks([connecting])
            await connection.close()

    async def _archive(self, connection: Connection, stream: str, job: Job) -> None:
        with job.step("look") as step:
            info = await connection.api(f"STREAM.INFO.{stream}")
            created = _microseconds(pd.Timestamp(info["created"]).value)
            first, last = int(info["state"]["first_seq"]), int(info["state"]["last_seq"])
            newest = await asyncio.to_thread(self._database.newest, stream, created)
            done = max(newest, first - 1)  # up to here nothing is left to be copied
            total = max(0, last - done)
            step.log(f"stored up to {newest:,}; the stream has {first:,} to {last:,}")
            if newest and first > newest + 1 and loses(info["config"]):
                step.log(f"{first - newest - 1:,} messages left the stream before they were archived")
        copied, told = 0, None
        with job.step("copy") as step:
            while done < last:
                until = min(last, done + PART)
                # Without anything stored, by time: what is older than is kept is not worth copying.
                part, why = await self._read(connection, stream, done if newest else None, until)
                if why != told:
                    step.log(f"read by sequence: {why}" if why else "read by a consumer")
                    told = why
                messages = [
                    Message(stream, created, seq, _microseconds(stored), subject, payload)
                    for seq, stored, subject, payload in zip(
                        part.raw.seq, part.raw.received, part.raw.subject, part.raw.payload, strict=True
                    )
                ]
                if messages:  # a part may be gone as a whole
                    await asyncio.to_thread(self._database.insert, messages)
                    newest = messages[-1].seq
                copied += len(messages)
                done = until
                step.progress(total - (last - done), total)
            step.log(f"{copied:,} messages copied")
        with job.step("check") as step:
            stored = await asyncio.to_thread(self._database.newest, stream, created)
            if stored < newest:
                raise ArchiveError(f"The archive ends at {stored:,}, and {newest:,} was written to it.")
            step.log(f"the archive ends at {stored:,}")
        with job.step("forget") as step:
            forgotten = await asyncio.to_thread(self._database.forget, stream, datetime.now(UTC) - self._keep)
            step.log(f"{forgotten:,} messages were older than {self._keep.days} days")

    async def _read(
        self, connection: Connection, stream: str, after: int | None, until: int
    ) -> tuple[Part, str | None]:
        """The messages behind sequence `after`, or since the oldest time that is kept, up to `until`; and why
        they were read by sequence, if they were. Raises ArchiveError, TimeoutError."""
        part = Part()
        consumer = Consumer(connection, stream, None, lambda: pd.Timedelta(self._keep), part, until=until + 1)
        consumer.last_seq = after
        async with asyncio.timeout(READ_TIMEOUT):
            await consumer.run()
        if part.void:
            raise ArchiveError(f"The stream {stream!r} was made anew meanwhile; the next run goes on.")
        return part, consumer.by_sequence


async def _wait_for(connection: Connection, stream: str) -> None:
    while True:
        try:
            await connection.api(f"STREAM.INFO.{stream}")
            return
        except (LookbackError, TimeoutError):
            await asyncio.sleep(RETRY_AFTER)


def _microseconds(ns: int) -> datetime:
    """A time in ns since the epoch as the database keeps it, cut to microseconds."""
    return _EPOCH + timedelta(microseconds=ns // 1000)
