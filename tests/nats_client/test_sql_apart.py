"""SQL that a viewer typed, in a process of its own.

Slow, because queries have to reach their limits of time and memory.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pytest

from nats_client.errors import SqlColumnError, SqlEnded, SqlError
from nats_client.sql.apart import MEMORY, ask_apart
from nats_client.sql.bounded import Limits
from nats_client.sql.engine import Stop, ask
from nats_client.sql.guard import check_select
from tests.running import ROOT
from tests.waiting import until

DOUBLED = "SELECT length(" + "replace(" * 29 + "'aa'" + ", 'a', 'aa')" * 29 + ") AS n"
"""A text that doubles up to a gigabyte. Run in the caller's process, it took two gigabytes."""
ENDLESS = "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range + b.range = 3"
CORPUS = [
    DOUBLED,
    "SELECT length(x) AS n FROM " + "(SELECT x || x AS x FROM " * 40 + "(SELECT 'ab' AS x)" + ")" * 40,
    "SELECT repeat(repeat('x', 100000), 100000)",
    "SELECT " + "repeat(" * 30 + "'xx'" + ", 2)" * 30,
    "SELECT lpad('x', 2000000000, 'y')",
    "SELECT printf('%2000000000d', 1)",
    "SELECT format('{:2000000000}', 1)",
    "SELECT list_resize([1], 2000000000)",
    "SELECT '" + "((((((((((" * 1000 + "'",
    "SELECT range(1000000000000)",
    "SELECT count(DISTINCT x) FROM generate_series(1, 1000000000000) r(x)",
    "SELECT unnest(range(1000000000))",
    "SELECT list(x) FROM range(1000000000) r(x)",
    "SELECT string_agg(x::VARCHAR, '') FROM range(1000000000) r(x)",
    "SELECT array_agg(t) FROM rows, range(1000000)",
    "SELECT x FROM range(1000000000) r(x) ORDER BY hash(x)",
    "WITH RECURSIVE r AS (SELECT 'x' AS x UNION ALL SELECT x || x FROM r) SELECT max(length(x)) FROM r",
    "WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM r) SELECT count(*) FROM r",
    "SELECT " + "(" * 900 + "1" + ")" * 900,
    "SELECT * FROM " + "(SELECT * FROM " * 300 + "rows" + ")" * 300,
    "SELECT 1" + " + 1" * 900,
    "SELECT '" + "x" * 19_000 + "'",
    "SELECT " + "9" * 19_000,
    "SELECT CAST(repeat('9', 10000000) AS BIGNUM)",
    "SELECT regexp_matches(repeat('a', 10000000), '((a?){100}){9}b')",
    "SELECT levenshtein(repeat('a', 1000000), repeat('b', 1000000))",
    "SELECT damerau_levenshtein(repeat('a', 100000), repeat('b', 100000))",
    "SELECT string_split(repeat('a', 100000000), '')",
    "SELECT CAST(repeat('9', 38) AS DECIMAL(38, 0)) * 10",
    "SELECT * FROM (PIVOT (SELECT x % 1000 AS k, x FROM range(10000000) r(x)) ON k IN (1, 2) USING list(x))",
    "SELECT list_transform(range(100000000), lambda x: repeat('y', 1000))",
    "SELECT * FROM rows a, rows b, rows c, rows d, rows e, rows f",
    "SELECT " + "[" * 60 + "range(1000)" + "]" * 60,
    "SELECT map(range(100000000), range(100000000))",
    ENDLESS,
]
TABLE = pd.DataFrame(
    {
        "_time": pd.to_datetime(np.arange(1000) * 10**9, utc=True),
        "v": np.arange(1000) * 1.5,
        "t": ["a", None, "é"] * 333 + ["a"],
        "n": pd.array([1, None] * 500, dtype="Int64"),
    }
)
PARENT = f"""
import sys
sys.path.insert(0, ".")
from nats_client.sql.apart import ask_apart
from nats_client.sql.bounded import Limits
from nats_client.sql.guard import check_select
ask_apart(check_select({ENDLESS!r}, ()), {{}}, limits=Limits(seconds=600))
"""


LIMITED = f"""
import sys
sys.path.insert(0, ".")
from nats_client.errors import SqlError
from nats_client.sql.apart import ask_apart
from nats_client.sql.guard import check_select
for sql in ("SELECT len(range(20000000)) AS n", {ENDLESS!r}):
    try:
        ask_apart(check_select(sql, (), apart=True), {{}})
    except SqlError as error:
        print(error)
"""


