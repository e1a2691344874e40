"""The list of consumers and the course of their lag, read from a real server."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_client import Client, ConsumerInfo, Consumers, Settings
from nats_client.errors import NotPermitted, RequestFailed
from nats_client.streams.lag_courses import MOST, LagCourses
from tests.cluster import running_cluster
from tests.jetstream import api, publish, stream, work, worker
from tests.nats import NatsServer, numbered, running_server
from tests.waiting import until


def by_name(found: Consumers) -> dict[str, ConsumerInfo]:
    """The consumers by their names."""
    return {each.name: each for each in found.consumers}


def many(server: NatsServer, name: str, count: int) -> None:
    """Create consumers c0, c1 and so on."""

    async def make(nc: Any) -> None:
        for first in range(0, count, 50):
            bodies = [
                {"stream_name": name, "config": {"name": f"c{i}", "durable_name": f"c{i}"}}
                for i in range(first, first + 50)
            ]
            asked = (
                nc.request(
                    f"$JS.API.CONSUMER.CREATE.{name}.c{first + i}", json.dumps(body).encode(), timeout=30
                )
                for i, body in enumerate(bodies)
            )
            await asyncio.gather(*asked)

    server.run(make)


def test_what_each_is_told_as(server: NatsServer, client: Client) -> None:
    """Every consumer of every stream is listed with its configuration and lag, the greatest lag first.
    Consumers of buckets and our own are listed too."""
    later = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    stream(server, "Q", "q.>", retention="workqueue", max_msgs=4, discard="new")
    worker(server, "Q", filter_subject="q.>", max_ack_pending=7)
    worker(server, "S", "later", pause_until=later)
    worker(server, "S", "pushed", deliver_subject="nobody.listens", ack_policy="none", filter_subject="s.b")
    server.run(lambda nc: nc.jetstream().create_key_value(bucket="B"))
    worker(server, "KV_B", "keys")
    publish(server, "q.a", *numbered(3))
    publish(server, "s.a", *numbered(2))

    async def take(nc: Any) -> None:
        pulled = await nc.jetstream().pull_subscribe_bind(consumer="worker", stream="Q")
        await pulled.fetch(1, timeout=10)

    server.run(take)
    assert client.feed("S", look_back="PT1H").wait(30)
    found = client.consumers()
    assert [(each.name, each.lag) for each in found.consumers[:3]] == [
        ("worker", 3),
        ("later", 2),
        ("keys", 0),
    ]
    consumers = by_name(found)
    queue, later_one, pushed = consumers["worker"], consumers["later"], consumers["pushed"]
    assert (queue.undelivered, queue.unacknowledged, queue.most_unacknowledged) == (2, 1, 7)
    assert (queue.durable, queue.push, queue.filters, queue.waiting) == (True, False, ("q.>",), 0)
    assert queue.active is not None
    assert later_one.paused_until == int(datetime.fromisoformat(later).timestamp()) * 1_000_000_000
    assert later_one.active is None
    assert (pushed.push, pushed.bound, pushed.waiting, pushed.most_unacknowledged) == (
        True,
        False,
        None,
        None,
    )
    (ours,) = [each for each in found.consumers if each.description == "Lookback"]
    assert (ours.stream, ours.durable, ours.push, ours.bound) == ("S", False, True, True)
    assert [each.name for each in found.streams] == ["KV_B", "Q", "S"]
    assert [each.fullness for each in found.streams] == [None, 0.75, None]
    assert [each.refuses for each in found.streams] == [True, True, False]
    assert (found.total, found.refused, found.silent) == (5, {}, ())


def test_course(server: NatsServer, client: Client) -> None:
    """The course of a consumer's lag begins with the first listing. A consumer recreated under the same name
    has a course of its own, and a deleted consumer has none."""
    worker(server, "S")
    client.consumers()
    publish(server, "s.a", *numbered(5))
    # The server updates `num_pending` a little after it has stored the messages
    until(lambda: api(server, "CONSUMER.INFO.S.worker")["num_pending"] == 5)
    found = client.consumers()
    (first,) = found.consumers
    assert found.courses.of(first.key) == [0, 5]
    assert (found.courses.change(first.key) or 0) > 0
    work(server, "S", 3)
    api(server, "CONSUMER.DELETE.S.worker")
    worker(server, "S")
    found = client.consumers()
    (second,) = found.consumers
    assert found.courses.of(second.key) == [None, None, 5]
    assert found.courses.of(first.key) == ()


def test_course_starts_over(server: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the list was not read for a while, the courses start over, because a line across that time would be
    a guess."""
    worker(server, "S")
    client.consumers()
    (one,) = client.consumers().consumers
    assert client.consumers().courses.of(one.key) == [0, 0, 0]
    monkeypatch.setattr("nats_client.streams.consumer_list.UNREAD", 0.0)
    assert client.consumers().courses.of(one.key) == [0]


