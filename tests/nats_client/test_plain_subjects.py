"""Plain subjects: no history, at most once, and every interruption reported."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nats_client import Client, Settings
from nats_client.errors import SubjectError
from tests.nats import NatsServer, running_server
from tests.waiting import until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server without JetStream."""
    with running_server(tmp_path, "# no jetstream") as server:
        yield server


def say(server: NatsServer, subject: str, *values: float) -> None:
    """Publish values on a plain subject."""

    async def work(nc: Any) -> None:
        for value in values:
            await nc.publish(subject, b"%g" % value)
        await nc.flush()

    server.run(work)


def test_live_without_a_stream(server: NatsServer) -> None:
    """Messages published while the feed is subscribed are shown, in order; earlier ones are not."""
    say(server, "t.a", 1, 2)
    with Client(Settings(url=server.url)) as client:
        feed = client.feed(None, "t.>", look_back="PT1M")
        assert feed.wait(30)
        before = time.time_ns()
        say(server, "t.a", 3, 4)
        say(server, "t.b", 5)
        say(server, "u.c", 6)
        until(lambda: len(feed.snapshot()) == 3)
        frame = feed.frame()
        assert frame["value"].tolist() == [3, 4, 5]
        assert frame["_subject"].tolist() == ["t.a", "t.a", "t.b"]
        assert (frame.index.astype("int64") >= before).all()
        assert (feed.health.stream, feed.health.phase, feed.health.gaps) == (None, "following", ())


def test_interruption_is_told(server: NatsServer) -> None:
    """After the server was killed or frozen, the feed reports an interruption with its start and end; rows
    from before it stay."""
    with Client(Settings(url=server.url)) as client:
        feed = client.feed(None, "t.>", look_back="PT1M")
        feed.wait(30)
        say(server, "t.a", 1)
        until(lambda: len(feed.snapshot()) == 1)
        for number, (down, up) in enumerate(
            (
                (server.kill, server.start),
                (lambda: server.signal(signal.SIGSTOP), lambda: server.signal(signal.SIGCONT)),
            ),
            1,
        ):
            went = time.time_ns()
            down()
            until(lambda: feed.health.phase == "reconnecting")
            up()
            until(lambda: feed.health.phase == "following")
            assert len(feed.health.gaps) == number
            gap = feed.health.gaps[-1]
            assert (gap.why, gap.count) == ("interrupted", None)
            assert gap.start - 3 * 10**9 < went < gap.end
            say(server, "t.a", 1)
            until(lambda: len(feed.snapshot()) == number + 1)


def test_look_back_becomes_longer(server: NatsServer) -> None:
    """A longer look-back fetches nothing older; the window only keeps rows for longer."""
    with Client(Settings(url=server.url)) as client:
        feed = client.feed(None, "t.>", look_back="PT1S")
        feed.wait(30)
        assert client.feed(None, "t.>", look_back="PT1M") is feed
        assert feed.wait(1)
        say(server, "t.a", 1)
        until(lambda: len(feed.snapshot()) == 1)
        time.sleep(1.5)
        assert len(feed.snapshot()) == 1


def test_permission(tmp_path: Path) -> None:
    """A login that may not subscribe gets an error, and the feed starts by itself once the permission is
    given. It stops again when the permission is revoked."""
    users = 'authorization {{ users: [ {{ user: me, password: x, permissions: {{ subscribe: "{}" }} }} ] }}'
    with running_server(tmp_path, users.format("other")) as server:
        server.url = server.url.replace("//", "//me:x@")
        with Client(Settings(url=server.url)) as client:
            feed = client.feed(None, "t.>")
            until(lambda: feed.health.phase == "stopped")
            assert "is not permitted to subscribe to 't.>'" in str(feed.health.why)
            server.configure(users.format("t.>"))
            until(lambda: feed.health.phase == "following")
            say(server, "t.a", 1)
            until(lambda: len(feed.snapshot()) == 1)
            server.configure(users.format("other"))
            until(lambda: feed.health.phase == "stopped")


def test_bad_questions(server: NatsServer) -> None:
    """A feed with neither a stream nor a subject is refused."""
    with Client(Settings(url=server.url)) as client, pytest.raises(SubjectError, match="needs a subject"):
        client.feed(None)
