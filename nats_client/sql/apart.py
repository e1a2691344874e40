"""Runs a checked SELECT of an untrusted author over rows, in a process of its own.

    ask_apart()  --- rows: Arrow in shared memory ---> process of the query (apart_process.py)
                 <-- result: the same ------------

The process reads only the columns that the SQL names. It can open no file and no connection. It is killed at
its limits, when it is stopped, and when this process ends. Each query has a new one (processes.py).
"""

import atexit
import contextlib
import json
import os
import pickle
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import duckdb
import pyarrow as pa
import pyarrow.ipc

from ..environment import SQL_MEMORY
from ..errors import SqlEnded
from ..processes import ProcessEnded, Processes
from .apart_process import MOST_JOB, Job
from .arrow import Table, arrow_table, tables
from .bounded import PATIENCE, Limits, Parameter
from .engine import LOOK_EVERY, Stop
from .guard import Statement, translated

MOST_GIVEN = 1 << 30
"""Maximum bytes of the rows that a query reads."""
MOST_ANSWER = 1 << 16
"""Maximum bytes of an error."""
MEMORY = SQL_MEMORY.read()
"""Bytes that a query may have besides the rows that it reads."""
TOO_LARGE = (
    f"The query needs more memory than one may have, {SQL_MEMORY.kind.text(MEMORY)}. "
    "Read fewer rows or group them."
)

# DuckDB imports pyarrow.dataset with the first table, when the process can no longer open a file.
_processes = Processes("nats_client.sql.apart_process", "pyarrow.dataset", memory=MEMORY)
atexit.register(_processes.close)


def ask_apart(
    statement: Statement,
    given: Mapping[str, Table],
    parameters: Mapping[str, Parameter] | None = None,
    limits: Limits | None = None,
    stop: Stop | None = None,
) -> pa.Table:
    """The result of a statement over the tables `given`, by name, as ask() returns it. Blocks until then.

    `parameters`: bound to `$name`. `stop` ends it from another thread. Raises SqlError: with the place and
    the nearest name if the SQL is wrong, or with the limit that was reached. Raises SqlEnded if something
    else killed the process.
    """
    limits = limits or Limits()
    used = {name: given[name] for name in sorted(statement.tables)}
    named = {name: (parameters or {})[name] for name in sorted(statement.parameters)}
    with _file() as rows, _file() as result:
        places = _written(rows, {name: arrow_table(each, statement.columns) for name, each in used.items()})
        job = pickle.dumps(Job(statement, named, limits, MEMORY, places))
        if rows.tell() > MOST_GIVEN or len(job) > MOST_JOB:
            raise statement.error(
                f"The query reads {rows.tell() >> 20:,} MiB of rows. At most {MOST_GIVEN >> 20:,} are read: "
                "name fewer columns, or choose a shorter look-back."
            )
        try:
            said = _answer(statement, job, [rows.fileno(), result.fileno()], limits, stop)
        except ProcessEnded as ended:
            if ended.out_of_memory:
                raise statement.error(TOO_LARGE) from None
            if ended.out_of_time:
                raise statement.error(limits.too_slow) from None
            raise SqlEnded("The query's process was ended by somebody else. It begins again.") from None
        if said.get("memory"):
            raise statement.error(TOO_LARGE)
        if "limit" in said:
            raise statement.error(str(said["limit"]))
        if "error" in said:
            wrong = duckdb.Error(str(said["error"]))
            raise translated(wrong, statement, tables(used), memory=SQL_MEMORY.kind.text(MEMORY))
        result.seek(0)
        table = pa.ipc.open_stream(result.read()).read_all()
        table.validate(full=True)  # the process ran untrusted SQL
        return table


def _answer(
    statement: Statement, job: bytes, files: list[int], limits: Limits, stop: Stop | None
) -> dict[str, Any]:
    process = _processes.start(files)
    try:
        process.send(job)
        end = time.monotonic() + PATIENCE * limits.seconds
        while not process.answers(LOOK_EVERY):
            if stop is not None and stop.stopped:
                raise statement.error("The query was stopped.")
            if time.monotonic() >= end:
                raise statement.error(limits.too_long)
        said: dict[str, Any] = json.loads(process.receive(MOST_ANSWER))
        return said
    finally:
        process.close(wait=False)


@contextlib.contextmanager
def _file() -> Iterator[BinaryIO]:
    """A file without a name, in memory if the system has such files."""
    if hasattr(os, "memfd_create"):
        with open(os.memfd_create("sql"), "w+b", buffering=0) as file:  # noqa: PTH123 - a descriptor
            yield file
    else:
        with tempfile.TemporaryFile(buffering=0) as file:
            yield file


def _written(file: BinaryIO, given: Mapping[str, pa.Table]) -> dict[str, tuple[int, int]]:
    """Write tables one after the other. Returns where each begins, and its bytes."""
    places = {}
    for name, table in given.items():
        start = file.tell()
        with pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
        places[name] = (start, file.tell() - start)
    return places
