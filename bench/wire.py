"""The app beside the NATS client of browsers: what reaches a viewer, and how long a long look-back takes.

Both stand in windows of one Chromium at the same time, and follow the same stream. All bytes are counted
where TCP carries them, frame headers and compression included.
"""

import asyncio
import contextlib
import functools
import http.server
import math
import shutil
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import nats

from bench.browser import Tab, chromium, tab
from bench.measures import Plan
from bench.stage import (
    APP_CORES,
    CLIENT_PAGE,
    HISTORY,
    LOAD_CORES,
    OURS,
    ROOT,
    SERIES,
    Counter,
    Side,
    counted,
    nats_servers,
    streamlit,
    ten_series,
)

PLOTLY = ROOT / "static" / "plotly.min.js"
LONG = 6 * 3600
LONG_RATE = 100
"""Seconds and messages a second of the long look-back: two million messages."""
OFTEN = 100
"""How often a second each of the ten series is published at the second pace."""
LONG_PAGE = Path(__file__).parent / "long_pages"
CHART = "document.querySelector('.js-plotly-plot')"
SETTLE = 2.0
"""Seconds from a change of pace to the measuring."""
APART = 1.2
"""Seconds by which the refreshes, the messages and the chart may differ: each is a whole second at most."""
ATTEMPTS = 5
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


class FellBehindError(Exception):
    """The two did not show the same stretch of the stream: the machine is too busy to compare them."""


@dataclass
class Pair:
    """Both, side by side."""

    app: Tab
    app_bytes: Counter
    client: Tab
    client_bytes: Counter


@contextlib.asynccontextmanager
async def side_by_side(
    nats_url: str, websocket: str, *, compressed: bool, drawn: bool = False, script: str = ""
) -> AsyncIterator[Pair]:
    """The app with one chart of the stream BENCH, and the page of the websocket client, in one browser, from
    when both have caught up. The client draws only if it is to be `drawn`; `script` runs first in both."""
    settings = (COMPRESSION, str(compressed).lower())
    async with (
        streamlit(OURS, nats_url, settings=settings) as app,
        counted(app.port) as app_bytes,
        counted(urlsplit(websocket).port or 0) as client_bytes,
        # A viewer has a machine of their own; what is drawn is given all of this one.
        chromium(cores=APP_CORES | LOAD_CORES if drawn else None) as devtools,
    ):
        with client_page() as page:
            theirs = f"{page}?{address(client_bytes)}&stream=BENCH&seconds={HISTORY.total_seconds():g}"
            theirs += "&draw" if drawn else ""
            ours = f"http://127.0.0.1:{app_bytes.port}"
            async with (
                tab(devtools, ours, window=True, script=script) as one,
                tab(devtools, theirs, window=True, script=script) as other,
            ):
                await reached(one, f"{CHART}?.data?.some(t => t.x.length)", 60)
                await reached(other, "self.client?.caughtUp", 60)
                yield Pair(one, app_bytes, other, client_bytes)


def address(counter: Counter) -> str:
    """The query that tells the websocket client's page where its server is."""
    return f"server=ws://127.0.0.1:{counter.port}"


