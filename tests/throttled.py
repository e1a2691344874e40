"""A slow wire between a client and its server, which also records the data that the client sends."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PIECE, ROOM = 16 * 1024, 256 * 1024  # bytes
SHORT = 0.005  # seconds
FAST = 1e9
"""Bytes per second that count as no limit."""
SENT = re.compile(rb"^(?:H?PUB|SUB) (\S+)", re.MULTILINE)


class Wire:
    """Relays bytes between a client and the server at `port`, to the client at most `rate` bytes per second.
    A rate of 0 holds them back."""

    def __init__(self, port: int, rate: float) -> None:
        self.rate = rate
        self._port = port
        self._sent: list[bytes] = []
        self._sockets: list[socket.socket] = []
        self._over = False
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"nats://127.0.0.1:{self._server.getsockname()[1]}"
        """The URL for the client."""
        self._threads: list[threading.Thread] = []
        self._begin(self._accept)

    @property
    def sent(self) -> list[str]:
        """The subjects that the client has published or subscribed to so far."""
        return [subject.decode() for subject in SENT.findall(b"".join(self._sent))]

    def end(self) -> None:
        """Cut all connections."""
        self._over = True
        for each in (self._server, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()

    def _begin(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
                far = socket.socket()
                far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)  # must be set before connecting
                far.connect(("127.0.0.1", self._port))
                self._sockets += [near, far]
                self._begin(self._up, near, far)
                self._begin(self._down, far, near)

    def _up(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(PIECE):
                self._sent.append(data)
                far.sendall(data)
            far.shutdown(socket.SHUT_RDWR)

    def _down(self, far: socket.socket, near: socket.socket) -> None:
        due = 0.0
        with contextlib.suppress(OSError):
            while data := far.recv(PIECE):
                near.sendall(data)
                while not self.rate and not self._over:
                    time.sleep(SHORT)
                due = max(due, time.monotonic()) + len(data) / (self.rate or 1e9)
                while (left := due - time.monotonic()) > SHORT and not self._over and self.rate < FAST:
                    time.sleep(min(left, 20 * SHORT))
            near.shutdown(socket.SHUT_RDWR)


@contextmanager
def throttled(port: int, rate: float) -> Iterator[Wire]:
    """A Wire to the server at `port`, cut at the end."""
    wire = Wire(port, rate)
    try:
        yield wire
    finally:
        wire.end()
