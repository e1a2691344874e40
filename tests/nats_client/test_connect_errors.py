"""Failures to connect: each mistake has its own message, which names the setting and shows no secret.

Slow, because it waits to see that a refused client does not hammer the server.
"""

import itertools
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nats_client import Client, Settings
from nats_client.connection.connection import RETRY_AFTER
from nats_client.errors import ConnectionFailed, LoginRefused, ServerUnreachable, SettingsError, TlsFailed
from tests.certificates import Certificates
from tests.logins import Login, operator
from tests.nats import running_server
from tests.running import free_port
from tests.waiting import until

HOUR = 3600


def connect_error(**settings: str | bool) -> ConnectionFailed | SettingsError:
    """Return the error of a client that cannot connect with these settings; check that it shows no secret."""
    with Client(Settings.load(settings, {})) as client:
        client.wait(30)
        assert client.state.status == "connecting"
        error = client.state.error
        assert isinstance(error, ConnectionFailed | SettingsError)
        for name in ("credentials", "nkey", "jwt", "tls_key"):
            value = str(settings.get(name, ""))
            secret = Path(value).read_text() if Path(value[:200]).is_file() else value
            assert not any(len(line) > 20 and line in str(error) for line in secret.splitlines())
        return error


@contextmanager
def by_scheme(folder: Path, certificates: Certificates) -> Iterator[dict[str, str]]:
    """Host and port of each kind of listener."""
    ws, wss = free_port(), free_port()
    with (
        running_server(folder / "a", f'websocket {{ listen: "127.0.0.1:{ws}", no_tls: true }}') as plain,
        running_server(folder / "b", f'websocket {{ listen: "127.0.0.1:{wss}", {certificates.tls()} }}'),
        running_server(folder / "c", certificates.tls()) as tls,
        running_server(folder / "d", certificates.tls(more="handshake_first: true")) as first,
    ):
        yield {
            "tcp": f"127.0.0.1:{plain.port}",
            "ws": f"127.0.0.1:{ws}",
            "wss": f"127.0.0.1:{wss}",
            "tls": f"127.0.0.1:{tls.port}",
            "tls first": f"127.0.0.1:{first.port}",
        }


def test_wrong_scheme(tmp_path: Path, certificates: Certificates) -> None:
    """A URL scheme that does not fit the listener is reported as such, with the scheme or setting to use
    instead."""
    ca = certificates.path("ca.pem")
    no_info = "does not send INFO as a NATS server does. It may be a websocket listener: use ws:// or wss://"
    no_tls = "does not speak TLS on this port. Check the scheme and port in 'url'"
    no_websocket = "speaks NATS without websocket on this port. Use nats:// or tls:// in 'url'"
    with by_scheme(tmp_path, certificates) as ports:
        for scheme, port, kind, said in (
            ("tls", "tcp", TlsFailed, "does not offer it. No login was sent. Use nats:// in 'url'"),
            ("ws", "tcp", ServerUnreachable, no_websocket),
            ("ws", "tls", ServerUnreachable, no_websocket),
            ("wss", "tcp", TlsFailed, no_tls),
            ("wss", "ws", TlsFailed, no_tls),
            ("ws", "wss", ServerUnreachable, "does not open a websocket: HTTP status 400"),
            ("nats", "ws", ServerUnreachable, no_info),
            ("nats", "wss", ServerUnreachable, no_info),
            (
                "tls",
                "tls first",
                ServerUnreachable,
                "it may start with a TLS handshake: set 'tls_handshake_first'",
            ),
            (
                "nats",
                "tls first",
                ServerUnreachable,
                "it may start with a TLS handshake: set 'tls_handshake_first'",
            ),
        ):
            error = connect_error(url=f"{scheme}://{ports[port]}", tls_ca=ca)
            assert said in str(error), (scheme, port)
            assert type(error) is kind, (scheme, port)
        for port in ("tcp", "tls"):
            error = connect_error(url=f"tls://{ports[port]}", tls_ca=ca, tls_handshake_first=True)
            assert re.search("not start with a TLS handshake[.:] [Rr]emove 'tls_handshake_first'", str(error))


