"""How this app's costs grow: `python -m bench.growth [--quick] [--out FILE]`.

One chart of one stream, with live, headless viewers. Four things are varied, one at a time over two decades:
messages a second, series, rows of the look-back, and sessions. Each measurement has the bytes received per
viewer and second, before compression; the CPU of the app's process per viewer and second; and that process's
memory. The history is stored beforehand, with its own times. So the window is full, and rows leave it as fast
as new ones arrive.

CPU is all user and system time of the app's process, divided by the number of viewers. It includes reading
the stream, which is done once for all of them.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.machine import machine, today
from bench.publisher import Publisher, publishing
from bench.stage import OURS, ROOT, App, nats_server, pin_load, streamlit, until
from bench.viewer import Audience, PageFailedError

RESULTS = Path(__file__).parent / "growth.json"
PAGES = {"LOOKBACK_PAGES": str(ROOT / "bench" / "growth_pages"), "LOOKBACK_BUILT_IN": "0"}
ATTEMPTS = 3
COLUMNS = {"bytes": "bytes/s of a viewer", "cpu_ms": "CPU ms/s of a viewer", "memory_mib": "memory MiB"}
FRAMES = 8
"""The least frames a second that a viewer is sent, if there are as many messages."""


@dataclass(frozen=True)
class Point:
    """One combination of the four things that are varied."""

    rate: int = 100
    """Messages a second, over all series."""
    series: int = 10
    rows: int = 30_000
    """Rows of the look-back, which is as long as this many messages take to arrive."""
    sessions: int = 10

    @property
    def seconds(self) -> int:
        """The look-back's length, in whole seconds."""
        return self.rows // self.rate


@dataclass(frozen=True)
class Plan:
    """How long and how far to measure. Times are in seconds."""

    warm_up: float = 3.0
    steady: float = 3.0
    rounds: int = 3
    """Measurements of `steady` seconds each, of which the medians count."""
    scale: int = 1
    """Divisor of rows and sessions."""
    strict: bool = True
    """True to raise an error when a busy machine cannot keep the pace."""


QUICK = Plan(warm_up=1.0, steady=2.0, rounds=1, scale=10, strict=False)


