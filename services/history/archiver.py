"""Copies streams into the archive, as runs of the workflow `archive`: every five minutes and on request.

It runs in the history service's process, because only one process may write a DuckDB file. For each stream, a
run checks for new messages, copies them in order, checks that the newest one is stored, and deletes old rows.
A run that ends early leaves nothing half done: the next one continues after the newest stored sequence, and
storing a message again is a no-op.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from nats_client.connection.connection import Connection, end_tasks
from nats_client.connection.settings import Settings
from nats_client.decoding.decoders import check_decoder
from nats_client.decoding.raw import Raw
from nats_client.environment import ARCHIVE_DAYS, ARCHIVE_EVERY
from nats_client.errors import LookbackError
from nats_client.feeds.removals import loses
from nats_client.streams.ordered_consumer import Consumer
from services.history.database import Database, Message, Place
from services.history.decoded import decoded
from services.workflow import Job, Step, Workflow, serve

PART = 20_000  # messages copied at a time
READ_TIMEOUT = 60.0  # seconds to read one part
AGAIN_FOR = 150.0  # seconds of a run after which it leaves further decoding again to the next run
RETRY_AFTER = 1.0  # seconds between two checks for a stream that does not exist yet

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

log = logging.getLogger("services.history.archiver")


class ArchiveError(LookbackError):
    """A stream cannot be archived."""


class Part:
    """Messages on their way into the archive. Implements the receiving side of a consumer."""

    def __init__(self) -> None:
        self.raw = Raw()
        self.lost = 0
        """Messages that left the stream before they could be read."""
        self.void = False
        """True if the stream turned out to be another one."""

    def room(self) -> None:
        """Nothing to do: all messages are read."""

    def left_out(self, count: int, until: int) -> None:
        """Never called, because there is room for all."""

    async def messages(self, raw: Raw) -> int:
        """Take messages, in order."""
        self.raw.seq.extend(raw.seq)
        self.raw.received.extend(raw.received)
        self.raw.subject.extend(raw.subject)
        self.raw.payload.extend(raw.payload)
        self.raw.headers.update(raw.headers)
        return len(raw)

    def back_to(self, seq: int, stored: int) -> None:
        """Drop the messages after `seq`; they will be delivered again."""
        kept = int(np.searchsorted(self.raw.seq, seq, "right"))
        for column in (self.raw.seq, self.raw.received, self.raw.subject, self.raw.payload):
            del column[kept:]

    def recreated(self) -> None:
        """The messages so far belong to a stream that is gone."""
        self.void = True

    def gone(self, count: int, start: int, end: int) -> None:
        """Count lost messages."""
        self.lost += count


def streams_to_copy(arguments: Sequence[str]) -> dict[str, str | None]:
    """Parse the command's arguments, STREAM or STREAM=DECODER: each stream with its decoder or None. Raises
    SettingsError if there is no such decoder."""
    found: dict[str, str | None] = {}
    for argument in arguments:
        stream, equals, decoder = argument.partition("=")
        if equals:
            check_decoder(decoder)
        found[stream] = decoder if equals else None
    return found


class Archiver:
    """Copies `streams` into `database`, with the values that a stream's decoder reads from its payloads."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        streams: Mapping[str, str | None],
        *,
        keep: timedelta = timedelta(days=ARCHIVE_DAYS.default),
        again: bool = False,
    ) -> None:
        """`keep`: messages older than this are deleted. `again`: decode archived messages once more."""
        self._database = database
        self._settings = replace(settings, name="lookback-archiver")
        self._streams = streams
        self._keep = keep
        self._again: dict[str, Place | None] = dict.fromkeys(streams if again else ())
        """Streams to decode once more, each with the place of the last message that is done."""

    async def serve(self, every: float = ARCHIVE_EVERY.default) -> None:
        """Run every `every` seconds and on request, until cancelled. The first run waits for the streams,
        because programs that start together come up in any order."""
        async with serve("archive", self.run, url=self._settings.url) as service:
            async with self._connected() as connection:
                for stream in self._streams:
                    await _wait_for(connection, stream)
            while True:
                if service.current is None:
                    service.start("schedule")
                await asyncio.sleep(every)

    async def run(self, workflow: Workflow) -> None:
        """One run. Each stream is a job; a stream that fails does not stop the others."""
        failed: list[str] = []
        until = time.monotonic() + AGAIN_FOR
        async with self._connected() as connection:
            for stream in self._streams:
                try:
                    with workflow.job(stream) as job:
                        await self._archive(connection, stream, job)
                        if stream in self._again:
                            with job.step("decode again") as step:
                                await self._decode_again(stream, step, until)
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
            done = max(newest, first - 1)  # nothing up to here needs copying
            total = max(0, last - done)
            step.log(f"stored up to {newest:,}; the stream has {first:,} to {last:,}")
            if newest and first > newest + 1 and loses(info["config"]):
                step.log(f"{first - newest - 1:,} messages left the stream before they were archived")
        copied, logged = 0, None
        with job.step("copy") as step:
            while done < last:
                until = min(last, done + PART)
                # If nothing is stored yet, start by time: rows older than `keep` would be deleted again.
                part, by_sequence = await self._read(connection, stream, done if newest else None, until)
                if by_sequence != logged:
                    step.log(f"read by sequence: {by_sequence}" if by_sequence else "read with a consumer")
                    logged = by_sequence
                raw = part.raw
                values: list[str | None] = [None] * len(raw)
                if (decoder := self._streams[stream]) is not None:
                    values, failed, why = await asyncio.to_thread(decoded, raw, decoder)
                    if failed:
                        step.log(f"{len(failed):,} messages could not be decoded with {decoder!r}: {why}")
                messages = [
                    Message(stream, created, seq, _microseconds(stored), subject, payload, value)
                    for seq, stored, subject, payload, value in zip(
                        raw.seq, raw.received, raw.subject, raw.payload, values, strict=True
                    )
                ]
                if messages:  # all messages of a part may have left the stream
                    await asyncio.to_thread(self._database.insert, messages)
                    newest = messages[-1].seq
                copied += len(messages)
                done = until
                step.progress(total - (last - done), total)
            step.log(f"{copied:,} messages copied")
        with job.step("check") as step:
            stored = await asyncio.to_thread(self._database.newest, stream, created)
            if stored < newest:
                raise ArchiveError(f"The archive ends at {stored:,}, but {newest:,} was written to it.")
            step.log(f"the archive ends at {stored:,}")
        with job.step("forget") as step:
            forgotten = await asyncio.to_thread(self._database.forget, stream, datetime.now(UTC) - self._keep)
            step.log(f"{forgotten:,} messages were older than {self._keep.days} days")

    async def _decode_again(self, stream: str, step: Step, until: float) -> None:
        """Decode the stream's archived messages with its current decoder, until the monotonic time `until`;
        the next run continues. The archive has payloads, but no headers. A message that cannot be decoded
        keeps its stored value. Idempotent, so it may be interrupted at any time."""
        decoder, count, changed, reasons = self._streams[stream], 0, 0, list[str]()
        failures = 0
        while messages := await asyncio.to_thread(self._database.stored, stream, self._again[stream]):
            values: list[str | None] = [None] * len(messages)
            failed: list[int] = []
            if decoder is not None:
                raw = Raw(
                    list(range(len(messages))),
                    [0] * len(messages),
                    [message.subject for message in messages],
                    [message.payload for message in messages],
                )
                values, failed, why = await asyncio.to_thread(decoded, raw, decoder)
                reasons += [why] * bool(failed)
            wrong = set(failed)
            made = [
                replace(message, value=value)
                for i, (message, value) in enumerate(zip(messages, values, strict=True))
                if i not in wrong
            ]
            if made:
                changed += await asyncio.to_thread(self._database.replace, made)
            count, failures = count + len(messages), failures + len(failed)
            self._again[stream] = messages[-1].created, messages[-1].seq
            step.progress(count)
            if time.monotonic() > until:
                break
        else:
            del self._again[stream]
        step.log(f"{count:,} messages decoded again, {changed:,} of them changed")
        if failures:
            step.log(f"{failures:,} messages could not be decoded and keep what they have: {reasons[0]}")
        if stream in self._again:
            step.log("the next run continues")

    async def _read(
        self, connection: Connection, stream: str, after: int | None, until: int
    ) -> tuple[Part, str | None]:
        """The messages after sequence `after` (None: since the oldest time to keep) up to sequence `until`.
        Also why they were read by sequence; None if by a consumer. Raises ArchiveError, TimeoutError."""
        part = Part()
        consumer = Consumer(connection, stream, None, lambda: pd.Timedelta(self._keep), part, until=until + 1)
        consumer.last_seq = after
        async with asyncio.timeout(READ_TIMEOUT):
            await consumer.run()
        if part.void:
            raise ArchiveError(f"The stream {stream!r} was recreated meanwhile. The next run continues.")
        return part, consumer.by_sequence


async def _wait_for(connection: Connection, stream: str) -> None:
    while True:
        try:
            await connection.api(f"STREAM.INFO.{stream}")
            return
        except (LookbackError, TimeoutError):
            await asyncio.sleep(RETRY_AFTER)


def _microseconds(ns: int) -> datetime:
    """A time in ns since the epoch, truncated to the microseconds that the database keeps."""
    return _EPOCH + timedelta(microseconds=ns // 1000)
