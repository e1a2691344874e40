"""Streams that allow none of our consumers are read by sequence, which neither removes nor retains a message.

Slow, because servers are killed, and a cluster starts.
"""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nats_client import Client, Feed, NamedFeed, Settings
from nats_client.errors import RequestRefused
from tests.cluster import running_cluster
from tests.jetstream import api, change, messages, publish, stream, work, worker
from tests.nats import NatsServer, numbered, running_server
from tests.publisher import Publisher
from tests.waiting import until


def opened(client: Client, name: str, subject: str | None = None) -> Feed:
    """A feed that has caught up."""
    feed = client.feed(name, subject, look_back="PT1H")
    assert isinstance(feed, Feed)
    assert feed.wait(30)
    assert feed.health.phase == "following", feed.health.why
    return feed


def values(feed: Feed | NamedFeed) -> list[int]:
    """The values of `n` in the feed's rows."""
    rows = feed.snapshot()
    return [int(value) for value in rows.numbers("n")] if "n" in rows.columns else []


def test_work_queue(server: NatsServer, client: Client) -> None:
    """Two feeds of a work queue show its waiting and its new messages, and its worker still gets every
    message."""
    stream(server, "JOBS", "jobs.>", retention="workqueue")
    worker(server, "JOBS", filter_subject="jobs.>")
    for i in range(10):
        publish(server, f"jobs.{'ab'[i % 2]}", *numbered(1, i))
    whole, part = opened(client, "JOBS"), opened(client, "JOBS", "jobs.a")
    assert (values(whole), values(part)) == (list(range(10)), [0, 2, 4, 6, 8])
    assert "work queue" in str(whole.health.by_sequence)
    publish(server, "jobs.a", *numbered(5, 10))
    until(lambda: values(whole) == list(range(15)))
    until(lambda: values(part) == [0, 2, 4, 6, 8, *range(10, 15)])
    assert messages(server, "JOBS") == 15
    assert [json.loads(each)["n"] for each in work(server, "JOBS", 15)] == list(range(15))
    assert messages(server, "JOBS") == 0
    publish(server, "jobs.a", *numbered(1, 15))
    until(lambda: values(whole) == list(range(16)))
    assert not whole.health.gaps
    assert whole.health.begins is None
    assert (whole.health.restarts, whole.health.recreated) == (0, 0)


def test_interest(server: NatsServer, client: Client) -> None:
    """A feed of a stream with interest retention registers no interest. A message without other interest is
    not stored, and a message that its worker has not received stays."""
    stream(server, "I", "i.>", retention="interest")
    feed = opened(client, "I")
    publish(server, "i.a", *numbered(3))
    assert messages(server, "I") == 0
    worker(server, "I")
    publish(server, "i.a", *numbered(5, 3))
    until(lambda: values(feed) == list(range(3, 8)))
    assert messages(server, "I") == 5
    assert api(server, "STREAM.INFO.I")["state"]["consumer_count"] == 1
    assert [json.loads(each)["n"] for each in work(server, "I", 5)] == list(range(3, 8))
    assert messages(server, "I") == 0
    assert values(feed) == list(range(3, 8))
    assert not feed.health.gaps


def limit_consumers(server: NatsServer) -> None:
    """Limit the stream to one consumer, and create it."""
    stream(server, "L", "l.>", max_consumers=1)
    worker(server, "L")


def limit_acknowledgements(server: NatsServer) -> None:
    """Limit unacknowledged messages; the stream then refuses a consumer without acknowledgements."""
    stream(server, "L", "l.>", consumer_limits={"max_ack_pending": 10})


def limit_account(server: NatsServer) -> None:
    """Create the one consumer that the account is permitted."""
    stream(server, "L", "l.>")
    worker(server, "L")


ONE = "accounts { A: { users: [{user: a, password: a}], jetstream: { max_consumers: 1 } } }\nno_auth_user: a"


CONSUMERS = (
    "A limit was reached: the account or the stream has its maximum number of consumers ('max_consumers')"
)


