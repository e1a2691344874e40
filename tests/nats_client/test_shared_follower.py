"""Feeds whose subjects differ in one token share a consumer, and each holds what its stream holds.

Slow, because such feeds share a consumer only after five seconds, and again after every fault.
"""

import asyncio
import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from nats_client import Client, Feed, Settings
from nats_client.streams.ordered_consumer import CURRENT_FOR
from nats_client.streams.shared_follower import ASKED_FOR, SIBLINGS
from tests.cluster import running_cluster
from tests.jetstream import AnyServer, api, change, stream
from tests.nats import NatsServer, numbered, running_server
from tests.publisher import Publisher
from tests.waiting import until

MANY, SOME = 50, 12
CHECK_EVERY, AGAIN_AFTER = 0.5, 1.0
NO_ACK = ConsumerConfig(ack_policy=AckPolicy.NONE)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Feeds check more often, and share a consumer sooner, so that the tests wait less."""
    monkeypatch.setattr("nats_client.streams.shared_follower.AGAIN_AFTER", AGAIN_AFTER)
    monkeypatch.setattr("nats_client.streams.ordered_consumer.CHECK_EVERY", CHECK_EVERY)


def devices(count: int) -> list[str]:
    """Subjects that differ in their last token."""
    return [f"s.device-{i}" for i in range(count)]


def opened(client: Client, count: int, look_back: str = "PT1H") -> list[Feed]:
    """A feed for each device, all caught up."""
    feeds = [client.feed("S", subject, look_back=look_back) for subject in devices(count)]
    assert all(feed.wait(60) for feed in feeds)
    return [feed for feed in feeds if isinstance(feed, Feed)]


def consumers(server: AnyServer) -> int:
    """How many consumers the stream has."""
    return int(api(server, "CONSUMER.NAMES.S")["total"])


def shared(server: AnyServer, feeds: Sequence[Feed]) -> None:
    """Wait until the feeds share one consumer."""
    until(lambda: consumers(server) == 1, 60)
    until(lambda: all(feed.events[-1].what == "follows a shared consumer" for feed in feeds))


def stored(server: AnyServer) -> dict[str, list[tuple[int, int]]]:
    """The messages that the stream holds: for each subject, their sequences and numbers."""

    async def read(nc: Any) -> dict[str, list[tuple[int, int]]]:
        found: dict[str, list[tuple[int, int]]] = {}
        state = (await nc.jetstream().stream_info("S")).state
        if not state.messages:
            return found
        listening = await nc.jetstream().pull_subscribe("", stream="S", config=NO_ACK)
        left = state.messages
        while left:
            for message in await listening.fetch(min(left, 1000), timeout=10):
                sequence = message.metadata.sequence.stream
                found.setdefault(message.subject, []).append((sequence, json.loads(message.data)["n"]))
                left -= 1
        await listening.unsubscribe()
        await nc.jetstream().delete_consumer("S", (await listening.consumer_info()).name)
        return found

    result: dict[str, list[tuple[int, int]]] = server.run(read)
    return result


def rows(feed: Feed) -> list[tuple[int, int]]:
    """Sequences and numbers of a feed's rows."""
    snapshot = feed.snapshot()
    if not len(snapshot):
        return []
    return list(zip(snapshot.seq.tolist(), map(int, snapshot.numbers("n")), strict=True))


def all_equal(server: AnyServer, feeds: Sequence[Feed]) -> None:
    """Wait until each window holds exactly the stream's messages for its subject, once and in order."""
    held = stored(server)
    for feed in feeds:
        expected = held.get(feed.key.subject or "", [])
        until(lambda feed=feed, expected=expected: rows(feed) == expected)  # type: ignore[misc]
        assert feed.health.malformed == 0


def parted(feed: Feed) -> bool:
    """Whether a feed has left a shared consumer for one of its own."""
    return any(event.what == "follows its own consumer" for event in feed.events)


def test_one_consumer_for_many(server: NatsServer, client: Client) -> None:
    """Fifty feeds come to share one consumer while messages keep arriving, and each window holds its own
    messages."""
    subjects = devices(MANY)
    with Publisher([server.url], *subjects) as publisher:
        until(lambda: publisher.count > 100)
        feeds = opened(client, MANY)
        shared(server, feeds)
        before = publisher.count
        until(lambda: publisher.count > before + 200)
        publisher.pause()
        all_equal(server, feeds)
        assert {feed.health.restarts for feed in feeds} == {0}
        assert consumers(server) == 1
        publisher.resume()
        until(lambda: publisher.count > before + 400)
    all_equal(server, feeds)
    assert {feed.health.phase for feed in feeds} == {"following"}
    assert not any(parted(feed) for feed in feeds)


