"""Runs a checked SELECT over rows in a thread of this process, within bounds: for SQL that is trusted."""

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from ..errors import SqlError
from .arrow import Table, arrow_table, tables
from .bounded import PATIENCE, Limits, Parameter, read
from .guard import Statement, check_select, connect, details, translated

LESS_URGENT = 5
"""Added to the niceness of threads that run SQL (see nice(1)), where the system has it for threads."""
KEPT = 4
"""Maximum number of idle databases kept for later statements; opening one takes some milliseconds."""
GRACE = 1.0
"""Seconds that a stopped statement gets to end. After that its thread is left alone."""
LOOK_EVERY = 0.05
"""Seconds between two checks of whether a statement has to end."""
STUCK = 2
"""Number of statements that could not be stopped from which on no new one begins."""


class Stop:
    """Ends a statement from another thread, and holds its processor time."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.spent = 0.0
        """Seconds of processor time of all statements that were given this object."""

    def stop(self) -> None:
        """End the statement now, or as soon as it begins."""
        self._event.set()

    @property
    def stopped(self) -> bool:
        """True after stop()."""
        return self._event.is_set()


@dataclass(eq=False)
class _Execution:
    """One statement in its own thread."""

    statement: Statement
    tables: dict[str, pa.Table]
    parameters: dict[str, Parameter]
    limits: Limits
    ended: threading.Event = field(default_factory=threading.Event)
    stopped: bool = False
    result: pa.Table | None = None
    error: BaseException | None = None
    connection: duckdb.DuckDBPyConnection | None = None
    clock: int | None = None
    """The ID of the thread's processor-time clock. Only the thread itself can get it safely."""
    spent: float = 0.0
    """Seconds of processor time, once it has ended."""


def ask(
    sql: str | Statement,
    given: Mapping[str, Table],
    parameters: Mapping[str, Parameter] | None = None,
    limits: Limits | None = None,
    stop: Stop | None = None,
) -> pa.Table:
    """The result of `sql` over the tables `given`, by name. Blocks until then, which may take long.

    `parameters`: bound to `$name`, never pasted. `stop` ends it from another thread. Raises SqlError: with
    the place and the nearest name if the SQL is wrong, with the limit that was reached, or if a parameter has
    no value.
    """
    limits, parameters = limits or Limits(), dict(parameters or {})
    statement = check_select(sql, tuple(given)) if isinstance(sql, str) else sql
    if missing := sorted(statement.parameters - parameters.keys()):
        raise SqlError(
            f"The parameter ${missing[0]} has no value. Give it: parameters={{{missing[0]!r}: …}}."
        )
    used = {name: given[name] for name in sorted(statement.tables)}
    execution = _Execution(
        statement,
        {name: arrow_table(table, statement.columns) for name, table in used.items()},
        {name: parameters[name] for name in sorted(statement.parameters)},
        limits,
    )
    _stuck.difference_update([each for each in _stuck.copy() if not each.is_alive()])
    if len(_stuck) >= STUCK:
        raise SqlError("Other queries cannot be stopped and still run. Try again later.")
    worker = threading.Thread(target=_work, args=(execution,), name="sql", daemon=True)
    _running[execution] = worker
    worker.start()
    end = time.monotonic() + PATIENCE * limits.seconds
    ended = ""
    while not ended and not execution.ended.wait(LOOK_EVERY):
        if stop is not None and stop.stopped:
            ended = "The query was stopped."
        elif _spent(execution) >= limits.seconds:
            ended = limits.too_slow
        elif time.monotonic() >= end:
            ended = limits.too_long
    if ended:
        _end(execution, worker)
    if stop is not None:
        stop.spent += execution.spent or _spent(execution)
    if ended:
        raise statement.error(ended)
    if execution.error is not None:
        if isinstance(execution.error, SqlError):
            raise execution.error from None
        if isinstance(
            execution.error, duckdb.Error | pa.ArrowException | MemoryError | ValueError | TypeError
        ):
            raise translated(execution.error, statement, tables(used)) from None
        raise execution.error
    assert execution.result is not None
    return execution.result


def _spent(execution: _Execution) -> float:
    """Seconds of processor time of its thread so far; 0 if the system does not report it."""
    if execution.clock is None:
        return 0.0
    try:
        return time.clock_gettime(execution.clock)
    except OSError:  # the thread has just ended
        return 0.0


def _end(execution: _Execution, worker: threading.Thread) -> None:
    execution.stopped = True
    end = time.monotonic() + GRACE
    while not execution.ended.wait(0.02) and time.monotonic() < end:  # an interrupt before it began is lost
        if execution.connection is not None:
            with contextlib.suppress(duckdb.Error):
                execution.connection.interrupt()
    if not execution.ended.is_set():
        _stuck.add(worker)


def _work(execution: _Execution) -> None:
    _lower()
    if hasattr(time, "pthread_getcpuclockid"):
        execution.clock = time.pthread_getcpuclockid(threading.get_ident())
    try:
        if execution.stopped or _leaving.is_set():
            raise SqlError("The query was stopped.")
        connection = _idle.pop() if _idle else connect()
    except BaseException as error:  # ask() raises it
        execution.error = error
        _running.pop(execution, None)
        execution.ended.set()
        return
    whole = False
    try:
        for name, table in execution.tables.items():
            connection.register(name, table)
        execution.connection = connection
        execution.result = read(connection, execution.statement, execution.parameters, execution.limits)
        whole = True
    except BaseException as error:
        execution.error = error
        # After other errors a database may be unusable until it is opened again.
        whole = details(error).get("exception_type") in ("Binder", "Catalog", "Conversion", "Invalid Input")
    finally:
        execution.connection = None
        try:
            for name in execution.tables:
                connection.unregister(name)
            if whole and not execution.stopped and len(_idle) < KEPT:
                _idle.append(connection)
            else:
                connection.close()
        except duckdb.Error:
            connection.close()
        execution.tables.clear()
        execution.spent = time.thread_time()
        _running.pop(execution, None)
        execution.ended.set()


def _lower() -> None:
    """Let the app's other threads go first. DuckDB computes without Python's lock."""
    with contextlib.suppress(AttributeError, OSError):  # only Linux has it for one thread
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LESS_URGENT)


@atexit.register
def _end_all() -> None:
    """End all statements, because a thread still inside DuckDB when Python ends would abort the process."""
    _leaving.set()
    for execution, worker in list(_running.items()):
        _end(execution, worker)


_leaving = threading.Event()
_running: dict[_Execution, threading.Thread] = {}
_idle: list[duckdb.DuckDBPyConnection] = []
_stuck: set[threading.Thread] = set()
