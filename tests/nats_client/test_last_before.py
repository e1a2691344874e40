"""The newest messages before a time, requested from a real server."""

import signal
import time
from collections.abc import Iterator

import pytest

from nats_client import Client, Settings
from nats_client.decoding.raw import Raw
from nats_client.errors import RequestRefused
from nats_client.streams import last_before as module
from nats_client.table.snapshot import Snapshot
from tests.nats import NatsServer, running_server
from tests.waiting import until

COUNT = 12
LARGE = 900_000
NOT_READ = "values before the look-back not read"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with two messages per subject, of which the second is large."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.run(lambda nc: nc.jetstream().add_stream(name="S", subjects=["s.>"], allow_direct=True))
        for payload in (b"1", bytes(LARGE)):
            for i in range(COUNT):
                server.publish(f"s.{i}", payload)
        server.now = time.time_ns()  # type: ignore[attr-defined]
        server.publish("s.0", b"later")
        yield server


def asked(client: Client, subject: str | None, moment: int) -> Raw:
    """The newest message of each subject, stored before `moment`."""
    feed = client.feed("S", look_back="PT1S")
    assert feed.wait(30)
    return client._call(module.last_before(client._connection, "S", subject, moment))


def test_large_messages_come_in_several_answers(server: NatsServer) -> None:
    """Each subject has its newest message before the time, however many replies that takes."""
    now: int = server.now  # type: ignore[attr-defined]
    with Client(Settings(url=server.url)) as client:
        raw = asked(client, None, now)
        assert raw.subject == [f"s.{i}" for i in range(COUNT)]
        assert set(map(len, raw.payload)) == {LARGE}
        assert list(raw.seq) == list(range(COUNT + 1, 2 * COUNT + 1))
        assert not len(asked(client, "none.*", now))


def test_too_large(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the messages are together larger than the limit, the request is refused, and not all of them are
    held."""
    monkeypatch.setattr(module, "MOST", 3 * LARGE)
    now: int = server.now  # type: ignore[attr-defined]
    with Client(Settings(url=server.url)) as client, pytest.raises(RequestRefused, match="more than"):
        asked(client, None, now)


def test_a_server_that_does_not_answer_is_asked_again(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values from before the look-back arrive once the server replies; until then an event says why they are
    missing."""
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    server.run(lambda nc: nc.jetstream().add_stream(name="T", subjects=["t.>"], allow_direct=True))
    server.publish("t.1", b'{"n": 7}')
    taken: list[Snapshot] = []
    with Client(Settings(url=server.url)) as client:
        feed = client.feed("T", look_back="PT1S")
        assert feed.wait(30)
        server.signal(signal.SIGSTOP)
        try:
            feed.read_before(time.time_ns(), ["_subject"], taken.append)
            until(lambda: any(event.what == NOT_READ for event in feed.events))
            assert not taken
        finally:
            server.signal(signal.SIGCONT)
        until(lambda: taken)
        assert [rows.frame()["n"].tolist() for rows in taken] == [[7]]


def test_many_places_are_asked_for_in_turn(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a viewer drags a playback over many moments while the server does not reply, one request is under
    way at a time. Afterwards each moment has its values. A feed does not wait for those of another feed."""
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    for name in ("U", "V"):
        server.add_stream(name, [f"{name}.>"], allow_direct=True)
        server.publish(f"{name}.1", b'{"n": 7}')
    taken: list[Snapshot] = []
    with Client(Settings(url=server.url)) as client:
        feeds = [client.feed(name, look_back="PT1S") for name in ("U", "V")]
        assert all(feed.wait(30) for feed in feeds)
        sent = client._call(client._connection.ready()).stats
        server.signal(signal.SIGSTOP)
        try:
            before = sent["out_msgs"]
            for feed in feeds:
                for _ in range(30):
                    feed.read_before(time.time_ns(), ["_subject"], taken.append)
            until(lambda: all(any(event.what == NOT_READ for event in feed.events) for feed in feeds))
            assert sent["out_msgs"] - before < 20
            assert not taken
        finally:
            server.signal(signal.SIGCONT)
        until(lambda: len(taken) == 60)
        assert [rows.frame()["n"].tolist() for rows in taken] == [[7]] * 60
