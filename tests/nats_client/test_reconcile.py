"""The window holds what the stream holds: purged, deleted and expired messages leave it, and are reported."""

import math
import shutil
import time
from pathlib import Path
from typing import Any

from nats.js.api import RetentionPolicy

from nats_client import Client, Feed, NamedFeed, Settings
from tests.backup import restore, snapshot
from tests.jetstream import messages, work, worker
from tests.nats import NatsServer, numbered
from tests.waiting import until


def opened(client: Client, subject: str | None = None, stream: str = "S") -> Feed:
    """A feed that has caught up."""
    feed = client.feed(stream, subject, look_back="PT1H")
    assert isinstance(feed, Feed)
    assert feed.wait(30)
    return feed


def sequences(feed: Feed | NamedFeed) -> list[int]:
    """The stream sequences of the feed's rows."""
    found: list[int] = feed.snapshot().seq.tolist()
    return found


def removed(feed: Feed | NamedFeed) -> int:
    """How many messages the feed's gaps report as removed."""
    return sum(gap.count or 0 for gap in feed.health.gaps if gap.why == "removed")


def test_purge(server: NatsServer, client: Client) -> None:
    """Purged messages leave the window, and their number and times are reported; later messages are shown."""
    before = time.time_ns()
    server.publish("s.a", *numbered(10))
    feed = opened(client)
    server.run(lambda nc: nc.jetstream().purge_stream("S"))
    until(lambda: not sequences(feed))
    (gap,) = feed.health.gaps
    assert (gap.why, gap.count) == ("removed", 10)
    assert before < gap.start <= gap.end < time.time_ns()
    server.publish("s.a", *numbered(3, 10))
    until(lambda: sequences(feed) == [11, 12, 13])
    assert feed.health.restarts == 0


def test_partial_purge(server: NatsServer, client: Client) -> None:
    """A purge that keeps some messages leaves exactly these, in a feed of all subjects and in one with a
    filter."""
    for i in range(20):
        server.publish(f"s.{'ab'[i % 2]}", *numbered(1, i))
    whole, part = opened(client), opened(client, "s.a")
    server.run(lambda nc: nc.jetstream().purge_stream("S", keep=6))
    until(lambda: sequences(whole) == list(range(15, 21)))
    until(lambda: sequences(part) == [15, 17, 19])
    assert (removed(whole), removed(part)) == (14, 7)
    server.run(lambda nc: nc.jetstream().purge_stream("S", subject="s.a"))
    until(lambda: sequences(whole) == [16, 18, 20])
    until(lambda: not sequences(part))
    assert (removed(whole), removed(part)) == (17, 10)


def test_purged_before_it_is_opened(server: NatsServer, client: Client) -> None:
    """After a large purge, the server treats any start time as one after the end of the stream. A feed opened
    then still holds what is left of its look-back, with and without a filter."""

    async def fill(nc: Any, count: int) -> None:
        for i in range(count):
            publish = nc.jetstream().publish if i % 1000 == 999 else nc.publish
            await publish(f"s.{i % 10}", b'{"n": %d}' % i)
        await nc.flush()

    server.run(lambda nc: fill(nc, 130_000))
    time.sleep(4)
    began = time.monotonic()
    server.run(lambda nc: fill(nc, 500))
    server.run(lambda nc: nc.jetstream().purge_stream("S", keep=1000))
    kept = list(range(129_501, 130_501))
    for subject, expected in ((None, kept[500:]), ("s.7", kept[507::10])):
        with Client(Settings(url=server.url)) as other:
            since = math.ceil(time.monotonic() - began) + 2
            feed = other.feed("S", subject, look_back=f"PT{since}S")
            until(lambda: sequences(feed) == expected, 2)
    assert sequences(opened(client)) == kept
    assert sequences(opened(client, "s.7")) == kept[7::10]
    assert sequences(opened(client, "s.none")) == []


def test_deleted_in_the_middle(server: NatsServer, client: Client) -> None:
    """Messages deleted one by one leave the window. Those deleted before the feed was opened are reported
    too."""
    server.publish("s.a", *numbered(10))
    server.run(lambda nc: nc.jetstream().delete_msg("S", 4))
    feed = opened(client)
    assert removed(feed) == 1
    server.run(lambda nc: nc.jetstream().delete_msg("S", 7))
    until(lambda: sequences(feed) == [1, 2, 3, 5, 6, 8, 9, 10])
    server.run(lambda nc: nc.jetstream().delete_msg("S", 8))
    until(lambda: sequences(feed) == [1, 2, 3, 5, 6, 9, 10])
    assert removed(feed) == 3
    assert feed.snapshot().numbers("n").tolist() == [0, 1, 2, 4, 5, 8, 9]


