"""JetStream's API without nats-py's own classes, for requests that nats-py does not support."""

import json
from typing import Any, Protocol


class AnyServer(Protocol):
    """A server, or a cluster."""

    def run(self, work: Any) -> Any:
        """The result of `work`, called with a connection."""


def api(server: AnyServer, subject: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The reply to a request to `$JS.API.{subject}`. Raises AssertionError if it is an error."""

    async def ask(nc: Any) -> dict[str, Any]:
        reply = await nc.request(f"$JS.API.{subject}", json.dumps(body or {}).encode(), timeout=10)
        answer: dict[str, Any] = json.loads(reply.data)
        return answer

    answer = server.run(ask)
    assert "error" not in answer, answer["error"]
    return dict(answer)


def stream(server: AnyServer, name: str, *subjects: str, **config: Any) -> None:
    """Create a stream. Besides this configuration, its storage is files and its retention limits."""
    settings = {"name": name, "subjects": list(subjects), "storage": "file", "retention": "limits"}
    api(server, f"STREAM.CREATE.{name}", settings | config)


def change(server: AnyServer, name: str, **config: Any) -> None:
    """Change a stream's configuration."""
    api(server, f"STREAM.UPDATE.{name}", api(server, f"STREAM.INFO.{name}")["config"] | config)


def worker(server: AnyServer, name: str, consumer: str = "worker", **config: Any) -> None:
    """Create a durable consumer with explicit acknowledgement."""
    settings = {"name": consumer, "durable_name": consumer, "ack_policy": "explicit"}
    body = {"stream_name": name, "config": settings | config}
    api(server, f"CONSUMER.CREATE.{name}.{consumer}", body)


def messages(server: AnyServer, name: str) -> int:
    """The number of messages in a stream."""
    return int(api(server, f"STREAM.INFO.{name}")["state"]["messages"])


def publish(server: AnyServer, subject: str, *payloads: bytes, **headers: str) -> None:
    """Publish messages, and wait until the stream has stored each. Underscores in header names become
    dashes."""

    async def work(nc: Any) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()} or None
        for payload in payloads:
            await nc.jetstream().publish(subject, payload, headers=named)

    server.run(work)


def work(server: AnyServer, name: str, count: int, consumer: str = "worker") -> list[bytes]:
    """The payloads of `count` messages, fetched and acknowledged by a worker."""

    async def take(nc: Any) -> list[bytes]:
        done: list[bytes] = []
        pulled = await nc.jetstream().pull_subscribe_bind(consumer=consumer, stream=name)
        while len(done) < count:
            for message in await pulled.fetch(count - len(done), timeout=10):
                await message.ack_sync()
                done.append(message.data)
        return done

    taken: list[bytes] = server.run(take)
    return taken
