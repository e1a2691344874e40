"""Reads any message that a stream holds, and pages of messages in both directions.

Everything is read with `STREAM.MSG.GET`, as in by_sequence.py. This takes nothing from a work queue and needs
no consumer. The stream's leader answers, so "there is no such message" is certain. The server finds the next
match at or after a sequence, but not the last match before one. So a page that is read backward requests
ranges before a sequence until enough is found, each four times as long as the previous one.
"""

import asyncio
import base64
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..connection.connection import Connection
from ..connection.header_block import header_lines
from ..errors import MessageNotFound
from ..streams.by_sequence import BYTES_UNDER_WAY, BySequence, ns

MOST = 200
"""Maximum messages of one page."""
MOST_BYTES = 8 * 1024 * 1024
"""Bytes of payload after which a page ends, with at least one message."""
LONGEST = 3.0
"""Seconds after which a page ends, even if it is not full."""
FIRST_RANGE = 8
"""Maximum sequences in the first range of a page that is read backward."""
PARTS = 16
"""Parts of a range that are read at the same time."""
WHY = "that is how any of its messages is found."


@dataclass(frozen=True)
class StoredMessage:
    """A message as the stream holds it."""

    seq: int
    stored: int
    """When the server stored it, ns since the epoch, UTC."""
    subject: str
    payload: bytes
    headers: tuple[tuple[str, str], ...] = ()
    """Names and values, in the order in which they were sent. A name may occur more than once."""


@dataclass(frozen=True)
class Held:
    """The state of a stream."""

    first: int
    """Its first sequence; greater than `last` if the stream is empty."""
    last: int
    messages: int
    bytes: int
    created: str
    """When it was created, as text from the server. It differs if the stream was recreated."""


@dataclass(frozen=True)
class StoredPage:
    """Messages of a stream that match the filter: all from the sequence `low` to `high`."""

    messages: tuple[StoredMessage, ...]
    """By sequence, ascending."""
    low: int
    high: int
    held: Held

    @property
    def older(self) -> bool:
        """True if the stream has sequences before this page."""
        return self.low > self.held.first

    @property
    def newer(self) -> bool:
        """True if the stream had sequences after this page."""
        return self.high < self.held.last


