"""Publish a stream at a steady pace from a process of its own, which no measuring holds up.

    python -m bench.publisher URL STREAM SERIES RATE ROWS

creates STREAM, stores ROWS messages whose own times lie before now at that pace, and then publishes RATE
messages a second, one series after the other, each with the time of its publishing; in the stream CLOCK that
is the value, too. Answers each line on its input with how far it got, and ends with its input.
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
"""Seconds between two looks at what is due, at least."""
LATEST = 1.0
"""Seconds that a message may be published late."""


@dataclass(frozen=True)
class Pace:
    """How far a publisher got since it was asked before."""

    published: int
    """Messages since the start."""
    latest: float
    """Seconds, the most that one was late since it was asked before."""


class Publisher:
    """Talks with the process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin
        assert process.stdout
        self._questions, self._answers = process.stdin, process.stdout

    async def pace(self, *, strict: bool = True) -> Pace:
        """How far it got. Raises RuntimeError when it did not keep its pace since it was asked before, if
        `strict`."""
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
    """What makes a message of a series at a time."""
    return clock_at if stream == CLOCK else sample_at


async def fill(connection: Client, stream: str, series: int, rate: float, rows: int) -> None:
    """Store `rows` messages that would have been published until now."""
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
    """Fill, say so, publish until the input ends."""
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
