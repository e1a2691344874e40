"""The measures, and how one round of each runs."""

import asyncio
import math
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench.channel_end import ChannelError
from bench.publisher import CLOCK, Publisher, publishing
from bench.replay import STREAM
from bench.stage import (
    EPOCH,
    HISTORY,
    NODE,
    OURS,
    PLAIN_RECIPE,
    ROOT,
    SERIES,
    UNFILTERED,
    App,
    Side,
    finished,
    nats_server,
    python,
    streamlit,
    until,
)
from bench.viewer import Audience, PageFailedError
from tests import node

SESSIONS = 5
"""Sessions of the steady run: about as many as the plain recipe can hold."""
LIMIT = 1.0
"""A server that has only refreshes holds its sessions if their p95 latency is under this many seconds."""
LIVE_LIMIT = 0.25
"""A server holds its live viewers if the p95 from publishing to the socket is under this many seconds."""
VIEWERS = 200
"""Viewers whose CPU is measured."""
RATE = 10
"""Messages a second, over ten series, that live viewers are shown."""
LATE = 1.0
"""Seconds to wait for messages at the end of a measurement. One that has not arrived by then counts with its
age at that moment."""
GROWTH = 1.2
"""Factor by which the number of viewers of one app grows from step to step."""


CLOCK_SIDE = replace(
    OURS,
    environment={"LOOKBACK_PAGES": str(ROOT / "bench" / "clock_pages"), "LOOKBACK_BUILT_IN": "0"},
)
"""This app with a page that draws the publishing times of its messages."""


@dataclass(frozen=True)
class Plan:
    """How long, how often and how many. Times are in seconds."""

    rounds: int = 3
    warm_up: float = 4.0
    steady: float = 12.0
    replay: int = 1_000_000
    long_share: float = 1.0
    """The share of the long look-back's messages that is published."""
    step: float = 10.0
    session_rounds: int = 1
    most_sessions: int = 4096
    few_sessions: int = 256
    """Live viewers of the first step."""
    viewers: int = VIEWERS
    strict: bool = True
    """True to raise an error when a busy machine has disturbed a measurement."""


QUICK = Plan(
    rounds=1,
    warm_up=2.0,
    steady=3.0,
    replay=30_000,
    long_share=0.02,
    step=3.0,
    most_sessions=16,
    few_sessions=8,
    viewers=16,
    strict=False,
)


def say(text: str) -> None:
    """Print progress to stderr, apart from the table."""
    print(text, file=sys.stderr, flush=True)


def percentile(values: list[float], share: float) -> float:
    """The smallest value that `share` of the values do not exceed; infinite if there are no values."""
    return sorted(values)[math.ceil(share * len(values)) - 1] if values else math.inf


async def drawn(audience: Audience) -> None:
    """Wait until every viewer has a chart. Raises PageFailedError after a minute."""
    deadline = time.monotonic() + 60
    while not all(viewer.chart.points() for viewer in audience.viewers):
        audience.check()
        if time.monotonic() > deadline:
            raise PageFailedError("a viewer has no chart after a minute")
        await asyncio.sleep(0.5)


def check_charts(audience: Audience) -> None:
    """Raise PageFailedError unless every viewer has five minutes of ten series, and has received changes."""
    audience.check()
    expected = SERIES * HISTORY.total_seconds()
    for viewer in audience.viewers:
        if viewer.chart.points() < 0.95 * expected or viewer.chart.changes < 2:
            raise PageFailedError(
                f"a chart of {viewer.chart.points()} points, {viewer.chart.changes} changes: too little"
            )


async def steady(side: Side, nats_url: str, plan: Plan) -> dict[str, float]:
    """Five sessions at one refresh a second, after warm-up: bytes, CPU and latency of a refresh.

    With this app, the tab's own websocket is blocked, so that charts come with the refresh. Bytes are those
    of the messages before any compression. Each server compresses or not as its settings say.
    """
    async with (
        streamlit(side, nats_url) as app,
        Audience(app.url, SESSIONS, blocked=side is OURS) as audience,
    ):
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
    """One session of a server that compresses: bytes of a refresh as the socket carries them. Both sides run
    at the same time, because the number of bytes does not depend on speed."""

    async def one(side: Side) -> list[float]:
        found = []
        async with (
            streamlit(side, nats_url, compress=True) as app,
            Audience(app.url, 1, blocked=side is OURS) as audience,
        ):
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
    """Refreshes and bytes on the wire so far, right after a refresh has ended so that none counts in part."""
    runs = audience.runs()
    while audience.runs() == runs:
        audience.check()
        await asyncio.sleep(0.01)
    return audience.runs(), audience.wire_bytes()


