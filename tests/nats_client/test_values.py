"""Key-value buckets against a real nats-server, written by nats-py's own client, with real faults."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from nats.js.api import KeyValueConfig, StreamConfig, StreamSource, SubjectTransform

from nats_client import Client, Settings, Values, Watch, entries_frame
from nats_client.errors import ClosedError, KeyNotFound, StreamNotFound, SubjectError, TooManyKeys
from tests.backup import restore, snapshot
from tests.nats import NatsServer, running_server
from tests.waiting import until


class Bucket:
    """One bucket of a server, written as any client would."""

    def __init__(self, server: NatsServer, name: str = "settings", **config: Any) -> None:
        self.server = server
        self.name = name
        self.create(**config)

    def create(self, **config: Any) -> None:
        """Create it."""
        self.server.run(
            lambda nc: nc.jetstream().create_key_value(KeyValueConfig(bucket=self.name, **config))
        )

    def do(self, *steps: tuple[Any, ...]) -> None:
        """Call methods of nats-py's KeyValue. Each step is a name and its arguments: ("put", "a", b"1")."""

        async def work(nc: Any) -> None:
            kv = await nc.jetstream().key_value(self.name)
            for method, *arguments in steps:
                await getattr(kv, method)(*arguments)

        self.server.run(work)

    def put(self, **values: Any) -> None:
        """Write each value as JSON."""
        self.do(*(("put", key, json.dumps(value).encode()) for key, value in values.items()))

    def delete(self) -> None:
        """Delete it."""
        self.server.run(lambda nc: nc.jetstream().delete_key_value(self.name))

    def change(self, **config: Any) -> None:
        """Change the configuration of its stream."""

        async def work(nc: Any) -> None:
            js = nc.jetstream()
            found = (await js.stream_info(f"KV_{self.name}")).config
            await js.update_stream(StreamConfig.evolve(found, **config))

        self.server.run(work)


