"""What is measured, and how a round of it runs. Each function measures one side once."""

import asyncio
import math
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench.replay import STREAM
from bench.stage import (
    HISTORY,
    NODE,
    OURS,
    PLAIN_RECIPE,
    ROOT,
    SERIES,
    Side,
    finished,
    python,
    streamlit,
    until,
)
from bench.viewer import Audience, PageFailedError
from tests import node

SESSIONS = 5
"""Sessions of the steady run: the plain recipe just holds them."""
LIMIT = 1.0
"""Seconds that the p95 refresh latency of a server that holds its sessions stays under."""


@dataclass(frozen=True)
class Plan:
    """How long, how often, how many."""

    rounds: int = 3
    warm_up: float = 4.0
    steady: float = 12.0
    replay: int = 1_000_000
    long_share: float = 1.0
    """Of the messages of the long look-back."""
    step: float = 10.0
    session_rounds: int = 1
    most_sessions: int = 1024
    strict: bool = True
    """Whether to complain of what a busy machine has disturbed."""


QUICK = Plan(
    rounds=1,
    warm_up=2.0,
    steady=3.0,
    replay=30_000,
    long_share=0.02,
    step=3.0,
    most_sessions=16,
    strict=False,
)


def percentile(values: list[float], share: float) -> float:
    """The smallest value that `share` of the values do not exceed; infinite for none."""
    return sorted(values)[math.ceil(share * len(values)) - 1] if values else math.inf


async def drawn(audience: Audience) -> None:
    """Wait until every viewer has a chart."""
    deadline = time.monotonic() + 60
    while not all(viewer.chart.points() for viewer in audience.viewers):
        audience.check()
        if time.monotonic() > deadline:
            raise PageFailedError("a viewer has no chart after a minute")
        await asyncio.sleep(0.5)


def check_charts(audience: Audience) -> None:
    """Complain unless every viewer was drawn five minutes of ten series, and changes to it."""
    audience.check()
    expected = SERIES * HISTORY.total_seconds()
    for viewer in audience.viewers:
        if viewer.chart.points() < 0.95 * expected or viewer.chart.changes < 2:
            raise PageFailedError(
                f"a chart of {viewer.chart.points()} points, {viewer.chart.changes} changes: too little"
            )


async def steady(side: Side, nats_url: str, plan: Plan) -> dict[str, float]:
    """Five sessions at one refresh a second, after warm-up: bytes, CPU and latency of a refresh.

    Bytes are those of the messages before any compression. Each server compresses or not as its settings say.
    """
    async with streamlit(side, nats_url) as app, Audience(app.url, SESSIONS) as audience:
        await drawn(audience)
        await asyncio.sleep(plan.warm_up)
        start, before = time.monotonic(), (audience.runs(), audience.message_bytes(), app.cpu_seconds())
        await asyncio.sleep(plan.steady)
        end, after = time.monotonic(), (audience.runs(), audience.message_bytes(), app.cpu_seconds())
        check_charts(audience)
        latency = percentile(audience.latencies(start, end), 0.95)
    runs, received, cpu = (b - a for a, b in zip(before, after, strict=True))
    return {
        "bytes_per_refresh": received / runs,
        "cpu_per_refresh": 1000 * cpu / runs,
        "refresh_latency_ms": 1000 * latency,
    }


async def compressed(plan: Plan, nats_url: str) -> dict[str, list[tuple[float, float]]]:
    """One session of a server that compresses: bytes of a refresh as the socket carries them. Both sides at
    the same time, since bytes do not depend on how fast it goes."""

    async def one(side: Side) -> list[float]:
        found = []
        async with streamlit(side, nats_url, compress=True) as app, Audience(app.url, 1) as audience:
            await drawn(audience)
            await asyncio.sleep(plan.warm_up)
            for _ in range(plan.rounds):
                before = await behind_refresh(audience)
                await asyncio.sleep(plan.steady / 2)
                after = await behind_refresh(audience)
                found.append((after[1] - before[1]) / (after[0] - before[0]))
            check_charts(audience)
        return found

    async with asyncio.TaskGroup() as group:
        both = [group.create_task(one(side)) for side in (OURS, PLAIN_RECIPE)]
    ours, theirs = (task.result() for task in both)
    return {"bytes_per_refresh_compressed": list(zip(ours, theirs, strict=True))}


async def behind_refresh(audience: Audience) -> tuple[int, int]:
    """Refreshes so far and the bytes on the wire, right behind the end of one: so none counts in part."""
    runs = audience.runs()
    while audience.runs() == runs:
        audience.check()
        await asyncio.sleep(0.01)
    return audience.runs(), audience.wire_bytes()


async def session_memory(side: Side, nats_url: str, plan: Plan) -> dict[str, float]:
    """What each further session costs the server's process, all of them at one refresh a second: of about as
    many as the side holds, since one that is late keeps more."""
    few, more = (10, min(190, plan.most_sessions)) if side is OURS else (2, SESSIONS)
    async with streamlit(side, nats_url) as app, Audience(app.url, few) as first:
        await warm(first, plan)
        before = app.memory()
        async with Audience(app.url, more) as others:
            await warm(others, plan)
            after = app.memory()
            check_charts(first)
            check_charts(others)
    return {"session_memory": (after - before) / more / 1024}


