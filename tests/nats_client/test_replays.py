"""Replays beside live feeds: a large replay never delays live data, and old data is never called live.

Slow, because replays have to last long enough to delay something beside them.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nats_client import Client, Feed, NamedFeed, Settings
from tests.nats import NatsServer, running_server
from tests.publisher import Publisher
from tests.waiting import until


def store(server: NatsServer, subjects: list[str], count: int, size: int = 0) -> None:
    """Store `count` numbered messages of at least `size` bytes in a stream BIG, to each subject in turn."""

    async def work(nc: Any) -> None:
        await nc.jetstream().add_stream(name="BIG", subjects=["big.>"])
        pad = "x" * size
        for i in range(count):
            await nc.publish(subjects[i % len(subjects)], json.dumps({"n": i, "pad": pad}).encode())
            if i % 500 == 499:
                await nc.flush()
        while (await nc.jetstream().stream_info("BIG")).state.messages < count:
            pass

    server.run(work)


class Plain:
    """Publishes numbered messages to a plain subject, 200 a second, until the block ends."""

    def __init__(self, server: NatsServer, subject: str) -> None:
        self.count = 0
        self._server, self._subject = server, subject
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: server.run(self._publish))

    async def _publish(self, nc: Any) -> None:
        while not self._ended.is_set():
            await nc.publish(self._subject, b'{"n":%d}' % self.count)
            await nc.flush()
            self.count += 1
            await asyncio.sleep(0.005)

    def __enter__(self) -> "Plain":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


@contextmanager
def watched(client: Client, live: Feed | NamedFeed) -> Iterator[list[str]]:
    """Each change in the status of the connection and the phase of the live feed, while the block runs."""
    said: list[str] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            state = f"{client.state.status}, {live.health.phase}"
            if not said or said[-1] != state:
                said.append(state)
            time.sleep(0.005)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield said
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("config", ["", "max_payload: 64KB\nmax_pending: 256KB"])
def test_replays_stop_nobody(tmp_path: Path, config: str) -> None:
    """Eight replays at once lose no message of a plain subject and leave a live feed live, even if the server
    buffers little. Each replay is complete."""
    with running_server(tmp_path, config) as server, Client(Settings(url=server.url)) as client:
        subjects = [f"big.{i}" for i in range(8)]
        store(server, subjects, 80_000, 600)
        server.add_stream("S", ["s.>"])
        live, plain = client.feed("S"), client.feed(None, "p.a")
        assert live.wait(30)
        assert plain.wait(30)
        with Publisher([server.url], "s.live", rate=50) as publisher, Plain(server, "p.a") as sent:
            until(lambda: publisher.count > 20 and sent.count > 20)
            with watched(client, live) as said:
                feeds = [client.feed("BIG", subject, look_back="PT1H") for subject in subjects]
                assert all(feed.wait(120) for feed in feeds)
            until(lambda: publisher.count > 60 and sent.count > 60)
        assert [feed.health.rows for feed in feeds] == [10_000] * 8
        assert {feed.health.phase for feed in feeds} == {"following"}
        assert said == ["connected, following"]
        until(lambda: len(plain.snapshot()) >= sent.count)
        assert plain.snapshot().frame()["n"].tolist() == list(range(sent.count))
        until(lambda: len(live.snapshot()) >= publisher.count)
        assert client.state.status == "connected"


def test_short_replay_is_not_behind_a_long_one(server: NatsServer, client: Client) -> None:
    """A short replay that begins during a long one ends before it."""
    store(server, ["big.a"], 200_000, 300)
    server.publish("s.a", *[b'{"pad":"%s"}' % (b"x" * 1000)] * 2000)
    long = client.feed("BIG", look_back="PT1H")
    until(lambda: long.health.done > 1000)
    short = client.feed("S", look_back="PT1H")
    assert short.wait(60)
    assert long.health.phase == "replaying"
    assert long.wait(120)
    assert len(long.snapshot()) == 200_000
    assert long.health.restarts == 0


@pytest.mark.parametrize("subject", [None, "big.b"])
def test_replay_begins_where_the_window_has_room(server: NatsServer, subject: str | None) -> None:
    """If a stream holds more than a window keeps, the older messages are not read, and are reported as
    dropped."""
    store(server, ["big.a", "big.b"], 200_000)
    stored = 200_000 if subject is None else 100_000
    with Client(Settings(url=server.url, feed_rows=20_000)) as client:
        feed = client.feed("BIG", subject, look_back="PT1H")
        assert feed.wait(60)
        health = feed.health
        assert 18_000 <= health.rows <= 20_000
        assert health.done <= 20_000
        assert health.dropped == stored - health.rows
        newest = feed.snapshot().frame()["n"].tolist()
        last = 199_999
        step = 1 if subject is None else 2
        assert newest == list(range(last - step * (len(newest) - 1), last + 1, step))
        assert health.gaps == ()
        server.publish("big.b", b'{"n":-1}')
        until(lambda: feed.snapshot().frame()["n"].iloc[-1] == -1)


def test_replay_goes_on_where_rows_turn_out_large(server: NatsServer) -> None:
    """How many rows fit below the ceiling in bytes is known only after the first rows. The replay then skips
    ahead to where the rest fits."""
    store(server, ["big.a"], 600_000)
    with Client(Settings(url=server.url, feed_memory=8 * 1024 * 1024)) as client:
        feed = client.feed("BIG", look_back="PT1H")
        assert feed.wait(120)
        rows = len(feed.snapshot())
        assert feed.health.done < 500_000
        assert feed.health.dropped == 600_000 - rows
        assert feed.snapshot().frame()["n"].tolist() == list(range(600_000 - rows, 600_000))


def test_progress_never_goes_back(server: NatsServer, client: Client) -> None:
    """The progress of a replay never decreases, even if the server is killed twice."""
    store(server, ["big.a"], 300_000, 200)
    feed = client.feed("BIG", look_back="PT1H")
    seen: list[float] = []
    for share in (0.1, 0.4):
        until(lambda: seen.append(feed.health.progress) or seen[-1] > share)
        server.kill()
        server.start()
    until(lambda: seen.append(feed.health.progress) or feed.health.phase == "following", 60)
    assert seen == sorted(seen)
    assert len(feed.snapshot()) == 300_000


def test_longer_look_back_of_another_is_nothing_to_a_reader(server: NatsServer, client: Client) -> None:
    """While older rows are fetched for one reader, the feed stays live for readers with a shorter
    look-back."""
    store(server, ["big.a"], 300_000, 200)
    time.sleep(2.5)
    server.publish("big.a", b'{"n":-1}')
    feed, short = client.feed("BIG", look_back="PT1S"), pd.Timedelta("1s")
    assert feed.wait(30)
    client.feed("BIG", look_back="PT1H")
    phases = set()
    while feed.health.phase != "following":
        phases.add(feed.health_of(short).phase)
        assert feed.wait(0, short)
        time.sleep(0.005)
    assert phases == {"following"}
    assert feed.health.rows == 300_001


def test_what_is_live_is_not_old(server: NatsServer, client: Client) -> None:
    """A feed whose event loop is blocked soon stops being reported as live, and is live again once the loop
    runs."""
    server.publish("s.a", b'{"n":1}')
    feed = client.feed("S")
    assert feed.wait(30)
    assert feed.health.phase == "following"
    moves = threading.Event()
    client._loop.call_soon_threadsafe(moves.wait, 60)
    try:
        until(lambda: feed.health.phase == "reconnecting")
        assert "Nothing received" in str(feed.health.why)
    finally:
        moves.set()
    until(lambda: feed.health.phase == "following")
