"""Searches a stretch of a stream for text, from its first message to its last, as fast as a replay reads."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal, TypeVar

import pandas as pd

from ..connection.connection import Connection, end_tasks
from ..decoding.decode import decode
from ..decoding.raw import Malformed, Raw
from ..decoding.unpacked import is_packed, unpacked
from ..errors import LookbackError, RequestFailed, RequestRefused, SqlError
from ..memory import SMALLEST
from ..sql.row_filter import RowFilter, StoppedError, unseen_text
from ..streams.by_sequence import BySequence
from ..streams.ordered_consumer import Consumer
from ..watchers import Watchers
from .content import content_of
from .stored import StoredMessage

MOST_FOUND = 1_000
"""Maximum messages to find; then a search ends."""
MOST_BYTES = 16 * 1024 * 1024
"""Maximum bytes of their payloads; then a search ends."""
LONGEST_TEXT = 1_000
"""Maximum characters of the text to search for."""
SLICE = 0.1
"""Seconds of one round of checks. After each, a stop takes effect, and other searches get their turn."""
AT_ONCE = 50
"""Messages checked between two readings of the clock."""
MOST_AT_ONCE = 2_000
"""The same for a search with an expression and no text, at most: expressions are faster for many at once."""
MOST_SAMPLES = 10
"""Malformed messages kept, to show one of them."""
LONGEST_WORK = 5.0
"""Maximum seconds that an expression may take in one round."""
UNWATCHED = 10.0
"""Seconds without a reader of `status` after which a search stops."""
RETRY_AFTER = 0.5
"""Seconds before a request is retried if the server did not answer it."""
LOOK_EVERY = 0.25
"""Seconds between two checks of whether to continue."""

T = TypeVar("T")
_EACH = 400  # bytes of a message beside its content
Status = Literal["under way", "done", "full", "stopped", "left", "failed"]
"""Under way, or why it ended: everything was read, enough was found, stop() was called, `status` had no
reader, or an error."""

_workers = ThreadPoolExecutor(2, thread_name_prefix="search")


@dataclass(frozen=True)
class Wanted:
    """The parameters of a search. Equal objects mean the same search."""

    stream: str
    subject: str | None
    """The filter, or several as in Pattern; None for all."""
    text: str
    """The text to find, ignoring case, in the subject, the headers, or the payload as text or decoded."""
    start: int | None
    """Start of the search, ns since the epoch, UTC; None for the stream's first message."""
    end: int | None
    """End of the search, exclusive, ns since the epoch, UTC; None for the last message when it starts."""
    decoder: str
    where: str | None = None
    """An expression as in feed(), which must also be true, for at least one row of a message."""
    names: tuple[str, ...] = ()
    """The names of subject tokens, for the expression."""
    time: str | None = None
    headers: tuple[str, ...] = ()
    """The headers that the expression reads as columns."""


@dataclass
class Checked:
    """The outcome of checking some messages."""

    count: int = 0
    """How many were checked, from the first on."""
    found: list[StoredMessage] = field(default_factory=list)
    malformed: list[int] = field(default_factory=list)
    """Sequences of the messages that could not be decoded for the expression."""
    samples: list[Malformed] = field(default_factory=list)
    """Some of these messages, up to MOST_SAMPLES."""


