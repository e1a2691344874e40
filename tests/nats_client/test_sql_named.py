"""rate, every, rolling, top and a corpus of SQL give what pandas gives on the same snapshot."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nats_client.errors import SqlError
from nats_client.results.every import Every
from nats_client.results.result import Query
from nats_client.sql.arrow import ResultRows
from nats_client.sql.bounded import Limits
from nats_client.sql.engine import Stop
from nats_client.sql.names import rate_sql, rolling_sql, top_sql
from nats_client.table.snapshot import Snapshot
from nats_client.table.values import Batch, Mixed, Values
from nats_client.table.window import Window

ROOT = Path(__file__).parents[2]
STEP = 10
SECOND = 1_000_000_000
START = int(pd.Timestamp("2026-03-29T00:59:30Z").value)  # half a minute before Berlin's clocks go forward
HOSTS = ["a", "b", "c"]

Record = tuple[int, str, float, object]
"""Seconds after START, host, counter, and value: a number or a text."""

records = st.lists(
    st.tuples(
        st.integers(-25, 25),  # late rows, and times on the edges of buckets
        st.sampled_from(HOSTS),
        st.sampled_from([0.0, 1.0, 5.0, 10.0, 10.0, 20.0, math.nan]),  # a counter that resets, anywhere
        st.sampled_from([1.0, 2.5, -3.0, math.nan, 1e9, 7.0, "off"]),
    ),
    min_size=1,
    max_size=12,
)
steps = st.lists(
    st.one_of(
        records.map(lambda rows: ("append", rows)),
        st.integers(1, 5).map(lambda n: ("advance", n)),
        st.integers(1, 8).map(lambda n: ("purge", n)),
        st.lists(st.integers(1, 60), min_size=1, max_size=3).map(lambda seqs: ("remove", seqs)),
        st.integers(2, 20).map(lambda n: ("ceiling", n)),
        st.just(("recreate", 0)),
    ),
    min_size=1,
    max_size=9,
)


class Stream:
    """A window, and all that can happen to its stream: late rows, purges, deletions, ceilings and
    recreation."""

    def __init__(self) -> None:
        self.window = Window()
        self.seq = 0
        self.received = START - 60 * SECOND
        self.base = 0

    def do(self, what: str, how: Any) -> None:
        """Apply one step."""
        if what == "append":
            self.append(how)
        elif what == "advance":
            self.base += 7 * how
            self.received += 7 * how * SECOND
            self.window.evict(self.received - 60 * SECOND)
        elif what == "purge":
            self.window.remove_before(self.seq - how)
        elif what == "remove":
            self.window.remove(np.array(sorted(how)))
        elif what == "ceiling":
            self.window.max_rows = how
        else:
            self.window.clear()

    def append(self, rows: Sequence[Record]) -> None:
        """Rows with times of their own."""
        count = len(rows)
        seq = np.arange(self.seq + 1, self.seq + 1 + count)
        self.seq += count
        received = self.received + np.arange(1, count + 1)
        self.received = int(received[-1])
        values = [value for *_, value in rows]
        numbers = np.array([math.nan if isinstance(value, str) else value for value in values])
        texts = [value if isinstance(value, str) else None for value in values]
        mixed = Mixed(numbers, texts) if any(texts) else numbers
        time = START + (self.base + np.array([row[0] for row in rows], dtype=np.int64)) * SECOND
        columns: dict[str, Values] = {
            "host": [row[1] for row in rows],
            "c": np.array([row[2] for row in rows], dtype=np.float64),
            "v": mixed,
        }
        self.window.append(Batch(seq, received, time, [f"s.{row[1]}" for row in rows], columns))


def plain(rows: Snapshot) -> pd.DataFrame:
    """The rows as simple columns, with their order of arrival."""
    if not len(rows):
        return pd.DataFrame({"_time": [], "host": [], "c": [], "v": [], "seq": []})
    frame = rows.frame(["host", "c", "v", "_seq"]).reset_index()
    frame["host"] = frame["host"].astype(object)
    return frame.rename(columns={"_seq": "seq"})


def shown(work: Any, rows: Snapshot) -> list[tuple[object, ...]]:
    """The rows of the result of `work`, as sorted records."""
    found = work({"rows": rows}, Limits(), Stop())
    return sorted_rows(ResultRows().snapshot(found, START).frame().reset_index())


def sorted_rows(frame: pd.DataFrame) -> list[tuple[object, ...]]:
    """A table as sorted records that can be compared."""
    rows = []
    for record in frame.itertuples(index=False):
        cells: list[object] = []
        for value in record:
            if isinstance(value, pd.Timestamp):
                cells.append(value.value)
            elif value is None or (isinstance(value, float) and math.isnan(value)):
                cells.append("missing")
            elif isinstance(value, str):
                cells.append(value)
            else:
                cells.append(float(f"{float(value):.9g}"))
        rows.append(tuple(cells))
    return sorted(rows, key=repr)


def rate_of(rows: pd.DataFrame) -> pd.DataFrame:
    """rate() in pandas."""
    held = rows.dropna(subset=["c"]).sort_values(["_time", "seq"])
    held = held.drop_duplicates(["host", "_time"], keep="last")
    groups = held.groupby("host", sort=False)
    before, seconds = groups["c"].shift(), groups["_time"].diff().dt.total_seconds()
    grown = np.where(held["c"] < before, held["c"], held["c"] - before)
    found: pd.DataFrame = held.assign(rate=grown / seconds)[seconds.notna()][["_time", "host", "rate"]]
    return found


def rate_over_of(rows: pd.DataFrame) -> pd.DataFrame:
    """rate() over 15 s in pandas."""
    held = rows.dropna(subset=["c"]).sort_values(["_time", "seq"])
    held = held.drop_duplicates(["host", "_time"], keep="last")
    found = []
    for host, mine in held.groupby("host", sort=False):
        times, values = list(mine["_time"]), list(mine["c"])
        for i, time in enumerate(times):
            first = next(at for at in range(i + 1) if times[at] >= time - pd.Timedelta(seconds=15))
            steps = pairwise(values[first : i + 1])
            grown = sum(after if after < before else after - before for before, after in steps)
            if first < i:
                found.append((time, host, grown / (time - times[first]).total_seconds()))
    return pd.DataFrame(found, columns=["_time", "host", "rate"])


def every_of(rows: pd.DataFrame) -> pd.DataFrame:
    """every() in pandas."""
    groups = rows.assign(time=rows["_time"].dt.floor(f"{STEP}s")).groupby(["time", "host"], as_index=False)
    found: pd.DataFrame = groups.agg(
        n=("seq", "size"), mean=("v", "mean"), high=("v", "max"), p95=("v", lambda v: v.quantile(0.95))
    )
    return found


def rolling_of(rows: pd.DataFrame) -> pd.DataFrame:
    """rolling() over 15 s in pandas."""
    held = rows.dropna(subset=["v"])
    found = []
    for time, host in zip(held["_time"], held["host"], strict=True):
        near = held["_time"].between(time - pd.Timedelta(seconds=15), time) & (held["host"] == host)
        found.append((time, host, held["v"][near].mean()))
    return pd.DataFrame(found, columns=["_time", "host", "v"])


def top_of(rows: pd.DataFrame) -> pd.DataFrame:
    """top() of two series in pandas."""
    greatest = rows.dropna(subset=["v"]).groupby("host")["v"].max().sort_index()
    best = greatest.sort_values(ascending=False, kind="stable").index[:2]
    return rows[rows["host"].isin(best)][["_time", "host", "v"]]


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(steps)
def test_named_results_are_those_of_pandas(steps: list[tuple[str, Any]]) -> None:
    """rate, every, rolling and top equal pandas after each step, with late rows, purges, deleted messages,
    recreated streams, ceilings, texts among numbers, NaN, and counters that reset at the edges of buckets."""
    stream = Stream()
    shows = {"n": "count(*)", "mean": "avg(v)", "high": "max(v)", "p95": "quantile_cont(v, 0.95)"}
    every = Every(pd.Timedelta(seconds=STEP), ("host",), shows)
    length = pd.Timedelta(seconds=15)
    named: list[tuple[Any, Callable[[pd.DataFrame], pd.DataFrame]]] = [
        (every, every_of),
        (Query(rate_sql("c", ("host",)), ("rows",), {}), rate_of),
        (Query(rate_sql("c", ("host",), pd.Timedelta(seconds=15)), ("rows",), {}), rate_over_of),
        (Query(rolling_sql("v", ("host",), length, "mean"), ("rows",), {}), rolling_of),
        (Query(top_sql("v", "host", 2, "greatest"), ("rows",), {}), top_of),
    ]
    for what, how in steps:
        stream.do(what, how)
        rows = stream.window.snapshot().since(stream.received - 60 * SECOND)
        frame = plain(rows)
        for work, in_pandas in named:
            if not len(rows):
                with_columns = "host" in rows.columns
                if with_columns and rows.columns.get("v") == "number":
                    assert shown(work, rows) == []
                continue
            if rows.columns["v"] == "text" and in_pandas in (every_of, rolling_of):
                with pytest.raises(SqlError):
                    shown(work, rows)
                continue
            if rows.columns["v"] == "text" and in_pandas is top_of:
                continue  # for texts, the greatest is the last by name
            assert shown(work, rows) == sorted_rows(in_pandas(frame))


def test_only_open_buckets_are_worked_out_again() -> None:
    """Only the buckets that rows were added to or removed from are computed again, also for late rows."""
    stream = Stream()
    every = Every(pd.Timedelta(seconds=STEP), ("host",), {"n": "count(*)"})
    stream.append([(second, "a", 1.0, 1.0) for second in range(100)])
    shown(every, stream.window.snapshot())
    assert every.worked_out == 100
    stream.append([(100, "a", 1.0, 1.0)])
    shown(every, stream.window.snapshot())
    assert every.worked_out <= STEP + 1
    stream.append([(5, "b", 1.0, 1.0)])
    shown(every, stream.window.snapshot())
    assert every.worked_out == STEP + 1
    shown(every, stream.window.snapshot())
    assert every.worked_out == 0
    stream.window.remove_before(3)
    found = shown(every, stream.window.snapshot())
    assert every.worked_out <= STEP
    assert found == shown(
        Every(pd.Timedelta(seconds=STEP), ("host",), {"n": "count(*)"}), stream.window.snapshot()
    )


def test_the_docs_show_the_sql() -> None:
    """docs/sql.md shows the SQL of rate, every, rolling and top exactly as it is generated."""
    minute = pd.Timedelta(minutes=1)
    every = Every(pd.Timedelta(seconds=10), ("region",), {"n": "count(*)"})
    squeezed = " ".join((ROOT / "docs" / "sql.md").read_text().split())
    for sql in (
        rate_sql("bytes_total", ("host",)),
        rate_sql("bytes_total", ("host",), minute),
        rolling_sql("ms", ("region",), minute, "mean"),
        top_sql("ms", "region", 5, "mean"),
        every.sql,
    ):
        shown = " ".join(sql.split()).replace("(count(*) )", "(count(*))")
        assert shown in squeezed


Pandas = Callable[[pd.DataFrame], pd.DataFrame]
CORPUS: list[tuple[str, Pandas]] = [
    ("SELECT _time, host, v FROM rows WHERE v > 2", lambda r: r[r["v"] > 2][["_time", "host", "v"]]),
    (
        "SELECT time_bucket(INTERVAL 10 s, _time) AS time, host, quantile_cont(v, 0.5) AS p FROM rows"
        " GROUP BY ALL",
        lambda r: (
            r.assign(time=r["_time"].dt.floor("10s"))
            .groupby(["time", "host"], as_index=False)
            .agg(p=("v", "median"))
        ),
    ),
    (
        "SELECT date_trunc('hour', _time AT TIME ZONE 'Europe/Berlin') AS time, count(*) AS n FROM rows"
        " GROUP BY ALL",
        lambda r: (
            r.assign(
                time=r["_time"]
                .dt.tz_convert("Europe/Berlin")
                .dt.tz_localize(None)
                .dt.floor("h")
                .dt.tz_localize("UTC")
            )
            .groupby("time", as_index=False)
            .agg(n=("seq", "size"))
        ),
    ),
    (
        "SELECT _time, host, v - avg(v) OVER (PARTITION BY host) AS off FROM rows",
        lambda r: r.assign(off=r["v"] - r.groupby("host")["v"].transform("mean"))[["_time", "host", "off"]],
    ),
    (
        "SELECT a._time, a.v, b.v AS before FROM rows a ASOF LEFT JOIN"
        " (SELECT _time, v FROM rows WHERE host = 'b' QUALIFY row_number() OVER"
        " (PARTITION BY _time ORDER BY _seq DESC) = 1) b ON a._time >= b._time WHERE a.host = 'a'",
        lambda r: pd.merge_asof(
            r[r["host"] == "a"].sort_values("_time")[["_time", "v"]],
            r[r["host"] == "b"]
            .sort_values(["_time", "seq"])
            .drop_duplicates("_time", keep="last")[["_time", "v"]]
            .rename(columns={"v": "before"}),
            on="_time",
        ),
    ),
    (
        "SELECT _time, max(v) FILTER (host = 'a') AS a, max(v) FILTER (host = 'b') AS b FROM rows"
        " GROUP BY _time",
        lambda r: (
            r.assign(a=r["v"].where(r["host"] == "a"), b=r["v"].where(r["host"] == "b"))
            .groupby("_time", as_index=False)
            .agg(a=("a", "max"), b=("b", "max"))
        ),
    ),
    (
        "FROM (PIVOT (SELECT _time, host, v FROM rows) ON host IN ('a', 'b') USING max(v) GROUP BY _time)",
        lambda r: (
            r.assign(a=r["v"].where(r["host"] == "a"), b=r["v"].where(r["host"] == "b"))
            .groupby("_time", as_index=False)
            .agg(a=("a", "max"), b=("b", "max"))
        ),
    ),
    (
        "SELECT _time, host, sum(c) OVER (PARTITION BY host ORDER BY _time, _seq) AS total FROM rows"
        " WHERE c IS NOT NULL",
        lambda r: (
            r.dropna(subset=["c"])
            .sort_values(["_time", "seq"])
            .assign(total=lambda h: h.groupby("host")["c"].cumsum())[["_time", "host", "total"]]
        ),
    ),
]
numbers = records.map(
    lambda rows: [(t, h, c, v if isinstance(v, float) else math.nan) for t, h, c, v in rows]
)


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(numbers, st.integers(0, 40))
def test_sql_is_that_of_pandas(rows: list[Record], hours: int) -> None:
    """Filters, buckets, quantiles, windows, as-of joins, pivots and local times equal those of pandas, also
    across the hours in which clocks change."""
    stream = Stream()
    stream.append(rows)
    stream.base = 900 * hours
    stream.append(rows)
    snapshot = stream.window.snapshot()
    for sql, in_pandas in CORPUS:
        assert shown(Query(sql, ("rows",), {}), snapshot) == sorted_rows(in_pandas(plain(snapshot))), sql
