"""A metric over rows without timestamps. Its history starts at the first update."""

import threading
from collections import deque

import pandas as pd

from ..table.snapshot import Snapshot
from .figure import POINTS, Figure


class SeenFigure:
    """Like Figure, for rows without timestamps that replace the previous ones, such as totals. Values from
    before the first update are unknown, so `course` and `before` start with it.

    Thread-safe."""

    def __init__(self, figure: Figure, look_back: pd.Timedelta, change: pd.Timedelta | None = None) -> None:
        """`figure` calculates the number from the newest rows; create it without `over` and `change`.
        `look_back`, `change`: see Figure."""
        self.step = figure.step
        self.value: float | int | None = None
        self.before: float | int | None = None
        self.course: dict[int, float | None] = {}
        self._figure = figure
        self._look_back = look_back.value
        self._change = change.value if change is not None else None
        self._lock = threading.Lock()
        self._seen: deque[tuple[int, float | int | None]] = deque()
        """Changes of the number, as time and value, oldest first; from the last one that is older than
        `change`."""
        self._now = 0

    def update(self, snapshot: Snapshot, now: int) -> None:
        """Calculate the number from `snapshot`, at `now` on the server's clock (ns since the epoch, UTC).
        Raises ColumnError if a column does not exist or is of another kind."""
        with self._lock:
            self._figure.update(snapshot, now)
            self._note(self._figure.value, now)

    def clear(self) -> None:
        """Set the number to None, because there are no rows."""
        with self._lock:
            self._figure.clear()
            self._note(None, self._now)

    def _note(self, value: float | int | None, now: int) -> None:
        """Record that the number is `value` from `now` on, and was the previous one until then."""
        now = max(self._now, now)
        if self._now:
            last = now // self.step
            for number in range(max(self._now // self.step, last - POINTS) + 1, last + 1):
                self.course[number] = self.value
            oldest = (now - self._look_back) // self.step
            for number in [number for number in self.course if number <= oldest]:
                del self.course[number]
        self.value, self._now = value, now
        if self._change is None:
            return
        if not self._seen or self._seen[-1][1] != value:
            self._seen.append((now, value))
        while len(self._seen) > 1 and self._seen[1][0] <= now - self._change:
            self._seen.popleft()
        since, then = self._seen[0]
        self.before = then if since <= now - self._change else None
