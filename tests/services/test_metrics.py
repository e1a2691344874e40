"""The publisher of this machine's figures: what it reads is real, what it sends is well formed."""

import asyncio
import json
import re
import socket
from collections.abc import Callable
from typing import Any

import nats
import psutil
import pytest
from stand_ins import App

from services.figures import Machine, Rates, token

Messages = dict[str, list[dict[str, Any]]]


async def collect(url: str, seconds: int) -> tuple[Messages, nats.js.api.StreamInfo]:
    """What the stream holds after so many ticks, by subject, and what the server says of the stream."""
    nc = await nats.connect(url)
    try:
        js = nc.jetstream()
        live = await nc.subscribe("metrics.memory.ram")
        for _ in range(seconds):
            await live.next_msg(timeout=10)
        await asyncio.sleep(0.3)  # the rest of the last tick
        info = await js.stream_info("METRICS")
        messages: Messages = {}
        for sequence in range(1, info.state.last_seq + 1):
            message = await js.get_msg("METRICS", sequence)
            messages.setdefault(message.subject or "", []).append(json.loads(message.data or b""))
        return messages, info
    finally:
        await nc.close()


def test_published_figures_are_real(run_app: Callable[[], App]) -> None:
    """Subjects, fields and values in the stream are this machine's, and every rate is 0 or more."""
    messages, info = asyncio.run(collect(run_app().url(), 4))
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


def test_publisher_makes_its_stream_anew(run_app: Callable[[], App]) -> None:
    """When the stream is deleted, the publisher makes it again and goes on."""
    url = run_app().url()

    async def main() -> None:
        await collect(url, 1)
        nc = await nats.connect(url)
        await nc.jetstream().delete_stream("METRICS")
        await nc.close()
        messages, _ = await collect(url, 3)
        assert messages["metrics.cpu.total"]

    asyncio.run(main())


def test_rates_are_over_the_time_that_passed() -> None:
    """A rate is the counter's difference over the seconds between the readings."""
    rates = Rates()
    assert rates.per_second("a", {"bytes": 100}, 10.0) == {}
    assert rates.per_second("a", {"bytes": 400}, 12.0) == {"bytes_per_s": 150.0}


def test_counter_that_went_backwards_gives_no_value() -> None:
    """After a reset a counter has no rate, the others keep theirs, and the next reading is normal again."""
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
    """Already the first reading has what needs two readings, and not psutil's meaningless 0.0."""
    machine = Machine()
    total = 0
    for number in range(2_000_000):
        total += number  # so that the processor has something to do
    figures = machine.read()
    assert figures["cpu.total"]["percent"] > 0
    assert "received_bytes_per_s" in figures["network.lo"]
