"""Limits concurrent calculations, in total and per asker."""

import contextlib
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

LOOK_AGAIN = 1.0
"""Seconds between two checks of a waiting calculation for new askers."""
Askers = Callable[[], Collection[str]]


@dataclass(eq=False)
class _Waiting:
    askers: Askers


class Turns:
    """Assigns a free turn to the asker who holds the fewest, then to the one whose last turn was longest ago,
    then in order of arrival. Thread-safe."""

    def __init__(self, at_once: int, share: int | None = None) -> None:
        """`share`: maximum turns of one asker; None for all turns."""
        self._at_once = at_once
        self._share = at_once if share is None else share
        self._changed = threading.Condition()
        self._held: Counter[str] = Counter()
        self._waiting: list[_Waiting] = []
        self._last: dict[str, int] = {}
        self._count = itertools.count(1)

    @contextlib.contextmanager
    def taken(self, askers: Askers) -> Iterator[None]:
        """Wait for a turn, and keep it within the `with`. If there are several askers, a turn of any of
        them is enough."""
        mine = _Waiting(askers)
        with self._changed:
            self._waiting.append(mine)
            while (found := self._next()) is None or found[0] is not mine:
                self._changed.wait(LOOK_AGAIN)
            asker = found[1]
            self._waiting.remove(mine)
            self._held[asker] += 1
            if len(self._last) > 1000:
                self._last.clear()
            self._last[asker] = next(self._count)
            self._changed.notify_all()  # the next calculation may get a turn, too
        try:
            yield
        finally:
            with self._changed:
                self._held[asker] -= 1
                self._held += Counter()  # drops the askers that hold none
                self._changed.notify_all()

    @property
    def all_taken(self) -> bool:
        """True if no turn is free."""
        with self._changed:
            return self._held.total() >= self._at_once

    def _next(self) -> tuple[_Waiting, str] | None:
        """The waiting calculation that gets a turn now, and its asker; None if none can."""
        if self._held.total() >= self._at_once:
            return None
        open_to = [
            (self._held[asker], self._last.get(asker, 0), place, asker)
            for place, each in enumerate(self._waiting)
            for asker in list(each.askers())
            if self._held[asker] < self._share
        ]
        if not open_to:
            return None
        *_, place, asker = min(open_to)
        return self._waiting[place], asker
