"""Bursts of messages while many sessions look at their stream.

    python -m bench.burst URL

publishes one burst for each line of input, and answers with the seconds it took.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import nats

from bench.measures import Plan, percentile
from bench.stage import OURS, ROOT, SERIES, end_with_parent, nats_server, sample_at, streamlit, until
from bench.viewer import Audience

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
    """Sixty sessions look at one stream, at rest and then while bursts come: p95 of a refresh (ms), in both
    times; and messages a second, as they came into the window and as they were published. A round is a burst;
    its refreshes are those due until all its rows were on a page."""
    latencies, rates = [], []
    with tempfile.TemporaryDirectory(prefix="lookback-bench-") as folder:
        seen = Path(folder) / "seen"
        pages = {
            "LOOKBACK_PAGES": str(ROOT / "bench" / "burst_pages"),
            "LOOKBACK_BUILT_IN": "0",
            "BENCH_SEEN": str(seen),
        }
        async with (
            nats_server() as url,
            publisher(url) as publish,
            streamlit(replace(OURS, environment=pages), url) as app,
            Audience(app.url, SESSIONS) as audience,
        ):
            await publish()  # both must have seen a burst before one counts
            total = COUNT
            await arrived(seen, total)
            await asyncio.sleep(plan.warm_up)
            start = time.monotonic()
            await asyncio.sleep(plan.steady)
            rest = audience.latencies(start, time.monotonic())
            for _ in range(plan.rounds):
                start, total = time.monotonic(), total + COUNT
                spent = await publish()
                await arrived(seen, total)
                end = time.monotonic()
                await asyncio.sleep(PAUSE)
                audience.check()
                during = audience.latencies(start, max(end, start + audience.interval))
                latencies.append((1000 * percentile(during, 0.95), 1000 * percentile(rest, 0.95)))
                rates.append((COUNT / (end - start), COUNT / spent))
    return {"burst_refresh_ms": latencies, "burst_rate": rates}


async def arrived(seen: Path, total: int) -> None:
    """Wait until a page has shown the message `total` of the stream."""
    await until(
        lambda: seen.exists() and seen.read_text() == str(total),
        60,
        lambda: f"{total:,} messages, not all seen",
    )


@asynccontextmanager
async def publisher(url: str) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """A process that publishes; gives what makes it publish one burst, and tells how long that took."""
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

    async def publish() -> float:
        requests.write(b"\n")
        spent = float(await replies.readline())
        if spent > 1.1 * SECONDS:
            raise RuntimeError(f"a burst of {SECONDS} s took {spent:.1f} s: this machine is too busy")
        return spent

    try:
        await replies.readline()
        yield publish
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def slice_of_burst(now: float) -> bytes:
    """What is published in SLICE seconds, as it goes over the wire: per millisecond each series some times.

    Made by hand, since a client of Python would take the core that the server and the viewers share.
    """
    milliseconds = round(SLICE * 1000)
    times = round(RATE * SLICE) // (SERIES * milliseconds)
    frames = []
    for ms in range(milliseconds):
        for series in range(SERIES):
            payload = sample_at(series, now + ms / 1000)
            frames += [b"PUB burst.s%d %d\r\n%s\r\n" % (series, len(payload), payload)] * times
    return b"".join(frames)


async def main() -> None:
    """Publish when asked, until the input ends."""
    url = sys.argv[1]
    connection = await nats.connect(url)
    await connection.jetstream().add_stream(name="BURST", subjects=["burst.>"])
    await connection.close()
    reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
    await reader.readline()
    writer.write(b'CONNECT {"verbose":false,"pedantic":false}\r\n')
    print(flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        start = time.monotonic()
        for number in range(round(SECONDS / SLICE)):
            await asyncio.sleep(max(0.0, start + number * SLICE - time.monotonic()))
            writer.write(slice_of_burst(time.time()))
            await writer.drain()
        writer.write(b"PING\r\n")
        while await reader.readline() != b"PONG\r\n":
            pass
        print(time.monotonic() - start, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
