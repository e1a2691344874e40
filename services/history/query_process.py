"""Runs each query in its own process, which is killed at its limits.

A database library cannot always be interrupted or held to its memory limit from within the process that calls
it: planning a deep expression or building one huge value checks neither. So each query gets a process with
limits of the operating system. It runs no other query, and always ends with its own. The process is
forked from one that has the database's driver loaded (nats_client/processes.py): nats-py is not among its
imports, nor pandas if the database is DuckDB.
"""

import contextlib
import logging
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import orjson

from nats_client.environment import HISTORY_MEMORY
from nats_client.processes import Process, ProcessEnded, Processes, bound
from services.history import database
from services.history.database import (
    Database,
    DatabaseError,
    DatabaseFailed,
    QueryCancelled,
    QueryTooLarge,
    Scalar,
)
from services.history.databases import open_archive
from services.history.encoding import Chunk, NotWritable, chunks, dumps, empty

MAPPED = 1.5  # address space for each byte that a query may use; threads map more than they touch
SPILL = 1024**3  # bytes of one temporary file
CPU_SLACK = 10  # seconds of CPU time beyond the service's own limit, in case the service is frozen
MOST_JOB = 1024 * 1024  # bytes of a job, including its SQL
HEAD = 16 * 1024  # bytes of a reply besides its body

log = logging.getLogger(__name__)


def query_processes(archive: Database, memory: int) -> Processes:
    """The starter of the processes that query `archive`. `memory`: resident bytes that each may use, in
    addition to what every such process uses."""
    return Processes(__name__, type(archive).__module__, memory=memory)


class QueryProcess:
    """One SELECT, or the list of tables, in its own process.

    Each method may block, and may be called from another thread than the one before. cancel() may be called
    at any time from any thread. They raise DatabaseError and NotWritable.
    """

    def __init__(
        self,
        processes: Processes,
        archive: Database,
        seconds: float,
        sql: str = "",
        parameters: Mapping[str, Scalar] | None = None,
        *,
        kind: str = "",
        size: int = 0,
        most: int = 0,
    ) -> None:
        """`kind`: content type of the chunks. `size`: their approximate size in bytes. `most`: a larger chunk
        is refused. `seconds` limits each step if the database can do that. After 2 * `seconds` + CPU_SLACK of
        CPU time the process ends, even if the service is gone."""
        self._processes = processes
        self._archive = archive
        self._most = most
        self._job = {
            "sql": sql,
            "parameters": dict(parameters or {}),
            "seconds": seconds,
            "kind": kind,
            "size": size,
            "most": most,
            "memory": processes.memory,
        }
        self._held = contextlib.ExitStack()
        self._lock = threading.Lock()
        self._cancelled = False
        self._process: Process | None = None

    def tables(self) -> bytes:
        """The tables and views as JSON, see Database.tables()."""
        self._start()
        return self._ask("tables")[1]

    def open(self) -> bytes:
        """Let the database check the SQL. Returns a chunk without rows."""
        self._start()
        return self._ask("open")[1]

    def count(self) -> int:
        """The number of rows."""
        return int(self._ask("count")[0]["rows"])

    def chunk(self) -> Chunk | None:
        """The next rows; None at the end."""
        head, body = self._ask("chunk")
        return Chunk(body, head["rows"]) if head["rows"] else None

    def cancel(self) -> None:
        """Kill the process. A method that waits for its reply raises QueryCancelled at once."""
        with self._lock:
            self._cancelled = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """End the process and release the archive. Idempotent; call it when no other method is running."""
        self.cancel()
        if self._process is not None and not self._process.close():  # it holds files open until it ends
            log.warning("The process of a query does not end.")
        self._held.close()

    def _start(self) -> None:
        archive = self._held.enter_context(self._archive.lent())
        try:
            process = self._processes.start()
        except ProcessEnded:
            raise DatabaseFailed("Cannot start a process for the query. Try again later.") from None
        with self._lock:
            self._process = process
        if self._cancelled:
            raise QueryCancelled("The query was cancelled.")
        self._send(orjson.dumps({**self._job, "archive": archive}))

    def _send(self, words: bytes) -> None:
        assert self._process is not None
        try:
            self._process.send(words)
        except ProcessEnded as ended:
            raise self._why_it_ended(ended) from None

    def _ask(self, step: str) -> tuple[dict[str, Any], bytes]:
        assert self._process is not None
        self._send(step.encode())
        try:
            answer = self._process.receive(self._most + HEAD)
            first, _, body = answer.partition(b"\n")
            head: dict[str, Any] = orjson.loads(first)
        except ProcessEnded as ended:
            raise self._why_it_ended(ended) from None
        except ValueError:
            raise self._why_it_ended(ProcessEnded("")) from None
        if error := head.get("error"):
            kind = NotWritable if error == "NotWritable" else getattr(database, error, DatabaseFailed)
            raise kind(head["text"])
        return head, body

    def _why_it_ended(self, ended: ProcessEnded) -> DatabaseError:
        if self._cancelled:
            return QueryCancelled("The query was cancelled.")
        if ended.out_of_time:
            return QueryTooLarge("The query uses too much CPU time.")
        if ended.out_of_memory:
            return QueryTooLarge(
                f"The query needs more than its {self._processes.memory // 1024**2:,} MiB of memory "
                f"({HISTORY_MEMORY.variable} of the history service), or is nested too deeply."
            )
        reason = ended.reason or "reason unknown"
        return DatabaseFailed(f"The query's process ended unexpectedly ({reason}).")


