"""The value that holds before the look-back: read from the stream, without a consumer."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from nats.js.api import StreamConfig

from nats_client import Client, Feed, NamedFeed, PlayedFeed, Settings
from nats_client.series.bins import Bins
from tests.nats import NatsServer, running_server
from tests.waiting import until

Readable = Feed | NamedFeed | PlayedFeed


def make(server: NatsServer, config: StreamConfig) -> None:
    """Create a stream."""
    server.run(lambda nc: nc.jetstream().add_stream(config))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server with valves that changed at known times: twice, then nothing, then `a` and `new`."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        for name, direct in (("V", True), ("CLOSED", False)):
            make(server, StreamConfig(name=name, subjects=[f"{name.lower()}.>"], allow_direct=direct))
            for valve, values in {"a": (1, 2), "b": (3, 4), "gone": (5, None), "text": ("x", "y")}.items():
                for value in values:
                    server.publish(f"{name.lower()}.{valve}.open", json.dumps({"v": value}).encode())
        time.sleep(0.1)
        server.before = time.time_ns()  # type: ignore[attr-defined]
        time.sleep(0.1)
        for name in ("v", "closed"):
            for valve, value in (("a", 6), ("new", 7)):
                server.publish(f"{name}.{valve}.open", json.dumps({"v": value}).encode())
        yield server


@pytest.fixture
def client(server: NatsServer) -> Iterator[Client]:
    """A client of that server."""
    with Client(Settings(url=server.url)) as client:
        yield client


def at(time: int) -> datetime:
    """A time as Client takes it."""
    return datetime.fromtimestamp(time // 1_000_000 / 1000, UTC)


def read(feed: Readable, bins: Bins) -> None:
    """Take the rows into the bins, as a chart does."""
    bins.update(feed.snapshot().since(feed.now() - feed.look_back.value), feed.now())
    if (lacks := bins.lacks_before()) is not None:
        epoch, moment = lacks
        feed.read_before(moment, bins.told_apart, lambda rows: bins.hold_before(epoch, rows))


def held(bins: Bins) -> dict[str, float]:
    """What each series holds before the look-back."""
    changes = bins.changes(0, 0)
    return {bins.names[row]: value for row, _, value in changes.held}


def of_stretch(client: Client, server: NatsServer, *of: Any, **more: Any) -> Readable:
    """The feed of the stretch that begins after the pause."""
    start = server.before  # type: ignore[attr-defined]
    end = time.time_ns()
    length = pd.Timedelta(end // 10**6 - start // 10**6, unit="ms")
    feed = client.feed(*of, look_back=length, end=at(end), **more)
    until(lambda: feed.health.ended)
    return feed


def test_values_before_a_stretch(server: NatsServer, client: Client) -> None:
    """Each series has the newest value from before the stretch, also one without a row in it; one that ended
    with a null, or had texts, holds nothing. By subject, by token, as small charts, and live. No consumer is
    left for it."""
    feed = of_stretch(client, server, "V", "v.{valve}.*")
    wanted = {"a": 2, "b": 4}
    for color, facet in (("valve", None), ("_subject", None), (None, "valve")):
        bins = feed.bins(("v",), color, feed.look_back, hold=True, facet=facet)
        until(lambda bins=bins: read(feed, bins) or bool(held(bins)))  # type: ignore[misc]
        names = {"_subject": "v.{}.open", None: "{}\x1fv"}.get(color, "{}")
        assert held(bins) == {names.format(name): value for name, value in wanted.items()}
        assert set(bins.names) == {names.format(name) for name in ("a", "b", "new")}
        assert len(bins.changes(0, 0).cells.bin) == 2
        read(feed, bins)
        assert bins.lacks_before() is None
    live = client.feed("V", "v.*.*", look_back=pd.Timedelta(time.time_ns() - server.before))  # type: ignore[attr-defined]
    assert live.wait(30)
    bins = live.bins(("v",), "_subject", live.look_back, hold=True)
    until(lambda: read(live, bins) or bool(held(bins)))
    assert held(bins) == {f"v.{name}.open": value for name, value in wanted.items()}
    server.publish("v.b.open", b'{"v": 8}')
    until(lambda: read(live, bins) or len(bins.changes(0, 0).cells.bin) == 3)
    assert bins.names.count("v.b.open") == 1
    assert held(bins)["v.b.open"] == 4


def test_played(server: NatsServer, client: Client) -> None:
    """A playback has the value from before its own look-back, at its beginning and after a move back."""
    start, end = at(server.before), at(time.time_ns())  # type: ignore[attr-defined]
    playback = client.playback(start, end)
    for _ in range(2):
        feed = playback.feed("V", look_back="10ms")
        until(lambda feed=feed: not feed.is_loading)  # type: ignore[misc]
        bins = feed.bins(("v",), "_subject", feed.look_back, hold=True)
        until(lambda bins=bins, feed=feed: read(feed, bins) or bool(held(bins)))  # type: ignore[misc]
        assert held(bins)["v.a.open"] == 2
        playback.jump(playback.end)
        playback.jump(playback.start)


@pytest.mark.parametrize(
    ("of", "more", "color"),
    [
        (("CLOSED",), {}, "_subject"),
        (("V",), {"where": "v > 0"}, "_subject"),
        (("V",), {"columns": {"w": "v + 1"}}, "_subject"),
    ],
)
def test_where_it_is_not_known(
    server: NatsServer, client: Client, of: tuple[str], more: dict[str, Any], color: str
) -> None:
    """A stream that does not permit it, and a feed whose rows are chosen or computed, have nothing before."""
    feed = of_stretch(client, server, *of, **more)
    bins = feed.bins(("v",), color, feed.look_back, hold=True)
    read(feed, bins)
    time.sleep(0.3)
    assert held(bins) == {}
    assert "v.a.open" in bins.names or "closed.a.open" in bins.names


def test_not_permitted(tmp_path: Path) -> None:
    """A login that may not ask for it has the rows all the same."""
    denied = '"$JS.API.DIRECT.GET.>"'
    permissions = f"permissions {{ publish {{ deny: {denied} }} }}"
    users = f"authorization {{ users [ {{user: me, password: x, {permissions}}} ] }}"
    with running_server(tmp_path, users) as server:
        server.url = server.url.replace("nats://", "nats://me:x@")
        config = StreamConfig(name="V", subjects=["v.>"], allow_direct=True)
        server.run(lambda nc: nc.jetstream().add_stream(config))
        server.publish("v.a", b'{"v": 1}')
        time.sleep(0.2)
        with Client(Settings(url=server.url)) as client:
            feed = client.feed("V", look_back="100ms")
            assert isinstance(feed, Feed)
            assert feed.wait(30)
            bins = feed.bins(("v",), "_subject", feed.look_back, hold=True)
            read(feed, bins)
            until(lambda: feed._direct_denied)
            assert held(bins) == {}
            read(feed, bins)
            assert client.state.status == "connected"
