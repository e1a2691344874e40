"""One number of rows that have no times of their own, and what it was when it was looked at before."""

import threading
from collections import deque

import pandas as pd

from ..table.snapshot import Snapshot
from .figure import POINTS, Figure


class SeenFigure:
    """Like a Figure, for rows that replace those before, such as totals. What they were when nobody looked is
    not known: the course and what the number was a while ago begin with the first update.

    Thread-safe.
    """

    def __init__(self, figure: Figure, look_back: pd.Timedelta, change: pd.Timedelta | None = None) -> None:
        """`figure`: the number of the newest rows, without `over` and `change`. The others: see Figure."""
        self.step = figure.step
        self.value: float | int | None = None
        self.before: float | int | None = None
        self.course: dict[int, float | None] = {}
        self._figure = figure
        self._look_back = look_back.value
        self._change = change.value if change is not None else None
        self._lock = threading.Lock()
        self._seen: deque[tuple[int, float | int | None]] = deque()
        """Since when the number was which, from the last one before `change` ago on."""
        self._now = 0

    def update(self, snapshot: Snapshot, now: int) -> None:
        """Take the newest rows, at `now` on the server's clock (ns since the epoch, UTC). Raises ColumnError
        if a column does not exist or is of another kind."""
        with self._lock:
            self._figure.update(snapshot, now)
            self._note(self._figure.value, now)

    def clear(self) -> None:
        """There are no rows."""
        with self._lock:
            self._figure.clear()
            self._note(None, self._now)

    def _note(self, value: float | int | None, now: int) -> None:
        """The number is `value` at `now`, and was the one before until then."""
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
