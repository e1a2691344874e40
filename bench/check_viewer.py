"""Is the headless viewer a fair stand-in for a browser? `python -m bench.check_viewer`.

Runs it beside a real Chromium on the same server, and prints the bytes of messages a second that each of them
receives on all websockets. The benchmark's figures hold as far as the two agree.
"""

import asyncio

from bench.browser import chromium, tab
from bench.stage import OURS, PLAIN_RECIPE, Side, nats_server, pin_load, streamlit, ten_series
from bench.viewer import Audience

WARM_UP, STEADY = 10.0, 20.0


async def compare(side: Side, nats_url: str) -> None:
    """Open one app with both at the same time, and print what each received."""
    async with (
        streamlit(side, nats_url) as app,
        chromium() as devtools,
        tab(devtools, app.url) as page,
        Audience(app.url, 1) as audience,
    ):
        viewer = audience.viewers[0]
        await asyncio.sleep(WARM_UP)
        first, before = len(page.received), viewer.message_bytes
        await asyncio.sleep(STEADY)
        audience.check()
        sizes = [size for _, size in page.received[first:]]
        print(f"{side.name}: bytes/s")
        print(f"  Chromium {sum(sizes) / STEADY:10,.0f}, {len(sizes)} messages")
        print(f"  viewer   {(viewer.message_bytes - before) / STEADY:10,.0f}", flush=True)


async def main() -> None:
    """Compare on both sides."""
    pin_load()
    async with nats_server() as url, ten_series(url):
        for side in (PLAIN_RECIPE, OURS):
            await compare(side, url)


if __name__ == "__main__":
    asyncio.run(main())