class Looking:
    """Records every state that a watch shows within the block, as fast as it can."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._seen: list[dict[str, Any]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> list[dict[str, Any]]:
        self._thread.start()
        return self._seen

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        before: Values | None = None
        last = False
        while not last:
            last = self._stop.wait(0.0005)  # and one more look at the end
            values = self._watch.snapshot()
            if values is not before:
                before = values
                self._seen.append(dict(values))


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Request the stream's state more often, so that these tests wait less."""
    monkeypatch.setattr("nats_client.feeds.reconcile.EVERY", 0.3)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server."""
    with running_server(tmp_path) as server:
        yield server


@pytest.fixture
def bucket(server: NatsServer) -> Bucket:
    """A bucket `settings` with a history of five, and two keys."""
    bucket = Bucket(server, history=5)
    bucket.put(cpu=90, memory={"percent": 80})
    return bucket


def opened(client: Client, name: str = "settings") -> Watch:
    """A watch that has its first state."""
    watch = client.values(name)
    assert watch.wait(30)
    return watch


def live(watch: Watch) -> bool:
    """Whether the watch reports that it is live."""
    return watch.health.phase == "following"


def shows(watch: Watch, **values: Any) -> None:
    """Wait until the watch is live and shows exactly these values."""
    until(lambda: live(watch) and dict(watch.snapshot()) == values)


# -- what is read --------------------------------------------------------------------------------------------


def test_first_state_then_changes(bucket: Bucket, client: Client) -> None:
    """A watch shows the existing values first, then each change: put, deleted, purged or created again."""
    watch = opened(client)
    shows(watch, cpu=90, memory={"percent": 80})
    bucket.put(cpu=75, disk=50)
    shows(watch, cpu=75, disk=50, memory={"percent": 80})
    bucket.do(("delete", "cpu"), ("purge", "disk"))
    shows(watch, memory={"percent": 80})
    operations = {entry.key: entry.operation for entry in watch.snapshot().entries(deleted=True)}
    assert operations == {"cpu": "DEL", "disk": "PURGE", "memory": "PUT"}
    bucket.do(("create", "cpu", b"1"))
    shows(watch, cpu=1, memory={"percent": 80})
    assert watch.health.restarts == 0


def test_values_are_what_they_are(bucket: Bucket, client: Client) -> None:
    """JSON is decoded, and other text stays text. Bytes that are no text are shown in hex, with their
    number."""
    payloads = {
        "list": b"[1, 2]",
        "null": b"null",
        "number": b"2.5",
        "text": "späte Größe".encode(),
        "empty": b"",
        "broken": b'{"half": ',
        "bytes": b"\xff\x00\x01",
        "not-a-number": b'{"a": NaN}',
        "deep": b"[" * 100_000,
    }
    bucket.do(*(("put", key, payload) for key, payload in payloads.items()))
    values = opened(client).snapshot()
    assert (values["list"], values["null"], values["number"]) == ([1, 2], None, 2.5)
    assert (values["text"], values["empty"], values["broken"]) == ("späte Größe", "", '{"half": ')
    assert values["bytes"] == "3 bytes: ff 00 01"
    assert pd.isna(values["not-a-number"]["a"])
    assert values["deep"] == "[" * 100_000
    assert values.entry("deep").text(10) == "[[[[[[[[[…"


def test_a_value_changed_by_its_reader(bucket: Bucket, client: Client) -> None:
    """A reader that changes a value from a snapshot changes it for no other reader."""
    values = opened(client).snapshot()
    values["memory"]["percent"] = 0
    assert values["memory"] == {"percent": 80}


def test_snapshots_do_not_change(bucket: Bucket, client: Client) -> None:
    """A snapshot does not change when the bucket does, and is the same object until then."""
    watch = opened(client)
    before = watch.snapshot()
    assert watch.snapshot() is before
    bucket.put(cpu=1)
    until(lambda: watch.snapshot()["cpu"] == 1)
    assert before["cpu"] == 90
    assert watch.snapshot() is watch.snapshot()
    assert watch.snapshot().version > before.version


def test_table(bucket: Bucket, client: Client) -> None:
    """The table has key, value, revision, the server's time, age and operation of each key."""
    watch = opened(client)
    table = watch.snapshot().frame(watch.now())
    assert table["key"].tolist() == ["cpu", "memory"]
    assert table["value"].tolist() == ["90", '{"percent": 80}']
    assert table["revision"].tolist() == [1, 2]
    assert table["operation"].tolist() == ["PUT", "PUT"]
    assert str(table["updated"].dtype) == "datetime64[ns, UTC]"
    assert (table["age"] >= pd.Timedelta(0)).all()
    assert entries_frame([], 0).dtypes.equals(table.dtypes)


def test_missing_key(bucket: Bucket, client: Client) -> None:
    """A missing key is a KeyError that names the nearest key, or its deletion; get() returns the default."""
    watch = opened(client)
    values = watch.snapshot()
    with pytest.raises(KeyError) as error:
        values["cpuu"]
    assert isinstance(error.value, KeyNotFound)
    assert str(error.value).startswith("The bucket 'settings' has no key 'cpuu'. Did you mean 'cpu'?")
    assert values.get("cpuu") is None
    assert values.get("cpuu", 5) == 5
    assert "cpuu" not in values
    bucket.do(("delete", "cpu"))
    shows(watch, memory={"percent": 80})
    with pytest.raises(KeyNotFound, match="any more: it was deleted with revision 3"):
        watch.snapshot()["cpu"]


def test_history(bucket: Bucket, client: Client) -> None:
    """The history has all revisions that are kept, oldest first, with their operations, and no more than the
    bucket's limit."""
    bucket.do(("put", "cpu", b"91"), ("delete", "cpu"), ("put", "cpu", b"\xff"))
    found = client.history("settings", "cpu")
    assert [(entry.revision, entry.operation, entry.text(99)) for entry in found] == [
        (1, "PUT", "90"),
        (3, "PUT", "91"),
        (4, "DEL", ""),
        (5, "PUT", "1 bytes: ff"),
    ]
    assert found[0].updated < found[-1].updated
    bucket.put(cpu=92)
    bucket.put(cpu=93)
    assert [entry.revision for entry in client.history("settings", "cpu")] == [3, 4, 5, 6, 7]
    assert client.history("settings", "nothing") == []
    bucket.do(("purge", "cpu"))
    assert [entry.operation for entry in client.history("settings", "cpu")] == ["PURGE"]
    with pytest.raises(StreamNotFound, match="There is no bucket 'setting'"):
        client.history("setting", "cpu")


