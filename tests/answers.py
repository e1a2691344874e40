"""Invalid and hostile replies of the service protocol."""

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.nats import connect_nats


def answer(verb: str, **other: Any) -> dict[str, Any]:
    """A valid reply of the protocol (ADR-32), with the fields in `other` replaced."""
    kind = f"io.nats.micro.v1.{verb.lower()}_response"
    known: dict[str, Any] = {"type": kind, "name": "odd", "id": "ODD1", "version": "1.0.0", "metadata": {}}
    if verb != "PING":
        known["endpoints"] = [endpoint()]
    if verb == "STATS":
        known["started"] = "2026-01-01T00:00:00Z"
    return {**known, **other}


def endpoint(**other: Any) -> dict[str, Any]:
    """An endpoint with its statistics, with the fields in `other` replaced."""
    figures = dict.fromkeys(("num_requests", "num_errors", "processing_time", "average_processing_time"), 0)
    return {"name": "e", "subject": "odd.e", "queue_group": "q", "last_error": "", **figures, **other}


def without(part: str, of: dict[str, Any]) -> dict[str, Any]:
    """`of` without `part`."""
    return {key: value for key, value in of.items() if key != part}


BAD: dict[str, list[Any]] = {
    "PING": [
        b"",
        b"{not json",
        b"\xff\xfe",
        b"[" * 5000,
        b"null",
        [],
        "text",
        without("type", answer("PING")),
        without("name", answer("PING")),
        without("id", answer("PING")),
        without("version", answer("PING")),
        answer("INFO"),
        answer("PING", name=1),
        answer("PING", name=""),
        answer("PING", name="n" * 300),
        answer("PING", id=["x"]),
        answer("PING", metadata=["x"]),
        answer("PING", metadata={"x": 1}),
        answer("PING", metadata={"x": "y" * 200_000}),
    ],
    "INFO": [
        answer("INFO", description={}),
        answer("INFO", endpoints={}),
        answer("INFO", endpoints=["e"]),
        answer("INFO", endpoints=[{}]),
    ],
    "STATS": [
        answer("STATS", started=7),
        answer("STATS", endpoints=[without("num_requests", endpoint())]),
        answer("STATS", endpoints=[endpoint(num_requests=-1)]),
        answer("STATS", endpoints=[endpoint(num_errors="many")]),
        answer("STATS", endpoints=[endpoint(processing_time=True)]),
        answer("STATS", endpoints=[endpoint(average_processing_time=1e300)]),
        answer("STATS", endpoints=[endpoint(last_error=3)]),
    ],
}
"""By verb: replies that must be left out."""


@contextmanager
def answering(url: str, answers: Mapping[str, list[Any]]) -> Iterator[None]:
    """Send all of `answers` in reply to each request of their verb: bytes as they are, anything else as
    JSON."""
    ready, loop = threading.Event(), asyncio.new_event_loop()

    async def serve() -> None:
        client = await connect_nats(url)

        async def receive(message: Any) -> None:
            for each in answers[message.subject.rpartition(".")[2]]:
                await client.publish(
                    message.reply, each if isinstance(each, bytes) else json.dumps(each).encode()
                )

        for verb in answers:
            await client.subscribe(f"$SRV.{verb}", cb=receive)
        await client.flush()
        ready.set()
        await ended.wait()
        await client.close()

    ended = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(30)
        yield
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()
