"""The archive of messages in DuckDB (a file) or PostgreSQL, and read-only SQL over it.

Table `messages`: one row per stored message. Its key is the stream, the stream's creation time and the
sequence, so a stream that is deleted and created again does not collide with the old one. View `history`, for
people: stream, seq, time (UTC), subject and payload. The payload is stored as JSON if it is JSON, or as the
JSON value that a decoder read from it; else it is NULL. In the last two cases messages.raw has the bytes.

Untrusted SQL runs in a read-only transaction that is rolled back. DuckDB has no access to files, network,
extensions or Python's variables. In PostgreSQL, SQL can read whatever the role may read. A role that may
write, or may read the server's files, is refused, and so are functions that affect others.

The archiving service has the database open for writing. Each query runs in another process
(query_process.py), to which the service lends the archive.
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

Scalar = str | int | float | bool | None
"""The types of a parameter's value."""


Place = tuple[datetime, int]
"""The place of a stored message: when its stream was created, and its sequence."""

MOST_STORED = 5_000
MOST_BYTES = 16 * 1024 * 1024


class DatabaseError(LookbackError):
    """Base class of errors of the archive."""


class QueryRefused(DatabaseError):  # noqa: N818 - an outcome
    """The SQL or a parameter is refused. The text is the database's own message, on one line."""


class QueryTooLarge(DatabaseError):  # noqa: N818 - an outcome
    """The query, or one row of its result, exceeds a limit."""


class QueryCancelled(DatabaseError):  # noqa: N818 - an outcome
    """The query was cancelled."""


class DatabaseFailed(DatabaseError):  # noqa: N818 - an outcome
    """The database cannot be opened or reached, or failed. A retry may help."""


@dataclass(frozen=True)
class Message:
    """One message of a stream."""

    stream: str
    created: datetime
    """When the stream was created, by the server's clock, with a time zone. Distinguishes streams of the same
    name."""
    seq: int
    time: datetime
    """When the server stored it, with a time zone, to the microsecond."""
    subject: str
    payload: bytes
    value: str | None = None
    """The decoded payload as JSON; None if it was not decoded, or if the payload itself is that JSON."""

    @property
    def json(self) -> str | None:
        """The JSON stored as its payload: `value`, else the payload itself; None if that is not JSON."""
        return json_text(self.payload) if self.value is None else self.value


class Query(ABC):
    """One SELECT: open() it, count() its rows, read its batches(), close() it.

    Each method may block, and may be called from another thread than the one before. cancel() may be called
    at any time from any thread. They raise QueryRefused, QueryCancelled and DatabaseFailed.
    """

    schema: pa.Schema
    """Names and types of the columns, once the query is open. Times are timestamp[us] (UTC if they have a
    zone), decimals are double, JSON is arrow.json, types unknown to Arrow are text."""

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
        """End the running step and prevent further ones. Call it until the running step has ended."""
        self._cancelled = True

    @abstractmethod
    def open(self) -> None:
        """Let the database check the query. Nothing runs yet, but the schema is known."""

    @abstractmethod
    def count(self) -> int:
        """The number of rows, from the same snapshot as the rows themselves."""

    @abstractmethod
    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows."""

    @abstractmethod
    def close(self) -> None:
        """Release everything that the query holds in the database. Idempotent; may be called at any time."""


class Database(ABC):
    """An archive. It opens or connects on first use, and retries after a failure."""

    name: str
    """A description for people, without credentials."""

    @abstractmethod
    def query(self, sql: str, parameters: Mapping[str, Scalar], seconds: float) -> Query:
        """A query for the one SELECT in `sql`, with `$name` bound to `parameters["name"]`.

        `seconds` limits each step if the database can do that by itself, in case nobody is left to cancel.
        """

    @abstractmethod
    def insert(self, messages: Sequence[Message]) -> int:
        """Store messages and return how many were new. Creates the table. Raises DatabaseFailed."""

    def own_query(self, sql: str, seconds: float) -> "Query":
        """A query of ours, which may read the catalog."""
        return self.query(sql, {}, seconds)

    @abstractmethod
    def replace(self, messages: Sequence[Message]) -> int:
        """Replace the decoded values of stored messages, and return how many rows have changed. A message
        that is no longer stored is not added again. Raises DatabaseFailed."""

    @abstractmethod
    def stored(self, stream: str, after: Place | None) -> list[Message]:
        """The stream's stored messages after a place (None: from the first on), in order, without `value`.
        At most MOST_STORED, and at most MOST_BYTES of payload, but at least one; empty at the end. Raises
        DatabaseFailed."""

    @abstractmethod
    def newest(self, stream: str, created: datetime) -> int:
        """The highest stored sequence of this stream (with this creation time), 0 if there is none."""

    @abstractmethod
    def forget(self, stream: str, before: datetime) -> int:
        """Delete the stream's messages stored by the server before that time, and return how many there
        were."""

    @abstractmethod
    def lent(self) -> AbstractContextManager[dict[str, Any]]:
        """Let another process read the archive within the block. Yields what open_archive() needs there.
        Messages stored meanwhile are visible in the next loan. Raises DatabaseFailed."""

    @abstractmethod
    def close(self) -> None:
        """Release the files."""

    def tables(self, seconds: float) -> list[dict[str, Any]]:
        """Each table and view: name, columns (name, type), rows, first and last time (UTC; None without a
        column `time`)."""
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
        with self.own_query(sql, seconds) as query:
            rows: list[dict[str, Any]] = pa.Table.from_batches(query.batches(), query.schema).to_pylist()
            return rows


def fitting(sizes: Sequence[int]) -> int:
    """How many of the first messages, given their sizes in bytes, fit into MOST_BYTES; at least one."""
    total = 0
    for count, size in enumerate(sizes):
        total += size
        if count and total > MOST_BYTES:
            return count
    return len(sizes)


def json_text(payload: bytes) -> str | None:
    """The payload as text if it is JSON, else None."""
    try:
        orjson.loads(payload)
        return payload.decode()
    except ValueError:
        return None


def check_names(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise QueryRefused(f"Two columns have the name {name!r}. Rename one with AS.")


def one_line(words: str) -> str:
    return re.sub(r"\s+", " ", words).strip()
