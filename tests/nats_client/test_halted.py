"""A stretch whose readers have stopped loading it costs nothing, reports what it holds, and can be resumed.

Slow, because it has to be seen that nothing is loaded for a while.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nats_client import Client, Feed, NamedFeed, Settings
from nats_client.feeds import wanted
from nats_client.feeds.archive import _ROWS, PART
from services.history.database import Message
from tests.archive import history
from tests.nats import NatsServer, numbered, running_server
from tests.throttled import FAST, Wire, throttled
from tests.waiting import until

COUNT = 8_000
SLOW = 500_000  # bytes per second
PAD = b"x" * 400


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server with a stream whose messages fill a stretch."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.add_stream("S", ["s.>"])
        server.began = pd.Timestamp.now("UTC").floor("ms")  # type: ignore[attr-defined]

        async def fill(nc: Any) -> None:
            for i in range(COUNT):
                await nc.publish("s.a", b'{"n": %d, "pad": "%s"}' % (i, PAD))
                if i % 100 == 99:
                    await nc.flush()
                    await asyncio.sleep(0.01)

        server.run(fill)
        until(lambda: server.run(lambda nc: nc.jetstream().stream_info("S")).state.messages == COUNT)
        time.sleep(1.2)  # a stretch that ended just now may still get messages
        server.ended = pd.Timestamp.now("UTC").ceil("ms")  # type: ignore[attr-defined]
        yield server


@pytest.fixture
def wire(known: NatsServer) -> Iterator[Wire]:
    """A slow wire to the server."""
    with throttled(known.port, SLOW) as wire:
        yield wire


@pytest.fixture
def client(wire: Wire) -> Iterator[Client]:
    """A client that connects through the wire."""
    with Client(Settings(url=wire.url)) as client:
        yield client


def loading(client: Client, server: NatsServer, **of: Any) -> Feed:
    """The feed of the stretch while it loads, with some of its rows."""
    start, end = server.began, server.ended  # type: ignore[attr-defined]
    feed = client.feed("S", look_back=end - start, end=end, **of)
    until(lambda: len(feed.snapshot()) > COUNT // 10)
    assert isinstance(feed, Feed)
    assert feed.is_loading
    return feed


def halted(feed: Feed | NamedFeed) -> int:
    """Wait until the feed is halted; return its number of rows."""
    until(lambda: feed.health.phase == "halted")
    until(lambda: "halted" in [event.what for event in feed.events])
    time.sleep(0.3)  # its consumer is removed meanwhile
    return len(feed.snapshot())


def sequences(feed: Feed | NamedFeed) -> list[int]:
    """The stream sequences of the feed's rows."""
    found: list[int] = feed.snapshot().seq.tolist()
    return found


def whole(feed: Feed | NamedFeed) -> None:
    """Wait until the feed has ended; check that it has all rows, each once, and no gap."""
    until(lambda: feed.health.ended)
    assert sequences(feed) == list(range(1, COUNT + 1))
    assert feed.snapshot().numbers("n").tolist() == list(range(COUNT))
    assert not feed.health.gaps
    assert feed.health.progress == 1


def test_stopped_and_resumed(known: NatsServer, wire: Wire, client: Client) -> None:
    """A stopped stretch keeps its rows, sends no request and holds no consumer. The rows it lacks are one gap
    up to its end, and wait() returns. It resumes where it was, also after a second stop, and has each row
    once."""
    feed = loading(client, known)
    feed.want("one")
    for _ in range(2):
        feed.stop("one")
        assert feed.wait(30)
        count = halted(feed)
        assert COUNT // 10 < count < COUNT
        assert not feed.is_loading
        until(lambda: known.run(lambda nc: nc.jetstream().stream_info("S")).state.consumer_count == 0)
        sent = len(wire.sent)
        time.sleep(3)  # a stream is checked every other second
        assert wire.sent[sent:] == []
        assert len(feed.snapshot()) == count
        health = feed.health
        (gap,) = health.gaps
        assert (gap.why, gap.count, gap.end) == ("unread", None, known.ended.value)  # type: ignore[attr-defined]
        assert gap.start == health.known_to(feed.now()) == int(feed.snapshot().received[-1])
        assert not health.ended
        assert 0 < health.progress < 1
        before = health.done
        feed.want("one")
        until(lambda: len(feed.snapshot()) > count + 100)
        assert feed.health.phase == "replaying"
        assert feed.health.done > before
    wire.rate = FAST
    whole(feed)


