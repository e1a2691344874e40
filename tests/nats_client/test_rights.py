"""Permissions that a login lacks, permissions that are revoked and given back, and logins that expire and are
renewed, while a feed is live.

Slow, because a feed has to notice that permissions are revoked, and logins have to expire.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nats_client import Client, Settings, Snapshot
from nats_client.errors import LookbackError, NotPermitted
from tests.chunked import Asked, endless
from tests.chunked import service as chunked
from tests.jetstream import stream
from tests.logins import operator
from tests.nats import NatsServer, numbered, running_server
from tests.running import ROOT
from tests.service import service
from tests.waiting import until

WAITS = 60.0
"""Seconds that requests and queries wait for an answer here."""
Look = Callable[[Client], object]

USERS = """
authorization {{ users: [
  {{ user: admin, password: x }}
  {{ user: me, password: x, permissions: {{ publish: {}, subscribe: {} }} }}
] }}
"""
EVERY = '["$JS.API.>", "$JS.FC.>"]'
TAKEN = [
    (USERS.format('["$JS.FC.>"]', '"_INBOX.>"'), "'$JS.API.STREAM.INFO.S'"),
    (
        USERS.format('["$JS.FC.>", "$JS.API.STREAM.INFO.S", "$JS.API.STREAM.NAMES"]', '"_INBOX.>"'),
        "'$JS.API.CONSUMER.CREATE.S.",
    ),
    (USERS.format(EVERY, '"other"'), "to subscribe to '_INBOX"),
]


def denying(verb: str, subject: str) -> str:
    """A configuration in which the user `me` may do everything except `verb` ("publish", "subscribe")
    `subject`."""
    permissions = {"publish": {"allow": ">"}, "subscribe": {"allow": ">"}}
    permissions[verb] = {"allow": ">", "deny": subject}
    return (
        "authorization { users: [ { user: admin, password: x }, "
        f"{{ user: me, password: x, permissions: {json.dumps(permissions)} }} ] }}"
    )


@contextmanager
def restricted(
    folder: Path, verb: str, subject: str, *, tester: bool = False
) -> Iterator[tuple[NatsServer, Client]]:
    """A server with a stream S, a bucket B and, if `tester`, the service `tester`; and a client that may do
    everything except `verb` `subject`."""
    with running_server(folder, denying(verb, subject)) as server:
        url, server.url = server.url, server.url.replace("//", "//admin:x@")
        server.add_stream("S", ["s.>"])
        server.publish("s.a", *numbered(5))
        server.run(lambda nc: nc.jetstream().create_key_value(bucket="B"))
        server.publish("$KV.B.key", b"1")
        with (
            service(server.url) if tester else nullcontext(),
            Client(Settings(url=url, user="me", password="x")) as client,
        ):
            yield server, client


def failure(ask: Look) -> Look:
    """A call of `ask` that returns the error that it raises."""

    def look(client: Client) -> object:
        try:
            return ask(client)
        except LookbackError as error:
            return error

    return look


def feed(client: Client) -> object:
    """Why the feed of the stream is not live."""
    return client.feed("S", look_back="PT1H").health.why


def filtered(client: Client) -> object:
    """The same of a feed with a filter."""
    return client.feed("S", "s.a", look_back="PT1H").health.why


def plain(client: Client) -> object:
    """The same of plain subjects."""
    return client.feed(None, "Plain.>").health.why


def values(client: Client) -> object:
    """The same of a bucket."""
    return client.values("B").health.why


def past_values(client: Client) -> object:
    """The same of a bucket as of an earlier time."""
    return client.values("B", end=datetime(2026, 1, 1, tzinfo=UTC)).health.why


def services(client: Client) -> object:
    """What service discovery was not permitted to request."""
    return client.services().refused


def query(client: Client) -> object:
    """Why a query with a long timeout has failed."""
    asked = client.query("history.query", {}, timeout=WAITS)
    asked.wait(30)
    return asked.error


request = failure(lambda client: client.request("tester.echo", timeout=WAITS))
shared = failure(lambda client: client.shared_request("tester.echo", timeout=WAITS, every=0))
streams, buckets = failure(Client.streams), failure(Client.buckets)
subjects, newest = failure(lambda client: client.subjects("S")), failure(lambda client: client.newest("S"))
history = failure(lambda client: client.history("B", "key"))
WITHOUT_TESTER = {
    feed,
    filtered,
    plain,
    values,
    past_values,
    query,
    streams,
    buckets,
    subjects,
    newest,
    history,
}
"""Calls that do not need the service `tester`, a program that takes long to start."""

API = "$JS.API"
NAMED = "list the streams in the setting 'streams'"
INBOX = "to subscribe to '_INBOX.>'. Ask for this permission, or set 'inbox_prefix'"
DENIED = [
    (feed, "publish", f"{API}.STREAM.INFO.S", f"requests to '{API}.STREAM.INFO.S'"),
    (feed, "publish", f"{API}.CONSUMER.CREATE.>", f"Ask for permission on '{API}.CONSUMER.CREATE.S.*'"),
    (filtered, "publish", f"{API}.CONSUMER.CREATE.>", f"on '{API}.CONSUMER.CREATE.S.*.s.a'"),
    (feed, "subscribe", "_INBOX.>", INBOX),
    (plain, "subscribe", "Plain.>", "to subscribe to 'Plain.>'"),
    (values, "publish", f"{API}.STREAM.INFO.KV_B", f"requests to '{API}.STREAM.INFO.KV_B'"),
    (values, "publish", f"{API}.CONSUMER.CREATE.>", f"on '{API}.CONSUMER.CREATE.KV_B.*.$KV.B.>'"),
    (values, "subscribe", "_INBOX.>", INBOX),
    (past_values, "publish", f"{API}.CONSUMER.CREATE.>", f"on '{API}.CONSUMER.CREATE.KV_B.*.$KV.B.>'"),
    (history, "publish", f"{API}.STREAM.MSG.GET.>", f"requests to '{API}.STREAM.MSG.GET.KV_B'"),
    (streams, "publish", f"{API}.STREAM.LIST", NAMED),
    (streams, "subscribe", "_INBOX.>", INBOX),
    (buckets, "publish", f"{API}.STREAM.LIST", NAMED),
    (subjects, "publish", f"{API}.STREAM.INFO.S", f"requests to '{API}.STREAM.INFO.S'"),
    (newest, "publish", f"{API}.STREAM.MSG.GET.S", f"requests to '{API}.STREAM.MSG.GET.S'"),
    (services, "publish", "$SRV.PING", "requests to '$SRV.PING'"),
    (services, "publish", "$SRV.INFO", "requests to '$SRV.INFO'"),
    (services, "publish", "$SRV.STATS", "requests to '$SRV.STATS'"),
    (failure(services), "subscribe", "_INBOX.>", INBOX),
    (request, "publish", "tester.>", "requests to 'tester.echo'"),
    (request, "subscribe", "_INBOX.>", INBOX),
    (shared, "publish", "tester.>", "requests to 'tester.echo'"),
    (query, "publish", "history.>", "to publish to 'history.query'"),
    (query, "subscribe", "_INBOX.>", INBOX),
]


@pytest.mark.parametrize(("look", "verb", "subject", "said"), DENIED)
def test_denied(tmp_path: Path, look: Look, verb: str, subject: str, said: str) -> None:
    """A missing permission is reported to the caller, with the subject as it was requested, and without
    waiting for a reply that cannot come."""
    with restricted(tmp_path, verb, subject, tester=look not in WITHOUT_TESTER) as (_, client):
        until(lambda: "is not permitted" in str(look(client)))
        began = time.monotonic()
        assert said in str(look(client))
        assert time.monotonic() - began < WAITS / 2


def test_services_that_may_be_asked_something(tmp_path: Path) -> None:
    """A login that may not request statistics still sees the services."""
    with restricted(tmp_path, "publish", "$SRV.STATS", tester=True) as (_, client):
        until(lambda: client.services().names == ["tester"])
        assert {each.requests for each in client.services().instances[0].endpoints} == {None}


@pytest.mark.parametrize(
    "subject",
    [f"{API}.CONSUMER.DELETE.>", f"{API}.CONSUMER.INFO.>", f"{API}.STREAM.MSG.GET.>", "$JS.FC.>"],
)
def test_what_is_not_needed(tmp_path: Path, subject: str, caplog: pytest.LogCaptureFixture) -> None:
    """A small feed only needs to create a consumer and to receive its messages. Other permissions that it
    lacks do not disturb it; a deletion that is denied is logged once."""
    caplog.set_level(logging.WARNING)
    with restricted(tmp_path, "publish", subject) as (server, client):
        feed, values = client.feed("S", look_back="PT1H"), client.values("B")
        until(lambda: len(feed.snapshot()) == 5)
        until(lambda: values.snapshot().get("key") == 1)
        for _ in range(2):
            for info in server.run(lambda nc: nc.jetstream().consumers_info("S")):
                server.run(lambda nc: nc.jetstream().delete_consumer("S", info.name))
            restarts = feed.health.restarts
            until(lambda: feed.health.restarts > restarts)
        server.publish("s.a", *numbered(5, 5))
        until(lambda: len(feed.snapshot()) == 10)
        assert feed.health.phase == "following"
        assert feed.health.flow_control_denied is None
        assert client.state.status == "connected"
    logged = [record for record in caplog.messages if "CONSUMER.DELETE.S" in record]
    assert len(logged) == ("DELETE" in subject)


def test_flow_control_is_denied(tmp_path: Path) -> None:
    """A replay that needs flow control, but may not answer it, continues in steps and reports why. Once the
    permission is given, it no longer reports that."""
    with restricted(tmp_path, "publish", "$JS.FC.>") as (server, client):
        text = "x" * 10_000
        server.publish("s.b", *[json.dumps({"n": n, "text": text}).encode() for n in range(600)])
        feed = client.feed("S", "s.b", look_back="PT1H")
        until(lambda: feed.health.flow_control_denied is not None)
        said = "is not permitted to publish to '$JS.FC.S.>'"
        assert said in str(feed.health.flow_control_denied)
        phases: set[str] = set()
        until(lambda: phases.add(feed.health.phase) or len(feed.snapshot()) == 600)
        assert phases <= {"replaying", "following"}
        assert said in str(feed.health.flow_control_denied)
        assert feed.snapshot().numbers("n").tolist() == list(range(600))
        server.configure(denying("publish", "nothing"))
        server.publish("s.b", *[json.dumps({"n": n, "text": text}).encode() for n in range(600, 1200)])
        until(lambda: len(feed.snapshot()) == 1200 and feed.health.flow_control_denied is None, 60)


def test_control_of_a_query_is_denied(tmp_path: Path) -> None:
    """A query whose chunks may not be acknowledged fails with an error that names the subject, and keeps the
    rows received."""
    with restricted(tmp_path, "publish", "history.query.control.>") as (server, client):

        async def answer(asked: Asked) -> None:
            await endless(asked, 0.2)

        with chunked(server.url, answer) as running:
            asked = client.query("history.query", {}, timeout=WAITS)
            until(lambda: asked.state == "failed")
            assert isinstance(asked.error, NotPermitted)
            assert "to publish to 'history.query.control.0'" in str(asked.error)
            assert asked.rows
            running.asked[0].commands.append("stop")
            running.asked[0].news.set()


def test_archive_is_denied(tmp_path: Path) -> None:
    """A feed that may not query its archive has the stream's rows, and reports the missing permission."""
    with restricted(tmp_path, "publish", "history.>") as (server, client):
        server.run(lambda nc: nc.jetstream().purge_stream("S", keep=3))
        feed = client.feed("S", look_back="PT1H", archive="history.query")
        until(lambda: "to publish to 'history.query'" in str(feed.health.archive))
        assert len(feed.snapshot()) == 3
        assert feed.health.phase == "following"


