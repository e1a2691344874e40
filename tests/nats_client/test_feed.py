"""Feeds on a real nats-server, with real faults: after each fault, the rows are the stream's."""

import json
import signal
import threading
import time
from typing import Any

import pytest

from nats_client import Client, Feed, NamedFeed, Settings
from nats_client.decoding.decoder import Decoder
from nats_client.decoding.decoders import DECODERS
from nats_client.errors import ClosedError, DurationError, SubjectError
from nats_client.table.values import Batch
from tests.nats import NatsServer, numbered
from tests.publisher import Publisher
from tests.waiting import until


def sequences(feed: Feed | NamedFeed) -> list[int]:
    """The stream sequences of the feed's rows."""
    found: list[int] = feed.snapshot().seq.tolist()
    return found


def consumers(server: NatsServer, stream: str = "S") -> list[Any]:
    """The stream's consumers, as the server lists them."""
    return list(server.run(lambda nc: nc.jetstream().consumers_info(stream)))


def test_history_then_live_without_a_seam(server: NatsServer, client: Client) -> None:
    """Stored messages and messages that arrive while the feed opens form one run of rows, none lost and none
    duplicated."""
    server.publish("s.old", *numbered(500))
    with Publisher([server.url]) as publisher:
        feed = client.feed("S", "s.>", look_back="PT1H")
        assert feed.wait(30)
        until(lambda: publisher.count > 200)
    total = 500 + publisher.count
    until(lambda: len(feed.window) == total)
    assert sequences(feed) == list(range(1, total + 1))
    assert feed.health.phase == "following"


def test_same_question_same_feed(server: NatsServer, client: Client) -> None:
    """Twenty threads that request the same feed get one feed, and the server has one consumer."""
    found: list[Feed | NamedFeed] = []
    threads = [
        threading.Thread(target=lambda: found.append(client.feed("S", "s.>", look_back="PT5M")))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(feed) for feed in found}) == 1
    found[0].wait(30)
    assert len(consumers(server)) == 1
    assert client.feed("S", "s.other") is not found[0]


def test_longer_look_back_fetches_what_is_missing(server: NatsServer, client: Client) -> None:
    """A longer look-back fetches only the missing older rows, in order, while new rows keep arriving."""
    server.publish("s.a", *numbered(100))
    time.sleep(2.2)
    server.publish("s.a", *numbered(50, 100))
    feed = client.feed("S", look_back="PT2S")
    assert isinstance(feed, Feed)
    assert feed.wait(30)
    assert sequences(feed)[-1] == 150
    assert sequences(feed)[0] >= 101
    before = feed._consumer.done
    with Publisher([server.url]) as publisher:
        again = client.feed("S", look_back="PT1H")
        assert again is feed
        assert feed.wait(30)
    until(lambda: len(feed.window) == 150 + publisher.count)
    assert sequences(feed) == list(range(1, 151 + publisher.count))
    assert feed._consumer.done == before + publisher.count
    assert client.feed("S", look_back="PT1S") is feed
    assert feed.look_back.total_seconds() == 3600


def test_longer_look_back_of_an_empty_window(server: NatsServer, client: Client) -> None:
    """A longer look-back fetches its rows even if the shorter one held none."""
    server.publish("s.a", *numbered(10))
    time.sleep(1.2)
    feed = client.feed("S", look_back="PT1S")
    assert feed.wait(30)
    assert sequences(feed) == []
    client.feed("S", look_back="PT1H")
    until(lambda: sequences(feed) == list(range(1, 11)))


def test_old_rows_leave_a_silent_stream(server: NatsServer, client: Client) -> None:
    """Rows older than the look-back leave the window, even if no new message arrives."""
    server.publish("s.a", *numbered(10))
    feed = client.feed("S", look_back="PT2S")
    feed.wait(30)
    assert len(sequences(feed)) == 10
    until(lambda: sequences(feed) == [])


