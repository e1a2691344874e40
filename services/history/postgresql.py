"""The archive in PostgreSQL: one connection per query, in a read-only transaction.

One role archives; another, read-only role answers queries. Permissions are not enough: any role may end its
other connections, see their queries, lock, or write to the write-ahead log. So SQL is refused if any word in
it is the name of a function with side effects, or begins with `pg_`.
"""

import contextlib
import logging
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg
import pyarrow as pa
from psycopg import conninfo
from psycopg.adapt import AdaptersMap
from psycopg.types import bool as pg_bool
from psycopg.types import datetime as pg_datetime
from psycopg.types import none as pg_none
from psycopg.types import numeric as pg_numeric
from psycopg.types import string as pg_string

from nats_client.environment import HISTORY_DSN, HISTORY_READER_DSN
from services.history.database import (
    MOST_STORED,
    Database,
    DatabaseFailed,
    Message,
    Place,
    Query,
    QueryCancelled,
    QueryRefused,
    Scalar,
    check_names,
    fitting,
    one_line,
)
from services.history.placeholders import numbered, without_semicolon

log = logging.getLogger(__name__)

BATCH_BYTES = 512 * 1024  # size of a batch, estimated from the rows before
MOST_ROWS = 5_000  # in one batch
CONNECT_TIMEOUT = 5  # seconds, a whole number
CANCEL_TIMEOUT = 2.0  # seconds for the server to accept a cancellation
GONE_AFTER = 1000  # ms until the server notices that the client is gone
IDLE_TIMEOUT = 15 * 60 * 1000  # ms that a transaction may wait for its next step
LOCK_TIMEOUT = 5000  # ms
WORK_MEMORY = "32MB"  # per sort or hash; larger ones go to disk

