"""Twenty viewers at twenty moments beside twenty live ones: `python -m bench.moments [--rounds N]`.

Ten series get ten messages a second. In each round twenty viewers look at now; then each of twenty plays
another stretch of the past at the speed at which it was stored, all of them with a feed of their own.
Printed are the p95 of how much later a frame with rows came than the promptest of its viewer, in ms, and
the bytes that the process held for feeds and charts beside their ceiling.
"""

import argparse
import asyncio
import contextlib
import statistics
import urllib.request
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

from bench.measures import percentile
from bench.publisher import CLOCK, publishing
from bench.stage import OURS, App, Side, nats_server, pin_load, streamlit
from bench.viewer import Audience

SERIES, RATE, VIEWERS = 10, 10.0, 20
APART = 3.0
"""Seconds between the begins of two stretches."""
PAGES = Path(__file__).parent / "moments_pages"


async def delays(app: App, queries: Sequence[str], seconds: float) -> list[float]:
    """How much later than the promptest of its viewer each frame came, seconds, with one viewer for each
    query."""
    async with contextlib.AsyncExitStack() as opened:
        audiences = [
            await opened.enter_async_context(Audience(app.url, 1, query=query, needs_clock=False))
            for query in queries
        ]
        await asyncio.sleep(3)
        for audience in audiences:
            audience.note()
        await asyncio.sleep(seconds)
        found = []
        for audience in audiences:
            audience.check()
            for viewer in audience.viewers:
                behind = [came - newest for came, newest in viewer.frames or []]
                if len(behind) < seconds / 2:
                    raise RuntimeError(f"a viewer at {viewer.query or 'now'} got {len(behind)} frames")
                found += [each - min(behind) for each in behind]
        return found


def held(app: App) -> dict[str, float]:
    """Bytes held by the process for windows, buckets and charts, and their ceiling."""
    with urllib.request.urlopen(f"{app.url}/lookback/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    values = dict(line.split(" ", 1) for line in lines if line.startswith("lookback_memory_"))
    return {name: float(values[f"lookback_memory_{name}_bytes"]) for name in ("held", "ceiling")}


async def run(rounds: int, seconds: float) -> dict[str, list[float]]:
    """Figures by name, one for each round."""
    found: dict[str, list[float]] = defaultdict(list)
    side = Side("moments", OURS.script, OURS.folder, OURS.environment | {"LOOKBACK_PAGES": str(PAGES)})
    async with nats_server() as nats, publishing(nats, CLOCK, series=SERIES, rate=RATE, rows=1):
        began = datetime.now(UTC)
        length = timedelta(seconds=seconds + 20)
        await asyncio.sleep(VIEWERS * APART + length.total_seconds())
        for number in range(rounds):
            starts = [began + timedelta(seconds=APART * i) for i in range(VIEWERS)]
            played = [
                urlencode({"from": start.isoformat(), "to": (start + length).isoformat(), "play": 1})
                for start in starts
            ]
            sides = {"live": [""] * VIEWERS, "played": played}
            for name in list(sides)[:: -1 if number % 2 else 1]:
                async with streamlit(side, nats) as app:
                    late = await delays(app, sides[name], seconds)
                    found[f"{name}: p95 ms"].append(percentile(late, 0.95) * 1000)
                    memory = held(app)
                    found[f"{name}: MB held"].append(memory["held"] / 1e6)
                    found["ceiling: MB"].append(memory["ceiling"] / 1e6)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.moments", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20, help="of each side in a round")
    options = parser.parse_args()
    pin_load()
    found = {
        name: statistics.median(values)
        for name, values in asyncio.run(run(options.rounds, options.seconds)).items()
    }
    for name, value in found.items():
        print(f"{name:<20}{value:>10.1f}")
    print(f"{'played / live: p95':<20}{found['played: p95 ms'] / found['live: p95 ms']:>10.2f}")


if __name__ == "__main__":
    main()
