"""The newest message of each subject before a time, without a consumer."""

import asyncio
import contextlib
import json
from datetime import UTC, datetime

import nats.errors
from nats.aio.msg import Msg

from ..connection.connection import Connection, not_permitted
from ..decoding.decoders import Raw
from ..errors import RequestFailed
from ..subjects import filters_of
from .by_sequence import ns

PATIENCE = 3.0
"""Seconds until the server has to have answered."""
END = "204"
"""The status of the message after the last one."""
NONE = "404"
"""The status if there is no message."""


async def last_before(connection: Connection, stream: str, subject: str | None, time: int) -> Raw:
    """Of each subject of `stream` that matches the filter, the newest message stored before `time` (ns since
    the epoch, UTC), in ascending order. The server answers for at most 1,024 subjects, and only if the stream
    has `allow_direct` (ADR-31). Raises RequestRefused if the login does not permit it, RequestFailed if the
    server refuses or does not answer."""
    full = f"{connection.api_prefix}.DIRECT.GET.{stream}"
    before = datetime.fromtimestamp(time / 1e9, UTC).isoformat()
    request = {"multi_last": filters_of(subject or ">"), "up_to_time": before}
    answers: asyncio.Queue[Msg] = asyncio.Queue()
    raw = Raw()
    try:
        async with asyncio.timeout(PATIENCE):
            client = await connection.ready()
            connection.check_inbox(client)
            inbox = client.new_inbox()
            with connection.denial(full) as denied:
                denied.add_done_callback(lambda _: answers.put_nowait(Msg(client)))
                listening = await client.subscribe(inbox, cb=answers.put)
                try:
                    await client.publish(full, json.dumps(request).encode(), reply=inbox)
                    while True:
                        answer = await answers.get()
                        if denied.done():
                            raise not_permitted("to send requests to", full)
                        headers = dict(answer.headers or {})
                        if (status := headers.get("Status")) is not None:
                            if status in (END, NONE):
                                break
                            raise RequestFailed(f"The request to {full!r} was answered with {status}.")
                        _take(answer.data, headers, time, raw)
                finally:
                    with contextlib.suppress(Exception):
                        await listening.unsubscribe()
    except (TimeoutError, nats.errors.Error, ConnectionError) as error:
        raise RequestFailed(f"The request to {full!r} failed: {error!r}.") from error
    return raw


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
