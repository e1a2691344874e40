"""The publisher of this machine's figures: it reads real values, and publishes well-formed messages."""

import asyncio
import json
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import nats
import psutil
import pytest

from services.metrics.figures import Machine, Rates, token
from tests.embedded import login
from tests.nats import connect_nats
from tests.services.stand_ins import App, wait_for

Messages = dict[str, list[dict[str, Any]]]


async def collect(data_dir: Path, seconds: int) -> tuple[Messages, nats.js.api.StreamInfo]:
    """The stream's messages by subject after `seconds` ticks, and the stream's info."""
    nc = await connect_nats(**login(data_dir))
    try:
        js = nc.jetstream()
        live = await nc.subscribe("metrics.memory.ram")
        for _ in range(seconds):
            await live.next_msg(timeout=10)
        await asyncio.sleep(0.3)  # for the rest of the last tick
        info = await js.stream_info("METRICS")
        messages: Messages = {}
        for sequence in range(1, info.state.last_seq + 1):
            message = await js.get_msg("METRICS", sequence)
            messages.setdefault(message.subject or "", []).append(json.loads(message.data or b""))
        return messages, info
    finally:
        await nc.close()


def test_published_figures_are_real(run_app: Callable[[], App], data_dir: Path) -> None:
    """Subjects, fields and values in the stream are this machine's, and every rate is 0 or more."""
    run_app().url()
    messages, info = asyncio.run(collect(data_dir, 4))
    assert all(re.fullmatch(r"metrics\.[a-z]+\.[A-Za-z0-9_-]+", subject) for subject in messages)
    cores = [subject for subject in messages if subject.startswith("metrics.cpu.core-")]
    assert len(cores) == psutil.cpu_count()
    ram = messages["metrics.memory.ram"][-1]
    assert ram["total_bytes"] == psutil.virtual_memory().total
    assert ram["host"] == socket.gethostname()
    assert 0 < ram["used_bytes"] < ram["total_bytes"]
    assert {"metrics.cpu.total", "metrics.memory.swap", "metrics.disk.root"} <= messages.keys()
    server = messages["metrics.nats.server"][-1]
    assert server["connections"] >= 2
    assert server["received_messages_per_s"] > 0
    assert set(messages["metrics.network.lo"][-1]) == {"host", "received_bytes_per_s", "sent_bytes_per_s"}
    values = [
        value for many in messages.values() for one in many for name, value in one.items() if name != "host"
    ]
    assert min(values) >= 0
    percents = [one["percent"] for one in messages["metrics.cpu.total"]]
    assert max(percents) > 0
    assert max(percents) <= 100
    config = info.config
    assert (config.subjects, config.storage, config.discard) == (["metrics.>"], "file", "old")
    assert (config.max_age, config.max_bytes, config.allow_direct) == (24 * 3600, 512 * 1024**2, True)
    assert "demo" in (config.description or "")


def test_publisher_makes_its_stream_anew(run_app: Callable[[], App], data_dir: Path) -> None:
    """When the stream is deleted, the publisher creates it again and continues."""
    run_app().url()

    async def main() -> None:
        await collect(data_dir, 1)
        nc = await connect_nats(**login(data_dir))
        await nc.jetstream().delete_stream("METRICS")
        await nc.close()
        messages, _ = await collect(data_dir, 3)
        assert messages["metrics.cpu.total"]

    asyncio.run(main())


def test_buckets(run_app: Callable[[], App], data_dir: Path) -> None:
    """The machine's facts are in a bucket, and unchanging ones have one revision. A threshold that was
    changed or deleted stays so when the publisher restarts."""
    app = run_app()
    app.url()

    async def look(*steps: tuple[str, str, bytes | None]) -> dict[str, dict[str, tuple[int, str]]]:
        nc = await connect_nats(**login(data_dir))
        try:
            js = nc.jetstream()
            buckets = {}
            for name, last in (("host", "host.processes"), ("thresholds", "memory")):
                buckets[name] = await when_there(js, name, last)
            for bucket, key, value in steps:
                await (buckets[bucket].delete(key) if value is None else buckets[bucket].put(key, value))
            return {
                name: {
                    key: (entry.revision or 0, (entry.value or b"").decode())
                    for key in await kv.keys()
                    for entry in [await kv.get(key)]
                }
                for name, kv in buckets.items()
            }
        finally:
            await nc.close()

    found = asyncio.run(look())
    host = {key: json.loads(value) for key, (_, value) in found["host"].items()}
    assert host["memory.total_bytes"] == psutil.virtual_memory().total
    assert host["cpu.cores"] == psutil.cpu_count()
    assert host["host.name"] == socket.gethostname()
    assert host["load.average"].keys() == {"1_min", "5_min", "15_min"}
    assert {key: value for key, (_, value) in found["thresholds"].items()} == {"cpu": "90", "memory": "90"}
    changed = asyncio.run(look(("thresholds", "cpu", b"55"), ("thresholds", "memory", None)))
    assert changed["thresholds"].keys() == {"cpu"}
    publisher = app.below()["publisher"]
    publisher.kill()
    wait_for(lambda: app.below()["publisher"].pid != publisher.pid, "another publisher")
    asyncio.run(collect(data_dir, 3))
    again = asyncio.run(look())
    assert again["thresholds"] == changed["thresholds"]
    assert again["host"]["cpu.model"] == found["host"]["cpu.model"]


async def when_there(js: nats.js.JetStreamContext, bucket: str, key: str) -> nats.js.kv.KeyValue:
    """The bucket, once `key` has been written."""
    while True:
        with suppress(nats.js.errors.BucketNotFoundError, nats.js.errors.NoKeysError):
            found = await js.key_value(bucket)
            if await found.history(key):
                return found
        await asyncio.sleep(0.1)


def test_rates_are_over_the_time_that_passed() -> None:
    """A rate is the counter's difference over the seconds between the readings."""
    rates = Rates()
    assert rates.per_second("a", {"bytes": 100}, 10.0) == {}
    assert rates.per_second("a", {"bytes": 400}, 12.0) == {"bytes_per_s": 150.0}


def test_counter_that_went_backwards_gives_no_value() -> None:
    """A counter that was reset has no rate, the others keep theirs, and the next reading is normal again."""
    rates = Rates()
    rates.per_second("a", {"x": 100, "y": 0}, 0.0)
    assert rates.per_second("a", {"x": 5, "y": 1}, 1.0) == {"y_per_s": 1.0}
    assert rates.per_second("a", {"x": 7, "y": 1}, 2.0) == {"x_per_s": 2.0, "y_per_s": 0.0}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("/", "root"), ("eth0.100", "eth0-100"), ("Local Area *>", "Local-Area"), ("/mnt/a b", "mnt-a-b")],
)
def test_names_become_tokens(name: str, expected: str) -> None:
    """A token has no dots, spaces or wildcards, whatever the name."""
    assert token(name) == expected


def test_first_reading_has_rates_and_true_percentages() -> None:
    """The first reading already has rates, which need two readings, and no meaningless 0.0 of psutil."""
    machine = Machine()
    total = 0
    for number in range(2_000_000):
        total += number  # so that the CPU is busy
    figures = machine.read()
    assert figures["cpu.total"]["percent"] > 0
    assert "received_bytes_per_s" in figures["network.lo"]