def test_its_limits_are_settings() -> None:
    """An operator sets the memory and the processor seconds of a query."""
    settings = {"LOOKBACK_SQL_MEMORY": "128 MiB", "LOOKBACK_SQL_SECONDS": "0.5"}
    said = subprocess.run(
        [sys.executable, "-c", LIMITED],
        env=os.environ | settings,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "more memory than one may have, 128 MiB." in said
    assert re.search(
        "took more than (0.5 s of processor time|3 s) and was stopped", said
    )  # on a busy machine: 3


def apart(sql: str, limits: Limits | None = None, stop: Stop | None = None) -> pa.Table:
    """The result over TABLE as `rows`, with functions whose value can be huge."""
    return ask_apart(check_select(sql, ("rows",), apart=True), {"rows": TABLE}, limits=limits, stop=stop)


def server() -> psutil.Process:
    """The process that starts the processes of queries."""
    apart("SELECT 1")
    (found,) = [
        each for each in psutil.Process().children() if "nats_client.sql.apart_process" in each.cmdline()
    ]
    return found


@contextlib.contextmanager
def running(sql: str = ENDLESS) -> Iterator[tuple[psutil.Process, list[Exception]]]:
    """The process of a query that never ends by itself, and the error that its caller gets once the block
    ends it."""
    parent, errors, stop = server(), list[Exception](), Stop()
    before = parent.children()

    def asked() -> None:
        try:
            apart(sql, Limits(seconds=600), stop)
        except SqlError as error:
            errors.append(error)

    thread = threading.Thread(target=asked)
    thread.start()
    until(lambda: any(each not in before for each in parent.children()))
    child = next(each for each in parent.children() if each not in before)
    try:
        yield child, errors
    finally:
        stop.stop()
        thread.join()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM rows",
        "SELECT t, avg(v) AS m, count(n) AS n FROM rows GROUP BY t ORDER BY t",
        "SELECT v FROM rows WHERE v < 0",
        "SELECT 1 AS x, 'é' AS t, NULL AS nothing, [1, 2] AS list, {'a': 1} AS struct",
        "SELECT time_bucket(INTERVAL 10 s, _time) AS time, max(n) AS n FROM rows GROUP BY ALL ORDER BY 1",
    ],
)
def test_the_same_as_in_this_process(sql: str) -> None:
    """A query has the same result, with the same types, in a process of its own and in this one."""
    assert apart(sql).equals(ask(sql, {"rows": TABLE}))


def test_a_mistake_says_what_and_where() -> None:
    """A mistake that only DuckDB finds is reported with its place and the nearest name, and a result above
    its limits is refused."""
    with pytest.raises(SqlColumnError, match="There is no column 'vv'") as error:
        apart("SELECT 1,\n  vv FROM rows")
    assert (error.value.line, error.value.column) == (2, 3)
    with pytest.raises(SqlError, match=r"There is no function 'maxx'\. Did you mean 'max'\?"):
        apart("SELECT maxx(v) FROM rows")
    with pytest.raises(SqlError, match="more than 10 rows"):
        apart("SELECT * FROM rows", Limits(rows=10))
    with pytest.raises(SqlError, match="MiB"):
        apart("SELECT * FROM range(1000000)", Limits(nbytes=1 << 20))


def outcome(sql: str) -> str:
    """How a query ends: the sentence of its error, or its number of rows."""
    try:
        return f"{apart(sql, Limits(seconds=0.5, rows=1000, nbytes=8 << 20)).num_rows} rows"
    except SqlError as error:
        return error.what


