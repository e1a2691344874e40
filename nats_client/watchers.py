"""The callbacks of readers who wait for a change."""

import logging
import threading
from collections.abc import Callable
from functools import partial

_log = logging.getLogger(__name__)


class Watchers:
    """Callbacks that are called after each change, on the thread that made it. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Replaced by a new one with each change, because another thread may be iterating.
        self._callbacks: dict[object, Callable[[], None]] = {}

    def __bool__(self) -> bool:
        return bool(self._callbacks)

    def add(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` after each change from now on; it must return at once. Returns a function that ends
        this, and is a no-op the second time."""
        ticket = object()
        with self._lock:
            self._callbacks = {**self._callbacks, ticket: changed}
        return partial(self._remove, ticket)

    def notify(self) -> None:
        """Call each of them. One that raises is logged and not called again, so that it affects no other."""
        for ticket, changed in self._callbacks.items():
            try:
                changed()
            except Exception:
                self._remove(ticket)
                _log.exception("A watcher failed. It is not called again.")

    def _remove(self, ticket: object) -> None:
        with self._lock:
            self._callbacks = {
                each: changed for each, changed in self._callbacks.items() if each is not ticket
            }
