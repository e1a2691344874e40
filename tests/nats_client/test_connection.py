"""Every way to log in, and every way it can fail, against servers set up so."""

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nats_client import Client, Settings
from nats_client.errors import LoginRefused, ServerUnreachable, SettingsError, TlsFailed
from services.claims import Key
from tests.logins import operator
from tests.nats import running_server
from tests.running import free_port
from tests.waiting import until

SECRET = "hush-hush"


@contextmanager
def connected(**settings: str) -> Iterator[Client]:
    """A client with these settings, its first attempt to connect behind it."""
    with Client(Settings(**settings)) as client:
        client.wait(15)
        yield client


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, a server certificate for 127.0.0.1, an expired one, a client certificate, another CA."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    (folder / "san").write_text("subjectAltName=IP:127.0.0.1")
    for ca in ("ca", "other"):
        subject = ("-subj", f"/CN={ca}", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject)
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject,
                "-keyout", f"{ca}.key", "-out", f"{ca}.pem")  # fmt: skip
    for name, days in (("server", "2"), ("client", "2"), ("expired", "-1")):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key",
                "-out", f"{name}.csr")  # fmt: skip
        dates = ["-days", days]
        if name == "expired":
            dates = ["-not_before", "20200101000000Z", "-not_after", "20200102000000Z"]
        try:
            openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                    "-CAcreateserial", "-extfile", "san", "-out", f"{name}.pem", *dates)  # fmt: skip
        except subprocess.CalledProcessError:  # an older openssl, which knows no dates but counts backwards
            openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                    "-CAcreateserial", "-extfile", "san", "-out", f"{name}.pem", "-days", "-1")  # fmt: skip
    return folder


def tls(folder: Path, name: str = "server", *, verify: bool = False) -> str:
    """The TLS block of a server's configuration."""
    files = f'cert_file: "{folder / name}.pem", key_file: "{folder / name}.key", ca_file: "{folder}/ca.pem"'
    return f"tls {{ {files}, verify: {str(verify).lower()} }}"


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


def test_token(tmp_path: Path) -> None:
    """A token connects; a wrong one is refused, and not shown."""
    with running_server(tmp_path, f'authorization {{ token: "{SECRET}" }}') as server:
        with connected(url=server.url, token=SECRET) as client:
            assert client.state.status == "connected"
        with connected(url=server.url, token="wrong-word") as client:
            assert "setting: token" in str(client.state.error)
            assert "wrong-word" not in str(client.state)


def test_nkey(tmp_path: Path) -> None:
    """An nkey seed connects; another one is refused; what is no seed is named as such."""
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
    """A credentials file connects to a server in operator mode; an expired one is told as expired or refused,
    and a renewed file logs in by itself."""
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


def test_tls(tmp_path: Path, certificates: Path) -> None:
    """TLS with the right CA connects; without it, or with another, the certificate is not accepted."""
    with running_server(tmp_path, tls(certificates)) as server:
        with connected(url=server.url, tls_ca=str(certificates / "ca.pem")) as client:
            assert client.state.status == "connected"
        for wrong in ({}, {"tls_ca": str(certificates / "other.pem")}):
            with connected(url=server.url.replace("nats:", "tls:"), **wrong) as client:
                assert isinstance(client.state.error, TlsFailed)
                assert "Check 'tls_ca'" in str(client.state.error)


def test_expired_certificate(tmp_path: Path, certificates: Path) -> None:
    """An expired certificate is told as expired."""
    with (
        running_server(tmp_path, tls(certificates, "expired")) as server,
        connected(url=server.url, tls_ca=str(certificates / "ca.pem")) as client,
    ):
        assert "expired" in str(client.state.error)


def test_client_certificate(tmp_path: Path, certificates: Path) -> None:
    """A server that asks for a client certificate gets it; without one, the message names the setting."""
    ca, cert, key = (str(certificates / name) for name in ("ca.pem", "client.pem", "client.key"))
    with running_server(tmp_path, tls(certificates, verify=True)) as server:
        with connected(url=server.url, tls_ca=ca, tls_cert=cert, tls_key=key) as client:
            assert client.state.status == "connected"
        with connected(url=server.url, tls_ca=ca) as client:
            assert "tls_cert" in str(client.state.error)


def test_no_login_in_plain_text(certificates: Path) -> None:
    """Where TLS is asked for and the server offers none, the password stays at home."""
    heard = bytearray()
    listener = socket.create_server(("127.0.0.1", 0))

    def listen() -> None:
        talk, _ = listener.accept()
        with talk:
            talk.settimeout(3)
            talk.sendall(b'INFO {"server_id":"x","version":"2.15.1","max_payload":1048576}\r\n')
            try:
                while data := talk.recv(4096):
                    heard.extend(data)
            except OSError:
                pass

    thread = threading.Thread(target=listen)
    thread.start()
    url = f"tls://127.0.0.1:{listener.getsockname()[1]}"
    with connected(url=url, user="me", password=SECRET, tls_ca=str(certificates / "ca.pem")) as client:
        assert isinstance(client.state.error, TlsFailed)
        assert "does not offer it" in str(client.state.error)
    listener.close()
    thread.join()
    assert SECRET.encode() not in heard


def test_websocket(tmp_path: Path) -> None:
    """A ws:// URL connects as well."""
    port = free_port()
    config = f'websocket {{ listen: "127.0.0.1:{port}", no_tls: true }}'
    with running_server(tmp_path, config), connected(url=f"ws://127.0.0.1:{port}") as client:
        until(lambda: client.state.status == "connected")


def test_second_server_is_tried(tmp_path: Path) -> None:
    """Of several servers, one that answers is enough."""
    with running_server(tmp_path) as server, connected(url=f"nats://127.0.0.1:9, {server.url}") as client:
        until(lambda: client.state.status == "connected")
        assert client.state.server == server.url


def test_comes_alive_with_its_server(tmp_path: Path) -> None:
    """A client that began without its server connects when it is there."""
    with running_server(tmp_path) as server:
        server.kill()
        with connected(url=server.url) as client:
            assert isinstance(client.state.error, ServerUnreachable)
            server.start()
            until(lambda: client.state.status == "connected")
            assert client.state.error is None


def test_permission_is_told_at_once(tmp_path: Path) -> None:
    """A login that may not create consumers is told so by the feed, with the subject."""
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
            assert "does not permit requests to '$JS.API.CONSUMER.CREATE.S." in str(feed.health.why)


def test_no_jetstream_is_told(tmp_path: Path) -> None:
    """A server without JetStream is told as such."""
    with (
        running_server(tmp_path, "# no jetstream") as server,
        connected(url=server.url) as client,
    ):
        feed = client.feed("S")
        until(lambda: feed.health.why is not None)
        assert "JetStream is not enabled" in str(feed.health.why)