def test_a_thousand(server: NatsServer, client: Client) -> None:
    """A thousand consumers of one stream are listed completely, each once, along with those of other streams.
    A listing sends no request for a stream without consumers."""
    for i in range(20):
        stream(server, f"E{i}", f"e{i}.>")
    many(server, "S", 1000)
    worker(server, "E7")
    asked: list[str] = []
    found: list[Consumers] = []

    async def listened(nc: Any) -> None:
        async def note(message: Any) -> None:
            asked.append(message.subject)

        await nc.subscribe("$JS.API.CONSUMER.LIST.*", cb=note)
        await nc.flush()
        found.append(await asyncio.to_thread(client.consumers))
        await nc.flush()
        await asyncio.sleep(0.2)

    server.run(listened)
    assert sorted(each.name for each in found[0].consumers) == sorted(
        [*(f"c{i}" for i in range(1000)), "worker"]
    )
    assert sorted(asked) == ["$JS.API.CONSUMER.LIST.E7", *["$JS.API.CONSUMER.LIST.S"] * 4]


def test_more_than_are_read(server: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a ceiling no more consumers are read, but their total is still reported."""
    monkeypatch.setattr("nats_client.streams.consumer_list.MOST", 300)
    many(server, "S", 600)
    found = client.consumers()
    assert found.total == 600
    assert 300 <= len(found.consumers) < 600


USERS = """authorization { users: [
  { user: admin, password: x },
  { user: some, password: x, permissions: { publish: { deny: "$JS.API.CONSUMER.LIST.SECRET" } } },
  { user: none, password: x, permissions: { publish: { deny: "$JS.API.CONSUMER.LIST.*" } } } ] }"""


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[NatsServer]:
    """A server with two streams that have consumers, and logins that may list some of them, or none."""
    with running_server(tmp_path / "strict", USERS) as server:
        server.url = server.url.replace("//", "//admin:x@")
        for name in ("OPEN", "SECRET"):
            stream(server, name, f"{name}.>")
            worker(server, name, f"of-{name}")
        yield server


@pytest.mark.parametrize(("user", "seen"), [("admin", 2), ("some", 1), ("none", 0)])
def test_what_a_login_may_not_list(strict: NatsServer, user: str, seen: int) -> None:
    """Streams whose consumers the login may not list are named with the missing subject, and consumers of
    other streams are listed. Refused requests are not repeated with each listing."""
    url = strict.url.replace("admin", user)
    with Client(Settings(url=url)) as client:
        found = client.consumers()
        assert len(found.consumers) == seen
        assert len(found.refused) == 2 - seen
        assert len(found.streams) == 2
        for name, error in found.refused.items():
            assert isinstance(error, NotPermitted)
            assert f"'$JS.API.CONSUMER.LIST.{name}'" in str(error)
        violations = len(client.events)
        for _ in range(3):
            again = client.consumers()
            assert again.refused.keys() == found.refused.keys()
        assert len(client.events) == violations


def test_cluster(tmp_path: Path) -> None:
    """In a cluster each consumer has its leader and replicas. If a node dies, a stream stored only there is
    reported as silent, and the consumers of other streams are still listed, with the node as behind."""
    with running_cluster(tmp_path) as cluster:
        for name, count in (("A", 3), ("L", 1), ("Z", 3)):
            stream(cluster, name, f"{name}.>", num_replicas=count)
            cluster.settle(name)
            worker(cluster, name, f"of-{name}")
        lost = cluster.leader("L")
        urls = [node.url for name, node in cluster.nodes.items() if name != lost]
        with Client(Settings(url=",".join(urls))) as client:
            until(lambda: all(each.leader for each in client.consumers().consumers))
            consumers = by_name(client.consumers())
            assert {name: each.replicas for name, each in consumers.items()} == {
                "of-A": 3,
                "of-L": 1,
                "of-Z": 3,
            }
            assert consumers["of-L"].leader == lost
            cluster.nodes[lost].kill()

            def seen() -> Consumers | None:
                try:
                    return client.consumers()
                except RequestFailed:  # if the node was the cluster's leader, until another one is elected
                    return None

            def rest() -> bool:
                found = seen()
                return found is not None and (set(by_name(found)), found.silent) == ({"of-A", "of-Z"}, ("L",))

            until(rest, 90)
            until(lambda: (found := seen()) and all(lost in each.behind for each in found.consumers), 60)


@given(st.lists(st.tuples(st.integers(1, 10**10), st.integers(0, 10**6)), max_size=700))
def test_courses_are_bounded(steps: list[tuple[int, int]]) -> None:
    """However long a course gets, its number of points is bounded. Its greatest lag is kept, and its last
    point covers the newest lag."""
    courses, now = LagCourses(), 0
    key = ("S", "C", "1")
    for step, lag in steps:
        now += step
        courses.note(now, {key: lag})
    points = courses.of(key)
    assert len(points) <= MOST
    if steps:
        lags = [lag for _, lag in steps]
        assert max(point for point in points if point is not None) == max(lags)
        assert (points[-1] or 0) >= lags[-1]
        few = courses.of(key, 60)
        assert len(few) <= 60
        assert max(point for point in few if point is not None) == max(lags)


def test_unknown_is_no_zero() -> None:
    """While a stream does not reply, the lag of its consumers is unknown, not zero, and earlier points are
    kept."""
    courses, key = LagCourses(), ("S", "C", "1")
    courses.note(1, {key: 5})
    courses.note(2, {}, {"S"})
    courses.note(3, {key: 7})
    assert courses.of(key) == [5, None, 7]
    assert courses.since == 1
