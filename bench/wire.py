"""The app beside the NATS client of browsers: what reaches a viewer, and how long a long look-back takes.

Both stand in windows of one Chromium at the same time, and follow the same stream. All bytes are counted
where TCP carries them, frame headers and compression included. `python -m bench.wire` prints the figures.
"""

import asyncio
import contextlib
import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import nats

from bench.browser import Tab, chromium, tab
from bench.measures import Plan
from bench.stage import (
    HISTORY,
    OURS,
    SERIES,
    Counter,
    Side,
    counted,
    nats_servers,
    pin_load,
    sample_at,
    streamlit,
    ten_series,
)

CLIENT = Path(__file__).parent / "websocket_client"
LONG = 6 * 3600
LONG_RATE = 100
"""Seconds and messages a second of the long look-back: two million messages."""
LONG_PAGE = Path(__file__).parent / "long_pages"
COMPRESSION = "--server.enableWebsocketCompression"
# When the websocket was opened, and when a chart had its first lines.
WATCH = """
const Open = WebSocket
WebSocket = class extends Open { constructor(...a) { super(...a); self.opened ??= performance.now() } }
const look = () => {
  if (document.querySelector('.js-plotly-plot .scatterlayer path.js-line')) self.drawn = performance.now()
  else requestAnimationFrame(look)
}
look()
"""


@dataclass
class Pair:
    """Both, side by side."""

    app: Tab
    app_bytes: Counter
    client: Tab
    client_bytes: Counter


@contextlib.asynccontextmanager
async def side_by_side(nats_url: str, websocket: str, *, compressed: bool) -> AsyncIterator[Pair]:
    """The app with one chart of the stream BENCH, and the page of the websocket client, in one browser."""
    settings = (COMPRESSION, str(compressed).lower())
    async with (
        streamlit(OURS, nats_url, settings=settings) as app,
        counted(app.port) as app_bytes,
        counted(urlsplit(websocket).port or 0) as client_bytes,
        chromium() as devtools,
    ):
        with client_page() as page:
            theirs = f"{page}?{address(client_bytes)}&stream=BENCH&seconds={HISTORY.total_seconds():g}"
            ours = f"http://127.0.0.1:{app_bytes.port}"
            async with tab(devtools, ours, window=True) as one, tab(devtools, theirs, window=True) as other:
                yield Pair(one, app_bytes, other, client_bytes)


def address(counter: Counter) -> str:
    """The query that tells the websocket client's page where its server is."""
    return f"server=ws://127.0.0.1:{counter.port}"


@contextlib.contextmanager
def client_page() -> Iterator[str]:
    """Bundle and serve the page of the websocket client; gives its address."""
    bundle()
    handler = functools.partial(_Quiet, directory=str(CLIENT))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/index.html"
        finally:
            server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


def bundle() -> None:
    """Install what package-lock.json names and bundle the page, unless that was done already."""
    if not shutil.which("npm"):
        raise RuntimeError("The websocket client needs node and npm on PATH: apt-get install nodejs npm.")
    made, sources = CLIENT / "bundle.js", [CLIENT / name for name in ("page.js", "package-lock.json")]
    if made.exists() and all(made.stat().st_mtime >= source.stat().st_mtime for source in sources):
        return
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    pack = ["npx", "--no-install", "esbuild", "page.js", "--bundle", "--minify", "--format=esm"]
    for command in (install, [*pack, "--outfile=bundle.js", "--log-level=error"]):
        ended = subprocess.run(command, cwd=CLIENT, capture_output=True, text=True)
        if ended.returncode:
            raise RuntimeError(f"{command[1]} failed:\n{ended.stderr}")


async def viewer_bytes(plan: Plan) -> dict[str, tuple[float, float]]:
    """Bytes received a second by each, of ten series at once and at a hundred times a second, as they are and
    compressed."""
    found = {}
    for rate in (1, LONG_RATE):
        for compressed in (False, True):
            name = f"viewer_bytes_{SERIES * rate}{'_compressed' if compressed else ''}"
            ours, theirs = await bytes_per_second(rate, plan, compressed=compressed)
            found[name] = ours[0], theirs[0]
    return found


