"""What is missing from a window although it belongs there, told with counts and times."""

from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

MOST_PLACES = 100
"""Gaps of one look-back that are told apart; nearer ones become one."""


@dataclass(frozen=True)
class Gap:
    """Messages that a window does not hold, though their time lies within it."""

    why: Literal["removed", "interrupted"]
    """"removed": the stream no longer holds them (purged, deleted, or over its limits). "interrupted":
    plain subjects, and there was no connection."""
    start: int
    """When it began, ns since the epoch, UTC."""
    end: int
    """When it ended, ns since the epoch, UTC."""
    count: int | None
    """How many messages; None where nobody knows."""


class Gaps:
    """The gaps of one feed. Written on the client's loop, read from any thread."""

    def __init__(self) -> None:
        self._all: tuple[Gap, ...] = ()

    def since(self, time: int) -> tuple[Gap, ...]:
        """Those that ended after `time` (ns since the epoch, UTC), by time."""
        return tuple(gap for gap in self._all if gap.end > time)

    def add(self, gap: Gap, look_back: pd.Timedelta) -> None:
        """Take in `gap`, and forget those that ended more than `look_back` before it."""
        kept = list(self.since(gap.end - look_back.value))
        for i, other in enumerate(kept):
            both = replace(
                gap,
                start=min(gap.start, other.start),
                end=max(gap.end, other.end),
                count=None if gap.count is None or other.count is None else gap.count + other.count,
            )
            if other.why == gap.why and both.end - both.start <= look_back.value // MOST_PLACES:
                kept[i] = both
                break
        else:
            kept.append(gap)
        self._all = tuple(sorted(kept, key=lambda each: each.start))

    def forget_after(self, time: int) -> None:
        """Forget those that ended after `time` (ns since the epoch, UTC)."""
        self._all = tuple(gap for gap in self._all if gap.end <= time)

    def clear(self) -> None:
        """Forget all: they belong to a stream that is no more."""
        self._all = ()
