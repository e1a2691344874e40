"""A stream with any content and any storage times: a real server mirrors an origin, which this program
simulates.

A server timestamps published messages with its own clock. A mirror keeps the times and sequences of its
origin, and any client that answers the mirror's request for a consumer is the origin. It must connect as a
leaf node, because a server does not let other clients set the reply subjects that carry the times.
"""

import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from tests.jetstream import api, change
from tests.nats import NatsServer
from tests.running import free_port
from tests.waiting import until

API = "ORIGIN.API"


@dataclass(frozen=True)
class Stored:
    """A message of the stream."""

    seq: int
    time: int
    """When it was stored, ns since the epoch, UTC."""
    subject: str
    payload: bytes
    header: str = ""
    """One header, such as "KV-Operation: DEL"."""


class PastServer(NatsServer):
    """A nats-server whose streams can be created with messages of the past."""

    def __init__(self, folder: Path, config: str = "") -> None:
        self._leaf = free_port()
        super().__init__(folder, f'leafnodes {{ listen: "127.0.0.1:{self._leaf}" }}\n{config}')

    def add_past_stream(
        self, name: str, subjects: list[str], messages: Sequence[Stored], **config: Any
    ) -> None:
        """Create a stream of these subjects with these messages. Their sequences must ascend; missing ones
        count as deleted. Their times may be in any order. Afterwards it is an ordinary stream."""
        mirrored = {
            "name": "ORIGIN",
            "external": {"api": API, "deliver": "ORIGIN.DELIVER"},
            "subject_transforms": [{"src": "origin.>", "dest": ">"}],
        }
        settings = {"name": name, "mirror": mirrored, "storage": "file", "retention": "limits"} | config
        with _Leaf(self._leaf) as leaf:
            leaf.send(f"LS+ {API}.>")
            leaf.settle()
            api(self, f"STREAM.CREATE.{name}", settings)
            reply, asked = leaf.request()
            # The server subscribes to this deliver subject, and stores messages under their own subjects.
            consumer = asked["config"] | {"deliver_subject": "origin.>"}
            info = {
                "type": "io.nats.jetstream.api.v1.consumer_create_response",
                "stream_name": "ORIGIN",
                "name": consumer["name"],
                "created": "2026-01-01T00:00:00Z",
                "config": consumer,
                "delivered": {"consumer_seq": 0, "stream_seq": messages[0].seq - 1},
                "ack_floor": {"consumer_seq": 0, "stream_seq": 0},
                "num_pending": len(messages),
            }
            leaf.publish(reply, "", json.dumps(info).encode())
            until(lambda: "active" in api(self, f"STREAM.INFO.{name}")["mirror"])
            time.sleep(0.2)
            for number, message in enumerate(messages, 1):
                left = len(messages) - number
                stored = f"{message.seq}.{number}.{message.time}.{left}"
                reply = f"$JS.ACK.ORIGIN.{consumer['name']}.1.{stored}"
                leaf.publish(f"origin.{message.subject}", reply, message.payload, message.header)
            last = messages[-1].seq
            until(lambda: api(self, f"STREAM.INFO.{name}")["state"]["last_seq"] == last)
        change(self, name, mirror=None, subjects=subjects)


class _Leaf:
    """A connection of a leaf node."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 10)
        self._lines: BinaryIO = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        assert self._lines.readline().startswith(b"INFO")
        self.send('CONNECT {"name": "origin", "headers": true, "protocol": 1}')
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()

    def send(self, line: str, payload: bytes | None = None) -> None:
        """Send a line of the protocol, and a payload if given."""
        tail = b"" if payload is None else payload + b"\r\n"
        self._socket.sendall(line.encode() + b"\r\n" + tail)

    def publish(self, subject: str, reply: str, payload: bytes, header: str = "") -> None:
        """Publish a message, with at most one header."""
        head = f"NATS/1.0\r\n{header}\r\n\r\n".encode() if header else b""
        sizes = [str(len(head))] * bool(head) + [str(len(head) + len(payload))]
        self.send(
            " ".join(filter(None, ["HMSG" if head else "LMSG", subject, reply, *sizes])), head + payload
        )

    def settle(self) -> None:
        """Wait until the server has processed everything sent."""
        self.send("PING")
        while self._next() != b"PONG":
            pass

    def request(self) -> tuple[str, dict[str, Any]]:
        """The next request: its reply subject and its content."""
        while not (line := self._next()).startswith((b"LMSG", b"HMSG")):
            pass
        _, _, reply, *sizes = line.decode().split()
        content = self._lines.read(int(sizes[-1]) + 2)
        return reply, json.loads(content[int(sizes[0]) if len(sizes) > 1 else 0 :])

    def _next(self) -> bytes:
        line = self._lines.readline().strip()
        assert line
        assert not line.startswith(b"-ERR"), line
        if line == b"PING":
            self.send("PONG")
        return line