def plans(scale: int) -> dict[str, list[Point]]:
    """The points for each of the four. With more messages a second the look-back keeps its length, so it
    has more rows."""
    base = Point(series=10, rows=30_000 // scale, sessions=max(1, 10 // scale))
    decades = (1, 10, 100)
    return {
        "rate": [replace(base, rate=10 * n, rows=base.seconds * 10 * n) for n in decades],
        "series": [replace(base, series=n) for n in decades],
        "rows": [replace(base, rows=base.rows * n // 10) for n in decades],
        "sessions": [replace(base, sessions=max(1, n // scale)) for n in decades],
    }


async def run(plan: Plan) -> dict[str, Any]:
    """Measure each point once, even if several lines share it. All numbers of sessions share one app."""
    varied = plans(plan.scale)
    found: dict[Point, dict[str, Any]] = {}
    groups = {point: [point] for line in varied.values() for point in line}
    for point in varied["sessions"]:
        groups.pop(point, None)
    groups[varied["sessions"][0]] = list(dict.fromkeys(varied["sessions"]))
    for group in groups.values():
        async with stage(group[0]) as (app, publisher):
            for point in group:
                found[point] = await patiently(app, publisher, point, plan)
                text = ", ".join(f"{found[point][name]:,.1f} {word}" for name, word in COLUMNS.items())
                print(f"{words(point)}: {text}", file=sys.stderr, flush=True)
    return {
        "date": today(),
        "machine": machine(),
        "varied": {
            name: {
                "points": [asdict(point) | found[point] for point in line],
                "exponents": {
                    column: round(
                        exponent([getattr(p, name) for p in line], [found[p][column] for p in line]), 3
                    )
                    for column in COLUMNS
                },
            }
            for name, line in varied.items()
        },
    }


@asynccontextmanager
async def stage(point: Point) -> AsyncIterator[tuple[App, Publisher]]:
    """Publish a stream whose look-back is already full, and run a fresh app that shows it."""
    with tempfile.TemporaryDirectory(prefix="lookback-bench-") as folder:
        ready = Path(folder) / "ready"
        settings = {"BENCH_LOOK_BACK": f"PT{point.seconds}S", "BENCH_READY": str(ready)}
        async with (
            nats_server() as url,
            publishing(url, "GROWTH", series=point.series, rate=point.rate, rows=point.rows) as publisher,
            streamlit(replace(OURS, environment=PAGES | settings), url) as app,
        ):
            async with Audience(app.url, 1) as audience:

                def is_ready() -> bool:
                    audience.check()
                    return ready.exists()

                await until(is_ready, 120, lambda: f"{words(point)}: the replay does not end")
            yield app, publisher


class TooBusyError(Exception):
    """The app or the publisher did not keep its pace."""


async def patiently(app: App, publisher: Publisher, point: Point, plan: Plan) -> dict[str, Any]:
    """Call measured(), and retry if a busy machine has disturbed it."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await measured(app, publisher, point, plan)
        except TooBusyError as error:
            print(f"again: {error}", file=sys.stderr, flush=True)
    return await measured(app, publisher, point, plan)


async def measured(app: App, publisher: Publisher, point: Point, plan: Plan) -> dict[str, Any]:
    """Measure one point: medians over the rounds, and the figures of each round. Raises TooBusyError."""
    rounds: dict[str, list[float]] = {column: [] for column in COLUMNS}
    async with Audience(app.url, point.sessions) as audience:
        await full(audience, point, plan)
        await publisher.pace(strict=plan.strict)
        all_frames = 0.0
        for _ in range(plan.rounds):
            start = time.monotonic(), audience.message_bytes(), app.cpu_seconds(), audience.frames()
            await asyncio.sleep(plan.steady)
            end = time.monotonic(), audience.message_bytes(), app.cpu_seconds(), audience.frames()
            audience.check()
            seconds, received, cpu, frames = (b - a for a, b in zip(start, end, strict=True))
            all_frames += frames
            if not frames:
                raise TooBusyError(f"{words(point)}: no frame within {plan.steady:g} s")
            rounds["bytes"].append(received / seconds / point.sessions)
            rounds["cpu_ms"].append(1000 * cpu / seconds / point.sessions)
            rounds["memory_mib"].append(app.memory() / 2**20)
        pace = await publisher.pace(strict=plan.strict)
    wanted = 0.8 * min(FRAMES, point.rate) * plan.rounds * plan.steady * point.sessions
    if plan.strict and all_frames < wanted:
        raise TooBusyError(f"{words(point)}: {all_frames:.0f} frames, fewer than {wanted:.0f}")
    return {
        **{column: round(median(values), 3) for column, values in rounds.items()},
        **{f"{column}_rounds": [round(value, 3) for value in values] for column, values in rounds.items()},
        "latest_message_ms": round(1000 * pace.latest, 1),
    }


async def full(audience: Audience, point: Point, plan: Plan) -> None:
    """Wait until every viewer has a whole picture, and then for the warm-up. Raises PageFailedError after a
    minute."""
    deadline = time.monotonic() + 60
    while any(viewer.chart.points() == 0 or viewer.chart.changes < 2 for viewer in audience.viewers):
        audience.check()
        if time.monotonic() > deadline:
            raise PageFailedError(f"{words(point)}: no chart within a minute")
        await asyncio.sleep(0.2)
    await asyncio.sleep(plan.warm_up)


def exponent(at: Sequence[float], values: Sequence[float]) -> float:
    """The slope in a log-log plot, by least squares: 1 if the cost grows in proportion to `at`, 0 if it stays
    the same."""
    x, y = np.log(at), np.log(values)
    x = x - x.mean()
    return float((x * (y - y.mean())).sum() / (x * x).sum())


def words(point: Point) -> str:
    """A point in words."""
    load = f"{point.rate:,} messages/s, {point.series:,} series, {point.rows:,} rows"
    return f"{load}, {point.sessions:,} sessions"


def table(found: dict[str, Any]) -> str:
    """The results as text."""
    lines = [f"{'varied':<10}{'at':>10}" + "".join(f"{word:>22}" for word in COLUMNS.values())]
    for name, line in found["varied"].items():
        lines += [
            f"{name:<10}{point[name]:>10,}" + "".join(f"{point[column]:>22,.1f}" for column in COLUMNS)
            for point in line["points"]
        ]
        lines.append(f"{'':<10}{'exponent':>10}" + "".join(f"{line['exponents'][c]:>22.2f}" for c in COLUMNS))
    return "\n".join(lines)


def keep(found: dict[str, Any], file: Path) -> None:
    """Write the results as JSON."""
    file.write_text(json.dumps(found, indent=2) + "\n")


async def main() -> None:
    """Measure, print the results and write them to the results file."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run; keeps nothing without --out")
    parser.add_argument("--out", type=Path, help="the results file, bench/growth.json by default")
    options = parser.parse_args()
    pin_load()
    start = time.monotonic()
    found = await run(QUICK if options.quick else Plan())
    print(table(found))
    print(f"Took {(time.monotonic() - start) / 60:.1f} minutes.")
    if out := options.out or (None if options.quick else RESULTS):
        keep(found, out)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit("stopped")
