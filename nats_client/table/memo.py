"""A memo: a cache of values computed from the rows of a feed, shared by all viewers."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import pandas as pd

T = TypeVar("T")

MOST = 50
"""Values of one kind cached per feed; the least recently used one is dropped."""


class _Entry:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.made = False
        self.version: object = None
        self.value: Any = None


class Memo:
    """Caches one value per key, and computes it again when another version is requested. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[object, _Entry] = {}

    def once(self, key: object, version: object, make: Callable[[], T]) -> T:
        """The cached value of `key`. Calls `make` if there is none, or if `version` differs from that of the
        last call. A version is, for example, the snapshot's version. Concurrent callers wait for the same
        value. Treat the value as read-only."""
        with self._lock:
            entry = self._entries.pop(key, None) or _Entry()
            self._entries[key] = entry
            while len(self._entries) > MOST:
                del self._entries[next(iter(self._entries))]
        with entry.lock:  # per key, so that a slow `make` does not block other keys
            if not entry.made or entry.version != version:
                entry.value, entry.version, entry.made = make(), version, True
            value: T = entry.value
            return value

    @property
    def nbytes(self) -> int:
        """Bytes of the cached values, as far as known."""
        return sum(_size(value) for value in self.values())

    def values(self) -> list[Any]:
        """The cached values."""
        with self._lock:
            return [entry.value for entry in self._entries.values() if entry.made]

    def clear(self) -> None:
        """Empty the cache."""
        with self._lock:
            self._entries.clear()


def _size(value: Any) -> int:
    if isinstance(value, pd.DataFrame):
        return int(value.memory_usage().sum())
    if isinstance(value, dict | list | tuple):
        parts = list(value.values() if isinstance(value, dict) else value)
        return 100 * len(parts) + sum(map(_size, parts[:MOST]))
    return int(getattr(value, "nbytes", 0))
