"""The common base of silences and changed values of series."""

import threading
from abc import ABC, abstractmethod
from collections import Counter
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..table.snapshot import Snapshot
from ..table.values import Ints
from .bins import AHEAD, step_for
from .conditions import Condition
from .crossings import MOST_CROSSINGS

Truths = npt.NDArray[np.bool_]
Structured = npt.NDArray[np.void]


class Noticing(ABC):
    """Processes new rows of a feed, per value of the text column `color`, for one look-back. Thread-safe."""

    ended_at: ClassVar[str]
    """The field of an entry that holds the time when it was over."""

    def __init__(self, field: str, color: str | None, look_back: pd.Timedelta, condition: Condition) -> None:
        self.field = field
        self.color = color
        self.condition = condition
        self._look_back = look_back.value
        self._ahead = int(look_back.value * AHEAD)
        self._step = step_for(look_back)
        self._lock = threading.Lock()
        self._now = 0  # the latest `now` of all updates, ns since the epoch, UTC
        self._generation: int | None = None
        self._version = -1
        self._end: int | None
        self._start_over()

    def update(self, snapshot: Snapshot, now: int) -> None:
        """Process the new rows, and drop entries that were over before the look-back, which ends at `now` (ns
        since the epoch, UTC). Raises ColumnError if a column does not exist or is of another kind."""
        with self._lock:
            self._now = max(self._now, now)
            of_age = self._too_early is not None and self._too_early <= self._now + self._ahead
            if snapshot.version < self._version or (snapshot.version == self._version and not of_age):
                return
            if snapshot.generation != self._generation or of_age:
                self._start_over()
            if len(snapshot):
                start = snapshot.first if self._end is None else max(self._end, snapshot.first)
                self._end = snapshot.end
                self._take(snapshot, start)
            self._forget()
            self._generation, self._version = snapshot.generation, snapshot.version

    # -- below, the lock is held -------------------------------------------------------------------------

    def _start_over(self) -> None:
        self._labels: list[str] = [""]
        self._past: Structured = self._nothing()  # what is over, ordered by its end
        self._further: Counter[int] = Counter()  # how many of those are not kept, by bin of their end
        self._end = None  # one past the ordinal of the last processed row
        self._too_early: int | None = None  # the first time of a row too far in the future

    @abstractmethod
    def _nothing(self) -> Structured:
        """Forget all series. Returns an array without entries."""

    @abstractmethod
    def _take(self, snapshot: Snapshot, start: int) -> None:
        """Process the rows with an ordinal of at least `start`."""

    def _forget(self) -> None:
        """Drop entries that were over before the look-back."""
        edge = self._now - self._look_back
        self._past = self._past[self._past[self.ended_at] >= edge]
        for number in [number for number in self._further if number < edge // self._step]:
            del self._further[number]

    def _codes(self, snapshot: Snapshot, start: int, times: Ints, held: Truths) -> tuple[Ints, Truths]:
        """The code of each row's series, and which of the `held` rows count: those not too far in the future
        and with a series."""
        codes = np.zeros(len(times), dtype=np.int64)
        if self.color:
            texts, self._labels = snapshot.codes(self.color, start)
            codes = texts.astype(np.int64)
        early = held & (times > self._now + self._ahead)
        if early.any():
            first = int(times[early].min())
            self._too_early = first if self._too_early is None else min(first, self._too_early)
        return codes, held & ~early & (codes >= 0)

    def _keep(self, past: Structured) -> None:
        past = past[np.argsort(past[self.ended_at], kind="stable")]
        surplus = past[: max(0, len(past) - MOST_CROSSINGS)]
        self._further.update((surplus[self.ended_at] // self._step).tolist())
        self._past = past[len(surplus) :]
