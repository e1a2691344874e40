"""Every kind of stream, as a feed reads it from a real server. docs/streams.md has the table; kinds that need
more tests have files of their own.

Slow, because streams without a leader are waited for.
"""

import ast
import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nats_client import Client, Feed, Settings
from nats_client.errors import RequestFailed
from tests.cluster import Cluster, running_cluster
from tests.jetstream import api, messages, publish, stream
from tests.nats import NatsServer, numbered, running_server
from tests.running import ROOT
from tests.waiting import until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One nats-server for all kinds; each test has streams of its own."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


def opened(client: Client, name: str, subject: str | None = None) -> Feed:
    """A feed that has caught up."""
    feed = client.feed(name, subject, look_back="PT1H")
    assert isinstance(feed, Feed)
    until(lambda: feed.health.phase == "following", 60)
    return feed


def values(feed: Feed) -> list[int]:
    """The numbers that the feed's rows carry."""
    rows = feed.snapshot()
    return [int(value) for value in rows.numbers("n")] if "n" in rows.columns else []


def test_sources(server: NatsServer, client: Client) -> None:
    """A stream with several sources and subjects of its own is read as one stream. Each message appears once,
    under its stored subject, and none is counted as missing."""
    for name in ("ONE", "TWO"):
        stream(server, name, f"{name}.>")
        publish(server, f"{name}.a", *numbered(3))
    moved = [{"src": "TWO.>", "dest": "moved.>"}]
    sources = [{"name": "ONE"}, {"name": "TWO", "subject_transforms": moved}]
    stream(server, "BOTH", "both.>", sources=sources)
    publish(server, "both.a", *numbered(3))
    until(lambda: messages(server, "BOTH") == 9)
    feed, part = opened(client, "BOTH"), opened(client, "BOTH", "moved.a")
    publish(server, "ONE.a", *numbered(1, 3))
    publish(server, "TWO.a", *numbered(1, 3))
    until(lambda: len(feed.snapshot()) == 11)
    until(lambda: values(part) == [0, 1, 2, 3])
    rows = feed.frame()
    counts = rows["_subject"].astype(str).value_counts().to_dict()
    assert counts == {"ONE.a": 4, "moved.a": 4, "both.a": 3}
    assert not feed.health.gaps
    assert feed.health.begins is None


def test_republish(server: NatsServer, client: Client) -> None:
    """A stream that republishes is read once. A feed of the republished subject has each message as it is
    stored, or rows without fields if only headers are republished."""
    stream(server, "R", "r.>", republish={"src": "r.>", "dest": "copy.>"})
    stream(server, "H", "h.>", republish={"src": "h.>", "dest": "told.>", "headers_only": True})
    stored = opened(client, "R")
    copies, headers_only = (client.feed(None, subject, look_back="PT1H") for subject in ("copy.>", "told.>"))
    assert copies.wait(30)
    assert headers_only.wait(30)
    publish(server, "r.a", *numbered(5))
    publish(server, "h.a", *numbered(5))
    assert isinstance(copies, Feed)
    for feed in (stored, copies):
        until(lambda: values(feed) == list(range(5)))
    until(lambda: len(headers_only.snapshot()) == 5)
    assert headers_only.snapshot().columns == {"_subject": "text"}
    assert not stored.health.gaps
    assert (headers_only.health.malformed, copies.health.malformed) == (0, 0)


def test_counters(server: NatsServer, client: Client) -> None:
    """A counter (ADR-49) has a row for each of its changes, with its total as a number that can be drawn."""
    stream(server, "C", "c.>", allow_msg_counter=True, allow_direct=True)
    feed = opened(client, "C")
    for step in ("+1", "+10", "-3"):
        publish(server, "c.hits", b"", Nats_Incr=step)
    publish(server, "c.others", b"", Nats_Incr=(big := "12345678901234567890"))
    until(lambda: len(feed.snapshot()) == 4)
    assert feed.snapshot().numbers("val").tolist() == [1, 11, 8, float(big)]
    assert feed.frame()["val"].astype(str).tolist() == ["1", "11", "8", big]
    assert feed.health.malformed == 0
    assert not feed.health.gaps
    late = opened(client, "C", "c.hits")
    assert late.snapshot().numbers("val").tolist() == [1, 11, 8]


