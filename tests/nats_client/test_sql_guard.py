"""SQL that is refused, SQL that is permitted, and the limits of a query."""

import time

import duckdb
import pandas as pd
import pytest

from nats_client.errors import SqlError
from nats_client.sql.bounded import Limits
from nats_client.sql.engine import Stop, ask
from nats_client.sql.guard import check_expression, check_select, connect

ORDERS = pd.DataFrame({"ms": [1.0, 2.0, 300.0], "region": ["eu", "us", "eu"], "disk.used": [1.0, 2.0, 3.0]})
SECRET = "of the process"

REFUSED = [
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM 'https://127.0.0.1/rows.parquet'",
    "SELECT * FROM read_parquet('https://127.0.0.1/rows.parquet')",
    "COPY (SELECT 1) TO 'rows.csv'",
    "ATTACH 'other.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET memory_limit = '10GB'",
    "RESET lock_configuration",
    "PRAGMA database_list",
    "SELECT current_setting('memory_limit')",
    "SELECT getvariable('x')",
    "SELECT version()",
    "SELECT pg_sleep(10)",
    "SELECT setseed(0.5)",
    "SELECT current_query()",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_tables",
    "SELECT * FROM pragma_version()",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('ORDERS')",
    "SELECT * FROM json_execute_serialized_sql('{}')",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM pg_catalog.pg_tables",
    "SELECT * FROM main.orders",
    "SELECT * FROM pg_class",
    "SELECT * FROM sqlite_master",
    "SHOW TABLES",
    "SHOW ALL TABLES",
    "SELECT * FROM (SHOW TABLES)",
    "DESCRIBE duckdb_tables",
    "SELECT * FROM ORDERS_OF_OTHERS",
    "SELECT * FROM SECRET",
    "WITH duckdb_tables AS (SELECT 1) SELECT * FROM duckdb_tables",
    "SELECT (WITH duckdb_tables AS (SELECT 1 x) SELECT x FROM duckdb_tables), * FROM duckdb_tables",
    "SELECT * FROM (WITH mine AS (SELECT 1) SELECT * FROM mine), mine",
    "SELECT 1; SELECT 2",
    "CREATE TABLE t AS SELECT 1",
    "INSERT INTO orders VALUES (1, 'x')",
    "DELETE FROM orders",
    "DROP TABLE orders",
    "CALL pragma_version()",
    "EXPLAIN SELECT 1",
    "EXPORT DATABASE 'x'",
    "SELECT range(1000000000)",
    "SELECT repeat('x', 1000000000)",
    "SELECT 'x'.repeat(1000000000)",
    "SELECT lpad('x', 1000000000, 'y')",
    "",
    "-- nothing",
    "SELECT \0",
]


@pytest.mark.parametrize("sql", REFUSED)
def test_a_statement_reads_what_it_was_given_and_nothing_else(sql: str) -> None:
    """Files, the network, extensions, settings, the catalog, variables and other tables are refused, with an
    error that reveals nothing of the machine."""
    with pytest.raises(SqlError) as error:
        ask(sql, {"orders": ORDERS})
    assert str(error.value).endswith((".", "."))
    assert "/root" not in str(error.value)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM ORDERS",
        "SET memory_limit = '10GB'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "LOAD httpfs",
        "ATTACH 'other.db'",
        "COPY (SELECT 1) TO 'rows.csv'",
    ],
)
def test_the_connection_alone_refuses_it_too(sql: str) -> None:
    """Even without the check of the statement, the connection reaches no file, network, extension, setting or
    variable."""
    with pytest.raises(duckdb.Error):
        connect().execute(sql).fetchall()


ANSWERED = [
    "SELECT count(*) FROM orders",
    "FROM Orders WHERE MS > 1",
    "WITH big AS (SELECT * FROM orders WHERE ms > 100) SELECT region, count(*) FROM big GROUP BY ALL",
    "WITH RECURSIVE r AS (SELECT 1 x UNION ALL SELECT x + 1 FROM r WHERE x < 5) SELECT * FROM r",
    "SELECT time_bucket(INTERVAL 10 s, TIMESTAMP '2026-01-01 00:00:03') t",
    "SELECT INTERVAL 5 m, 'INTERVAL 5 m', \"ms\" FROM orders -- INTERVAL 5 m",
    "FROM (PIVOT orders ON region IN ('eu', 'us') USING sum(ms))",
    "SELECT * FROM range(5) r(x) ASOF JOIN orders ON r.x >= orders.ms",
    "SELECT *, avg(ms) OVER (PARTITION BY region ORDER BY ms ROWS 5 PRECEDING) FROM orders QUALIFY true",
    "SELECT o.*, orders.region FROM orders o, orders",
    "SUMMARIZE orders",
    "SELECT orders FROM orders;",
    "SELECT list_sum([ms]) FROM orders ORDER BY ALL LIMIT 1",
    "VALUES (1), (2)",
    "SELECT upper(region)[1:1] FROM orders o JOIN orders p USING (region)",
]


@pytest.mark.parametrize("sql", ANSWERED)
def test_what_computes_is_answered(sql: str) -> None:
    """A SELECT from the given tables works, in all forms that DuckDB offers."""
    assert ask(sql, {"orders": ORDERS}).num_columns