def test_limits_faster_than_we_read(server: NatsServer, client: Client) -> None:
    """Messages that a limit removes before they are read are counted exactly: rows and gaps add up to all
    messages published."""
    server.run(lambda nc: nc.jetstream().add_stream(name="T", subjects=["t.>"], max_msgs=100))
    server.publish("t.a", *numbered(10))
    feed = opened(client, stream="T")

    async def burst(nc: Any) -> None:
        for i in range(50_000):
            await nc.publish("t.a", b'{"n": %d}' % i)
        await nc.flush(30)

    server.run(burst)
    until(lambda: sequences(feed) == list(range(49_911, 50_011)))
    until(lambda: removed(feed) == 49_910)
    assert "100 messages" in feed.health.limits


def test_history_shorter_than_the_look_back(server: NatsServer, client: Client) -> None:
    """If the start of the stream was purged before the feed was opened, the feed reports where its history
    begins and how many messages are missing before that."""
    server.publish("s.a", *numbered(10))
    server.run(lambda nc: nc.jetstream().purge_stream("S", keep=4))
    feed = opened(client)
    until(lambda: feed.health.earlier == 6)
    assert feed.health.begins == feed.snapshot().received[0]


def test_replaced_messages_are_no_loss(server: NatsServer, client: Client) -> None:
    """With a limit per subject, or interest retention, messages that leave were replaced or acknowledged.
    Their rows stay, and they are no gap."""
    server.run(lambda nc: nc.jetstream().add_stream(name="K", subjects=["k.>"], max_msgs_per_subject=1))
    interest = RetentionPolicy.INTEREST
    server.run(lambda nc: nc.jetstream().add_stream(name="I", subjects=["i.>"], retention=interest))
    worker(server, "I")
    latest, worked = opened(client, stream="K"), opened(client, stream="I")
    for count, payload in enumerate(numbered(5), 1):
        server.publish("k.a", payload)
        server.publish("i.a", payload)
        for feed in (latest, worked):  # the next one replaces it, delivered or not
            until(lambda: len(sequences(feed)) == count)
    work(server, "I", 5)
    assert messages(server, "I") == 0
    for feed in (latest, worked):
        time.sleep(2.5)
        assert len(sequences(feed)) == 5
        assert not feed.health.gaps


def test_restored_from_a_backup(server: NatsServer, client: Client) -> None:
    """A stream that is restored from a backup and then written to has other messages under known sequences.
    The window shows those."""
    server.publish("s.a", *numbered(10))
    backup = server.run(lambda nc: snapshot(nc, "S"))
    server.publish("s.a", *numbered(10, 10))
    feed = opened(client)
    assert sequences(feed) == list(range(1, 21))

    async def back(nc: Any) -> None:
        await nc.jetstream().delete_stream("S")
        await restore(nc, "S", backup)
        for payload in numbered(15, 100):
            await nc.jetstream().publish("s.a", payload)

    server.run(back)
    expected = [*range(10), *range(100, 115)]
    until(lambda: feed.snapshot().columns.get("n") and feed.snapshot().numbers("n").tolist() == expected)
    assert sequences(feed) == list(range(1, 26))
    assert feed.health.recreated == 1


def test_disk_restored_from_a_backup(tmp_path: Path, server: NatsServer, client: Client) -> None:
    """If a server's disk goes back in time, its stream keeps its name and creation time, but has other
    messages under known sequences. The window shows those."""
    store, kept = tmp_path / "nats" / "jetstream", tmp_path / "kept"
    server.publish("s.a", *numbered(10))
    server.stop()
    shutil.copytree(store, kept)
    server.start()
    server.publish("s.a", *numbered(10, 10))
    feed = opened(client)
    assert sequences(feed) == list(range(1, 21))
    server.stop()
    shutil.rmtree(store)
    kept.rename(store)
    server.start()
    server.publish("s.a", *numbered(15, 100))
    expected = [*range(10), *range(100, 115)]
    until(lambda: feed.snapshot().columns.get("n") and feed.snapshot().numbers("n").tolist() == expected)
    assert sequences(feed) == list(range(1, 26))
    assert feed.health.recreated == 1


def test_subjects_changed(server: NatsServer, client: Client) -> None:
    """A feed continues without a gap when the subjects of its stream change."""
    server.publish("s.a", *numbered(5))
    feed = opened(client)
    server.run(lambda nc: nc.jetstream().update_stream(name="S", subjects=["s.>", "other"]))
    server.publish("other", *numbered(5, 5))
    until(lambda: sequences(feed) == list(range(1, 11)))


def test_gaps_are_forgotten_with_the_look_back(server: NatsServer) -> None:
    """A gap is reported for as long as its time lies within the look-back."""
    server.publish("s.a", *numbered(5))
    with Client(Settings(url=server.url)) as client:
        feed = client.feed("S", look_back="PT5S")
        feed.wait(30)
        server.run(lambda nc: nc.jetstream().purge_stream("S"))
        until(lambda: removed(feed) == 5)
        until(lambda: not feed.health.gaps)
