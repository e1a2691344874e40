"""What a page's calls cost for each viewer and refresh: `python -m bench.page_costs`, milliseconds.

Half a million rows of fifty series, with five numbers and a text in each row, in this process. Each figure is
the median of 21 calls, with one new row before each call.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from nats_client.series.latest import Latest
from nats_client.table.values import Batch, Values
from nats_client.table.window import Window

ROWS, SERIES, ROUNDS = 500_000, 50, 21


def _batch(first: int, count: int, random: np.random.Generator) -> Batch:
    seq = np.arange(first, first + count, dtype=np.int64)
    subjects = [f"metrics.host-{i % SERIES}" for i in range(first, first + count)]
    values: dict[str, Values] = {f"v{k}": random.normal(size=count) for k in range(5)}
    values["state"] = ["up" if i % 7 else "down" for i in range(count)]
    return Batch(seq, seq * 1000, seq * 1000, subjects, values)


def costs() -> dict[str, float]:
    """The median milliseconds of each call, by its source text."""
    random = np.random.default_rng(1)
    window, latest = Window(), Latest("v0", "_subject")
    for first in range(0, ROWS, 50_000):
        window.append(_batch(first, 50_000, random))
    last = ROWS
    calls: dict[str, Callable[[], object]] = {
        'rows.latest("v0")': lambda: latest.of(window.snapshot()),
        "rows.frame(last=200)": lambda: window.snapshot().frame(last=200),
        'rows.frame(["v0"])': lambda: window.snapshot().frame(["v0"]),
        "rows.frame()": lambda: window.snapshot().frame(),
        'rows.frame().groupby("_subject")["v0"].mean()': lambda: _mean(window.snapshot().frame()),
    }
    found = {}
    for name, call in calls.items():
        took = []
        for _ in range(ROUNDS):
            window.append(_batch(last, 1, random))
            last += 1
            began = time.perf_counter()
            call()
            took.append((time.perf_counter() - began) * 1000)
        found[name] = statistics.median(took)
    return found


def _mean(frame: pd.DataFrame) -> pd.Series:
    means: pd.Series = frame.groupby("_subject", observed=True)["v0"].mean()
    return means


if __name__ == "__main__":
    for name, milliseconds in costs().items():
        print(f"{name:50} {milliseconds:8.2f}")
