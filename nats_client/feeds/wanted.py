"""Who of a feed's readers wants more of its stretch than is loaded."""

from collections.abc import Hashable
from time import monotonic

WANTED_FOR = 15.0
"""Seconds for which a reader's wish counts unless it is repeated: one who has left does not say so."""


class Wanted:
    """The wishes of the readers. Any thread may call it."""

    def __init__(self) -> None:
        self._by: dict[Hashable, float] = {}  # when each said so last
        self._stopped: set[Hashable] = set()

    def want(self, reader: Hashable) -> None:
        """`reader` wants all of it."""
        self._stopped.discard(reader)
        self._by[reader] = monotonic()

    def stop(self, reader: Hashable) -> None:
        """`reader` wants no more of it."""
        self._stopped.add(reader)
        self._by.pop(reader, None)

    @property
    def by_nobody(self) -> bool:
        """True if somebody has stopped it and nobody else wants it."""
        since = monotonic() - WANTED_FOR
        return bool(self._stopped) and all(said < since for said in list(self._by.values()))
