"""The basis of the measurements of growth and latency: a steady publisher, measuring at rest, exponents.

Slow, because a browser draws a live chart of each rival for some seconds.
"""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from bench import growth, latency, publisher
from bench.growth import Point
from bench.measures import QUICK, drawn
from bench.stage import nats_server
from bench.viewer import Audience
from tests.nats import connect_nats


def test_publisher_fills_and_goes_on_and_tells_of_lateness(monkeypatch: pytest.MonkeyPatch) -> None:
    """The publisher stores its history first, then as many live messages as it reports. If a message is late,
    it raises."""

    async def published() -> tuple[int, int, int]:
        async with (
            nats_server() as url,
            publisher.publishing(url, "PACE", series=3, rate=50, rows=300) as own,
        ):
            connection = await connect_nats(url)
            jetstream = connection.jetstream()
            before = (await jetstream.stream_info("PACE")).state.messages
            await asyncio.sleep(1)
            live = (await own.pace(strict=False)).published
            after = (await jetstream.stream_info("PACE", subjects_filter=">")).state
            monkeypatch.setattr(publisher, "LATEST", 0.0)
            await asyncio.sleep(0.5)
            with pytest.raises(RuntimeError, match="too busy"):
                await own.pace()
            await connection.close()
            assert set(after.subjects or {}) == {"pace.s0", "pace.s1", "pace.s2"}
            return before, live, after.messages

    before, live, after = asyncio.run(published())
    assert before >= 300
    assert live > 0
    assert after >= 300 + live - 1  # the last message may not be stored yet


def test_a_point_is_measured_at_rest() -> None:
    """The window is full when measuring begins, and each figure is measured in every round."""
    point = Point(rate=50, series=5, rows=1000, sessions=2)
    plan = growth.Plan(warm_up=1.0, steady=4.0, rounds=2, strict=False)

    async def measured() -> tuple[int, dict[str, Any]]:
        async with growth.stage(point) as (app, own):
            async with Audience(app.url, 1) as audience:
                await drawn(audience)
                points = audience.viewers[0].chart.points()
            return points, await growth.patiently(app, own, point, plan)

    points, found = asyncio.run(measured())
    assert points > 900  # a bin is at most as wide as the interval between messages of a series
    for column in growth.COLUMNS:
        assert len(found[f"{column}_rounds"]) == 2
    assert 50 < found["bytes"] < 20_000
    assert found["cpu_ms"] > 0.1
    assert found["memory_mib"] > 50


def test_lines_of_growth_go_over_two_decades() -> None:
    """Each line varies one parameter a hundredfold and nothing else, except that more messages a second also
    mean more rows."""
    lines = growth.plans(1)
    for name, line in lines.items():
        least, middle, most = (getattr(point, name) for point in line)
        assert (middle, most) == (10 * least, 100 * least)
        others = {replace(point, **{name: 1}) for point in line}
        assert len(others) == 1 or name == "rate"
    assert len({point.seconds for point in lines["rate"]}) == 1


@pytest.mark.parametrize(("power", "factor"), [(0, 7.0), (1, 0.1), (0.5, 3.0), (-1, 2.0)])
def test_exponent_is_the_slope(power: float, factor: float) -> None:
    """The exponent of a power law is its power."""
    at = [10, 100, 1000]
    assert growth.exponent(at, [factor * n**power for n in at]) == pytest.approx(power)


def test_latency_is_until_the_frame_that_has_the_point() -> None:
    """The latency of a message ends with the first frame that has its point; an older bin does not count. A
    message that is never drawn raises."""
    drawn = {"s0": [(750.0, 1100.0), (1250.0, 1900.0), (1750.0, 2900.0)]}
    assert latency.waits([("s0", 1100.0), ("s0", 1600.0)], drawn, step=500) == [800.0, 1300.0]
    with pytest.raises(RuntimeError, match="not drawn"):
        latency.waits([("s0", 2100.0)], drawn, step=500)


def test_publish_to_pixel_is_measured_of_both() -> None:
    """In a real browser, each message that the client received is found in both charts."""
    plan = replace(QUICK, steady=6.0)
    found = asyncio.run(latency.latency(plan, ""))
    for name in ("latency_ms", "latency_p95_ms"):
        assert len(found[name]) == plan.rounds
        assert min(found[name][0]) > 0
    assert found["latency_p95_ms"][0] > found["latency_ms"][0]