def test_a_violation_is_no_reason_of_a_lost_connection(tmp_path: Path) -> None:
    """A connection that is lost after a permissions violation is reported as lost, not as a missing
    permission."""
    with restricted(tmp_path, "publish", "nothing.>") as (server, client):
        with pytest.raises(NotPermitted, match=r"requests to 'nothing\.Here'"):
            client.request("nothing.Here", timeout=WAITS)
        server.kill()
        until(lambda: client.state.error is not None)
        assert "permit" not in str(client.state.error)
        assert "violation" not in str(client.state.error)


def documented() -> dict[str, list[str]]:
    """The permissions that a login needs, from the table in docs/connecting.md."""
    text = (ROOT / "docs" / "connecting.md").read_text().partition("## What a login must permit")[2]
    rows = [line.split("|") for line in text.partition("## ")[0].splitlines() if line.startswith("| ")][2:]
    subject = re.compile(r"`([\w$*>-]+\.[\w$.*>-]+)`")
    return {
        kind: [found for row in rows for found in subject.findall(row[column])]
        for kind, column in (("publish", 2), ("subscribe", 3))
    }


async def allow_direct(nc: Any) -> None:
    """Allow direct gets on the stream METRICS."""
    js = nc.jetstream()
    config = (await js.stream_info("METRICS")).config
    config.allow_direct = True
    await js.update_stream(config)


