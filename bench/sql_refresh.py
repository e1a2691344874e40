"""A live p95 per bucket and series of a million rows: every() and sql(), and the same in pandas per viewer.

New rows arrive, and then every viewer gets the changes. This app computes the result once and makes each
viewer's part of a frame. The rival is the code that a page's author would write without SQL: `frame()`, a
group by and a quantile, once per viewer and refresh. The figures are CPU time of the process, because threads
that run SQL give way to other threads.
"""

import asyncio
import time
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from bench.measures import Plan
from components.charts.wire import NOTHING, Held, step
from nats_client.results.every import Every
from nats_client.results.result import Query
from nats_client.results.result_bins import ResultBins
from nats_client.sql.arrow import ResultRows
from nats_client.sql.bounded import Limits
from nats_client.sql.engine import Stop
from nats_client.table.snapshot import Snapshot
from nats_client.table.values import Batch, Coded, Values
from nats_client.table.window import Window

SERIES = 50
LOOK_BACK = pd.Timedelta(minutes=5)
NEWS = 1_000
"""Rows between two refreshes."""
SQL = (
    "SELECT time_bucket(INTERVAL 10 s, _time) AS time, region, quantile_cont(ms, 0.95) AS p95"
    " FROM rows GROUP BY ALL"
)


class Rows:
    """A window with rows of SERIES regions, spread evenly over the look-back."""

    def __init__(self, count: int) -> None:
        self.window = Window()
        self._random = np.random.default_rng(7)
        self._gap = LOOK_BACK.value // count
        self._seq = 0
        self._start = 1_790_000_000_000_000_000
        for _ in range(0, count, 50_000):
            self.add(min(50_000, count))

    @property
    def now(self) -> int:
        """The time of the next row, ns since the epoch."""
        return self._start + self._seq * self._gap

    def add(self, count: int) -> None:
        """Append rows, and drop those older than the look-back."""
        seq = np.arange(self._seq, self._seq + count)
        self._seq += count
        time = self._start + seq * self._gap
        region = Coded(
            self._random.integers(0, SERIES, count).astype(np.int32), [f"region-{n}" for n in range(SERIES)]
        )
        values: dict[str, Values] = {"region": region, "ms": self._random.gamma(2.0, 50.0, count)}
        self.window.append(Batch(seq + 1, time, time, ["s"] * count, values))
        self.window.evict(self.now - LOOK_BACK.value)


class Ours:
    """A result, its bins, and the state of each viewer's browser."""

    def __init__(self, work: Any, viewers: int) -> None:
        self._work = work
        self._results = ResultRows()
        self._bins = ResultBins(("p95",), "region", LOOK_BACK, most=SERIES)
        self._held: list[Held] = [NOTHING] * viewers

    def refresh(self, rows: Snapshot, now: int) -> Snapshot:
        """Compute the result and make each viewer's message. As in the channel, equal messages are made
        once."""
        result = self._results.snapshot(self._work({"rows": rows}, Limits(), Stop()), now)
        self._bins.update(result, now)
        steps: dict[int, Held] = {}
        for place, held in enumerate(self._held):
            if id(held) not in steps:
                steps[id(held)] = step(self._bins, held, {}, short=True)[0]
            self._held[place] = steps[id(held)]
        return result


def in_pandas(rows: Snapshot) -> "pd.Series[float]":
    """The p95 per bucket and region, as a page's author would write it in pandas."""
    frame = rows.frame()
    buckets = pd.DatetimeIndex(frame.index).floor("10s")
    found: pd.Series[float] = frame.groupby([buckets, "region"], observed=True)["ms"].quantile(0.95)
    return found


async def sql_refresh(plan: Plan, nats_url: str) -> dict[str, list[tuple[float, float]]]:
    """Milliseconds of CPU per refresh and viewer: of every() and of sql(), with one viewer and with many.

    The rival does the same work for each viewer, so it is measured with one.
    """
    return await asyncio.to_thread(_rounds, plan)


def _rounds(plan: Plan) -> dict[str, list[tuple[float, float]]]:
    rows = Rows(plan.replay)
    shows = {"p95": "quantile_cont(ms, 0.95)"}

    def plain() -> Any:
        return Query(SQL, ("rows",), {})

    def open_buckets() -> Any:
        return Every(pd.Timedelta(seconds=10), ("region",), shows)

    many = plan.viewers
    sides = {
        "sql_refresh_ms": (Ours(open_buckets(), 1), 1),
        "sql_refresh_ms_200": (Ours(open_buckets(), many), many),
        "sql_whole_refresh_ms": (Ours(plain(), 1), 1),
        "sql_whole_refresh_ms_200": (Ours(plain(), many), many),
    }
    for ours, _ in sides.values():
        ours.refresh(rows.window.snapshot(), rows.now)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(plan.rounds):
        times: dict[str, list[float]] = {name: [] for name in (*sides, "pandas")}
        for _ in range(3):
            rows.add(NEWS)
            snapshot = rows.window.snapshot()
            start = time.process_time()
            expected = in_pandas(snapshot)
            times["pandas"].append(time.process_time() - start)
            for name, (ours, viewers) in sides.items():
                start = time.process_time()
                result = ours.refresh(snapshot, rows.now)
                times[name].append((time.process_time() - start) / viewers)
                if len(result) != len(expected):
                    raise RuntimeError(f"{name}: {len(result)} rows, pandas has {len(expected)}")
        for name in sides:
            found[name].append((1000 * median(times[name]), 1000 * median(times["pandas"])))
    return found


if __name__ == "__main__":
    for name, both in _rounds(Plan()).items():
        ours, theirs = (median(part) for part in zip(*both, strict=True))
        print(f"{name:<24}{ours:>10.3f} ms {theirs:>10.1f} ms {ours / theirs:>8.4f}")
