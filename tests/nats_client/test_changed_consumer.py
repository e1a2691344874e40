"""An administrator changes our consumer, or the stream, while it is read: rows are what the stream holds."""

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
    """Pause it for an hour."""
    until_when = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    api(server, f"CONSUMER.PAUSE.{name}.{consumer(server, name)['name']}", {"pause_until": until_when})


def update(server: NatsServer, name: str, **config: Any) -> None:
    """Change its configuration."""
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
    """The consumer is paused, or configured to leave messages or payloads out: the feed makes another, shows
    each message once, and tells of no loss, for there is none."""
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
    """A consumer whose filter is widened brings no row that was not asked for."""
    feed = opened(client, subject="s.a")
    update(server, "S", filter_subject="s.>")
    for i in range(10):
        publish(server, f"s.{'ab'[i % 2]}", *numbered(1, i))
    until(lambda: feed.snapshot().seq.tolist() == [1, 3, 5, 7, 9])
    assert set(feed.frame()["_subject"].astype(str)) == {"s.a"}


def test_bucket_keeps_its_keys(server: NatsServer, client: Client) -> None:
    """A key that is written while the consumer of its bucket is configured to leave it out does not
    disappear."""
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
    """A mirror that becomes a stream of its own goes on with its sequence."""
    publish(server, "s.a", *numbered(5))
    stream(server, "M", mirror={"name": "S"})
    feed = opened(client, "M")
    until(lambda: len(feed.snapshot()) == 5)
    change(server, "M", mirror=None, subjects=["m.>"])
    publish(server, "m.a", *numbered(5, 5))
    until(lambda: feed.snapshot().seq.tolist() == list(range(1, 11)))
    assert (feed.health.recreated, feed.health.gaps) == (0, ())


def test_stream_is_sealed(server: NatsServer, client: Client) -> None:
    """A sealed stream is shown as it is, to who had it open and to who opens it."""
    publish(server, "s.a", *numbered(5))
    feed = opened(client)
    change(server, "S", sealed=True)
    other = opened(client, subject="s.>")
    assert feed.snapshot().seq.tolist() == other.snapshot().seq.tolist() == [1, 2, 3, 4, 5]
    assert feed.health.phase == other.health.phase == "following"


def test_limit_per_subject_is_lifted(server: NatsServer, client: Client) -> None:
    """Messages that newer ones had replaced are no loss, also once the stream has no limit per subject any
    more."""
    stream(server, "K", "k.>", max_msgs_per_subject=1)
    publish(server, "k.a", *numbered(5))
    feed = opened(client, "K")
    publish(server, "k.a", *numbered(3, 5))
    until(lambda: feed.snapshot().seq.tolist()[-1:] == [8])  # those before may have left again
    change(server, "K", max_msgs_per_subject=-1)
    until(lambda: feed.snapshot().seq.tolist() == [8])
    publish(server, "k.a", *numbered(2, 8))
    until(lambda: feed.snapshot().seq.tolist() == [8, 9, 10])
    assert not feed.health.gaps