def test_two_readers(known: NatsServer, wire: Wire, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """If one reader stops, the stretch continues to load for the other. Once the other stops as well, or has
    left, the stretch halts. A third reader who wants it resumes it."""
    feed = loading(client, known)
    feed.want("one")
    feed.want("other")
    feed.stop("one")
    count = len(feed.snapshot())
    until(lambda: len(feed.snapshot()) > count + 100)
    assert feed.health.phase == "replaying"
    assert feed.health.gaps == ()
    feed.stop("other")
    count = halted(feed)
    feed.want("third")
    until(lambda: len(feed.snapshot()) > count)
    monkeypatch.setattr(wanted, "WANTED_FOR", 0.0)
    halted(feed)  # the third reader's wish has expired
    monkeypatch.undo()
    wire.rate = FAST
    feed.want("one")
    whole(feed)
    feed.stop("one")
    assert feed.health.ended
    time.sleep(0.2)
    assert feed.health.ended


def test_by_switches(known: NatsServer, wire: Wire, client: Client) -> None:
    """Calls of stop() and want() in quick succession lose and duplicate no row; the last call counts."""
    feed = loading(client, known, where="n % 2 = 0")
    for i in range(40):
        (feed.stop if i % 2 else feed.want)("one")
        time.sleep(0.01 * (i % 4))
    halted(feed)
    wire.rate = FAST
    feed.want("one")
    until(lambda: feed.health.ended)
    assert sequences(feed) == list(range(1, COUNT + 1, 2))
    assert feed.health.read == COUNT


def test_nothing_loaded(known: NatsServer, wire: Wire, client: Client) -> None:
    """If a stretch is stopped before its first row, all of it is one gap. A longer look-back has a longer
    gap."""
    start, end = known.began, known.ended  # type: ignore[attr-defined]
    assert client.wait(30)
    wire.rate = 0
    feed = client.feed("S", look_back=end - start, end=end)
    feed.stop("one")
    assert halted(feed) == 0
    (gap,) = feed.health.gaps
    assert (gap.start, gap.end) == (start.value, end.value)
    longer = client.feed("S", look_back=end - start + pd.Timedelta(hours=1), end=end)
    assert longer is feed
    (gap,) = feed.health.gaps
    assert gap.start == start.value - pd.Timedelta(hours=1).value
    assert feed.health.phase == "halted"
    wire.rate = FAST
    feed.want("one")
    whole(feed)


def test_played(known: NatsServer, wire: Wire, client: Client) -> None:
    """A playback whose viewer has stopped loading continues with the rows it has, even while another reader
    loads the stretch. Rows that are not loaded are a gap."""
    start, end = known.began, known.ended  # type: ignore[attr-defined]
    other = loading(client, known)
    other.want("other")
    playback = client.playback(start, end)
    feed = playback.feed("S", look_back=end - start)
    playback.play(600)
    feed.want("one")
    time.sleep(0.3)
    assert playback.moment == start.value
    feed.stop("one")
    until(lambda: not playback.playing)
    assert playback.moment == end.value
    assert other.is_loading
    assert feed.health.phase == "replaying"
    other.stop("other")
    count = halted(other)
    assert len(feed.snapshot()) == count
    assert [gap.why for gap in feed.health.gaps] == ["unread"]
    playback.jump(start.value)
    again = playback.feed("S", look_back=end - start)
    again.stop("one")
    assert len(again.snapshot()) == 0
    assert all(gap.end <= start.value for gap in again.health.gaps)  # no gap after the moment
    wire.rate = FAST
    again.want("one")
    whole(other)
    playback.jump(end.value)
    assert len(again.snapshot()) == COUNT


def test_while_the_archive_loads(server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stretch stopped while rows arrive from the archive has the newer part and a gap at its start, and
    sends no request to the archive. After it is resumed, it has each row once, and each message missing in
    the archive is counted once."""
    assert f"LIMIT {PART}" in _ROWS
    monkeypatch.setattr("nats_client.feeds.archive._ROWS", _ROWS.replace(f"LIMIT {PART}", "LIMIT 500"))
    count, kept = 8_000, 100  # every other one is archived

    async def begin(nc: Any) -> str:
        for _ in range(count):
            await nc.publish("s.a", b"")
        while (await nc.jetstream().stream_info("S")).state.messages < count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await nc.jetstream().purge_stream("S")  # a purge keeps the sequence
        return str(json.loads((await nc.request("$JS.API.STREAM.INFO.S", b"")).data)["created"])

    created = pd.Timestamp(server.run(begin))
    server.publish("s.a", *numbered(kept, count + 1))
    made = created.floor("us").to_pydatetime()
    payload = b'{"pad": "%s"}' % PAD
    old = [
        Message("S", made, seq, made + timedelta(microseconds=1000 + seq), "s.a", payload)
        for seq in range(1, count, 2)
    ]
    time.sleep(1.2)
    start, end = created.floor("ms"), pd.Timestamp.now("UTC").ceil("ms")
    with (
        history(server, tmp_path, old),
        throttled(server.port, SLOW) as wire,
        Client(Settings(url=wire.url)) as client,
    ):
        feed = client.feed("S", look_back=end - start, end=end, archive="history.query")
        assert isinstance(feed, Feed)
        phases = set()
        until(lambda: phases.add(feed.health.phase) or len(feed.snapshot()) > kept)
        assert "following" not in phases
        assert feed.health.phase == "replaying"
        feed.stop("one")
        assert kept < halted(feed) < count // 2 + kept
        held = sequences(feed)
        newer = list(range(count + 1, count + kept + 1))
        assert held == [*range(held[0], count, 2), *newer]
        sent = len(wire.sent)
        time.sleep(3)
        assert wire.sent[sent:] == []
        (gap,) = (gap for gap in feed.health.gaps if gap.why == "unread")
        assert (gap.start, gap.end) == (start.value, int(feed.snapshot().received[0]))
        assert not feed.health.ended
        wire.rate = FAST
        feed.want("one")
        until(lambda: feed.health.ended)
        assert sequences(feed) == [*range(1, count, 2), *newer]
        assert sum(gap.count or 0 for gap in feed.health.gaps) == count // 2