def test_idle_feeds_share(server: NatsServer, client: Client) -> None:
    """Feeds without messages share a consumer too, while the stream receives messages of other subjects."""
    with Publisher([server.url], "s.other", rate=20):
        feeds = opened(client, SOME)
        shared(server, feeds)
        assert {feed.health.phase for feed in feeds} == {"following"}
    for subject in devices(SOME):
        server.publish(subject, *numbered(3))
    all_equal(server, feeds)


def consumer(server: NatsServer) -> dict[str, Any]:
    """The only consumer of the stream."""
    (found,) = api(server, "CONSUMER.LIST.S")["consumers"]
    return dict(found)


def pause(server: NatsServer) -> None:
    """Pause the stream's only consumer for an hour."""
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    api(server, f"CONSUMER.PAUSE.S.{consumer(server)['name']}", {"pause_until": later})


def update(server: NatsServer, **config: Any) -> None:
    """Change the configuration of the stream's only consumer."""
    found = consumer(server)
    config = found["config"] | config
    body = {"stream_name": "S", "config": config, "action": "update"}
    api(server, f"CONSUMER.CREATE.S.{found['name']}.{config['filter_subject']}", body)


def killed(server: NatsServer) -> None:
    """kill -9 the server, and start it again."""
    server.kill()
    server.start()


def made_anew(server: NatsServer) -> None:
    """Delete the stream and create it again."""
    api(server, "STREAM.DELETE.S")
    stream(server, "S", "s.>")


FAULTS: dict[str, Callable[[NatsServer], object]] = {
    "server killed": killed,
    "consumer deleted": lambda server: api(server, f"CONSUMER.DELETE.S.{consumer(server)['name']}"),
    "consumer paused": pause,
    "one subject only": lambda server: update(server, filter_subject="s.device-1"),
    "more subjects": lambda server: update(server, filter_subject="s.>"),
    "headers only": lambda server: update(server, headers_only=True),
    "stream created again": made_anew,
}


@pytest.mark.parametrize("what", FAULTS)
def test_fault(server: NatsServer, client: Client, what: str) -> None:
    """Whatever happens to the shared consumer, each window has each message once, and later the feeds share
    one again."""
    with Publisher([server.url], *devices(SOME), "s.deeper.x") as publisher:
        feeds = opened(client, SOME)
        shared(server, feeds)
        FAULTS[what](server)
        until(lambda: all(parted(feed) for feed in feeds))
        before = publisher.count
        until(lambda: publisher.count > before + 100)
        shared(server, feeds)
        before = publisher.count
        until(lambda: publisher.count > before + 100)
    all_equal(server, feeds)
    assert {feed.health.phase for feed in feeds} == {"following"}
    assert {feed.health.recreated for feed in feeds} == {int(what == "stream created again")}


def test_purges(server: NatsServer, client: Client) -> None:
    """Purged messages leave the windows of feeds that share a consumer, and the feeds continue to share
    it."""
    with Publisher([server.url], *devices(SOME)) as publisher:
        feeds = opened(client, SOME)
        shared(server, feeds)
        api(server, "STREAM.PURGE.S", {"filter": "s.device-1"})
        api(server, "STREAM.PURGE.S", {"keep": 30})
        before = publisher.count
        until(lambda: publisher.count > before + 100)
    all_equal(server, feeds)
    api(server, "STREAM.PURGE.S")
    until(lambda: not any(len(feed.snapshot()) for feed in feeds))
    for subject in devices(SOME):
        server.publish(subject, *numbered(2))
    all_equal(server, feeds)
    assert not any(parted(feed) for feed in feeds)


def test_disk_restored_from_a_backup(tmp_path: Path, server: NatsServer, client: Client) -> None:
    """If a stream goes back in time and is then written to, each window starts over."""
    store, kept = tmp_path / "nats" / "jetstream", tmp_path / "kept"
    for subject in devices(SOME):
        server.publish(subject, *numbered(2))
    server.stop()
    shutil.copytree(store, kept)
    server.start()
    feeds = opened(client, SOME)
    shared(server, feeds)
    for subject in devices(SOME):
        server.publish(subject, *numbered(2, 2))
    all_equal(server, feeds)
    server.stop()
    shutil.rmtree(store)
    kept.rename(store)
    server.start()
    for first in (100, 102):  # the same subjects under the same sequences, and more behind them
        for subject in devices(SOME):
            server.publish(subject, *numbered(2, first))
    all_equal(server, feeds)
    shared(server, feeds)


