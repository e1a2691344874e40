"""The archive, in DuckDB and in PostgreSQL: what it stores, and that SQL over it can only read.

Slow, because each test is run in two databases, one of which is a server.
"""

import contextlib
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from nats_client.environment import HISTORY_MEMORY
from nats_client.requests.content_types import JSON
from services.history import database as archive
from services.history.database import Database, DatabaseFailed, QueryCancelled, QueryRefused, Scalar
from services.history.databases import open_database
from services.history.duckdb_file import DuckDb
from services.history.placeholders import numbered, without_semicolon
from services.history.postgresql import PostgreSql
from services.history.query_process import QueryProcess, query_processes
from tests.archive import CREATED, fill, message, rows
from tests.postgres import ADMIN, PASSWORD, READER, PostgresServer
from tests.waiting import until

HEAVY = "SELECT count(*) AS n FROM history a, history b, history c WHERE (a.seq * b.seq + c.seq) % 7 = 3"


def test_message_is_stored_once(database: Database) -> None:
    """A message stored again makes no second row; the same sequence of a recreated stream does."""
    assert database.newest("S", CREATED) == 0
    assert database.insert([message(1), message(2)]) == 2
    assert database.insert([message(2), message(3)]) == 1
    anew = CREATED + timedelta(days=1)
    assert database.insert([message(1, created=anew)]) == 1
    assert database.newest("S", CREATED) == 3
    assert database.newest("S", anew) == 1
    assert database.newest("T", CREATED) == 0
    stored = rows(database, "SELECT seq FROM messages ORDER BY created, seq")
    assert [row["seq"] for row in stored] == [1, 2, 3, 1]


def test_row_is_what_was_stored(database: Database) -> None:
    """A row of the view has stream, sequence, time (UTC), subject and the payload's own text."""
    database.insert([message(7, b'{"b":1, "a": [1.50, null]}')])
    assert rows(database, "SELECT * FROM history") == [
        {
            "stream": "S",
            "seq": 7,
            "time": datetime(2026, 1, 1, 0, 0, 7, tzinfo=UTC),
            "subject": "s.1",
            "payload": '{"b":1, "a": [1.50, null]}',
        }
    ]


def test_payload_that_is_no_json_is_kept_as_bytes(database: Database) -> None:
    """The column payload is NULL, messages.raw has the bytes, and queries of payloads still work."""
    odd = [b"", b"\x00\xff", b"on", b"NaN", b'{"a":', b'"\xff"', b'"\\ud800"']
    database.insert([message(seq, payload) for seq, payload in enumerate([*odd, b'{"p": 5}'])])
    raw = rows(database, "SELECT raw FROM messages ORDER BY seq")
    assert [row["raw"] for row in raw] == [*odd, None]
    values = rows(database, "SELECT payload->>'p' AS p FROM history ORDER BY seq")
    assert [row["p"] for row in values] == [None] * len(odd) + ["5"]


def test_strange_json_breaks_no_query(database: Database) -> None:
    """JSON that one of the databases cannot read is stored in one column or the other, and breaks no
    query."""
    strange = [b'{"p": "\\u0000"}', b"1e999", b"[" * 900 + b"]" * 900, b"9" * 400, b'{"a":1,"a":2}', b"null"]
    database.insert([message(seq, payload) for seq, payload in enumerate(strange)])
    kept = rows(database, "SELECT payload, raw FROM messages ORDER BY seq")
    assert [row["raw"] or row["payload"].encode() for row in kept] == strange
    assert len(rows(database, "SELECT payload->>'p' AS p FROM history ORDER BY seq")) == len(strange)


