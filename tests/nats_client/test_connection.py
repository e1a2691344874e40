"""Refused logins and restored connections; test_connecting.py covers the ways to log in."""

import asyncio
import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from nats_client import Client, Settings
from nats_client.errors import LoginRefused, ServerUnreachable, SettingsError, TlsFailed
from services.accounts.claims import Key
from services.program import connect
from tests.certificates import Certificates
from tests.logins import operator
from tests.nats import running_server
from tests.running import free_port
from tests.waiting import until

SECRET = "hush-hush"


@contextmanager
def connected(**settings: Any) -> Iterator[Client]:
    """A client with these settings, after its first attempt to connect."""
    with Client(Settings(**settings)) as client:
        client.wait(30)
        yield client


def test_user_and_password(tmp_path: Path) -> None:
    """The right password connects, as a setting and in the URL; a wrong one is refused, and not shown."""
    with running_server(tmp_path, f'authorization {{ user: me, password: "{SECRET}" }}') as server:
        with connected(url=server.url, user="me", password=SECRET) as client:
            assert client.state.status == "connected"
        with connected(url=server.url.replace("//", f"//me:{SECRET}@")) as client:
            assert client.state.status == "connected"
            assert SECRET not in str(client.state)
        with connected(url=server.url, user="me", password="wrong-word") as client:
            assert isinstance(client.state.error, LoginRefused)
            assert "setting: user" in str(client.state.error)
            assert "wrong-word" not in str(client.state)
        with connected(url=server.url) as client:
            assert "no login is set" in str(client.state.error)


@pytest.mark.parametrize("password", ["p@ss/1", "a?b#c:d", "50%", "a b ü", "[x]"])
def test_password_in_the_url(tmp_path: Path, password: str) -> None:
    """Any password in the URL logs in, raw or percent-encoded, for the app and for programs. A refused
    password is not shown."""
    config = 'authorization { user: "me@here", password: "%s" }'
    with running_server(tmp_path, config % password) as server:
        login = f"//{quote('me@here', safe='')}:{quote(password, safe='')}@"
        for url in (
            server.url.replace("//", f"//me@here:{password}@"),
            server.url.replace("//", login),
            f"nats://nobody:x@127.0.0.1:9, {server.url.replace('//', login)}",
        ):
            with connected(url=url) as client:
                until(lambda: client.state.status == "connected")
                assert client.state.server == server.url

            async def program_connects(url: str = url) -> None:
                connection = await connect(Settings(url=url), "x", logging.getLogger("x"))
                await connection.flush()
                await connection.close()

            asyncio.run(program_connects())
        server.configure(config % "another")
        with connected(url=server.url.replace("//", f"//me@here:{password}@")) as client:
            until(lambda: isinstance(client.state.error, LoginRefused))
            assert password not in str(client.state)
            assert password not in repr(client.settings)


def test_token(tmp_path: Path) -> None:
    """A token connects; a wrong one is refused, and not shown."""
    with running_server(tmp_path, f'authorization {{ token: "{SECRET}" }}') as server:
        with connected(url=server.url, token=SECRET) as client:
            assert client.state.status == "connected"
        with connected(url=server.url, token="wrong-word") as client:
            assert "setting: token" in str(client.state.error)
            assert "wrong-word" not in str(client.state)


def test_nkey(tmp_path: Path) -> None:
    """An nkey seed connects, and another seed is refused. A malformed seed is a SettingsError. Neither is
    shown."""
    key, other = Key.new("user"), Key.new("user")
    with running_server(tmp_path, f"authorization {{ users: [ {{ nkey: {key.public} }} ] }}") as server:
        with connected(url=server.url, nkey=key.seed) as client:
            assert client.state.status == "connected"
        with connected(url=server.url, nkey=other.seed) as client:
            assert isinstance(client.state.error, LoginRefused)
            assert other.seed not in str(client.state)
        with connected(url=server.url, nkey="SUNONSENSE") as client:
            assert isinstance(client.state.error, SettingsError)
            assert "SUNONSENSE" not in str(client.state)


