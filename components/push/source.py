"""The part of a live element that all its viewers share. It is kept current in a worker thread, and only
while it has watchers."""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from nats_client import LookbackError

FASTEST = 0.04
"""The least number of seconds between two updates of a source, unless it sets another."""
SHARE = 4
"""A source pauses for this many times the CPU time of its last update, and at least for the update's whole
duration, so that a slow source leaves time to others."""
LONG = 0.02
"""Seconds of CPU time above which an update counts as slow."""
BEAT = 1.0
"""Seconds between two updates of a source without new messages: its rows still leave the look-back."""

_log = logging.getLogger("lookback")
_workers = ThreadPoolExecutor(4, thread_name_prefix="push")
"""Several threads, since some updates wait for the server. All run outside the web server's loop."""
_slow = ThreadPoolExecutor(2, thread_name_prefix="push slow")
"""For slow updates: one viewer's page may have many slow sources, and other viewers must not wait for
them."""
_new = ThreadPoolExecutor(2, thread_name_prefix="push new")
"""For first updates, whose duration is unknown: they may have to process many rows."""


class Source(ABC):
    """The part of a live element that does not depend on the viewer. Call its methods on the web server's
    loop, except `update` and `listen`."""

    every = FASTEST
    """The least number of seconds between two updates."""

    def __init__(self) -> None:
        self._watchers: dict[object, tuple[Callable[[], None], float]] = {}
        self._stop: Callable[[], None] | None = None
        self._stale = True
        self._woken = False
        self._job: asyncio.Task[None] | None = None
        self._updated = -BEAT
        self._rest = 0.0
        self._cost: float | None = None  # CPU time of the last update, seconds
        self._failed = ""
        self.ready = False
        """True after the first update."""

    @abstractmethod
    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed`, from any thread, when there is new data. Returns a function that ends this."""

    @abstractmethod
    def update(self) -> None:
        """Bring the source up to date. Runs in a worker thread, one call at a time, and may take long."""

    def rest(self) -> None:  # noqa: B027 - most have nothing to release
        """Release large data that the next update can recreate. Called when the last watcher has left."""

    def watch(self, who: object, wake: Callable[[], None], pace: float) -> None:
        """Call `wake` after each update, until unwatch(). `pace`: seconds between two updates that `who` can
        use."""
        self._watchers[who] = wake, pace
        if self._stop is None:
            loop = asyncio.get_running_loop()

            def changed() -> None:
                if not self._woken:
                    self._woken = True
                    loop.call_soon_threadsafe(self._changed)

            self._woken = False
            self._stop = self.listen(changed)
            _watched.add(self)
            self._changed()
        elif self.ready:
            wake()

    def unwatch(self, who: object) -> None:
        """End watch(). Without watchers a source does nothing."""
        self._watchers.pop(who, None)
        if not self._watchers and self._stop is not None:
            self._stop()
            self._stop = None
            _watched.discard(self)
            self.rest()

    def beat(self) -> None:
        """Update the source if its last update is about BEAT seconds ago."""
        if time.monotonic() - self._updated >= BEAT * 0.9:
            self._changed()

    def _changed(self) -> None:
        self._woken, self._stale = False, True
        if self._job is None and self._stop is not None:
            self._job = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._stale and self._watchers:
                pace = min(pace for _, pace in self._watchers.values())
                rest = max(self._rest, self.every if pace < BEAT else BEAT / 4)
                if (left := self._updated + rest - time.monotonic()) > 0:
                    await asyncio.sleep(left)
                self._stale = False
                rest = await asyncio.get_running_loop().run_in_executor(self._lane(), self._update)
                start = self._updated = time.monotonic()
                self.ready = True
                for who, (wake, _) in list(self._watchers.items()):
                    try:
                        wake()
                    except Exception:  # an error for one viewer must not affect the others
                        self._watchers.pop(who, None)
                        _log.exception("A live element stands still.")
                # Twice, so that the loop has as much time for others as the calls of `wake` took.
                self._rest = rest + 2 * (time.monotonic() - start)
        finally:
            self._job = None
            if not self._watchers:
                self.rest()  # the last watcher left during the update

    def _lane(self) -> ThreadPoolExecutor:
        if self._cost is None:
            return _new
        return _slow if self._cost > LONG else _workers

    def _update(self) -> float:
        """Bring the source up to date. Returns for how many seconds it must pause. SHARE applies to CPU time
        only, because an update that waits for other threads takes nothing from them."""
        start, spent = time.monotonic(), time.thread_time()
        try:
            self.update()
            self._failed = ""
        except Exception as error:
            # The viewer sees the error at the page's next rerun.
            if (said := repr(error)) != self._failed:
                level = logging.INFO if isinstance(error, LookbackError) else logging.ERROR
                _log.log(level, "A live element stands still: %s", said, exc_info=level == logging.ERROR)
            self._failed = said
        self._cost = time.thread_time() - spent
        return max(time.monotonic() - start, SHARE * self._cost)


_watched: set[Source] = set()


def beat() -> None:
    """Call once per BEAT, on the web server's loop."""
    for source in list(_watched):
        source.beat()


async def elsewhere(call: Callable[[], Any]) -> Any:
    """The result of `call`, computed in a worker thread."""
    return await asyncio.get_running_loop().run_in_executor(_workers, call)


class Element(Protocol):
    """A live element on one viewer's page."""

    @property
    def source(self) -> Source: ...

    def next(self, held: Any) -> tuple[Any, bytes] | None:
        """The present state, and the message that brings a browser that holds `held` (None: nothing) to it.
        None if there is nothing to send."""

    def is_quick(self, held: Any) -> bool:
        """True if next(held) takes less than a millisecond or two."""

    def receive(self, message: dict[str, Any]) -> None:
        """Receive an action of the viewer. `message` is untrusted."""

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer a question of the viewer with a JSON object. `question` is untrusted. Runs in a worker
        thread, and may wait for the server. Raises LookbackError, whose text is shown to the viewer."""
