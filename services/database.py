"""The archive of messages in DuckDB (a file) or PostgreSQL, and SQL over it that can only read.

Table `messages`: one row per stored message, named by stream, time of the stream's creation and sequence; so
a stream that is deleted and made again does not collide with its former self. View `history`, for people:
stream, seq, time (UTC), subject, payload (JSON; NULL where it is none, the bytes are in messages.raw then).

SQL of strangers runs in a transaction that cannot write, and is left by a rollback. DuckDB has no way to
files, network, extensions and Python's variables. PostgreSQL has what the role may read: a role that may
read the server's files is refused.
"""

import contextlib
import logging
import os
import re
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import duckdb
import orjson
import psycopg
import pyarrow as pa
from psycopg import conninfo
from psycopg.adapt import AdaptersMap
from psycopg.types import bool as pg_bool
from psycopg.types import datetime as pg_datetime
from psycopg.types import none as pg_none
from psycopg.types import numeric as pg_numeric
from psycopg.types import string as pg_string

from nats_client.errors import LookbackError
from services.placeholders import numbered, without_semicolon

DSN = "LOOKBACK_HISTORY_DSN"
"""The environment variable that names a PostgreSQL; it holds a password, so it is shown nowhere."""

Scalar = str | int | float | bool | None
"""What a parameter's value may be."""

MEMORY = "512MB"  # of DuckDB, all queries together; beyond it sorts and groups go to disk
DISK = "4GB"  # of DuckDB's temporary files
DUCKDB_BATCH = 512  # rows; small, since a row may have a megabyte
BATCH_BYTES = 512 * 1024  # what PostgreSQL is asked for at once, going by the rows before
MOST_ROWS = 5_000  # in one batch
CONNECT_TIMEOUT = 5  # seconds, whole ones
CANCEL_TIMEOUT = 2.0  # seconds that PostgreSQL has to take a cancellation

log = logging.getLogger(__name__)


class DatabaseError(LookbackError):
    """Base of what goes wrong with the archive."""


class QueryRefused(DatabaseError):  # noqa: N818 - an outcome
    """The SQL, or a parameter, is refused: in the database's own words, on one line."""


class QueryCancelled(DatabaseError):  # noqa: N818 - an outcome
    """The query was cancelled."""


class DatabaseFailed(DatabaseError):  # noqa: N818 - an outcome
    """The database cannot be opened or reached, or gave up. Trying again later may help."""


@dataclass(frozen=True)
class Message:
    """One message of a stream."""

    stream: str
    created: datetime
    """When the stream was created, by the server's clock, with a time zone: tells its incarnations apart."""
    seq: int
    time: datetime
    """When the server stored it, with a time zone; microseconds are kept."""
    subject: str
    payload: bytes


