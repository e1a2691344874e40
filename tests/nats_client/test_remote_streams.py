"""Streams that are stored elsewhere: mirrors, sources, another domain, another account."""

from pathlib import Path

import pytest
from nats.js.api import StreamSource

from nats_client import Client, Settings
from nats_client.errors import SettingsError
from tests.nats import numbered, running_server
from tests.running import free_port
from tests.waiting import until


def follow(client: Client, stream: str, count: int) -> list[float]:
    """The numbers of the stream's rows, once there are `count`."""
    feed = client.feed(stream, look_back="PT1H")
    until(lambda: len(feed.snapshot()) == count and feed.health.phase == "following")
    found: list[float] = feed.snapshot().numbers("n").tolist()
    return found


def test_mirror_and_source(tmp_path: Path) -> None:
    """A mirror, and a stream made of two sources, are read like any other stream, and continue after a
    restart."""
    with running_server(tmp_path) as server, Client(Settings(url=server.url)) as client:
        for name in ("A", "B"):
            server.add_stream(name, [f"{name.lower()}.>"])
        server.publish("a.x", *numbered(5))
        mirror = StreamSource(name="A")
        both = [StreamSource(name="A"), StreamSource(name="B")]
        server.run(lambda nc: nc.jetstream().add_stream(name="M", mirror=mirror))
        server.run(lambda nc: nc.jetstream().add_stream(name="BOTH", sources=both))
        server.publish("b.x", *numbered(5, 5))
        assert follow(client, "M", 5) == list(range(5))
        assert sorted(follow(client, "BOTH", 10)) == list(range(10))
        server.kill()
        server.start()
        server.publish("a.x", *numbered(5, 10))
        assert follow(client, "M", 10) == [*range(5), *range(10, 15)]
        assert sorted(follow(client, "BOTH", 15)) == list(range(15))


def test_another_domain(tmp_path: Path) -> None:
    """A dashboard at a leaf node reads the hub's streams through its JetStream domain, and continues after a
    restart of the hub."""
    port = free_port()
    jetstream = 'jetstream {{ store_dir: "{}", domain: {} }}'
    hub_config = jetstream.format(tmp_path / "hub", "hub") + f'\nleafnodes {{ listen: "127.0.0.1:{port}" }}\n'
    leaf_config = (
        jetstream.format(tmp_path / "leaf", "leaf")
        + f'\nleafnodes {{ reconnect: 1, remotes: [ {{ url: "nats-leaf://127.0.0.1:{port}" }} ] }}\n'
    )
    with (
        running_server(tmp_path / "hub", hub_config) as hub,
        running_server(tmp_path / "leaf", leaf_config) as leaf,
    ):
        hub.add_stream("S", ["s.>"])
        hub.publish("s.a", *numbered(5))
        with Client(Settings(url=leaf.url, domain="hub")) as client:
            assert follow(client, "S", 5) == list(range(5))
            assert [stream.name for stream in client.streams()] == ["S"]
            hub.kill()
            hub.start()
            hub.publish("s.a", *numbered(5, 5))
            assert follow(client, "S", 10) == list(range(10))


ACCOUNTS = """
accounts {
  DATA {
    jetstream: enabled
    users: [ { user: data, password: x } ]
    exports: [
      { service: "$JS.API.>", response_type: stream }
      { service: "$JS.FC.>" }
      { stream: "_INBOX.>" }
    ]
  }
  APP {
    users: [ { user: app, password: x } ]
    imports: [
      { service: { account: DATA, subject: "$JS.API.>" }, to: "data.api.>" }
      { service: { account: DATA, subject: "$JS.FC.>" } }
      { stream: { account: DATA, subject: "_INBOX.>" } }
    ]
  }
}
"""


def test_another_account(tmp_path: Path) -> None:
    """Streams of another account are read through its JetStream API, imported under a prefix of our own, flow
    control included."""
    with running_server(tmp_path, f'jetstream {{ store_dir: "{tmp_path}" }}\n{ACCOUNTS}') as server:
        url, server.url = server.url, server.url.replace("//", "//data:x@")
        server.add_stream("S", ["s.>"])
        server.publish("s.a", *numbered(5000))
        with Client(Settings(url=url, user="app", password="x", api_prefix="data.api")) as client:
            assert follow(client, "S", 5000) == list(range(5000))
            server.publish("s.a", *numbered(5, 5000))
            assert follow(client, "S", 5005) == list(range(5005))


def test_contradicting_settings() -> None:
    """A domain and an API prefix cannot be combined; a prefix is a subject without wildcards."""
    with pytest.raises(SettingsError, match="cannot be combined"):
        Settings(domain="hub", api_prefix="data.api")
    with pytest.raises(SettingsError, match="without wildcards"):
        Settings(api_prefix="data.>")
    assert Settings.load({}, {"NATS_API_PREFIX": "data.api"}).api_prefix == "data.api"
