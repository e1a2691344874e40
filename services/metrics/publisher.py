"""Publishes figures of this machine and its NATS server once a second, into the stream METRICS.

Facts of the machine go to the key-value bucket `host`, thresholds to `thresholds`.

    python -m services.metrics nats://127.0.0.1:4222 http://127.0.0.1:8222
    python -m services.metrics nats://10.0.0.1:4222,nats://10.0.0.2:4222 --replicas 3

Subjects are metrics.{kind}.{name}, such as metrics.cpu.core-0. Payloads are JSON objects whose field names
end with the unit. Without the second argument, the server's monitoring URL, there is no metrics.nats.server.
The login comes from NATS_CREDS, NATS_USER, … as everywhere. Ends on SIGTERM.
"""

import argparse
import asyncio
import json
import logging
import math
import socket
import sys
import time
from contextlib import suppress
from dataclasses import replace

import nats
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, StorageType, StreamConfig
from nats.js.errors import BadRequestError, NoStreamResponseError

from nats_client.connection.settings import Settings
from nats_client.errors import SettingsError
from services import monitoring
from services.metrics.facts import keep_buckets
from services.metrics.figures import Machine, Rates, Values
from services.program import Trouble, connect, until_signal

STREAM = StreamConfig(
    name="METRICS",
    description="Lookback's demo: this machine's own figures, once a second",
    subjects=["metrics.>"],
    storage=StorageType.FILE,
    discard=DiscardPolicy.OLD,
    max_age=24 * 60 * 60,
    max_bytes=512 * 1024 * 1024,
    allow_direct=True,
)
STREAM_NAME_IN_USE = 10058  # the server's error code: in use with another configuration
ACK_TIMEOUT = 2.0  # seconds
HTTP_TIMEOUT = 0.5  # seconds
CLOSE_TIMEOUT = 1.0  # seconds

log = logging.getLogger("services.metrics")


class Server:
    """Readings of a NATS server's monitoring endpoint."""

    def __init__(self, monitoring_url: str) -> None:
        """`monitoring_url` like http://127.0.0.1:8222."""
        self._url = monitoring_url
        self._rates = Rates()

    def read(self) -> dict[str, Values]:
        """The figures as "nats.server"; empty while the endpoint does not answer."""
        try:
            varz = monitoring.read(self._url, "/varz", HTTP_TIMEOUT)
            values: Values = {
                "cpu_percent": varz["cpu"],
                "memory_bytes": varz["mem"],
                "connections": varz["connections"],
                "subscriptions": varz["subscriptions"],
                "slow_consumers": varz["slow_consumers"],
            }
            counters = {
                "received_messages": varz["in_msgs"],
                "sent_messages": varz["out_msgs"],
                "received_bytes": varz["in_bytes"],
                "sent_bytes": varz["out_bytes"],
            }
        except (*monitoring.FAILURES, LookupError):
            return {}
        return {"nats.server": values | self._rates.per_second("nats.server", counters, time.monotonic())}


async def publish(settings: Settings, monitoring_url: str | None, replicas: int = 1) -> None:
    """Read and publish once a second, always reconnecting; runs until cancelled. Stream and buckets get
    `replicas` replicas."""
    machine = await asyncio.to_thread(Machine)
    server = Server(monitoring_url) if monitoring_url else None
    nc = await connect(settings, "lookback-metrics", log)
    js = nc.jetstream(timeout=ACK_TIMEOUT)
    facts = asyncio.create_task(keep_buckets(nc, js, replicas))
    trouble = Trouble(log, "This machine's figures")
    try:
        has_stream = False
        while True:
            await _next_second()
            figures = await asyncio.to_thread(machine.read)
            if server:
                figures |= await asyncio.to_thread(server.read)
            if not nc.is_connected:  # nats-py would buffer them, and they would arrive late with a wrong time
                has_stream = False
                continue
            try:
                if not has_stream:
                    await _keep_stream(js, replicas)
                await _publish_all(js, figures)
                has_stream = True
                trouble.end()
            except NoStreamResponseError:
                has_stream = False
                trouble.begin("there is no stream METRICS")
            except (nats.errors.Error, TimeoutError) as error:
                trouble.begin(str(error) or "no answer in time")
    finally:
        facts.cancel()
        with suppress(Exception):  # closing: nobody can act on an error
            await asyncio.wait_for(nc.close(), CLOSE_TIMEOUT)


async def _next_second() -> None:
    now = time.time()
    # A sleep may end a little early; without the 0.1 s that second would be sampled twice.
    await asyncio.sleep(math.floor(now + 0.1) + 1 - now)


async def _keep_stream(js: JetStreamContext, replicas: int) -> None:
    stream = STREAM.evolve(num_replicas=replicas)
    try:
        await js.add_stream(stream)
    except BadRequestError as error:
        if error.err_code != STREAM_NAME_IN_USE:
            raise
        await js.update_stream(stream)


async def _publish_all(js: JetStreamContext, figures: dict[str, Values]) -> None:
    """Raises the error if a figure was not acknowledged. That figure is lost; the next comes in a second."""
    host = socket.gethostname()
    acks = await asyncio.gather(
        *(
            js.publish(f"metrics.{name}", json.dumps({"host": host, **values}).encode(), timeout=ACK_TIMEOUT)
            for name, values in figures.items()
        ),
        return_exceptions=True,
    )
    for ack in acks:
        if isinstance(ack, BaseException):
            raise ack


async def _main(url: str, monitoring_url: str | None, replicas: int) -> None:
    settings = replace(Settings.load(), url=url)
    await until_signal(publish(settings, monitoring_url, replicas))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m services.metrics")
    parser.add_argument("url")
    parser.add_argument("monitoring_url", nargs="?")
    parser.add_argument("--replicas", type=int, default=1)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    options = parser.parse_args()
    try:
        asyncio.run(_main(options.url, options.monitoring_url, options.replicas))
    except SettingsError as error:
        sys.exit(str(error))
