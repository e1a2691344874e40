"""Reads a stream without a consumer: by sequence, with one `STREAM.MSG.GET` per message.

Some streams cannot have our consumer. A work queue accepts only consumers that acknowledge, and those take
messages from the workers. A stream with interest retention keeps each message until every consumer has read
it, so ours would make it keep messages that no other consumer needs. A limit on consumers may also be
reached. Reading by sequence takes messages from no consumer, and makes the stream keep none.

The stream's leader answers `STREAM.MSG.GET`. Direct gets are faster, but a replica or mirror that lags behind
may answer them, so "no more messages" would prove nothing (ADR-31 of
https://github.com/nats-io/nats-architecture-and-design).
"""

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..connection.connection import Connection
from ..connection.header_block import read_headers
from ..decoding.raw import Raw
from ..errors import MessageNotFound, NotPermitted, RequestRefused
from ..subjects import filters_of

EVERY = 0.5
"""Seconds between polls for new messages."""
CONSUMER_AGAIN = 30.0
"""Seconds until a refused consumer is requested again."""
MOST_UNDER_WAY = 32
"""Requests in flight at the same time."""
BYTES_UNDER_WAY = 4 * 1024 * 1024
"""Bytes that their replies may hold, estimated by the stream's average message size."""

_UNSEEN = (
    "Messages acknowledged between two polls are not seen; read the plain subjects to see all that is "
    "published."
)

RETENTIONS = {
    "workqueue": f"a consumer would take messages of the work queue from its workers. {_UNSEEN}",
    "interest": f"a consumer would make a stream with interest retention keep messages for it. {_UNSEEN}",
}
"""Why streams with these retentions are read by sequence."""


class NoConsumerError(Exception):
    """The stream has to be read without a consumer; the text says why."""

    def __init__(self, why: str, *, for_good: bool) -> None:
        super().__init__(why)
        self.for_good = for_good
        """True if only a change of the stream's configuration can lift this."""


class BySequence:
    """Reads messages of one stream and filter by their sequence."""

    def __init__(self, connection: Connection, stream: str, subject: str | None, why: str) -> None:
        """`why` says why there is no consumer. It is quoted in the error if the login may not do this."""
        self._connection = connection
        self._stream = stream
        self._why = why
        self._filters = filters_of(subject or ">")
        self._most = max(1, MOST_UNDER_WAY // len(self._filters))
        self._width = 1  # sequences that are requested at once
        self._largest = 0  # bytes of the largest message of the last batch

    async def stored(self, seq: int) -> int | None:
        """When the message `seq` was stored, ns since the epoch, UTC; None if the stream does not hold it.
        Raises RequestFailed."""
        found = await self.get(seq)
        return ns(found["time"]) if found else None

    async def get(self, seq: int) -> dict[str, Any] | None:
        """The message `seq` as the server writes it; None if the stream does not hold it. Raises
        RequestFailed."""
        return await self._get({"seq": seq})

    async def since(self, start: int, state: dict[str, Any]) -> int:
        """The sequence of the first message stored at or after `start` (ns since the epoch, UTC), in a stream
        with this `state`. Found by bisection. Raises RequestFailed."""
        low, high = int(state["first_seq"]), int(state["last_seq"]) + 1
        if not state["messages"] or ns(state["first_ts"]) >= start:
            return low
        while low < high:
            middle = (low + high) // 2
            found = await self._get({"seq": middle, "next_by_subj": ">"})
            if found is None or ns(found["time"]) >= start:
                high = middle
            else:
                low = int(found["seq"]) + 1
        return low

    async def some(self, seq: int, last: int, state: dict[str, Any]) -> tuple[Raw, int]:
        """One batch of messages from `seq` up to and including `last`, and the sequence at which to continue.
        Raises RequestFailed."""
        found, at = await self.found(seq, last, state)
        raw = Raw()
        for message in found:
            _take(message, raw)
        return raw, at

    async def found(
        self, seq: int, last: int, state: dict[str, Any], most: int = MOST_UNDER_WAY
    ) -> tuple[list[dict[str, Any]], int]:
        """Like some(), at most `most` messages, as the server writes them."""
        size = max(int(state["bytes"]) // max(1, int(state["messages"])), self._largest)
        most = max(1, min(self._width, most, BYTES_UNDER_WAY // max(1, size)))
        asked = range(seq, min(last + 1, seq + most))
        # Each request gets the next match at or after its sequence, so nothing is missed.
        answers = await asyncio.gather(*map(self.next_at, asked))
        found = {int(message["seq"]): message for message in answers if message is not None}
        self._largest = max((len(message.get("data") or "") for message in found.values()), default=0)
        # If few sequences match, many parallel requests would get the same reply.
        found_most = 4 * len(found) >= len(asked)
        self._width = min(self._most, 2 * most) if found_most else max(1, most // 2)
        newest = answers[-1]
        at = last + 1 if newest is None else min(last, int(newest["seq"])) + 1
        return [found[seq] for seq in sorted(found) if seq <= last], at

    async def next_at(self, seq: int) -> dict[str, Any] | None:
        """The first message at or after `seq` that matches one of the filters, as the server writes it; None
        if there is none. Raises RequestFailed."""
        asked = ({"seq": seq, "next_by_subj": each} for each in self._filters)
        found = [each for each in await asyncio.gather(*map(self._get, asked)) if each is not None]
        return min(found, key=lambda message: int(message["seq"]), default=None)

    async def _get(self, request: dict[str, Any]) -> dict[str, Any] | None:
        try:
            answer = await self._connection.api(f"STREAM.MSG.GET.{self._stream}", request)
        except MessageNotFound:
            return None
        except NotPermitted as error:
            raise NotPermitted(
                f"{self._stream!r} can only be read by sequence: {self._why} {error}"
            ) from error
        message: dict[str, Any] = answer["message"]
        return message


async def fetch_messages(connection: Connection, stream: str, seqs: Sequence[int]) -> Raw:
    """The messages with these sequences, in their order, without those that the stream does not hold. Raises
    RequestFailed."""
    reader = BySequence(connection, stream, None, "its messages were asked for by sequence.")
    raw = Raw()
    for message in await asyncio.gather(*(reader.get(seq) for seq in seqs)):
        if message is not None:
            _take(message, raw)
    return raw


def check_retention(config: dict[str, Any]) -> None:
    """Raises NoConsumerError if our consumer would take messages from others or make the stream keep them."""
    if why := RETENTIONS.get(config.get("retention", "limits")):
        raise NoConsumerError(why, for_good=True)


def consumer_refused(error: RequestRefused) -> NoConsumerError:
    """The NoConsumerError for a consumer that the server refused."""
    return NoConsumerError(
        f"the server refuses a consumer: {error}. All messages are read, but more slowly. If a limit was "
        "reached, raise it or delete consumers that are no longer needed.",
        for_good=False,
    )


def _take(message: dict[str, Any], raw: Raw) -> None:
    seq = int(message["seq"])
    raw.seq.append(seq)
    raw.received.append(ns(message["time"]))
    raw.subject.append(message["subject"])
    raw.payload.append(base64.b64decode(message.get("data") or ""))
    if headers := read_headers(base64.b64decode(message.get("hdrs") or "")):
        raw.headers[seq] = headers


def ns(text: str) -> int:
    """Convert the server's RFC 3339 time, with up to nine fractional digits, to ns since the epoch, UTC."""
    return int(pd.Timestamp(text).value)