def batch(server: NatsServer, name: str, payloads: list[bytes], *, commit: bool) -> None:
    """Publish an atomic batch (ADR-50), and commit it or leave it open."""

    async def work(nc: Any) -> None:
        for number, payload in enumerate(payloads, 1):
            headers = {"Nats-Batch-Id": name, "Nats-Batch-Sequence": str(number)}
            if commit and number == len(payloads):
                headers["Nats-Batch-Commit"] = "1"
                answer = await nc.request("b.a", payload, headers=headers, timeout=10)
                assert b'"error"' not in answer.data, answer.data
            else:
                await nc.publish("b.a", payload, headers=headers)
        await nc.flush()

    server.run(work)


def test_batches(server: NatsServer, client: Client) -> None:
    """A committed batch appears as a whole, an abandoned one leaves nothing, and neither is a gap."""
    stream(server, "B", "b.>", allow_atomic=True)
    feed = opened(client, "B")
    batch(server, "given-up", numbered(3, 100), commit=False)
    batch(server, "whole", numbered(50), commit=True)
    publish(server, "b.a", *numbered(1, 50))
    until(lambda: values(feed) == list(range(51)))
    assert feed.snapshot().seq.tolist() == list(range(1, 52))
    assert not feed.health.gaps
    assert (feed.health.restarts, feed.health.malformed) == (0, 0)


def test_several_filters(server: NatsServer, client: Client) -> None:
    """A feed of several filters has the messages of each, once and in the order of the stream, from a
    consumer and by sequence. The same filters in another order, or with one that lies within another, give
    the same feed."""
    stream(server, "M", "m.>")
    stream(server, "MQ", "mq.>", retention="workqueue")
    for i in range(12):
        for name in ("m", "mq"):
            publish(server, f"{name}.{'abc'[i % 3]}.x", *numbered(1, i))
    wanted = [0, 2, 3, 5, 6, 8, 9, 11]
    for name, top in (("M", "m"), ("MQ", "mq")):
        feed = client.feed(name, [f"{top}.c.>", f"{top}.a.*"], look_back="PT1H")
        assert feed is client.feed(name, (f"{top}.a.*", f"{top}.c.>", f"{top}.c.x"), look_back="PT1H")
        assert isinstance(feed, Feed)
        until(lambda: feed.health.phase == "following" and values(feed) == wanted, 60)
        assert (feed.health.by_sequence is not None) is (name == "MQ")
        for i in range(12, 15):
            publish(server, f"{top}.{'abc'[i % 3]}.x", *numbered(1, i))
        until(lambda: values(feed) == [*wanted, 12, 14])
        assert feed.snapshot().seq.tolist() == [n + 1 for n in [*wanted, 12, 14]]
        assert not feed.health.gaps
        assert feed.health.name == f"{name} {top}.a.* {top}.c.>"
    hosts = client.feed("M", ["m.{kind}.x", "mm.{kind}.x"], look_back="PT1H")
    until(lambda: len(hosts.snapshot()) == 15)
    assert set(hosts.frame()["kind"].astype(str)) == {"a", "b", "c"}
    api(server, f"CONSUMER.DELETE.M.{our_consumer(server)}")
    publish(server, "m.a.x", *numbered(1, 15))
    again = client.feed("M", ["m.c.>", "m.a.*"], look_back="PT1H")
    assert isinstance(again, Feed)
    until(lambda: values(again) == [*wanted, 12, 14, 15])
    assert not again.health.gaps


def our_consumer(server: NatsServer) -> str:
    """The name of the consumer with two filters."""
    found = api(server, "CONSUMER.LIST.M")["consumers"]
    (name,) = [
        str(each["name"]) for each in found if each["config"].get("filter_subjects") == ["m.a.*", "m.c.>"]
    ]
    return name


def test_several_filters_that_match_nothing(server: NatsServer, client: Client) -> None:
    """If none of several filters matches, the hint explains each of them."""
    stream(server, "NONE", "none.>")
    publish(server, "none.a", *numbered(1))
    feed = client.feed("NONE", ["nome.>", "none.x"], look_back="PT1H")
    until(lambda: "'nome.>' matches no subject" in feed.health.hint)
    assert "no message that matches 'none.x'" in feed.health.hint


