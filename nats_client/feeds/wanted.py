"""Who of a feed's readers wants more of its stretch than is loaded."""

import threading
from collections.abc import Hashable
from time import monotonic

WANTED_FOR = 20.0
"""Seconds for which a reader's wish counts unless it is repeated: one who has left does not say so. It is
longer than the longest refresh interval of a page."""


class Wanted:
    """The wishes of the readers. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by: dict[Hashable, float] = {}  # when each said so last
        self._stopped: set[Hashable] = set()

    def want(self, reader: Hashable) -> None:
        """`reader` wants all of it."""
        with self._lock:
            self._stopped.discard(reader)
            self._by[reader] = monotonic()

    def stop(self, reader: Hashable) -> None:
        """`reader` wants no more of it."""
        with self._lock:
            self._stopped.add(reader)
            self._by.pop(reader, None)

    @property
    def by_nobody(self) -> bool:
        """True if somebody has stopped it and nobody else wants it."""
        with self._lock:
            since = monotonic() - WANTED_FOR
            self._by = {reader: said for reader, said in self._by.items() if said >= since}
            return bool(self._stopped) and not self._by