def test_documented_rights_suffice(tmp_path: Path) -> None:
    """With exactly the permissions in the document's table, everything that the table names works."""
    rights = documented()
    assert {kind: len(subjects) for kind, subjects in rights.items()} == {"publish": 20, "subscribe": 2}
    config = (
        "authorization { users: [ { user: admin, password: x }, "
        f"{{ user: me, password: x, permissions: {json.dumps(rights)} }} ] }}"
    )
    with running_server(tmp_path, config) as server:
        url, server.url = server.url, server.url.replace("//", "//admin:x@")
        server.add_stream("METRICS", ["metrics.>"])
        server.publish("metrics.a", *numbered(5))
        server.run(lambda nc: nc.jetstream().create_key_value(bucket="settings"))
        server.publish("$KV.settings.key", b"1")

        async def answer(asked: Asked) -> None:
            await asked.rows({"n": 1}, Lookback_Control=asked.control)
            await asked.until_command("ack 1")
            await asked.end()

        with (
            service(server.url, "pump"),
            chunked(server.url, answer),
            Client(Settings(url=url, user="me", password="x")) as client,
        ):
            feed, some = client.feed("METRICS"), client.feed("METRICS", "metrics.*")
            plain, values = client.feed(None, "sensors.>"), client.values("settings")
            for each in (feed, some):
                until(lambda: len(each.snapshot()) == 5)
            until(lambda: plain.health.phase == "following" and values.snapshot().get("key") == 1)
            server.run(lambda nc: nc.publish("sensors.a", b'{"n": 1}'))
            until(lambda: len(plain.snapshot()) == 1)
            assert [stream.name for stream in client.streams()] == ["METRICS"]
            assert [bucket.name for bucket in client.buckets()] == ["settings"]
            assert client.subjects("METRICS").counts == {"metrics.a": 5}
            assert client.newest("METRICS") is not None
            held: list[Snapshot] = []
            server.run(allow_direct)
            until(lambda: feed.read_before(time.time_ns(), ["_subject"], held.append) or held)
            assert len(held[0]) == 1
            listed = client.consumers()
            assert {each.stream for each in listed.consumers} == {"METRICS"}
            assert listed.refused.keys() == {"KV_settings"}
            assert [entry.value for entry in client.history("settings", "key")] == [1]
            until(lambda: client.services().names == ["pump"])
            assert client.services().refused is None
            assert client.request("pump.echo", "x").data == b"x"
            query = client.query("history.query", {})
            assert query.wait(30)
            assert query.error is None
            with pytest.raises(NotPermitted):
                client.request("other.subject")