def test_only_named_columns_are_read() -> None:
    """The check returns the columns that a statement may read, so that no others are converted."""
    assert check_select("SELECT avg(MS) FROM orders GROUP BY ALL", ["orders"]).columns == frozenset({"ms"})
    assert check_select("SELECT count(*) FROM orders", ["orders"]).columns == frozenset()
    assert check_select("SELECT * FROM orders", ["orders"]).columns is None
    assert check_select("SELECT o FROM orders o", ["orders"]).columns is None
    assert check_select("SELECT 1 FROM orders a JOIN orders b USING (region)", ["orders"]).columns == (
        frozenset({"region"})
    )


@pytest.mark.parametrize(
    ("sql", "place", "says"),
    [
        ("SELECT msx FROM orders", (1, 8), "Did you mean 'ms'?"),
        ("SELECT ms\nFROM ordres", (2, 6), "Did you mean 'orders'?"),
        ("SELECT ms FROM orders WHERE", (1, 23), "yntax error"),
        ("SELECT ms FRM orders", (1, 15), "yntax error"),
        ("SELECT summ(ms) FROM orders", (1, 8), "Did you mean 'sum'?"),
        ("SELECT INTERVAL 10 s, 'ü', msx FROM orders", (1, 28), "There is no column 'msx'"),
        ("SELECT sum(region) FROM orders", (1, 8), "sum(VARCHAR)"),
        ("SELECT $n", (None, None), "parameter $n has no value"),
        ("SELECT region::INT FROM orders", (1, 14), "Could not convert"),
        ("SELECT at FROM t", (1, 11), 'near "FROM". If \'at\' is a name here, write "at" in double quotes.'),
        ("SELECT n, desc FROM t", (1, 11), "If 'desc' is a name here"),
        ("SELECT n FRM t x", (1, 14), 'near "t".'),
        ("SELECT disk.used FROM orders", (1, 8), 'Write "disk.used" in double quotes.'),
        ("SELECT ms, orders.disk.used FROM orders", (1, 12), 'Write "disk.used" in double quotes.'),
    ],
)
def test_a_mistake_says_what_and_where(sql: str, place: tuple[int | None, int | None], says: str) -> None:
    """The error contains the mistake, its line and column, and the nearest name."""
    with pytest.raises(SqlError) as error:
        ask(sql, {"orders": ORDERS})
    assert says in str(error.value)
    assert (error.value.line, error.value.column) == place


def test_parameters_are_bound() -> None:
    """A parameter is a value and never part of the statement."""
    found = ask(
        "SELECT count(*) n FROM orders WHERE region = $region",
        {"orders": ORDERS},
        {"region": "eu' OR 'x'='x"},
    )
    assert found.to_pylist() == [{"n": 0}]
    found = ask("SELECT count(*) n FROM orders WHERE region = $region", {"orders": ORDERS}, {"region": "eu"})
    assert found.to_pylist() == [{"n": 2}]


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "ms > 1) FROM (SELECT 1",
        "1, 2",
        "ms > (SELECT 1)",
        "sum(ms) > 1",
        "row_number() OVER () > 1",
        "*",
        "ms = $x",
        "ms > 1 ORDER BY 1",
        "ms > 1) --",
        "current_setting('x')",
        "1; SELECT 1",
        "1 AS x",
        "ALL 1",
        "repeat('x', 1000000)",
    ],
)
def test_an_expression_is_one_of_a_row(expression: str) -> None:
    """In an expression, subqueries, aggregates, windows, stars, parameters and second statements are
    refused."""
    with pytest.raises(SqlError):
        check_expression(expression)


def test_an_expression_names_its_columns() -> None:
    """The check of an expression returns the columns that it reads, and its errors have a place."""
    assert check_expression("level = 'error' AND Ms > 100").columns == frozenset({"level", "ms"})
    with pytest.raises(SqlError) as error:
        check_expression("ms > > 1")
    assert (error.value.line, error.value.column) == (1, 6)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range + b.range = 3",
        "WITH RECURSIVE r AS (SELECT 1 x UNION ALL SELECT x + 1 FROM r) SELECT count(*) FROM r",
    ],
)
def test_an_endless_query_ends(sql: str) -> None:
    """A query ends at its limit of processor time, or at once when it is stopped, each with its own error."""
    with pytest.raises(SqlError, match=r"took more than (0\.3 s of processor time|1\.8 s)"):
        ask(sql, {}, limits=Limits(seconds=0.3))
    stop = Stop()
    stop.stop()
    start = time.monotonic()
    with pytest.raises(SqlError, match="was stopped"):
        ask(sql, {}, limits=Limits(seconds=600), stop=stop)
    assert time.monotonic() - start < 300
    assert ask("SELECT 1 x", {}).to_pylist() == [{"x": 1}]


def test_a_result_has_bounds() -> None:
    """A query that exceeds its limit of rows, bytes or memory ends with an error."""
    with pytest.raises(SqlError, match=r"more than 10 rows"):
        ask("SELECT * FROM range(11)", {}, limits=Limits(rows=10))
    with pytest.raises(SqlError, match="MiB"):
        ask("SELECT * FROM range(1000000)", {}, limits=Limits(nbytes=1 << 20))
    with pytest.raises(SqlError, match="memory"):
        ask("SELECT list(x) FROM range(100000000) r(x)", {}, limits=Limits(seconds=120))
