"""A hidden tab, in a Chromium that really hides it: the usual test drivers keep every tab visible.

Slow, because it waits to see that nothing comes.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.browser import Tab, chromium, tab
from tests.browser import find
from tests.nats import NatsServer, running_server
from tests.running import app

PLOT = "document.querySelector('.js-plotly-plot')"
NEWEST = f"Math.max(...{PLOT}.data.flatMap(t => t.x.map(x => Date.parse(x + 'Z'))))"
CHART = f"{PLOT}.parentElement.lookback"


async def until(holds: Callable[[], Awaitable[object]], seconds: float = 60) -> None:
    """Wait until a condition holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.1)


def publish(server: NatsServer, count: int) -> None:
    """Publish numbers to the stream S."""
    server.publish("s.a", *(json.dumps({"value": i}).encode() for i in range(count)))


async def quiet(page: Tab, seconds: float) -> None:
    """Wait until nothing has gone over the page's websockets for `seconds`."""

    moved, before = time.monotonic(), -1

    async def still() -> bool:
        nonlocal moved, before
        if (now := len(page.received) + len(page.sent)) != before:
            moved, before = time.monotonic(), now
        return time.monotonic() - moved > seconds

    await until(still)


def test_a_hidden_tab_costs_nothing(tmp_path: Path) -> None:
    """Once a tab is hidden, nothing is sent or received. Once it is visible again, an update brings all
    messages from the meantime, and the viewer's zoom is unchanged. A page without a chart becomes quiet as
    well."""

    async def look(server: NatsServer, url: str) -> None:
        async with chromium(find(whole=True)) as devtools, tab(devtools, f"{url}/explore") as page:
            await until(lambda: page.value(f"{CHART}?.drawn && isFinite({NEWEST})"))
            await page.value(f"{PLOT}.scrollIntoView()")  # a chart that is off-screen is not drawn
            await until(lambda: page.value(f"{CHART}.visible"))
            zoom = "{'yaxis.range[0]': 1, 'yaxis.range[1]': 2}"
            await page.value(f"{CHART}.library.relayout({CHART}.plot, {zoom}).then(() => 0)")
            before = await page.value(NEWEST)
            async with tab(devtools, "about:blank"):
                assert await page.value("document.visibilityState") == "hidden"
                await quiet(page, 5)
                await asyncio.to_thread(publish, server, 30)
                sent, received = len(page.sent), len(page.received)
                await asyncio.sleep(3)
                assert (len(page.sent), len(page.received)) == (sent, received)
                held = await page.value(f"{CHART}.frame")
            await until(lambda: page.value(f"{CHART}.frame > {held}"))
            await until(lambda: page.value(f"{NEWEST} > {before}"))
            assert await page.value(f"{CHART}.asked") in (None, "-Infinity")
            assert await page.value(f"{CHART}.zoom.y") == [1, 2]
            received = len(page.received)
            await until(lambda: asyncio.sleep(0, len(page.received) > received + 3))  # updates continue
        async with chromium(find(whole=True)) as devtools, tab(devtools, f"{url}/values") as page:
            await until(lambda: page.value("Boolean(document.querySelector('.lb-status'))"))
            async with tab(devtools, "about:blank"):
                await quiet(page, 5)

    with running_server(tmp_path / "nats") as server, app(tmp_path, NATS_URL=server.url) as running:
        server.add_stream("S", ["s.>"])
        publish(server, 20)
        asyncio.run(look(server, running.url))