@pytest.mark.parametrize(
    ("limit", "why"), [(limit_consumers, CONSUMERS), (limit_acknowledgements, ""), (limit_account, CONSUMERS)]
)
def test_no_consumer_left(tmp_path: Path, limit: Callable[[NatsServer], None], why: str) -> None:
    """A stream that refuses further consumers is read completely, each message once. Deleted messages are a
    gap, and the feed's health names the limit that was reached."""
    store = f'jetstream {{ store_dir: "{tmp_path}" }}\n'
    with running_server(tmp_path, store + ONE if limit is limit_account else "") as server:
        limit(server)
        with Client(Settings(url=server.url)) as client:
            publish(server, "l.a", *numbered(100))
            api(server, "STREAM.MSG.DELETE.L", {"seq": 50})
            feed = opened(client, "L")
            assert feed.snapshot().seq.tolist() == [*range(1, 50), *range(51, 101)]
            assert f"refuses a consumer: {why}" in str(feed.health.by_sequence)
            with Publisher([server.url], "l.b") as publisher:
                until(lambda: publisher.count > 50)
            total = 100 + publisher.count
            until(lambda: len(feed.snapshot()) == total - 1)
            assert feed.snapshot().seq.tolist() == [*range(1, 50), *range(51, total + 1)]
            api(server, "STREAM.MSG.DELETE.L", {"seq": 60})
            until(lambda: len(feed.snapshot()) == total - 2)
            assert sum(gap.count or 0 for gap in feed.health.gaps) == 2


FULL = {
    "of the server": (
        'jetstream {{ store_dir: "{}", max_mem: 0, max_file: 500000 }}',
        "the server does not have enough memory left ('max_mem') (error code 10028)",
    ),
    "of the account": (
        'jetstream {{ store_dir: "{}" }}\naccounts {{ A: {{ users: [{{user: a, password: a}}], '
        "jetstream: {{ max_file: 500000, max_mem: 500000, max_streams: 1 }} }} }}\nno_auth_user: a",
        "the account has its maximum number of streams ('max_streams') (error code 10027)",
    ),
}


@pytest.mark.parametrize("limit", FULL)
def test_no_room_left(tmp_path: Path, limit: str) -> None:
    """A stream on a full server or account is still read with a consumer. A request that needs more room is
    refused with the limit."""
    config, said = FULL[limit]
    with running_server(tmp_path, config.format(tmp_path)) as server:
        stream(server, "S", "s.>")
        stored = server.run(fill)
        assert 0 < stored < 40
        with Client(Settings(url=server.url)) as client:
            feed = opened(client, "S")
            assert len(feed.snapshot()) == stored
            assert (feed.health.phase, feed.health.by_sequence) == ("following", None)
            wanted = {"name": "M", "subjects": ["m.>"], "storage": "memory"}
            with pytest.raises(RequestRefused, match=re.escape(f"A limit was reached: {said}")):
                client._call(client._connection.api("STREAM.CREATE.M", wanted))


async def fill(nc: Any) -> int:
    """Publish until the stream refuses a message; return how many it has stored."""
    for count in range(40):
        answer = await nc.request("s.a", b'{"x":"%s"}' % (b"x" * 30_000), timeout=5)
        if b'"error"' in answer.data:
            return count
    return 40


def test_consumer_limits_of_the_stream(server: NatsServer, client: Client) -> None:
    """If a stream's `inactive_threshold` is lower than our usual request, the feed requests a consumer within
    it."""
    stream(server, "L", "l.>", consumer_limits={"inactive_threshold": 2_000_000_000})
    publish(server, "l.a", *numbered(5))
    feed = opened(client, "L")
    assert values(feed) == list(range(5))
    assert feed.health.by_sequence is None


def test_look_back(server: NatsServer, client: Client) -> None:
    """A feed that reads by sequence also begins at its look-back; a longer look-back fetches the missing
    rows."""

    async def aged(nc: Any) -> None:
        for i in range(300):
            await nc.jetstream().publish("jobs.a", json.dumps({"n": i}).encode())
            if i in (99, 199):
                await asyncio.sleep(2.5)

    stream(server, "JOBS", "jobs.>", retention="workqueue")
    server.run(aged)
    feed = client.feed("JOBS", look_back="PT2S")
    assert feed.wait(30)
    assert values(feed) == list(range(200, 300))
    assert client.feed("JOBS", look_back="PT1H") is feed
    until(lambda: values(feed) == list(range(300)))


def test_server_killed(server: NatsServer, client: Client) -> None:
    """If the server is killed with SIGKILL while a work queue is read, no message is lost or duplicated."""
    stream(server, "JOBS", "jobs.>", retention="workqueue")
    with Publisher([server.url], "jobs.a") as publisher:
        feed = client.feed("JOBS", look_back="PT1H")
        until(lambda: len(feed.snapshot()) > 50)
        server.kill()
        until(lambda: feed.health.phase == "reconnecting")
        server.start()
        count = publisher.count
        until(lambda: publisher.count > count + 50)
    until(lambda: len(feed.snapshot()) == publisher.count)
    assert feed.snapshot().seq.tolist() == list(range(1, publisher.count + 1))
    assert feed.health.recreated == 0


