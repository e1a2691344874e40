"""What the app counts of a websocket is what arrives at its other end."""

import asyncio
import logging
import os
from dataclasses import replace

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import ClientConnection, connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from components.web import traffic
from components.web.traffic import Count, Traffic
from tests.running import free_port
from tests.waiting import until

MESSAGES: list[bytes | str] = [b"x" * 3000, os.urandom(2000), "täxt" * 100, b"", b"x" * 3000]


class Counting(ClientConnection):
    """A websocket that counts what its socket brings."""

    wire = 0

    def data_received(self, data: bytes) -> None:
        """Count, then go on as usual."""
        self.wire += len(data)
        super().data_received(data)


async def sends(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that sends the messages over a websocket when something comes, and waits for its end."""
    await receive()
    await send({"type": "websocket.accept"})
    await receive()
    for message in MESSAGES:
        await send({"type": "websocket.send", "bytes" if isinstance(message, bytes) else "text": message})
    await receive()


@pytest.mark.parametrize("compressed", [True, False])
def test_counts_what_arrives(compressed: bool) -> None:
    """Messages, their bytes before compression, and every byte of the socket, compressed and not."""

    async def main() -> tuple[Traffic, int, list[bytes | str]]:
        port = free_port()
        server = uvicorn.Server(
            uvicorn.Config(
                Count(sends),
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
        async with connect(
            f"ws://127.0.0.1:{port}", compression=None, extensions=offer, create_connection=Counting
        ) as socket:
            await socket.send("go")
            heard = [await socket.recv() for _ in MESSAGES]
            await asyncio.sleep(0.2)
            (counted,) = traffic._open.values()
            assert isinstance(socket, Counting)
            found = replace(counted), socket.wire, heard
        server.should_exit = True
        await serving
        return found

    counted, arrived, heard = asyncio.run(main())
    assert heard == MESSAGES
    assert counted.messages == len(MESSAGES)
    assert counted.plain == sum(len(m) if isinstance(m, bytes) else len(m.encode()) for m in MESSAGES)
    assert counted.wire == arrived
    assert (arrived < counted.plain) is compressed
    assert not traffic._open