REFUSED = [
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE messages",
    "INSERT INTO messages SELECT * FROM messages",
    "WITH gone AS (DELETE FROM messages RETURNING seq) SELECT * FROM gone",
    "SELECT 1) AS answer; DROP TABLE messages; SELECT (1",
    "SELECT * INTO other FROM messages",
    "CREATE TABLE other (n int)",
    "SET lock_timeout = 1",
    "COPY messages TO 'lookback-refused'",
    "COPY messages FROM '/etc/passwd'",
    "ATTACH 'lookback-refused' AS other",
    "INSTALL httpfs",
    "LOAD httpfs",
    "EXPLAIN ANALYZE DELETE FROM messages",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM checkpoint()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM statements",  # a variable of the program
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT rolpassword FROM pg_authid",
    "SELECT set_config('role', 'admin', true)",
    "SELECT set_config('transaction_read_only', 'off', true)",
    "SELECT query_to_xml('DELETE FROM messages', true, true, '')",
    "SELECT getenv('HOME')",
    "SELECT current_setting('data_directory')",
    "SELECT current_setting('temp_directory')",
    "PRAGMA database_list",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity",
    "SELECT pg_cancel_backend(1)",
    "SELECT query FROM pg_stat_activity",
    "SELECT \"pg_catalog\" . \"pg_notify\" ('a', 'b')",
    "SELECT U&\"pg\\005fnotify\"('a', 'b')",
    "SELECT E'a'\n'b\\'', pg_notify('a', 'b') AS c, ''",
    "SELECT pg_logical_emit_message(false, 'a', repeat('x', 1000))",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_try_advisory_xact_lock_shared(1)",
    "SELECT pg_export_snapshot()",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT nextval('a')",
    "SELECT set_config/**/('work_mem', '1GB', true)",
    "SELECT * FROM ts_stat('SELECT pg_notify(''a'', ''b'')::text::tsvector')",
    "SELECT * FROM messages FOR UPDATE",
    "NOTIFY a",
    "LISTEN a",
]


def test_nothing_but_reading(database: Database) -> None:
    """SQL that would write, reach files, or read secrets is refused, and the archive is unchanged."""
    fill(database, 3)
    answered = []
    for sql in REFUSED:
        with contextlib.suppress(QueryRefused):
            answered.append((sql, rows(database, sql)))
    assert not answered
    assert rows(database, "SELECT count(*) AS n FROM messages") == [{"n": 3}]
    assert not Path("lookback-refused").exists()


def test_refusal_is_in_the_databases_words(database: Database) -> None:
    """A refusal has the message of the database, or of the guard before it, on one line."""
    with pytest.raises(QueryRefused, match=r'^[^\n]*[Ss]yntax error at or near "selec"[^\n]*$'):
        rows(database, "selec 1")
    with pytest.raises(QueryRefused, match=r"^[^\n]*(no table 'nowhere'|nowhere[^\n]*does not exist)[^\n]*$"):
        rows(database, "SELECT *\nFROM nowhere")
    with pytest.raises(QueryRefused, match=r"there is none here|end of input"):
        rows(database, "")
    with pytest.raises(QueryRefused, match="Two columns have the name 'a'"):
        rows(database, "SELECT 1 AS a, 2 AS a")


@pytest.mark.parametrize("end", [";", ";;", " -- it's the end", ";\n-- $end", "/* ; /* nested */ $end */"])
def test_semicolon_and_comment_at_the_end(database: Database, end: str) -> None:
    """SQL may end with semicolons and comments."""
    with database.query(f"SELECT 1 AS n{end}", {}, 30) as query:
        assert query.count() == 1


def test_parameters_are_values(database: Database) -> None:
    """A parameter is never SQL, whatever its value, and `$name` in literals, comments and identifiers is no
    parameter."""
    fill(database, 10)
    sql = """SELECT seq FROM history WHERE subject = $subject AND seq < $below -- $comment it's
             AND '$literal' = '$literal' AND time >= $start ORDER BY seq"""
    values: dict[str, Scalar] = {"subject": "s.1", "below": 8, "start": "2026-01-01T00:00:03Z"}
    assert [row["seq"] for row in rows(database, sql, values)] == [4, 7]
    assert rows(database, sql, values | {"subject": "s.1' OR 'a' = 'a"}) == []
    given: dict[str, Scalar] = {
        "text": "$n '; DROP TABLE messages; --",
        "number": 1.5,
        "yes": True,
        "nothing": None,
    }
    got = rows(database, "SELECT $text AS text, $number AS number, $yes AS yes, $nothing AS nothing", given)
    assert got == [given]
    with pytest.raises(QueryRefused, match="below"):
        rows(database, sql, {"subject": "s.1", "start": "2026-01-01"})
    with pytest.raises(QueryRefused, match="arameter"):
        rows(database, "SELECT 1 AS n", {"excess": 1})


