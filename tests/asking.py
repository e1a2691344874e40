"""The history service in this loop or as a process, and callers that check the protocol in detail."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import nats
import nats.errors
import pyarrow as pa
from nats.aio.client import Client

from nats_client.connection.settings import Settings
from nats_client.requests.content_types import ARROW, JSON
from services.history.database import Database
from services.history.service import History
from tests.nats import connect_nats
from tests.running import ROOT

TIMEOUT = 30


class Answer:
    """The messages that arrived at one inbox."""

    def __init__(self, client: Client, inbox: str, subscription: Any) -> None:
        self.messages: list[Any] = []
        self.client = client
        self._inbox = inbox
        self._subscription = subscription

    async def next(self, seconds: float = TIMEOUT) -> Any:
        """The next message."""
        message = await self._subscription.next_msg(seconds)
        self.messages.append(message)
        return message

    async def all(self) -> "Answer":
        """Wait for the end."""
        while not self.messages or not self.is_over:
            await self.next()
        return self

    @property
    def is_over(self) -> bool:
        """True if the last message received is the end of the answer."""
        return not self.messages[-1].data or self.code is not None

    @property
    def code(self) -> str | None:
        """The error's code; None without an error."""
        return (self.messages[-1].headers or {}).get("Nats-Service-Error-Code")

    @property
    def error(self) -> str:
        """The error's text; "None" without an error."""
        return str((self.messages[-1].headers or {}).get("Nats-Service-Error"))

    def header(self, name: str) -> str | None:
        """The first header of that name; None if no message has it."""
        return next((m.headers[name] for m in self.messages if name in (m.headers or {})), None)

    @property
    def chunks(self) -> list[bytes]:
        """The bodies of all messages but the empty one at the end."""
        return [message.data for message in self.messages if message.data]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All rows received so far."""
        found: list[dict[str, Any]] = []
        for message in self.messages:
            if not message.data:
                continue
            if message.headers["Content-Type"] == ARROW:
                found += pa.ipc.open_stream(message.data).read_all().to_pylist()
            else:
                assert message.headers["Content-Type"] == JSON
                found += json.loads(message.data)
        return found

    async def tell(self, word: str) -> None:
        """Publish `word` to the control subject."""
        await self.client.publish(str(self.header("Lookback-Control")), word.encode())

    async def leave(self) -> None:
        """Unsubscribe from the inbox."""
        await self._subscription.unsubscribe()
        await self.client.flush()


async def ask(
    client: Client, sql: str | bytes, *, headers: dict[str, str] | None = None, **parameters: Any
) -> Answer:
    """Send a query, and return at once. If `sql` is bytes, it is the whole request."""
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox, pending_bytes_limit=-1, pending_msgs_limit=-1)
    request = sql if isinstance(sql, bytes) else json.dumps({"sql": sql, "parameters": parameters}).encode()
    await client.publish("history.query", request, reply=inbox, headers=headers)
    await client.flush()
    return Answer(client, inbox, subscription)


async def asked(
    client: Client, sql: str | bytes, *, headers: dict[str, str] | None = None, **parameters: Any
) -> Answer:
    """Send a query, and wait for the whole answer."""
    return await (await ask(client, sql, headers=headers, **parameters)).all()


async def tables(client: Client) -> dict[str, Any]:
    """The answer of history.tables; waits until there is a service. Raises AssertionError if none answers."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        try:
            reply = await client.request("history.tables", b"", timeout=2)
            return dict(json.loads(reply.data)) if reply.data else dict(reply.headers or {})
        except nats.errors.NoRespondersError:
            await asyncio.sleep(0.1)
        except nats.errors.TimeoutError:  # the request was sent over a connection that was lost
            pass
    raise AssertionError("there is no history service")


@asynccontextmanager
async def connected(url: str | list[str], **login: Any) -> AsyncIterator[Client]:
    """A connection that reconnects by itself."""

    async def quiet(_: Exception) -> None:
        pass

    client = await connect_nats(
        url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=quiet, **login
    )
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def serving(
    database: Database, url: str, *, through: str | None = None, **options: Any
) -> AsyncIterator[Client]:
    """The service in this loop, with the options of History, connected to the URL `through` if there is one.
    Yields a caller's own connection to `url`."""
    service = asyncio.create_task(History(database, **options).serve(Settings(url=through or url)))
    try:
        async with connected(url) as client:
            await tables(client)
            yield client
    finally:
        service.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await service


class Relay:
    """A relay to a server, whose connections can be cut."""

    def __init__(self) -> None:
        self.url = ""
        self._writers: list[asyncio.StreamWriter] = []

    async def carry(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes between a client and the server, in both directions."""
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        self._writers += [writer, far_writer]

        async def one_way(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    target.write(data)
                    await target.drain()
            target.close()

        await asyncio.gather(one_way(reader, far_writer), one_way(far_reader, writer))

    def cut(self) -> None:
        """Reset all connections. New ones are accepted."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()


@asynccontextmanager
async def relay(port: int) -> AsyncIterator[Relay]:
    """A Relay to a port."""
    relay = Relay()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await relay.carry(port, reader, writer)

    listening = await asyncio.start_server(carry, "127.0.0.1", 0)
    relay.url = f"nats://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        relay.cut()
        listening.close()


@contextmanager
def service_process(url: str, file: Path, output: Path, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """The service in its own process, killed at the end."""
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.history", url, str(file)],
            cwd=ROOT,
            env=os.environ | env,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
