"""The app beside NATS's browser client: bytes received by a viewer, and the time to open a long look-back.

Both run at the same time in windows of one Chromium and follow the same stream. All bytes are counted on the
TCP connection, including frame headers and compression.
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
from collections.abc import AsyncIterator, Iterator
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
"""Seconds of the long look-back, and its messages a second: two million messages in all."""
OFTEN = 100
"""Messages a second of each of the ten series at the faster of the two paces."""
LONG_PAGE = Path(__file__).parent / "long_pages"
CHART = "document.querySelector('.js-plotly-plot')"
SETTLE = 2.0
"""Seconds from a change of pace to the start of a measurement."""
APART = 1.2
"""Seconds by which the messages, the chart and the clock may differ: each is off by a second at most."""
STRETCH = 10.0
"""Seconds of one measurement: whole periods of the updates that the status line gets only now and then."""
ATTEMPTS = 5
COMPRESSION = "--server.enableWebsocketCompression"
# Sets `opened`, when the page's first websocket was created, and `drawn`, when a chart had its first lines.
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
    """The app and the client did not show the same part of the stream: the machine is too busy to compare."""


@dataclass
class Pair:
    """The tabs of the app and of the websocket client, each with a counter of its bytes."""

    app: Tab
    app_bytes: Counter
    client: Tab
    client_bytes: Counter
    slow: Tab
    """A second tab of the app whose viewer has chosen one second between two updates. Without `slow`, the
    same tab as `app`."""
    slow_bytes: Counter


@contextlib.asynccontextmanager
async def side_by_side(
    nats_url: str,
    websocket: str,
    *,
    compressed: bool,
    drawn: bool = False,
    script: str = "",
    slow: bool = False,
) -> AsyncIterator[Pair]:
    """Open the app, with one chart of the stream BENCH, and the websocket client's page in one browser.

    Yields once both have caught up. `drawn`: the client draws as well, and the browser gets all cores.
    `script`: JavaScript that runs in every tab before anything else. `slow`: open `Pair.slow` as well.
    """
    settings = (COMPRESSION, str(compressed).lower())
    async with (
        streamlit(OURS, nats_url, settings=settings) as app,
        counted(app.port) as app_bytes,
        counted(app.port) as slow_bytes,
        counted(urlsplit(websocket).port or 0) as client_bytes,
        # A real viewer has a machine of their own, so a browser that draws gets all cores of this one.
        chromium(cores=APP_CORES | LOAD_CORES if drawn else None) as devtools,
    ):
        with client_page() as page:
            theirs = f"{page}?{address(client_bytes)}&stream=BENCH&seconds={HISTORY.total_seconds():g}"
            theirs += "&draw" if drawn else ""
            ours = f"http://127.0.0.1:{app_bytes.port}"
            async with contextlib.AsyncExitStack() as windows:

                async def window(url: str) -> Tab:
                    return await windows.enter_async_context(tab(devtools, url, window=True, script=script))

                one, other = await window(ours), await window(theirs)
                third = await window(f"http://127.0.0.1:{slow_bytes.port}/?refresh=1+s") if slow else one
                for each in (one, third):
                    await reached(each, f"{CHART}?.data?.some(t => t.x.length)", 60)
                await reached(other, "self.client?.caughtUp", 60)
                yield Pair(one, app_bytes, other, client_bytes, third, slow_bytes)


def address(counter: Counter) -> str:
    """The query parameter with the server's address, for the websocket client's page."""
    return f"server=ws://127.0.0.1:{counter.port}"


@contextlib.contextmanager
def client_page() -> Iterator[str]:
    """Bundle the websocket client's page and serve it for the length of the block; yields its address."""
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
        """Log nothing."""

    def translate_path(self, path: str) -> str:
        """Serve the app's own copy of Plotly."""
        return str(PLOTLY) if path == f"/{PLOTLY.name}" else super().translate_path(path)


def bundle() -> None:
    """Install the packages of package-lock.json and bundle the page, unless the bundle is newer than both.

    Raises RuntimeError if npm is missing or one of the commands fails.
    """
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


async def viewer_bytes(plan: Plan, _url: str) -> dict[str, list[tuple[float, float]]]:
    """Bytes a second received by the app's viewers and by the websocket client, plain and compressed.

    Ten series are published at 1 Hz and at 100 Hz. The plain and the compressed measurement run at the same
    time, each on servers of its own. For the app everything that its tab receives counts, on both websockets:
    once live, and once with a second between two updates.
    """
    async with asyncio.TaskGroup() as group:
        both = [group.create_task(bytes_per_second(plan, compressed=how)) for how in (False, True)]
    return both[0].result() | both[1].result()


