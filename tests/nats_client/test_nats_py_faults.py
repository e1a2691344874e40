"""Neither a malformed message nor the end of a nats-py task leaves a connection that receives nothing."""

import asyncio
import contextlib
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import nats
import nats.errors
import nats.micro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nats_client import Client, Settings
from nats_client.connection.connection import Connection
from nats_client.connection.patched_nats import SafeNatsPy
from services import program
from tests.nats import NatsPy, NatsServer, connect_nats
from tests.waiting import until

BLOCKS = (
    b"\r\n\r\n",
    b"NATS/1.0",
    b"NATS/1.",
    b"\n",
    b"NATS/1.0 \xff\xfe\xfd\r\n\r\n",
    b"NATS/1.0 404 \xff\xff\r\n\r\n",
    b"NATS/1.0 \xc2\xb2\r\nA: b\r\n\r\n",
    b"NATS/1.0 abc\r\n\r\n",
    b"NATS/1.0\r\n: b\r\nno colon\r\n\xff: \xff\r\nA: b\r\nA: c\r\n\r\n",
    b"NATS/1.0\r\n" + b"A: b\r\n" * 9_000 + b"\r\n",
    b"\x00" * 12,
)
"""Header blocks that the server forwards unchanged."""


def hpub(subject: bytes, block: bytes, payload: bytes, reply: bytes = b"") -> bytes:
    """The frame that publishes `payload` with `block` before it."""
    to = subject + b" " + reply if reply else subject
    return b"HPUB %s %d %d\r\n%s%s\r\n" % (to, len(block), len(block) + len(payload), block, payload)


def send(server: NatsServer, *frames: bytes) -> None:
    """Send raw frames to the server, and wait until it has processed them."""
    with socket.create_connection((server.host, server.port)) as raw:
        raw.recv(4096)
        raw.sendall(b'CONNECT {"verbose":false,"headers":true}\r\n' + b"".join(frames) + b"PING\r\n")
        raw.settimeout(20)
        received = b""
        while b"PONG" not in received:
            data = raw.recv(4096)
            assert data
            assert b"-ERR" not in data
            received += data


def test_no_block_of_headers_stops_a_feed(server: NatsServer, client: Client) -> None:
    """Whatever a message has in place of headers, feeds of streams and of plain subjects show its payload and
    later messages. No other feed is affected."""
    server.add_stream("OTHER", ["other.>"])
    stream, other, plain = client.feed("S"), client.feed("OTHER"), client.feed(None, "s.>")
    assert all(feed.wait(30) for feed in (stream, other, plain))
    frames = [hpub(b"s.a", block, b'{"n":%d}' % n) for n, block in enumerate(BLOCKS)]
    send(server, *frames, b"PUB s.\xff\xfe 7\r\n" + b'{"n":0}\r\n', b"PUB other.a 7\r\n" + b'{"n":1}\r\n')
    expected = len(BLOCKS) + 1
    until(lambda: len(plain.snapshot()) == expected, 30)
    until(lambda: len(stream.snapshot()) == expected, 30)
    until(lambda: len(other.snapshot()) == 1, 30)
    assert not plain.health.gaps
    assert client.state.status == "connected"
    assert client._connection.reconnects == 0


def test_no_answer_stops_the_others(server: NatsServer, client: Client) -> None:
    """A reply with unreadable headers still answers its request, and the connection stays up."""
    with socket.create_connection((server.host, server.port)) as raw:
        raw.recv(4096)
        raw.sendall(b'CONNECT {"verbose":false,"headers":true}\r\nSUB svc 1\r\nPING\r\n')
        raw.recv(4096)
        assert client.wait(30)
        for block in BLOCKS[:4]:
            future = asyncio.run_coroutine_threadsafe(_ask(client), client._loop)
            received = b""
            while b"MSG" not in received or not received.endswith(b"\r\n"):
                received += raw.recv(4096)
            frame = received[received.index(b"MSG") :].split()
            raw.sendall(hpub(frame[3], block, b"yes"))
            assert future.result(30) == b"yes"
    assert client._connection.reconnects == 0


async def _ask(client: Client) -> bytes:
    connected = await client._connection.ready()
    return (await client._connection.request(connected, "svc", b"?", 20)).data


