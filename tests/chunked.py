"""Small services that answer in chunks, correctly or not. `python -m tests.chunked <url> <pause>` runs one
that never ends, in its own process."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from nats_client.connection.connection import end_tasks
from tests.nats import connect_nats
from tests.waiting import until

SUBJECT = "history.query"
JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"


class Asked:
    """One request, and the means to answer it."""

    def __init__(self, connection: Any, message: Any, number: int) -> None:
        self.headers: dict[str, str] = dict(message.headers or {})
        self.payload: bytes = message.data
        self.control = f"{SUBJECT}.control.{number}"
        self.commands: list[str] = []
        """What the caller has published to the control subject."""
        self.news = asyncio.Event()
        self._connection, self._reply = connection, message.reply

    async def listen(self) -> None:
        """Subscribe to the control subject."""

        async def receive(message: Any) -> None:
            self.commands.append(message.data.decode())
            self.news.set()

        await self._connection.subscribe(self.control, cb=receive)

    async def send(self, body: bytes, **headers: str) -> None:
        """Send a message, with headers such as Content_Type=."""
        named = {name.replace("_", "-"): value for name, value in headers.items()} or None
        await self._connection.publish(self._reply, body, headers=named)
        await self._connection.flush()

    async def rows(self, *rows: Any, **headers: str) -> None:
        """Send a chunk of rows in JSON."""
        await self.send(json.dumps(rows).encode(), Content_Type=JSON, **headers)

    async def table(self, table: pa.Table, **headers: str) -> None:
        """Send a chunk of rows in Arrow."""
        await self.send(arrow(table), Content_Type=ARROW, **headers)

    async def end(self, **headers: str) -> None:
        """Send the end."""
        await self.send(b"", **headers)

    async def error(self, code: int, text: str) -> None:
        """Send an error, which is the end."""
        await self.send(b"", **{"Nats-Service-Error": text, "Nats-Service-Error-Code": str(code)})

    async def until_command(self, word: str) -> None:
        """Wait until the caller has sent `word`."""
        while word not in self.commands:
            await self.news.wait()
            self.news.clear()


Answer = Callable[[Asked], Awaitable[None]]


class Service:
    """A running service, and the requests it received."""

    def __init__(self, url: str, answer: Answer) -> None:
        self.asked: list[Asked] = []
        self.failures: list[BaseException] = []
        self._url, self._answer = url, answer
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._run()))
        self._thread.start()
        assert self._ready.wait(30)

    async def _run(self) -> None:
        self._main = asyncio.current_task()
        self._connection = await connect_nats(self._url, error_cb=_quiet)
        working: set[asyncio.Task[None]] = set()

        async def take(message: Any) -> None:
            asked = Asked(self._connection, message, len(self.asked))
            await asked.listen()
            self.asked.append(asked)
            working.add(asyncio.create_task(self._work(asked)))

        await self._connection.subscribe(SUBJECT, cb=take)
        await self._connection.flush()
        self._ready.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await end_tasks(working)
            await self._connection.close()

    async def _work(self, asked: Asked) -> None:
        try:
            await self._answer(asked)
        except Exception as error:
            self.failures.append(error)

    def commands(self) -> list[str]:
        """The commands that the caller of the newest request has sent."""
        return self.asked[-1].commands if self.asked else []

    def close(self) -> None:
        """Stop the service."""
        assert self._main is not None
        self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join(30)
        self._loop.close()


@contextmanager
def service(url: str, answer: Answer) -> Iterator[Service]:
    """A service on SUBJECT that answers with `answer`, in its own thread."""
    running = Service(url, answer)
    try:
        yield running
    finally:
        running.close()
    assert not running.failures, running.failures


@contextmanager
def endless_service(url: str, pause: float = 0.02) -> Iterator[subprocess.Popen[str]]:
    """A process that answers SUBJECT with 10 rows each `pause` seconds, of a million that it announces."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chunked", url, str(pause)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


async def endless(asked: Asked, pause: float = 0.02) -> None:
    """Answer with 10 rows each `pause` seconds, until the caller stops it."""
    n = 0
    while "stop" not in asked.commands:
        rows = [{"time": f"2026-01-01T00:{i // 60 % 60:02}:{i % 60:02}Z", "n": i} for i in range(n, n + 10)]
        await asked.rows(*rows, Lookback_Rows="1000000", Lookback_Control=asked.control)
        n += 10
        await asyncio.sleep(pause)
    await asked.error(499, "stopped by the caller")


def arrow(table: pa.Table) -> bytes:
    """A complete Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    whole: bytes = sink.getvalue().to_pybytes()
    return whole


async def _quiet(_: Exception) -> None:
    pass


if __name__ == "__main__":
    with service(sys.argv[1], lambda asked: endless(asked, float(sys.argv[2]))):
        print("ready", flush=True)
        until(lambda: False, 3600)