@pytest.mark.parametrize(
    ("certificate", "ca", "said"),
    [
        (
            "expired",
            "ca.pem",
            r"has expired by this machine's clock \(20.*UTC\).*this machine's clock is wrong",
        ),
        ("not-yet", "ca.pem", r"is not valid yet by this machine's clock \(20.*One clock is wrong"),
        ("elsewhere", "ca.pem", r"is for another host name: .*set 'tls_hostname'"),
        ("server", "", r"the CA that signed it is not known to this machine .*Set 'tls_ca'"),
        ("server", "other.pem", r"the CA that signed it is not in 'tls_ca' \(.*other.pem'\)"),
        ("server", "ca.key", r"tls_ca: the file '.*ca.key' does not contain valid PEM certificates"),
    ],
)
@pytest.mark.parametrize("scheme", ["tls", "wss"])
def test_certificate_of_the_server(
    tmp_path: Path, certificates: Certificates, certificate: str, ca: str, said: str, scheme: str
) -> None:
    """If the server's certificate is not acceptable, the error gives the reason, and whether a clock may be
    wrong."""
    port = free_port()
    config = certificates.tls(certificate)
    if scheme == "wss":
        config = f'websocket {{ listen: "127.0.0.1:{port}", {config} }}'
    with running_server(tmp_path, config) as server:
        settings = {"url": f"{scheme}://127.0.0.1:{port if scheme == 'wss' else server.port}"}
        error = connect_error(**settings, **({"tls_ca": certificates.path(ca)} if ca else {}))
        assert re.search(said, str(error))
        assert type(error) is (SettingsError if ca == "ca.key" else TlsFailed)


def test_missing_ca_file(tmp_path: Path) -> None:
    """A missing CA file is named before anything is sent, even if it disappears after the settings were
    read."""
    ca = tmp_path / "ca.pem"
    with pytest.raises(SettingsError, match=r"tls_ca: there is no file '.*ca.pem'"):
        Settings(tls_ca=str(ca))
    ca.write_text("soon gone")
    settings = Settings(tls_ca=str(ca))
    ca.unlink()
    with pytest.raises(SettingsError, match=r"tls_ca: there is no file '.*ca.pem'"):
        settings.ssl_context()


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        ("", "", "requires a client certificate, but none is set. Set 'tls_cert'"),
        ("foreign", "foreign", "does not trust the CA that signed our client certificate ('tls_cert', "),
        ("expired", "expired", "has expired or is not valid yet. Renew it"),
        ("not-yet", "not-yet", "one of the clocks is wrong"),
        ("client", "server", "does not match the certificate in"),
        ("client", "", "does not contain a certificate and its key. Set 'tls_key'"),
    ],
)
@pytest.mark.parametrize("scheme", ["nats", "wss"])
def test_client_certificate(
    tmp_path: Path, certificates: Certificates, certificate: str, key: str, said: str, scheme: str
) -> None:
    """If a client certificate is missing or not accepted, the error gives the server's reason and the
    setting."""
    port = free_port()
    config = certificates.tls(more="verify: true")
    if scheme == "wss":
        config = f'websocket {{ listen: "127.0.0.1:{port}", {config} }}'
    with running_server(tmp_path, config) as server:
        settings = {"url": f"{scheme}://127.0.0.1:{port if scheme == 'wss' else server.port}"}
        settings["tls_ca"] = certificates.path("ca.pem")
        settings |= {"tls_cert": certificates.path(f"{certificate}.pem")} if certificate else {}
        settings |= {"tls_key": certificates.path(f"{key}.key")} if key else {}
        assert said in str(connect_error(**settings))


def test_login_by_certificate_is_refused(tmp_path: Path, certificates: Certificates) -> None:
    """A client certificate that maps to no user is reported as a refused login."""
    users = "authorization { users: [ { user: somebody@example.com } ] }"
    with running_server(tmp_path, f"{users}\n{certificates.tls(more='verify_and_map: true')}") as server:
        cert, key = certificates.path("client.pem"), certificates.path("client.key")
        error = connect_error(url=server.url, tls_ca=certificates.path("ca.pem"), tls_cert=cert, tls_key=key)
        assert isinstance(error, LoginRefused)
        assert "(setting: tls_cert): the server has no user for this certificate" in str(error)


@pytest.fixture
def login(tmp_path: Path) -> Login:
    """An operator's account, and a user of it."""
    return operator(tmp_path)