async def bytes_per_second(plan: Plan, *, compressed: bool) -> dict[str, list[tuple[float, float]]]:
    """Bytes a second received by the app's viewers and by the websocket client, at both paces in turn.

    A busy machine may not quite keep the pace that was set. So the client's bytes are counted per message and
    multiplied by that pace.
    """
    found = defaultdict(list)
    async with (
        nats_servers(compression=compressed) as servers,
        ten_series(servers["nats"]) as pace,
        side_by_side(servers["nats"], servers["websocket"], compressed=compressed, slow=True) as pair,
    ):
        await asyncio.sleep(plan.warm_up)
        await seen(pair.app)
        await seen(pair.slow)
        for _ in range(plan.rounds):
            for pace.hertz in (1, OFTEN):
                await asyncio.sleep(SETTLE)
                live, slow, theirs = await patiently(pair, pace.hertz, plan)
                end = "_compressed" if compressed else ""
                found[f"viewer_bytes_{SERIES * pace.hertz}{end}"].append((live, theirs))
                found[f"viewer_bytes_{SERIES * pace.hertz}_1s{end}"].append((slow, theirs))
    return found


async def patiently(pair: Pair, hertz: int, plan: Plan) -> tuple[float, float, float]:
    """Call received(), and retry if a busy machine has disturbed it."""
    seconds = STRETCH if plan.strict else plan.steady
    for _ in range(ATTEMPTS - 1):
        with contextlib.suppress(FellBehindError):
            return await received(pair, hertz, seconds, strict=plan.strict)
    return await received(pair, hertz, seconds, strict=plan.strict)


@dataclass(frozen=True)
class Mark:
    """Everything received up to one moment."""

    at: float
    """Monotonic time, seconds."""
    live: int
    slow: int
    theirs: int
    """Bytes received so far: by the live tab, by the tab with a second between updates, by the client."""
    messages: int
    """Messages received by the client so far."""
    newest: tuple[float, float]
    """The newest time that the app has drawn, live and with a second between updates, ms since the epoch."""


async def received(pair: Pair, hertz: int, seconds: float, *, strict: bool) -> tuple[float, float, float]:
    """Bytes a second over `seconds`: of the app's live viewer, of its viewer with a second between updates,
    and of the client. Raises FellBehindError if `strict` and one of them falls behind the others."""
    start = await mark(pair)
    await asyncio.sleep(max(0.0, seconds - 0.5))
    end = await mark(pair)
    passed = end.at - start.at
    published = end.messages - start.messages
    spans = {"clock": passed, "messages": published / SERIES / hertz}
    for name, before, after in zip(("live", "1 s"), start.newest, end.newest, strict=True):
        spans[name] = (after - before) / 1000
    if strict and max(spans.values()) - min(spans.values()) > APART:
        raise FellBehindError(f"one falls behind; seconds of each: {spans}")
    theirs = (end.theirs - start.theirs) / published * SERIES * hertz
    return (end.live - start.live) / passed, (end.slow - start.slow) / passed, theirs


async def mark(pair: Pair) -> Mark:
    """Note what has been received so far, 0.4 s after the client received a message.

    By then the app's update for that message has arrived. At 1 Hz, nothing of the next second has. Raises
    RuntimeError if the client receives nothing for 10 s.
    """
    before, deadline = await pair.client.value("client.received"), time.monotonic() + 10
    while await pair.client.value("client.received") == before:
        if time.monotonic() > deadline:
            raise RuntimeError("nothing has come for 10 s")
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.4)
    at, live, slow, theirs = (
        time.monotonic(),
        pair.app_bytes.down,
        pair.slow_bytes.down,
        pair.client_bytes.down,
    )
    messages = int(await pair.client.value("client.received") or 0)
    return Mark(at, live, slow, theirs, messages, (await drawn(pair.app), await drawn(pair.slow)))


async def seen(page: Tab) -> None:
    """Raise RuntimeError unless the page is visible, because a hidden page is not refreshed."""
    if await page.value("document.visibilityState") != "visible":
        raise RuntimeError("the app's window is hidden")


async def drawn(page: Tab) -> float:
    """The newest time in the app's chart, ms since the epoch."""
    newest = f"Math.max(...{CHART}.data.flatMap(t => t.x.slice(-1).map(x => Date.parse(x + 'Z'))))"
    await reached(page, f"isFinite({newest})", 10)
    return float(await page.value(newest))


async def long_look_back(plan: Plan, _url: str) -> dict[str, list[tuple[float, float]]]:
    """Open six hours of a stream of 100 messages a second: bytes and seconds.

    The app's viewer is not its first, so the app already holds the rows. Bytes are those of the websockets.
    Seconds count from the opening of the websocket, so they exclude the page's load. For the app they end at
    the chart's first lines; for the websocket client, at the last message received and decoded, undrawn.
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
    """Wait until a JavaScript expression is true in the page. Raises RuntimeError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not await page.value(f"Boolean({condition})"):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{condition}: not within {seconds:g} s")
        await asyncio.sleep(0.1)


async def fill(url: str, total: int) -> None:
    """Create the stream LONG with `total` messages whose own times are spread over the last six hours.

    Times are published as numbers. As texts that all differ, they would take up most of the window's memory.
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
