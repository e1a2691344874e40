"""A feed of a stretch in the past: exactly the messages stored in it, and no consumer afterwards."""

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nats_client import Client, Feed, LookbackError, NamedFeed, Settings
from nats_client.errors import ClosedError
from tests.nats import NatsServer, numbered, running_server
from tests.waiting import until

FILTERS = [None, "s.a", "s.c"]


@dataclass
class Known:
    """A server with a stream whose content is known: subject, number and storage time of each message."""

    server: NatsServer
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)

    def publish(self, stream: str, *subjects: str) -> None:
        """Publish one message after another, with pauses between groups of them."""

        async def work(nc: Any) -> list[dict[str, Any]]:
            js, found = nc.jetstream(), []
            for i, subject in enumerate(subjects):
                ack = await js.publish(subject, json.dumps({"n": i}).encode())
                answer = await nc.request(f"$JS.API.STREAM.MSG.GET.{stream}", b'{"seq": %d}' % ack.seq)
                message = json.loads(answer.data)["message"]
                when = pd.Timestamp(message["time"])
                found.append({"time": when, "seq": ack.seq, "n": i, "subject": subject, "stream": stream})
                if i % 20 == 19:
                    await asyncio.sleep(0.15)
            return found

        self.rows = pd.concat([self.rows, pd.DataFrame(self.server.run(work))], ignore_index=True)

    def between(self, stream: str, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """The messages stored from `start` to before `end`."""
        rows = self.rows[self.rows["stream"] == stream]
        return rows[(rows["time"] >= start) & (rows["time"] < end)]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Known]:
    """A server with such a stream."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        for name in "ST":
            server.add_stream(name, [f"{name.lower()}.>"])
        known = Known(server)
        known.publish("S", *[f"s.{'ab'[i % 2]}" for i in range(160)], *["s.c"] * 5)
        yield known


@pytest.fixture
def client(known: Known) -> Iterator[Client]:
    """A client of that server."""
    with Client(Settings(url=known.server.url)) as client:
        yield client


def opened(client: Client, start: pd.Timestamp, end: pd.Timestamp, *of: str | None) -> Feed | NamedFeed:
    """The feed of a stretch, read to its end."""
    feed = client.feed(*(of or ("S",)), look_back=end - start, end=end)
    until(lambda: feed.health.ended)
    return feed


def sequences(feed: Feed | NamedFeed) -> list[int]:
    """The stream sequences of the feed's rows."""
    found: list[int] = feed.snapshot().seq.tolist()
    return found


def consumers(server: NatsServer, stream: str = "S") -> int:
    """How many consumers the stream has."""
    found: int = server.run(lambda nc: nc.jetstream().stream_info(stream)).state.consumer_count
    return found


def cut(rows: pd.DataFrame, share: float) -> pd.Timestamp:
    """The time at this share of the rows' time span, rounded down to a millisecond."""
    first, last = rows["time"].iloc[0], rows["time"].iloc[-1]
    return pd.Timestamp(first + (last - first) * share).floor("ms")


@pytest.mark.parametrize("subject", FILTERS)
def test_rows_of_a_stretch(known: Known, client: Client, subject: str | None) -> None:
    """The rows are exactly those stored in the stretch that match the filter, and the stream has no consumer
    left. This holds for a stretch in the middle, before the first message, and with all messages."""
    hour = pd.Timedelta(hours=1)
    first, last = known.rows["time"].iloc[0].floor("ms"), known.rows["time"].iloc[-1].ceil("ms")
    for start, end in (
        (cut(known.rows, 0.3), cut(known.rows, 0.7)),
        (cut(known.rows, 0.5), cut(known.rows, 0.52)),
        (first - hour, cut(known.rows, 0.4)),
        (first - hour, last + pd.Timedelta(milliseconds=1)),
        (first - 2 * hour, first - hour),
    ):
        feed = opened(client, start, end, "S", subject)
        rows = known.between("S", start, end)
        rows = rows if subject is None else rows[rows["subject"] == subject]
        frame = feed.frame()
        assert feed.snapshot().seq.tolist() == rows["seq"].tolist()
        assert feed.now() == end.value
        assert not feed.health.gaps
        assert feed.health.progress == 1
        if len(rows):
            assert frame["n"].tolist() == rows["n"].tolist()
            assert frame.index.tolist() == rows["time"].tolist()
            assert frame["_subject"].tolist() == rows["subject"].tolist()
    until(lambda: consumers(known.server) == 0)


