"""Publishes numbered messages continuously, each until it is acknowledged, and stored once by its message
ID."""

import asyncio
import contextlib
import itertools
import json
import secrets
import threading
import time
from collections.abc import Sequence

import nats.errors
from nats.aio.client import Client

from tests.nats import NatsPy


class Publisher:
    """A context manager that publishes to `subjects` in turn, in its own thread, at most `rate` messages per
    second."""

    def __init__(self, urls: Sequence[str], *subjects: str, rate: float = 100) -> None:
        """The default subject is "s.live"."""
        self.count = 0
        """Messages acknowledged so far; their payloads carry the numbers below this."""
        self._times: list[float] = []
        # With the IDs of another publisher, a stream would drop the first messages as duplicates.
        self._id = secrets.token_hex(4)
        self._urls = list(urls)
        self._subjects = subjects or ("s.live",)
        self._pause = 1 / rate
        self._stop = threading.Event()
        self._free = threading.Event()
        self._free.set()
        self._resting = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._publish()), daemon=True)

    def __enter__(self) -> "Publisher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._free.set()
        self._thread.join()

    def acknowledged(self, number: int) -> float | None:
        """The monotonic time at which message `number` was acknowledged; None if it was not yet."""
        return self._times[number] if number < self.count else None

    def pause(self) -> None:
        """Stop publishing until `resume`. Returns when no message is under way."""
        self._free.clear()
        assert self._resting.wait(60), "the publisher could not finish a message within a minute"

    def resume(self) -> None:
        """Continue publishing."""
        self._resting.clear()
        self._free.set()

    async def _publish(self) -> None:
        for url in itertools.cycle(self._urls):
            # One client per connection, because nats-py leaves sockets open when it reconnects.
            client = NatsPy()
            try:
                await client.connect(
                    [url], allow_reconnect=False, connect_timeout=1, ping_interval=1, error_cb=_quiet
                )
                await self._publish_to(client)
                return
            except (nats.errors.Error, TimeoutError, OSError):
                await asyncio.sleep(0.05)
            finally:
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(client.close(), 1)
            if self._stop.is_set():
                return
            if not self._free.is_set():
                self._resting.set()

    async def _publish_to(self, client: Client) -> None:
        js = client.jetstream(timeout=1)
        while not self._stop.is_set():
            if not self._free.is_set():
                self._resting.set()
                await asyncio.sleep(0.02)
                continue
            payload = json.dumps({"n": self.count}).encode()
            headers = {"Nats-Msg-Id": f"{self._id} {self.count}"}
            try:
                await js.publish(self._subjects[self.count % len(self._subjects)], payload, headers=headers)
                self._times.append(time.monotonic())
                self.count += 1
                await asyncio.sleep(self._pause)
            except (nats.errors.Error, TimeoutError, OSError):
                if not client.is_connected:
                    raise
                await asyncio.sleep(0.05)


async def _quiet(_: Exception) -> None:
    pass