def work(channel: "Connection[Any, Any]", files: list[int]) -> None:
    """Runs as the process of one query, until the channel ends."""
    job = orjson.loads(channel.recv_bytes(MOST_JOB))
    bound(address_space=int(MAPPED * job["memory"]), seconds=2 * job["seconds"] + CPU_SLACK, file_size=SPILL)
    steps = _Steps(job)
    while True:
        step = channel.recv_bytes(16).decode()
        try:
            head, body = getattr(steps, step)()
        except (DatabaseError, NotWritable) as error:
            head, body = {"error": type(error).__name__, "text": str(error)[: HEAD // 8]}, b""
        except MemoryError:
            text = "The query needs more memory than it may have."
            head, body = {"error": QueryTooLarge.__name__, "text": text}, b""
        except Exception:
            log.exception("a query failed")
            text = "The history service failed; its log says why."
            head, body = {"error": DatabaseFailed.__name__, "text": text}, b""
        channel.send_bytes(orjson.dumps(head) + b"\n" + body)


class _Steps:
    """The steps of a query, one after the other. Each returns a head and a body."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job
        self._archive = open_archive(job["archive"], job["memory"] // 2)
        self._sent = 0

    def tables(self) -> tuple[dict[str, Any], bytes]:
        body = dumps({"tables": self._archive.tables(self._job["seconds"])})
        if len(body) > self._job["most"]:
            raise QueryTooLarge(
                f"The list of tables has {len(body):,} bytes; this server allows {self._job['most']:,}."
            )
        return {}, body

    def open(self) -> tuple[dict[str, Any], bytes]:
        job = self._job
        self._query = query = self._archive.query(job["sql"], job["parameters"], job["seconds"])
        query.open()
        self._chunks = chunks(query.batches(), query.schema, job["kind"], job["size"])
        nothing = empty(query.schema, job["kind"])
        if len(nothing) > job["most"]:
            raise QueryTooLarge(f"The names and types of the columns alone have {len(nothing):,} bytes.")
        return {}, nothing

    def count(self) -> tuple[dict[str, Any], bytes]:
        return {"rows": self._query.count()}, b""

    def chunk(self) -> tuple[dict[str, Any], bytes]:
        found = next(self._chunks, None)
        if found is None:
            return {"rows": 0}, b""
        length, most = len(found.body), self._job["most"]
        if length > most:
            raise QueryTooLarge(
                f"Row {self._sent + 1:,} has {length:,} bytes; a message on this server may have {most:,}."
            )
        self._sent += found.rows
        return {"rows": found.rows}, found.body
