"""The kernel's counts of a connection."""

import socket
import sys

import pytest

from services.comparison.sockets import bytes_sent
from tests.running import free_port
from tests.waiting import until


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_counts_what_has_arrived(family: socket.AddressFamily, host: str) -> None:
    """The bytes sent in one direction of one connection, on Linux; None on other systems."""
    with socket.socket(family) as listening, socket.socket(family) as client:
        listening.bind((host, 0))
        listening.listen()
        client.connect(listening.getsockname()[:2])
        server, _ = listening.accept()
        with server:
            ends = server.getsockname()[:2], server.getpeername()[:2]
            if not sys.platform.startswith("linux"):
                assert bytes_sent(*ends) is None
                return
            before = bytes_sent(*ends)
            assert before is not None
            server.sendall(b"x" * 12_345)
            client.sendall(b"y" * 7)
            until(lambda: bytes_sent(*ends) == before + 12_345)


def test_no_such_connection() -> None:
    """For a connection that does not exist, the count is None."""
    assert bytes_sent(("127.0.0.1", free_port()), ("127.0.0.1", free_port())) is None
    assert bytes_sent(("nowhere", 1), ("127.0.0.1", 2)) is None
