"""The archive in PostgreSQL: a connection for each query, a transaction that only reads."""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import conninfo
from psycopg.adapt import AdaptersMap
from psycopg.types import bool as pg_bool
from psycopg.types import datetime as pg_datetime
from psycopg.types import none as pg_none
from psycopg.types import numeric as pg_numeric
from psycopg.types import string as pg_string

from services.database import (
    DSN,
    Database,
    DatabaseFailed,
    Message,
    Query,
    QueryCancelled,
    QueryRefused,
    Scalar,
    check_names,
    json_text,
    one_line,
)
from services.placeholders import numbered, without_semicolon

log = logging.getLogger(__name__)

BATCH_BYTES = 512 * 1024  # what is asked for at once, going by the rows before
MOST_ROWS = 5_000  # in one batch
CONNECT_TIMEOUT = 5  # seconds, whole ones
CANCEL_TIMEOUT = 2.0  # seconds that it has to take a cancellation

_TABLE = """
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
        json = [None if b"\\u0000" in m.payload else json_text(m.payload) for m in messages]
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
                    connection.execute(_TABLE)
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction) as error:
            # Enough to read what else is there
            log.warning("%s: the table of messages cannot be made: %s", self.name, error.diag.message_primary)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Turns psycopg's errors into ours."""
    try:
        yield
    except psycopg.Error as error:
        words = one_line(error.diag.message_primary or str(error))
        if error.diag.message_hint:
            words += f" ({one_line(error.diag.message_hint)})"
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
            check_names([column.name for column in described])
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