async def session_memory(side: Side, nats_url: str, plan: Plan) -> dict[str, float]:
    """The memory that each further session adds to the server's process, KiB.

    Sessions of this app are live, those of the plain recipe refresh once a second. There are about as many as
    the side can hold, because a session that is late keeps more memory.
    """
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
    """Wait until each viewer has had about as many refreshes, or frames, as a warm-up has seconds."""
    count = max(3, int(plan.warm_up))
    while min(len(viewer.refreshes) + viewer.channel.frames for viewer in audience.viewers) < count:
        audience.check()
        await asyncio.sleep(audience.interval)


async def replay_rates(plan: Plan, nats_url: str) -> dict[str, list[tuple[float, float]]]:
    """Messages a second from the subscription to the last message, each time in a fresh process.

    This app and the plain recipe replay into a DataFrame. The NATS client of Node uses JSON.parse and replays
    into a list of objects.
    """
    await asyncio.to_thread(node.install)
    sides = [OURS, PLAIN_RECIPE, NODE]
    beside_recipe, beside_node = [], []
    for _ in range(plan.rounds):
        rates = {side: plan.replay / await replay_seconds(side, nats_url, plan.replay) for side in sides}
        beside_recipe.append((rates[OURS], rates[PLAIN_RECIPE]))
        beside_node.append((rates[OURS], rates[NODE]))
        sides = [*sides[1:], sides[0]]  # the first side changes from round to round
    return {"replay_rate": beside_recipe, "replay_rate_node": beside_node}


async def where_rates(plan: Plan, nats_url: str) -> dict[str, list[tuple[float, float]]]:
    """Replay rates with a `where` and a computed column, beside the replay of all rows."""
    sides, rates = [OURS, UNFILTERED], []
    for _ in range(plan.rounds):
        found = {
            side: plan.replay / await replay_seconds(side, nats_url, plan.replay, filtered=side is OURS)
            for side in sides
        }
        rates.append((found[OURS], found[UNFILTERED]))
        sides.reverse()
    return {"where_replay_rate": rates}


async def replay_seconds(side: Side, nats_url: str, count: int, *, filtered: bool = False) -> float:
    """Seconds that one side takes to replay `count` messages."""
    if side is NODE:
        return float(await finished(["node", str(side.script), nats_url, STREAM, str(count)], side.folder))
    who = "filtered" if filtered else "ours" if side in (OURS, UNFILTERED) else "theirs"
    return float(await python("bench.replay", who, nats_url, str(count)))


async def waits(audience: Audience, seconds: float) -> list[float]:
    """Seconds from publishing to each viewer's socket, for every message published within the next
    `seconds`."""
    audience.note()
    start = time.time() - EPOCH
    await asyncio.sleep(seconds)
    end = time.time() - EPOCH
    await asyncio.sleep(LATE)
    audience.check()
    return audience.waits(published(audience, start, end))


def published(audience: Audience, start: float, end: float) -> list[float]:
    """The publishing times from `start` to `end` that viewers have received, in seconds since EPOCH."""
    return sorted({at for viewer in audience.viewers for _, at in viewer.frames or [] if start <= at < end})


async def viewer_cpu(plan: Plan, nats_url: str) -> dict[str, list[tuple[float, float]]]:
    """Milliseconds of the server's CPU per viewer and second, including everything that the server does.

    This app has 200 live viewers of ten messages a second. The plain recipe has five, with one refresh a
    second.
    """
    ours, theirs = [], []
    async with nats_server() as url, publishing(url, CLOCK, series=SERIES, rate=RATE, rows=3000):
        for _ in range(plan.rounds):
            async with streamlit(CLOCK_SIDE, url) as app, Audience(app.url, plan.viewers) as audience:
                await drawn(audience)
                ours.append(await cpu_of(app, audience, plan))
            async with streamlit(PLAIN_RECIPE, nats_url) as app, Audience(app.url, SESSIONS) as audience:
                await drawn(audience)
                theirs.append(await cpu_of(app, audience, plan))
    return {"viewer_cpu_ms": list(zip(ours, theirs, strict=True))}