async def bytes_per_second(
    rate: int, plan: Plan, *, compressed: bool
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Bytes received and sent a second, by the app's viewer and by the websocket client: at the pace set,
    which a busy machine may not quite keep."""
    async with (
        nats_servers(compression=compressed) as servers,
        ten_series(servers["nats"], rate),
        side_by_side(servers["nats"], servers["websocket"], compressed=compressed) as pair,
    ):
        await reached(pair.app, "document.querySelector('.js-plotly-plot')?.data?.some(t => t.x.length)", 60)
        await reached(pair.client, "self.client?.caughtUp", 60)
        await asyncio.sleep(plan.warm_up)
        await seen(pair.app)
        counters = pair.app_bytes, pair.client_bytes
        before = [(counter.down, counter.up) for counter in counters]
        held, ticks = (await drawn(pair.app), await count(pair.client)), len(pair.app.sent)
        start = time.monotonic()
        await asyncio.sleep(plan.steady)
        spent = time.monotonic() - start
        refreshes = len(pair.app.sent) - ticks
        seconds = (await count(pair.client) - held[1]) / (SERIES * rate)
        fresh = (await drawn(pair.app) - held[0]) / 1000
        for kept in (refreshes, seconds, fresh):
            if not 0.7 < kept / spent < 1.3:
                raise RuntimeError(f"{refreshes} refreshes, messages of {seconds} s, chart of {fresh} s")
        ours, theirs = (
            ((counter.down - down) / paced, (counter.up - up) / paced)
            for counter, (down, up), paced in zip(counters, before, (refreshes, seconds), strict=True)
        )
        return ours, theirs


async def seen(page: Tab) -> None:
    """Complain unless the page is in front: what nobody sees is not refreshed."""
    if await page.value("document.visibilityState") != "visible":
        raise RuntimeError("the app's window is hidden")


async def drawn(page: Tab) -> float:
    """The newest time in the app's chart, ms since the epoch."""
    chart = "document.querySelector('.js-plotly-plot')"
    newest = f"Math.max(...{chart}.data.flatMap(t => t.x.slice(-1).map(x => Date.parse(x + 'Z'))))"
    await reached(page, f"isFinite({newest})", 10)
    return float(await page.value(newest))


async def count(page: Tab) -> int:
    """Messages that the websocket client has received."""
    return int(await page.value("client.received") or 0)


async def long_look_back(plan: Plan) -> dict[str, tuple[float, float]]:
    """Open six hours of a stream of 100 messages a second: bytes and seconds, for a viewer who is not the
    first of the app, and for the websocket client.

    Bytes are those of the websockets. Seconds count from the websocket's opening, so without the page's load:
    to the first lines of the chart, and to the last message received and decoded, undrawn.
    """
    total = int(LONG * LONG_RATE * plan.long_share)
    async with nats_servers() as servers:
        await fill(servers["nats"], total)
        pages = Side("ours", OURS.script, OURS.folder, {"LOOKBACK_PAGES": str(LONG_PAGE)})
        async with (
            streamlit(pages, servers["nats"], settings=(COMPRESSION, "false")) as app,
            counted(urlsplit(servers["websocket"]).port or 0) as client_bytes,
            chromium() as devtools,
        ):
            async with tab(devtools, app.url, window=True, script=WATCH) as first:
                await reached(first, f"document.body.innerText.includes('{total:,} rows')", 600)
                async with tab(devtools, app.url, window=True, script=WATCH) as second:
                    await reached(second, "self.drawn", 30)
                    opened = float(await second.value("self.opened"))
                    first_lines = float(await second.value("self.drawn"))
                    ours = sum(size for _, size in second.received)
                    points = await second.value(
                        "document.querySelector('.js-plotly-plot').data.reduce((n, t) => n + t.x.length, 0)"
                    )
                    if points < 0.9 * plan.long_share * 1000:
                        raise RuntimeError(f"a chart of {points} points")
            with client_page() as page:
                theirs = f"{page}?{address(client_bytes)}&stream=LONG&seconds={2 * LONG}"
                async with tab(devtools, theirs, window=True, script=WATCH) as client:
                    await reached(client, f"self.client?.received === {total}", 600)
                    began = float(await client.value("self.opened"))
                    done = float(await client.value("client.caughtUp"))
                    return {
                        "open_bytes_6h": (ours, client_bytes.down),
                        "open_seconds_6h": ((first_lines - opened) / 1000, (done - began) / 1000),
                    }


async def reached(page: Tab, condition: str, seconds: float) -> None:
    """Wait until JavaScript of the page holds."""
    deadline = time.monotonic() + seconds
    while not await page.value(f"Boolean({condition})"):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{condition}: not within {seconds:g} s")
        await asyncio.sleep(0.1)


async def fill(url: str, total: int) -> None:
    """Create the stream LONG with `total` messages whose own times are spread over the last six hours.

    Times are numbers: as text, of which no two are the same, they would be most of what a window holds.
    """
    connection = await nats.connect(url)
    jetstream = connection.jetstream()
    await jetstream.add_stream(name="LONG", subjects=["long.>"])
    start = time.time() - LONG + 60
    gap = (LONG - 60) / total
    for n in range(total):
        at = start + n * gap
        row = json.loads(sample_at(0, at)) | {"t": round(at * 1000)}
        await connection.publish("long.s", json.dumps(row).encode())
        if n % 5000 == 4999:
            await connection.flush()
    for _ in range(300):
        if (await jetstream.stream_info("LONG")).state.messages == total:
            break
        await asyncio.sleep(0.2)
    await connection.close()


async def main() -> None:
    """Print all figures."""
    pin_load()
    plan = Plan()
    for rate in (1, LONG_RATE):
        for compressed in (False, True):
            ours, theirs = await bytes_per_second(rate, plan, compressed=compressed)
            how = ", compressed" if compressed else ""
            for who, (down, up) in (("app", ours), ("websocket client", theirs)):
                print(f"{rate * SERIES} messages/s{how}: {who}: {down:,.0f} down, {up:,.0f} up", flush=True)
    for name, (ours, theirs) in (await long_look_back(plan)).items():
        print(f"{name}: app {ours:,.1f}, websocket client {theirs:,.1f}")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit("stopped")
