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
"""Idle databases that are kept for the next statement; opening one takes some milliseconds."""
GRACE = 1.0
"""Seconds that a stopped statement gets to end. After that its thread is left alone."""
LOOK_EVERY = 0.05
"""Seconds between two looks at whether a statement has to end."""
STUCK = 2
"""Statements that could not be stopped, at which no new ones begin."""


class Stop:
    """Ends a statement from another thread, and says what it took."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.spent = 0.0
        """Seconds of processor time of all statements with this."""

    def stop(self) -> None:
        """End it now, or when it begins."""
        self._event.set()

    @property
    def stopped(self) -> bool:
        """True after stop()."""
        return self._event.is_set()


@dataclass(eq=False)
class _Run:
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
    """That of the thread's processor time. Only the thread itself can ask for it safely."""
    spent: float = 0.0
    """Seconds of processor time, once it has ended."""


def ask(
    sql: str | Statement,
    given: Mapping[str, Table],
    parameters: Mapping[str, Parameter] | None = None,
    limits: Limits | None = None,
    stop: Stop | None = None,
) -> pa.Table:
    """The result of `sql` over the tables `given`, by name. Blocks until it is there, and may take long.

    `parameters`: bound to `$name`, never pasted. `stop` ends it from another thread. Raises SqlError: with
    the place and the nearest name if the SQL is wrong, or with the limit that was reached.
    """
    limits, parameters = limits or Limits(), dict(parameters or {})
    statement = check_select(sql, tuple(given)) if isinstance(sql, str) else sql
    if missing := sorted(statement.parameters - parameters.keys()):
        raise SqlError(
            f"The parameter ${missing[0]} has no value. Give it: parameters={{{missing[0]!r}: …}}."
        )
    used = {name: given[name] for name in sorted(statement.tables)}
    run = _Run(
        statement,
        {name: arrow_table(table, statement.columns) for name, table in used.items()},
        {name: parameters[name] for name in sorted(statement.parameters)},
        limits,
    )
    _stuck.difference_update([each for each in _stuck.copy() if not each.is_alive()])
    if len(_stuck) >= STUCK:
        raise SqlError("Other queries cannot be stopped and still run. Try again later.")
    worker = threading.Thread(target=_work, args=(run,), name="sql", daemon=True)
    _running[run] = worker
    worker.start()
    end = time.monotonic() + PATIENCE * limits.seconds
    ended = ""
    while not ended and not run.ended.wait(LOOK_EVERY):
        if stop is not None and stop.stopped:
            ended = "The query was stopped."
        elif _spent(run) >= limits.seconds:
            ended = limits.too_slow
        elif time.monotonic() >= end:
            ended = limits.too_long
    if ended:
        _end(run, worker)
    if stop is not None:
        stop.spent += run.spent or _spent(run)
    if ended:
        raise statement.error(ended)
    if run.error is not None:
        if isinstance(run.error, SqlError):
            raise run.error from None
        if isinstance(run.error, duckdb.Error | pa.ArrowException | MemoryError | ValueError | TypeError):
            raise translated(run.error, statement, tables(used)) from None
        raise run.error
    assert run.result is not None
    return run.result


def _spent(run: _Run) -> float:
    """Seconds of processor time of its thread; 0 where the system does not tell."""
    if run.clock is None:
        return 0.0
    try:
        return time.clock_gettime(run.clock)
    except OSError:  # the thread has just ended
        return 0.0


def _end(run: _Run, worker: threading.Thread) -> None:
    run.stopped = True
    end = time.monotonic() + GRACE
    while not run.ended.wait(0.02) and time.monotonic() < end:  # an interrupt before it began is lost
        if run.connection is not None:
            with contextlib.suppress(duckdb.Error):
                run.connection.interrupt()
    if not run.ended.is_set():
        _stuck.add(worker)


def _work(run: _Run) -> None:
    _lower()
    if hasattr(time, "pthread_getcpuclockid"):
        run.clock = time.pthread_getcpuclockid(threading.get_ident())
    try:
        if run.stopped or _leaving.is_set():
            raise SqlError("The query was stopped.")
        connection = _idle.pop() if _idle else connect()
    except BaseException as error:  # the asker raises it
        run.error = error
        _running.pop(run, None)
        run.ended.set()
        return
    whole = False
    try:
        for name, table in run.tables.items():
            connection.register(name, table)
        run.connection = connection
        run.result = read(connection, run.statement, run.parameters, run.limits)
        whole = True
    except BaseException as error:
        run.error = error
        # After other errors a database may be unusable until it is opened again.
        whole = details(error).get("exception_type") in ("Binder", "Catalog", "Conversion", "Invalid Input")
    finally:
        run.connection = None
        try:
            for name in run.tables:
                connection.unregister(name)
            if whole and not run.stopped and len(_idle) < KEPT:
                _idle.append(connection)
            else:
                connection.close()
        except duckdb.Error:
            connection.close()
        run.tables.clear()
        run.spent = time.thread_time()
        _running.pop(run, None)
        run.ended.set()


def _lower() -> None:
    """Let the app's other threads go first. DuckDB computes without Python's lock."""
    with contextlib.suppress(AttributeError, OSError):  # only Linux has it for one thread
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LESS_URGENT)


@atexit.register
def _end_all() -> None:
    """A thread that is still inside DuckDB when Python ends would abort the process."""
    _leaving.set()
    for run, worker in list(_running.items()):
        _end(run, worker)


_leaving = threading.Event()
_running: dict[_Run, threading.Thread] = {}
_idle: list[duckdb.DuckDBPyConnection] = []
_stuck: set[threading.Thread] = set()