def test_kill_while_live(server: NatsServer, client: Client) -> None:
    """If the server is killed and started again, no row is lost or duplicated. Meanwhile the client and the
    feed report that they are reconnecting."""
    with Publisher([server.url]) as publisher:
        feed = client.feed("S", look_back="PT1H")
        until(lambda: len(feed.window) > 100)
        server.kill()
        until(lambda: client.state.status == "reconnecting" and feed.health.phase == "reconnecting")
        assert "Check 'url', and that the server is running" in str(client.state.error)
        assert len(feed.snapshot()) > 100
        time.sleep(1)
        server.start()
        count = publisher.count
        until(lambda: publisher.count > count + 100)
    until(lambda: feed.health.phase == "following" and len(feed.window) == publisher.count)
    assert sequences(feed) == list(range(1, publisher.count + 1))
    assert feed.snapshot().numbers("n").tolist() == list(range(publisher.count))


def test_kill_while_replaying(server: NatsServer, client: Client) -> None:
    """If the server is killed during a replay, the replay continues where it was."""

    async def load(nc: Any) -> None:
        for i in range(300_000):
            await nc.publish("s.a", b'{"n": %d}' % i)
        await nc.flush(30)

    server.run(load)
    total = server.run(lambda nc: nc.jetstream().stream_info("S")).state.messages
    feed = client.feed("S", look_back="PT1H")
    until(lambda: len(feed.window) > 5000)
    server.kill()
    assert len(feed.window) < total
    server.start()
    left = server.run(lambda nc: nc.jetstream().stream_info("S")).state.last_seq
    until(lambda: feed.health.phase == "following", 60)
    assert sequences(feed) == list(range(1, left + 1))


def test_reader_that_fails_is_tried_again(server: NatsServer, client: Client) -> None:
    """If our own code fails while rows are appended, the feed is reported as stopped, and the same messages
    are read again."""
    feed = client.feed("S", look_back="PT1H")
    assert feed.wait(30)
    append, failed = feed.window.append, threading.Event()
    window: Any = feed.window

    def append_badly(batch: Batch, *, expected: int) -> None:
        failed.set()
        raise ZeroDivisionError("a mistake")

    window.append = append_badly
    server.publish("s.a", *numbered(10))
    assert failed.wait(30)
    until(lambda: feed.health.phase == "stopped")
    assert "a mistake" in str(feed.health.why)
    window.append = append
    until(lambda: feed.health.phase == "following" and sequences(feed) == list(range(1, 11)))


def test_consumer_deleted(server: NatsServer, client: Client) -> None:
    """If an administrator deletes the consumer, the feed recreates it and misses no row."""
    server.publish("s.a", *numbered(10))
    feed = client.feed("S", look_back="PT1H")
    feed.wait(30)
    (consumer,) = consumers(server)
    server.run(lambda nc: nc.jetstream().delete_consumer("S", consumer.name))
    server.publish("s.a", *numbered(10, 10))
    until(lambda: len(feed.window) == 20)
    assert sequences(feed) == list(range(1, 21))
    assert feed.health.restarts == 1


def test_server_freezes(server: NatsServer, client: Client) -> None:
    """If the server freezes for some seconds, the feed reports it, and continues once the server does."""
    server.publish("s.a", *numbered(10))
    feed = client.feed("S", look_back="PT1H")
    feed.wait(30)
    server.signal(signal.SIGSTOP)
    until(lambda: feed.health.phase == "reconnecting")
    server.signal(signal.SIGCONT)
    server.publish("s.a", *numbered(10, 10))
    until(lambda: feed.health.phase == "following" and len(feed.window) == 20)
    assert sequences(feed) == list(range(1, 21))


def test_stream_recreated(server: NatsServer, client: Client) -> None:
    """If the stream is deleted and created again, the window starts over with the new stream, and the feed's
    health reports it."""
    server.publish("s.a", *numbered(10))
    feed = client.feed("S", look_back="PT1H")
    feed.wait(30)
    server.run(lambda nc: nc.jetstream().delete_stream("S"))
    until(lambda: feed.health.phase == "stopped")
    assert "There is no stream 'S'" in str(feed.health.why)
    server.add_stream("S", ["s.>"])
    server.publish("s.a", *numbered(3, 100))
    until(lambda: feed.health.phase == "following" and len(feed.window) == 3)
    assert sequences(feed) == [1, 2, 3]
    assert feed.snapshot().numbers("n").tolist() == [100, 101, 102]
    assert feed.health.recreated == 1