@pytest.mark.parametrize(
    ("sql", "expected", "names"),
    [
        ("$a+$b+$a", "$1+$2+$1", ["a", "b"]),
        ("'$a' || \"$b\" || $c", "'$a' || \"$b\" || $1", ["c"]),
        ("'it''s $a' $b", "'it''s $a' $1", ["b"]),
        (r"E'it\'s $a' $b", r"E'it\'s $a' $1", ["b"]),
        ("$$ $a $$ $x$ $b $$ $x$ $c", "$$ $a $$ $x$ $b $$ $x$ $1", ["c"]),
        ("a$b $c::int", "a$b $1::int", ["c"]),
        ("/* $a /* */ $b */ $c -- $d\n$e", "/* $a /* */ $b */ $1 -- $d\n$2", ["c", "e"]),
        ("$1 % 5 ? 'x", "$1 % 5 ? 'x", []),
    ],
)
def test_placeholders(sql: str, expected: str, names: list[str]) -> None:
    """Only parameters are replaced by numbers."""
    assert numbered(sql) == (expected, names)


def test_without_semicolon_keeps_the_rest() -> None:
    """Semicolons in literals and between statements are kept."""
    assert without_semicolon("SELECT ';'; -- ;") == "SELECT ';'"
    assert without_semicolon("SELECT 1; SELECT 2;") == "SELECT 1; SELECT 2"


def test_types(database: Database) -> None:
    """Columns have the same simple types from both databases."""
    database.insert([message(1)])
    with database.query(
        "SELECT seq, 1.5 AS decimal, sum(seq) OVER () AS sum, time, CAST('2026-01-01' AS date) AS day,"
        " CAST(1.5 AS double precision) AS double, subject, payload, raw, true AS yes FROM messages",
        {},
        30,
    ) as query:
        table = pa.Table.from_batches(query.batches(), query.schema)
    kinds = dict(zip(table.schema.names, table.schema.types, strict=True))
    assert kinds == {
        "seq": pa.int64(),
        "decimal": pa.float64(),
        "sum": pa.float64(),
        "time": pa.timestamp("us", "UTC"),
        "day": pa.date32(),
        "double": pa.float64(),
        "subject": pa.string(),
        "payload": pa.json_(),
        "raw": pa.binary(),
        "yes": pa.bool_(),
    }
    assert table.column("day").to_pylist() == [date(2026, 1, 1)]


def test_count_and_rows_are_of_one_snapshot(database: Database) -> None:
    """Messages stored after the count are not among the rows."""
    fill(database, 5)
    with database.query("SELECT seq FROM history", {}, 30) as query:
        assert query.count() == 5
        database.insert([message(6)])
        assert sum(batch.num_rows for batch in query.batches()) == 5
    assert len(rows(database, "SELECT seq FROM history")) == 6


def test_large_answer_is_not_held(database: Database) -> None:
    """Rows of a hundred megabytes arrive in batches, and only some of them are in memory at once."""
    sql = "SELECT n, repeat('x', 1000) || n AS text FROM generate_series(1, 100000) AS t(n)"
    memory = psutil.Process().memory_info
    with database.query(sql, {}, 30) as query:
        batches = query.batches()
        next(batches)
        before = memory().rss
        highest = max((memory().rss, sum(1 for _ in [batch])) for batch in batches)[0]
    assert highest - before < 40e6


def running(work: Callable[[], Any]) -> tuple[threading.Thread, list[Exception]]:
    """A thread that runs `work`, and the errors that it raised."""
    errors: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


