"""Clients that log in as a role: short-lived tokens, renewed while feeds, requests and queries run.

Slow, because tokens have to expire: the shortest life that leaves time for a renewal is some seconds.
"""

import asyncio
import contextlib
import json
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nats_client import Client, Rights, Settings
from nats_client.errors import (
    LoginRefused,
    RequestRefused,
    StreamNotFound,
    TlsFailed,
    TokenRefused,
    TokenUnavailable,
)
from services.accounts.claims import Key
from tests.jetstream import stream
from tests.nats import NatsServer, numbered
from tests.realm import ROLES, Realm
from tests.waiting import until

CHUNKS = 25


@contextlib.contextmanager
def running(folder: Path, minutes: float = 5) -> Iterator[tuple[Realm, NatsServer, Any]]:
    """An account, its server and its token service."""
    realm = Realm(folder / "realm", minutes=minutes)
    realm.listen = ["plain.>"]
    with realm.server() as server, realm.service(server) as service:
        yield realm, server, service


@contextlib.contextmanager
def as_role(folder: Path, role: str, minutes: float = 5) -> Iterator[tuple[Realm, NatsServer, Any, Client]]:
    """The same, and a client connected as `role`."""
    with (
        running(folder, minutes) as (realm, server, service),
        Client(realm.settings(server.url, role)) as client,
    ):
        assert client.wait(30)
        yield realm, server, service, client


def minted(service: Any) -> int:
    """How many tokens were issued."""
    return int(service.log().count("A token of the role"))


@dataclass
class Load:
    """A program that publishes with acknowledgements, writes keys, publishes plain messages, and answers
    requests."""

    server: NatsServer
    stored: int = 0
    put: int = 0
    said: int = 0
    done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Load":
        self._thread = threading.Thread(target=self.server.run, args=(self._work,), name="load")
        self._thread.start()
        until(lambda: self.stored)  # then the server has its subscriptions
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self._thread.join()

    async def _work(self, nc: Any) -> None:
        stream, bucket = nc.jetstream(), await nc.jetstream().key_value("b")
        await nc.subscribe("echo.it", cb=self._echo)
        await nc.subscribe("history.query", cb=self._answer)
        self._nc = nc
        talking = asyncio.create_task(self._talk())
        while not self.done.is_set():
            await stream.publish("s.a", json.dumps({"n": self.stored}).encode())
            self.stored += 1
            await bucket.put("k", str(self.put).encode())
            self.put += 1
            await asyncio.sleep(0.02)
        await talking

    async def _talk(self) -> None:
        while not self.done.is_set():
            await self._nc.publish("plain.a", json.dumps({"n": self.said}).encode())
            self.said += 1
            await asyncio.sleep(0.002)
        await self._nc.flush()

    async def _echo(self, message: Any) -> None:
        await message.respond(message.data)

    async def _answer(self, message: Any) -> None:
        async def answer() -> None:
            pause = float(message.data or b"0.1")
            for chunk in range(CHUNKS):
                rows = json.dumps([{"n": 2 * chunk}, {"n": 2 * chunk + 1}]).encode()
                await self._nc.publish(message.reply, rows, headers={"Content-Type": "application/json"})
                await asyncio.sleep(pause)
            await self._nc.publish(message.reply, b"")

        self._answering = asyncio.create_task(answer())


def test_lists_reads_and_finds_what_the_role_may(tmp_path: Path) -> None:
    """A role's lists hold only its own streams and buckets, without requesting all; access to others is
    denied."""
    with running(tmp_path) as (realm, server, _):
        server.publish("s.a", *numbered(3))
        server.publish("o.a", *numbered(3))
        server.run(lambda nc: nc.jetstream().create_key_value(bucket="secret"))
        with (
            Client(realm.settings(server.url, "viewer")) as client,
            Client(realm.settings(server.url, "all")) as everything,
        ):
            assert client.wait(30)
            assert everything.wait(30)
            assert client.rights == Rights("viewer", ("overview",), ("S", "KV_b"), ("tester",))
            assert everything.rights == Rights("all", None, None, None)
            assert [stream.name for stream in client.streams()] == ["S"]
            assert [bucket.name for bucket in client.buckets()] == ["b"]
            assert [stream.name for stream in everything.streams()] == ["OTHER", "S"]
            assert [bucket.name for bucket in everything.buckets()] == ["b", "secret"]
            feed, other = client.feed("S", look_back="PT1H"), client.feed("OTHER", look_back="PT1H")
            until(lambda: len(feed.snapshot()) == 3)
            until(lambda: other.health.phase == "stopped")
            assert isinstance(other.health.why, RequestRefused)
            assert client.newest("S") is not None
            for denied in (
                lambda: client.newest("OTHER"),
                lambda: client.subjects("OTHER"),
                lambda: client.history("secret", "k"),
                lambda: client.request("echo.it"),
                lambda: client.request("tokens.mint", {"role": "all", "key": "U"}),
            ):
                with pytest.raises(RequestRefused):
                    denied()