async def warm(audience: Audience, plan: Plan) -> None:
    """Wait until each viewer has had about as many refreshes as a warm-up has seconds."""
    count = max(3, int(plan.warm_up))
    while min(len(viewer.refreshes) for viewer in audience.viewers) < count:
        audience.check()
        await asyncio.sleep(audience.interval)


async def replay_rates(plan: Plan, nats_url: str) -> dict[str, list[tuple[float, float]]]:
    """Messages a second from the subscription to the last of them, in a fresh process each: into a DataFrame
    here and in the plain recipe; with the NATS client of Node, JSON.parse and a list of objects."""
    await asyncio.to_thread(node.install)
    sides = [OURS, PLAIN_RECIPE, NODE]
    beside_recipe, beside_node = [], []
    for _ in range(plan.rounds):
        rates = {side: plan.replay / await replay_seconds(side, nats_url, plan.replay) for side in sides}
        beside_recipe.append((rates[OURS], rates[PLAIN_RECIPE]))
        beside_node.append((rates[OURS], rates[NODE]))
        sides = [*sides[1:], sides[0]]  # who goes first changes from round to round
    return {"replay_rate": beside_recipe, "replay_rate_node": beside_node}


async def replay_seconds(side: Side, nats_url: str, count: int) -> float:
    """How long one of them takes."""
    if side is NODE:
        return float(await finished(["node", str(side.script), nats_url, STREAM, str(count)], side.folder))
    who = "ours" if side is OURS else "theirs"
    return float(await python("bench.replay", who, nats_url, str(count)))


async def replay_refresh(plan: Plan, nats_url: str) -> dict[str, list[tuple[float, float]]]:
    """The p95 latency of five sessions' refreshes while the app replays a long stream, and at rest before."""
    return {"replay_refresh_ms": [await beside_replay(plan, nats_url) for _ in range(plan.rounds)]}


async def beside_replay(plan: Plan, nats_url: str) -> tuple[float, float]:
    """One round of it, in a fresh app."""
    with tempfile.TemporaryDirectory(prefix="lookback-bench-") as folder:
        asked = Path(folder) / "asked"
        pages = {
            "LOOKBACK_PAGES": str(ROOT / "bench" / "replay_pages"),
            "LOOKBACK_BUILT_IN": "0",
            "BENCH_REPLAY": str(asked),
        }
        side = replace(OURS, environment={**OURS.environment, **pages})
        async with streamlit(side, nats_url) as app, Audience(app.url, SESSIONS) as audience:
            await asyncio.sleep(plan.warm_up)
            start = time.monotonic()
            await asyncio.sleep(plan.steady)
            asked.touch()
            middle = time.monotonic()
            await until(lambda: not asked.exists(), 120, lambda: "the replay does not end")
            end = time.monotonic()
            await asyncio.sleep(2 * audience.interval)
            audience.check()
            during, rest = audience.latencies(middle, end), audience.latencies(start, middle)
            return 1000 * percentile(during, 0.95), 1000 * percentile(rest, 0.95)


async def holds(side: Side, nats_url: str, sessions: int, plan: Plan) -> bool:
    """Whether a fresh server refreshes this many sessions once a second with a p95 latency under a second."""
    try:
        async with asyncio.timeout(60 + plan.step):
            async with streamlit(side, nats_url) as app, Audience(app.url, sessions) as audience:
                return await stays_under(audience, plan)
    except (TimeoutError, PageFailedError, OSError):
        return False


async def stays_under(audience: Audience, plan: Plan) -> bool:
    """Watch for one step after the warm-up; leaves early once too many refreshes were late."""
    start = time.monotonic() + plan.warm_up
    end = start + plan.step
    allowed = 0.05 * len(audience.viewers) * plan.step / audience.interval
    while (now := time.monotonic()) < end:
        await asyncio.sleep(min(1.0, end - now))
        audience.check()
        if sum(latency >= LIMIT for latency in audience.latencies(start, end=time.monotonic())) > allowed:
            return False
    return percentile(audience.latencies(start, end), 0.95) < LIMIT


async def most_held(test: Callable[[int], Awaitable[bool]], first: int, *, factor: float, limit: int) -> int:
    """The largest number that passes: by steps of `factor` from `first` to a bracket, then by halves.

    Ends when the bracket is an eighth wide, or at the limit.
    """
    low, high = 0, 0
    number = first
    while not (low and high):
        if await test(number):
            low = number
            if high or number >= limit:
                break
            number = min(limit, max(number + 1, round(number * factor)))
        else:
            high = number
            if number == 1:
                return 0
            if not low:
                number = max(1, min(number - 1, round(number / factor)))
    while high and high - low > max(1, low // 8):
        middle = (low + high) // 2
        if await test(middle):
            low = middle
        else:
            high = middle
    return low
