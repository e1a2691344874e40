"""What was made of the rows of a feed: worked out once for all its viewers."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

MOST = 50
"""Readings of one kind that are kept of a feed; the one that nobody has asked for the longest goes."""


class Readings:
    """Keeps what was worked out, each until it is asked for at another moment. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[object, tuple[object, Any]] = {}

    def once(self, key: object, moment: object, make: Callable[[], T]) -> T:
        """What `make` gives, and gave already where `key` was last asked for at the same `moment`, such as
        the version of a snapshot. Who asks meanwhile waits for it. Treat it as read-only."""
        with self._lock:
            found = self._kept.pop(key, None)
            if found is None or found[0] != moment:
                found = moment, make()
            self._kept[key] = found
            while len(self._kept) > MOST:
                del self._kept[next(iter(self._kept))]
            made: T = found[1]
            return made