def test_programs_answer_after_any_request(server: NatsServer) -> None:
    """A service of ours keeps working after requests, and a $SRV.PING, with unreadable headers."""

    async def work() -> None:
        connected = await program.connect(Settings(url=server.url), "x", logging.getLogger("x"))
        asker = await connect_nats(server.url)
        try:
            service = await nats.micro.add_service(connected, name="echo", version="1.0.0")
            await service.add_endpoint(name="echo", handler=lambda request: request.respond(request.data))
            await connected.flush()
            frames = [
                hpub(subject, block, b"x", b"nobody")
                for subject in (b"echo", b"$SRV.PING")
                for block in BLOCKS
            ]
            await asyncio.to_thread(send, server, *frames)
            assert (await asker.request("echo", b"hello", timeout=20)).data == b"hello"
            found = json.loads((await asker.request("$SRV.PING.echo", b"", timeout=20)).data)
            assert found["name"] == "echo"
            assert connected.unreadable_headers
            assert connected.stats["reconnects"] == 0
            await service.stop()
        finally:
            await connected.close()
            await asker.close()

    asyncio.run(work())


@pytest.mark.parametrize("task", ["_reading_task", "_flusher_task", "_ping_interval_task"])
def test_end_of_a_task_is_a_lost_connection(server: NatsServer, client: Client, task: str) -> None:
    """Whichever task of nats-py ends, the connection is recreated, and waiting requests fail with
    ConnectionError. A feed of plain subjects has a gap."""
    feed = client.feed(None, "s.>")
    assert feed.wait(30)
    first = client._connection._nats
    assert first is not None
    waiting = asyncio.run_coroutine_threadsafe(_never_answered(client), client._loop)
    until(lambda: bool(first._resp_map), 30)
    client._loop.call_soon_threadsafe(getattr(first, task).cancel)
    assert isinstance(waiting.exception(20), ConnectionError)
    until(lambda: len(feed.health.gaps) == 1 and feed.health.phase == "following", 30)
    assert client._connection._nats is not first
    assert client._connection.reconnects == 1


async def _never_answered(client: Client) -> None:
    connected = await client._connection.ready()
    await connected.subscribe("mute")
    await client._connection.request(connected, "mute", b"", 60)


def test_gaps_enclose_what_is_lost(server: NatsServer, client: Client) -> None:
    """If the reading task ends repeatedly while messages are published without a pause, each message is a row
    or was published within a reported gap."""
    feed = client.feed(None, "s.>", look_back="PT10M")
    assert feed.wait(30)
    sent: list[int] = []

    async def publish(nc: Any) -> None:
        for n in range(1, 601):
            sent.append(time.time_ns())
            await nc.publish("s.a", b'{"n":%d}' % n)
            await nc.flush()
            if n % 150 == 0 and n < 600:
                reader = client._connection._nats
                if reader is not None and reader._reading_task is not None:
                    client._loop.call_soon_threadsafe(reader._reading_task.cancel)
            await asyncio.sleep(0.01)

    server.run(publish)
    until(lambda: feed.health.phase == "following", 30)
    send(server, b"PUB s.last 9\r\n" + b'{"n":601}\r\n')
    until(lambda: 601 in feed.frame()["n"].tolist(), 30)
    seen = set(feed.frame()["n"].tolist())
    lost = [at for n, at in enumerate(sent, 1) if n not in seen]
    gaps = feed.health.gaps
    assert gaps
    assert [at for at in lost if not any(gap.start <= at <= gap.end for gap in gaps)] == []


# -- a server of our own that sends arbitrary bytes --------------------------------------------------------

INFO = b'INFO {"server_id":"x","version":"2.15.1","max_payload":1048576,"headers":true}\r\n'