async def cpu_of(app: App, audience: Audience, plan: Plan) -> float:
    """CPU of the app's process per viewer and second, ms. Raises RuntimeError if viewers missed messages."""
    await asyncio.sleep(plan.warm_up)
    start, before, frames = time.monotonic(), app.cpu_seconds(), audience.frames()
    await asyncio.sleep(plan.steady)
    spent, seconds = app.cpu_seconds() - before, time.monotonic() - start
    audience.check()
    if plan.strict and 0 < audience.frames() - frames < 0.7 * RATE * seconds * len(audience.viewers):
        raise RuntimeError("the viewers were not sent each message: this machine is too busy")
    return 1000 * spent / seconds / len(audience.viewers)


async def replay_refresh(plan: Plan, nats_url: str) -> dict[str, list[tuple[float, float]]]:
    """The p95 (ms) from publishing to the sockets of five viewers: while the app replays a long stream for
    another viewer, and at rest before that."""
    async with publishing(nats_url, CLOCK, series=SERIES, rate=RATE, rows=3000) as publisher:
        return {
            "replay_refresh_ms": [await beside_replay(plan, nats_url, publisher) for _ in range(plan.rounds)]
        }


async def beside_replay(plan: Plan, nats_url: str, publisher: Publisher) -> tuple[float, float]:
    """One round of replay_refresh(), in a fresh app."""
    with tempfile.TemporaryDirectory(prefix="lookback-bench-") as folder:
        asked = Path(folder) / "asked"
        pages = {
            "LOOKBACK_PAGES": str(ROOT / "bench" / "replay_pages"),
            "LOOKBACK_BUILT_IN": "0",
            "BENCH_REPLAY": str(asked),
        }
        async with (
            streamlit(replace(OURS, environment=pages), nats_url) as app,
            Audience(app.url, 1, page_name="neighbour") as neighbour,
            Audience(app.url, SESSIONS) as audience,
        ):
            await asyncio.sleep(plan.warm_up)
            await publisher.pace(strict=plan.strict)
            rest = await waits(audience, plan.steady)
            audience.note()
            start = time.time() - EPOCH
            asked.touch()
            await until(lambda: not asked.exists(), 120, lambda: "the replay does not end")
            end = time.time() - EPOCH
            await asyncio.sleep(LATE)
            audience.check()
            neighbour.check()
            during = audience.waits(published(audience, start, end))
            await publisher.pace(strict=plan.strict)
            return 1000 * percentile(during, 0.95), 1000 * percentile(rest, 0.95)


async def live_held(plan: Plan) -> int:
    """The most live viewers of ten messages a second that one app holds.

    Viewers are added until their p95 from publishing to the socket is no longer under LIVE_LIMIT.
    """
    held = 0
    async with (
        nats_server() as url,
        publishing(url, CLOCK, series=SERIES, rate=RATE, rows=3000) as publisher,
        streamlit(CLOCK_SIDE, url) as app,
        Audience(app.url, 0) as audience,
    ):
        number = plan.few_sessions
        while number <= plan.most_sessions:
            try:
                await audience.grow(number - len(audience.viewers))
                await asyncio.sleep(plan.warm_up)
                await publisher.pace(strict=False)
                late = percentile(await waits(audience, plan.step), 0.95)
                pace = await publisher.pace(strict=False)
            except (TimeoutError, PageFailedError, ChannelError, OSError) as error:
                say(f"{number} viewers: {error!r}")
                return held
            behind = f"the publisher at most {1000 * pace.latest:.0f} late"
            say(f"{number} viewers: p95 {1000 * late:.0f} ms, {behind}")
            if late >= LIVE_LIMIT:
                return held
            held, number = number, max(number + 1, round(number * GROWTH))
    return held


async def holds(side: Side, nats_url: str, sessions: int, plan: Plan) -> bool:
    """True if a fresh server refreshes this many sessions once a second with a p95 latency under a second."""
    try:
        async with asyncio.timeout(60 + plan.step):
            async with streamlit(side, nats_url) as app, Audience(app.url, sessions) as audience:
                return await stays_under(audience, plan)
    except (TimeoutError, PageFailedError, OSError):
        return False


async def stays_under(audience: Audience, plan: Plan) -> bool:
    """True if the p95 of one step after the warm-up is under LIMIT. Returns early once too many refreshes
    were late."""
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
    """The largest number that passes the test; 0 if none does.

    Steps by `factor` from `first` until it has a number that passes and one that fails, then bisects. Ends
    when the two are an eighth apart, or at the limit.
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
