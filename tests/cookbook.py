"""The data that the pages of docs/cookbook/ read: simulated streams of a shop and its machines.

`python -m tests.cookbook` writes the pages into docs/cookbook.md. `python -m tests.cookbook run` shows them
in the app, with an hour of new messages, until Ctrl-C.
"""

import asyncio
import contextlib
import json
import math
import random
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from services.history.database import Message
from tests.archive import history
from tests.nats import NatsServer, running_server
from tests.running import ROOT, App, app

FILE = ROOT / "docs" / "cookbook.md"
PAGES = ROOT / "docs" / "cookbook"
MINUTES = 15
"""How far back the streams reach, except VISITS."""
HOSTS = ("web-1", "web-2", "web-3")
REGIONS = ("asia", "eu", "us")
PRODUCTS = (
    *("apple", "banana", "cherry", "elder", "fig", "grape"),
    *("kiwi", "lemon", "mango", "nut", "olive", "pear"),
)
ROOMS = {f"sensor-{n:02}": ("attic", "cellar", "hall", "office")[n % 4] for n in range(12)}
SILENT = {"sensor-03": 420, "sensor-10": 360}
"""Devices that are silent, and for how many seconds."""
MOST = {"attic": 30.0, "cellar": 18.0, "hall": 24.0, "office": 23.0}
"""The temperature limit of each room, in degrees Celsius."""
_TEXTS = {
    "info": ("user signed in", "session ended", "cache warmed", "mail sent"),
    "warning": ("slow answer from the database", "cache nearly full", "sign-in refused"),
    "error": ("database: connection lost", "mail server: timeout", "disk full"),
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Data:
    """The messages of each stream, as subject and payload, ordered by time. They end at `now` or later."""

    now: datetime
    streams: dict[str, list[tuple[str, Row]]]
    archived: list[Message] = field(repr=False)

    def frame(self, stream: str) -> pd.DataFrame:
        """A stream as a table: `_time` and `at` (UTC), `token` of the subject, and the fields."""
        rows = [{"token": subject.split(".")[1], **row} for subject, row in self.streams[stream]]
        frame = pd.DataFrame(rows)
        frame["_time"] = pd.to_datetime(frame["at"], format="ISO8601")
        return frame

    def archive(self) -> pd.DataFrame:
        """The rows of the history service: `_time` (UTC), `token` of the subject, and the fields."""
        return pd.DataFrame(
            [
                {"_time": each.time, "token": each.subject.split(".")[1], **json.loads(each.payload)}
                for each in self.archived
            ]
        )


def made(now: datetime, ahead: int = 0) -> Data:
    """Data that is the same at each call, except for its times: up to `now`, rounded down to 10 s, plus
    `ahead` seconds."""
    chance = random.Random(7)
    now = now.replace(second=now.second - now.second % 10, microsecond=0)

    def at(seconds: float) -> str:
        return (now + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")

    streams = {
        "SERVERS": list(_servers(chance, at, ahead)),
        "ORDERS": list(_orders(chance, at, ahead)),
        "PRICES": list(_prices(chance, at, ahead)),
        "LOGS": list(_logs(chance, at, ahead)),
        "SENSORS": list(_sensors(chance, at, ahead)),
        "VISITS": list(_visits(chance, at, ahead)),
    }
    return Data(now, streams, list(_archived(chance, now)))


def _servers(chance: random.Random, at: Any, ahead: int) -> Iterator[tuple[str, Row]]:
    counted = dict.fromkeys(HOSTS, 1000)
    for seconds in range(-60 * MINUTES, ahead, 5):
        for n, host in enumerate(HOSTS):
            if (host, seconds) == ("web-2", -300):
                counted[host] = 0  # the counter was reset by a restart
            per_second = 40 + 15 * n + 12 * math.sin(seconds / 90 + n) + chance.uniform(-4, 4)
            counted[host] += round(5 * per_second)
            busy = host == "web-3" and (-420 <= seconds < -360 or -200 <= seconds < -190)
            cpu = 95 + chance.uniform(-2, 2) if busy else 35 + 12 * n + chance.uniform(-9, 9)
            cpu = round(cpu, 1)
            kib = 2_000_000 + 400_000 * n + 900 * ((seconds + 900) % (300 + 100 * n))
            yield (
                f"servers.{host}",
                {
                    "at": at(seconds),
                    "requests_total": counted[host],
                    "cpu": round(cpu, 1),
                    "memory_kib": kib,
                },
            )


def _orders(chance: random.Random, at: Any, ahead: int) -> Iterator[tuple[str, Row]]:
    weights = [20 / (n + 2) for n in range(len(PRODUCTS))]
    for number in range(60 * MINUTES + ahead):
        seconds = number - 60 * MINUTES + 0.5
        region = chance.choice(REGIONS)
        slow = region == "us" and -480 <= seconds < -300
        yield (
            f"orders.{region}",
            {
                "at": at(seconds),
                "id": 1000 + number,
                "product": chance.choices(PRODUCTS, weights)[0],
                "quantity": chance.randint(1, 5),
                "ms": round(chance.lognormvariate(5.6 if slow else 4.9, 0.45), 1),
                "status": chance.choices(("paid", "sent", "failed"), (50, 40, 35 if slow else 4))[0],
            },
        )


def _prices(chance: random.Random, at: Any, ahead: int) -> Iterator[tuple[str, Row]]:
    prices = {product: 2.0 + n for n, product in enumerate(PRODUCTS)}
    for seconds in range(-60 * MINUTES, ahead, 36):
        for n, product in enumerate(PRODUCTS):
            prices[product] = round(prices[product] * chance.uniform(0.98, 1.02), 2)
            yield f"prices.{product}", {"at": at(seconds + 3 * n), "price": prices[product]}


def _logs(chance: random.Random, at: Any, ahead: int) -> Iterator[tuple[str, Row]]:
    for number in range((60 * MINUTES + ahead) // 2):
        level = chance.choices(tuple(_TEXTS), (80, 14, 6))[0]
        yield (
            f"logs.{chance.choice(('api', 'mail', 'web'))}",
            {
                "at": at(2 * number - 60 * MINUTES + 0.25),
                "level": level,
                "text": chance.choice(_TEXTS[level]),
                "ms": chance.randint(1, 400),
            },
        )


def _sensors(chance: random.Random, at: Any, ahead: int) -> Iterator[tuple[str, Row]]:
    for seconds in range(-60 * MINUTES, ahead, 10):
        for n, (device, room) in enumerate(ROOMS.items()):
            if device not in SILENT or seconds < -SILENT[device]:
                warm = MOST[room] - 4 + n / 3 + 2 * math.sin(seconds / 200 + n) + chance.uniform(-0.2, 0.2)
                yield f"sensors.{device}", {"at": at(seconds), "celsius": round(warm, 1)}


def _visits(chance: random.Random, at: Any, ahead: int) -> Iterator[tuple[str, Row]]:
    for seconds in range(-49 * 3600, ahead, 600):
        hour = 2 * math.pi * seconds / 86400
        more = 1.25 if seconds > -86400 else 1.0
        visits = round(more * (300 + 180 * math.sin(hour) + chance.uniform(-25, 25)))
        yield "visits.shop", {"at": at(seconds), "visits": visits}


def _archived(chance: random.Random, now: datetime) -> Iterator[Message]:
    created = now - timedelta(days=30)
    for seq in range(1, 601):
        moment = now - timedelta(days=6) + timedelta(minutes=10 * seq)
        row = {"ms": round(chance.lognormvariate(4.9, 0.45), 1), "status": "sent"}
        yield Message("ORDERS", created, seq, moment, f"orders.{REGIONS[seq % 3]}", json.dumps(row).encode())


def publish(server: NatsServer, data: Data) -> None:
    """Create the streams and the bucket, and publish all messages up to `data.now`."""

    async def work(nc: Any) -> None:
        stream = nc.jetstream(publish_async_max_pending=10_000)
        for name in data.streams:
            await stream.add_stream(name=name, subjects=[f"{name.lower()}.>"])
        devices = await stream.create_key_value(bucket="devices")
        for device, room in ROOMS.items():
            await devices.put(device, json.dumps({"room": room, "most": MOST[room]}).encode())
        for messages in data.streams.values():
            acknowledged = [
                await stream.publish_async(subject, json.dumps(row).encode())
                for subject, row in messages
                if row["at"] <= data.now.isoformat(timespec="milliseconds")
            ]
            await asyncio.gather(*acknowledged)

    server.run(work)


@contextmanager
def going_on(server: NatsServer, data: Data) -> Iterator[None]:
    """Publish each later message at its time, until the end of the block."""
    ended = threading.Event()

    async def work(nc: Any) -> None:
        later = [
            (row["at"], subject, json.dumps(row).encode())
            for messages in data.streams.values()
            for subject, row in messages
            if row["at"] > data.now.isoformat(timespec="milliseconds")
        ]
        for at, subject, payload in sorted(later):
            due = (datetime.fromisoformat(at) - datetime.now(UTC)).total_seconds()
            if await asyncio.to_thread(ended.wait, max(0.0, due)):
                return
            await nc.publish(subject, payload)

    thread = threading.Thread(target=server.run, args=(work,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def cookbook(folder: Path, ahead: int = 0) -> Iterator[tuple[App, Data]]:
    """The app with only the cookbook's pages, on a nats-server with their data and a history service. New
    messages arrive for `ahead` seconds."""
    with running_server(folder / "nats") as server:
        data = made(datetime.now(UTC), ahead)
        publish(server, data)
        with (
            going_on(server, data),
            history(server, folder, data.archived),
            app(folder, NATS_URL=server.url, LOOKBACK_PAGES=str(PAGES), LOOKBACK_BUILT_IN="0") as running,
        ):
            yield running, data


def document() -> str:
    """docs/cookbook.md, with the pages' current code above their pictures."""

    def shown(found: re.Match[str]) -> str:
        page = (PAGES / f"{found['name']}.py").read_text()
        return f"```python\n{page}```\n\n{found['picture']}"

    picture = r"(?P<picture>!\[[^\]\n]*\]\(cookbook/(?P<name>\w+)\.png\))"
    return re.sub(rf"```python\n(?:(?!```).)*```\n\n{picture}", shown, FILE.read_text(), flags=re.DOTALL)


if __name__ == "__main__":
    if sys.argv[1:] == ["run"]:
        with (
            tempfile.TemporaryDirectory() as temporary,
            contextlib.suppress(KeyboardInterrupt),
            cookbook(Path(temporary), ahead=3600) as (opened, _),
        ):
            print(opened.url)
            while True:
                time.sleep(1)
    FILE.write_text(document())
