"""A compressor for the messages of one websocket that releases its memory when idle."""

import time
from collections.abc import Callable
from typing import Protocol
from weakref import WeakSet

KEPT = 3.0
"""Seconds without a message after which the memory is released. A page that runs again each second or two
keeps it, and with it the earlier messages, which make the next one shorter."""
AT_FIRST = 1.0
"""Seconds without a message after which a new compressor's memory is released, until messages have followed
each other for KEPT seconds. Most pages send messages only at first, and many viewers may arrive at once."""


class Deflate(Protocol):
    """The interface of zlib's compressor."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self, mode: int, /) -> bytes: ...


class Compressor:
    """Wraps a compressor that exists only while messages follow each other. It takes 40 KB, and a page of
    live elements needs it for its first seconds only. A browser can read the output of a new compressor,
    because it does not refer to earlier messages. For the web server's loop."""

    def __init__(self, make: Callable[[], Deflate]) -> None:
        self._make = make
        self._made: Deflate | None = None
        self._since = self._used = float("-inf")

    def compress(self, data: bytes, /) -> bytes:
        """Compress `data`; see zlib."""
        now = time.monotonic()
        if now - self._used > KEPT:
            self._since = now
        self._used = now
        if self._made is None:
            self._made = self._make()
            _made.add(self)
        return self._made.compress(data)

    def flush(self, mode: int, /) -> bytes:
        """Return the rest of what was compressed; see zlib."""
        assert self._made is not None
        return self._made.flush(mode)

    def rest(self) -> None:
        """Release the memory if it has not been used recently."""
        kept = KEPT if self._used - self._since > KEPT else AT_FIRST
        if time.monotonic() - self._used > kept:
            self._made = None
            _made.discard(self)


_made: WeakSet[Compressor] = WeakSet()


def release_unused() -> None:
    """Release the memory of all idle compressors. Call it regularly."""
    for each in list(_made):
        each.rest()
