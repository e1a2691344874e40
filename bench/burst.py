"""Bursts of messages while many sessions show their stream.

    python -m bench.burst URL

publishes one burst for each line of input, and prints when its first and its last messages were published.
"""

import asyncio
import itertools
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import nats
import numpy as np

from bench.measures import Plan, percentile, waits
from bench.stage import EPOCH, OURS, ROOT, SERIES, clock_at, end_with_parent, nats_server, streamlit
from bench.viewer import ROUNDED, Audience

RATE = 50_000
"""Messages a second within a burst."""
SECONDS = 2
PAUSE = 4.0
"""Seconds between two bursts."""
SESSIONS = 60
SLICE = 0.02
"""Seconds of a burst that are published in one go."""
COUNT = RATE * SECONDS


async def bursts(plan: Plan, _url: str) -> dict[str, list[tuple[float, float]]]:
    """Sixty live viewers of one stream, at rest and then during bursts. A round is one burst.

    "burst_refresh_ms": p95 from publishing to a viewer's socket, during the burst and at rest. "burst_rate":
    messages a second, as the viewers received them and as they were published.
    """
    latencies, rates = [], []
    pages = {"LOOKBACK_PAGES": str(ROOT / "bench" / "burst_pages"), "LOOKBACK_BUILT_IN": "0"}
    async with (
        nats_server() as url,
        publisher(url) as publish,
        streamlit(replace(OURS, environment=pages), url) as app,
    ):
        await publish()  # there must have been a burst before one counts
        async with Audience(app.url, SESSIONS) as audience:
            await asyncio.sleep(plan.warm_up)
            rest = await waits(audience, plan.steady)
            for _ in range(plan.rounds):
                audience.note()
                burst = await publish()
                await arrived(audience, burst.end)
                during = audience.waits(np.arange(burst.start, burst.end, SLICE).tolist())
                seen = max(viewer.frames[-1][0] for viewer in audience.viewers if viewer.frames)
                latencies.append((1000 * percentile(during, 0.95), 1000 * percentile(rest, 0.95)))
                rates.append((COUNT / (seen - burst.start), COUNT / (burst.end - burst.start)))
                await asyncio.sleep(PAUSE)
    return {"burst_refresh_ms": latencies, "burst_rate": rates}


async def arrived(audience: Audience, last: float) -> None:
    """Wait until every viewer has received the message published at `last`, in seconds since EPOCH. Raises
    RuntimeError after a minute."""
    deadline = time.monotonic() + 60
    while not all(viewer.frames and viewer.frames[-1][1] >= last - ROUNDED for viewer in audience.viewers):
        audience.check()
        if time.monotonic() > deadline:
            raise RuntimeError("the end of a burst has not come for a minute")
        await asyncio.sleep(0.02)


@dataclass(frozen=True)
class Burst:
    """When its first and its last messages were published, in seconds since EPOCH."""

    start: float
    end: float


@asynccontextmanager
async def publisher(url: str) -> AsyncIterator[Callable[[], Awaitable[Burst]]]:
    """Run a process that publishes ten messages a second; yields a function that makes it publish a burst."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.burst", url),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the benchmark
        preexec_fn=end_with_parent,
    )

    assert process.stdin
    assert process.stdout
    requests, replies = process.stdin, process.stdout

    async def publish() -> Burst:
        requests.write(b"\n")
        burst = Burst(*map(float, (await replies.readline()).split()))
        if (spent := burst.end - burst.start) > 1.1 * SECONDS:
            raise RuntimeError(f"a burst of {SECONDS} s took {spent:.1f} s: this machine is too busy")
        return burst

    try:
        await replies.readline()
        yield publish
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def slice_of_burst(now: float) -> bytes:
    """The frames that are published in SLICE seconds: several messages per series and millisecond.

    They are NATS protocol built by hand, because a Python client would use up the core that the server and
    the viewers share.
    """
    milliseconds = round(SLICE * 1000)
    times = round(RATE * SLICE) // (SERIES * milliseconds)
    frames = []
    for ms in range(milliseconds):
        for series in range(SERIES):
            payload = clock_at(series, now + ms / 1000, now)
            frames += [b"PUB burst.s%d %d\r\n%s\r\n" % (series, len(payload), payload)] * times
    return b"".join(frames)


async def main() -> None:
    """Publish a burst for each line of input, until the input ends."""
    url = sys.argv[1]
    connection = await nats.connect(url)
    await connection.jetstream().add_stream(name="BURST", subjects=["burst.>"])
    await connection.close()
    reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
    await reader.readline()
    writer.write(b'CONNECT {"verbose":false,"pedantic":false}\r\n')
    beside = asyncio.create_task(trickle(writer))
    print(flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        start = time.monotonic()
        first = time.time() - EPOCH
        for number in range(round(SECONDS / SLICE)):
            await asyncio.sleep(max(0.0, start + number * SLICE - time.monotonic()))
            last = time.time()
            writer.write(slice_of_burst(last))
            await writer.drain()
        writer.write(b"PING\r\n")
        while await reader.readline() != b"PONG\r\n":
            pass
        print(first, last - EPOCH, flush=True)
    beside.cancel()


async def trickle(writer: asyncio.StreamWriter) -> None:
    """Publish ten messages a second, each series in turn."""
    for number in itertools.count():
        payload = clock_at(number % SERIES, time.time())
        writer.write(b"PUB burst.s%d %d\r\n%s\r\n" % (number % SERIES, len(payload), payload))
        await asyncio.sleep(1 / SERIES)


if __name__ == "__main__":
    asyncio.run(main())