def test_buckets(bucket: Bucket, client: Client) -> None:
    """Buckets are listed with their configuration and counts; plain streams are not."""
    bucket.server.add_stream("S", ["s.>"])
    Bucket(bucket.server, "sessions", ttl=3600, max_bytes=10_000, description="who is here")
    sessions, settings = client.buckets()
    assert (settings.name, settings.history, settings.keys, settings.revisions) == ("settings", 5, 2, 2)
    assert (settings.ttl, settings.max_bytes, settings.replicas) == (None, None, 1)
    assert (sessions.ttl, sessions.max_bytes) == (pd.Timedelta("1h"), 10_000)
    assert (sessions.description, sessions.last_time) == ("who is here", None)
    assert [stream.name for stream in client.streams()] == ["S"]


def test_bad_names(client: Client) -> None:
    """An invalid name of a bucket or key is refused at once, with an error that states the rule."""
    for name in ("a.b", "", "a b", "*", "ü"):
        with pytest.raises(SubjectError, match="is not a valid bucket name"):
            client.values(name)
    for key in ("a.", ".a", "a..b", "*", "a.>", "a b", ""):
        with pytest.raises(SubjectError, match="is not a valid key"):
            client.history("settings", key)


def test_keys_that_no_client_should_write(bucket: Bucket, client: Client) -> None:
    """A key with characters that ADR-8 does not permit, published without the key-value API, is read like any
    other."""
    bucket.server.publish("$KV.settings.user:<b>7</b>", b"1")
    watch = opened(client)
    assert watch.snapshot()["user:<b>7</b>"] == 1
    assert [entry.revision for entry in client.history("settings", "user:<b>7</b>")] == [3]


# -- who reads -----------------------------------------------------------------------------------------------


def test_one_watch_for_all(bucket: Bucket, client: Client) -> None:
    """Twenty threads that request the same bucket get one watch, and the server has one consumer."""
    found: list[Watch] = []
    threads = [threading.Thread(target=lambda: found.append(client.values("settings"))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(watch) for watch in found}) == 1
    found[0].wait(30)
    assert len(consumers(bucket.server)) == 1


def test_idle_watch_closes(bucket: Bucket) -> None:
    """A watch without a reader is closed, and its consumer deleted; the next request opens it again."""
    with Client(Settings(url=bucket.server.url, idle_after=0.5)) as client:
        watch = opened(client)
        until(lambda: not consumers(bucket.server))
        with pytest.raises(ClosedError):
            watch.snapshot()
        assert opened(client).snapshot()["cpu"] == 90


def consumers(server: NatsServer) -> list[Any]:
    """The consumers of the bucket `settings`."""
    return list(server.run(lambda nc: nc.jetstream().consumers_info("KV_settings")))


# -- faults --------------------------------------------------------------------------------------------------


def test_server_killed(bucket: Bucket, client: Client) -> None:
    """After the server is killed, the last values stay; once it is back, changes made since then are
    shown."""
    watch = opened(client)
    bucket.server.kill()
    until(lambda: watch.health.phase == "reconnecting")
    assert watch.snapshot()["cpu"] == 90
    bucket.server.start()
    bucket.put(cpu=1)
    bucket.do(("delete", "memory"))
    shows(watch, cpu=1)


def test_server_freezes(bucket: Bucket, client: Client) -> None:
    """While the server is frozen, the watch reports it; once the server runs again, the watch continues."""
    watch = opened(client)
    bucket.server.signal(signal.SIGSTOP)
    until(lambda: watch.health.phase == "reconnecting")
    assert watch.snapshot()["cpu"] == 90
    bucket.server.signal(signal.SIGCONT)
    bucket.put(cpu=1)
    shows(watch, cpu=1, memory={"percent": 80})


def test_without_a_server(server: NatsServer) -> None:
    """Without a server, a watch is connecting; once there is one, it shows the values."""
    bucket = Bucket(server)
    bucket.put(cpu=1)
    server.stop()
    with Client(Settings(url=server.url)) as client:
        watch = client.values("settings")
        assert not watch.wait(0.2)
        assert (watch.health.phase, watch.snapshot().version, len(watch.snapshot())) == ("connecting", 0, 0)
        server.start()
        shows(watch, cpu=1)