def test_longer_look_back(server: NatsServer, client: Client) -> None:
    """A feed with a longer look-back gets the older rows, and continues to share the consumer."""
    subjects = devices(SOME)
    for subject in subjects:
        server.publish(subject, *numbered(3))
    time.sleep(2)
    with Publisher([server.url], *subjects, rate=200) as publisher:
        feeds = opened(client, SOME, "PT1S")
        shared(server, feeds)
        for subject in subjects[:3]:
            client.feed("S", subject, look_back="PT1H")
        before = publisher.count
        until(lambda: publisher.count > before + 100)
        publisher.pause()
        all_equal(server, feeds[:3])
        publisher.resume()
        opened(client, SOME)
    all_equal(server, feeds)
    assert not any(parted(feed) for feed in feeds)


def test_one_in_doubt_leaves_by_itself(server: NatsServer, client: Client) -> None:
    """A feed in doubt continues with a consumer of its own, and later shares again; the other feeds stay."""
    with Publisher([server.url], *devices(SOME)) as publisher:
        feeds = opened(client, SOME)
        shared(server, feeds)
        client._loop.call_soon_threadsafe(feeds[0]._consumer.restart, "a doubt")
        until(lambda: parted(feeds[0]))
        until(lambda: consumers(server) == 2)
        shared(server, feeds)
        before = publisher.count
        until(lambda: publisher.count > before + 100)
    all_equal(server, feeds)
    assert not any(parted(feed) for feed in feeds[1:])


def test_shared_consumer_stands_still(server: NatsServer, client: Client) -> None:
    """A feed that gets no more updates from the shared consumer leaves it for one of its own."""
    feeds = opened(client, SOME)
    shared(server, feeds)
    seat = feeds[0]._consumer._seat  # type: ignore[union-attr]
    assert seat is not None
    seat.current_at = lambda: 0.0
    until(lambda: feeds[0].health.phase != "following")
    until(lambda: parted(feeds[0]))
    shared(server, feeds)
    for subject in devices(SOME):
        server.publish(subject, *numbered(2))
    all_equal(server, feeds)
    assert not any(parted(feed) for feed in feeds[1:])


def test_wildcard_not_permitted(tmp_path: Path) -> None:
    """If the login may not create a consumer for the wildcard, each feed has its own consumer, and the
    wildcard is tried only once."""
    create = [f"$JS.API.CONSUMER.CREATE.S.*.{subject}" for subject in devices(MANY)]
    permitted = [
        "$JS.API.STREAM.>",
        "$JS.API.CONSUMER.INFO.>",
        "$JS.API.CONSUMER.DELETE.>",
        "$JS.FC.>",
        *create,
    ]
    rights = {"publish": {"allow": permitted}, "subscribe": {"allow": ">"}}
    log = tmp_path / "log"
    config = (
        f'log_file: "{log}"\nauthorization {{ users: [ {{ user: admin, password: x }}, '
        f"{{ user: me, password: x, permissions: {json.dumps(rights)} }} ] }}"
    )
    with running_server(tmp_path / "nats", config) as server:
        url, server.url = server.url, server.url.replace("//", "//admin:x@")
        server.add_stream("S", ["s.>"])
        for subject in devices(MANY):
            server.publish(subject, *numbered(2))
        with Client(Settings(url=url, user="me", password="x")) as client:
            feeds = opened(client, MANY)
            until(lambda: "Publish Violation" in log.read_text())
            time.sleep(AGAIN_AFTER + 2 * CHECK_EVERY)
            assert log.read_text().count("Publish Violation") == 1
            assert consumers(server) == MANY
            for subject in devices(MANY):
                server.publish(subject, *numbered(2, 2))
            all_equal(server, feeds)
            assert {feed.health.phase for feed in feeds} == {"following"}
            assert {feed.health.restarts for feed in feeds} == {0}


