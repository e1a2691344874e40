"""Publish to pixel: from the time in a message's payload to the frame that has its point on the screen.

The app and the websocket client run in windows of one Chromium. Both draw the same five minutes of ten series
with the same Plotly. The app is live, which is its default. The client draws in the next animation frame
after a message has arrived. The publisher and the browser are on one machine, so they share its clock.
"""

import asyncio
import bisect
from collections import defaultdict
from statistics import median

import pandas as pd

from bench.browser import Tab
from bench.measures import Plan, percentile
from bench.publisher import publishing
from bench.stage import HISTORY, SERIES, nats_servers
from bench.wire import reached, seen, side_by_side
from nats_client.series.bins import step_for

RATE = 13
"""Messages a second over all series. The pause between two messages of a series is longer than a bin of the
chart, so that every message is a point of its own. It is no whole fraction of a second, so that messages
arrive at every phase between two drawings."""
STEP = step_for(pd.Timedelta(HISTORY)) / 1e6
"""Width of a bin of the app's chart, ms."""
PATIENCE = 30.0
"""Seconds after which a message that is not on the screen counts as lost."""
# After each frame, notes the traces that got longer: their newest time, and when that was drawn. A message
# that is posted within a frame is handled once the frame is on the screen.
FRAMES = """
self.frames = []
const newest = new Map()
const { port1, port2 } = new MessageChannel()
const zone = new Date().getTimezoneOffset() * 60000
port1.onmessage = () => {
  const at = Date.now()
  for (const { name, x } of document.querySelector('.js-plotly-plot')?.data ?? []) {
    if (!x?.length) continue
    const last = x[x.length - 1], time = typeof last === 'number' ? last : Date.parse(last + 'Z') + zone
    if (time > (newest.get(name) ?? 0)) frames.push([name.split('.').at(-1), time, at])
    newest.set(name, time)
  }
}
const frame = () => { port2.postMessage(0); requestAnimationFrame(frame) }
requestAnimationFrame(frame)
"""
Frames = dict[str, list[tuple[float, float]]]
"""By series, in order: the newest time drawn, and since when it was on the screen, in ms since the epoch."""


async def latency(plan: Plan, _url: str) -> dict[str, list[tuple[float, float]]]:
    """Median and 95th percentile for the app and the client, ms, over the messages of each round."""
    rounds: dict[str, list[tuple[float, float]]] = defaultdict(list)
    rows = int(RATE * HISTORY.total_seconds())
    async with (
        nats_servers() as servers,
        publishing(servers["nats"], "BENCH", series=SERIES, rate=RATE, rows=rows) as publisher,
        side_by_side(
            servers["nats"], servers["websocket"], compressed=False, drawn=True, script=FRAMES
        ) as pair,
    ):
        await asyncio.sleep(plan.warm_up)
        await publisher.pace(strict=plan.strict)
        for _ in range(plan.rounds):
            start = float(await pair.client.value("Date.now()"))
            await asyncio.sleep(plan.steady / 2)
            end = float(await pair.client.value("Date.now()"))
            ours_drawn, theirs_drawn = await frames(pair.app, end), await frames(pair.client, end)
            await seen(pair.app)
            await publisher.pace(strict=plan.strict)
            published = await messages(pair.client, start, end)
            ours = waits(published, ours_drawn, STEP)
            theirs = waits(published, theirs_drawn, 1)
            rounds["latency_ms"].append((median(ours), median(theirs)))
            rounds["latency_p95_ms"].append((percentile(ours, 0.95), percentile(theirs, 0.95)))
    return rounds


async def messages(client: Tab, start: float, end: float) -> list[tuple[str, float]]:
    """The messages published from `start` to `end`, as the websocket client has them: series and time.

    All times are in ms since the epoch. Raises RuntimeError if there are far too few.
    """
    found = await client.value(
        "[...client.series].flatMap(([name, { times }]) =>"
        f" times.filter(t => t >= {start} && t < {end}).map(t => [name.split('.').at(-1), t]))"
    )
    assert isinstance(found, list)
    if len(found) < 0.7 * RATE * (end - start) / 1000:
        raise RuntimeError(f"{len(found)} messages in {(end - start) / 1000:.1f} s")
    return [(str(name), float(time)) for name, time in found]


async def frames(page: Tab, end: float) -> Frames:
    """The frames that a page has noted, once each series is drawn beyond `end` (ms since the epoch)."""
    newest = "Object.fromEntries(frames)"  # of entries with the same name the last one counts
    all_beyond = f"all.length === {SERIES} && Math.min(...all) > {end + STEP}"
    await reached(page, f"(all => {all_beyond})(Object.values({newest}))", PATIENCE)
    found: Frames = defaultdict(list)
    noted = await page.value("frames")
    assert isinstance(noted, list)
    for name, time, at in noted:
        found[name].append((float(time), float(at)))
    return found


def waits(published: list[tuple[str, float]], drawn: Frames, step: float) -> list[float]:
    """How long each message took until its point was drawn, ms. Points are bins of `step` ms. Raises
    RuntimeError if one was not drawn."""
    found = []
    for series, time in published:
        marks = drawn.get(series, [])
        first = bisect.bisect_left(marks, time // step, key=lambda mark: mark[0] // step)
        if first == len(marks):
            raise RuntimeError(f"a message of {series} was not drawn")
        found.append(marks[first][1] - time)
    return found
