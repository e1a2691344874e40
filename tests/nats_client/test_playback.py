"""A playback: at each moment, all its feeds show exactly the rows stored before that moment, without
copies."""

import asyncio
import gc
import json
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nats_client import Client, Feed, LookbackError, Playback, PlayedFeed, Settings
from nats_client.errors import ClosedError
from nats_client.feeds.playback import SPEEDS
from nats_client.memory import Memory
from nats_client.results.inputs import Rows
from nats_client.results.result import Query, Results
from nats_client.series.bins import Bins
from nats_client.series.conditions import parse_condition
from nats_client.series.crossings import Crossings
from nats_client.table.snapshot import Snapshot
from tests.nats import NatsServer, running_server
from tests.waiting import until

HOUR = pd.Timedelta(hours=1)
STEP = pd.Timedelta(milliseconds=200)


@dataclass
class Played:
    """A server with two streams, A and B, and a stretch throughout which both received messages."""

    server: NatsServer
    start: pd.Timestamp
    end: pd.Timestamp

    def client(self, **settings: Any) -> Client:
        """A client of that server."""
        return Client(Settings(url=self.server.url, **settings))


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Such a server. In the second half, messages also have the field `late`, and `k` is a text."""

    async def fill(nc: Any) -> tuple[int, int]:
        js = nc.jetstream()
        start = 0
        for i in range(300):
            if i == 30:
                start = time.time_ns()
            value = {"n": i, "v": i % 7, "k": i if i < 150 else f"t{i}"} | ({"late": i} if i >= 150 else {})
            await js.publish(f"a.{'xy'[i % 2]}", json.dumps(value).encode())
            if i % 3 == 0:
                await js.publish("b.z", b'{"n": %d}' % i)
            if i % 10 == 0:
                await asyncio.sleep(0.05)
        return start, time.time_ns()

    with running_server(tmp_path_factory.mktemp("nats")) as server:
        for name in "AB":
            server.add_stream(name, [f"{name.lower()}.>"])
        start, end = (pd.Timestamp(each, tz="UTC") for each in server.run(fill))
        yield Played(server, start.floor("ms"), end.ceil("ms") + pd.Timedelta(milliseconds=1))


@pytest.fixture
def client(played: Played) -> Iterator[Client]:
    """A client of that server."""
    with played.client() as client:
        yield client


def whole(client: Client, played: Played, stream: str = "A") -> Snapshot:
    """The rows of the stretch, and of an hour before."""
    feed = client.feed(stream, look_back=HOUR, end=played.end)
    until(lambda: feed.health.ended)
    return feed.snapshot()


def loaded(playback: Playback, stream: str = "A", look_back: str = "PT1H", **of: Any) -> PlayedFeed:
    """A feed of the playback that has loaded all its rows."""
    feed = playback.feed(stream, look_back=look_back, **of)
    assert isinstance(feed, PlayedFeed)
    assert feed.wait(30)
    until(lambda: not feed.is_loading)
    return feed


def sequences(feed: PlayedFeed) -> list[int]:
    """The stream sequences of the feed's rows."""
    found: list[int] = feed.snapshot().seq.tolist()
    return found


def until_moment(rows: Snapshot, moment: int, since: int = 0) -> list[int]:
    """The sequences of the rows that were stored from `since` to before `moment` (both in ns)."""
    held = (rows.received < moment) & (rows.received >= since)
    found: list[int] = rows.seq[held].tolist()
    return found


@pytest.mark.parametrize("speed", [1, 5, 60, 600])
def test_ends_as_the_stretch(played: Played, speed: int) -> None:
    """At any speed, each step shows exactly the rows stored before its moment. At the end, rows and columns
    are those of the stretch, cell by cell, each row once."""
    with played.client() as client:
        rows = whole(client, played)
        playback = client.playback(played.start, played.end)
        feed = loaded(playback)
        assert feed.now() == played.start.value
        assert sequences(feed) == until_moment(rows, played.start.value)
        steps: list[tuple[int, int, int]] = []

        def look() -> None:
            before = feed.now()
            seen = feed.snapshot()
            steps.append((before, len(seen), feed.now()))

        end = feed.watch(look)
        playback.play(speed)
        until(lambda: not playback.playing)
        end()
        assert len(steps) >= 2
        for before, count, after in steps:
            least, most = (int(np.searchsorted(rows.received, moment)) for moment in (before, after))
            assert least <= count <= most
        assert playback.moment == played.end.value
        pd.testing.assert_frame_equal(feed.frame(), rows.frame())
        assert feed.health.ended