_TABLE = """
    SELECT pg_advisory_xact_lock(hashtext('lookback messages'));
    CREATE TABLE IF NOT EXISTS messages (
        stream text, created timestamptz, seq bigint, time timestamptz NOT NULL, subject text NOT NULL,
        payload json, raw bytea, PRIMARY KEY (stream, created, seq)
    );
    CREATE INDEX IF NOT EXISTS messages_time ON messages (time);
    CREATE OR REPLACE VIEW history AS SELECT stream, seq, time, subject, payload FROM messages;
"""
_INSERT: LiteralString = """
    INSERT INTO messages SELECT * FROM unnest(
        %s::text[], %s::timestamptz[], %s::bigint[], %s::timestamptz[], %s::text[], %s::json[], %s::bytea[]
    ) ON CONFLICT DO NOTHING
"""
_REPLACE: LiteralString = """
    UPDATE messages AS m SET payload = n.payload, raw = n.raw FROM unnest(
        %s::text[], %s::timestamptz[], %s::bigint[], %s::timestamptz[], %s::text[], %s::json[], %s::bytea[]
    ) AS n (stream, created, seq, time, subject, payload, raw)
    WHERE m.stream = n.stream AND m.created = n.created AND m.seq = n.seq
    AND (m.payload::text IS DISTINCT FROM n.payload::text OR m.raw IS DISTINCT FROM n.raw)
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
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
# Classes of SQLSTATE that the query did not cause: connection, resources, operator, system, internal
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_FAILED = ("08", "53", "57", "58", "F0", "XX")
_CANCELLED = "57014"
_WORDS = (re.compile(r"\w+"), re.compile(r"[\w$]+"))
_PREFIXES = ("pg_", "lo_", "txid_", "dblink")
_HARMLESS = {"pg_catalog", "pg_typeof", "pg_column_size", "pg_size_pretty"}
# Volatile but without side effects; the last two are keywords of TABLESAMPLE
_VOLATILE = (
    "clock_timestamp current_query gen_random_uuid random random_normal setseed timeofday uuidv4 uuidv7"
    " bernoulli system"
)
# PostgreSQL's predefined roles that can only read data
# https://www.postgresql.org/docs/current/predefined-roles.html
_READING_ROLES = "pg_read_all_data pg_database_owner"
_TOO_MIGHTY = """
    (SELECT 'may act as ' || quote_ident(rolname) FROM pg_roles WHERE pg_has_role(oid, 'MEMBER') AND (
        rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls
        OR (rolname LIKE 'pg\\_%' AND rolname <> ALL(string_to_array($1, ' '))))
    ORDER BY rolsuper DESC LIMIT 1)
    UNION ALL
    SELECT 'can write ' || c.oid::regclass FROM pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'f', 'm')
    AND c.relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND (
        pg_has_role(c.relowner, 'MEMBER') OR has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
        OR has_any_column_privilege(c.oid, 'INSERT, UPDATE'))
    LIMIT 1"""


def _adapters() -> AdaptersMap:
    """How a query's values are converted: types not listed here arrive as PostgreSQL's own text."""
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
pa.array([])  # the first array makes pyarrow load pandas: now, and not in the process of each query


class PostgreSql(Database):
    """A PostgreSQL, version 14 or newer; one connection per query."""

    def __init__(self, dsn: str, reader_dsn: str | None = None) -> None:
        """DSNs like postgresql://user:password@host/database. Queries use the reader's, if there is one.
        Raises DatabaseFailed if one cannot be parsed."""
        self._options = _options(dsn, HISTORY_DSN.variable)
        self._reader_options = (
            _options(reader_dsn, HISTORY_READER_DSN.variable) if reader_dsn else self._options
        )
        self.name = "PostgreSQL"
        self._has_table = False
        self._creating = threading.Lock()

    @contextlib.contextmanager
    def lent(self) -> Iterator[dict[str, Any]]:
        if not self._has_table:
            with translated():
                self.connect().close()
        yield {"dsn": conninfo.make_conninfo(**self._reader_options)}

    def connect_to_read(self) -> psycopg.Connection[Any]:
        """A new connection for a query, as the read-only role."""
        return psycopg.connect(autocommit=True, context=_ADAPTERS, **self._reader_options)

    def connect(self) -> psycopg.Connection[Any]:
        """A new connection for writing, in autocommit mode. Creates the table if needed."""
        connection = psycopg.connect(autocommit=True, **self._options)
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
        return self._write(messages, _INSERT)

    def replace(self, messages: Sequence[Message]) -> int:
        return self._write(messages, _REPLACE)

    def _write(self, messages: Sequence[Message], sql: LiteralString) -> int:
        # An escaped NUL is valid JSON, but PostgreSQL fails on every access to such a value
        json = [None if text is None or "\\u0000" in text else text for text in (m.json for m in messages)]
        with translated(), self.connect() as connection:
            return connection.execute(
                sql,
                [
                    [m.stream for m in messages],
                    [m.created for m in messages],
                    [m.seq for m in messages],
                    [m.time for m in messages],
                    [m.subject.replace("\0", "\N{REPLACEMENT CHARACTER}") for m in messages],
                    json,
                    [
                        None if text is not None and m.value is None else m.payload
                        for m, text in zip(messages, json, strict=True)
                    ],
                ],
            ).rowcount

    def stored(self, stream: str, after: Place | None) -> list[Message]:
        created, seq = after or (_EPOCH, 0)
        with translated(), self.connect() as connection:
            keys = connection.execute(
                "SELECT created, seq, coalesce(octet_length(raw), octet_length(payload::text), 0)"
                " FROM messages WHERE stream = %s AND (created, seq) > (%s, %s)"
                " ORDER BY created, seq LIMIT %s",
                [stream, created, seq, MOST_STORED],
            ).fetchall()
            if not keys:
                return []
            last = keys[fitting([size for _, _, size in keys]) - 1]
            rows = connection.execute(
                "SELECT created, seq, time, subject, coalesce(raw, convert_to(payload::text, 'UTF8'))"
                " FROM messages WHERE stream = %s AND (created, seq) > (%s, %s)"
                " AND (created, seq) <= (%s, %s) ORDER BY created, seq",
                [stream, created, seq, last[0], last[1]],
            ).fetchall()
        return [Message(stream, *row) for row in rows]

    def newest(self, stream: str, created: datetime) -> int:
        with translated(), self.connect() as connection:
            row = connection.execute(
                "SELECT coalesce(max(seq), 0) FROM messages WHERE stream = %s AND created = %s",
                [stream, created],
            ).fetchone()
        return int(row[0]) if row else 0

    def forget(self, stream: str, before: datetime) -> int:
        with translated(), self.connect() as connection:
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
            # The connection can still read other tables
            log.warning("%s: cannot create the table of messages: %s", self.name, error.diag.message_primary)


def _options(dsn: str, variable: str) -> dict[str, Any]:
    try:
        options: dict[str, Any] = dict(conninfo.conninfo_to_dict(dsn))
    except psycopg.Error:
        raise DatabaseFailed(
            f"{variable} cannot be parsed. Write it like postgresql://user:password@host:5432/database."
        ) from None
    options.setdefault("connect_timeout", CONNECT_TIMEOUT)
    options.setdefault("application_name", "lookback-history")
    return options


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise psycopg's errors as ours."""
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
            # The message names hosts, users and addresses, so it goes to the log only
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
        if connection is not None and not connection.closed:
            with contextlib.suppress(psycopg.Error):
                connection.cancel_safe(timeout=CANCEL_TIMEOUT)

    def open(self) -> None:
        if missing := set(self._names) - set(self._parameters):
            raise QueryRefused(f"No value was given for the parameter {min(missing)!r}.")
        if excess := set(self._parameters) - set(self._names):
            raise QueryRefused(f"There is no parameter {min(excess)!r} in the SQL.")
        with self._step():
            self._connection = connection = self._database.connect_to_read()
            with contextlib.suppress(psycopg.errors.InvalidParameterValue):  # not on every system
                connection.execute(b"SET client_connection_check_interval = %d" % GONE_AFTER)
            connection.execute(
                (
                    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
                    "SET LOCAL TIME ZONE 'UTC'; SET LOCAL standard_conforming_strings = on;"
                    "SET LOCAL cursor_tuple_fraction = 1; SET LOCAL jit = off;"
                    f"SET LOCAL work_mem = '{WORK_MEMORY}'; SET LOCAL max_parallel_workers_per_gather = 0;"
                    f"SET LOCAL lock_timeout = {LOCK_TIMEOUT};"
                    f"SET LOCAL idle_in_transaction_session_timeout = {IDLE_TIMEOUT};"
                    f"SET LOCAL statement_timeout = {self._milliseconds}"
                ).encode()
            )
            self._check_role(connection)
            self._check_words(connection)
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
        with translated():
            yield

    def _execute(self, *sql: str) -> Any:
        assert self._connection is not None
        values = [self._parameters[name] for name in self._names]
        # Prepared, because PostgreSQL then refuses a second statement
        return psycopg.RawCursor(self._connection).execute("".join(sql).encode(), values, prepare=True)

    def _fetch(self, rows: int) -> Any:
        assert self._connection is not None
        return self._connection.execute(b"FETCH FORWARD %d FROM answer" % rows)

    def _check_role(self, connection: psycopg.Connection[Any]) -> None:
        too_mighty = psycopg.RawCursor(connection).execute(_TOO_MIGHTY, [_READING_ROLES]).fetchone()
        if too_mighty:
            log.error("The role that answers queries %s.", too_mighty[0])
            raise DatabaseFailed(
                f"The role for queries {too_mighty[0]}, so it is not used. Create an ordinary role that can "
                f"only read, and name it in {HISTORY_READER_DSN.variable}: docs/history.md has the SQL."
            )

    def _check_words(self, connection: psycopg.Connection[Any]) -> None:
        """Refuse SQL that names anything with side effects on others. Strings and comments count, because
        only PostgreSQL's parser knows for sure where they begin and end."""
        text = self._sql.lower()
        words = {word for pattern in _WORDS for word in pattern.findall(text)}
        name = next((w for w in sorted(words - _HARMLESS) if w.startswith(_PREFIXES)), None)
        if name is None:
            found = psycopg.RawCursor(connection).execute(
                "SELECT proname FROM pg_proc WHERE provolatile = 'v'"
                " AND proname = ANY(string_to_array($1, ' '))"
                " AND proname <> ALL(string_to_array($2, ' ')) LIMIT 1",
                [" ".join(words), _VOLATILE],
            )
            row = found.fetchone()
            name = row[0] if row else None
        if name is not None:
            raise QueryRefused(
                f"{name!r} is not open to queries: it may affect others or reveal their data. If it is only "
                "a value, pass it as a parameter."
            )
        if 'u&"' in text:
            raise QueryRefused('Names with Unicode escapes (U&"...") are not open to queries.')
