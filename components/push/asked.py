"""Replies of the server that many viewers share. Pages wait for them; live elements do not."""

import contextlib
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from nats_client import Client, LookbackError
from nats_client.errors import NotPermitted

T = TypeVar("T")

MOST = 1000
"""Small replies to keep for one client; the least recently used one is dropped."""

_workers = ThreadPoolExecutor(4, thread_name_prefix="asking")
"""Separate from the threads of the live elements, which must not wait for a server that does not reply."""


class Asked(Generic[T]):
    """One request and its last reply. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at = float("-inf")
        self._tried = float("-inf")
        self._last: T | None = None

    def now(self, every: float, ask: Callable[[], T]) -> T:
        """The reply, at most `every` seconds old. If the last one is older, waits for `ask`, and raises what
        it raises."""
        with self._lock:
            return self._current(every, ask)

    @property
    def last(self) -> T | None:
        """The last reply; None before the first one."""
        return self._last

    def soon(self, every: float, ask: Callable[[], T]) -> T | None:
        """The last reply; None before the first one. If it is older than `every` seconds, `ask` is called in
        another thread. If that fails, the last reply stays, except after NotPermitted."""
        now = time.monotonic()
        if now - max(self._at, self._tried) >= every and not self._lock.locked():
            self._tried = now
            _workers.submit(self._try, every, ask)
        return self._last

    def _try(self, every: float, ask: Callable[[], T]) -> None:
        with contextlib.suppress(LookbackError), self._lock:
            self._current(every, ask)

    def _current(self, every: float, ask: Callable[[], T]) -> T:
        if self._last is None or time.monotonic() - self._at >= every:
            try:
                self._last, self._at = ask(), time.monotonic()
            except NotPermitted:
                self._last = None
                raise
        return self._last


_asked: WeakKeyDictionary[Client, dict[int, dict[Hashable, Asked[Any]]]] = WeakKeyDictionary()
_lock = threading.Lock()


def asked(client: Client, what: Hashable, most: int = MOST) -> Asked[Any]:
    """The request `what`, shared by all viewers of `client`, who have the same rights. Of the requests with
    an equal `most`, at most that many are kept."""
    with _lock:
        known = _asked.setdefault(client, {}).setdefault(most, {})
        found = known.pop(what, None) or Asked()
        known[what] = found
        while len(known) > most:
            del known[next(iter(known))]
        return found
