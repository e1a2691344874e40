"""The benchmark: a viewer that refreshes as a browser would, and the search for the most sessions."""

import asyncio

import pytest

from bench.__main__ import MEASURES, Measure
from bench.measures import most_held
from bench.refresh import served
from bench.viewer import Audience


@pytest.mark.parametrize(
    ("way", "in_fragment"), [("page autorefresh", False), ("fragment autorefresh", True)]
)
def test_viewer_acts_as_the_refresh_clock(way: str, in_fragment: bool) -> None:
    """A viewer finds the clock, knows whether it stands in a fragment, and refreshes each second."""

    async def watch() -> Audience:
        async with served(way, pause=0) as app, Audience(app.url, 2, interval=0.2) as audience:
            await asyncio.sleep(1.5)
            audience.check()
            return audience

    audience = asyncio.run(watch())
    assert audience.runs() >= 6
    assert all(bool(viewer.fragment) == in_fragment for viewer in audience.viewers)
    assert audience.message_bytes() > 6 * 500


@pytest.mark.parametrize("capacity", [0, 1, 3, 9, 100, 5000])
@pytest.mark.parametrize("first", [1, 2, 8, 64])
@pytest.mark.parametrize("factor", [1.2, 2])
def test_search_comes_within_an_eighth_of_the_most_held(capacity: int, first: int, factor: float) -> None:
    """From a poor or a good first guess, in small steps or large ones, and never past the limit."""

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
    """And one above is, where the measure says so; without a goal nothing is met or missed."""
    assert measure.bound == bound
    assert measure.met(met) is True
    assert measure.met(missed) is False
    assert Measure("ms").met(1.0) is None


def test_every_measure_has_somebody_to_measure_it() -> None:
    """The search for the most sessions aside, a row is filled by one way of measuring and not by two."""
    for name, measure in MEASURES.items():
        assert (measure.run is None) != (measure.pair is None) or name == "sessions_held"
