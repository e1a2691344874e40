"""The source that viewers of a live element share: one viewer cannot stop the others."""

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
    """A source that counts its updates; the test reports changes."""

    def __init__(self) -> None:
        super().__init__()
        self.updates = 0
        self.rests = 0
        self.changed: Callable[[], None] = lambda: None

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Keep the callback for the test."""
        self.changed = changed
        return lambda: None

    def update(self) -> None:
        """Count the call."""
        self.updates += 1

    def rest(self) -> None:
        """Count the call."""
        self.rests += 1


class Heavy(Counter):
    """A source with slow updates; all but the first block until `free` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()

    def update(self) -> None:
        """Compute for a while, then block."""
        start = time.thread_time()
        while time.thread_time() - start < 2 * LONG:
            hashlib.pbkdf2_hmac("sha256", b"", b"", 1000)
        if self.updates:
            self.free.wait(60)
        super().update()


def fails() -> None:
    """Raise, as a viewer whose page has a fault."""
    raise ValueError("broken")


def test_one_viewer_who_fails_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """Each update wakes all other viewers, including those after a viewer whose callback raises; the error is
    logged once."""

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
    """While twenty sources of one viewer's page are permanently busy, another viewer's source is still
    updated, and so is a third viewer's new one."""

    async def look() -> None:
        heavy = [Heavy() for _ in range(20)]
        first = [asyncio.Event() for _ in heavy]
        for source, done in zip(heavy, first, strict=True):
            source.watch("busy", done.set, 0.05)
        await asyncio.wait_for(asyncio.gather(*(done.wait() for done in first)), 60)
        for source in heavy:
            source.changed()
        await asyncio.sleep(1)  # until as many as permitted are running
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
    """If the last viewer leaves during an update, the data of that update is released afterwards too."""

    async def look() -> Counter:
        source, left = Counter(), asyncio.Event()

        def leave() -> None:
            source.unwatch("one")
            left.set()

        source.watch("one", leave, 0.05)
        await asyncio.wait_for(left.wait(), 10)
        await asyncio.sleep(0.1)
        return source

    assert asyncio.run(look()).rests >= 2  # once when the viewer left, once after the update


@pytest.mark.parametrize(
    "chosen",
    [[0, 10**400], [-(10**400), 0], [0, float("nan")], [float("inf"), 1], ["a", 1], [1], None, {}, [5, 1]],
)
def test_a_range_that_is_none(chosen: object) -> None:
    """An invalid zoom range from a browser is treated as no zoom."""
    assert zoomed(chosen, pd.Timedelta("PT1M"), 10**18) is None