def test_stream_appears(server: NatsServer, client: Client) -> None:
    """A stream that does not exist is reported with the names of those that do. Once it is created, the feed
    has its rows."""
    feed = client.feed("T", look_back="PT1H")
    assert feed.wait(30)
    assert feed.health.phase == "stopped"
    assert "The streams are 'S'" in str(feed.health.why)
    server.add_stream("T", ["t.>"])
    server.publish("t.a", *numbered(3))
    until(lambda: len(feed.window) == 3)


def test_idle_feed_closes(server: NatsServer) -> None:
    """A feed without a reader closes and removes its consumer. The next caller gets a new feed with the same
    rows."""
    server.publish("s.a", *numbered(5))
    with Client(Settings(url=server.url, idle_after=0.5)) as client:
        feed = client.feed("S", look_back="PT1H")
        feed.wait(30)
        until(lambda: not client.feeds())
        until(lambda: not consumers(server))
        with pytest.raises(ClosedError):
            feed.snapshot()
        again = client.feed("S", look_back="PT1H")
        again.wait(30)
        assert sequences(again) == [1, 2, 3, 4, 5]


def test_malformed_is_counted(server: NatsServer, client: Client) -> None:
    """A malformed message is counted and kept as a sample, and later messages become rows."""
    server.publish("s.a", b'{"n": 1}', b"{broken", b'{"n": 3}')
    feed = client.feed("S", look_back="PT1H")
    feed.wait(30)
    health = feed.health
    assert health.malformed == 1
    assert (health.samples[0].subject, health.samples[0].seq) == ("s.a", 2)
    assert "not JSON" in health.samples[0].reason
    assert sequences(feed) == [1, 3]


def test_ceiling(server: NatsServer) -> None:
    """Above the ceiling the oldest rows are dropped and counted, of the history and then of new messages."""
    server.publish("s.a", *numbered(30))
    with Client(Settings(url=server.url, feed_rows=20)) as client:
        feed = client.feed("S", look_back="PT1H")
        feed.wait(30)
        assert sequences(feed) == list(range(11, 31))
        assert feed.health.dropped == 10
        server.publish("s.a", *numbered(5))
        until(lambda: sequences(feed) == list(range(16, 36)))
        assert feed.health.dropped == 15


def test_bad_questions(client: Client) -> None:
    """An invalid look-back, subject or stream name is refused at once with its own error."""
    with pytest.raises(DurationError):
        client.feed("S", look_back="a while")
    with pytest.raises(SubjectError):
        client.feed("S", "a..b")
    with pytest.raises(SubjectError):
        client.feed("S.*")


def test_close_leaves_nothing(server: NatsServer) -> None:
    """After close() no thread is left, and soon no consumer on the server. A second close() is a no-op."""
    before = threading.active_count()
    client = Client(Settings(url=server.url))
    client.feed("S").wait(30)
    client.close()
    client.close()
    assert threading.active_count() == before
    until(lambda: not consumers(server))
    with pytest.raises(ClosedError):
        client.feed("S")


def test_without_a_server() -> None:
    """A client without a server returns at once, reports the reason, and can be closed."""
    with Client(Settings(url="nats://127.0.0.1:9")) as client:
        assert not client.wait(5)
        feed = client.feed("S")
        assert not feed.wait(0.2)
        assert len(feed.snapshot()) == 0
        assert "Cannot reach" in str(client.state.error)


def test_a_payload_that_breaks_the_decoder(
    server: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A payload for which the decoder raises an unexpected error is one malformed message, and its neighbours
    become rows."""

    def brittle(payload: bytes) -> object:
        if payload == b"poison":
            raise ZeroDivisionError
        return json.loads(payload)

    monkeypatch.setitem(DECODERS, "brittle", Decoder(brittle))
    server.publish("s.a", *numbered(3), b"poison", *numbered(3, 4))
    feed = client.feed("S", look_back="PT1H", decoder="brittle")
    feed.wait(30)
    assert sequences(feed) == [1, 2, 3, 5, 6, 7]
    assert feed.health.malformed == 1
    assert "ZeroDivisionError" in feed.health.samples[0].reason