def test_consumer_deleted(bucket: Bucket, client: Client) -> None:
    """If an administrator deletes the consumer, the watch creates another and misses nothing."""
    watch = opened(client)
    (consumer,) = consumers(bucket.server)
    bucket.server.run(lambda nc: nc.jetstream().delete_consumer("KV_settings", consumer.name))
    bucket.put(cpu=1)
    shows(watch, cpu=1, memory={"percent": 80})
    assert watch.health.restarts == 1


def test_connection_lost(bucket: Bucket, client: Client) -> None:
    """If the server closes the connection, the watch continues with the next one."""
    watch = opened(client)
    bucket.server.stop()
    bucket.server.start()
    bucket.put(cpu=1)
    shows(watch, cpu=1, memory={"percent": 80})


def test_bucket_appears(bucket: Bucket, client: Client) -> None:
    """A missing bucket is reported with the nearest name, and the watch starts once the bucket is created."""
    watch = opened(client, "setings")
    assert watch.health.phase == "stopped"
    assert str(watch.health.why) == (
        "There is no bucket 'setings' in this account. Did you mean 'settings'? The buckets are 'settings'."
    )
    Bucket(bucket.server, "setings").put(a=1)
    shows(watch, a=1)


def test_bucket_deleted_and_made_again(bucket: Bucket, client: Client) -> None:
    """A deleted bucket is reported, and its last values stay. Once it is created again, only the new values
    are shown."""
    watch = opened(client)
    with Looking(watch) as seen:
        bucket.delete()
        until(lambda: watch.health.phase == "stopped")
        assert "There is no bucket 'settings'" in str(watch.health.why)
        assert watch.snapshot()["cpu"] == 90
        bucket.create()
        shows(watch)
        bucket.put(disk=1)
        shows(watch, disk=1)
    assert seen == [{"cpu": 90, "memory": {"percent": 80}}, {}, {"disk": 1}]


def test_bucket_restored(bucket: Bucket, client: Client) -> None:
    """A bucket restored from a backup shows the values of the backup, and those written afterwards."""
    backup = bucket.server.run(lambda nc: snapshot(nc, "KV_settings"))
    bucket.put(cpu=1, disk=2)
    watch = opened(client)
    shows(watch, cpu=1, disk=2, memory={"percent": 80})

    async def put_back(nc: Any) -> None:
        await nc.jetstream().delete_stream("KV_settings")
        await restore(nc, "KV_settings", backup)

    bucket.server.run(put_back)
    shows(watch, cpu=90, memory={"percent": 80})
    bucket.put(cpu=3)
    shows(watch, cpu=3, memory={"percent": 80})


def test_stream_purged(bucket: Bucket, client: Client) -> None:
    """A purge of the stream, for one key or for all, removes keys from the mapping, although it leaves no
    delete marker."""
    watch = opened(client)
    bucket.server.run(lambda nc: nc.jetstream().purge_stream("KV_settings", subject="$KV.settings.memory"))
    shows(watch, cpu=90)
    bucket.server.run(lambda nc: nc.jetstream().purge_stream("KV_settings"))
    shows(watch)
    bucket.put(cpu=1)
    shows(watch, cpu=1)


def test_bucket_ttl(server: NatsServer, client: Client) -> None:
    """A key that the bucket's TTL removes leaves the mapping; a key written later stays until its own time is
    over."""
    bucket = Bucket(server, ttl=3)
    bucket.put(old=1)
    watch = opened(client)
    assert watch.snapshot()["old"] == 1
    time.sleep(2)
    bucket.put(new=2)
    shows(watch, new=2)
    shows(watch)


def test_message_ttl(server: NatsServer, client: Client) -> None:
    """A key with a TTL of its own leaves the mapping, in a bucket with delete markers and in one without."""
    marked, plain = Bucket(server, "marked", limit_marker_ttl=60), Bucket(server, "plain")
    for bucket in (marked, plain):
        bucket.put(stays=1)
        bucket.do(("create", "goes", b"2", True, 1))
        bucket.put(late=3)
    watches = [opened(client, "marked"), opened(client, "plain")]
    for watch in watches:
        shows(watch, stays=1, late=3)
    entries = watches[0].snapshot().entries(deleted=True)
    assert [entry.operation for entry in entries if entry.key == "goes"] == ["PURGE"]


