"""The newest message of each subject before a time, without a consumer."""

import asyncio
import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import nats.errors
from nats.aio.msg import Msg

from ..connection.connection import Connection, not_permitted
from ..decoding.raw import Raw
from ..errors import NoResponders, RequestRefused, RequestTimeout
from ..subjects import filters_of
from .by_sequence import ns

PATIENCE = 3.0
"""Seconds to wait for one page of the reply."""
PAGE = 4 * 1024 * 1024
"""Bytes after which the server ends a page."""
MOST = 64 * 1024 * 1024
"""Maximum bytes of all messages."""
MOST_TEXT = "64 MiB"
END = "204"
"""The status of the message after the last one."""
NONE = "404"
"""The status if there is no message."""
NOBODY = "503"
"""The status if no server has the stream at the moment."""


async def last_before(connection: Connection, stream: str, subject: str | None, time: int) -> Raw:
    """The newest message stored before `time` (ns since the epoch, UTC) of each subject of `stream` that
    matches the filter `subject`, in ascending order. The server answers for at most 1,024 subjects, and only
    if the stream has `allow_direct` (ADR-31).

    Raises NotPermitted if the login does not permit it, RequestRefused if the server refuses or the messages
    have more than MOST bytes, and RequestTimeout or NoResponders if no server answers now."""
    full = f"{connection.api_prefix}.DIRECT.GET.{stream}"
    before = datetime.fromtimestamp(time / 1e9, UTC).isoformat()
    asked = {"multi_last": filters_of(subject or ">"), "up_to_time": before, "max_bytes": PAGE}
    raw = Raw()
    start: int | None = 1
    while start is not None:
        try:
            async with asyncio.timeout(PATIENCE):
                start = await _page(connection, full, {**asked, "seq": start}, time, raw)
        except (TimeoutError, nats.errors.Error, ConnectionError) as error:
            raise RequestTimeout(f"The request to {full!r} failed: {error!r}.") from error
        if sum(map(len, raw.payload)) > MOST:
            raise RequestRefused(
                f"The newest messages of the subjects before that have more than {MOST_TEXT}."
            )
    return raw


async def _page(connection: Connection, full: str, asked: dict[str, Any], time: int, raw: Raw) -> int | None:
    """Append one page of the reply to `raw`. Returns the sequence at which the next page starts, or None."""
    answers: asyncio.Queue[Msg] = asyncio.Queue()
    client = await connection.ready()
    connection.check_inbox(client)
    inbox = client.new_inbox()
    with connection.denial(full) as denied:
        denied.add_done_callback(lambda _: answers.put_nowait(Msg(client)))
        listening = await client.subscribe(inbox, cb=answers.put)
        try:
            await client.publish(full, json.dumps(asked).encode(), reply=inbox)
            while True:
                answer = await answers.get()
                if denied.done():
                    raise not_permitted("to send requests to", full)
                headers = dict(answer.headers or {})
                status = headers.get("Status")
                if status is None:
                    _take(answer.data, headers, time, raw)
                elif status == END and int(headers.get("Nats-Num-Pending", 0)):
                    return max(int(asked["seq"]), int(headers["Nats-Last-Sequence"])) + 1
                elif status in (END, NONE):
                    return None
                elif status == NOBODY:
                    raise NoResponders(f"No server has the stream of {full!r} at the moment.")
                else:
                    raise RequestRefused(f"The request to {full!r} was answered with {status}.")
        finally:
            with contextlib.suppress(Exception):
                await listening.unsubscribe()


def _take(payload: bytes, headers: dict[str, str], time: int, raw: Raw) -> None:
    stored = ns(headers["Nats-Time-Stamp"])
    if stored >= time:
        return
    seq = int(headers["Nats-Sequence"])
    raw.seq.append(seq)
    raw.received.append(stored)
    raw.subject.append(headers["Nats-Subject"])
    raw.payload.append(payload)
    raw.headers[seq] = headers
