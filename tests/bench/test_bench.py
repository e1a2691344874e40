"""The benchmark: a viewer that refreshes as a browser would, and the search for the most sessions.

Slow, because viewers refresh for some seconds at the pace of a browser.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bench.__main__ import MEASURES, Measure
from bench.measures import CLOCK_SIDE, drawn, most_held, published
from bench.publisher import CLOCK, publishing
from bench.refresh import served
from bench.stage import EPOCH, nats_server, streamlit
from bench.viewer import Audience, Viewer


@pytest.mark.parametrize(
    ("way", "in_fragment"), [("page autorefresh", False), ("fragment autorefresh", True)]
)
def test_viewer_acts_as_the_refresh_clock(way: str, in_fragment: bool) -> None:
    """A viewer finds the refresh timer, detects whether it is in a fragment, and refreshes at its
    interval."""

    async def watch() -> Audience:
        async with served(way, pause=0) as app, Audience(app.url, 2, interval=0.2) as audience:
            await asyncio.sleep(1.5)
            audience.check()
            return audience

    audience = asyncio.run(watch())
    assert audience.runs() >= 6
    assert all(bool(viewer.fragment) == in_fragment for viewer in audience.viewers)
    assert audience.message_bytes() > 6 * 500


@contextlib.asynccontextmanager
async def clock(viewers: int, **more: Any) -> AsyncIterator[Audience]:
    """Viewers of ten messages a second; each message's value is its time of publishing."""
    async with (
        nats_server() as url,
        publishing(url, CLOCK, series=10, rate=10, rows=500),
        streamlit(CLOCK_SIDE, url) as app,
        Audience(app.url, viewers, interval=0.2, **more) as audience,
    ):
        await drawn(audience)
        yield audience


async def changed(viewer: Viewer, count: int) -> None:
    """Wait for `count` more changes of the viewer's chart."""
    wanted = viewer.chart.changes + count
    async with asyncio.timeout(60):
        while viewer.chart.changes < wanted:
            viewer.channel.check()
            await asyncio.sleep(0.05)


def test_live_viewer_is_sent_each_message() -> None:
    """A live viewer gets each message over the tab's own websocket, without a rerun. Each message is found in
    a frame, after it was published."""

    async def watch() -> tuple[Audience, int, list[float], list[float]]:
        async with clock(2) as audience:
            await changed(audience.viewers[0], 5)
            audience.note()
            runs, start = sum(viewer.runs for viewer in audience.viewers), time.time() - EPOCH
            for viewer in audience.viewers:
                await changed(viewer, 20)
            end = time.time() - EPOCH
            await changed(audience.viewers[0], 20)
            await changed(audience.viewers[1], 1)
            sent = published(audience, start, end)
            more = sum(viewer.runs for viewer in audience.viewers) - runs
            return audience, more, sent, audience.waits(sent)

    audience, runs, sent, waits = asyncio.run(watch())
    assert runs == 0
    assert all(viewer.clock is None and viewer.status["mood"] == "live" for viewer in audience.viewers)
    assert len(sent) > 5
    assert len(waits) == 2 * len(sent)
    assert min(waits) > -0.01
    assert max(waits) < time.time() - EPOCH - sent[0]


def test_a_viewer_that_missed_frames_is_caught_up() -> None:
    """A viewer that missed frames requests them, and continues from the last frame it applied."""

    async def watch() -> bool:
        async with clock(1) as audience:
            viewer = audience.viewers[0]
            await changed(viewer, 5)
            viewer.channel._frame -= 3  # as if three frames were lost
            await changed(viewer, 5)
            audience.check()
            return viewer.channel._asked is None

    assert asyncio.run(watch())


def test_a_viewer_whose_websocket_is_blocked_gets_charts_with_the_refresh() -> None:
    """A viewer whose websocket is blocked, as by a proxy, gets charts with the refresh and no frames."""

    async def watch() -> Audience:
        async with clock(1, blocked=True) as audience:
            await changed(audience.viewers[0], 3)
            audience.check()
            return audience

    audience = asyncio.run(watch())
    assert audience.runs() >= 2
    assert audience.frames() == 0
    assert audience.viewers[0].clock


@pytest.mark.parametrize("capacity", [0, 1, 3, 9, 100, 5000])
@pytest.mark.parametrize("first", [1, 2, 8, 64])
@pytest.mark.parametrize("factor", [1.2, 2])
def test_search_comes_within_an_eighth_of_the_most_held(capacity: int, first: int, factor: float) -> None:
    """From any first guess, in small or large steps, the search ends within an eighth of the capacity, and
    never above it or the limit."""

    async def test(sessions: int) -> bool:
        return sessions <= capacity

    found = asyncio.run(most_held(test, first, factor=factor, limit=1024))
    expected = min(capacity, 1024)
    assert found <= expected
    assert expected - found <= max(1, found // 8)


@pytest.mark.parametrize(
    ("measure", "bound", "met", "missed"),
    [
        (Measure("bytes", 0.1), "at most 0.1", 0.1, 0.11),
        (Measure("sessions", 20), "at least 20", 20, 19.9),
        (Measure("ms", 2, ceiling=True), "at most 2", 1.9, 2.1),
    ],
)
def test_a_goal_below_one_is_a_ceiling(measure: Measure, bound: str, met: float, missed: float) -> None:
    """A goal below one is an upper bound, as is a goal that its measure marks as a ceiling. Without a goal,
    nothing is met or missed."""
    assert measure.bound == bound
    assert measure.met(1.0, met) is True
    assert measure.met(1.0, missed) is False
    assert Measure("ms").met(1.0, 1.0) is None


def test_a_goal_for_our_own_figure_has_its_unit() -> None:
    """A goal for our own figure has its unit, and does not depend on the rival's figure."""
    measure = Measure("ms", 100, ceiling=True, own=True)
    assert measure.bound == "at most 100 ms"
    assert measure.met(100, 50.0) is True
    assert measure.met(101, None) is False


def test_every_measure_has_somebody_to_measure_it() -> None:
    """Each measure, except the search for the most sessions, is measured in exactly one way."""
    for name, measure in MEASURES.items():
        assert (measure.run is None) != (measure.pair is None) or name == "sessions_held"
