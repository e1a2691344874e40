"""A replicated stream on three nodes: whichever node fails, the feed holds the stream's rows.

Slow, because a cluster takes seconds to notice a dead node, and to agree again once it is back.
"""

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from nats_client import Client, Feed, Settings
from tests.cluster import Cluster, running_cluster
from tests.publisher import Publisher
from tests.waiting import until

STREAM = "S"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster for all tests of this file."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    """The cluster, with a fresh stream of three replicas."""
    running.run(lambda nc: nc.jetstream(timeout=5).add_stream(name=STREAM, subjects=["s.>"], num_replicas=3))
    running.settle(STREAM)
    yield running
    running.run(lambda nc: nc.jetstream(timeout=2).delete_stream(STREAM))


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    """A client with the URLs of all nodes."""
    with Client(Settings(url=",".join(cluster.urls))) as client:
        yield client


@pytest.fixture
def publisher(cluster: Cluster) -> Iterator[Publisher]:
    """A publisher that keeps publishing throughout the test."""
    with Publisher(cluster.urls) as publisher:
        yield publisher


@pytest.fixture
def feed(client: Client, publisher: Publisher) -> Feed:
    """A feed that has caught up and follows."""
    feed = client.feed(STREAM, look_back="PT1H")
    assert isinstance(feed, Feed)
    assert feed.wait(30)
    until(lambda: publisher.count > 50 and feed.health.phase == "following")
    return feed


def connected_to(client: Client) -> str:
    """The name of the node that the client is connected to."""
    until(lambda: client.state.status == "connected")
    assert client.state.server_name is not None
    return client.state.server_name


def consumer_node(cluster: Cluster) -> str:
    """The name of the node that the feed's consumer lives on."""
    consumers: list[Any] = []
    while len(consumers) != 1 or not consumers[0].cluster:  # the previous consumer may linger
        consumers = cluster.run(lambda nc: nc.jetstream(timeout=1).consumers_info(STREAM))
    return str(consumers[0].cluster.leader)


def goes_on(publisher: Publisher, count: int = 100) -> None:
    """Wait until the cluster accepts `count` more messages."""
    target = publisher.count + count
    until(lambda: publisher.count >= target, 60)


def equal(cluster: Cluster, feed: Feed, publisher: Publisher) -> None:
    """Check that the feed follows and holds the stream's rows in order, none lost and none duplicated."""
    publisher.pause()
    last = cluster.info(STREAM).state.last_seq
    until(lambda: feed.health.phase == "following" and feed._consumer.last_seq == last, 60)
    snapshot = feed.snapshot()
    assert snapshot.seq.tolist() == list(range(1, last + 1))
    assert snapshot.numbers("n").tolist() == list(range(publisher.count))
    assert feed.health.recreated == 0
    publisher.resume()


def test_leader_killed(cluster: Cluster, feed: Feed, publisher: Publisher) -> None:
    """The feed loses no row if the node that leads the stream is killed and started again."""
    leader = cluster.leader(STREAM)
    cluster.nodes[leader].kill()
    goes_on(publisher)
    equal(cluster, feed, publisher)
    cluster.nodes[leader].start()
    cluster.settle(STREAM)
    equal(cluster, feed, publisher)


def test_connected_node_killed(cluster: Cluster, client: Client, feed: Feed, publisher: Publisher) -> None:
    """If the node that the client is connected to is killed, the client moves to another node and loses no
    row."""
    name = connected_to(client)
    cluster.nodes[name].kill()
    until(lambda: client.state.status == "connected" and client.state.server_name != name)
    goes_on(publisher)
    equal(cluster, feed, publisher)
    cluster.nodes[name].start()
    cluster.settle(STREAM)


def test_connected_node_freezes(cluster: Cluster, client: Client, feed: Feed, publisher: Publisher) -> None:
    """If the node that the client is connected to freezes, the client moves to another node before the first
    one resumes, and loses no row."""
    name = connected_to(client)
    cluster.nodes[name].signal(signal.SIGSTOP)
    try:
        until(lambda: client.state.status == "connected" and client.state.server_name != name)
        goes_on(publisher)
        until(lambda: feed.health.phase == "following", 60)
    finally:
        cluster.nodes[name].signal(signal.SIGCONT)
    cluster.settle(STREAM)
    equal(cluster, feed, publisher)


def test_two_of_three_killed(cluster: Cluster, client: Client, feed: Feed, publisher: Publisher) -> None:
    """Without a majority the feed reports that it is reconnecting, although the remaining node, which leads
    the stream, still replies and sends heartbeats. The feed continues once there is a majority again."""
    left = connected_to(client)
    while cluster.leader(STREAM) != left:
        cluster.run(lambda nc: nc.request(f"$JS.API.STREAM.LEADER.STEPDOWN.{STREAM}"))
        cluster.settle(STREAM)
    while consumer_node(cluster) != left:
        restarts = feed.health.restarts
        feed._consumer.restart("so that it comes to another node")
        until(lambda: feed.health.restarts > restarts and feed.health.phase == "following")
    killed = [name for name in cluster.nodes if name != left]
    for name in killed:
        cluster.nodes[name].kill()
    try:
        until(lambda: feed.health.phase == "reconnecting")
        assert feed.health.why
        time.sleep(3)
        assert feed.health.phase == "reconnecting"
    finally:
        for name in killed:
            cluster.nodes[name].start()
    goes_on(publisher)
    cluster.settle(STREAM)
    equal(cluster, feed, publisher)


def test_rolling_restart(cluster: Cluster, feed: Feed, publisher: Publisher) -> None:
    """The feed loses no row if the nodes are restarted one after the other, as for an upgrade."""
    for node in cluster.nodes.values():
        node.stop()
        node.start()
        cluster.settle(STREAM)
    goes_on(publisher)
    equal(cluster, feed, publisher)


def test_replicas_changed(cluster: Cluster, feed: Feed, publisher: Publisher) -> None:
    """The feed loses no row while the stream changes from three replicas to one and back, and changes its
    subjects."""

    def change(**config: object) -> None:
        cluster.run(lambda nc: nc.jetstream(timeout=5).update_stream(name=STREAM, **config))
        cluster.settle(STREAM)
        goes_on(publisher)

    change(subjects=["s.>"], num_replicas=1)
    change(subjects=["s.>", "other"], num_replicas=3)
    equal(cluster, feed, publisher)