def test_a_bucket_that_mirrors_another(tmp_path: Path) -> None:
    """A role that has only the mirror of a bucket lists it and reads its keys and their history, although
    their subjects have the original's name. The original stays denied."""
    realm = Realm(tmp_path / "realm", ROLES + '\n[roles.mirror]\nbuckets = ["copy"]\n')
    with realm.server() as server, realm.service(server):
        stream(server, "KV_copy", mirror={"name": "KV_b"}, max_msgs_per_subject=5)
        server.publish("$KV.b.key", b"1", b"2")
        with Client(realm.settings(server.url, "mirror")) as client:
            assert client.wait(30)
            assert [bucket.name for bucket in client.buckets()] == ["copy"]
            watch, other = client.values("copy"), client.values("b")
            until(lambda: dict(watch.snapshot()) == {"key": 2})
            assert [entry.value for entry in client.history("copy", "key")][-1] == 2
            server.publish("$KV.b.key", b"3")
            until(lambda: watch.snapshot()["key"] == 3)
            until(lambda: other.health.phase == "stopped")
            assert isinstance(other.health.why, RequestRefused)


def test_a_stream_that_is_named_and_not_there(tmp_path: Path) -> None:
    """A stream that the role names, but that does not exist, is left out of the lists. The error of its feed
    names only streams that the role may see."""
    with as_role(tmp_path, "viewer") as (_, server, _, client):
        server.run(lambda nc: nc.jetstream().delete_stream("S"))
        assert client.streams() == []
        assert [bucket.name for bucket in client.buckets()] == ["b"]
        feed = client.feed("S", look_back="PT1H")
        until(lambda: isinstance(feed.health.why, StreamNotFound))
        assert "OTHER" not in str(feed.health.why)


def test_settings_name_streams_and_services(server: NatsServer) -> None:
    """Without a role, the settings may name the streams and services to list. Streams that do not exist are
    left out."""
    server.add_stream("T", ["t.>"])
    server.run(lambda nc: nc.jetstream().create_key_value(bucket="b"))
    named = Settings(url=server.url, streams="T, KV_b,NONE", services="tester")
    with Client(named) as client:
        assert client.wait(30)
        assert client.rights == Rights(None, None, ("T", "KV_b", "NONE"), ("tester",))
        assert [stream.name for stream in client.streams()] == ["T"]
        assert [bucket.name for bucket in client.buckets()] == ["b"]
        feed = client.feed("NONE")
        until(lambda: isinstance(feed.health.why, StreamNotFound))
        assert "'KV_b'" in str(feed.health.why)
        assert "'S'" not in str(feed.health.why)


def test_renewals_are_not_noticed(tmp_path: Path) -> None:
    """Across five renewals under load, no row is lost or doubled, and every request and query succeeds. All
    states stay "connected" and "following" throughout."""
    with running(tmp_path, 0.2) as (realm, server, service), Load(server) as load:
        seen: set[tuple[str, ...]] = set()
        with Client(realm.settings(server.url, "all")) as client:
            assert client.wait(30)
            feed, watch = client.feed("S", look_back="PT1H"), client.values("b")
            filtered = client.feed("S", "s.a", look_back="PT1H")
            plain = client.feed(None, "plain.>", look_back="PT1H")
            live = (feed, filtered, plain, watch)
            until(lambda: all(one.health.phase == "following" for one in live))
            first = client.state
            failures, asked, queried = [], 0, 0
            stop = threading.Event()

            def sample() -> None:
                while not stop.is_set():
                    seen.add((client.state.status, *(one.health.phase for one in live)))
                    time.sleep(0.003)

            def ask() -> None:
                nonlocal asked
                while not stop.is_set():
                    try:
                        assert client.request("echo.it", {"n": asked}).value() == {"n": asked}
                    except Exception as error:
                        failures.append(error)
                    asked += 1
                    time.sleep(0.005)

            def query() -> None:
                nonlocal queried
                while not stop.is_set():
                    answer = client.query("history.query", b"")
                    assert answer.wait(30)
                    if answer.error or answer.frame()["n"].tolist() != list(range(2 * CHUNKS)):
                        failures.append(answer.error or ValueError(len(answer.frame())))
                    queried += 1

            threads = [threading.Thread(target=work) for work in (sample, ask, query)]
            for thread in threads:
                thread.start()
            began = minted(service)
            until(lambda: minted(service) >= began + 5, 120)
            time.sleep(2)
            stop.set()
            for thread in threads:
                thread.join()
            load.done.set()
            load._thread.join()
            until(lambda: len(feed.snapshot()) == load.stored)
            for one in (feed, filtered):
                assert one.frame()["n"].tolist() == list(range(load.stored))
                assert (one.health.restarts, one.health.gaps) == (0, ())
            until(lambda: watch.snapshot()["k"] == load.put - 1)
            assert (watch.health.restarts, watch.snapshot().revision("k")) == (0, load.put)
            until(lambda: load.said - 1 in set(plain.frame()["n"]))
            received = sorted(plain.frame()["n"])
            assert received == list(range(received[0], load.said))
            assert plain.health.gaps == ()
            assert seen == {("connected", *["following"] * 4)}
            assert not failures
            assert asked > 100
            assert queried > 5
            assert client.state == first


