"""A feed without NATS: a thread that fills a real window, and the view of it that a page gets."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from components.data.live import View
from nats_client.feeds.derived import Derived, Noticed
from nats_client.feeds.health import FeedKey, Health
from nats_client.results.result import EMPTY_HEALTH
from nats_client.series.bins import Bins
from nats_client.series.conditions import Condition
from nats_client.series.series_choice import SeriesChoice
from nats_client.table.snapshot import Snapshot
from nats_client.table.values import NULL, Batch, Floats
from nats_client.table.window import Window
from nats_client.watchers import Watchers

SECOND = 1_000_000_000
LOOK_BACK = pd.Timedelta("PT1M")


class Source:
    """Subjects that get a value `rate` times a second, with a minute of history."""

    def __init__(self, name: str, subjects: list[str], rate: int = 5) -> None:
        self.name = name
        self.key = FeedKey(name, None, "json", None)
        self.rate = rate
        self.subjects = subjects
        self.window = Window()
        self._seq = 0
        self._bins: dict[object, Bins] = {}
        self._derived = Derived()
        self._watchers = Watchers()
        now = time.time_ns()
        for i in range(60 * rate, 0, -1):
            self.add(now - i * SECOND // rate)
        threading.Thread(target=self._run, args=[now], daemon=True).start()

    @property
    def name_key(self) -> str:
        """As of a feed."""
        return self.name

    def now(self) -> int:
        """As a feed has it."""
        return time.time_ns()

    def snapshot(self) -> Snapshot:
        """As a feed has it."""
        return self.window.snapshot()

    def health_of(self, _: pd.Timedelta) -> Health:
        """Nothing is wrong with it."""
        return replace(EMPTY_HEALTH, phase="following")

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """As a feed has it."""
        return self._watchers.add(changed)

    def _run(self, due: int) -> None:
        while True:
            now = time.time_ns()
            while due <= now:  # on a busy machine several at once
                self.add(due)
                due += SECOND // self.rate
            self.window.evict(now - 2 * LOOK_BACK.value)
            self._watchers.notify()
            time.sleep(1 / self.rate)

    def bins(
        self,
        fields: tuple[str, ...],
        color: str | None,
        look_back: pd.Timedelta,
        most: int,
        *,
        hold: bool = False,
        facet: str | None = None,
        choice: SeriesChoice | None = None,
    ) -> Bins:
        """As a feed has it."""
        made = Bins(fields, color, look_back, most=most, hold=hold, facet=facet, choice=choice)
        return self._bins.setdefault((fields, color, most, hold, facet, choice or SeriesChoice()), made)

    def read_before(self, *_: object) -> None:
        """Nothing is known of earlier times."""

    def crossings(
        self, field: str, color: str | None, look_back: pd.Timedelta, condition: Condition
    ) -> Noticed:
        """As a feed has it."""
        return self._derived.crossings(field, color, look_back, condition)

    def add(self, now: int) -> None:
        """One row for each subject."""
        values = np.array([i + math.sin(now / SECOND / 5 + i) for i in range(len(self.subjects))])
        self.put(now, self.subjects, values)

    def put(self, now: int, subjects: list[str], values: Floats) -> None:
        """A row of each of `subjects`."""
        count = len(subjects)
        times = np.full(count, now, dtype=np.int64)
        seq = np.arange(self._seq, self._seq + count, dtype=np.int64)
        self._seq += count
        self.window.append(Batch(seq, times, times, subjects, {"value": values}))


class Leaving(Source):
    """The last of the subjects has been silent for most of the look-back."""

    def __init__(self, name: str, subjects: list[str]) -> None:
        self._silent = time.time_ns() - int(0.75 * LOOK_BACK.value)
        super().__init__(name, subjects)

    def add(self, now: int) -> None:
        """One row for each subject that is not silent."""
        subjects = self.subjects if now < self._silent else self.subjects[:-1]
        self.put(now, subjects, np.arange(len(subjects), dtype=np.float64))


class Nulls(Source):
    """The first subject says null once a second."""

    def add(self, now: int) -> None:
        """One row for each subject."""
        null = now // (SECOND // self.rate) % self.rate == 0
        self.put(
            now, self.subjects, np.array([NULL if null and not i else i for i in range(len(self.subjects))])
        )


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "3 others",
    "x" * 300,
    "__proto__",
    "\u202etxt.exe",
    "a, b",
    "ä 'q' \"q\"",
]
SPIKE = 5e6


class Crowd(Source):
    """A thousand subjects, some with names that are no names. Those of smaller numbers speak more often. Once
    each ten seconds the one before the last has a spike."""

    def add(self, now: int) -> None:
        """A row of some subjects."""
        turn = now // (SECOND // self.rate)
        count = len(self.subjects) if turn % 4 == 0 else 40
        values = np.array([i / 10 + math.sin(now / SECOND / 5) for i in range(count)])
        if count > 40 and turn // self.rate % 10 == 0:
            values[-2] = SPIKE
        self.put(now, self.subjects[:count], values)


SOURCES = {
    source.name: source
    for source in (
        Source("few", ["plain", "<b>bold</b> & <img src=x onerror=alert(1)>", "third"]),
        Source("many", [f"plant.hall-{i % 3}.machine-{i}.temperature" for i in range(14)]),
        Source("folded", [f"machine-{i}" for i in range(37)]),
        Source("fast", ["pump", "valve"], rate=50),
        Crowd("crowd", [*HOSTILE, *(f"plant.machine-{i}" for i in range(993))], rate=4),
        Nulls("nulls", ["pump", "valve"], rate=50),
    )
}


def view(key: str) -> View:
    """The rows as they are now."""
    if key == "leaving":  # begun by who looks at it first
        SOURCES[key] = SOURCES.get(key) or Leaving(key, ["stays", "too", "goes"])
    source = SOURCES[key]
    return seen(source, time.time_ns())


def seen(source: Source, now: int) -> View:
    """The rows of a source, as a chart takes them."""
    health: Any = source.health_of(LOOK_BACK)
    feed: Any = source
    return View(feed, source.window.snapshot(), LOOK_BACK, now, health)
