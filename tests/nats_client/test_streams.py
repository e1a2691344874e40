"""Lists of streams and subjects, from a real server."""

import asyncio
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from nats_client import Client, Settings
from nats_client.errors import TooManySubjects
from nats_client.streams.stream_list import PAGE
from tests.nats import NatsServer, running_server
from tests.waiting import until

COUNT = 250_000


def test_many_subjects(tmp_path: Path) -> None:
    """All subjects of a stream are counted once, with their messages and with progress, even if the server
    lists them in several replies while subjects come and go. So many subjects are an error unless the caller
    permits their number. A narrower pattern returns only its matches."""

    async def publish(nc: Any) -> None:
        await nc.jetstream().add_stream(name="MANY", subjects=["m.>"], storage="memory")
        for i in range(COUNT):
            await nc.publish(f"m.{i:06d}.x", b"1")
            if i % 5000 == 0:
                await nc.flush()
        await nc.publish("m.000003.x", b"2")
        await nc.flush()

    with running_server(tmp_path) as server, Client(Settings(url=server.url)) as client:
        server.run(publish)
        until(lambda: client.streams()[0].messages == COUNT + 1)
        with pytest.raises(TooManySubjects, match="has 250,000 subjects"):
            client.subjects("MANY")
        with pytest.raises(TooManySubjects):
            client.subjects("MANY", "m.000003.*")
        steps: list[tuple[int, int]] = []

        def change(done: int, total: int) -> None:
            steps.append((done, total))
            if done < total:  # this is the client's thread, so another connection makes the changes
                changes = Thread(target=server.run, args=(come_and_go,))
                changes.start()
                changing.append(changes)

        async def come_and_go(nc: Any) -> None:
            js = nc.jetstream()
            step = len(steps)
            for i in range(20):
                await js.purge_stream("MANY", subject=f"m.{step * 1000 + i:06d}.x")
                await js.publish(f"m.{step * 1000 + i:06d}.later", b"")

        changing: list[Thread] = []
        found = client.subjects("MANY", most=5 * PAGE, progress=change)
        for each in changing:
            each.join()
        assert found.counts["m.000003.x"] == 2
        touched = {f"m.{step * 1000 + i:06d}" for step in (1, 2, 3) for i in range(20)}
        kept = {each: count for each, count in found.counts.items() if each.rpartition(".")[0] not in touched}
        assert len(kept) == COUNT - len(touched)
        assert sum(kept.values()) == len(kept) + 1
        assert list(found.counts) == sorted(found.counts)
        assert steps[-1][0] == steps[-1][1]
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
        assert len(steps) == 3
        narrow = client.subjects("MANY", "m.000003.*", most=5 * PAGE)
        assert (narrow.total, narrow.counts) == (1, {"m.000003.x": 2})


def test_age_and_limits(tmp_path: Path) -> None:
    """A stream's newest message has an age by the server's clock, and the stream's limits are described in
    words."""
    with running_server(tmp_path) as server, Client(Settings(url=server.url)) as client:
        server.run(lambda nc: nc.jetstream().add_stream(name="S", subjects=["s.>"], max_age=3600, max_msgs=5))
        assert client.streams()[0].age is None
        server.publish("s.a", b"1")
        (stream,) = client.streams()
        assert stream.age is not None
        assert 0 <= stream.age.total_seconds() < 60
        assert stream.limits == "messages for 1 hour and 5 messages"


def test_nearest_name_among_many(server: NatsServer, client: Client) -> None:
    """A missing stream is reported with the nearest name, even if that is on a later page of the server's
    list. Its feed follows as soon as the stream is created."""

    async def make(nc: Any) -> None:
        js = nc.jetstream(timeout=30)
        for start in range(0, 1100, 50):
            names = [f"a{i}" for i in range(start, start + 50)]
            await asyncio.gather(
                *(js.add_stream(name=each, subjects=[each], storage="memory") for each in names)
            )
        await js.add_stream(name="zebra", subjects=["zebra"])

    server.run(make)
    feed = client.feed("zebraa")
    until(lambda: "Did you mean 'zebra'?" in str(feed.health.why))
    assert "more." in str(feed.health.why)
    server.add_stream("zebraa", ["zebraa"])
    until(lambda: feed.health.phase == "following")
