"""Callbacks that are called after each change, with several threads and one that fails."""

import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from nats_client import Client, Settings
from nats_client.watchers import Watchers
from tests.nats import NatsServer
from tests.waiting import until


@pytest.fixture
def many_switches() -> Iterator[None]:
    """Threads take turns as often as possible."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_threads_lose_no_callback(many_switches: None) -> None:
    """If several threads add and remove callbacks at the same time, exactly those that were not removed are
    called."""
    watchers, called = Watchers(), Counter[int]()
    start = threading.Barrier(4)

    def work(thread: int) -> None:
        start.wait(30)
        for number in range(2000):
            name = thread * 10_000 + number
            end = watchers.add(lambda name=name: called.update([name]))  # type: ignore[misc]
            if number % 50:
                end()
                end()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    watchers.notify()
    assert sorted(called.elements()) == [
        thread * 10_000 + n for thread in range(4) for n in range(0, 2000, 50)
    ]


def test_the_same_callback_twice() -> None:
    """A callback that was added twice is called until both are removed."""
    watchers, called = Watchers(), Counter[str]()
    ends = [watchers.add(lambda: called.update(["it"])) for _ in range(2)]
    for end in ends:
        watchers.notify()
        end()
    watchers.notify()
    assert called["it"] == 3
    assert not watchers


def test_a_callback_that_fails(server: NatsServer, caplog: pytest.LogCaptureFixture) -> None:
    """A callback that raises is logged once and not called again. The feed keeps reading, and the callbacks
    of other readers are called."""
    server.add_stream("WATCHED", ["watched"])
    failed, called = [], []

    def fails() -> None:
        failed.append(1)
        raise ValueError("a reader's mistake")

    with Client(Settings(url=server.url)) as client:
        feed = client.feed("WATCHED")
        assert feed.wait(30)
        feed.watch(fails)
        feed.watch(lambda: called.append(len(feed.snapshot())))
        for number in range(3):
            server.publish("watched", json.dumps({"n": number}).encode())
            until(lambda number=number: called[-1:] == [number + 1])  # type: ignore[misc]
        assert feed.health.restarts == 0
    assert len(failed) == 1
    assert [record.getMessage() for record in caplog.records if record.exc_info] == [
        "A watcher failed. It is not called again."
    ]