@contextlib.contextmanager
def client_page() -> Iterator[str]:
    """Bundle and serve the page of the websocket client; gives its address."""
    bundle()
    handler = functools.partial(_Quiet, directory=str(CLIENT_PAGE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/index.html"
        finally:
            server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""

    def translate_path(self, path: str) -> str:
        """Plotly is the one that the app has."""
        return str(PLOTLY) if path == f"/{PLOTLY.name}" else super().translate_path(path)


def bundle() -> None:
    """Install what package-lock.json names and bundle the page, unless that was done already."""
    if not shutil.which("npm"):
        raise RuntimeError("The websocket client needs node and npm on PATH: apt-get install nodejs npm.")
    made, sources = (
        CLIENT_PAGE / "bundle.js",
        [CLIENT_PAGE / name for name in ("page.js", "package-lock.json")],
    )
    if made.exists() and all(made.stat().st_mtime >= source.stat().st_mtime for source in sources):
        return
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    pack = ["npx", "--no-install", "esbuild", "page.js", "--bundle", "--minify", "--format=esm"]
    for command in (install, [*pack, "--outfile=bundle.js", "--log-level=error"]):
        ended = subprocess.run(command, cwd=CLIENT_PAGE, capture_output=True, text=True)
        if ended.returncode:
            raise RuntimeError(f"{command[1]} failed:\n{ended.stderr}")


async def viewer_bytes(plan: Plan, _: str) -> dict[str, list[tuple[float, float]]]:
    """Bytes received a second by each, of ten series at once and at a hundred times a second, as they are and
    compressed: both at the same time, on servers of their own. Bytes do not depend on how fast it goes."""
    async with asyncio.TaskGroup() as group:
        both = [group.create_task(bytes_per_second(plan, compressed=how)) for how in (False, True)]
    return both[0].result() | both[1].result()


async def bytes_per_second(plan: Plan, *, compressed: bool) -> dict[str, list[tuple[float, float]]]:
    """Bytes received a second by the app's viewer and by the websocket client, at both paces in turn; of the
    pace set, which a busy machine may not quite keep."""
    found = defaultdict(list)
    async with (
        nats_servers(compression=compressed) as servers,
        ten_series(servers["nats"]) as pace,
        side_by_side(servers["nats"], servers["websocket"], compressed=compressed) as pair,
    ):
        await asyncio.sleep(plan.warm_up)
        await seen(pair.app)
        for _ in range(plan.rounds):
            for pace.hertz in (1, OFTEN):
                await asyncio.sleep(SETTLE)
                name = f"viewer_bytes_{SERIES * pace.hertz}{'_compressed' if compressed else ''}"
                found[name].append(await patiently(pair, pace.hertz, plan))
    return found


async def patiently(pair: Pair, hertz: int, plan: Plan) -> tuple[float, float]:
    """`received`, once more where a busy machine has disturbed it."""
    for _ in range(ATTEMPTS - 1):
        with contextlib.suppress(FellBehindError):
            return await received(pair, hertz, plan.steady / 2, strict=plan.strict)
    return await received(pair, hertz, plan.steady / 2, strict=plan.strict)


async def received(pair: Pair, hertz: int, seconds: float, *, strict: bool) -> tuple[float, float]:
    """Bytes a second of both over about this long. Raises FellBehindError where one shows what is not of this
    stretch, if `strict`."""

    async def ticks() -> int:
        return len(pair.app.sent)

    async def messages() -> int:
        return int(await pair.client.value("client.received") or 0)

    async def newest() -> float:
        return await drawn(pair.app)

    (ours, refreshes, fresh), (theirs, published, _) = await asyncio.gather(
        between(ticks, pair.app_bytes, seconds, newest), between(messages, pair.client_bytes, seconds)
    )
    spans = {"refreshes": refreshes, "messages": published / SERIES / hertz, "chart": fresh / 1000}
    if strict and max(spans.values()) - min(spans.values()) > APART:
        raise FellBehindError(f"one falls behind; seconds of each: {spans}")
    return ours / refreshes, theirs / published * SERIES * hertz


async def between(
    count: Callable[[], Awaitable[int]],
    counter: Counter,
    seconds: float,
    newest: Callable[[], Awaitable[float]] | None = None,
) -> tuple[int, int, float]:
    """Bytes, how many of what is counted, and by how much the newest drawn has moved on, within about this
    long; each time a moment after one has come, so that what belongs to it is there and the next is not."""

    async def behind_one() -> tuple[int, int, float]:
        before, deadline = await count(), time.monotonic() + 10
        while await count() == before:
            if time.monotonic() > deadline:
                raise RuntimeError("nothing has come for 10 s")
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.4)
        return counter.down, await count(), await newest() if newest else 0.0

    start = await behind_one()
    await asyncio.sleep(seconds - 0.5)
    end = await behind_one()
    return end[0] - start[0], end[1] - start[1], end[2] - start[2]


async def seen(page: Tab) -> None:
    """Complain unless the page is in front: what nobody sees is not refreshed."""
    if await page.value("document.visibilityState") != "visible":
        raise RuntimeError("the app's window is hidden")


async def drawn(page: Tab) -> float:
    """The newest time in the app's chart, ms since the epoch."""
    newest = f"Math.max(...{CHART}.data.flatMap(t => t.x.slice(-1).map(x => Date.parse(x + 'Z'))))"
    await reached(page, f"isFinite({newest})", 10)
    return float(await page.value(newest))


async def long_look_back(plan: Plan, _: str) -> dict[str, list[tuple[float, float]]]:
    """Open six hours of a stream of 100 messages a second: bytes and seconds, for a viewer who is not the
    first of the app, and for the websocket client.

    Bytes are those of the websockets. Seconds count from the websocket's opening, so without the page's load:
    to the first lines of the chart, and to the last message received and decoded, undrawn.
    """
    total = int(LONG * LONG_RATE * plan.long_share)
    async with nats_servers() as servers:
        await fill(servers["nats"], total)
        pages = Side(
            "ours", OURS.script, OURS.folder, {"LOOKBACK_PAGES": str(LONG_PAGE), "LOOKBACK_BUILT_IN": "0"}
        )
        async with (
            streamlit(pages, servers["nats"], settings=(COMPRESSION, "false")) as app,
            counted(urlsplit(servers["websocket"]).port or 0) as client_bytes,
            chromium(cores=APP_CORES | LOAD_CORES) as devtools,
        ):
            async with tab(devtools, app.url, window=True, script=WATCH) as first:
                await reached(first, f"document.body.innerText.includes('{total:,} rows')", 600)
                async with tab(devtools, app.url, window=True, script=WATCH) as second:
                    await reached(second, "self.drawn", 30)
                    opened = float(await second.value("self.opened"))
                    first_lines = float(await second.value("self.drawn"))
                    ours = sum(size for _, size in second.received)
                    points = await second.value(f"{CHART}.data.reduce((n, t) => n + t.x.length, 0)")
                    if points < 0.9 * plan.long_share * 1000:
                        raise RuntimeError(f"a chart of {points} points")
            with client_page() as page:
                theirs = f"{page}?{address(client_bytes)}&stream=LONG&seconds={2 * LONG}"
                async with tab(devtools, theirs, window=True, script=WATCH) as client:
                    await reached(client, f"self.client?.received === {total}", 600)
                    began = float(await client.value("self.opened"))
                    done = float(await client.value("client.caughtUp"))
                    return {
                        "open_bytes_6h": [(ours, client_bytes.down)],
                        "open_seconds_6h": [((first_lines - opened) / 1000, (done - began) / 1000)],
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
        value = round(20 + 5 * math.sin(at / 30) + math.sin(at * 7.3), 6)
        row = f'{{"t": {round(at * 1000)}, "value": {value}, "unit": "C"}}'
        await connection.publish("long.s", row.encode())
        if n % 5000 == 4999:
            await connection.flush()
    for _ in range(300):
        if (await jetstream.stream_info("LONG")).state.messages == total:
            break
        await asyncio.sleep(0.2)
    await connection.close()