def test_rows_are_not_copied(played: Played, client: Client) -> None:
    """Two playbacks of one stretch at different moments share its arrays and its one feed, and hold no rows
    of their own."""
    rows = whole(client, played)
    first, second = (client.playback(played.start, played.end) for _ in range(2))
    one, other = loaded(first), loaded(second)
    first.jump((played.start + 2 * STEP).value)
    second.jump((played.start + 4 * STEP).value)
    for feed in (one, other):
        assert sequences(feed) == until_moment(rows, feed.now())
        assert np.shares_memory(feed.snapshot().seq, rows.seq)
        assert np.shares_memory(feed.snapshot().numbers("n"), rows.numbers("n"))
        assert feed.nbytes == 0
    assert one.now() < other.now()
    assert len(client.feeds()) == 1


def test_two_viewers_at_once(played: Played, client: Client) -> None:
    """Two playbacks of one stretch have their own speeds and moments; pausing one does not affect the
    other."""
    rows = whole(client, played)
    slow, fast = (client.playback(played.start, played.end) for _ in range(2))
    one, other = loaded(slow), loaded(fast)
    slow.play(1)
    fast.play(60)
    until(lambda: not fast.playing)
    assert sequences(other) == rows.seq.tolist()
    assert slow.moment < played.end.value
    slow.pause()
    at = slow.moment
    fast.play()  # from the start
    until(lambda: fast.moment > played.start.value)
    assert slow.moment == at
    assert sequences(one) == until_moment(rows, at)
    assert one.health.plays is False


def test_feeds_stay_together(played: Played, client: Client) -> None:
    """All feeds of a playback are at the same moment: feeds of two streams, with named tokens, with a filter,
    and SQL over two of them."""
    rows, others = whole(client, played), whole(client, played, "B")
    playback = client.playback(played.start, played.end)
    a, b = loaded(playback), loaded(playback, "B")
    named = playback.feed("A", "a.{letter}", look_back="PT1H")
    odd = loaded(playback, where="n % 2 = 1")
    assert named.wait(30)
    results = Results()
    sql = "SELECT count(*) AS count, max(n) AS n FROM a UNION ALL SELECT count(*), max(n) FROM b"
    inputs = {"a": Rows(a, HOUR), "b": Rows(b, HOUR)}
    result = results.get("", Query(sql, ("a", "b"), {}), inputs)
    try:
        for part in (0.2, 0.5, 0.9):
            moment = int(played.start.value + part * (played.end.value - played.start.value))
            playback.jump(moment)
            assert {feed.now() for feed in (a, b, named, odd)} == {moment}
            assert sequences(a) == until_moment(rows, moment)
            assert sequences(b) == until_moment(others, moment)
            of_then = rows.frame()[rows.received < moment]
            assert named.frame()["letter"].tolist() == of_then["_subject"].str[-1].tolist()
            assert odd.frame()["n"].tolist() == [n for n in of_then["n"] if n % 2 == 1]
            assert odd.health.read >= len(odd.snapshot())
            expected = [(len(x), float(x.numbers("n")[-1])) for x in (a.snapshot(), b.snapshot())]

            def shown(expected: list[tuple[int, float]] = expected) -> bool:
                found = result.snapshot()
                if not len(found):
                    return False
                pairs = zip(found.numbers("count").tolist(), found.numbers("n").tolist(), strict=True)
                return sorted(pairs) == sorted(expected)

            until(shown)
    finally:
        results.close()