@pytest.mark.parametrize("pinned", ["$KV.*.>", "$KV.copy.>"])
def test_the_subjects_of_a_mirrored_bucket_are_pinned(tmp_path: Path, pinned: str) -> None:
    """A bucket that mirrors another is read with the filter "$KV.*.>", since its subjects have the other's
    name. A login whose permission names that filter can read it; with a permission for the bucket's own name,
    the watch reports an error."""
    asked = f"{API}.CONSUMER.CREATE.KV_copy.*"
    publish = [
        f"{API}.STREAM.INFO.KV_copy",
        f"{API}.CONSUMER.INFO.KV_copy.*",
        f"{asked}.{pinned}",
        "$JS.FC.KV_copy.>",
    ]
    with running_server(tmp_path, USERS.format(json.dumps(publish), '"_INBOX.>"')) as server:
        url, server.url = server.url, server.url.replace("//", "//admin:x@")
        server.run(lambda nc: nc.jetstream().create_key_value(bucket="settings"))
        server.publish("$KV.settings.key", b"1")
        stream(server, "KV_copy", mirror={"name": "KV_settings"}, max_msgs_per_subject=1)
        with Client(Settings(url=url, user="me", password="x")) as client:
            watch = client.values("copy")
            if pinned == "$KV.*.>":
                until(lambda: dict(watch.snapshot()) == {"key": 1})
                server.publish("$KV.settings.key", b"2")
                until(lambda: watch.snapshot()["key"] == 2)
            else:
                until(lambda: f"'{asked}.$KV.*.>'" in str(watch.health.why))
                assert (watch.health.phase, watch.snapshot().version) == ("stopped", 0)


