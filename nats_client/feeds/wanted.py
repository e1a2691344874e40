"""Records which readers of a feed request its whole stretch, and not only the loaded part."""

import threading
from collections.abc import Hashable
from time import monotonic

WANTED_FOR = 20.0
"""Seconds after which a reader's request expires unless it is repeated, because a reader that leaves does not
withdraw it. Longer than the longest refresh interval of a page."""


class Wanted:
    """The requests of a feed's readers. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by: dict[Hashable, float] = {}  # when each requested it last
        self._stopped: set[Hashable] = set()

    def want(self, reader: Hashable) -> None:
        """Record that `reader` requests the whole stretch."""
        with self._lock:
            self._stopped.discard(reader)
            self._by[reader] = monotonic()

    def stop(self, reader: Hashable) -> None:
        """Record that `reader` needs only the loaded part."""
        with self._lock:
            self._stopped.add(reader)
            self._by.pop(reader, None)

    @property
    def by_nobody(self) -> bool:
        """True if a reader has called stop() and no reader requests the whole stretch."""
        with self._lock:
            since = monotonic() - WANTED_FOR
            self._by = {reader: said for reader, said in self._by.items() if said >= since}
            return bool(self._stopped) and not self._by
