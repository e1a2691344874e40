"""The archive in DuckDB: one file.

DuckDB lets one process write a file, or any number read it. So the file is open for writing only until a
query has to read it. If the archiver has to write while a query reads, it writes to a copy that then replaces
the file: the query continues reading the old file, and neither waits for the other.
https://duckdb.org/docs/stable/connect/concurrency
"""

import contextlib
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from nats_client.errors import SqlError
from nats_client.sql.guard import CONFIG, check_select
from services.history.database import (
    MOST_STORED,
    Database,
    DatabaseFailed,
    Message,
    Place,
    Query,
    QueryCancelled,
    QueryRefused,
    QueryTooLarge,
    Scalar,
    check_names,
    fitting,
    one_line,
)
from services.history.placeholders import without_semicolon

log = logging.getLogger(__name__)

MEMORY = 512 << 20  # bytes of the process that writes; larger sorts and groups go to disk
DISK = "1GB"  # temporary files per process
BATCH = 512  # rows; few, because a row may have a megabyte
GAP = 1.0  # seconds that a write waits for running queries, while new queries wait for the write
CHANGE_TIMEOUT = 30.0  # seconds that a query waits for a write to end
ROOM = 64 * 1024**2  # free bytes that a write needs besides a copy of the file

_TABLE = """
    CREATE TABLE IF NOT EXISTS messages (
        stream TEXT, created TIMESTAMPTZ, seq BIGINT, time TIMESTAMPTZ NOT NULL, subject TEXT NOT NULL,
        payload JSON, raw BLOB, PRIMARY KEY (stream, created, seq)
    );
    CREATE VIEW IF NOT EXISTS history AS SELECT stream, seq, time, subject, payload FROM messages;
"""
# DuckDB rejects some valid JSON (1e999), and one message must not block the others
_NEW = """
    CREATE OR REPLACE TEMP VIEW new AS SELECT stream, created, seq, time, subject,
    TRY_CAST(payload AS JSON) AS payload,
    CASE WHEN decoded OR TRY_CAST(payload AS JSON) IS NULL THEN raw END AS raw FROM new_messages
"""
_INSERT = "INSERT INTO messages SELECT * FROM new ON CONFLICT DO NOTHING"
_REPLACE = """
    UPDATE messages AS m SET payload = new.payload, raw = new.raw FROM new
    WHERE m.stream = new.stream AND m.created = new.created AND m.seq = new.seq
    AND (m.payload IS DISTINCT FROM new.payload OR m.raw IS DISTINCT FROM new.raw)
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_THEIRS = (
    duckdb.Error,
    pa.ArrowException,
    MemoryError,
    OSError,
    ValueError,
    TypeError,
    OverflowError,
)
_NAMES = "SELECT table_name FROM information_schema.tables WHERE table_catalog = current_database()"
_SCRATCH = ".query-"
_FAILURES = ("IO Error", "INTERNAL Error", "FATAL Error", "Connection Error")


class DuckDb(Database):
    """DuckDB in one file. No other process may write that file meanwhile."""

    def __init__(self, file: Path, *, scratch: Path | None = None, memory: int = MEMORY) -> None:
        """With `scratch`, a directory for temporary files, the archive is opened for reading only. `memory`:
        bytes that DuckDB may have."""
        self._memory = memory
        self.name = f"DuckDB in {file.name}"
        self._file = file
        self._scratch = scratch
        self._state = threading.Condition()
        self._instance: duckdb.DuckDBPyConnection | None = None
        self._used = 0  # open connections of this process
        self._lent = 0  # number of processes it is lent to
        self._closed_to_loans = False
        self._is_whole = False
        self._writing = threading.RLock()

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A new connection."""
        with self._state:
            if self._instance is None:
                self._instance = self._open(self._file)
            return self._instance.cursor()

    @contextlib.contextmanager
    def lent(self) -> Iterator[dict[str, Any]]:
        with self.translated(), self._state:
            if not self._state.wait_for(lambda: not self._closed_to_loans and not self._used, CHANGE_TIMEOUT):
                raise DatabaseFailed("The archive is being written, which takes long. Try again later.")
            if self._lent == 0:
                if self._instance is None and not (self._is_whole and self._file.exists()):
                    self._instance = self._open(self._file)  # creates tables, and replays a leftover log
                    for left in self._file.parent.glob(f"{self._file.name}{_SCRATCH}*"):  # after a kill -9
                        shutil.rmtree(left, ignore_errors=True)
                self._close()
                self._is_whole = True
            self._lent += 1
        scratch: str | None = None
        try:
            with self.translated():
                scratch = tempfile.mkdtemp(prefix=f"{self._file.name}{_SCRATCH}", dir=self._file.parent)
            yield {"file": str(self._file), "scratch": scratch}
        finally:
            if scratch is not None:
                shutil.rmtree(scratch, ignore_errors=True)
            with self._state:
                self._lent -= 1
                self._state.notify_all()

    def query(self, sql: str, parameters: Mapping[str, Scalar], seconds: float) -> Query:
        return _DuckDbQuery(self, sql, parameters)

    def own_query(self, sql: str, seconds: float) -> Query:
        return _DuckDbQuery(self, sql, {}, checked=False)

    def insert(self, messages: Sequence[Message]) -> int:
        return self._write(messages, _INSERT)

    def replace(self, messages: Sequence[Message]) -> int:
        return self._write(messages, _REPLACE)

    def _write(self, messages: Sequence[Message], sql: str) -> int:
        rows = pa.table(
            {
                "stream": [m.stream for m in messages],
                "created": pa.array([m.created for m in messages], pa.timestamp("us", "UTC")),
                "seq": pa.array([m.seq for m in messages], pa.int64()),
                "time": pa.array([m.time for m in messages], pa.timestamp("us", "UTC")),
                "subject": [m.subject for m in messages],
                "payload": pa.array([m.json for m in messages], pa.string()),
                "decoded": pa.array([m.value is not None for m in messages], pa.bool_()),
                "raw": pa.array([m.payload for m in messages], pa.binary()),
            }
        )
        with self._changing() as connection:
            connection.register("new_messages", rows)
            connection.execute(_NEW)
            connection.execute(sql)
            changed = connection.fetchone()
            connection.unregister("new_messages")
        return int(changed[0]) if changed else 0

    def stored(self, stream: str, after: Place | None) -> list[Message]:
        created, seq = after or (_EPOCH, 0)
        with self._speaking() as connection:
            connection.execute(
                "SELECT epoch_us(created), seq, coalesce(octet_length(raw), strlen(payload), 0) FROM messages"
                " WHERE stream = $1 AND (created > $2 OR created = $2 AND seq > $3)"
                " ORDER BY created, seq LIMIT $4",
                [stream, created, seq, MOST_STORED],
            )
            keys = connection.fetchall()
            if not keys:
                return []
            last = keys[fitting([size for _, _, size in keys]) - 1]
            connection.execute(
                "SELECT epoch_us(created), seq, epoch_us(time), subject, coalesce(raw, encode(payload)) FROM"
                " messages WHERE stream = $1 AND (created > $2 OR created = $2 AND seq > $3)"
                " AND (created < $4 OR created = $4 AND seq <= $5) ORDER BY created, seq",
                [stream, created, seq, _time(last[0]), last[1]],
            )
            return [
                Message(stream, _time(born), number, _time(stored), subject, payload)
                for born, number, stored, subject, payload in connection.fetchall()
            ]

    def newest(self, stream: str, created: datetime) -> int:
        with self._speaking() as connection:
            connection.execute(
                "SELECT coalesce(max(seq), 0) FROM messages WHERE stream = ? AND created = ?",
                [stream, created],
            )
            newest = connection.fetchone()
        return int(newest[0]) if newest else 0

    def forget(self, stream: str, before: datetime) -> int:
        with self._changing() as connection:
            connection.execute("DELETE FROM messages WHERE stream = ? AND time < ?", [stream, before])
            deleted = connection.fetchone()
        return int(deleted[0]) if deleted else 0

    def close(self) -> None:
        with self._state:
            self._close()

    def _close(self) -> None:
        instance, self._instance = self._instance, None
        if instance is not None:
            instance.close()

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection for reading."""
        with self._writing, self.translated():
            with self._state:
                own = self._open(self._file, only_read=True) if self._lent else None
                self._used += own is None
            connection = own or self.connect()
            try:
                yield connection
            finally:
                connection.close()
                with self._state:
                    self._used -= own is None
                    self._state.notify_all()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection for writing: to the file itself if nobody reads it, else to a copy."""
        with self._writing:
            with self._state:
                self._closed_to_loans = True
                try:
                    in_place = self._state.wait_for(lambda: not self._lent, GAP)
                    self._used += in_place
                finally:
                    self._closed_to_loans = False
                    self._state.notify_all()
            if not in_place:
                with self._changing_a_copy() as connection:
                    yield connection
                return
            try:
                with self.translated():
                    connection = self.connect()
                    try:
                        yield connection
                    finally:
                        connection.close()
            finally:
                with self._state:
                    self._used -= 1
                    self._state.notify_all()

    @contextlib.contextmanager
    def _changing_a_copy(self) -> Iterator[duckdb.DuckDBPyConnection]:
        copy, log_of_copy = (self._file.with_name(f"{self._file.name}.new{end}") for end in ("", ".wal"))
        try:
            with self.translated():
                size, free = self._file.stat().st_size, shutil.disk_usage(self._file.parent).free
                if free < size + ROOM:
                    raise DatabaseFailed(
                        f"Queries are reading {self._file.name}, and the disk has no room for a copy to "
                        f"write to: the file has {size:,} bytes, {free:,} are free."
                    )
                if self._file.with_name(f"{self._file.name}.wal").exists():  # a copy would lack its changes
                    raise DatabaseFailed(
                        f"Queries are reading {self._file.name} after a crash. Try again later."
                    )
                for left in (copy, log_of_copy):
                    left.unlink(missing_ok=True)
                os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
                shutil.copyfile(self._file, copy)
                connection = self._open(copy)
                try:
                    yield connection
                finally:
                    connection.close()
                if log_of_copy.exists():  # the copy would lack its changes
                    raise DatabaseFailed(f"{self._file.name} could not be written completely.")
                with self._state:
                    copy.replace(self._file)
        finally:
            for left in (copy, log_of_copy):
                left.unlink(missing_ok=True)

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Raise DuckDB's errors, and those of the guard, as ours."""
        try:
            yield
        except SqlError as error:
            raise QueryRefused(one_line(str(error))) from None
        except _THEIRS as error:
            words = str(error).partition("\n\n")[0]  # hints and the position follow
            if isinstance(error, MemoryError) or words.startswith("Out of Memory Error"):
                raise QueryTooLarge(f"DuckDB: {one_line(words)}.") from None
            if words.startswith("INTERRUPT"):
                raise QueryCancelled("The query was cancelled.") from None
            if words.startswith(("FATAL", "INTERNAL")):  # unusable until it is opened again
                self._is_whole = False
                with contextlib.suppress(duckdb.Error):
                    self.close()
            if words.startswith(_FAILURES):
                log.warning("%s: %s", self.name, words)
                if "Could not set lock" in words:
                    words = f"the file {self._file.name} is in use by another process. Stop that process."
                raise DatabaseFailed(f"DuckDB: {one_line(words)}") from None
            raise QueryRefused(one_line(words)) from None

    def _open(self, file: Path, *, only_read: bool = False) -> duckdb.DuckDBPyConnection:
        only_read = only_read or self._scratch is not None
        scratch = {"temp_directory": str(self._scratch)} if self._scratch else {}
        connection = duckdb.connect(
            file,
            read_only=only_read,
            config={
                **CONFIG,
                "memory_limit": f"{self._memory >> 20}MiB",
                "max_temp_directory_size": DISK,
                "threads": "2",
                **scratch,
            },
        )
        try:
            connection.execute("SET GLOBAL TimeZone = 'UTC'")
            if not only_read:
                connection.execute(_TABLE)
            connection.execute("SET lock_configuration = true")
        except BaseException:
            connection.close()
            raise
        return connection


