"""Data derived for pages counts towards the memory ceiling."""

import gc
import json

import numpy as np
import pandas as pd
import pytest

from nats_client import Client, Settings
from nats_client.feeds.derived import Derived
from nats_client.memory import SMALLEST, Memory
from nats_client.series.bins import Bins
from nats_client.series.interval_counts import TextCounts
from nats_client.series.series_choice import RULES, SeriesChoice
from nats_client.table.values import Batch
from nats_client.table.window import Window
from tests.nats import NatsServer
from tests.waiting import until

LOOK_BACK = pd.Timedelta("PT5M")
SERIES = 2_000
NOW = 1_800_000_000_000_000_000


@pytest.fixture(scope="module")
def window() -> Window:
    """Two rows of each of 2,000 series."""
    made = Window()
    seq = np.arange(1, 2 * SERIES + 1, dtype=np.int64)
    times = NOW - (len(seq) - seq) * 50_000_000
    names = [f"pump-{i % SERIES}" for i in range(len(seq))]
    made.append(Batch(seq, times, times, ["s"] * len(seq), {"v": seq.astype(float), "pump": names}))
    return made


def arrays_of(bins: Bins) -> int:
    """The bytes of all arrays reachable from `bins`, computed without its own count."""
    seen: dict[int, int] = {}
    todo: list[object] = [bins]
    while todo:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen[id(each)] = each.nbytes if isinstance(each, np.ndarray) else 0
        todo += list(vars(each).values()) if hasattr(each, "__dict__") else []
        todo += list(each.values()) if isinstance(each, dict) else []
        todo += list(each) if isinstance(each, list | tuple) else []
    return sum(seen.values())


def test_choices_of_viewers_count(window: Window) -> None:
    """The bins and legend values of twenty viewers with different choices over 2,000 series count with all
    their arrays. They still count after the caches have dropped them, and no longer once the viewers have
    left."""
    derived = Derived()
    snapshot = window.snapshot()
    choices = [SeriesChoice(RULES[i % 4], frozenset([f"pump-{i}"] * (i % 5 > 0))) for i in range(20)]
    viewers = [derived.bins(("v",), "pump", LOOK_BACK, 20, choice=choice) for choice in choices]
    for bins in viewers:
        bins.update(snapshot, NOW)
        assert len(bins.numbers(snapshot)) == 21
    held = sum(map(arrays_of, viewers))
    assert 0.95 * held < derived.derived_bytes <= held
    derived.forget_derived()
    assert 0.95 * held < derived.derived_bytes <= held
    del bins
    viewers.clear()
    gc.collect()
    assert derived.derived_bytes == 0


def test_counts_count(window: Window) -> None:
    """A chart's counts per interval count towards the ceiling while a viewer uses them."""
    derived = Derived()
    counts = derived.counted(TextCounts(1_000_000_000, "pump"))
    assert derived.derived_bytes == 0
    counts.update(window.snapshot(), NOW // 1_000_000_000 - 300, NOW // 1_000_000_000)
    held = sum(
        a.nbytes + b.nbytes for a, b in map(counts.column, range(NOW // 10**9 - 300, NOW // 10**9 + 1))
    )
    assert held < derived.derived_bytes < 2 * held
    del counts
    gc.collect()
    assert derived.derived_bytes == 0


def test_found_messages_count(server: NatsServer) -> None:
    """The messages found by a search count, with their headers. At the ceiling a search keeps its first
    messages. A dropped search keeps none and reports that memory was short."""
    server.add_stream("FOUND", ["found.>"])
    payload = json.dumps({"text": "needle " + "x" * 40_000}).encode()
    server.publish("found.a", *[payload] * 60)
    memory = Memory(64 << 20)
    with Client(Settings(server.url), memory=memory) as client:
        search = client.search("FOUND", "needle")
        until(lambda: search.status == "done")
        assert len(search.found) == 60
        memory.recount()
        assert 60 * len(payload) < memory.total < 60 * (len(payload) + 1000)
        search.shrink(SMALLEST, memory.ceiling)
        assert search.status == "full"
        assert [message.seq for message in search.found] == list(
            range(1, SMALLEST // (len(payload) + 500) + 1)
        )
        assert search.scanned_to == search.found[-1].seq
        memory.recount()
        assert memory.total <= SMALLEST
        search.drop()
        assert search.found == ()
        assert "memory was short" in str(search.error)