def test_look_back(played: Played, client: Client) -> None:
    """A feed reaches back from the moment by its look-back, even to before the start of the stretch. A longer
    look-back widens the same feed."""
    rows = whole(client, played)
    playback = client.playback(played.start, played.end)
    feed = loaded(playback, look_back="PT0.2S")
    assert sequences(feed) == until_moment(rows, feed.now(), feed.now() - STEP.value)
    assert sequences(feed)[0] < 31
    playback.jump((played.start + 3 * STEP).value)
    assert sequences(feed) == until_moment(rows, feed.now(), feed.now() - STEP.value)
    assert loaded(playback, look_back="PT1H") is feed
    assert sequences(feed) == until_moment(rows, feed.now())


def test_columns_of_then(played: Played, client: Client) -> None:
    """A column exists only after the moment of its first value."""
    playback = client.playback(played.start, played.end)
    feed = loaded(playback)
    assert "late" not in feed.snapshot().columns
    playback.jump(playback.end)
    assert "late" in feed.snapshot().columns
    rows = whole(client, played)
    first = int(rows.received[np.flatnonzero(rows.present("late"))[0]])
    playback.jump(first)
    feed = loaded(playback)
    assert "late" not in feed.snapshot().columns
    playback.step(1)
    assert feed.frame()["late"].dropna().tolist() == [150]


def test_steps(played: Played, client: Client) -> None:
    """A step moves by a number of messages, forwards or backwards, counted over all feeds together, and
    pauses. It stops at the ends of the stretch."""
    rows, others = whole(client, played), whole(client, played, "B")
    both = np.unique(np.concatenate([rows.received, others.received]))
    both = both[(both >= played.start.value) & (both < played.end.value)]
    playback = client.playback(played.start, played.end)
    loaded(playback)
    loaded(playback, "B")
    playback.play(1)
    for count in (1, 1, 7, -1, -3, 1):
        at = int(np.searchsorted(both, playback.moment))
        playback.step(count)
        assert not playback.playing
        a, b = loaded(playback), loaded(playback, "B")
        assert sequences(a) == until_moment(rows, playback.moment)
        assert sequences(b) == until_moment(others, playback.moment)
        assert int(np.searchsorted(both, playback.moment)) == max(0, at + count)
    playback.step(-10_000)
    loaded(playback)
    playback.step(-1)
    assert playback.moment == played.start.value
    playback.jump(played.end.value)
    loaded(playback)
    playback.step(1)
    assert playback.moment == played.end.value