class Query(ABC):
    """One SELECT: open() it, count() its rows, read its batches(), close() it.

    Each of them may block and may be called in another thread than the one before; cancel() may be called
    at any time in any thread. They raise QueryRefused, QueryCancelled and DatabaseFailed.
    """

    schema: pa.Schema
    """Names and types of the columns, once it is open. Times are timestamp[us] (UTC where they have a zone),
    decimals double, JSON is arrow.json, what Arrow has no type for is text."""

    def __init__(self) -> None:
        self._cancelled = False

    def __enter__(self) -> Self:
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cancel(self) -> None:
        """End what runs, and let nothing start any more. Call it until what runs has ended."""
        self._cancelled = True

    @abstractmethod
    def open(self) -> None:
        """Let the database check it; nothing has run yet, but there is a schema."""

    @abstractmethod
    def count(self) -> int:
        """How many rows there will be, in the same snapshot of the data as the rows themselves."""

    @abstractmethod
    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows."""

    @abstractmethod
    def close(self) -> None:
        """Leave nothing of it in the database. May be called at any time, and again."""


class Database(ABC):
    """An archive. Nothing is opened or connected to before it is used, and what has failed is tried anew."""

    name: str
    """What it is, for people; without credentials."""

    @abstractmethod
    def query(self, sql: str, parameters: Mapping[str, Scalar], seconds: float) -> Query:
        """A query of the one SELECT in `sql`, with `$name` bound to `parameters["name"]`.

        `seconds` bounds each of its steps where the database can do that by itself, for when nobody is
        left to cancel.
        """

    @abstractmethod
    def insert(self, messages: Sequence[Message]) -> int:
        """Store messages; how many of them were new. Creates the table. Raises DatabaseFailed."""

    @abstractmethod
    def newest(self, stream: str, created: datetime) -> int:
        """The highest sequence stored of that stream's incarnation, 0 when there is none."""

    @abstractmethod
    def forget(self, stream: str, before: datetime) -> int:
        """Delete what the server had stored of the stream before that time; how many messages it was."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files."""

    def tables(self, seconds: float) -> list[dict[str, Any]]:
        """Each table and view: name, columns (name, type), rows, first and last time (UTC; None where it
        has no column `time`)."""
        columns = self._rows(
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = current_schema() AND table_catalog = current_database()"
            " ORDER BY table_name, ordinal_position",
            seconds,
        )
        tables: dict[str, list[dict[str, Any]]] = {}
        for row in columns:
            column = {"name": row["column_name"], "type": row["data_type"].lower()}
            tables.setdefault(row["table_name"], []).append(column)
        return [
            {"name": name, "columns": tables[name], **self._extent(name, tables[name], seconds)}
            for name in tables
        ]

    def _extent(self, table: str, columns: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
        timed = any(c["name"] == "time" and c["type"].startswith("timestamp") for c in columns)
        times = ', min("time") AS first, max("time") AS last' if timed else ""
        quoted = table.replace('"', '""')
        none = {"rows": None, "first": None, "last": None}
        try:
            return none | self._rows(f'SELECT count(*) AS rows{times} FROM "{quoted}"', seconds)[0]  # noqa: S608
        except QueryRefused:  # the role may not read it
            return none

    def _rows(self, sql: str, seconds: float) -> list[dict[str, Any]]:
        with self.query(sql, {}, seconds) as query:
            rows: list[dict[str, Any]] = pa.Table.from_batches(query.batches(), query.schema).to_pylist()
            return rows


def open_database(file: Path, dsn: str | None) -> Database:
    """PostgreSQL where there is a DSN, else DuckDB in `file`. Raises DatabaseFailed on an unreadable DSN."""
    return PostgreSql(dsn) if dsn else DuckDb(file)


# -- DuckDB ------------------------------------------------------------------------------------------------

_DUCKDB_TABLE = """
    CREATE TABLE IF NOT EXISTS messages (
        stream TEXT, created TIMESTAMPTZ, seq BIGINT, time TIMESTAMPTZ NOT NULL, subject TEXT NOT NULL,
        payload JSON, raw BLOB, PRIMARY KEY (stream, created, seq)
    );
    CREATE VIEW IF NOT EXISTS history AS SELECT stream, seq, time, subject, payload FROM messages;
"""
# The table functions that only compute, or look at the catalog. Others read files, or change the database's
# state from within a SELECT (checkpoint, register_external_resource, …), or hide further SQL (query).
_TABLE_FUNCTIONS = {
    "duckdb_columns", "duckdb_functions", "duckdb_keywords", "duckdb_tables", "duckdb_types", "duckdb_views",
    "generate_series", "json_each", "json_tree", "range", "repeat", "repeat_row", "summary", "unnest",
}  # fmt: skip
_FAILURES = ("IO Error", "INTERNAL Error", "FATAL Error", "Out of Memory Error", "Connection Error")


class DuckDb(Database):
    """DuckDB in one file, which no other process may open between first use and close()."""

    def __init__(self, file: Path) -> None:
        self.name = f"DuckDB in {file.name}"
        self._file = file
        self._opening = threading.Lock()
        self._instance: duckdb.DuckDBPyConnection | None = None

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A connection of one's own."""
        with self._opening:
            if self._instance is None:
                self._instance = self._open()
            return self._instance.cursor()

    def query(self, sql: str, parameters: Mapping[str, Scalar], seconds: float) -> Query:
        return _DuckDbQuery(self, sql, parameters)

    def insert(self, messages: Sequence[Message]) -> int:
        rows = pa.table(
            {
                "stream": [m.stream for m in messages],
                "created": pa.array([m.created for m in messages], pa.timestamp("us", "UTC")),
                "seq": pa.array([m.seq for m in messages], pa.int64()),
                "time": pa.array([m.time for m in messages], pa.timestamp("us", "UTC")),
                "subject": [m.subject for m in messages],
                "payload": pa.array([_json(m.payload) for m in messages], pa.string()),
                "raw": pa.array([m.payload for m in messages], pa.binary()),
            }
        )
        with self._speaking() as connection:
            connection.register("new_messages", rows)
            # DuckDB's idea of JSON differs in corners (1e999), and one message must not hold up the others
            connection.execute(
                "INSERT INTO messages SELECT stream, created, seq, time, subject, TRY_CAST(payload AS JSON),"
                " CASE WHEN TRY_CAST(payload AS JSON) IS NULL THEN raw END FROM new_messages"
                " ON CONFLICT DO NOTHING"
            )
            stored = connection.fetchone()
            connection.unregister("new_messages")
        return int(stored[0]) if stored else 0

    def newest(self, stream: str, created: datetime) -> int:
        with self._speaking() as connection:
            connection.execute(
                "SELECT coalesce(max(seq), 0) FROM messages WHERE stream = ? AND created = ?",
                [stream, created],
            )
            newest = connection.fetchone()
        return int(newest[0]) if newest else 0

    def forget(self, stream: str, before: datetime) -> int:
        with self._speaking() as connection:
            connection.execute("DELETE FROM messages WHERE stream = ? AND time < ?", [stream, before])
            deleted = connection.fetchone()
        return int(deleted[0]) if deleted else 0

    def close(self) -> None:
        with self._opening:
            instance, self._instance = self._instance, None
            if instance is not None:
                instance.close()

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self.told():
            connection = self.connect()
            try:
                yield connection
            finally:
                connection.close()

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Turns DuckDB's errors into ours."""
        try:
            yield
        except (duckdb.Error, pa.ArrowException, OSError, ValueError, TypeError, OverflowError) as error:
            words = str(error).partition("\n\n")[0]  # then come hints and the place
            if words.startswith("INTERRUPT"):
                raise QueryCancelled("The query was cancelled.") from None
            if words.startswith(("FATAL", "INTERNAL")):  # of no use any more until it is opened anew
                with contextlib.suppress(duckdb.Error):
                    self.close()
            if words.startswith(_FAILURES):
                log.warning("%s: %s", self.name, words)
                if "Could not set lock" in words:
                    words = f"the file {self._file.name} is in use by another process. End that one."
                raise DatabaseFailed(f"DuckDB: {_one_line(words)}") from None
            raise QueryRefused(_one_line(words)) from None

    def _open(self) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect(
            self._file,
            config={
                "enable_external_access": "false",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "allow_community_extensions": "false",
                "python_enable_replacements": "false",  # or FROM reads this program's variables
                "memory_limit": MEMORY,
                "max_temp_directory_size": DISK,
                "threads": "2",
            },
        )
        try:
            connection.execute("SET GLOBAL TimeZone = 'UTC'")
            connection.execute(_DUCKDB_TABLE)
            connection.execute("SET lock_configuration = true")
        except BaseException:
            connection.close()
            raise
        return connection


class _DuckDbQuery(Query):
    def __init__(self, database: DuckDb, sql: str, parameters: Mapping[str, Scalar]) -> None:
        super().__init__()
        self._database = database
        self._sql = sql
        self._parameters = dict(parameters)
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._reader: pa.RecordBatchReader | None = None

    def cancel(self) -> None:
        super().cancel()
        if self._connection is not None:
            with contextlib.suppress(duckdb.Error):
                self._connection.interrupt()

    def open(self) -> None:
        with self._step():
            self._connection = connection = self._database.connect()
            _check_select(connection, self._sql)
            connection.execute("BEGIN TRANSACTION READ ONLY")
            self._relation = connection.sql(without_semicolon(self._sql), params=self._parameters)
            self._json = {i for i, kind in enumerate(self._relation.types) if str(kind) == "JSON"}
            _named_apart(self._relation.columns)
            self.schema = self._plain(self._relation.limit(0).to_arrow_table()).schema

    def count(self) -> int:
        with self._step():
            return int(self._relation.aggregate("count(*)").fetchall()[0][0])

    def batches(self) -> Iterator[pa.RecordBatch]:
        with self._step():
            self._reader = self._relation.to_arrow_reader(DUCKDB_BATCH)
        while True:
            with self._step():
                try:
                    batch = self._reader.read_next_batch()
                except StopIteration:
                    return
                plain = self._plain(pa.Table.from_batches([batch]))
            yield from plain.to_batches()

    def close(self) -> None:
        with contextlib.suppress(duckdb.Error, pa.ArrowException, OSError):
            if self._reader is not None:
                self._reader.close()
        with contextlib.suppress(duckdb.Error):
            if self._connection is not None:
                self._connection.close()

    @contextlib.contextmanager
    def _step(self) -> Iterator[None]:
        if self._cancelled:
            raise QueryCancelled("The query was cancelled.")
        with self._database.told():
            yield

    def _plain(self, table: pa.Table) -> pa.Table:
        """With simple types only: see Query.schema."""
        fields = [
            pa.field(field.name, pa.json_() if i in self._json else _plain(field.type))
            for i, field in enumerate(table.schema)
        ]
        return table.cast(pa.schema(fields))


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_decimal(kind):
        return pa.float64()
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _check_select(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    statements = connection.extract_statements(sql)
    kinds = [statement.type.name for statement in statements]
    if kinds != ["SELECT"]:
        given = f"this is {' and '.join(kinds)}" if kinds else "there is none here"
        raise QueryRefused(f"Only one SELECT is answered; {given}.")
    row = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
    assert row is not None
    parsed = orjson.loads(row[0])
    if parsed["error"]:
        raise QueryRefused(_one_line(parsed["error_message"]))
    nodes = [parsed]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            if node.get("type") == "TABLE_FUNCTION":
                name = node["function"]["function_name"]
                if name.lower() not in _TABLE_FUNCTIONS:
                    raise QueryRefused(f"The table function {name!r} is not open to queries.")
            nodes.extend(node.values())
        elif isinstance(node, list):
            nodes.extend(node)


# -- PostgreSQL --------------------------------------------------------------------------------------------

_POSTGRESQL_TABLE = """
    SELECT pg_advisory_xact_lock(hashtext('lookback messages'));
    CREATE TABLE IF NOT EXISTS messages (
        stream text, created timestamptz, seq bigint, time timestamptz NOT NULL, subject text NOT NULL,
        payload json, raw bytea, PRIMARY KEY (stream, created, seq)
    );
    CREATE INDEX IF NOT EXISTS messages_time ON messages (time);
    CREATE OR REPLACE VIEW history AS SELECT stream, seq, time, subject, payload FROM messages;
"""
_ARROW = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "oid": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "numeric": pa.float64(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "bytea": pa.binary(),
    "json": pa.json_(),
    "jsonb": pa.json_(),
}
_ARROW_BY_OID = {psycopg.postgres.types[name].oid: kind for name, kind in _ARROW.items()}
# Classes of SQLSTATE that are not the question's fault: connection, resources, operator, system, internal
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_FAILED = ("08", "53", "57", "58", "F0", "XX")
_CANCELLED = "57014"


def _adapters() -> AdaptersMap:
    """How a query's values travel: what is not named here comes as PostgreSQL's own text."""
    adapters = AdaptersMap(types=psycopg.postgres.types)
    adapters.register_dumper(str, pg_string.StrDumperUnknown)
    adapters.register_dumper(int, pg_numeric.IntDumper)
    adapters.register_dumper(float, pg_numeric.FloatDumper)
    adapters.register_dumper(bool, pg_bool.BoolDumper)
    adapters.register_dumper(type(None), pg_none.NoneDumper)
    adapters.register_loader(0, pg_string.TextLoader)
    adapters.register_loader("bool", pg_bool.BoolLoader)
    for name in ("int2", "int4", "int8", "oid"):
        adapters.register_loader(name, pg_numeric.IntLoader)
    for name in ("float4", "float8", "numeric"):
        adapters.register_loader(name, pg_numeric.FloatLoader)
    adapters.register_loader("date", pg_datetime.DateLoader)
    adapters.register_loader("timestamp", pg_datetime.TimestampLoader)
    adapters.register_loader("timestamptz", pg_datetime.TimestamptzLoader)
    adapters.register_loader("bytea", pg_string.ByteaLoader)
    return adapters


_ADAPTERS = _adapters()


class PostgreSql(Database):
    """A PostgreSQL, from version 14 on; a connection for each query."""

    def __init__(self, dsn: str) -> None:
        """`dsn` as postgresql://user:password@host/database. Raises DatabaseFailed when it cannot be read."""
        try:
            self._options: dict[str, Any] = dict(conninfo.conninfo_to_dict(dsn))
        except psycopg.Error:
            raise DatabaseFailed(
                f"{DSN} is not readable. Write it like postgresql://user:password@host:5432/database."
            ) from None
        self._options.setdefault("connect_timeout", CONNECT_TIMEOUT)
        self._options.setdefault("application_name", "lookback-history")
        self.name = "PostgreSQL"
        self._has_table = False
        self._creating = threading.Lock()

    def connect(self, adapters: AdaptersMap | None = None) -> psycopg.Connection[Any]:
        """A connection of one's own, without a transaction, in a database that has the table."""
        connection = psycopg.connect(autocommit=True, context=adapters, **self._options)
        try:
            with self._creating:
                if not self._has_table:
                    self._create(connection)
                    self._has_table = True
        except BaseException:
            connection.close()
            raise
        return connection

    def query(self, sql: str, parameters: Mapping[str, Scalar], seconds: float) -> Query:
        return _PostgreSqlQuery(self, sql, parameters, seconds)

    def insert(self, messages: Sequence[Message]) -> int:
        # An escaped NUL is JSON, but PostgreSQL fails whenever it looks into such a value
        json = [None if b"\\u0000" in m.payload else _json(m.payload) for m in messages]
        with told(), self.connect() as connection:
            return connection.execute(
                "INSERT INTO messages SELECT * FROM unnest(%s::text[], %s::timestamptz[], %s::bigint[],"
                " %s::timestamptz[], %s::text[], %s::json[], %s::bytea[]) ON CONFLICT DO NOTHING",
                [
                    [m.stream for m in messages],
                    [m.created for m in messages],
                    [m.seq for m in messages],
                    [m.time for m in messages],
                    [m.subject.replace("\0", "\N{REPLACEMENT CHARACTER}") for m in messages],
                    json,
                    [m.payload if text is None else None for m, text in zip(messages, json, strict=True)],
                ],
            ).rowcount

    def newest(self, stream: str, created: datetime) -> int:
        with told(), self.connect() as connection:
            row = connection.execute(
                "SELECT coalesce(max(seq), 0) FROM messages WHERE stream = %s AND created = %s",
                [stream, created],
            ).fetchone()
        return int(row[0]) if row else 0

    def forget(self, stream: str, before: datetime) -> int:
        with told(), self.connect() as connection:
            return connection.execute(
                "DELETE FROM messages WHERE stream = %s AND time < %s", [stream, before]
            ).rowcount

    def close(self) -> None:
        pass

    def _create(self, connection: psycopg.Connection[Any]) -> None:
        try:
            if connection.execute("SELECT to_regclass('history')").fetchone() == (None,):
                with connection.transaction():
                    connection.execute(_POSTGRESQL_TABLE)
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction) as error:
            # Enough to read what else is there
            log.warning("%s: the table of messages cannot be made: %s", self.name, error.diag.message_primary)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Turns psycopg's errors into ours."""
    try:
        yield
    except psycopg.Error as error:
        words = _one_line(error.diag.message_primary or str(error))
        if error.diag.message_hint:
            words += f" ({_one_line(error.diag.message_hint)})"
        if error.sqlstate == _CANCELLED:
            raise QueryCancelled("The query was cancelled.") from None
        if isinstance(error, psycopg.DataError) and error.sqlstate is None:  # a date after the year 9999
            raise QueryRefused(words) from None
        if error.sqlstate is None or error.sqlstate.startswith(_FAILED):
            log.warning("PostgreSQL: %s", words)
            if error.sqlstate is not None:
                raise DatabaseFailed(f"PostgreSQL: {words}") from None
            # The words are of hosts, users and addresses: for the log only
            what = "refuses the connection" if "FATAL" in words else "does not answer"
            raise DatabaseFailed(f"PostgreSQL {what}; the history service's log says why.") from None
        raise QueryRefused(words) from None


class _PostgreSqlQuery(Query):
    def __init__(
        self, database: PostgreSql, sql: str, parameters: Mapping[str, Scalar], seconds: float
    ) -> None:
        super().__init__()
        self._database = database
        self._sql, self._names = numbered(without_semicolon(sql))
        self._parameters = parameters
        self._milliseconds = int(seconds * 1000)
        self._connection: psycopg.Connection[Any] | None = None

    def cancel(self) -> None:
        super().cancel()
        connection = self._connection
        if connection is None or connection.closed:
            return
        try:
            connection.cancel_safe(timeout=CANCEL_TIMEOUT)
        except psycopg.Error:
            _cut(connection)

    def open(self) -> None:
        if missing := set(self._names) - set(self._parameters):
            raise QueryRefused(f"No value was given for the parameter {min(missing)!r}.")
        if excess := set(self._parameters) - set(self._names):
            raise QueryRefused(f"There is no parameter {min(excess)!r} in the SQL.")
        with self._step():
            self._connection = connection = self._database.connect(_ADAPTERS)
            connection.execute(
                b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
                b"SET LOCAL TIME ZONE 'UTC'; SET LOCAL standard_conforming_strings = on;"
                b"SET LOCAL cursor_tuple_fraction = 1; SET LOCAL statement_timeout = %d" % self._milliseconds
            )
            self._check_role(connection)
            self._execute("DECLARE answer NO SCROLL CURSOR FOR ", self._sql)
            described = self._fetch(0).description or []
            _named_apart([column.name for column in described])
            self.schema = pa.schema(
                [(column.name, _ARROW_BY_OID.get(column.type_code, pa.string())) for column in described]
            )

    def count(self) -> int:
        with self._step():
            counted = self._execute("SELECT count(*) FROM (\n", self._sql, "\n) AS answer").fetchone()
        return int(counted[0])

    def batches(self) -> Iterator[pa.RecordBatch]:
        size = 100
        while True:
            with self._step():
                rows = self._fetch(size).fetchall()
                if not rows:
                    return
                columns = zip(*rows, strict=True) if self.schema else ()
                arrays = [
                    pa.array(values, kind) for values, kind in zip(columns, self.schema.types, strict=True)
                ]
                batch = pa.record_batch(arrays, schema=self.schema)
            yield batch
            size = max(1, min(MOST_ROWS, 2 * size, BATCH_BYTES * len(rows) // max(1, batch.nbytes)))

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()  # which rolls back

    @contextlib.contextmanager
    def _step(self) -> Iterator[None]:
        if self._cancelled:
            raise QueryCancelled("The query was cancelled.")
        with told():
            yield

    def _execute(self, *sql: str) -> Any:
        assert self._connection is not None
        values = [self._parameters[name] for name in self._names]
        # Prepared: then PostgreSQL itself takes no second statement
        return psycopg.RawCursor(self._connection).execute("".join(sql).encode(), values, prepare=True)

    def _fetch(self, rows: int) -> Any:
        assert self._connection is not None
        return self._connection.execute(b"FETCH FORWARD %d FROM answer" % rows)

    def _check_role(self, connection: psycopg.Connection[Any]) -> None:
        too_mighty = connection.execute(
            "SELECT rolname FROM pg_roles WHERE pg_has_role(oid, 'MEMBER') AND (rolsuper OR rolname IN"
            " ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program'))"
        ).fetchone()
        if too_mighty:
            log.error(
                "The role of %s may act as %r, so SQL could read the server's files.", DSN, too_mighty[0]
            )
            raise DatabaseFailed(
                f"The role of {DSN} may read the server's files, so it is not used for queries: "
                "give it an ordinary role."
            )


def _cut(connection: psycopg.Connection[Any]) -> None:
    """End the conversation with a server that no longer answers: who waits for it gets an error."""
    with (
        contextlib.suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(connection.fileno())) as own,
    ):
        own.shutdown(socket.SHUT_RDWR)


# -- both --------------------------------------------------------------------------------------------------


def _json(payload: bytes) -> str | None:
    """The payload as it is where it is JSON."""
    try:
        orjson.loads(payload)
        return payload.decode()
    except ValueError:
        return None


def _named_apart(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise QueryRefused(f"Two columns have the name {name!r}. Name them apart with AS.")


def _one_line(words: str) -> str:
    return re.sub(r"\s+", " ", words).strip()