def test_shared_and_longer(known: Known, client: Client) -> None:
    """All readers of the same end share one feed; a longer look-back fetches only what is older."""
    end = cut(known.rows, 0.8)
    feed = opened(client, cut(known.rows, 0.6), end)
    assert opened(client, cut(known.rows, 0.6), end) is feed
    before, generation = feed.snapshot(), feed.snapshot().generation
    wider = opened(client, cut(known.rows, 0.2), end)
    assert wider is feed
    until(lambda: sequences(feed) == known.between("S", cut(known.rows, 0.2), end)["seq"].tolist())
    assert feed.snapshot().generation > generation
    assert set(before.seq) < set(sequences(feed))
    assert feed.health.restarts == 0
    other = opened(client, cut(known.rows, 0.2), cut(known.rows, 0.4))
    assert other is not feed
    live = client.feed("S", look_back="PT1H")
    assert live.wait(30)
    assert sequences(live) == known.rows[known.rows["stream"] == "S"]["seq"].tolist()
    assert live.health.ended is False


def test_an_end_that_is_still_to_come(known: Known, client: Client) -> None:
    """Until its end is reached, a stretch follows its stream like a live feed; then it ends, and has no
    consumer."""
    known.publish("T", "t.a", "t.a")
    end = pd.Timestamp.now("UTC") + pd.Timedelta(seconds=3)
    feed = client.feed("T", look_back="PT1H", end=end)
    assert feed.wait(30)
    assert sequences(feed) == [1, 2]
    assert feed.now() < end.value
    assert not feed.health.ended
    while time.time_ns() < end.value + 500_000_000:
        known.publish("T", "t.a")
    until(lambda: feed.health.ended)
    known.publish("T", "t.a")
    expected = known.between("T", end - pd.Timedelta(hours=1), end.floor("ms"))["seq"].tolist()
    assert len(expected) > 2
    assert sequences(feed) == expected
    until(lambda: consumers(known.server, "T") == 0)


def test_what_leaves_the_stream(server: NatsServer, tmp_path: Path) -> None:
    """Messages purged or deleted leave a stretch that has been read, and are a gap. A feed opened afterwards
    has the same rows, and the same gap inside the stretch. A restart of the server costs no row, and a
    recreated stream leaves no row of the previous one."""
    known = Known(server)
    known.publish("S", *["s.a"] * 60)
    start, end = cut(known.rows, 0), cut(known.rows, 0.99)
    with Client(Settings(url=server.url)) as client:
        feed = opened(client, start, end)
        held = sequences(feed)
        server.kill()
        until(lambda: client.state.status != "connected")
        server.start()
        until(lambda: client.state.status == "connected" and feed.health.ended)
        assert sequences(feed) == held

        async def delete(nc: Any) -> None:
            for seq in range(20, 30):
                await nc.jetstream().delete_msg("S", seq)
            await nc.jetstream().purge_stream("S", seq=10)

        server.run(delete)
        left = [seq for seq in held if seq >= 10 and not 20 <= seq < 30]
        until(lambda: sequences(feed) == left)
        assert sum(gap.count or 0 for gap in feed.health.gaps) == len(held) - len(left)
        with Client(Settings(url=server.url)) as second:
            later = opened(second, start, end)
            assert sequences(later) == left
            assert sum(gap.count or 0 for gap in later.health.gaps) == 10
            until(lambda: later.health.begins is not None)
            assert later.health.earlier == 9

        async def recreate(nc: Any) -> None:
            await nc.jetstream().delete_stream("S")
            await nc.jetstream().add_stream(name="S", subjects=["s.>"])

        server.run(recreate)
        server.publish("s.a", *numbered(5))
        until(lambda: not sequences(feed))
        until(lambda: feed.health.ended and feed.health.recreated == 1)
        assert not feed.health.gaps


