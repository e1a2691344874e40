"""The values of a key-value bucket as of an earlier time, against a real nats-server."""

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from nats.js.api import KeyValueConfig

from nats_client import Client, LookbackError, PastBucket, PlayedBucket, Settings
from nats_client.errors import ClosedError, KeyNotFound
from tests.nats import NatsServer, running_server
from tests.waiting import until

NAMES = ("a", "b", "c")


class Known:
    """A bucket that records its values after each change, for comparison."""

    def __init__(self, server: NatsServer, name: str, **config: Any) -> None:
        self.server = server
        self.name = name
        self.moments: list[tuple[int, dict[str, Any]]] = []
        """Times between two changes, ns since the epoch, UTC, and the values then."""
        self._values: dict[str, Any] = {}
        server.run(lambda nc: nc.jetstream().create_key_value(KeyValueConfig(bucket=name, **config)))

    def do(self, *steps: tuple[str, str, Any]) -> None:
        """Apply each step: "put", "delete" or "purge", a key, and a value."""

        async def work(nc: Any) -> None:
            kv = await nc.jetstream().key_value(self.name)
            for what, key, value in steps:
                self.moments.append((time.time_ns(), dict(self._values)))
                await asyncio.sleep(0.005)  # a stretch ends at a whole millisecond
                if what == "put":
                    await kv.put(key, json.dumps(value).encode())
                    self._values[key] = value
                else:
                    await getattr(kv, what)(key)
                    self._values.pop(key, None)
                await asyncio.sleep(0.005)
            self.moments.append((time.time_ns(), dict(self._values)))

        self.server.run(work)

    def then(self, client: Client, moment: int) -> PastBucket:
        """The bucket's values as of `moment` (ns since the epoch, UTC), once they are read."""
        past = client.values(self.name, end=datetime.fromtimestamp(moment // 1_000_000 / 1000, UTC))
        assert past.wait(30)
        until(lambda: past.health.phase == "following")
        return past


def puts(key: str, *values: Any) -> list[tuple[str, str, Any]]:
    """Steps that write one value after another."""
    return [("put", key, value) for value in values]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def client(server: NatsServer) -> Iterator[Client]:
    """A client of that server."""
    with Client(Settings(url=server.url)) as client:
        yield client


def consumers(server: NatsServer, bucket: str) -> int:
    """How many consumers the bucket's stream has."""
    return len(server.run(lambda nc: nc.jetstream().consumers_info(f"KV_{bucket}")))


def test_each_moment(server: NatsServer, client: Client) -> None:
    """As of any moment, the values are those written by then, without keys that were deleted or purged; a key
    whose earlier revisions a purge removed is unknown. One consumer reads them once and is then deleted, and
    all callers for the same time share one object. A playback shows the same values, forwards and
    backwards."""
    known = Known(server, "all", history=64)
    steps = [step for i in range(6) for name in NAMES for step in puts(name, i, {"n": i})]
    known.do(*steps[:10], ("delete", "a", None), *steps[10:20], ("purge", "b", None), ("delete", "b", None))
    known.do(*steps[20:], ("delete", "never", None))
    purged = known.moments[22][0]  # after the purge, which removed earlier revisions of b
    for moment, values in known.moments[::5]:
        past = known.then(client, moment)
        if moment < purged:
            values.pop("b", None)
            assert set(past.snapshot().unknown) == {"b"}
        assert dict(past.snapshot()) == values
        assert past.snapshot() is past.snapshot()
        assert known.then(client, moment) is past
    until(lambda: consumers(server, "all") == 0)
    assert [entry.operation for entry in past.history("a")].count("DEL") == 1
    start, end = known.moments[0][0], known.moments[-1][0]
    times = (datetime.fromtimestamp(time / 1e9, UTC) for time in (start, end + 2_000_000))
    playback = client.playback(*times)
    last = known.then(client, playback.end)
    played = PlayedBucket(last, playback)
    assert played == PlayedBucket(last, playback)
    for moment, values in [*known.moments[1:], *known.moments[1:20:3]]:
        playback.jump(moment)
        if moment < purged:
            values.pop("b", None)
        assert dict(played.snapshot()) == values
        assert played.now() == moment
    assert set(played.snapshot().unknown) == {"b"}
    playback.jump(playback.end)
    assert not played.snapshot().unknown
    assert consumers(server, "all") == 0


def test_history_that_begins_later(server: NatsServer, client: Client) -> None:
    """A key is unknown, with the time at which its history begins, if older revisions may have been removed.
    A key is absent if, as far as the bucket shows, it did not exist then."""
    short = Known(server, "short")  # keeps one revision
    short.do(*puts("first", 1), *puts("a", 1, 2), *puts("b", 1))
    moment = short.moments[2][0]  # after the first a
    found = short.then(client, moment).snapshot()
    assert dict(found) == {"first": 1}
    assert set(found.unknown) == {"a", "b"}
    assert all(begins > moment for begins in found.unknown.values())
    assert "a" not in found
    assert found.get("a", "none") == "none"
    with pytest.raises(KeyNotFound, match="not known as of then"):
        _ = found["a"]
    before = short.then(client, short.moments[0][0]).snapshot()
    assert set(before.unknown) == {"a", "b"}  # nothing was removed before `first`
    longer = Known(server, "longer", history=3)
    longer.do(*puts("a", 1, 2, 3, 4), *puts("b", 1, 2), ("purge", "c", None), *puts("c", 1))
    found = longer.then(client, longer.moments[1][0]).snapshot()
    assert dict(found) == {}
    assert set(found.unknown) == {"a", "c"}  # b has fewer revisions than the bucket keeps
    found = longer.then(client, longer.moments[3][0]).snapshot()
    assert dict(found) == {"a": 3}


def test_revisions_that_expire(server: NatsServer, client: Client) -> None:
    """If a bucket's revisions expire, `kept_since` is the time from which all of them are kept."""
    known = Known(server, "brief", ttl=3600, history=5)
    known.do(*puts("a", 1, 2))
    past = known.then(client, known.moments[1][0])
    assert dict(past.snapshot()) == {"a": 1}
    assert past.kept_since is not None
    assert abs(past.kept_since - (time.time_ns() - 3600 * 10**9)) < 30 * 10**9


def test_larger_than_may_be_held(server: NatsServer) -> None:
    """If a bucket has more keys than the ceiling, the keys that are not held are requested one by one, as of
    the same time."""
    known = Known(server, "large", history=5)
    known.do(*(step for i in range(8) for step in puts(f"k{i}", i, -i)))
    with Client(Settings(url=server.url, bucket_keys=3)) as client:
        values = known.then(client, known.moments[7][0]).snapshot()
        assert not values.complete
        assert [values.get(f"k{i}") for i in range(5)] == [0, -1, -2, 3, None]


def test_what_cannot_be_read(server: NatsServer, client: Client) -> None:
    """A missing bucket is reported as stopped, an end without a time zone is an error, and reading a closed
    bucket raises ClosedError."""
    now = datetime.now(UTC)
    missing = client.values("missing", end=now)
    assert missing.wait(30)
    assert missing.health.phase == "stopped"
    with pytest.raises(LookbackError, match="not a time with a time zone"):
        client.values("missing", end=datetime.now())
    client.close()
    with pytest.raises(ClosedError):
        missing.snapshot()
