"""Is the headless viewer a fair stand-in for a browser? `python -m bench.check_viewer`.

Puts it beside a real Chromium on the same server and prints the bytes of a refresh as either receives and
sends them. The benchmark's figures hold as far as the two agree.
"""

import asyncio
from itertools import pairwise
from statistics import median

from bench.browser import chromium, tab
from bench.stage import OURS, PLAIN_RECIPE, Side, nats_server, pin_load, streamlit, ten_series
from bench.viewer import Audience

WARM_UP, STEADY = 10.0, 20.0


async def compare(side: Side, nats_url: str) -> None:
    """Watch one app with both at the same time, and print what each saw."""
    async with (
        streamlit(side, nats_url) as app,
        chromium() as devtools,
        tab(devtools, app.url) as page,
        Audience(app.url, 1) as audience,
    ):
        viewer = audience.viewers[0]
        await asyncio.sleep(WARM_UP)
        first, before = len(page.sent), (viewer.message_bytes, viewer.sent_bytes, audience.runs())
        await asyncio.sleep(STEADY)
        audience.check()
        ticks = page.sent[first:]
        # Median, since a tick of a busy browser now and then cuts off the run before it.
        down = median(
            sum(size for at, size in page.received if start <= at < end)
            for (start, _), (end, _) in pairwise(ticks)
        )
        up = median(size for _, size in ticks)
        runs = audience.runs() - before[2]
        print(f"{side.name}: bytes of a refresh down and up, refreshes")
        print(f"  Chromium {down:10,.0f} {up:8,.0f} {len(ticks):5}")
        down, up = (viewer.message_bytes - before[0]) / runs, (viewer.sent_bytes - before[1]) / runs
        print(f"  viewer   {down:10,.0f} {up:8,.0f} {runs:5}", flush=True)


async def main() -> None:
    """Compare on both sides."""
    pin_load()
    async with nats_server() as url, ten_series(url):
        for side in (PLAIN_RECIPE, OURS):
            await compare(side, url)


if __name__ == "__main__":
    asyncio.run(main())