@pytest.mark.parametrize("verb", ["subscribe", "publish"])
def test_permission_is_taken_from_others(tmp_path: Path, verb: str) -> None:
    """If the permission for plain subjects or a bucket is revoked while live, their reader stops and reports
    it, the other one stays live, and the reader continues once the permission is given back."""
    subject = "Plain.>" if verb == "subscribe" else f"{API}.STREAM.INFO.KV_B"
    with restricted(tmp_path, verb, "nothing") as (server, client):
        plain, values = client.feed(None, "Plain.>"), client.values("B")
        until(lambda: plain.health.phase == values.health.phase == "following")
        server.configure(denying(verb, subject))
        one, other = (plain, values) if verb == "subscribe" else (values, plain)
        until(lambda: subject in str(one.health.why) and one.health.phase == "stopped")
        assert other.health.phase == "following"
        assert values.snapshot()["key"] == 1
        server.configure(denying(verb, "nothing"))
        until(lambda: one.health.phase == "following")


@pytest.mark.parametrize(("taken", "expected"), TAKEN, ids=["stream info", "consumer", "inbox"])
def test_permission_is_taken_away(tmp_path: Path, taken: str, expected: str) -> None:
    """A feed reports the permission that was revoked, and misses no message once it is given back."""
    given = USERS.format(EVERY, '"_INBOX.>"')
    with running_server(tmp_path, given) as server:
        url, server.url = server.url, server.url.replace("//", "//admin:x@")
        server.add_stream("S", ["s.>"])
        server.publish("s.a", *numbered(5))
        with Client(Settings(url=url, user="me", password="x")) as client:
            feed = client.feed("S", look_back="PT1H")
            until(lambda: len(feed.snapshot()) == 5)
            server.configure(taken)
            if "CONSUMER" in expected:  # an existing consumer needs no permission; only its successor does
                for info in server.run(lambda nc: nc.jetstream().consumers_info("S")):
                    server.run(lambda nc: nc.jetstream().delete_consumer("S", info.name))
            until(lambda: expected in str(feed.health.why) and feed.health.phase == "stopped")
            assert "is not permitted" in str(feed.health.why)
            server.publish("s.a", *numbered(5, 5))
            time.sleep(3)
            server.configure(given)
            until(lambda: feed.health.phase == "following" and len(feed.snapshot()) == 10)
            assert feed.snapshot().seq.tolist() == list(range(1, 11))


def test_login_ends_and_is_renewed(tmp_path: Path) -> None:
    """A user JWT that expires while a feed is live is reported. Once its file is renewed, the feed continues
    and misses nothing."""
    login = operator(tmp_path)
    with running_server(tmp_path / "nats", login.config) as server:
        file = login.write(None)
        server.credentials = str(file)
        server.add_stream("S", ["s.>"])
        server.publish("s.a", *numbered(5))
        mine = login.write(int(time.time()) + 4, "mine.creds")
        with Client(Settings(url=server.url, credentials=str(mine))) as client:
            feed = client.feed("S", look_back="PT1H")
            until(lambda: len(feed.snapshot()) == 5)
            until(lambda: client.state.status == "reconnecting")
            until(lambda: "expired" in str(client.state.error) or "refused" in str(client.state.error))
            server.publish("s.a", *numbered(5, 5))
            login.write(None, "mine.creds")
            until(lambda: feed.health.phase == "following" and len(feed.snapshot()) == 10)
            assert feed.snapshot().seq.tolist() == list(range(1, 11))
            assert not feed.health.gaps