def test_a_query_longer_than_its_token(tmp_path: Path) -> None:
    """A query that lasts longer than its token fails with an error that says so, and keeps its rows. A feed
    beside it continues."""
    with as_role(tmp_path, "all", 0.05) as (_, server, _, client), Load(server):
        feed = client.feed("S", look_back="PT1H")
        until(lambda: feed.health.phase == "following")
        query = client.query("history.query", b"1")
        assert query.wait(60)
        assert query.state == "failed"
        assert "The role token of the query of 'history.query' expired after row" in str(query.error)
        assert len(query.frame()) > 0
        assert feed.health.phase == "following"
        assert client.state.status == "connected"


def test_the_connection_before_is_closed(tmp_path: Path) -> None:
    """After a renewal, the previous connection is closed once nothing uses it."""
    with as_role(tmp_path, "all", 0.1) as (_, _, service, client):
        feed = client.feed("S", look_back="PT1H")
        until(lambda: feed.health.phase == "following")
        for _ in range(3):
            began = minted(service)
            until(lambda: minted(service) > began)
            assert client.state.status == "connected"
            until(lambda: len(client._connection._before) == 0)
            assert feed.health.phase == "following"


def test_no_token_service(tmp_path: Path) -> None:
    """Without a token service, the client reports that and keeps trying; once the service is there, it
    connects."""
    realm = Realm(tmp_path / "realm")
    with realm.server() as server, Client(realm.settings(server.url, "viewer")) as client:
        assert not client.wait(30)
        assert isinstance(client.state.error, TokenUnavailable)
        assert "no token service listens at 'tokens.mint'" in str(client.state.error)
        assert client.rights == Rights("viewer", (), (), ())
        with pytest.raises(TokenUnavailable):
            client.services()
        with realm.service(server):
            until(lambda: client.state.status == "connected")
            assert client.state.error is None
            assert client.rights.streams == ("S", "KV_b")


def test_a_token_service_that_does_not_answer(tmp_path: Path) -> None:
    """A token service that does not answer is reported after a timeout; once it answers, the client
    connects."""
    with running(tmp_path) as (realm, server, service):
        service.process.send_signal(signal.SIGSTOP)
        try:
            with Client(realm.settings(server.url, "viewer")) as client:
                assert not client.wait(30)
                assert isinstance(client.state.error, TokenUnavailable)
                assert "did not answer in time" in str(client.state.error)
                service.process.send_signal(signal.SIGCONT)
                until(lambda: client.state.status == "connected")
        finally:
            service.process.send_signal(signal.SIGCONT)


def test_an_unknown_role(tmp_path: Path) -> None:
    """An unknown role is rejected by name, and its token is requested again only every few seconds. A role
    without a signing key is reported as such."""
    with running(tmp_path) as (realm, server, service):
        with Client(realm.settings(server.url, "boss")) as client:
            assert not client.wait(30)
            assert isinstance(client.state.error, TokenRefused)
            assert "rejects the role 'boss': There is no role 'boss'." in str(client.state.error)
            time.sleep(8)
            asked = service.log().count("There is no role 'boss'.")
            assert 2 <= asked <= 4
        with realm.roles.open("a") as table:
            table.write("[roles.boss]\n")
        with Client(realm.settings(server.url, "boss")) as client:
            assert not client.wait(30)
            assert isinstance(client.state.error, TokenUnavailable)
            assert "There is no signing key for the role 'boss'" in str(client.state.error)