class Search:
    """One search. It ends by itself if `status` has no reader for UNWATCHED seconds. Thread-safe to read."""

    def __init__(self, connection: Connection, wanted: Wanted) -> None:
        """Raises SqlError."""
        self.wanted = wanted
        self.scanned = 0
        """Messages that were checked."""
        self.scanned_to = 0
        """The sequence of the last message that was checked."""
        self.malformed = 0
        """Messages that could not be decoded for the expression, and are therefore not found."""
        self.sample: Malformed | None = None
        """One of these messages; None if there is none."""
        self.error: LookbackError | None = None
        """Why it failed."""
        self._status: Status = "under way"
        self._found: tuple[StoredMessage, ...] = ()
        self._bytes = 0
        self._most_bytes = MOST_BYTES
        self._connection = connection
        self._needle = wanted.text.casefold()
        self._filter = RowFilter(wanted.where, (), wanted.names) if wanted.where else None
        self._malformed_to = 0  # sequence of the last malformed message
        self._at_once = AT_ONCE
        self.last_read = time.monotonic()
        """When `status` was last read, on the monotonic clock, in seconds."""
        self._stop = False
        self._waits_for: LookbackError | None = None
        self._ended = threading.Event()
        self._watchers = Watchers()
        self._consumer: Consumer | None = None

    # -- from any thread ---------------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """Under way, or why the search ended. Reading this keeps the search running."""
        self.last_read = time.monotonic()
        return self._status

    @property
    def found(self) -> tuple[StoredMessage, ...]:
        """The messages found so far, by sequence. Repeated headers are joined by a comma."""
        return self._found

    @property
    def progress(self) -> float:
        """Share of the stretch that has been searched, 0 to 1."""
        if self._status == "done":
            return 1.0
        return 0.0 if self._consumer is None else self._consumer.progress

    @property
    def is_over(self) -> bool:
        """True once the search has ended. Reading this does not keep it running."""
        return self._ended.is_set()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about the expression: which of its fields no message has had so far, and why it has no
        value for some messages."""
        if self._filter is None or not self.scanned:
            return ()
        seen = self._filter.seen
        return (*(unseen_text(name, seen) for name in seen.absent), *seen.notes)

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for the end. Returns whether it has ended."""
        return self._ended.wait(timeout)

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed`, on the client's thread, whenever the search has advanced or ended. Returns a
        function that removes the callback."""
        return self._watchers.add(changed)

    @property
    def waits_for(self) -> LookbackError | None:
        """Why the search cannot continue at the moment; None if it can."""
        if self._consumer is not None and self._consumer.phase == "reconnecting":
            return self._consumer.why
        return self._waits_for

    def stop(self) -> None:
        """End the search. The messages found so far are kept."""
        self._stop = True
        if self._filter is not None:
            self._filter.stop()

    # -- memory, from any thread -------------------------------------------------------------------------

    @property
    def nbytes(self) -> int:
        """Estimated bytes of the messages found."""
        return sum(map(_size_of, self._found))

    def shrink(self, nbytes: int, ceiling: int) -> None:
        """Limit the messages found to `nbytes`, because the process may hold at most `ceiling` bytes. If more
        were found, keep the first ones, and end."""
        self._most_bytes = max(SMALLEST, nbytes)
        if self.nbytes <= self._most_bytes:
            return
        self._stop = True
        ends = accumulate(map(_size_of, self._found))
        kept = [message for message, end in zip(self._found, ends, strict=True) if end <= self._most_bytes]
        self._keep(kept)
        self.scanned_to = kept[-1].seq if kept else 0
        self._status = "full"
        self._ended.set()
        self._watchers.notify()

    def relax(self) -> None:
        """Lift the limit of shrink()."""
        self._most_bytes = MOST_BYTES

    def drop(self) -> None:
        """Release the messages found, because they have no reader and memory is short."""
        self._stop = True
        self._keep([])
        self._status = "failed"
        self.error = LookbackError(
            "What was found was dropped, because memory was short and nobody read it. Search again."
        )
        self._ended.set()
        self._watchers.notify()

    # -- on the client's loop ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Search until it ends."""
        work = asyncio.ensure_future(self._read())
        try:
            while self._goes_on() and not work.done():
                await asyncio.wait({work}, timeout=LOOK_EVERY)
                reader = self._consumer
                if reader is not None and reader.phase == "stopped" and reader.why is not None:
                    self._fail(reader.why)
        finally:
            while not work.done():
                with contextlib.suppress(asyncio.CancelledError):  # it is cancelled again while this waits
                    await end_tasks([work])
        error = None if work.cancelled() else work.exception()
        if isinstance(error, LookbackError):
            self._fail(error)
        elif error is not None:
            self._fail(LookbackError(f"The search failed: {error!r}."))
            raise error
        else:
            self._end("done")

    async def _read(self) -> None:
        wanted = self.wanted
        first, until = await self._answered(self._find_end)
        if until <= first:
            return

        def look_back() -> pd.Timedelta:
            return pd.Timedelta(consumer.moment() - (wanted.start or 1), unit="ns")

        consumer = self._consumer = Consumer(
            self._connection, wanted.stream, wanted.subject, look_back, self, until=until
        )
        await consumer.run()

    async def _find_end(self) -> tuple[int, int]:
        """The first sequence, and the sequence before which the search ends."""
        wanted = self.wanted
        state = (await self._connection.infos.ask(wanted.stream))["state"]
        until = int(state["last_seq"]) + 1
        if wanted.end is not None and state["messages"]:
            reader = BySequence(self._connection, wanted.stream, None, "it is searched up to a time.")
            until = min(until, await reader.since(wanted.end, state))
        return (int(state["first_seq"]) if state["messages"] else until), until

    async def _answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Call `ask` until the server answers, and return its result. Raises RequestRefused."""
        while True:
            try:
                found = await ask()
            except RequestRefused:
                raise
            except (RequestFailed, TimeoutError, OSError) as error:
                self._waits_for = error if isinstance(error, LookbackError) else self._connection.state.error
            else:
                self._waits_for = None
                return found
            await asyncio.sleep(RETRY_AFTER)

    def _goes_on(self) -> bool:
        if self._stop:
            self._end("stopped")
        elif time.monotonic() - self.last_read > UNWATCHED:
            self._end("left")
        return self._status == "under way"

    def _end(self, status: Status) -> None:
        if self._status == "under way":
            self._status = status
            self._ended.set()
            self._watchers.notify()

    def _fail(self, error: LookbackError) -> None:
        self.error = error
        self._end("failed")

    async def messages(self, raw: Raw) -> int:
        """Check messages; see Sink. Raises SqlError."""
        if not self._goes_on():
            return 0
        while (checked := await self._check_in_thread(raw)) is None:
            if self._stop:
                return 0
            if self._at_once == AT_ONCE:
                raise SqlError(f"The filter took more than {LONGEST_WORK:g} s for a few messages.")
            self._at_once = AT_ONCE
        self._take(checked, raw)
        return checked.count

    async def _check_in_thread(self, raw: Raw) -> Checked | None:
        """Check messages in a worker thread; None if it was stopped."""
        work = asyncio.get_running_loop().run_in_executor(_workers, self._check, raw)
        wait = LONGEST_WORK
        while not (await asyncio.wait({work}, timeout=wait))[0]:
            wait = LOOK_EVERY
            if self._filter is not None:
                self._filter.stop()
        try:
            return work.result()
        except StoppedError:
            return None

    def _take(self, checked: Checked, raw: Raw) -> None:
        """Add the matches in `checked`, the outcome for the first messages of `raw`."""
        for message in checked.found:
            if len(self._found) >= MOST_FOUND or self._bytes + len(message.payload) > self._most_bytes:
                self._end("full")
                self.scanned_to = message.seq - 1
                return
            self._add(message)
        self._count(checked)
        self._advance(checked.count, raw)

    def _add(self, message: StoredMessage) -> None:
        self._found = (*self._found, message)
        self._bytes += len(message.payload)

    def _count(self, checked: Checked) -> None:
        """Count malformed messages, each once, although some are checked again after a doubt."""
        self.malformed += sum(seq > self._malformed_to for seq in checked.malformed)
        self._malformed_to = max([self._malformed_to, *checked.malformed])
        self.sample = next(iter([*filter(None, [self.sample]), *checked.samples]), None)

    def _advance(self, count: int, raw: Raw) -> None:
        if count:
            self.scanned += count
            self.scanned_to = raw.seq[count - 1]
            self._watchers.notify()

    def recreated(self) -> None:
        """Drop the messages found, because the stream is another one now and does not hold them."""
        self._keep([])
        self.scanned = self.scanned_to = self.malformed = self._malformed_to = 0
        self.sample = None

    def gone(self, count: int, start: int, end: int) -> None:
        """Do nothing: messages that left the stream cannot be found."""

    def room(self) -> int | None:
        """None: no limit."""
        return None

    def left_out(self, count: int, until: int) -> None:
        """Do nothing: room() sets no limit."""

    def back_to(self, seq: int, stored: int) -> None:
        """Drop the messages found after `seq`, because they are delivered again."""
        self._keep([message for message in self._found if message.seq <= seq])

    def _keep(self, found: list[StoredMessage]) -> None:
        self._found = tuple(found)
        self._bytes = sum(len(message.payload) for message in found)

    # -- in a worker thread ------------------------------------------------------------------------------

    def _check(self, raw: Raw) -> Checked:
        """Check messages, as many as there is time for."""
        began, checked = time.monotonic(), Checked()
        if self._filter is not None and not self._stop:
            self._filter.go_on()
        while checked.count < len(raw):
            if checked.count and (time.monotonic() - began > SLICE or self._stop):
                break
            some = list(range(checked.count, min(len(raw), checked.count + self._at_once)))
            at = time.monotonic()
            self._add_matching(raw.pick(some), checked)
            checked.count += len(some)
            if not self._needle:  # the expression alone is quicker for many at once
                quick = time.monotonic() - at < SLICE / 4
                self._at_once = min(MOST_AT_ONCE, 2 * len(some)) if quick else max(AT_ONCE, len(some) // 2)
        return checked

    def _add_matching(self, raw: Raw, checked: Checked) -> None:
        if self._needle:
            raw = raw.pick([i for i in range(len(raw)) if self._has(_message(raw, i))])
        if self._filter is not None and len(raw):
            kept = set(self._filtered(raw, checked))
            raw = raw.pick([i for i, seq in enumerate(raw.seq) if seq in kept])
        checked.found += [_message(raw, i) for i in range(len(raw))]

    def _filtered(self, raw: Raw, checked: Checked) -> list[int]:
        """The sequences for which the expression is true."""
        assert self._filter is not None
        wanted = self.wanted
        try:
            batch, samples, malformed = decode(raw, wanted.decoder, wanted.time, wanted.headers)
        except Exception as error:
            if len(raw) > 1:  # one bad payload must not spoil the others
                return [seq for one in raw.split() for seq in self._filtered(one, checked)]
            reason = str(error) if isinstance(error, ValueError) else repr(error)
            checked.malformed.append(raw.seq[0])
            checked.samples.append(Malformed(raw.subject[0], raw.seq[0], reason, repr(raw.payload[0][:200])))
            del checked.samples[:-MOST_SAMPLES]
            return []
        if malformed:
            bad = {*raw.seq}.difference(batch.seq.tolist()) | {sample.seq for sample in samples}
            if len(bad) != malformed:  # such as an empty array, which has no row and is valid
                bad = {one.seq[0] for one in raw.split() if decode(one, wanted.decoder, wanted.time)[2]}
            checked.malformed += sorted(bad)
            checked.samples = [*checked.samples, *samples][-MOST_SAMPLES:]
        return [int(seq) for seq in self._filter.apply(batch).seq]

    def _has(self, message: StoredMessage) -> bool:
        needle = self._needle
        if not needle or needle in message.subject.casefold():
            return True
        if any(needle in f"{name}: {text}".casefold() for name, text in message.headers):
            return True
        payload = message.payload
        headers = {name.lower(): text for name, text in message.headers}
        if is_packed(payload) or "content-encoding" in headers:
            with contextlib.suppress(ValueError):
                payload = unpacked(payload, headers)
        try:
            if needle in payload.decode().casefold():
                return True
            if needle.isascii() or b"\\u" not in payload:  # JSON may escape non-ASCII text
                return False
        except UnicodeDecodeError:
            pass
        content = content_of(message, self.wanted.decoder)
        if content.taken_for:
            return needle in _as_text(content.value).casefold()
        return needle in payload.decode("utf-8", "replace").casefold()


def _message(raw: Raw, i: int) -> StoredMessage:
    seq = raw.seq[i]
    headers = tuple(raw.headers.get(seq, {}).items())
    return StoredMessage(seq, raw.received[i], raw.subject[i], bytes(raw.payload[i]), headers)


def _size_of(message: StoredMessage) -> int:
    return (
        _EACH + len(message.subject) + len(message.payload) + sum(len(a) + len(b) for a, b in message.headers)
    )


def _as_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, bytes | bytearray):
        return bytes(value).hex()
    return dict(value) if isinstance(value, Mapping) else str(value)