def test_steps_of_a_page_that_stands_still(
    played: Played, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step goes to the next message even if no reader has read the feeds for a while."""
    rows = whole(client, played)
    playback = client.playback(played.start, played.end)
    loaded(playback)
    monkeypatch.setattr("nats_client.feeds.playback.UNREAD", 0.0)
    playback.step(1)
    first = int(rows.received[rows.received >= played.start.value][0])
    assert playback.moment == first + 1
    assert sum(playback.density()) > 0


def test_jumps(played: Played, client: Client) -> None:
    """After a jump in either direction, rows, bins and crossings equal those computed from scratch for that
    moment. A feed obtained before a jump back stays at its old moment."""
    rows = whole(client, played)
    playback = client.playback(played.start, played.end)
    length = played.end - played.start
    above = parse_condition("> 5")
    for part in (0.9, 0.1, 0.5, 0.3, 1.0, 0.0, -1.0, 7.0):
        before, at = loaded(playback), playback.moment
        playback.jump(int((played.start + part * length).value))
        feed = loaded(playback)
        assert (
            feed.now()
            == playback.moment
            == min(max(played.start, played.start + part * length), played.end).value
        )
        if playback.moment < at:
            assert before is not feed
            assert before.now() == at
        assert sequences(feed) == until_moment(rows, feed.now())
        shared, fresh = feed.bins(("v",), None, HOUR), Bins(("v",), None, HOUR)
        for bins in (shared, fresh):
            bins.update(feed.snapshot(), feed.now())
        mine, theirs = (each.changes(0, 0).cells for each in (shared, fresh))
        assert sorted(zip(mine.bin, mine.low, mine.high, strict=True)) == sorted(
            zip(theirs.bin, theirs.low, theirs.high, strict=True)
        )
        noticed = feed.crossings("v", None, HOUR, above), Crossings("v", None, HOUR, above)
        for crossings in noticed:
            crossings.update(feed.snapshot(), feed.now())
        assert noticed[0].found() == noticed[1].found()


def test_speeds(played: Played, client: Client) -> None:
    """A playback runs at the requested speed from its current moment. A feed that its watchers do not read
    slows it down, which `held_to` reports."""
    playback = client.playback(played.start - HOUR, played.end)
    feed = loaded(playback)
    for wrong in (0, 3, -1, True, "fast"):
        with pytest.raises(LookbackError, match="is not valid"):
            playback.play(wrong)  # type: ignore[arg-type]
    assert not playback.playing
    playback.play(SPEEDS[-1])
    playback.play(60)
    assert playback.speed == 60
    began, at = time.monotonic(), playback.moment
    until(lambda: playback.moment - at > 60e9)
    assert (playback.moment - at) / 1e9 <= 60 * (time.monotonic() - began) + 1
    until(lambda: playback.held_to is None)
    end = feed.watch(lambda: None)  # it is notified, and does not read
    until(lambda: playback.held_to is not None)
    held = playback.held_to
    assert held is not None
    assert held < 60
    end()
    until(lambda: playback.held_to is None)
    assert playback.playing


def test_while_it_loads(played: Played) -> None:
    """A playback waits at its start until it has a feed, and until its feeds have loaded their rows."""
    with played.client() as client:
        playback = client.playback(played.start, played.end)
        playback.play(600)
        time.sleep(0.2)
        assert playback.moment == played.start.value
        feed = playback.feed("A", look_back="PT1H")
        assert isinstance(feed, PlayedFeed)
        until(lambda: not playback.playing)
        assert sequences(feed) == whole(client, played).seq.tolist()


def test_density(played: Played, client: Client) -> None:
    """density() counts the messages along the stretch, of all feeds together, and none from before its
    start."""
    rows, others = whole(client, played), whole(client, played, "B")
    playback = client.playback(played.start, played.end)
    assert playback.density() == []
    loaded(playback)
    loaded(playback, "B")
    both = np.concatenate([rows.received, others.received])
    both = both[both >= played.start.value]
    for places in (1, 10, 200):
        counts = playback.density(places)
        assert len(counts) == places
        assert sum(counts) == len(both)
    half = int(np.count_nonzero(both < played.start.value + (played.end.value - played.start.value) // 2))
    assert playback.density(2)[0] == half
    playback.jump(playback.end)
    assert playback.density(2)[0] == half
    playback.jump(playback.start)
    assert playback.density(2) == []
    loaded(playback)
    assert 0 < sum(playback.density(2)) < len(both)


def test_nobody_holds_it(played: Played, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A playback that is no longer referenced is freed, with its feeds and all data derived for them. One
    that has no reader pauses, and drops its feeds."""
    playback = client.playback(played.start - HOUR, played.end)
    feed = loaded(playback)
    feed.bins(("n",), None, HOUR).update(feed.snapshot(), feed.now())
    playback.play(1)
    until(lambda: playback.moment > playback.start)
    gone = weakref.ref(playback), weakref.ref(feed)
    del playback, feed

    def are_gone() -> bool:
        gc.collect()
        return all(each() is None for each in gone)

    until(are_gone)
    monkeypatch.setattr("nats_client.feeds.playback.UNREAD", 0.5)
    monkeypatch.setattr("nats_client.feeds.playback.FORGOTTEN", 0.5)
    playback = client.playback(played.start - HOUR, played.end)
    feed = loaded(playback)
    playback.play(1)
    until(lambda: not playback.playing)
    playback.count_derived()
    assert loaded(playback) is not feed


def test_memory(played: Played) -> None:
    """Data derived for a playback counts towards the process's memory ceiling; its rows, which are shared, do
    not count again."""
    memory = Memory(256 << 20)
    with Client(Settings(url=played.server.url), memory=memory) as client:
        whole(client, played)
        before = memory.total
        playback = client.playback(played.start, played.end)
        feed = loaded(playback)
        memory.recount()
        assert memory.total == before
        feed.bins(("n", "v"), None, HOUR).update(feed.snapshot(), feed.now())
        playback.count_derived()
        memory.recount()
        assert memory.total == before + feed.nbytes > before
        feed.shrink(0, 0)
        memory.recount()
        assert memory.total == before


def test_raw_messages(played: Played, client: Client) -> None:
    """newest() returns the raw messages of the newest rows at the moment, with their payloads, and never
    later ones."""
    playback = client.playback(played.start, played.end)
    feed = loaded(playback)
    for part in (0.2, 0.6, 1.0):
        playback.jump(int(played.start.value + part * (played.end.value - played.start.value)))
        rows = feed.frame()[-20:]
        assert all(message.received < playback.moment for message in feed.newest())
        until(lambda: [message.seq for message in feed.newest()] == sequences(feed)[:-21:-1])
        found = feed.newest()[::-1]
        assert [json.loads(message.payload)["n"] for message in found] == rows["n"].tolist()
        assert [message.subject for message in found] == rows["_subject"].tolist()
    playback.jump(playback.start)
    assert [message.seq for message in loaded(playback).newest()] == sequences(loaded(playback))[:-21:-1]


def test_what_leaves_the_stream(server: NatsServer) -> None:
    """Messages deleted from the stream also leave a playback, and are a gap once the playback has reached
    their time."""

    async def fill(nc: Any) -> tuple[int, int]:
        start = time.time_ns()
        for i in range(40):
            await nc.jetstream().publish("s.a", b'{"n": %d}' % i)
        return start, time.time_ns()

    server.add_stream("S", ["s.>"])
    start, end = (pd.Timestamp(each, tz="UTC") for each in server.run(fill))
    with Client(Settings(url=server.url)) as client:
        playback = client.playback(start.floor("ms"), end.ceil("ms"))
        feed = loaded(playback, "S")
        playback.step(20)
        assert sequences(feed) == list(range(1, 21))

        async def delete(nc: Any) -> None:
            for seq in (5, 6, 30, 31):
                await nc.jetstream().delete_msg("S", seq)

        server.run(delete)
        left = [seq for seq in range(1, 21) if seq not in (5, 6)]
        until(lambda: sequences(feed) == left)
        assert all(gap.start < feed.now() for gap in feed.health.gaps)
        playback.jump(playback.end)
        until(lambda: sequences(feed) == [seq for seq in range(1, 41) if seq not in (5, 6, 30, 31)])


def test_a_closed_stretch(played: Played, client: Client) -> None:
    """When the shared feed is closed, readers get ClosedError; the next request opens a new feed at the same
    moment."""
    rows = whole(client, played)
    playback = client.playback(played.start, played.end)
    feed = loaded(playback)
    playback.jump((played.start + STEP).value)
    shared: Feed = client.feeds()[0]
    client._feeds.clear()
    asyncio.run_coroutine_threadsafe(shared.close("a test"), client._loop).result(10)
    with pytest.raises(ClosedError):
        feed.snapshot()
    again = loaded(playback)
    assert again is not feed
    assert sequences(again) == until_moment(rows, playback.moment)


def test_wrong_stretches(client: Client) -> None:
    """An invalid stretch is refused with the reason, and plain subjects cannot be played."""
    now = datetime.now(UTC)
    for start, end, says in (
        (now, now, "ends before it starts"),
        (datetime(2026, 1, 1), now, "The start .* is not a time with a time zone"),
        (now - HOUR, now + HOUR, "still to come"),
    ):
        with pytest.raises(LookbackError, match=says):
            client.playback(start, end)
    with pytest.raises(LookbackError, match="no history"):
        client.playback(now - HOUR, now).feed(None, "a.>")