def test_cancelled_query_ends_in_the_database(database: Database, postgres: PostgresServer) -> None:
    """A cancelled query ends in the database, which then answers the next one."""
    fill(database, 5000)
    query = database.query(HEAVY, {}, 60)
    query.open()
    thread, errors = running(query.count)
    time.sleep(0.3)
    query.cancel()
    until(lambda: query.cancel() or not thread.is_alive())
    assert [type(error) for error in errors] == [QueryCancelled]
    query.close()
    until(lambda: postgres.running_queries() == 0)
    assert rows(database, "SELECT 1 AS n") == [{"n": 1}]


def test_query_cancelled_before_it_began(database: Database) -> None:
    """A cancellation before the query starts takes effect."""
    query = database.query("SELECT 1 AS n", {}, 30)
    query.cancel()
    with pytest.raises(QueryCancelled):
        query.open()
    query.close()


def test_parts_by_size(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored messages come in parts limited by number and bytes, each once, and a large message is a part of
    its own."""
    sizes = [10, 10, 10, 50, 10, 60, 10]
    database.insert([message(n + 1, b"\xff" * size) for n, size in enumerate(sizes)])
    monkeypatch.setattr(archive, "MOST_BYTES", 40)
    parts: list[list[int]] = []
    after = None
    while found := database.stored("S", after):
        parts.append([len(each.payload) for each in found])
        after = found[-1].created, found[-1].seq
    assert parts == [[10, 10, 10], [50], [10], [60], [10]]
    assert database.stored("OTHER", None) == []


def test_tables(database: Database) -> None:
    """Each table and view is listed with columns, rows, first and last time."""
    fill(database, 3)
    tables = {table["name"]: table for table in database.tables(30)}
    assert set(tables) == {"history", "messages"}
    assert [column["name"] for column in tables["history"]["columns"]] == [
        "stream", "seq", "time", "subject", "payload",
    ]  # fmt: skip
    assert tables["history"]["rows"] == 3
    assert tables["history"]["first"] == datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert tables["history"]["last"] == datetime(2026, 1, 1, 0, 0, 3, tzinfo=UTC)


def test_file_in_use(tmp_path: Path) -> None:
    """A file that another process has open is an error that says so. Once that process ends, queries work."""
    file = tmp_path / "history.duckdb"
    database = DuckDb(file)
    fill(database, 1)
    database.close()
    hold = f"import duckdb, sys; held = duckdb.connect({str(file)!r}); print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(DatabaseFailed, match="is in use by another process"):
            rows(database, "SELECT 1 AS n")
        holder.kill()
    assert rows(database, "SELECT count(*) AS n FROM history") == [{"n": 1}]
    database.close()


def test_damaged_file(tmp_path: Path) -> None:
    """A file that is no database is an error, not an empty archive."""
    (tmp_path / "history.duckdb").write_bytes(b"no database" * 1000)
    with pytest.raises(DatabaseFailed, match="not a valid DuckDB"):
        rows(DuckDb(tmp_path / "history.duckdb"), "SELECT 1 AS n")


def test_mighty_role_is_refused(postgres: PostgresServer) -> None:
    """A role that may read the server's files answers no queries."""
    postgres.empty_database()
    with pytest.raises(DatabaseFailed, match="ordinary role"):
        rows(PostgreSql(postgres.dsn("archive", ADMIN)), "SELECT 1 AS n")


def test_functions_that_wait_or_count_are_refused_by_postgresql(postgres: PostgresServer) -> None:
    """Some functions affect only the query's own process in DuckDB, but other users in PostgreSQL, which
    refuses them. A value of the same name may be passed as a parameter."""
    database = PostgreSql(postgres.empty_database(), postgres.dsn("archive", READER))
    for sql in ("SELECT pg_sleep(0)", "SELECT txid_current()", "SELECT 'pg_notify' AS name"):
        with pytest.raises(QueryRefused, match="not open to queries"):
            rows(database, sql)
    assert rows(database, "SELECT $name AS name", {"name": "pg_notify"}) == [{"name": "pg_notify"}]
    assert rows(database, "SELECT random() < 2 AS yes") == [{"yes": True}]


@pytest.mark.parametrize(
    "right",
    [
        "GRANT INSERT ON messages TO clerk",
        "GRANT UPDATE (payload) ON messages TO clerk",
        "GRANT lookback TO clerk",
        "GRANT pg_signal_backend TO clerk",
        "ALTER ROLE clerk CREATEROLE",
    ],
)
def test_role_that_may_more_than_read_is_refused(postgres: PostgresServer, right: str) -> None:
    """A role that can write, or act on others, answers no queries, and the error names the setting for
    another role. Without that right it answers."""
    dsn = postgres.empty_database()
    fill(PostgreSql(dsn), 3)
    postgres.execute(f"CREATE ROLE clerk LOGIN PASSWORD '{PASSWORD}'")
    try:
        postgres.execute("GRANT SELECT ON messages TO clerk", "archive")
        database = PostgreSql(dsn, postgres.dsn("archive", "clerk"))
        assert rows(database, "SELECT count(*) AS n FROM messages") == [{"n": 3}]
        postgres.execute(right, "archive")
        with pytest.raises(DatabaseFailed, match=r"(can write|may act as).*LOOKBACK_HISTORY_READER_DSN"):
            rows(database, "SELECT 1 AS n")
        with pytest.raises(
            DatabaseFailed, match=r"can write (messages|history)"
        ):  # as the role that archives
            rows(PostgreSql(dsn), "SELECT 1 AS n")
    finally:
        postgres.execute("DROP OWNED BY clerk", "archive")
        postgres.execute("DROP ROLE clerk")


def test_written_while_others_read(tmp_path: Path) -> None:
    """A running query does not delay changes, and does not see them. Messages stored meanwhile, in any number
    of parts, are there for the next query, and no file is left beside the database."""
    database = DuckDb(tmp_path / "h.duckdb")
    fill(database, 5)
    processes = query_processes(database, HISTORY_MEMORY.default)
    for first in (6, 8):
        query = QueryProcess(processes, database, 30, "SELECT seq FROM history", kind=JSON, size=50, most=100)
        query.open()
        assert query.count() == first - 1
        database.insert([message(first)])
        database.insert([message(first + 1)])
        assert database.newest("S", CREATED) == first + 1
        chunks = iter(query.chunk, None)
        assert sum(chunk.rows for chunk in chunks) == first - 1
        query.close()
    processes.close()
    assert database.forget("S", CREATED + timedelta(seconds=3)) == 2
    assert [row["seq"] for row in rows(database, "SELECT seq FROM history ORDER BY seq")] == [*range(3, 10)]
    database.close()
    assert [file.name for file in tmp_path.iterdir()] == ["h.duckdb"]


def test_password_shows_nowhere(postgres: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    """Neither errors nor the log contain the password, if the login is refused, no server answers, or the URL
    cannot be read."""
    caplog.set_level(logging.DEBUG)
    wrong = postgres.empty_database().replace(PASSWORD, "not-this")
    for dsn in (wrong, "postgresql://lookback:not-this@127.0.0.1:1/archive", "postgres//lookback:not-this@x"):
        with pytest.raises(DatabaseFailed) as failure:
            rows(open_database(Path("unused"), dsn), "SELECT 1 AS n")
        assert "not-this" not in f"{failure.value} {failure.value.__cause__}"
    assert "not-this" not in caplog.text
    assert "password authentication failed" in caplog.text


def test_table_that_may_not_be_made(postgres: PostgresServer) -> None:
    """A role that may not create tables gets replies to queries, and an error that there is no history
    yet."""
    postgres.execute("CREATE DATABASE others TEMPLATE template0")
    database = PostgreSql(postgres.dsn("others"))
    assert rows(database, "SELECT 1 AS n") == [{"n": 1}]
    with pytest.raises(QueryRefused, match='relation "history" does not exist'):
        rows(database, "SELECT * FROM history")
