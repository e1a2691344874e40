"""What was made of the rows of a feed: worked out once for all its viewers."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import pandas as pd

T = TypeVar("T")

MOST = 50
"""Readings of one kind that are kept of a feed; the one that nobody has asked for the longest goes."""


class _Reading:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.made = False
        self.moment: object = None
        self.value: Any = None


class Readings:
    """Keeps what was worked out, each until it is asked for at another moment. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[object, _Reading] = {}

    def once(self, key: object, moment: object, make: Callable[[], T]) -> T:
        """What `make` gives, and gave already where `key` was last asked for at the same `moment`, such as
        the version of a snapshot. Who asks meanwhile waits for it. Treat it as read-only."""
        with self._lock:
            found = self._kept.pop(key, None) or _Reading()
            self._kept[key] = found
            while len(self._kept) > MOST:
                del self._kept[next(iter(self._kept))]
        with found.lock:  # of this key alone: what takes long holds up nobody who asks for something else
            if not found.made or found.moment != moment:
                found.value, found.moment, found.made = make(), moment, True
            value: T = found.value
            return value

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept, as far as it says so."""
        return sum(_size(made) for made in self.values())

    def values(self) -> list[Any]:
        """What is kept."""
        with self._lock:
            return [reading.value for reading in self._kept.values() if reading.made]

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._kept.clear()


def _size(made: Any) -> int:
    if isinstance(made, pd.DataFrame):
        return int(made.memory_usage().sum())
    if isinstance(made, dict | list | tuple):
        parts = list(made.values() if isinstance(made, dict) else made)
        return 100 * len(parts) + sum(map(_size, parts[:MOST]))
    return int(getattr(made, "nbytes", 0))