class _DuckDbQuery(Query):
    def __init__(
        self, database: DuckDb, sql: str, parameters: Mapping[str, Scalar], *, checked: bool = True
    ) -> None:
        """`checked`: the SQL comes from a caller, so it is checked before it runs."""
        super().__init__()
        self._checked = checked
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
            sql = self._sql
            if self._checked:
                names = connection.execute(_NAMES).fetchall()
                sql = check_select(sql, [name for (name,) in names], apart=True).sql
            connection.execute("BEGIN TRANSACTION READ ONLY")
            self._relation = connection.sql(without_semicolon(sql), params=self._parameters)
            self._json = {i for i, kind in enumerate(self._relation.types) if str(kind) == "JSON"}
            check_names(self._relation.columns)
            self.schema = self._plain(self._relation.limit(0).to_arrow_table()).schema

    def count(self) -> int:
        with self._step():
            return int(self._relation.aggregate("count(*)").fetchall()[0][0])

    def batches(self) -> Iterator[pa.RecordBatch]:
        with self._step():
            self._reader = self._relation.to_arrow_reader(BATCH)
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
        with self._database.translated():
            yield

    def _plain(self, table: pa.Table) -> pa.Table:
        """`table` with simple types only, see Query.schema."""
        fields = [
            pa.field(field.name, pa.json_() if i in self._json else _plain(field.type))
            for i, field in enumerate(table.schema)
        ]
        return table.cast(pa.schema(fields))


def _time(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_decimal(kind):
        return pa.float64()
    return kind.value_type if pa.types.is_dictionary(kind) else kind