THOUSAND = 1000


def test_a_thousand_streams(server: NatsServer, client: Client) -> None:
    """Each of a thousand streams is in the list, in order of name, although the server lists them in pages.
    One in the middle can be opened as usual."""

    async def make(nc: Any) -> None:
        js = nc.jetstream(timeout=30)
        for first in range(0, THOUSAND, 50):
            names = [f"many{i:04d}" for i in range(first, first + 50)]
            made = (js.add_stream(name=each, subjects=[f"{each}.>"], storage="memory") for each in names)
            await asyncio.gather(*made)

    server.run(make)
    publish(server, "many0500.a", *numbered(3))
    found = [info for info in client.streams() if info.name.startswith("many")]
    assert [info.name for info in found] == [f"many{i:04d}" for i in range(THOUSAND)]
    assert [info.messages for info in found if info.messages] == [3]
    assert values(opened(client, "many0500")) == [0, 1, 2]


MANY = 60_000


def test_more_subjects_than_fit(server: NatsServer) -> None:
    """A feed of a stream with more subjects than fit into its memory keeps the newest rows, counts the
    others, and stays below its ceiling."""
    most = 3_000_000

    async def fill(nc: Any) -> None:
        for i in range(MANY):
            await nc.publish(f"n.{i:07d}", b'{"n": %d}' % i)
            if i % 5000 == 0:
                await nc.flush()
        await nc.flush()

    stream(server, "N", "n.>", storage="memory")
    server.run(fill)
    until(lambda: messages(server, "N") == MANY)
    with Client(Settings(url=server.url, feed_memory=most)) as client:
        feed = opened(client, "N")
        until(lambda: values(feed)[-1:] == [MANY - 1])
        rows = feed.snapshot()
        assert rows.seq.tolist() == list(range(MANY - len(rows) + 1, MANY + 1))
        assert 1000 < len(rows) < MANY
        assert feed.health.bytes <= most
        assert feed.health.dropped + len(rows) == MANY
        publish(server, "n.new", *numbered(1, MANY))
        until(lambda: values(feed)[-1:] == [MANY])
        assert feed.health.bytes <= most


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of three nodes."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def test_leaderless_in_the_list(cluster: Cluster) -> None:
    """A stream that has lost its majority stays in the list, as leaderless, and the streams beside it are
    listed and read. A feed of it reports why it waits, keeps its rows, and continues once there is a
    leader."""
    for name, count in (("A", 3), ("L", 2), ("Z", 3)):
        stream(cluster, name, f"{name}.>", num_replicas=count)
        cluster.settle(name)
        publish(cluster, f"{name}.a", *numbered(3))
    state = api(cluster, "STREAM.INFO.L")["cluster"]
    lost = str(state["replicas"][0]["name"])
    urls = [node.url for name, node in cluster.nodes.items() if name != lost]
    with Client(Settings(url=",".join(urls))) as client:
        feed = opened(client, "L")
        client.streams()
        cluster.nodes[lost].kill()

        def leaderless() -> list[str] | None:
            try:
                return [info.name for info in client.streams() if info.leaderless]
            except RequestFailed:  # if the node led the cluster, until there is another leader
                return None

        until(lambda: leaderless() == ["L"], 60)
        assert [info.name for info in client.streams()] == ["A", "L", "Z"]
        assert values(opened(client, "Z")) == [0, 1, 2]
        until(lambda: feed.health.phase != "following", 60)
        assert feed.health.why is not None
        assert values(feed) == [0, 1, 2]
        cluster.nodes[lost].start()
        until(lambda: leaderless() == [], 60)
        publish(cluster, "L.a", *numbered(1, 3))
        until(lambda: values(feed) == [0, 1, 2, 3], 60)


def test_table_names_tests_that_exist() -> None:
    """Each row of docs/streams.md names a test, and each of these tests exists."""
    text = (ROOT / "docs" / "streams.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| -")][1:]
    assert len(rows) >= 18
    for row in rows:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", row.rsplit("|", 2)[1])
        assert named, row
        for file, test in named:
            (found,) = [path for path in (ROOT / "tests").rglob(file) if path.parts[-1] == Path(file).name]
            tree = ast.parse(found.read_text())
            assert test in {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}, row
