"""`history_start`: when the history that a feed can read began, which starts the axis of a young stream."""

import time
from pathlib import Path

import pandas as pd

from nats_client import Client, Settings
from tests.jetstream import api
from tests.nats import NatsServer, numbered, running_server
from tests.waiting import until


def first_stored(server: NatsServer, stream: str = "S") -> int:
    """When the server stored the oldest message of a stream, ns since the epoch."""
    return int(pd.Timestamp(api(server, f"STREAM.INFO.{stream}")["state"]["first_ts"]).value)


def test_it_stays(server: NatsServer, client: Client) -> None:
    """The start is the oldest message of the stream, of any subject. It stays when that message is purged and
    when the server restarts; a recreated stream has another one."""
    server.publish("s.other", b"1")
    began = first_stored(server)
    time.sleep(0.3)
    server.publish("s.a", *numbered(5))
    feed = client.feed("S", "s.a", look_back="PT1H")
    assert feed.wait(30)
    assert feed.health.history_start == began
    server.run(lambda nc: nc.jetstream().purge_stream("S", keep=1))
    until(lambda: len(feed.snapshot()) == 1)
    assert feed.health.history_start == began
    server.kill()
    until(lambda: feed.health.phase == "reconnecting")
    server.start()
    until(lambda: feed.health.phase == "following")
    assert feed.health.history_start == began
    server.run(lambda nc: nc.jetstream().delete_stream("S"))
    server.add_stream("S", ["s.>"])
    server.publish("s.a", *numbered(3))
    until(lambda: len(feed.snapshot()) == 3)
    assert feed.health.history_start == first_stored(server) > began


def test_of_a_stream_that_was_empty(server: NatsServer, client: Client) -> None:
    """An empty stream has no start; its first message becomes the start at once."""
    feed = client.feed("S", look_back="PT1H")
    assert feed.wait(30)
    assert feed.health.history_start is None
    server.publish("s.a", *numbered(2))
    until(lambda: len(feed.snapshot()) == 2)
    assert feed.health.history_start == first_stored(server) == feed.snapshot().received[0]


def test_of_plain_subjects(tmp_path: Path) -> None:
    """The history of plain subjects starts with the feed."""
    with running_server(tmp_path, "# no jetstream") as server, Client(Settings(url=server.url)) as client:
        before = time.time_ns()
        feed = client.feed(None, "t.>", look_back="PT1M")
        assert feed.wait(30)
        assert before <= (feed.health.history_start or 0) <= time.time_ns()
