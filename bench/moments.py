"""Twenty viewers at twenty moments beside twenty live ones: `python -m bench.moments [--rounds N]`.

Ten series get ten messages a second. Each round has twenty live viewers, and then twenty viewers who each
play another stretch of the past at its original speed, each with a feed of their own. Prints the p95 of the
time between two frames with rows, in ms; how fast time passes on the page; and the MB that the process held
for feeds and charts beside their ceiling.
"""

import argparse
import asyncio
import contextlib
import statistics
import urllib.request
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlencode

from bench.measures import percentile
from bench.publisher import CLOCK, publishing
from bench.stage import OURS, App, Side, nats_server, pin_load, streamlit
from bench.viewer import Audience

SERIES, RATE, VIEWERS = 10, 10.0, 20
APART = 3.0
"""Seconds between the starts of two stretches."""
PAGES = Path(__file__).parent / "moments_pages"


async def frames(app: App, queries: Sequence[str], seconds: float) -> tuple[list[float], float]:
    """The times between two frames with rows, in seconds, with one viewer for each query; and the mean speed,
    in seconds of stored time per second."""
    async with contextlib.AsyncExitStack() as opened:
        audiences = [
            await opened.enter_async_context(Audience(app.url, 1, query=query, needs_clock=False))
            for query in queries
        ]
        await asyncio.sleep(3)
        for audience in audiences:
            audience.note()
        await asyncio.sleep(seconds)
        between, speeds = [], []
        for audience in audiences:
            audience.check()
            for viewer in audience.viewers:
                found = viewer.frames or []
                if len(found) < seconds:
                    raise RuntimeError(f"a viewer at {viewer.query or 'now'} got {len(found)} frames")
                between += [later - one for (one, _), (later, _) in pairwise(found)]
                (began, first), (ended, last) = found[0], found[-1]
                speeds.append((last - first) / (ended - began))
        return between, statistics.mean(speeds)


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
                    between, speed = await frames(app, sides[name], seconds)
                    found[f"{name}: p95 ms"].append(percentile(between, 0.95) * 1000)
                    found[f"{name}: speed"].append(speed)
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
        print(f"{name:<20}{value:>10.2f}")
    print(f"{'played / live: p95':<20}{found['played: p95 ms'] / found['live: p95 ms']:>10.2f}")


if __name__ == "__main__":
    main()
