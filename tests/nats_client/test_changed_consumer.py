"""If an administrator changes our consumer or its stream while it is read, the rows are still the
stream's."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nats_client import Client, Feed
from tests.jetstream import api, change, publish, stream
from tests.nats import NatsServer, numbered
from tests.waiting import until


def opened(client: Client, name: str = "S", subject: str | None = None) -> Feed:
    """A feed that has caught up."""
    feed = client.feed(name, subject, look_back="PT1H")
    assert isinstance(feed, Feed)
    assert feed.wait(30)
    return feed


def consumer(server: NatsServer, name: str) -> dict[str, Any]:
    """The only consumer of a stream."""
    (found,) = api(server, f"CONSUMER.LIST.{name}")["consumers"]
    return dict(found)


def pause(server: NatsServer, name: str) -> None:
    """Pause the stream's only consumer for an hour."""
    until_when = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    api(server, f"CONSUMER.PAUSE.{name}.{consumer(server, name)['name']}", {"pause_until": until_when})


def update(server: NatsServer, name: str, **config: Any) -> None:
    """Change the configuration of the stream's only consumer."""
    found = consumer(server, name)
    body = {"stream_name": name, "config": found["config"] | config, "action": "update"}
    subject = f"CONSUMER.CREATE.{name}.{found['name']}"
    if wanted := body["config"].get("filter_subject"):
        subject += f".{wanted}"
    api(server, subject, body)


CHANGES: dict[str, Callable[[NatsServer], None]] = {
    "paused": lambda server: pause(server, "S"),
    "one subject only": lambda server: update(server, "S", filter_subject="s.a"),
    "no subject at all": lambda server: update(server, "S", filter_subject="s.none"),
    "headers only": lambda server: update(server, "S", headers_only=True),
    "at a trickle": lambda server: update(server, "S", rate_limit_bps=1000),
}


@pytest.mark.parametrize("subject", [None, "s.>"])
@pytest.mark.parametrize("what", CHANGES)
def test_consumer_is_changed(server: NatsServer, client: Client, what: str, subject: str | None) -> None:
    """If the consumer is paused, or configured to leave out messages or payloads, the feed recreates it. The
    feed shows each message once and reports no gap."""
    for i in range(10):
        publish(server, f"s.{'ab'[i % 2]}", *numbered(1, i))
    feed = opened(client, subject=subject)
    CHANGES[what](server)
    for i in range(10, 30):
        publish(server, f"s.{'ab'[i % 2]}", *numbered(1, i))
    until(lambda: feed.snapshot().seq.tolist() == list(range(1, 31)))
    until(lambda: feed.snapshot().numbers("n").tolist() == list(range(30)))
    until(lambda: feed.health.restarts)
    assert not feed.health.gaps
    assert not feed.health.malformed
    assert feed.health.recreated == 0


def test_consumer_is_given_more(server: NatsServer, client: Client) -> None:
    """If the consumer's filter is widened, the feed still shows only the rows of its own subject filter."""
    feed = opened(client, subject="s.a")
    update(server, "S", filter_subject="s.>")
    for i in range(10):
        publish(server, f"s.{'ab'[i % 2]}", *numbered(1, i))
    until(lambda: feed.snapshot().seq.tolist() == [1, 3, 5, 7, 9])
    assert set(feed.frame()["_subject"].astype(str)) == {"s.a"}


def test_bucket_keeps_its_keys(server: NatsServer, client: Client) -> None:
    """A key written while the bucket's consumer is paused or filters it out still gets its new value."""
    server.run(lambda nc: nc.jetstream().create_key_value(bucket="B"))
    publish(server, "$KV.B.one", b"1")
    publish(server, "$KV.B.two", b"2")
    watch = client.values("B")
    assert watch.wait(30)
    update(server, "KV_B", filter_subject="$KV.B.one")
    publish(server, "$KV.B.two", b"3")
    publish(server, "$KV.B.one", b"4")
    until(lambda: dict(watch.snapshot()) == {"one": 4, "two": 3})
    pause(server, "KV_B")
    publish(server, "$KV.B.two", b"5")
    until(lambda: dict(watch.snapshot()) == {"one": 4, "two": 5})


def test_mirror_is_promoted(server: NatsServer, client: Client) -> None:
    """If a mirror becomes a stream of its own, its sequence continues, and so does the feed."""
    publish(server, "s.a", *numbered(5))
    stream(server, "M", mirror={"name": "S"})
    feed = opened(client, "M")
    until(lambda: len(feed.snapshot()) == 5)
    change(server, "M", mirror=None, subjects=["m.>"])
    publish(server, "m.a", *numbered(5, 5))
    until(lambda: feed.snapshot().seq.tolist() == list(range(1, 11)))
    assert (feed.health.recreated, feed.health.gaps) == (0, ())


def test_stream_is_sealed(server: NatsServer, client: Client) -> None:
    """A sealed stream is shown unchanged, both by a feed opened before it was sealed and by one opened
    after."""
    publish(server, "s.a", *numbered(5))
    feed = opened(client)
    change(server, "S", sealed=True)
    other = opened(client, subject="s.>")
    assert feed.snapshot().seq.tolist() == other.snapshot().seq.tolist() == [1, 2, 3, 4, 5]
    assert feed.health.phase == other.health.phase == "following"


def test_limit_per_subject_is_lifted(server: NatsServer, client: Client) -> None:
    """Messages replaced by newer ones under a limit per subject are not a gap, even after the limit is
    lifted."""
    stream(server, "K", "k.>", max_msgs_per_subject=1)
    publish(server, "k.a", *numbered(5))
    feed = opened(client, "K")
    publish(server, "k.a", *numbered(3, 5))
    until(lambda: feed.snapshot().seq.tolist()[-1:] == [8])  # replaced rows may already be gone
    change(server, "K", max_msgs_per_subject=-1)
    until(lambda: feed.snapshot().seq.tolist() == [8])
    publish(server, "k.a", *numbered(2, 8))
    until(lambda: feed.snapshot().seq.tolist() == [8, 9, 10])
    assert not feed.health.gaps
