"""The newest messages before a time, asked of a real server."""

import time
from collections.abc import Iterator

import pytest

from nats_client import Client, Settings
from nats_client.decoding.raw import Raw
from nats_client.errors import RequestFailed
from nats_client.streams import last_before as module
from tests.nats import NatsServer, running_server

COUNT = 12
LARGE = 900_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with two messages of each of some subjects, the second ones large."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.run(lambda nc: nc.jetstream().add_stream(name="S", subjects=["s.>"], allow_direct=True))
        for payload in (b"1", bytes(LARGE)):
            for i in range(COUNT):
                server.publish(f"s.{i}", payload)
        server.now = time.time_ns()  # type: ignore[attr-defined]
        server.publish("s.0", b"later")
        yield server


def asked(client: Client, subject: str | None, moment: int) -> Raw:
    """What was stored before that moment."""
    feed = client.feed("S", look_back="PT1S")
    assert feed.wait(30)
    return client._call(module.last_before(client._connection, "S", subject, moment))


def test_large_messages_come_in_several_answers(server: NatsServer) -> None:
    """Each subject has its newest message before the time, however many answers they need."""
    now: int = server.now  # type: ignore[attr-defined]
    with Client(Settings(url=server.url)) as client:
        raw = asked(client, None, now)
        assert raw.subject == [f"s.{i}" for i in range(COUNT)]
        assert set(map(len, raw.payload)) == {LARGE}
        assert list(raw.seq) == list(range(COUNT + 1, 2 * COUNT + 1))
        assert not len(asked(client, "none.*", now))


def test_too_large(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages that are larger than the limit altogether are refused, and not all of them are held."""
    monkeypatch.setattr(module, "MOST", 3 * LARGE)
    now: int = server.now  # type: ignore[attr-defined]
    with Client(Settings(url=server.url)) as client, pytest.raises(RequestFailed, match="more than"):
        asked(client, None, now)