def test_nothing_takes_more_than_it_may() -> None:
    """Whatever the query, its process stays within its memory limit, and this process does not grow with it.
    The query ends with a result or one sentence, and the next query is answered."""
    parent, me = server(), psutil.Process()
    usual = parent.memory_info().rss
    before, most, done = me.memory_info().rss, [0, 0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            most[1] = max(most[1], me.memory_info().rss - before)
            with contextlib.suppress(psutil.Error):
                for child in parent.children():
                    with contextlib.suppress(psutil.Error):
                        most[0] = max(most[0], child.memory_info().rss - usual)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            said = dict(zip(CORPUS, pool.map(outcome, CORPUS), strict=True))
        with pytest.raises(SqlError, match="needs more memory than one may have, 512 MiB"):
            apart("SELECT repeat('x', 2000000000)")
    finally:
        done.set()
        watcher.join()
    for sql, what in said.items():
        assert 0 < len(what) < 300, sql
        assert "\n" not in what
        assert "ended by" not in what
    assert "took more than" in said[ENDLESS]
    assert most[0] < MEMORY + (64 << 20)
    assert most[1] < 128 << 20
    assert apart("SELECT count(*) AS n FROM rows").to_pylist() == [{"n": 1000}]


def test_killed_queries_take_no_others_along() -> None:
    """After kill -9 of a query's process, only its caller gets an error. Other queries continue, and the next
    one is answered."""
    with running() as (one, errors), running() as (other, others):
        one.kill()
        until(lambda: bool(errors))
        assert isinstance(errors[0], SqlEnded)
        assert "ended by somebody else" in str(errors[0])
        assert apart("SELECT 1 AS x").to_pylist() == [{"x": 1}]
        assert other.is_running()
        assert not others
    assert "was stopped" in str(others[0])


def test_without_its_parent_a_query_ends() -> None:
    """If the process that starts the others is killed, its queries end with an error, and the next query is
    answered. If the app is killed, none of its processes is left."""
    with running() as (child, errors):
        server().kill()
        until(lambda: bool(errors))
        assert isinstance(errors[0], SqlEnded)
        until(lambda: not alive(child))
    assert apart("SELECT 1 AS x").to_pylist() == [{"x": 1}]
    app = subprocess.Popen([sys.executable, "-c", PARENT])
    until(lambda: len(psutil.Process(app.pid).children(recursive=True)) == 2)
    left = psutil.Process(app.pid).children(recursive=True)
    app.kill()
    app.wait()
    until(lambda: not any(map(alive, left)))


def alive(process: psutil.Process) -> bool:
    """Whether it still runs."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_it_can_be_stopped() -> None:
    """A query ends when it is stopped, or at its limit of processor time, each with its own error."""
    stop = Stop()
    threading.Timer(0.3, stop.stop).start()
    start = time.monotonic()
    with pytest.raises(SqlError, match="was stopped"):
        apart(ENDLESS, Limits(seconds=600), stop)
    assert time.monotonic() - start < 300
    with pytest.raises(SqlError, match=r"took more than (1 s of processor time|6 s)"):
        apart(ENDLESS, Limits(seconds=1))


def test_a_stopped_process_does_not_hang_its_asker() -> None:
    """A query whose process is frozen, as by SIGSTOP, still ends when its caller stops it, and the process is
    killed."""
    with running() as (child, errors):
        child.suspend()
    assert "was stopped" in str(errors[0])
    until(lambda: not alive(child))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_its_process_can_reach_nothing() -> None:
    """The process of a query can open no file and no socket, and has no setting of the app in its
    environment. It has the lowest priority, and is the first to be killed when the machine runs out of
    memory."""
    os.environ["NATS_PASSWORD"] = "hidden"
    try:
        with running() as (child, _):
            until(lambda: child.nice() == 19)
            assert child.rlimit(psutil.RLIMIT_NOFILE) == (0, 0)
            assert child.rlimit(psutil.RLIMIT_AS)[0] < 8 << 30
            with open(f"/proc/{child.pid}/oom_score_adj") as score:  # noqa: PTH123
                assert score.read().strip() == "1000"
            assert "NATS_PASSWORD" not in server().environ()
            assert not [each for each in child.net_connections() if each.status != psutil.CONN_NONE]
    finally:
        del os.environ["NATS_PASSWORD"]
        server().send_signal(signal.SIGTERM)


def test_only_named_columns_travel() -> None:
    """A table too large to send to the process as a whole can still be queried for some of its columns."""
    wide = pd.DataFrame({f"c{i}": np.zeros(1_000_000) for i in range(150)})
    statement = check_select("SELECT sum(c7) AS s FROM rows", ("rows",))
    assert ask_apart(statement, {"rows": wide}).to_pylist() == [{"s": 0.0}]
    with pytest.raises(SqlError, match="At most 1,024 are read: name fewer columns"):
        ask_apart(check_select("SELECT * FROM rows", ("rows",)), {"rows": wide})
