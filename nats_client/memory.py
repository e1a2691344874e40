"""The memory ceiling of the process, for all feeds, queries and buckets of all clients together.

Each of them reports its size as it grows. Above the ceiling, those that nobody has read for a while are
closed, least recently read first. Then the largest drop their oldest rows, all down to the same size,
so that whoever holds less than an equal share loses nothing.
"""

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

UNREAD = 60.0
"""Seconds without a reader after which something may be closed for want of memory."""
AIM = 0.9
"""Share of the ceiling that is left in use when it was met: the next time is then not at the next message."""
SMALLEST = 1 << 20
"""Bytes that anything may hold in any case: the newest rows are always there."""
MOST = 2 << 30
"""Bytes of the ceiling that no setting names, at most."""
_CGROUP = Path("/sys/fs/cgroup/memory.max")


class Holder(Protocol):
    """Something that holds rows or values."""

    last_read: float

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""

    def shrink(self, nbytes: int, ceiling: int) -> None:
        """Hold at most `nbytes` from now on, since all together may hold `ceiling`."""

    def relax(self) -> None:
        """Hold as much as it may by itself."""


Evict = Callable[[Any], None]
"""Closes the holder that it is given."""


class Memory:
    """The sizes of all holders, and their ceiling. Thread-safe. Call it without holding a holder's lock."""

    def __init__(self, ceiling: int | None = None) -> None:
        self._own = ceiling or default_ceiling()
        self._asked: dict[int, int] = {}
        self._lock = threading.Lock()
        self._held: weakref.WeakKeyDictionary[Holder, int] = weakref.WeakKeyDictionary()
        self._evict: weakref.WeakKeyDictionary[Holder, Evict] = weakref.WeakKeyDictionary()
        self._squeezed: weakref.WeakSet[Holder] = weakref.WeakSet()
        self._total = 0

    @property
    def ceiling(self) -> int:
        """In bytes: the least that a client asks for."""
        return min(self._asked.values(), default=self._own)

    @property
    def total(self) -> int:
        """Bytes that are held."""
        return self._total

    def ask(self, client: object, ceiling: int | None) -> None:
        """Have `client` want this ceiling; None: it has no wish, or is closed."""
        with self._lock:
            self._asked.pop(id(client), None)
            if ceiling is not None:
                self._asked[id(client)] = ceiling

    def join(self, holder: Holder, evict: Evict) -> None:
        """Count `holder` from now on. `evict`, given it, closes it soon, after which it leaves, unless
        somebody reads it meanwhile; then it is noted. Until it has left, this may be asked for again."""
        with self._lock:
            self._held[holder], self._evict[holder] = 0, evict
        self.note(holder)

    def leave(self, holder: Holder) -> None:
        """Count it no more."""
        with self._lock:
            self._total -= self._held.pop(holder, 0)
            self._evict.pop(holder, None)
            self._squeezed.discard(holder)

    def room_for(self, holder: Holder) -> int:
        """Bytes by which it may grow before others have to give up something."""
        return max(0, self.ceiling - self._total)

    def note(self, holder: Holder) -> None:
        """Count what it holds now, and make room where that is too much in all."""
        with self._lock:
            if holder not in self._held:
                return
            held = holder.nbytes
            self._total += held - self._held[holder]
            self._held[holder] = held
            if self._total > self.ceiling:
                self._make_room()

    def look(self) -> None:
        """Count everything anew; where there is plenty of room again, nobody is kept short any longer."""
        with self._lock:
            self._count()
            if self._total > self.ceiling:
                self._make_room()
            elif self._total < self.ceiling * AIM / 2:
                for holder in list(self._squeezed):
                    holder.relax()
                self._squeezed.clear()

    # -- below, the lock is held -------------------------------------------------------------------------

    def _count(self) -> None:
        for holder in list(self._held):
            self._held[holder] = holder.nbytes
        self._total = sum(self._held.values())

    def _make_room(self) -> None:
        self._count()
        aim, now = int(self.ceiling * AIM), time.monotonic()
        if self._total <= aim:
            return
        total = self._total
        for holder in sorted(self._held, key=lambda each: each.last_read):
            if total <= aim or now - holder.last_read < UNREAD:
                break
            total -= self._held[holder]
            self._evict[holder](holder)
            self._held[holder] = 0  # it goes, as soon as its own thread comes to it
        if total > aim:
            level = _level([size for size in self._held.values() if size], aim)
            for holder in [each for each, size in self._held.items() if size > level]:
                holder.shrink(level, self.ceiling)
                self._held[holder] = holder.nbytes
                self._squeezed.add(holder)
        self._total = sum(self._held.values())


def _level(sizes: list[int], most: int) -> int:
    """The size to which the largest of `sizes` must come down, so that all together are at most `most`."""
    left, count = most, len(sizes)
    for size in sorted(sizes):
        if size * count >= left:
            return left // count
        left, count = left - size, count - 1
    return max(sizes, default=most)


def default_ceiling() -> int:
    """Half of the memory that this process may have, at most MOST."""
    limits = [MOST * 2]
    with contextlib.suppress(AttributeError, ValueError, OSError):  # a system that does not say
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(OSError, ValueError):  # no limit there
        limits.append(int(_CGROUP.read_text()))
    return min(limits) // 2


PROCESS = Memory()
"""Of this process: all its clients share it."""
