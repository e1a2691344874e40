"""A nats-py version that the patches do not fit is refused before it connects or sends a password.

Slow, because some tests start a Python with another nats-py.
"""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.altered import altered, environment
from tests.running import ROOT

SECRET = "hush-hush"
WAY_OUT = "Install the version in requirements.txt."
PROGRAM = """
import sys
from nats_client import Client, Settings
with Client(Settings(url=sys.argv[1], user="me", password=sys.argv[2])) as client:
    client.wait(30)
    print(client.state.status, client.state.error)
"""
UNTIL_INFO = b'INFO {"server_id":"x","version":"2.15.1","max_payload":1048576}\r\n'

# What may differ in another version: file, pattern, its replacement, and the reason that is reported
CHANGES = {
    "renamed": (
        "aio/client.py",
        r"\b_connect_command\b",
        "_connect_line",
        "it has no Client._connect_command",
    ),
    "called by another name": (
        "aio/client.py",
        r"self\._connect_command\(\)",
        "self._connect_line()",
        "it does not call Client._connect_command",
    ),
    "with a parameter": (
        "aio/client.py",
        r"def _connect_command\(self\)",
        "def _connect_command(self, server=None)",
        "'_connect_command(self, server=None)', expected '_connect_command(self)'",
    ),
    "asynchronous": (
        "aio/client.py",
        r"def _connect_command\(self\)",
        "async def _connect_command(self)",
        "'async _connect_command(self)', expected",
    ),
    "another name of the server": (
        "aio/client.py",
        r"\b_current_server\b",
        "_server",
        "it has no Client._current_server",
    ),
    "another name of the writer": (
        "aio/transport.py",
        r"\b_io_writer\b",
        "_stream_writer",
        "it has no TcpTransport._io_writer",
    ),
    "another parser": ("protocol/parser.py", r"\bself\.state\b", "self.phase", "it has no Parser.state"),
    "another service": (
        "micro/service.py",
        r"\b_handle_request\b",
        "_handle",
        "has no Endpoint._handle_request",
    ),
}


@contextmanager
def listening() -> Iterator[tuple[str, list[bytes]]]:
    """A server that offers no TLS: its address, and the bytes it received, one entry for each connection."""
    received: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def listen() -> None:
        while True:
            try:
                talk, _ = listener.accept()
            except OSError:
                return
            with talk:
                talk.settimeout(3)
                received.append(b"")
                try:
                    talk.sendall(UNTIL_INFO)
                    while data := talk.recv(4096):
                        received[-1] += data
                        if b"PING" in data:
                            talk.sendall(b"PONG\r\n")
                except OSError:
                    pass

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}", received
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def tried(url: str, packages: Path) -> str:
    """The status and error of a client that connects to `url`, with the packages in the folder `packages`."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, url, SECRET],
        cwd=ROOT,
        env=environment(packages),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_version_that_is_installed(tmp_path: Path) -> None:
    """The pinned nats-py logs in where the connection may be plain. With tls://, it sends no password to a
    server without TLS."""
    with listening() as (address, received):
        assert tried(f"nats://{address}", tmp_path).startswith("connected")
        assert SECRET.encode() in received[0]
        del received[:]
        assert "does not offer it" in tried(f"tls://{address}", tmp_path)
        assert received
        assert SECRET.encode() not in b"".join(received)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("scheme", ["nats", "tls"])
def test_another_version(tmp_path: Path, change: str, scheme: str) -> None:
    """A nats-py that lacks a name, has other parameters, or no longer calls a patched method is refused in
    one sentence before it connects."""
    name, pattern, by, expected = CHANGES[change]
    packages = altered(tmp_path, "nats", name, pattern, by)
    with listening() as (address, received):
        said = tried(f"{scheme}://{address}", packages)
        assert expected in said
        assert WAY_OUT in said
        assert not said.startswith("connected")
        assert not received


def test_another_aiohttp(tmp_path: Path) -> None:
    """An aiohttp whose websockets cannot be closed is refused before it connects. Connections without a
    websocket do not need aiohttp, and still work."""
    packages = altered(tmp_path, "aiohttp", "client_ws.py", r"\b_conn\b", "_connection")
    with listening() as (address, received):
        said = tried(f"ws://{address}", packages)
        assert "it has no ClientWebSocketResponse._conn" in said
        assert WAY_OUT in said
        assert not received
        assert tried(f"nats://{address}", packages).startswith("connected")