def test_the_login_is_refused(tmp_path: Path) -> None:
    """A broker's login that the server rejects, or that may not request tokens, is reported with an error of
    its own."""
    with running(tmp_path) as (realm, server, _):
        stranger = Realm(tmp_path / "stranger")
        with Client(realm.settings(server.url, "viewer", credentials=str(stranger.broker))) as client:
            assert not client.wait(30)
            assert type(client.state.error) is LoginRefused
            assert "setting: credentials" in str(client.state.error)
        with Client(realm.settings(server.url, "viewer", credentials=str(realm.nobody))) as client:
            assert not client.wait(30)
            assert isinstance(client.state.error, TokenRefused)
            assert "is not permitted to request tokens at 'tokens.mint'" in str(client.state.error)
        with Client(realm.settings(server.url, "viewer", inbox_prefix="_INBOX")) as client:
            assert not client.wait(30)
            assert isinstance(client.state.error, TokenRefused)
            assert "to subscribe to '_INBOX.>'" in str(client.state.error)


def test_a_role_is_taken_away_and_given_back(tmp_path: Path) -> None:
    """When its role is removed, the client loses access as its token expires, reports why, and has no rights.
    Once the role is back, the feed continues without a missing row."""
    with as_role(tmp_path, "viewer", 0.1) as (realm, server, _, client):
        feed = client.feed("S", look_back="PT1H")
        server.publish("s.a", *numbered(3))
        until(lambda: len(feed.snapshot()) == 3)
        table = realm.roles.read_text()
        realm.roles.write_text(table[: table.index("[roles.viewer]")])
        until(lambda: client.state.status == "reconnecting")
        until(lambda: isinstance(client.state.error, TokenRefused))
        assert "There is no role 'viewer'." in str(client.state.error)
        until(lambda: client.rights == Rights("viewer", (), (), ()))
        server.publish("s.a", *numbered(3, 3))
        time.sleep(1)
        assert len(feed.snapshot()) == 3
        realm.roles.write_text(table)
        until(lambda: len(feed.snapshot()) == 6)
        assert feed.snapshot().seq.tolist() == list(range(1, 7))
        assert client.rights.streams == ("S", "KV_b")
        assert client.state.status == "connected"


def test_a_token_is_revoked_and_given_back(tmp_path: Path) -> None:
    """A revocation ends access at once, long before the token expires; the feed continues once it is
    lifted."""
    with as_role(tmp_path, "viewer") as (realm, server, _, client):
        feed = client.feed("S", look_back="PT1H")
        server.publish("s.a", *numbered(3))
        until(lambda: len(feed.snapshot()) == 3)
        seen = []
        until_gone = threading.Event()

        def watch() -> None:
            while not until_gone.is_set():
                if client.state.error is not None and str(client.state.error) not in seen:
                    seen.append(str(client.state.error))
                time.sleep(0.001)

        watching = threading.Thread(target=watch)
        watching.start()
        server.configure(realm.config({"*": int(time.time()) + 3600}))
        until(lambda: client.state.status == "reconnecting")
        until(lambda: isinstance(client.state.error, LoginRefused))
        time.sleep(1)
        until_gone.set()
        watching.join()
        assert "The token of the role 'viewer' was revoked" in seen[0]
        server.configure(realm.config())
        server.publish("s.a", *numbered(3, 3))
        until(lambda: len(feed.snapshot()) == 6)
        assert feed.snapshot().seq.tolist() == list(range(1, 7))


def test_one_key_is_revoked(tmp_path: Path) -> None:
    """Revoking the user key that the log names ends that connection. As the role still exists, a new token
    replaces it, and no row is missing."""
    with as_role(tmp_path, "viewer") as (realm, server, service, client):
        feed = client.feed("S", look_back="PT1H")
        until(lambda: feed.health.phase == "following")
        key = service.log().rpartition("key ")[2].partition(",")[0]
        server.configure(realm.config({key: int(time.time()) + 3600}))
        until(lambda: minted(service) == 2)
        server.publish("s.a", *numbered(3))
        until(lambda: len(feed.snapshot()) == 3)
        assert client.state.status == "connected"


