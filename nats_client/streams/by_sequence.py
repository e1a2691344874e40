"""Reads a stream without a consumer: by sequence, one `STREAM.MSG.GET` a message.

Not every stream takes our consumer. A work queue wants one that acknowledges, and so takes messages from the
workers. With retention by interest any consumer makes the stream keep messages for it, also where nobody
else wants them, and for as long as it does not read. And where a limit on consumers is reached, there is
none left to be had. Looking by sequence takes nothing from anybody and keeps nothing.

`STREAM.MSG.GET` is answered by the stream's leader. Direct gets are faster, but a replica or a mirror may
answer them, which may be behind: that it has no more would not mean that there is no more (ADR-31 of
https://github.com/nats-io/nats-architecture-and-design).
"""

import asyncio
import base64
from typing import Any

import pandas as pd

from ..connection.connection import Connection
from ..decoding.decoders import Raw
from ..errors import MessageNotFound, NotPermitted, RequestRefused

EVERY = 0.5
"""Seconds between two looks for new messages."""
CONSUMER_AGAIN = 30.0
"""Seconds after which a consumer that was refused is asked for once more."""
MOST_UNDER_WAY = 32
"""Requests that wait for their answers at the same time."""
BYTES_UNDER_WAY = 4 * 1024 * 1024
"""What their answers may hold, by the stream's average."""

_UNSEEN = "What is worked on between two looks is not seen; the plain subjects show all that is published."

RETENTIONS = {
    "workqueue": f"a consumer would take messages of a work queue from its workers. {_UNSEEN}",
    "interest": f"a consumer would have a stream with retention by interest keep messages for it. {_UNSEEN}",
}
"""Why streams with these retentions are read by sequence."""


class NoConsumerError(Exception):
    """The stream is to be read without a consumer; the text says why."""

    def __init__(self, why: str, *, for_good: bool) -> None:
        super().__init__(why)
        self.for_good = for_good
        """Whether that can change only with the stream's configuration."""


class BySequence:
    """Messages of one stream and filter, asked for by their sequence."""

    def __init__(self, connection: Connection, stream: str, subject: str | None, why: str) -> None:
        """`why` no consumer reads it, for the error of a login that may not do this either."""
        self._connection = connection
        self._stream = stream
        self._subject = subject
        self._why = why
        self._width = 1  # requests at once

    async def stored(self, seq: int) -> int | None:
        """When the message `seq` was stored, ns since the epoch, UTC; None when the stream does not hold it.
        Raises RequestFailed."""
        found = await self._get({"seq": seq})
        return ns(found["time"]) if found else None

    async def since(self, start: int, state: dict[str, Any]) -> int:
        """The lowest sequence from which on messages were stored at `start` (ns since the epoch, UTC) or
        later, in a stream of this `state`. Raises RequestFailed."""
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
        """Messages from `seq` on, none behind `last`, as many as are asked for at once, and the sequence to
        go on at. Raises RequestFailed."""
        size = int(state["bytes"]) // max(1, int(state["messages"]))
        most = max(1, min(self._width, BYTES_UNDER_WAY // max(1, size)))
        asked = range(seq, min(last + 1, seq + most))
        matching = self._subject or ">"
        # Each asks for the next message from its sequence on, so all up to the last answer are there.
        answers = await asyncio.gather(*(self._get({"seq": at, "next_by_subj": matching}) for at in asked))
        found = {int(message["seq"]): message for message in answers if message is not None}
        raw = Raw()
        for at in sorted(found):
            if at <= last:
                _take(found[at], raw)
        # Where few sequences match, many requests at once would have the same answer.
        found_most = 4 * len(found) >= len(asked)
        self._width = min(MOST_UNDER_WAY, 2 * most) if found_most else max(1, most // 2)
        newest = answers[-1]
        return raw, last + 1 if newest is None else min(last, int(newest["seq"])) + 1

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


def check_retention(config: dict[str, Any]) -> None:
    """Raises NoConsumerError where a consumer of ours would take, or keep, messages of the stream."""
    if why := RETENTIONS.get(config.get("retention", "limits")):
        raise NoConsumerError(why, for_good=True)


def refused(error: RequestRefused) -> NoConsumerError:
    """What a consumer's refusal by the server comes to."""
    return NoConsumerError(
        f"the server refuses a consumer: {error}. So it is complete, but slower; where a limit is reached, "
        "delete what nobody needs, or raise it.",
        for_good=False,
    )


def read_headers(block: bytes) -> dict[str, str]:
    """A message's headers (ADR-4), as the API hands them out: the version, then a line for each."""
    lines = (line.partition(":") for line in block.decode("utf-8", "replace").split("\r\n")[1:])
    return {name: value.strip() for name, colon, value in lines if colon}


def _take(message: dict[str, Any], raw: Raw) -> None:
    seq = int(message["seq"])
    raw.seq.append(seq)
    raw.received.append(ns(message["time"]))
    raw.subject.append(message["subject"])
    raw.payload.append(base64.b64decode(message.get("data") or ""))
    if headers := read_headers(base64.b64decode(message.get("hdrs") or "")):
        raw.headers[seq] = headers


def ns(text: str) -> int:
    """An RFC 3339 time of the server, with up to nine digits of a second, in ns since the epoch."""
    return int(pd.Timestamp(text).value)