def test_costs_the_stretch(server: NatsServer) -> None:
    """Messages from after a stretch are not read, nor counted in its progress. A stretch with more rows than
    fit keeps the newest."""

    async def fill(nc: Any) -> int:
        for i in range(3000):
            await nc.publish("s.a", b'{"n": %d}' % i)
        await nc.flush()
        await asyncio.sleep(0.3)
        end = time.time_ns()
        await asyncio.sleep(0.3)
        for i in range(30_000):
            await nc.publish("s.a", b'{"n": %d}' % i)
        await nc.flush()
        await asyncio.sleep(1.5)  # a stretch that ended just now may still get messages
        return end

    end = pd.Timestamp(server.run(fill), tz="UTC")
    with Client(Settings(url=server.url)) as client:
        feed = opened(client, end - pd.Timedelta(minutes=5), end)
        assert sequences(feed) == list(range(1, 3001))
        assert feed.health.done <= 3001
        assert feed.health.pending == 0
    with Client(Settings(url=server.url, feed_rows=1000)) as client:
        feed = opened(client, end - pd.Timedelta(minutes=5), end)
        held = sequences(feed)
        assert 900 < len(held) <= 1000
        assert held == list(range(3001 - len(held), 3001))
        assert feed.health.dropped == 3000 - len(held)


def test_a_work_queue(server: NatsServer) -> None:
    """A stream that can only be read by sequence also has stretches."""

    async def add(nc: Any) -> None:
        await nc.jetstream().add_stream(name="W", subjects=["w"], retention="workqueue")

    server.run(add)
    known = Known(server)
    known.publish("W", *["w"] * 60)
    start, end = cut(known.rows, 0.2), cut(known.rows, 0.8)
    with Client(Settings(url=server.url)) as client:
        feed = opened(client, start, end, "W")
        assert sequences(feed) == known.between("W", start, end)["seq"].tolist()
        assert feed.health.by_sequence is not None


def test_loading_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stretch that has no reader while it loads, here from a frozen server, is closed. One that has loaded,
    or that a reader waits for, stays."""
    monkeypatch.setattr("nats_client.client.UNWANTED", 0.5)
    monkeypatch.setattr("nats_client.client.HOUSEKEEPING", 0.05)
    with running_server(tmp_path) as server:
        server.add_stream("S", ["s.>"])
        server.publish("s.a", *numbered(5))
        with Client(Settings(url=server.url)) as client:
            loaded = opened(client, pd.Timestamp.now("UTC") - pd.Timedelta("PT1H"), pd.Timestamp.now("UTC"))
            server.signal(signal.SIGSTOP)
            try:
                end = pd.Timestamp.now("UTC") - pd.Timedelta("PT1M")
                loading = client.feed("S", look_back="PT1H", end=end)
                assert not loading.wait(1.5)
                assert len(client.feeds()) == 2
                until(lambda: len(client.feeds()) == 1)
            finally:
                server.signal(signal.SIGCONT)
            with pytest.raises(ClosedError):
                loading.snapshot()
            assert len(loaded.snapshot()) == 5


def test_wrong_ends(client: Client) -> None:
    """An end that is not a time with a time zone is refused, and plain subjects have no history."""
    for wrong in (datetime(2026, 1, 1), "yesterday", pd.NaT):
        with pytest.raises(LookbackError, match="is not a time with a time zone"):
            client.feed("S", end=wrong)  # type: ignore[arg-type]
    with pytest.raises(LookbackError, match="no history"):
        client.feed(None, "s.>", end=datetime(2026, 1, 1, tzinfo=UTC))