def test_credentials_file(tmp_path: Path) -> None:
    """A credentials file connects to a server in operator mode; an expired one is reported as expired or
    refused, and a renewed file logs in by itself."""
    login = operator(tmp_path)
    with running_server(tmp_path / "nats", login.config) as server:
        file = login.write(None)
        with connected(url=server.url, credentials=str(file)) as client:
            assert client.state.status == "connected"
        login.write(int(time.time()) - 60)
        with connected(url=server.url, credentials=str(file)) as client:
            assert isinstance(client.state.error, LoginRefused)
            assert "setting: credentials" in str(client.state.error)
            login.write(None)
            until(lambda: client.state.status == "connected")


def test_no_login_in_plain_text(certificates: Certificates) -> None:
    """If TLS is required and the server offers none, the password is not sent."""
    received = bytearray()
    listener = socket.create_server(("127.0.0.1", 0))

    def listen() -> None:
        talk, _ = listener.accept()
        with talk:
            talk.settimeout(3)
            talk.sendall(b'INFO {"server_id":"x","version":"2.15.1","max_payload":1048576}\r\n')
            try:
                while data := talk.recv(4096):
                    received.extend(data)
            except OSError:
                pass

    thread = threading.Thread(target=listen)
    thread.start()
    url = f"tls://127.0.0.1:{listener.getsockname()[1]}"
    with connected(url=url, user="me", password=SECRET, tls_ca=certificates.path("ca.pem")) as client:
        assert isinstance(client.state.error, TlsFailed)
        assert "does not offer it" in str(client.state.error)
    listener.close()
    thread.join()
    assert SECRET.encode() not in received


def test_second_server_is_tried(tmp_path: Path) -> None:
    """Of several servers, one that answers is enough."""
    with running_server(tmp_path) as server, connected(url=f"nats://127.0.0.1:9, {server.url}") as client:
        until(lambda: client.state.status == "connected")
        assert client.state.server == server.url


def test_comes_alive_with_its_server(tmp_path: Path) -> None:
    """A client that started without its server connects once the server is up."""
    with running_server(tmp_path) as server:
        server.kill()
        with connected(url=server.url) as client:
            assert isinstance(client.state.error, ServerUnreachable)
            server.start()
            until(lambda: client.state.status == "connected")
            assert client.state.error is None


def test_permission_is_told_at_once(tmp_path: Path) -> None:
    """A feed whose login may not create consumers reports that at once, with the subject."""
    config = (
        "authorization { users: [ { user: me, password: x, permissions: { publish: "
        '["$JS.API.STREAM.INFO.*", "$JS.API.STREAM.CREATE.*"], subscribe: "_INBOX.>" } } ] }'
    )
    with running_server(tmp_path, config) as server:
        server.url = server.url.replace("//", "//me:x@")
        server.add_stream("S", ["s.>"])
        with connected(url=server.url) as client:
            feed = client.feed("S")
            until(lambda: feed.health.why is not None, 2.5)
            assert "is not permitted to send requests to '$JS.API.CONSUMER.CREATE.S." in str(feed.health.why)


def test_no_jetstream_is_told(tmp_path: Path) -> None:
    """A server without JetStream is reported as such."""
    with (
        running_server(tmp_path, "# no jetstream") as server,
        connected(url=server.url) as client,
    ):
        feed = client.feed("S")
        until(lambda: feed.health.why is not None)
        assert "JetStream is not enabled" in str(feed.health.why)


@pytest.mark.parametrize("scheme", ["nats", "ws"])
def test_frozen_server_leaves_nothing_behind(tmp_path: Path, scheme: str) -> None:
    """A client that is closed while its server is frozen still closes its socket."""
    port = free_port()
    with running_server(tmp_path, f'websocket {{ listen: "127.0.0.1:{port}", no_tls: true }}') as server:
        address = f"127.0.0.1:{server.port if scheme == 'nats' else port}"
        before = sockets()
        with connected(url=f"{scheme}://{address}") as client:
            assert client.state.status == "connected"
            assert sockets() > before
            server.signal(signal.SIGSTOP)
        assert sockets() == before


def sockets() -> int:
    """The number of sockets that this process has open."""
    links = [str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return sum(link.startswith("socket:") for link in links)
