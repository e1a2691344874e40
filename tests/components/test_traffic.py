"""The app's counts of a websocket equal what arrives at its other end."""

import asyncio
import contextlib
import logging
import os
import threading
from dataclasses import replace

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.asyncio.client import ClientConnection, connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from components.web import compressor, traffic
from components.web.traffic import DIRECT, Count, Traffic
from tests.running import free_port
from tests.waiting import until

MESSAGES: list[bytes | str] = [b"x" * 3000, os.urandom(2000), "täxt" * 100, b"", b"x" * 3000]


class Counting(ClientConnection):
    """A websocket that counts the bytes received by its socket."""

    wire = 0

    def data_received(self, data: bytes) -> None:
        """Count the bytes, then process them as usual."""
        self.wire += len(data)
        super().data_received(data)


SHORT, LONG, LONGER = b"x" * 125, b"x" * 126, os.urandom(70_000)


async def sends_directly(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that sends some messages directly, with others between them, and waits for the end of the
    connection."""
    write = scope[DIRECT]
    await receive()
    await send({"type": "websocket.accept"})
    await receive()
    for message in (SHORT, LONG, LONGER):
        await send({"type": "websocket.send", "bytes": b"x" * 300})
        write(message)
    await receive()
    with pytest.raises(RuntimeError):
        write(SHORT)
    ENDED.set()


ENDED = threading.Event()


async def sends(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that sends MESSAGES once it has received one, and waits for the end of the connection."""
    await receive()
    await send({"type": "websocket.accept"})
    await receive()
    for message in MESSAGES:
        await send({"type": "websocket.send", "bytes" if isinstance(message, bytes) else "text": message})
    await receive()


@pytest.mark.parametrize("compressed", [True, False])
def test_counts_what_arrives(compressed: bool) -> None:
    """Messages, their bytes before compression and the bytes on the socket are counted exactly, with and
    without compression."""
    counted, arrived, received = served(sends, len(MESSAGES), compressed=compressed)
    assert received == MESSAGES
    assert counted.messages == len(MESSAGES)
    assert counted.plain == sum(len(m) if isinstance(m, bytes) else len(m.encode()) for m in MESSAGES)
    assert counted.wire == arrived
    assert (arrived < counted.plain) is compressed
    assert not traffic._open


@pytest.mark.parametrize("compressed", [True, False])
def test_messages_sent_directly_arrive_in_order_and_count(compressed: bool) -> None:
    """Messages of any length can be sent directly between compressed ones; they arrive in order and are
    counted. Once the websocket is closed, they are refused."""
    ENDED.clear()
    counted, arrived, received = served(sends_directly, 6, compressed=compressed)
    assert received == [b"x" * 300, SHORT, b"x" * 300, LONG, b"x" * 300, LONGER]
    assert counted.messages == 6
    assert counted.plain == sum(map(len, received))
    assert counted.wire == arrived
    assert ENDED.wait(10)


def test_memory_is_released_between_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compressors of two websockets are released once both are quiet, and later messages are still
    readable."""
    monkeypatch.setattr(compressor, "KEPT", 0.0)
    monkeypatch.setattr(compressor, "AT_FIRST", 0.0)
    held: list[int] = []

    async def sends_with_pauses(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        for message in MESSAGES:
            await send({"type": "websocket.send", "bytes" if isinstance(message, bytes) else "text": message})
            held.append(len(compressor._made))
            await asyncio.sleep(0.01)
            compressor.release_unused()
            held.append(len(compressor._made))
        await receive()

    counted, arrived, received = served(sends_with_pauses, len(MESSAGES), compressed=True, others=1)
    assert received == MESSAGES
    assert counted.wire == arrived
    assert arrived < counted.plain
    assert held[0] > 0
    assert held[-1] == 0


def test_messages_that_follow_each_other_are_compressed_together() -> None:
    """Earlier messages make the next one shorter, as long as the compressor was not released."""
    random = [os.urandom(2000)] * 5

    async def repeats(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        for message in random:
            await send({"type": "websocket.send", "bytes": message})
            compressor.release_unused()
        await receive()

    _, arrived, received = served(repeats, len(random), compressed=True)
    assert received == random
    assert arrived < 2 * len(random[0])


def served(
    app: ASGIApp, count: int, *, compressed: bool, others: int = 0
) -> tuple[Traffic, int, list[bytes | str]]:
    """Run an app with the counter; return its counts, the bytes that arrived on the socket, and its first
    `count` messages. `others`: additional websockets that received the same before and are still open."""

    async def main() -> tuple[Traffic, int, list[bytes | str]]:
        port = free_port()
        server = uvicorn.Server(
            uvicorn.Config(
                Count(app),
                port=port,
                ws="websockets-sansio",
                ws_per_message_deflate=compressed,
                lifespan="off",
                log_level=logging.ERROR,
            )
        )
        serving = asyncio.create_task(server.serve())
        await asyncio.to_thread(until, lambda: server.started)
        offer = [ClientPerMessageDeflateFactory(client_max_window_bits=True)]
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(others + 1):
                socket = await stack.enter_async_context(
                    connect(
                        f"ws://127.0.0.1:{port}",
                        compression=None,
                        extensions=offer,
                        create_connection=Counting,
                    )
                )
                await socket.send("go")
                received = [await socket.recv() for _ in range(count)]
            await asyncio.sleep(0.2)
            counted = list(traffic._open.values())[-1]
            assert isinstance(socket, Counting)
            found = replace(counted), socket.wire, received
        server.should_exit = True
        await serving
        return found

    return asyncio.run(main())