def test_message_deleted(server: NatsServer, client: Client) -> None:
    """If an administrator deletes the newest revision of a key, the mapping shows the previous one, or
    none."""

    async def permissive(nc: Any) -> None:  # a bucket that a client creates denies deletion
        await nc.jetstream().add_stream(
            name="KV_settings", subjects=["$KV.settings.>"], max_msgs_per_subject=5
        )

    server.run(permissive)
    server.publish("$KV.settings.a", b"1", b"2")
    server.publish("$KV.settings.b", b"3")
    server.publish("$KV.settings.c", b"4")
    watch = opened(client)
    shows(watch, a=2, b=3, c=4)
    with Looking(watch) as seen:
        server.run(lambda nc: nc.jetstream().delete_msg("KV_settings", 2))
        shows(watch, a=1, b=3, c=4)
    assert seen == [{"a": 2, "b": 3, "c": 4}, {"a": 1, "b": 3, "c": 4}]
    server.run(lambda nc: nc.jetstream().delete_msg("KV_settings", 4))
    shows(watch, a=1, b=3)
    server.run(lambda nc: nc.jetstream().delete_msg("KV_settings", 3))
    shows(watch, a=1)


def test_pushed_out_by_size(server: NatsServer, client: Client) -> None:
    """Keys that the stream's limit of bytes removes leave the mapping."""

    async def small(nc: Any) -> None:
        await nc.jetstream().add_stream(
            name="KV_settings", subjects=["$KV.settings.>"], max_msgs_per_subject=1, max_bytes=1000
        )

    server.run(small)
    watch = opened(client)
    for number in range(10):
        server.publish(f"$KV.settings.k{number}", b'"%s"' % (b"x" * 250))
    left = {f"k{number}": "x" * 250 for number in (7, 8, 9)}
    shows(watch, **left)


