"""What viewers share of a live element: one of them cannot stop the others."""

import asyncio
import hashlib
import logging
import threading
import time
from collections.abc import Callable

import pandas as pd
import pytest

from components.charts.pushed import zoomed
from components.push.source import LONG, Source


class Counter(Source):
    """Counts its updates; changes on request."""

    def __init__(self) -> None:
        super().__init__()
        self.updates = 0
        self.rests = 0
        self.changed: Callable[[], None] = lambda: None

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Keep it, for the test."""
        self.changed = changed
        return lambda: None

    def update(self) -> None:
        """Count."""
        self.updates += 1

    def rest(self) -> None:
        """Count."""
        self.rests += 1


class Heavy(Counter):
    """Its updates take long, and all but the first do not end before they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()

    def update(self) -> None:
        """Compute; then wait."""
        start = time.thread_time()
        while time.thread_time() - start < 2 * LONG:
            hashlib.pbkdf2_hmac("sha256", b"", b"", 1000)
        if self.updates:
            self.free.wait(60)
        super().update()


def fails() -> None:
    """A viewer whose page has a fault."""
    raise ValueError("broken")


def test_one_viewer_who_fails_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """Each update wakes all others, also those after the one that fails; the log says it once."""

    async def look() -> None:
        source, woken = Counter(), asyncio.Event()
        source.watch("first", fails, 0.05)
        source.watch("second", woken.set, 0.05)
        for _ in range(3):
            await asyncio.wait_for(woken.wait(), 10)
            woken.clear()
            source.changed()
        source.unwatch("first")
        source.unwatch("second")

    with caplog.at_level(logging.ERROR, "lookback"):
        asyncio.run(look())
    assert sum("broken" in str(record.exc_info) for record in caplog.records) == 1


def test_many_heavy_sources_of_one_viewer_stop_no_other() -> None:
    """While twenty sources of one viewer's page are busy without end, another viewer's goes on, and
    a third viewer's new one begins."""

    async def look() -> None:
        heavy = [Heavy() for _ in range(20)]
        first = [asyncio.Event() for _ in heavy]
        for source, done in zip(heavy, first, strict=True):
            source.watch("busy", done.set, 0.05)
        await asyncio.wait_for(asyncio.gather(*(done.wait() for done in first)), 60)
        for source in heavy:
            source.changed()
        await asyncio.sleep(1)  # now as many of them as may are at it
        try:
            for who in ("other", "third"):
                light, woken = Counter(), asyncio.Event()
                light.watch(who, woken.set, 0.05)
                for _ in range(3):
                    await asyncio.wait_for(woken.wait(), 20)
                    woken.clear()
                    light.changed()
                light.unwatch(who)
        finally:
            for each in heavy:
                each.free.set()
                each.unwatch("busy")

    asyncio.run(look())


def test_an_update_that_outlives_its_viewers_leaves_nothing() -> None:
    """Where the last viewer leaves during an update, what that brought is released afterwards too."""

    async def look() -> Counter:
        source, left = Counter(), asyncio.Event()

        def leave() -> None:
            source.unwatch("one")
            left.set()

        source.watch("one", leave, 0.05)
        await asyncio.wait_for(left.wait(), 10)
        await asyncio.sleep(0.1)
        return source

    assert asyncio.run(look()).rests >= 2  # when the viewer left, and when the update was over


@pytest.mark.parametrize(
    "chosen",
    [[0, 10**400], [-(10**400), 0], [0, float("nan")], [float("inf"), 1], ["a", 1], [1], None, {}, [5, 1]],
)
def test_a_range_that_is_none(chosen: object) -> None:
    """What a browser says of its zoom is untrusted."""
    assert zoomed(chosen, pd.Timedelta("PT1M"), 10**18) is None
