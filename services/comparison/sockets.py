"""The bytes that the kernel has sent on a TCP connection: after compression and encryption.

A NATS server reports bytes before compression. On Linux, anybody may read the counters of a socket:
https://man7.org/linux/man-pages/man7/sock_diag.7.html, struct tcp_info in linux/tcp.h.
"""

import socket
import struct
import sys
from contextlib import suppress
from ipaddress import ip_address

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = 1
_INET_DIAG_INFO = 2
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_DIAG_MESSAGE = 72  # bytes of struct inet_diag_msg, before its attributes
_BYTES_ACKED = 120  # offset in struct tcp_info of the acknowledged bytes; retransmissions count once
_TIMEOUT = 0.5  # seconds

Address = tuple[str, int]
"""IP address and port."""


def bytes_sent(local: Address, peer: Address) -> int | None:
    """Bytes that `peer` has acknowledged on the connection from this machine's `local`. None if there is no
    such connection, or if this system cannot tell."""
    if not sys.platform.startswith("linux"):
        return None
    with suppress(OSError, ValueError, struct.error):
        return _read(_ask(local, peer))
    return None


def _ask(local: Address, peer: Address) -> bytes:
    family = socket.AF_INET if ip_address(local[0]).version == 4 else socket.AF_INET6
    ends = struct.pack("!HH", local[1], peer[1])
    ends += b"".join(socket.inet_pton(family, address).ljust(16, b"\0") for address, _ in (local, peer))
    ends += struct.pack("=I", 0) + b"\xff" * 8  # on any interface, whatever its cookie
    request = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 1 << (_INET_DIAG_INFO - 1), 0, 0xFFFFFFFF)
    request += ends
    header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_TIMEOUT)
        kernel.send(header + request)
        return kernel.recv(65536)


def _read(answer: bytes) -> int | None:
    length, kind, *_ = _HEADER.unpack_from(answer)
    if kind != _SOCK_DIAG_BY_FAMILY:
        return None
    at = _HEADER.size + _DIAG_MESSAGE
    while at + _ATTRIBUTE.size <= length:
        size, attribute = _ATTRIBUTE.unpack_from(answer, at)
        if attribute == _INET_DIAG_INFO:
            count: int = struct.unpack_from("=Q", answer, at + _ATTRIBUTE.size + _BYTES_ACKED)[0]
            return count
        at += max(_ATTRIBUTE.size, (size + 3) & ~3)
    return None
