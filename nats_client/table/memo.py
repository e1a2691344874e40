"""A cache of values computed from the rows of a feed, shared by all viewers."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import pandas as pd

T = TypeVar("T")

MOST = 50
"""Values of one kind cached per feed; the least recently used one is dropped."""


class _Reading:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.made = False
        self.moment: object = None
        self.value: Any = None


class Readings:
    """Caches one value per key, until it is requested with another `moment`. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[object, _Reading] = {}

    def once(self, key: object, moment: object, make: Callable[[], T]) -> T:
        """The cached value of `key`; calls `make` if there is none, or if `moment` has changed since.
        `moment` is, for example, a snapshot's version. Concurrent callers wait for the same value. Treat it
        as read-only."""
        with self._lock:
            found = self._kept.pop(key, None) or _Reading()
            self._kept[key] = found
            while len(self._kept) > MOST:
                del self._kept[next(iter(self._kept))]
        with found.lock:  # per key, so that a slow `make` does not block other keys
            if not found.made or found.moment != moment:
                found.value, found.moment, found.made = make(), moment, True
            value: T = found.value
            return value

    @property
    def nbytes(self) -> int:
        """Bytes of the cached values, as far as known."""
        return sum(_size(made) for made in self.values())

    def values(self) -> list[Any]:
        """The cached values."""
        with self._lock:
            return [reading.value for reading in self._kept.values() if reading.made]

    def clear(self) -> None:
        """Empty the cache."""
        with self._lock:
            self._kept.clear()


def _size(made: Any) -> int:
    if isinstance(made, pd.DataFrame):
        return int(made.memory_usage().sum())
    if isinstance(made, dict | list | tuple):
        parts = list(made.values() if isinstance(made, dict) else made)
        return 100 * len(parts) + sum(map(_size, parts[:MOST]))
    return int(getattr(made, "nbytes", 0))
