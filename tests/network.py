"""A feed and its server on two hosts, with a wire between them that can be slow, lose packets, or be cut.

The hosts are network namespaces; the wire is a thread that carries packets between their tun devices.
`unshare -Urn python -m tests.network cut` runs one scenario. Each scenario needs its own process, because
only a process without other threads can make a namespace.
"""

import contextlib
import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from nats_client import Client, Feed, NamedFeed, Settings
from tests.nats import NatsServer, running_server
from tests.publisher import Publisher
from tests.waiting import until

NEW_NETWORK = 0x40000000  # CLONE_NEWNET of sched.h
SET_INTERFACE = 0x400454CA  # TUNSETIFF of linux/if_tun.h
TUN_WITHOUT_HEADER = 0x1001  # IFF_TUN | IFF_NO_PI
NEAR, FAR = "10.99.0.1", "10.99.0.2"  # addresses that exist only in the two namespaces

_libc = ctypes.CDLL(None, use_errno=True)


class Host:
    """A network namespace with one device, the end of the wire."""

    def __init__(self, address: str) -> None:
        if _libc.unshare(NEW_NETWORK):
            raise OSError(ctypes.get_errno(), "no network namespace can be made")
        self._space = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self.device = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self.device, SET_INTERFACE, struct.pack("16sH", b"wire", TUN_WITHOUT_HEADER))
        for command in (
            f"addr add {address}/24 dev wire",
            "link set wire up",
            "link set lo up",
        ):
            subprocess.run(["ip", *command.split()], check=True)

    @contextlib.contextmanager
    def here(self) -> Iterator[None]:
        """Run the block on this host: threads and programs that this thread starts in it belong to the
        host."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        _libc.setns(self._space, NEW_NETWORK)
        try:
            yield
        finally:
            _libc.setns(before, NEW_NETWORK)
            os.close(before)


class Wire:
    """Carries packets between two hosts, with `delay` in seconds and `loss` as a share from 0 to 1."""

    def __init__(self, near: Host, far: Host) -> None:
        self.delay = 0.0
        self.loss = 0.0
        self.cut = False
        self.carried = 0
        self.dropped = 0
        self._ends = {near.device: far.device, far.device: near.device}
        threading.Thread(target=self._carry, daemon=True).start()

    def _carry(self) -> None:
        chance = random.Random(1)
        under_way: list[tuple[float, int, int, bytes]] = []
        while True:
            wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
            for end in select.select(list(self._ends), [], [], wait)[0]:
                packet = os.read(end, 65536)
                if self.cut or chance.random() < self.loss:
                    self.dropped += 1
                    continue
                self.carried += 1
                due = time.monotonic() + self.delay
                heapq.heappush(under_way, (due, self.carried, self._ends[end], packet))
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(under_way)
                if not self.cut:
                    os.write(end, packet)


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Wire, NatsServer, Publisher, Client]]:
    """A server with a stream S and its publisher on the far host, and a client on the near one."""
    near, far = Host(NEAR), Host(FAR)
    wire = Wire(near, far)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(far.here())
        server = stack.enter_context(running_server(folder, host=FAR))
        server.add_stream("S", ["s.>"])
        publisher = stack.enter_context(Publisher([server.url], rate=200))
        with near.here():
            client = stack.enter_context(Client(Settings(url=server.url)))
        yield wire, server, publisher, client


def equal(feed: Feed | NamedFeed, server: NatsServer, publisher: Publisher) -> None:
    """Wait until the feed is live and has each message of the stream once, in order."""
    publisher.pause()
    last = server.run(lambda nc: nc.jetstream().stream_info("S")).state.last_seq
    until(lambda: feed.health.phase == "following" and len(feed.snapshot()) >= last)
    assert feed.snapshot().seq.tolist() == list(range(1, last + 1))
    publisher.resume()


def cut() -> None:
    """Cut the wire without a FIN, and repair it: the feed reports it, and no row is lost or duplicated."""
    with two_hosts() as (wire, server, publisher, client):
        feed = client.feed("S", look_back="PT1H")
        until(lambda: feed.health.phase == "following" and len(feed.snapshot()) > 100)
        for seconds in (3, 12):
            wire.cut = True
            until(lambda: feed.health.phase == "reconnecting")
            assert feed.health.why
            held = len(feed.snapshot())
            assert held
            time.sleep(seconds)
            assert len(feed.snapshot()) == held
            wire.cut = False
            until(lambda: feed.health.phase == "following")
            equal(feed, server, publisher)


def slow() -> None:
    """Delay packets by 0.1 s each way and lose one in a hundred: the replay and the new messages are
    complete."""
    with two_hosts() as (wire, server, publisher, client):
        server.publish("s.old", *(json.dumps({"n": -i, "text": "x" * 500}).encode() for i in range(3000)))
        wire.delay, wire.loss = 0.1, 0.01
        feed = client.feed("S", look_back="PT1H")
        until(lambda: feed.health.phase == "following", 90)
        before = publisher.count
        until(lambda: publisher.count > before + 1000)
        equal(feed, server, publisher)
        assert wire.dropped > 5


SCENARIOS: dict[str, Callable[[], None]] = {"cut": cut, "slow": slow}

if __name__ == "__main__":
    SCENARIOS[sys.argv[1]]()