@asynccontextmanager
async def talking(
    say: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[Connection]:
    """A connection to a server that greets as NATS does and then runs `say`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            writer.write(INFO)
            await reader.readuntil(b"PING\r\n")
            writer.write(b"PONG\r\n")
            await writer.drain()
            await say(reader, writer)
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    connection = Connection(Settings(url=f"nats://127.0.0.1:{port}"))
    running = asyncio.create_task(connection.run())
    try:
        yield connection
    finally:
        running.cancel()
        await asyncio.wait({running})
        await connection.close()
        listener.close()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each PING."""
    while line := await reader.readline():
        if line == b"PING\r\n":
            writer.write(b"PONG\r\n")


def test_late_pong(caplog: pytest.LogCaptureFixture) -> None:
    """A late PONG, for a flush that timed out, does not end the connection, and is not taken for that of the
    next flush."""

    async def work() -> None:
        go = asyncio.Event()

        async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"PING\r\n")
            await go.wait()
            writer.write(b"PONG\r\n")
            await answer(reader, writer)

        async with talking(say) as connection:
            client = await connection.ready()
            with pytest.raises(nats.errors.TimeoutError):
                await client.flush(0.2)  # type: ignore[arg-type]
            go.set()
            await client.flush(20)
            await client.flush(20)
            assert connection.reconnects == 0

    asyncio.run(work())


@pytest.mark.parametrize("kind", [SafeNatsPy, NatsPy])
def test_flush_comes_after_what_was_sent(kind: type[SafeNatsPy | NatsPy]) -> None:
    """A flush sends its PING after the commands before it, so that they are in effect when the PONG arrives.
    This holds for our client and for the clients of these tests; nats-py alone sends the PING first."""

    async def work() -> None:
        received: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(INFO)
            while line := await reader.readline():
                received.append(line)
                if line == b"PING\r\n":
                    writer.write(b"PONG\r\n")
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
            client = kind()
            await client.connect(f"nats://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
            received.clear()
            await client.subscribe("a")
            await client.publish("b", b"x")
            await client.flush()
            assert received == [b"SUB a  1\r\n", b"PUB b  1\r\n", b"x\r\n", b"PING\r\n"]
            await client.close()

    asyncio.run(work())


@settings(max_examples=15)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=60).map(
            lambda block: b"HMSG s 1 %d %d\r\n%s\r\n" % (len(block), len(block), block)
        ),
        st.binary(max_size=20).map(lambda text: b"-ERR '" + text + b"'\r\n"),
        st.binary(max_size=20).map(lambda text: b"INFO " + text + b"\r\n"),
        st.sampled_from(
            [
                b"-ERR \r\n",
                b'INFO {"connect_urls":[1,null,"[","a:b"],"max_payload":"x"}\r\n',
                b'INFO {"connect_urls":"["}\r\n',
                b"INFO []\r\n",
                b"PONG\r\n" * 5,
                b"MSG s x 1\r\nx\r\n",
                b"MSG \xff 1 1\r\nx\r\n",
                b"HMSG s 1 100 10\r\n0123456789\r\n",
                b"MSG s 1 " + b"9" * 5000 + b"\r\n",
            ]
        ),
    )
)
def test_whatever_the_server_says(said: bytes) -> None:
    """After any bytes from the server, a connection that is reported as alive still receives messages; any
    other connection is recreated."""

    async def work() -> None:
        sent = False

        async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            if not sent:
                sent = True
                await reader.readuntil(b"SUB s")
                writer.write(said)
            await answer(reader, writer)

        async with talking(say) as connection, asyncio.timeout(60):
            client = await connection.ready()
            await client.subscribe("s")
            alive = await connection.check()
            assert alive is (client.is_connected and not client.ended.is_set())
            if not alive:
                while connection._nats is client:  # noqa: ASYNC110 - there is no event for it
                    await asyncio.sleep(0.01)
                await (await connection.ready()).flush(20)

    asyncio.run(work())


def test_callback_that_fails(server: NatsServer) -> None:
    """If a program's own callback fails when the connection is lost, the connection is still restored."""

    async def work() -> None:
        def fails() -> None:
            raise ValueError("lost")

        connected = await program.connect(Settings(url=server.url), "x", logging.getLogger("x"), lost=fails)
        assert connected._reading_task is not None
        connected._reading_task.cancel()
        async with asyncio.timeout(30):
            while not connected.stats["reconnects"]:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.05)
            await connected.flush(20)
        await connected.close()

    asyncio.run(work())


def test_a_client_that_cannot_start() -> None:
    """An error that ends the client's thread before it connects is raised where the client is created."""
    with pytest.raises(AttributeError):
        Client(object())  # type: ignore[arg-type]