def test_more_deleted_than_are_listed(
    server: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A removed key is noticed even if too many messages are gone to check each of them."""
    monkeypatch.setattr("nats_client.kv.watch.MOST_DELETED", 10)
    bucket = Bucket(server)
    bucket.put(first=0, gone=0)
    bucket.do(*(("put", "busy", b"%d" % number) for number in range(50)))
    watch = opened(client)
    shows(watch, first=0, gone=0, busy=49)
    server.run(lambda nc: nc.jetstream().purge_stream("KV_settings", subject="$KV.settings.gone"))
    shows(watch, first=0, busy=49)
    assert watch.health.restarts == 1


def test_nothing_blinks_while_written(
    server: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a bucket that keeps one revision is overwritten all the time, no key is ever missing, and
    nothing is read twice."""
    monkeypatch.setattr("nats_client.feeds.reconcile.EVERY", 0.01)
    bucket = Bucket(server)
    keys = {"stays": -1} | {f"k{number}": 0 for number in range(20)}
    bucket.put(**keys)
    watch = opened(client)
    with Looking(watch) as seen:
        bucket.do(*(("put", f"k{count % 20}", b"%d" % count) for count in range(3000)))
        shows(watch, stays=-1, **{f"k{count % 20}": count for count in range(2980, 3000)})
    assert len(seen) > 10
    assert all(values.keys() == keys.keys() for values in seen)
    assert watch.health.restarts == 0


def test_ceiling(server: NatsServer) -> None:
    """Keys above the ceiling are left out and counted; once there is room, they are added."""
    bucket = Bucket(server)
    bucket.put(**{f"k{number:02}": number for number in range(30)})
    with Client(Settings(url=server.url, bucket_keys=20)) as client:
        watch = opened(client)
        assert [entry.key for entry in watch.snapshot().entries()] == [f"k{n:02}" for n in range(20)]
        until(lambda: watch.health.left_out == 10)
        bucket.put(k00=1, k29=1)
        until(lambda: watch.snapshot()["k00"] == 1)
        assert "k29" not in {entry.key for entry in watch.snapshot().entries()}
        server.run(lambda nc: nc.jetstream().purge_stream("KV_settings", seq=13))
        until(lambda: watch.snapshot().complete and len(watch.snapshot()) == 19)
        assert watch.health.left_out == 0


def test_ceiling_in_bytes(server: NatsServer) -> None:
    """A value that grows beyond the ceiling is left out, and its old value is not kept in its place."""
    bucket = Bucket(server)
    bucket.put(a="x", b="y")
    with Client(Settings(url=server.url, feed_memory=5000)) as client:
        watch = opened(client)
        shows(watch, a="x", b="y")
        bucket.put(a="x" * 6000)
        until(lambda: [entry.key for entry in watch.snapshot().entries()] == ["b"])
        assert watch.snapshot()["a"] == "x" * 6000
        until(lambda: watch.health.left_out == 1)
        bucket.put(a="z")
        until(lambda: watch.snapshot().complete)
        shows(watch, a="z", b="y")
        until(lambda: watch.health.left_out == 0)


def test_keys_beyond_the_ceiling(server: NatsServer) -> None:
    """A key that is not held is requested from the bucket, with its value as of now. A missing key is
    reported as usual. What the watch cannot determine is an error, and never a default or a partial
    result."""
    bucket = Bucket(server)
    bucket.put(**{f"k{number:02}": number for number in range(30)})
    with Client(Settings(url=server.url, bucket_keys=20)) as client:
        watch = opened(client)
        values = watch.snapshot()
        assert (values.get("k25", "none"), values["k26"], "k27" in values) == (25, 26, True)
        assert (values.get("nope", "none"), "nope" in values) == ("none", False)
        with pytest.raises(KeyNotFound, match="has no key 'nope'"):
            values["nope"]
        for impossible in (len, list, dict):
            with pytest.raises(TooManyKeys, match="more keys than the 20 held here"):
                impossible(values)
        assert (values.held, values.complete) == (20, False)
        assert values.revision("k25") == 26
        bucket.put(k25=250)
        until(lambda: watch.snapshot()["k25"] == 250)
        assert values["k25"] == 25  # a snapshot does not change
        bucket.do(("delete", "k25"))
        until(lambda: "k25" not in watch.snapshot())
        bucket.do(("put", "nope", b"1"))
        until(lambda: watch.snapshot().get("nope") == 1)
        server.kill()
        until(lambda: watch.health.phase != "following")
        with pytest.raises(TooManyKeys, match=r"the key 'k28' cannot be requested at the moment\. [^{}]*$"):
            watch.snapshot().get("k28", "none")
        server.start()
        until(lambda: watch.health.phase == "following")
        assert watch.snapshot()["k28"] == 28


def mirrored(server: NatsServer, name: str, **config: Any) -> None:
    """Create a bucket's stream that has a mirror or sources."""
    server.run(lambda nc: nc.jetstream().add_stream(StreamConfig(name=f"KV_{name}", **config)))


def test_mirror(bucket: Bucket, client: Client) -> None:
    """A mirror of a bucket, and a mirror of that mirror, have its keys, their histories and later changes."""
    mirrored(bucket.server, "copy", mirror=StreamSource(name="KV_settings"))
    mirrored(bucket.server, "second", mirror=StreamSource(name="KV_copy"))
    for name in ("copy", "second"):
        watch = opened(client, name)
        shows(watch, cpu=90, memory={"percent": 80})
        assert [entry.text(9) for entry in client.history(name, "cpu")] == ["90"]
    bucket.put(cpu=91)
    bucket.do(("delete", "memory"))
    shows(watch, cpu=91)
    assert [entry.text(9) for entry in client.history("second", "cpu")] == ["90", "91"]


def test_sources(bucket: Bucket, client: Client) -> None:
    """A bucket with two others as sources has the keys of both, whether or not they are transformed to its
    own name."""
    other = Bucket(bucket.server, "other")
    other.put(disk=7)
    into = [{"src": "$KV.other.>", "dest": "$KV.both.>"}]
    mirrored(
        bucket.server,
        "both",
        subjects=["$KV.both.>"],
        sources=[
            StreamSource(name="KV_settings"),
            StreamSource(name="KV_other", subject_transforms=[SubjectTransform(**each) for each in into]),
        ],
    )
    watch = opened(client, "both")
    shows(watch, cpu=90, memory={"percent": 80}, disk=7)
    other.put(disk=8)
    shows(watch, cpu=90, memory={"percent": 80}, disk=8)
    assert [entry.text(9) for entry in client.history("both", "disk")] == ["7", "8"]