def test_a_key_that_the_account_does_not_know(tmp_path: Path) -> None:
    """The server rejects a token signed with a key that the account does not list, and the error names the
    likely cause. With the right key, the client connects."""
    with running(tmp_path) as (realm, server, _):
        (realm.keys / "role-viewer.nk").write_text(Key.new("account").seed)
        with Client(realm.settings(server.url, "viewer")) as client:
            assert not client.wait(30)
            assert isinstance(client.state.error, TokenRefused)
            assert "The token of the role 'viewer' was rejected" in str(client.state.error)
            assert "list the role's signing key" in str(client.state.error)
            (realm.keys / "role-viewer.nk").write_text(realm.signing["viewer"].seed)
            until(lambda: client.state.status == "connected")


def test_server_and_token_service_restart(tmp_path: Path) -> None:
    """After kill -9 of both, the client reconnects with a new token, and the feed has every row."""
    with as_role(tmp_path, "viewer") as (_, server, service, client):
        feed = client.feed("S", look_back="PT1H")
        server.publish("s.a", *numbered(3))
        until(lambda: len(feed.snapshot()) == 3)
        service.kill()
        server.kill()
        until(lambda: client.state.status == "reconnecting")
        server.start()
        server.publish("s.a", *numbered(3, 3))
        until(lambda: isinstance(client.state.error, TokenUnavailable))
        service.start()
        until(lambda: len(feed.snapshot()) == 6)
        assert feed.snapshot().seq.tolist() == list(range(1, 7))


def test_no_secret_is_shown(tmp_path: Path) -> None:
    """Neither the JWT nor the user's seed is in a repr of what holds them."""
    with as_role(tmp_path, "viewer") as (_, _, _, client):
        token = client._connection._token
        assert token is not None
        for text in (repr(token), repr(client.rights), repr(client.state), repr(client.settings)):
            assert token._jwt not in text
            assert "eyJ" not in text
            assert "KeyPair" not in text


@pytest.mark.parametrize("hours", [-1, 1])
def test_our_clock_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """If this machine's clock is an hour off, tokens are still renewed in time."""
    with running(tmp_path, 0.05) as (realm, server, service):
        right = time.time
        monkeypatch.setattr(time, "time", lambda: right() + hours * 3600)
        with Client(realm.settings(server.url, "viewer")) as client:
            assert client.wait(30)
            first = client.state
            began = time.monotonic()
            until(lambda: minted(service) >= 5)
            assert client.state == first
            assert time.monotonic() - began > 4 * 0.4 * 3


@pytest.mark.parametrize("hours", [-1, 1])
def test_the_token_services_clock_is_off(tmp_path: Path, hours: int) -> None:
    """A token service's clock ahead of the server's does no harm. If it is behind, tokens expire before they
    are used, and the error names the clocks."""
    realm = Realm(tmp_path / "realm", minutes=0.1)
    with (
        realm.server() as server,
        realm.service(server, hours * 3600) as service,
        Client(realm.settings(server.url, "viewer")) as client,
    ):
        assert client.wait(30) is (hours > 0)
        first = client.state
        if hours < 0:
            assert isinstance(first.error, TokenRefused)
            assert "the clocks of server and token service may differ" in str(first.error)
            return
        until(lambda: minted(service) >= 3)
        assert client.state == first


def test_the_servers_clock_is_ahead_of_a_tokens_life(tmp_path: Path) -> None:
    """If the server ends a token early because its clock is ahead, the client measures by how much, and
    renews later tokens in time."""
    realm = Realm(tmp_path / "realm", minutes=0.2)
    with (
        realm.server() as server,
        realm.service(server, -7) as service,
        Client(realm.settings(server.url, "viewer")) as client,
    ):
        assert client.wait(30)
        first = client.state.since
        until(lambda: client.state.status == "connected" and client.state.since > first)
        second, began = client.state, minted(service)
        until(lambda: minted(service) >= began + 3)
        assert client.state == second


def test_a_server_that_checks_nothing(tmp_path: Path, server: NatsServer) -> None:
    """A client with a role does not connect to a server that does not enforce the role's permissions."""
    realm = Realm(tmp_path / "realm")
    with realm.service(server), Client(realm.settings(server.url, "viewer")) as client:
        assert not client.wait(30)
        assert isinstance(client.state.error, TokenRefused)
        assert "does not check tokens" in str(client.state.error)
        assert client.rights == Rights("viewer", (), (), ())
        with pytest.raises(TokenRefused):
            client.services()


def test_no_login_in_plain_text(tmp_path: Path) -> None:
    """With tls://, neither the broker's login nor a token is sent to a server that offers no TLS."""
    with running(tmp_path) as (realm, server, service):
        with Client(realm.settings(server.url.replace("nats:", "tls:"), "viewer")) as client:
            assert not client.wait(30)
            assert isinstance(client.state.error, TlsFailed)
        assert minted(service) == 0
