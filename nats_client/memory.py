"""The memory ceiling of the process, for all feeds, queries and buckets of all clients together.

Each holder (a feed, query or bucket) reports its size as it grows. Above the ceiling, holders that had no
reader for a minute are closed, least recently read first. Then the largest are shrunk to a common size, so
that a holder with less than an equal share loses nothing.
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
"""Seconds without a reader after which a holder may be closed when memory is short."""
READ_EVERY = 0.25
"""Seconds between two updates of a holder's `last_read` while a caller waits for it."""
AIM = 0.9
"""Share of the ceiling that may stay in use after making room, so that the next message does not trigger it
again."""
SMALLEST = 1 << 20
"""Bytes that a holder may always have, so that its newest rows are always there."""
MOST = 2 << 30
"""Maximum of the default ceiling, in bytes."""
_CGROUP = Path("/sys/fs/cgroup/memory.max")


class Holder(Protocol):
    """Something that holds rows or values, such as a feed."""

    last_read: float

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""

    def shrink(self, nbytes: int, ceiling: int) -> None:
        """Hold at most `nbytes` from now on, because all holders together may have at most `ceiling`."""

    def relax(self) -> None:
        """Undo `shrink`: only its own ceiling applies again."""


Evict = Callable[[Any], None]
"""Closes a holder."""


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
        """The ceiling in bytes: the lowest that any client has requested, or else the default."""
        return min(self._asked.values(), default=self._own)

    @property
    def total(self) -> int:
        """Bytes that all holders have together."""
        return self._total

    def ask(self, client: object, ceiling: int | None) -> None:
        """Set the ceiling that `client` requests, in bytes; None withdraws it."""
        with self._lock:
            self._asked.pop(id(client), None)
            if ceiling is not None:
                self._asked[id(client)] = ceiling

    def join(self, holder: Holder, evict: Evict) -> None:
        """Count `holder` from now on. `evict(holder)` is called in any thread. It has to close the holder, at
        once or soon, and then call leave(); if somebody reads it meanwhile, it has to call note() instead.
        Until then, `evict` may be called again."""
        with self._lock:
            self._held[holder], self._evict[holder] = 0, evict
        self.note(holder)

    def leave(self, holder: Holder) -> None:
        """Stop counting `holder`. A no-op if it is not counted."""
        with self._lock:
            self._total -= self._held.pop(holder, 0)
            self._evict.pop(holder, None)
            self._squeezed.discard(holder)

    def room_for(self, holder: Holder) -> int:
        """Bytes that `holder` may still add before the ceiling is reached."""
        return max(0, self.ceiling - self._total)

    def note(self, holder: Holder) -> None:
        """Update the size of `holder`. If the total is above the ceiling, make room. A no-op if `holder` is
        not counted."""
        unread: list[tuple[Evict, Holder]] = []
        with self._lock:
            if holder not in self._held:
                return
            held = holder.nbytes
            self._total += held - self._held[holder]
            self._held[holder] = held
            if self._total > self.ceiling:
                unread = self._make_room()
        _evict_all(unread)

    def recount(self) -> None:
        """Recount all holders. Above the ceiling, make room; at less than AIM / 2 of it, lift all limits."""
        unread: list[tuple[Evict, Holder]] = []
        with self._lock:
            self._count()
            if self._total > self.ceiling:
                unread = self._make_room()
            elif self._total < self.ceiling * AIM / 2:
                for holder in list(self._squeezed):
                    holder.relax()
                self._squeezed.clear()
        _evict_all(unread)

    # -- below, the lock is held -------------------------------------------------------------------------

    def _count(self) -> None:
        for holder in list(self._held):
            self._held[holder] = holder.nbytes
        self._total = sum(self._held.values())

    def _make_room(self) -> list[tuple[Evict, Holder]]:
        """Select the unread holders, and shrink the largest others if that is not enough. Returns the unread
        ones. The caller closes them once the lock is released, because that may call leave()."""
        self._count()
        unread: list[tuple[Evict, Holder]] = []
        aim, now = int(self.ceiling * AIM), time.monotonic()
        if self._total <= aim:
            return unread
        total = self._total
        for holder in sorted(self._held, key=lambda each: each.last_read):
            if total <= aim or now - holder.last_read < UNREAD:
                break
            total -= self._held[holder]
            unread.append((self._evict[holder], holder))
            self._held[holder] = 0
        if total > aim:
            level = _level([size for size in self._held.values() if size], aim)
            for holder in [each for each, size in self._held.items() if size > level]:
                holder.shrink(level, self.ceiling)
                self._held[holder] = holder.nbytes
                self._squeezed.add(holder)
        self._total = sum(self._held.values())
        return unread


def _evict_all(unread: list[tuple[Evict, Holder]]) -> None:
    for evict, holder in unread:
        evict(holder)


def _level(sizes: list[int], most: int) -> int:
    """The size to which the largest of `sizes` must shrink, so that the total is at most `most`."""
    left, count = most, len(sizes)
    for size in sorted(sizes):
        if size * count >= left:
            return left // count
        left, count = left - size, count - 1
    return max(sizes, default=most)


def wait_as_reader(holder: Holder, event: threading.Event, timeout: float) -> bool:
    """Wait at most `timeout` seconds for `event`. False on a timeout. Meanwhile the caller counts as a reader
    of `holder`, so that it stays open."""
    until = time.monotonic() + timeout
    while True:
        holder.last_read = time.monotonic()
        if event.wait(max(0.0, min(READ_EVERY, until - holder.last_read))):
            holder.last_read = time.monotonic()
            return True
        if time.monotonic() >= until:
            return False


def default_ceiling() -> int:
    """Half of the memory available to this process, at most MOST, in bytes."""
    limits = [MOST * 2]
    with contextlib.suppress(AttributeError, ValueError, OSError):  # the system does not report it
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(OSError, ValueError):  # no cgroup limit
        limits.append(int(_CGROUP.read_text()))
    return min(limits) // 2


PROCESS = Memory()
"""The ceiling of this process, shared by all its clients."""
