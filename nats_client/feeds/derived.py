"""Values derived from the rows of a feed, computed once and shared by all viewers."""

import threading
from collections.abc import Callable, Collection
from typing import Protocol, TypeVar
from weakref import WeakSet, WeakValueDictionary

import pandas as pd

from ..series.bins import MOST, Bins
from ..series.conditions import Condition
from ..series.crossings import Crossings
from ..series.latest import Latest
from ..series.periods import Means
from ..series.series_choice import SeriesChoice
from ..series.silences import Silences
from ..series.value_changes import ValueChanges
from ..table.memo import Memo
from ..table.snapshot import Snapshot

Noticed = Crossings | Silences | ValueChanges
_NOTICED: dict[str, type[Noticed]] = {"silent": Silences, "changed": ValueChanges}


class Sized(Protocol):
    """An object that reports its size."""

    @property
    def nbytes(self) -> int:
        """Its size in bytes. Any thread may call it."""


S = TypeVar("S", bound=Sized)


class Derived:
    """Caches of values derived from the rows of a feed, shared by all viewers."""

    _bins_class = Bins

    def __init__(self) -> None:
        self.means = Means()
        """Means per period, shared by all viewers of the same table."""
        self.memo = Memo()
        """All other derived values."""
        self._bins, self._crossings, self._latest = Memo(), Memo(), Memo()
        self._chosen_bins: WeakValueDictionary[object, Bins] = WeakValueDictionary()
        self._choosing = threading.Lock()
        self._used: WeakSet[Sized] = WeakSet()
        self._using = threading.Lock()

    def counted(self, made: S) -> S:
        """Count the bytes of `made` among the derived values for as long as a page holds it, even after the
        caches have dropped it. Returns `made`."""
        with self._using:
            self._used.add(made)
        return made

    def bins(
        self,
        fields: tuple[str, ...],
        color: str | None,
        look_back: pd.Timedelta,
        most: int = MOST,
        step: int | None = None,
        *,
        hold: bool = False,
        facet: str | None = None,
        choice: SeriesChoice | None = None,
    ) -> Bins:
        """The bins shared by all viewers of the same chart with the same `choice`. The caller updates them
        before drawing. Bins of chosen names are kept only while a page holds them, outside the cache. So the
        choices of some viewers do not displace the bins of others. Raises LookbackError, as Bins does."""
        choice = choice or SeriesChoice()
        key = (fields, color, look_back.value, most, step, hold, facet, choice)

        def make() -> Bins:
            return self.counted(
                self._bins_class(
                    fields, color, look_back, most=most, step=step, hold=hold, facet=facet, choice=choice
                )
            )

        if not choice.names:
            return self._bins.once(key, None, make)
        with self._choosing:
            return self._chosen_bins.get(key) or self._chosen_bins.setdefault(key, make())

    def read_before(self, moment: int, split_by: Collection[str], take: Callable[[Snapshot], None]) -> None:
        """Read, for each series, the newest row stored before `moment` (ns since the epoch, UTC), and call
        `take` with these rows, once and from any thread. `split_by`: the text columns that split the rows
        into series. If the rows cannot be looked up, `take` is not called."""

    def crossings(
        self, field: str, color: str | None, look_back: pd.Timedelta, condition: Condition
    ) -> "Noticed":
        """The times at which the condition held, shared by all viewers. The caller updates them."""
        key = (field, color, look_back.value, condition)
        made: type[Noticed] = _NOTICED.get(condition.kind, Crossings)
        return self._crossings.once(key, None, lambda: made(field, color, look_back, condition))

    def latest(self, column: str, by: str, look_back: pd.Timedelta) -> Latest:
        """The newest values, shared by all viewers with the same look-back."""
        key = (column, by, look_back.value)
        return self._latest.once(key, None, lambda: Latest(column, by))

    @property
    def derived_bytes(self) -> int:
        """Estimated bytes of all derived values."""
        kept = (self._crossings, self._latest, self.memo, self.means.tables)
        with self._using:
            used = list(self._used)
        return sum(each.nbytes for each in (*kept, *used))

    def forget_derived(self) -> None:
        """Drop all cached values, which are computed again on request. Pages keep the objects that they
        hold."""
        for each in (self._bins, self._crossings, self._latest, self.memo, self.means.tables):
            each.clear()
