"""How long the runs of pages take: a histogram for Prometheus, and an event when a page becomes slow.

Each run of a page's body counts: the first, and every refresh of every viewer. The time that a viewer's first
read waits for the replay (`wait_once`) does not count, because that wait is short by design and occurs once.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import Histogram

from nats_client import Event, environment
from nats_client.events import Events

from ..data.live import wait_once
from ..spent import Spent, measured

SLOW = environment.SLOW_PAGE.read()
"""Seconds above which a run is slow."""
CALM = 180.0
"""Seconds without a slow run after which a page is fast again. Until then no slow run is an event, so a page
that is slow for one viewer and fast for another does not fill the log."""
MOST_NAMED = 3
"""Components named in an event, the slowest ones."""
LEAST_NAMED = 0.05
"""Share of a run above which a component is named in an event."""

SECONDS = Histogram(
    "lookback_page_run_seconds",
    "Seconds that a run of a page took, without waiting for a viewer's first rows.",
    ["page"],
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=None,
)


@dataclass
class _Slow:
    """A page since it became slow."""

    newest: float = 0.0
    """When its newest slow run ended, seconds on the monotonic clock."""
    runs: int = 0
    longest: float = 0.0


_slow: dict[str, _Slow] = {}
_events: dict[str, Events] = {}


@contextmanager
def page_run(page: str) -> Iterator[None]:
    """Measure the block, a run of `page`. A run that an exception ends, such as Streamlit's for a rerun,
    counts only if it was already slow."""
    spent, done = Spent(), False
    try:
        with measured(spent):
            yield
        done = True
    finally:
        if done or _seconds(spent) > SLOW:
            note_run(page, spent)


def note_run(page: str, spent: Spent) -> None:
    """Count a run of `page`. The first slow run is an event, and so is the first fast one after CALM seconds
    without a slow one."""
    seconds, now = _seconds(spent), time.monotonic()
    SECONDS.labels(page).observe(seconds)
    before = _slow.get(page)
    if seconds > SLOW:
        # setdefault and pop let only one of several threads note the event.
        slow = before or _slow.setdefault(page, new := _Slow())
        slow.newest, slow.runs, slow.longest = now, slow.runs + 1, max(slow.longest, seconds)
        if before is None and slow is new:
            _events_of(page).note("slow", _reason(spent), logging.WARNING)
    elif before is not None and now - before.newest > CALM and _slow.pop(page, None) is before:
        _events_of(page).note(
            "fast again",
            f"{before.runs:,} slow runs, the longest {before.longest:.2f} s; none for {CALM:g} s",
        )


def page_events(pages: Iterable[str]) -> dict[str, tuple[Event, ...]]:
    """The newest events of those of `pages` that have any, oldest first. Pass only pages that the viewer may
    open."""
    return {page: _events[page].newest for page in pages if page in _events}


def _events_of(page: str) -> Events:
    return _events.setdefault(page, Events(f"page {page}"))


def _seconds(spent: Spent) -> float:
    return spent.total - spent.parts.get(wait_once.__name__, 0.0)


def _reason(spent: Spent) -> str:
    seconds = _seconds(spent)
    parts = {f"in {name}": took for name, took in spent.parts.items() if name != wait_once.__name__}
    parts["in the page's own code"] = spent.own
    slowest = sorted(parts, key=lambda name: -parts[name])[:MOST_NAMED]
    named = [f"{parts[name]:.2f} s {name}" for name in slowest if parts[name] > LEAST_NAMED * seconds]
    computing = min(spent.computing, seconds)
    return f"{seconds:.2f} s, above {SLOW:g} s: {', '.join(named)}; {computing:.2f} s of it computing"
