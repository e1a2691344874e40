"""Three nats-servers that form a JetStream cluster, on loopback."""

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nats.errors

from tests.nats import NatsServer, connected
from tests.running import free_port


class Cluster:
    """The nodes of a cluster, by their names "n0", "n1" and "n2"."""

    def __init__(self, folder: Path, size: int = 3) -> None:
        ports = [free_port() for _ in range(size)]
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
        self.nodes: dict[str, NatsServer] = {}
        for i, port in enumerate(ports):
            config = (
                f"server_name: n{i}\n"
                f"cluster {{ name: C, listen: 127.0.0.1:{port}, routes: [{routes}], no_advertise: true }}"
            )
            self.nodes[f"n{i}"] = NatsServer(folder / f"n{i}", config)

    @property
    def urls(self) -> list[str]:
        """URLs of all nodes."""
        return [node.url for node in self.nodes.values()]

    def kill(self) -> None:
        """kill -9 of all nodes."""
        for node in self.nodes.values():
            node.kill()

    def run(self, work: Callable[[Any], Awaitable[Any]], seconds: float = 60) -> Any:
        """The result of `work`, called with a connection to some node; retried while the cluster settles."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return connected(self.urls, work)
            except (nats.errors.Error, TimeoutError, OSError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def info(self, stream: str) -> Any:
        """The stream's STREAM.INFO, from its leader."""
        return self.run(lambda nc: nc.jetstream(timeout=1).stream_info(stream))

    def leader(self, stream: str) -> str:
        """The name of the node that leads the stream."""
        while not (name := self.info(stream).cluster.leader):
            time.sleep(0.1)
        return str(name)

    def settle(self, stream: str, seconds: float = 60) -> None:
        """Wait until each replica of the stream is up to date."""
        deadline = time.monotonic() + seconds
        while True:
            info = self.info(stream)
            followers = info.cluster.replicas or []
            good = [each for each in followers if each.current and not each.offline]
            if info.cluster.leader and len(good) == len(followers) == info.config.num_replicas - 1:
                return
            assert time.monotonic() < deadline, f"the replicas never agreed: {info.cluster}"
            time.sleep(0.2)


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """A Cluster that accepts new streams, killed at the end."""
    cluster = Cluster(folder)
    try:
        cluster.run(lambda nc: nc.jetstream(timeout=1).account_info())
        yield cluster
    finally:
        cluster.kill()