def test_jwt_out_of_its_time(tmp_path: Path, login: Login) -> None:
    """A user JWT that has expired or is not valid yet is reported with both times and its setting."""
    now = int(time.time())
    with running_server(tmp_path / "nats", login.config) as server:
        error = connect_error(url=server.url, credentials=str(login.write(now - HOUR)))
        assert isinstance(error, LoginRefused)
        assert re.search(
            r"has expired \(setting: credentials\): its user JWT expired at 20.* UTC, and this machine's",
            str(error),
        )
        later = login.write(now + 3 * HOUR, begins=now + 2 * HOUR)
        error = connect_error(url=server.url, credentials=str(later))
        assert re.search(
            r"is not valid yet \(setting: credentials\): its user JWT is valid from 20", str(error)
        )
        jwt, nkey = later.read_text().splitlines()[1], login.user.seed
        error = connect_error(url=server.url, jwt=jwt, nkey=nkey)
        assert "is not valid yet (setting: jwt)" in str(error)


def test_our_clock_is_off(tmp_path: Path, login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own clock never causes a refusal: a login that the server accepts is good. If the server refuses a
    login that is valid by our clock, the error names that clock."""
    with running_server(tmp_path / "nats", login.config) as server:
        now = time.time()
        good, bad = login.write(int(now + HOUR), "good.creds"), login.write(int(now - HOUR), "bad.creds")
        monkeypatch.setattr("time.time", lambda: now + 2 * HOUR)
        with Client(Settings(url=server.url, credentials=str(good))) as client:
            until(lambda: client.state.status == "connected")
        monkeypatch.setattr("time.time", lambda: now - 2 * HOUR)
        error = str(connect_error(url=server.url, credentials=str(bad)))
        assert "by this machine's clock" in error
        assert "or be expired by the server's clock" in error


def test_revoked(tmp_path: Path, login: Login) -> None:
    """A user revoked while connected gets an error that says so, and reconnects once the revocation is
    undone."""
    with running_server(tmp_path / "nats", login.config) as server:
        file = login.write(None)
        time.sleep(1)  # a revocation covers JWTs issued up to that second
        with Client(Settings(url=server.url, credentials=str(file))) as client:
            until(lambda: client.state.status == "connected")
            server.configure(login.config_with(revoked=True))
            until(lambda: "may be revoked" in str(client.state.error))
            assert isinstance(client.state.error, LoginRefused)
            server.configure(login.config)
            until(lambda: client.state.status == "connected", 60)


def test_unknown_account(tmp_path: Path, login: Login) -> None:
    """For a login of another operator, the error says that the server may not know the account."""
    (tmp_path / "other").mkdir()
    with running_server(tmp_path / "nats", operator(tmp_path / "other").config) as server:
        error = connect_error(url=server.url, credentials=str(login.write(None)))
        assert "an account that this server does not know" in str(error)


def test_connection_limits(tmp_path: Path, login: Login) -> None:
    """A server and an account at their connection limit each have their own error. The client connects once a
    connection is free."""
    with (
        running_server(tmp_path / "a", "max_connections: 1") as server,
        Client(Settings(url=server.url)) as first,
    ):
        until(lambda: first.state.status == "connected")
        assert "accepts no more connections: it has reached its limit" in str(connect_error(url=server.url))
    with running_server(tmp_path / "b", login.config_with(conn=1)) as server:
        settings = Settings(url=server.url, credentials=str(login.write(None)))
        with Client(settings) as second:
            with Client(settings) as first:
                until(lambda: "no more connections from this account" in f"{first.state} {second.state}")
                until(lambda: {first.state.status, second.state.status} == {"connected", "connecting"})
                waiting = first if first.state.status == "connecting" else second
                if waiting is first:
                    second.close()
                    until(lambda: first.state.status == "connected")
            if waiting is second:
                until(lambda: second.state.status == "connected")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "JetStream is not enabled for this account (error code 10039)"),
        ({"domain": "nope"}, "the JetStream domain 'nope' cannot be reached. Check 'domain'"),
        (
            {"api_prefix": "no.api"},
            "this account does not import a JetStream API at 'no.api'. Check 'api_prefix'",
        ),
    ],
)
def test_no_jetstream(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    """An account without JetStream, an unknown domain and an unknown API prefix are reported by feeds and by
    lists."""
    accounts = "accounts { A { users: [ { user: me, password: x } ] }, B { jetstream: enabled } }"
    with (
        running_server(tmp_path, f'jetstream {{ store_dir: "{tmp_path}" }}\n{accounts}') as server,
        Client(Settings(url=server.url, user="me", password="x", **settings)) as client,
    ):
        feed = client.feed("S")
        until(lambda: said in str(feed.health.why))
        with pytest.raises(Exception, match=re.escape(said)):
            client.streams()


def test_wrong_inbox_prefix(tmp_path: Path) -> None:
    """An inbox that the login does not permit is reported with the setting. So is an inbox that the messages
    of another account do not reach; the feed then stays "reconnecting" and never alternates with
    "replaying"."""
    users = (
        'authorization { users: [ { user: me, password: x, permissions: { subscribe: "_INBOX_me.>" } } ] }'
    )
    with (
        running_server(tmp_path / "a", users) as server,
        Client(Settings(url=server.url, user="me", password="x")) as client,
    ):
        feed = client.feed("S")
        until(lambda: "is not permitted to subscribe to '_INBOX.>'" in str(feed.health.why))
        assert "set 'inbox_prefix' to a prefix that the login permits" in str(feed.health.why)
    accounts = """accounts {
        DATA { jetstream: enabled, users: [ { user: data, password: x } ]
          exports: [ { service: "$JS.API.>", response_type: stream }, { stream: "_INBOX_app.>" } ] }
        APP { users: [ { user: app, password: x } ]
          imports: [ { service: { account: DATA, subject: "$JS.API.>" }, to: "data.api.>" }
                     { stream: { account: DATA, subject: "_INBOX_app.>" } } ] } }"""
    with running_server(tmp_path / "b", f'jetstream {{ store_dir: "{tmp_path}" }}\n{accounts}') as server:
        url, server.url = server.url, server.url.replace("//", "//data:x@")
        server.add_stream("S", ["s.>"])
        server.publish("s.a", b"{}")
        with Client(Settings(url=url, user="app", password="x", api_prefix="data.api")) as client:
            feed = client.feed("S", look_back="PT1H")
            until(lambda: "none of its messages arrive at '_INBOX.>'" in str(feed.health.why))
            phases = set()
            end = time.monotonic() + 5
            until(lambda: phases.add(feed.health.phase) or time.monotonic() > end)
            assert phases == {"reconnecting"}
            assert "set 'inbox_prefix' to a prefix that this account imports" in str(feed.health.why)
        app = Settings(url=url, user="app", password="x", api_prefix="data.api", inbox_prefix="_INBOX_app")
        with Client(app) as client:
            feed = client.feed("S", look_back="PT1H")
            until(lambda: len(feed.snapshot()) == 1)


def test_comes_back_when_mended(tmp_path: Path, certificates: Certificates) -> None:
    """A renewed server certificate, client certificate or CA file takes effect without a restart."""
    ca, cert, key = (tmp_path / name for name in ("ca.pem", "client.pem", "client.key"))

    def put(name: str, to: Path) -> None:
        to.write_text(Path(certificates.path(name)).read_text())

    put("other.pem", ca)
    put("expired.pem", cert)
    put("expired.key", key)
    with running_server(tmp_path / "nats", certificates.tls("expired", "verify: true")) as server:
        settings = Settings(url=server.url, tls_ca=str(ca), tls_cert=str(cert), tls_key=str(key))
        with Client(settings) as client:
            until(lambda: "'tls_ca'" in str(client.state.error))
            put("ca.pem", ca)
            until(lambda: "this machine's clock is wrong" in str(client.state.error))
            server.configure(certificates.tls("server", "verify: true"))
            until(lambda: "our client certificate" in str(client.state.error))
            put("client.pem", cert)
            until(lambda: "does not match" in str(client.state.error))
            put("client.key", key)
            until(lambda: client.state.status == "connected")
            assert client.state.error is None


@pytest.mark.parametrize("answer", [b"-ERR 'Authorization Violation'\r\n", b"PONG\r\n"])
def test_no_hammering(answer: bytes) -> None:
    """A server that refuses the login, or accepts it and disconnects, is retried less and less often."""
    times: list[float] = []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(60)

    def serve() -> None:
        while len(times) < 7:
            talk, _ = listener.accept()
            with talk:
                times.append(time.monotonic())
                talk.sendall(b'INFO {"server_id":"x","version":"2.15.1","max_payload":1048576}\r\n')
                talk.recv(4096)
                talk.sendall(answer)
                time.sleep(0.1)

    thread = threading.Thread(target=serve)
    thread.start()
    with Client(Settings(url=f"nats://127.0.0.1:{listener.getsockname()[1]}")):
        thread.join(60)
    listener.close()
    assert len(times) == 7
    assert times[-1] - times[0] >= sum(RETRY_AFTER) + RETRY_AFTER[-1]
    pauses = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert min(pauses[-2:]) >= RETRY_AFTER[-1]
