"""Gaps: messages that belong in a window and are missing, with counts and times."""

from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

MOST_PLACES = 100
"""Two gaps that together span at most look-back / MOST_PLACES are merged."""


@dataclass(frozen=True)
class Gap:
    """Messages of the look-back that a window does not hold."""

    why: Literal["removed", "interrupted", "unread"]
    """"removed": the stream no longer holds them (purged, deleted, or over its limits). "interrupted": there
    was no connection while reading plain subjects. "unread": the feed's readers have stopped loading before
    this part."""
    start: int
    """Start of the gap, ns since the epoch, UTC."""
    end: int
    """End of the gap, ns since the epoch, UTC."""
    count: int | None
    """How many messages; None if unknown."""


class Gaps:
    """The gaps of one feed. Written on the client's loop, read from any thread."""

    def __init__(self) -> None:
        self._all: tuple[Gap, ...] = ()

    def since(self, time: int) -> tuple[Gap, ...]:
        """The gaps that ended after `time` (ns since the epoch, UTC), by time."""
        return tuple(gap for gap in self._all if gap.end > time)

    def add(self, gap: Gap, look_back: pd.Timedelta) -> None:
        """Add `gap`, and drop those that ended more than `look_back` before it."""
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
        """Drop the gaps that ended after `time` (ns since the epoch, UTC)."""
        self._all = tuple(gap for gap in self._all if gap.end <= time)

    def clear(self) -> None:
        """Drop all gaps: their stream no longer exists."""
        self._all = ()
