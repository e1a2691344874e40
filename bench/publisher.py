"""Publish a stream at a steady pace from a process of its own, so that no measurement delays it.

    python -m bench.publisher URL STREAM SERIES RATE ROWS

creates STREAM and stores ROWS messages whose own times precede now at that pace. Then it publishes RATE
messages a second, one series after the other. Each has the time of its publishing, which in the stream CLOCK
is also the value. The program answers each line of input with its progress as JSON, and ends when its input
does.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import nats
from nats.aio.client import Client

from bench.stage import ROOT, clock_at, end_with_parent, sample_at

CLOCK = "CLOCK"

WAKE = 0.005
"""The least seconds between two checks for messages that are due."""
LATEST = 1.0
"""Seconds that a message may be published late."""


@dataclass(frozen=True)
class Pace:
    """A publisher's progress."""

    published: int
    """Messages since the start."""
    latest: float
    """The longest delay of a message since the previous request, in seconds."""


class Publisher:
    """The benchmark's end of the publisher's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin
        assert process.stdout
        self._questions, self._answers = process.stdin, process.stdout

    async def pace(self, *, strict: bool = True) -> Pace:
        """Request its progress. Raises RuntimeError if the process has ended, or if `strict` and a message
        was more than LATEST late since the previous request."""
        self._questions.write(b"\n")
        pace = Pace(**json.loads(await self._line()))
        if strict and pace.latest > LATEST:
            raise RuntimeError(f"the publisher was {pace.latest:.2f} s late: this machine is too busy")
        return pace

    async def _line(self) -> bytes:
        async with asyncio.timeout(120):
            line = await self._answers.readline()
        if not line:
            raise RuntimeError("the publisher has ended")
        return line


@contextlib.asynccontextmanager
async def publishing(
    url: str, stream: str, *, series: int, rate: float, rows: int
) -> AsyncIterator[Publisher]:
    """Fill a stream and publish to it for the length of the block."""
    arguments = [url, stream, str(series), str(rate), str(rows)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bench.publisher", *arguments),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the benchmark
        preexec_fn=end_with_parent,
    )
    publisher = Publisher(process)
    try:
        await publisher._line()
        yield publisher
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def message_of(stream: str) -> Callable[[int, float], bytes]:
    """The function that makes a message, from a series and a time in seconds since 1970."""
    return clock_at if stream == CLOCK else sample_at


async def fill(connection: Client, stream: str, series: int, rate: float, rows: int) -> None:
    """Store the `rows` messages that a publisher at this rate would have sent until now."""
    jetstream, subject, message = connection.jetstream(), stream.lower(), message_of(stream)
    await jetstream.add_stream(name=stream, subjects=[f"{subject}.>"])
    start = time.time() - rows / rate
    for n in range(rows):
        payload = message(n % series, start + n / rate)
        # Plain publishing is fast but not acknowledged: let the server store what it has every so often.
        if n % 10_000 == 9_999 or n == rows - 1:
            await jetstream.publish(f"{subject}.s{n % series}", payload, timeout=60)
        else:
            await connection.publish(f"{subject}.s{n % series}", payload)
    stored = (await jetstream.stream_info(stream)).state.messages
    if stored != rows:
        raise RuntimeError(f"{stored:,} messages stored, {rows:,} sent")


async def main() -> None:
    """Fill the stream, print an empty line, then publish until the input ends."""
    url, stream, *numbers = sys.argv[1:]
    series, rate, rows = int(numbers[0]), float(numbers[1]), int(numbers[2])
    connection = await nats.connect(url)
    await fill(connection, stream, series, rate, rows)
    questions = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(questions), sys.stdin
    )
    print(flush=True)
    start, published, latest, message = time.time(), 0, 0.0, message_of(stream)

    async def answer() -> None:
        nonlocal latest
        while await questions.readline():
            print(json.dumps({"published": published, "latest": latest}), flush=True)
            latest = 0.0
        os._exit(0)

    answering = asyncio.create_task(answer())
    while not answering.done():
        await asyncio.sleep(max(WAKE, start + published / rate - time.time()))
        while (now := time.time()) >= start + published / rate:
            latest = max(latest, now - start - published / rate)
            which = published % series
            await connection.publish(f"{stream.lower()}.s{which}", message(which, now))
            published += 1


if __name__ == "__main__":
    asyncio.run(main())