class StoredMessages:
    """Reads the messages of one stream that match a filter. Everything here runs on the client's loop."""

    def __init__(self, connection: Connection, stream: str, subject: str | None = None) -> None:
        """`subject`: one filter, or several as in Pattern; None for all."""
        self._connection = connection
        self._stream = stream
        self._reader = BySequence(connection, stream, subject, WHY)

    async def held(self) -> Held:
        """The state of the stream now. Raises StreamNotFound, RequestFailed."""
        return held_of(await self._connection.infos.ask(self._stream))

    async def one(self, seq: int) -> StoredMessage:
        """The message `seq`. Raises MessageNotFound, whose text explains why the stream does not hold it,
        StreamNotFound, NotPermitted, RequestFailed."""
        if (found := await self._reader.get(seq)) is not None:
            return stored_message(found)
        held = await self.held()
        raise MessageNotFound(_what_became(self._stream, seq, held))

    async def at_time(self, moment: int) -> int:
        """The sequence of the first message stored at or after `moment` (ns since the epoch, UTC). If there
        is none, it is the sequence after the stream's last. Raises StreamNotFound, NotPermitted,
        RequestFailed."""
        info = await self._connection.infos.ask(self._stream)
        return await self._reader.since(moment, info["state"])

    async def newest_before(self, moment: int) -> StoredMessage | None:
        """The last match before the sequence at_time(`moment`); None if there is none, or none was found in
        LONGEST seconds. Raises as at_time() does."""
        page = await self.back(await self.at_time(moment) - 1, 1)
        return page.messages[-1] if page.messages else None

    async def next_to(self, seq: int) -> tuple[int | None, int | None]:
        """The sequences of the last match before `seq` and of the first match after it; None where there is
        none, or none was found in LONGEST seconds."""
        before, after = await asyncio.gather(self.back(seq - 1, 1), self._reader.next_at(seq + 1))
        return before.messages[-1].seq if before.messages else None, int(after["seq"]) if after else None

    async def forward(self, start: int, most: int) -> StoredPage:
        """Up to `most` messages from the sequence `start` on. Raises as at_time() does."""
        info = await self._connection.infos.ask(self._stream)
        held, began = held_of(info), time.monotonic()
        at = low = max(held.first, start)
        found: list[dict[str, Any]] = []
        size = 0
        while at <= held.last and len(found) < most and size < MOST_BYTES:
            some, at = await self._reader.found(at, held.last, info["state"], most - len(found))
            found += some
            size += sum(map(_size, some))
            if time.monotonic() - began > LONGEST:
                break
        return StoredPage(tuple(map(stored_message, found)), low, min(at - 1, held.last), held)

    async def back(self, upto: int, most: int) -> StoredPage:
        """The `most` newest messages up to the sequence `upto`. Raises as at_time() does."""
        held = await self.held()
        end = high = min(upto, held.last)
        began = time.monotonic()
        fits = max(1, BYTES_UNDER_WAY // max(1, held.bytes // max(1, held.messages)))
        width = min(FIRST_RANGE, most, fits)
        found: list[dict[str, Any]] = []
        size = 0
        while end >= held.first and len(found) < most and size < MOST_BYTES:
            start = max(held.first, end - width + 1)
            some = await self._within(start, end, max(width if width <= most else 0, 2 * most))
            if some is None:  # messages are denser here
                width = max(most, width // 4)
                continue
            found = some + found
            size += sum(map(_size, some))
            end = start - 1
            if time.monotonic() - began > LONGEST:
                break
            # If the messages are large, the next range must not hold many of them.
            large = size // max(1, len(found)) * most > MOST_BYTES
            if (not large and len(some) * 4 < width) or width < most:
                width *= 2 if large else 4
        low = end + 1
        if len(found) > most:
            found = found[-most:]
            low = int(found[0]["seq"])
        return StoredPage(tuple(map(stored_message, found)), low, high, held)

    async def _within(self, start: int, end: int, most: int) -> list[dict[str, Any]] | None:
        """All matches from `start` to `end`; None if there are more than `most`."""
        length = -(-(end - start + 1) // PARTS)
        count = 0

        async def part(at: int, last: int) -> list[dict[str, Any]]:
            nonlocal count
            some: list[dict[str, Any]] = []
            while at <= last and count <= most:
                found = await self._reader.next_at(at)
                if found is None or int(found["seq"]) > last:
                    break
                some.append(found)
                count += 1
                at = int(found["seq"]) + 1
            return some

        starts = range(start, end + 1, length)
        parts = await asyncio.gather(*(part(at, min(end, at + length - 1)) for at in starts))
        return None if count > most else [each for some in parts for each in some]


def stored_message(answer: dict[str, Any]) -> StoredMessage:
    """The message in an answer of `STREAM.MSG.GET`."""
    block = base64.b64decode(answer.get("hdrs") or "")
    return StoredMessage(
        int(answer["seq"]),
        ns(answer["time"]),
        answer["subject"],
        base64.b64decode(answer.get("data") or ""),
        tuple(header_lines(block)),
    )


def joined(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers by name; the values of a repeated one are joined by a comma."""
    found: dict[str, str] = {}
    for name, text in headers:
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def _size(answer: dict[str, Any]) -> int:
    return len(answer.get("data") or "") * 3 // 4


def held_of(info: dict[str, Any]) -> Held:
    """The state of a stream, from its `STREAM.INFO`."""
    state = info["state"]
    first, last = int(state["first_seq"]), int(state["last_seq"])
    count = int(state["messages"])
    return Held(max(1, first) if count else last + 1, last, count, int(state["bytes"]), str(info["created"]))


def _what_became(stream: str, seq: int, held: Held) -> str:
    if seq > held.last:
        return f"The stream {stream!r} has no message {seq:,} yet: its last one is {held.last:,}."
    if not held.messages:
        return f"The message {seq:,} is not in the stream {stream!r} any more: it is empty."
    if seq < held.first:
        return (
            f"The message {seq:,} is not in the stream {stream!r} any more: it begins at {held.first:,}. "
            "What is older has expired, was purged, or left at a limit."
        )
    return (
        f"The message {seq:,} is not in the stream {stream!r} any more: it was deleted or acknowledged, has "
        "expired, or a newer one of its subject has taken its place."
    )