def test_too_few(server: NatsServer, client: Client) -> None:
    """Fewer than SIBLINGS feeds have a consumer each, even if they are what is left of many."""
    feeds = opened(client, SIBLINGS - 1)
    time.sleep(ASKED_FOR)
    assert consumers(server) == SIBLINGS - 1
    feeds = opened(client, SOME)
    shared(server, feeds)
    with Publisher([server.url], *devices(SOME)) as publisher:
        until(lambda: publisher.count > 50)
        for feed in feeds[3:]:
            asyncio.run_coroutine_threadsafe(feed.close("the test is done with it"), client._loop).result(30)
        until(lambda: consumers(server) == 3)
        before = publisher.count
        until(lambda: publisher.count > before + 50)
    all_equal(server, feeds[:3])
    assert {feed.health.phase for feed in feeds[:3]} == {"following"}
    assert {feed.health.restarts for feed in feeds[:3]} == {0}


@contextmanager
def noise(server: NatsServer) -> Iterator[None]:
    """Publish a hundred messages ten times a second while the block runs; one of each hundred is for a device
    of SOME."""
    ended = threading.Event()

    async def publish(nc: Any) -> None:
        sent = 0
        while not ended.is_set():
            for i in range(100):
                await nc.publish(f"s.device-{sent % SOME}" if i == 0 else f"s.noise-{i}", b'{"n":%d}' % sent)
            sent += 1
            await asyncio.sleep(0.1)
        await nc.flush()

    thread = threading.Thread(target=lambda: server.run(publish))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_noisy_neighbours(server: NatsServer, client: Client) -> None:
    """If the wildcard brings far more messages than the feeds need, each feed has a consumer of its own
    again."""
    with noise(server):
        feeds = opened(client, SOME)
        shared(server, feeds)
        until(lambda: consumers(server) == SOME)
        assert "no feed reads" in feeds[0].events[-1].why
        time.sleep(AGAIN_AFTER + 2 * CHECK_EVERY)
        assert consumers(server) == SOME
    all_equal(server, feeds)
    assert {feed.health.restarts for feed in feeds} == {0}


def test_what_is_live_is_not_old(server: NatsServer, client: Client) -> None:
    """When the server freezes, no feed is reported as live for longer than CURRENT_FOR; afterwards all are
    live again."""
    feeds = opened(client, SOME)
    shared(server, feeds)
    time.sleep(CURRENT_FOR + 1)
    assert {feed.health.phase for feed in feeds} == {"following"}
    server.signal(signal.SIGSTOP)
    stopped = time.monotonic()
    try:
        live = set(range(SOME))
        while live:
            for i in range(SOME):
                asked = time.monotonic()
                if feeds[i].health.phase != "following":
                    live.discard(i)
                else:
                    assert asked - stopped < CURRENT_FOR + 0.5  # received messages are processed late
            time.sleep(0.02)
    finally:
        server.signal(signal.SIGCONT)
    until(lambda: {feed.health.phase for feed in feeds} == {"following"})
    for subject in devices(SOME):
        server.publish(subject, *numbered(2))
    all_equal(server, feeds)


def test_cluster(tmp_path: Path) -> None:
    """Feeds of a replicated stream share a consumer. When the node that leads the stream or the consumer is
    killed, each window still has each message once."""
    with running_cluster(tmp_path) as cluster:
        cluster.run(lambda nc: nc.jetstream(timeout=5).add_stream(name="S", subjects=["s.>"], num_replicas=3))
        cluster.settle("S")
        subjects = [*devices(SOME - 4), "s.other"]  # some have no messages
        settings = Settings(url=",".join(cluster.urls))
        with Publisher(cluster.urls, *subjects) as publisher, Client(settings) as client:
            feeds = opened(client, SOME)
            shared(cluster, feeds)
            leads = api(cluster, "CONSUMER.LIST.S")["consumers"][0]["cluster"]["leader"]
            for name in {leads, cluster.leader("S")}:
                cluster.nodes[name].kill()
                before = publisher.count
                until(lambda before=before: publisher.count > before + 50, 60)  # type: ignore[misc]
                cluster.nodes[name].start()
                cluster.settle("S")
                shared(cluster, feeds)
            publisher.pause()
            cluster.settle("S")
            all_equal(cluster, feeds)
            assert all(parted(feed) for feed in feeds)
            assert {feed.health.phase for feed in feeds} == {"following"}
            assert {feed.health.recreated for feed in feeds} == {0}


def test_changed_limits_go_on(server: NatsServer, client: Client) -> None:
    """Feeds continue to share a consumer when the limits of their stream change."""
    feeds = opened(client, SOME)
    shared(server, feeds)
    change(server, "S", max_msgs_per_subject=2)
    for subject in devices(SOME):
        server.publish(subject, *numbered(2))
    all_equal(server, feeds)
    assert not any(parted(feed) for feed in feeds)
