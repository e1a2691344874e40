"""One viewer's heavy page beside another viewer's small page.

Slow, because eight charts of half a million rows load before anything can be measured.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from bench.measures import percentile, waits
from bench.publisher import CLOCK, publishing
from bench.viewer import Audience
from tests.nats import running_server
from tests.running import app

ROWS = 500_000
RATE, SERIES = 1000, 50
"""Messages a second of the heavy page's stream, and the number of its series."""
CHARTS = 8
STRETCH = 6.0
"""Seconds of each measurement."""
MOST = 4.0
"""How many times as long the small page's messages may take beside the heavy page as without it."""
LEAST = 0.05
"""The multiple is taken of at least this many seconds: a frame may have to wait this long for the frame
before."""
SMALL = '''"""Small."""
from components import line_chart, live

line_chart(live("CLOCK", "clock.>", look_back="PT5M", time="t"), y="sent", by="_subject")
'''
HEAVY = f'''"""Heavy."""
from components import line_chart, live

for number in range({CHARTS}):
    rows = live("HEAVY", "heavy.>", look_back=f"PT{{500 + number}}S", time="t")
    line_chart(rows, y="value", by="_subject", key=f"chart {{number}}")
'''


@dataclass(frozen=True)
class Looks:
    """Seconds from publishing a message until the small page's viewer receives it."""

    alone: list[float]
    """Before and after the heavy page is open."""
    beside: list[float]
    """While the heavy page is open."""
    opening: list[float]
    """While the heavy page is opened again and again."""
    frames: int
    """How many frames the heavy page's viewer received while `beside` was measured."""


async def look(nats_url: str, url: str) -> Looks:
    """Measure the small page before, beside and after the heavy page, and while that is opened repeatedly."""
    async with (
        publishing(nats_url, CLOCK, series=10, rate=10, rows=3000),
        publishing(nats_url, "HEAVY", series=SERIES, rate=RATE, rows=ROWS),
        Audience(url, 1, page_name="small") as small,
    ):
        await asyncio.sleep(2)
        before = await waits(small, STRETCH)
        async with Audience(url, 1, page_name="heavy") as busy:
            await all_drawn(busy)
            await asyncio.sleep(2)
            start = busy.frames()
            beside = await waits(small, 2 * STRETCH)
            frames = busy.frames() - start
            during = asyncio.create_task(waits(small, 2 * STRETCH))
            while not during.done():
                async with Audience(url, 1, page_name="heavy") as another:
                    await all_drawn(another)
            opening = await during
        await asyncio.sleep(2)
        after = await waits(small, STRETCH)
    return Looks(before + after, beside, opening, frames)


async def all_drawn(audience: Audience) -> None:
    """Wait until the heavy page's viewer has all its charts."""
    while audience.viewers[0].chart.points() < CHARTS * SERIES:
        audience.check()
        await asyncio.sleep(0.1)


def test_eight_heavy_charts_of_one_viewer_delay_no_other(tmp_path: Path) -> None:
    """One viewer has eight charts over half a million rows and a thousand messages a second. Another viewer
    still receives each message of a small page about as soon as without them, also while more viewers open
    the heavy page."""
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "small.py").write_text(SMALL)
    (pages / "heavy.py").write_text(HEAVY)
    with (
        running_server(tmp_path / "nats") as server,
        app(tmp_path, NATS_URL=server.url, LOOKBACK_PAGES=str(pages)) as running,
    ):
        looks = asyncio.run(look(server.url, running.url))
    assert looks.frames > 0
    usual = percentile(looks.alone, 0.95)
    for late in (percentile(looks.beside, 0.95), percentile(looks.opening, 0.95)):
        assert late < MOST * max(LEAST, usual), (late, usual)
