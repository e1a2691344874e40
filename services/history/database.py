"""The archive of messages in DuckDB (a file) or PostgreSQL, and SQL over it that can only read.

Table `messages`: one row per stored message, named by stream, time of the stream's creation and sequence; so
a stream that is deleted and made again does not collide with its former self. View `history`, for people:
stream, seq, time (UTC), subject, payload (JSON; NULL where it is none, the bytes are in messages.raw then).

SQL of strangers runs in a transaction that cannot write, and is left by a rollback. DuckDB has no way to
files, network, extensions and Python's variables. PostgreSQL has what the role may read: a role that may
write, or read the server's files, is refused, and so are functions with effects on others.

The service that archives has the database open to write; each query is answered by another process
(query_process.py), to which it lends the archive.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import orjson
import pyarrow as pa

from nats_client.errors import LookbackError

DSN = "LOOKBACK_HISTORY_DSN"
"""The environment variable that names a PostgreSQL; it holds a password, so it is shown nowhere."""

READER_DSN = "LOOKBACK_HISTORY_READER_DSN"
"""The same database, for a role that can only read, which answers queries; by default that of DSN."""

Scalar = str | int | float | bool | None
"""What a parameter's value may be."""


class DatabaseError(LookbackError):
    """Base of what goes wrong with the archive."""


class QueryRefused(DatabaseError):  # noqa: N818 - an outcome
    """The SQL, or a parameter, is refused: in the database's own words, on one line."""


class QueryTooLarge(DatabaseError):  # noqa: N818 - an outcome
    """The query, or a row of its answer, needs more than it may have."""


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
    def lent(self) -> AbstractContextManager[dict[str, Any]]:
        """Let another process read the archive meanwhile; yields what open_archive() there needs. What is
        stored meanwhile is in the archive that is lent next. Raises DatabaseFailed."""

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


def json_text(payload: bytes) -> str | None:
    """The payload as it is where it is JSON."""
    try:
        orjson.loads(payload)
        return payload.decode()
    except ValueError:
        return None


def check_names(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise QueryRefused(f"Two columns have the name {name!r}. Name them apart with AS.")


def one_line(words: str) -> str:
    return re.sub(r"\s+", " ", words).strip()