def test_recreated(server: NatsServer, client: Client) -> None:
    """The window starts over if its work queue is deleted and created again."""
    stream(server, "JOBS", "jobs.>", retention="workqueue")
    publish(server, "jobs.a", *numbered(5))
    feed = opened(client, "JOBS")
    api(server, "STREAM.DELETE.JOBS")
    until(lambda: feed.health.phase == "stopped")
    stream(server, "JOBS", "jobs.>", retention="workqueue")
    publish(server, "jobs.a", *numbered(3, 100))
    until(lambda: feed.health.phase == "following" and values(feed) == [100, 101, 102])
    assert feed.health.recreated == 1


def test_retention_changed(server: NatsServer, client: Client) -> None:
    """If a stream's retention changes to interest, the feed continues by sequence and without a consumer.
    Once it is limits again, the feed uses a consumer again. No message is lost."""
    stream(server, "S2", "s2.>")
    worker(server, "S2")
    publish(server, "s2.a", *numbered(5))
    feed = opened(client, "S2")
    change(server, "S2", retention="interest")
    until(lambda: feed.health.by_sequence is not None and feed.health.phase == "following")
    until(lambda: api(server, "STREAM.INFO.S2")["state"]["consumer_count"] == 1)
    publish(server, "s2.a", *numbered(5, 5))
    until(lambda: values(feed) == list(range(10)))
    change(server, "S2", retention="limits")
    until(lambda: feed.health.by_sequence is None and feed.health.phase == "following")
    publish(server, "s2.a", *numbered(5, 10))
    until(lambda: values(feed) == list(range(15)))
    assert not feed.health.gaps


def test_bucket(server: NatsServer, client: Client) -> None:
    """A bucket that refuses further consumers is still watched, including its deletions."""
    stream(server, "KV_B", "$KV.B.>", max_consumers=1, max_msgs_per_subject=5, allow_rollup_hdrs=True)
    worker(server, "KV_B")
    publish(server, "$KV.B.one", b"1", b"2")
    publish(server, "$KV.B.two", b"3")
    watch = client.values("B")
    assert watch.wait(30)
    assert dict(watch.snapshot()) == {"one": 2, "two": 3}
    publish(server, "$KV.B.two", b"", KV_Operation="DEL")
    publish(server, "$KV.B.one", b"4")
    until(lambda: dict(watch.snapshot()) == {"one": 4})


def test_not_permitted(tmp_path: Path) -> None:
    """If the login may not read by sequence, the feed stops, and its health names the reason and the missing
    subject."""
    users = """authorization { users: [{ user: admin, password: x }, { user: me, password: x,
      permissions: { publish: { deny: "$JS.API.STREAM.MSG.GET.>" } } }] }"""
    with running_server(tmp_path, users) as server:
        url, server.url = server.url, server.url.replace("//", "//admin:x@")
        stream(server, "JOBS", "jobs.>", retention="workqueue")
        publish(server, "jobs.a", *numbered(1))
        with Client(Settings(url=url, user="me", password="x")) as client:
            feed = client.feed("JOBS", look_back="PT1H")
            assert feed.wait(30)
            assert feed.health.phase == "stopped"
            why = str(feed.health.why)
            assert "by sequence" in why
            assert "work queue" in why
            assert "'$JS.API.STREAM.MSG.GET.JOBS'" in why


def test_replicated(tmp_path: Path) -> None:
    """In a cluster, streams with three replicas are read whatever their retention, and with a consumer where
    that does no harm. No message is lost when a leader is killed."""
    with running_cluster(tmp_path) as cluster:
        for retention in ("limits", "interest", "workqueue"):
            name = retention[0].upper()
            stream(cluster, name, f"{name}.>", retention=retention, num_replicas=3)
            worker(cluster, name)
            cluster.settle(name)
            publish(cluster, f"{name}.a", *numbered(10))
        with Client(Settings(url=",".join(cluster.urls))) as client:
            feeds = {name: opened(client, name) for name in "LIW"}
            for feed in feeds.values():
                assert values(feed) == list(range(10))
            assert [feeds[name].health.by_sequence is None for name in "LIW"] == [True, False, False]
            killed = cluster.leader("W")
            cluster.nodes[killed].kill()
            for name in "LIW":
                publish(cluster, f"{name}.a", *numbered(5, 10))
            for feed in feeds.values():
                until(lambda: values(feed) == list(range(15)), 60)
            for name in "LIW":
                assert messages(cluster, name) == 15
                assert [json.loads(each)["n"] for each in work(cluster, name, 15)] == list(range(15))
