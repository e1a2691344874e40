"""Runs each query in its own process, which is killed at its limits.

A database library cannot always be interrupted or held to its memory limit from within the process that calls
it: planning a deep expression or building one huge value checks neither. So each query gets a process with
limits of the operating system. It serves nobody else, and ends with the query in any case.

    history service --- control socket --- fork server       python -m services.history.query_process MODULE
          |                                    | fork         has the database's driver loaded
          +------ a socket for each query --- query           single use

The fork server has no threads and no open database, so forking is safe. A fork takes some ms; a new
interpreter with its imports takes a third of a second, although nats-py is not among them, nor pandas if the
database is DuckDB. For each query it has a second socket. When that is closed, which the kernel does if the
service dies, it kills the query.
"""

import contextlib
import ctypes
import logging
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import orjson
import psutil

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

ROOT = Path(__file__).parents[2]
MEMORY = 1024**3  # resident bytes of a query, on top of what every process has
ADDRESS_SPACE = 3 * 1024**3 // 2  # bytes that a query may map; threads map more than they touch
SPILL = 1024**3  # bytes of one temporary file
CPU_SLACK = 10  # seconds of CPU time beyond the service's own limit, in case the service is frozen
YOUNG = 1.0  # seconds after which a query gets the lowest priority
LEAST_URGENT = 19  # see nice(1)
LOOK_EVERY = 0.1  # seconds between two checks of memory
MOST_JOB = 1024 * 1024  # bytes of a job, including its SQL
HEAD = 16 * 1024  # bytes of a reply besides its body
OURS = ("NATS_", "LOOKBACK_")  # prefixes of environment variables, some of which contain secrets
REASON_TIMEOUT = 2.0  # seconds
END_TIMEOUT = 10.0  # seconds for the kernel to end a killed process
PR_SET_PDEATHSIG = 1  # of Linux's prctl(2)

log = logging.getLogger(__name__)


class QueryProcesses:
    """The fork server. Started on first use, and again if it has ended. Thread-safe."""

    def __init__(self, archive: Database) -> None:
        self._module = type(archive).__module__
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> tuple[socket.socket, socket.socket]:
        """Start a process. Returns the socket to talk to it, and the one that ends it when closed. Raises
        DatabaseFailed."""
        for _ in range(2):
            ours, theirs = socket.socketpair()
            life, its_life = socket.socketpair()
            try:
                with self._lock, theirs, its_life:
                    socket.send_fds(self._running(), [b"+"], [theirs.fileno(), its_life.fileno()])
                return ours, life
            except OSError:  # it was killed
                ours.close()
                life.close()
                self.close()
        raise DatabaseFailed("Cannot start a process for the query. Try again later.")

    def close(self) -> None:
        """End the fork server and all its queries."""
        with self._lock:
            control, self._control = self._control, None
            server, self._server = self._server, None
        if control is not None:
            control.close()
        if server is not None:
            try:
                server.wait(REASON_TIMEOUT)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()

    def _running(self) -> socket.socket:
        if self._server is not None and self._server.poll() is None:
            assert self._control is not None
            return self._control
        if self._control is not None:
            self._control.close()
        self._control, theirs = socket.socketpair()
        # No allocator or linear algebra library may start threads, because this process forks
        single = {
            "ARROW_DEFAULT_MEMORY_POOL": "system",
            "JE_ARROW_MALLOC_CONF": "background_thread:false",
            "MALLOC_ARENA_MAX": "2",
            "OPENBLAS_NUM_THREADS": "1",
        }
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "services.history.query_process", self._module],
                cwd=ROOT,
                env={name: value for name, value in os.environ.items() if not name.startswith(OURS)} | single,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
            )
        return self._control


class QueryProcess:
    """One SELECT, or the list of tables, in its own process.

    Each method may block, and may be called from another thread than the one before. cancel() may be called
    at any time from any thread. They raise DatabaseError and NotWritable.
    """

    def __init__(
        self,
        processes: QueryProcesses,
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
        is refused. The process ends by itself after `seconds` of work, in case nobody is left to end it."""
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
        }
        self._held = contextlib.ExitStack()
        self._lock = threading.Lock()
        self._cancelled = False
        self._talk: socket.socket | None = None
        self._life: socket.socket | None = None
        self._channel: Connection[Any, Any] | None = None

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
            for end, way in ((self._life, socket.SHUT_WR), (self._talk, socket.SHUT_RDWR)):
                if end is not None:
                    with contextlib.suppress(OSError):
                        end.shutdown(way)

    def close(self) -> None:
        """Remove everything of it. Idempotent; call it when no other method is running."""
        self.cancel()
        if self._life is not None:
            self._life.settimeout(END_TIMEOUT)
            try:
                while self._life.recv(32):  # until the fork server has reaped it, since it holds files open
                    pass
            except OSError:
                log.warning("The process of a query does not end.")
        with self._lock:
            for end in (self._life, self._talk, self._channel):
                if end is not None:
                    end.close()
            self._life = self._talk = self._channel = None
        self._held.close()

    def _start(self) -> None:
        archive = self._held.enter_context(self._archive.lent())
        talk, life = self._processes.start()
        with self._lock:
            self._talk, self._life = talk, life
            self._channel = Connection(os.dup(talk.fileno()))
        if self._cancelled:
            raise QueryCancelled("The query was cancelled.")
        self._send(orjson.dumps({**self._job, "archive": archive}))

    def _send(self, words: bytes) -> None:
        assert self._channel is not None
        try:
            self._channel.send_bytes(words)
        except OSError:
            raise self._why_it_ended() from None

    def _ask(self, step: str) -> tuple[dict[str, Any], bytes]:
        assert self._channel is not None
        self._send(step.encode())
        try:
            answer = self._channel.recv_bytes(self._most + HEAD)
            first, _, body = answer.partition(b"\n")
            head: dict[str, Any] = orjson.loads(first)
        except (EOFError, OSError, ValueError):
            raise self._why_it_ended() from None
        if error := head.get("error"):
            kind = NotWritable if error == "NotWritable" else getattr(database, error, DatabaseFailed)
            raise kind(head["text"])
        return head, body

    def _why_it_ended(self) -> DatabaseError:
        life = self._life
        if self._cancelled or life is None:
            return QueryCancelled("The query was cancelled.")
        life.settimeout(REASON_TIMEOUT)
        try:
            reason = life.recv(32).decode()
        except OSError:
            reason = ""
        if reason == str(-signal.SIGXCPU):
            return QueryTooLarge("The query uses too much CPU time.")
        if reason in ("memory", str(-signal.SIGABRT), str(-signal.SIGSEGV), str(-signal.SIGBUS)):
            return QueryTooLarge(
                f"The query needs more than its {MEMORY // 1024**2:,} MiB of memory, or is nested too deeply."
            )
        return DatabaseFailed(f"The query's process ended unexpectedly ({reason or 'reason unknown'}).")


class _Child:
    def __init__(self, pid: int, life: socket.socket) -> None:
        self.pid = pid
        self.life = life
        self.reason = ""
        self._since = time.monotonic()
        self._gave_way = False

    def age(self) -> None:
        """Lower the priority once it is no longer young, for all its threads, which are in its process
        group."""
        if not self._gave_way and time.monotonic() > self._since + YOUNG:
            self._gave_way = True
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PGRP, self.pid, LEAST_URGENT)


def main() -> None:
    """The fork server. Runs until its control socket is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the service, which then stops this one
    import_module(sys.argv[1])
    usual = psutil.Process().memory_info().rss
    control = socket.socket(fileno=0)
    children: list[_Child] = []
    while True:
        ready = select.select(
            [control, *(child.life for child in children)], [], [], LOOK_EVERY if children else None
        )[0]
        for child in list(children):
            child.age()
            if child.life in ready or _is_too_large(child, usual):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGKILL)
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                children.remove(child)
                with contextlib.suppress(OSError):  # the service may have closed it already
                    child.life.send((child.reason or str(os.waitstatus_to_exitcode(status))).encode())
                child.life.close()
        if control in ready:
            order, given, _, _ = socket.recv_fds(control, 1, 2)
            if not order:
                for child in children:
                    os.kill(child.pid, signal.SIGKILL)
                return
            talk, life = given
            pid = os.fork()
            if pid == 0:
                for each in (control, *(child.life for child in children)):
                    each.close()
                os.close(life)
                _be_a_query(talk)
            os.close(talk)
            children.append(_Child(pid, socket.socket(fileno=life)))


def _is_too_large(child: _Child, usual: int) -> bool:
    """True if its memory is over the limit. A limit that the system itself enforces takes effect earlier."""
    with contextlib.suppress(psutil.Error):
        if psutil.Process(child.pid).memory_info().rss > usual + MEMORY:
            child.reason = "memory"
            return True
    return False


def _be_a_query(talk: int) -> None:
    """Runs as the process of one query. Never returns."""
    status = 1
    try:
        with contextlib.suppress(EOFError, OSError), Connection(talk) as channel:
            if sys.platform == "linux":
                ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            os.setpgid(0, 0)
            _work(channel)
        status = 0
    finally:
        os._exit(status)


def _work(channel: "Connection[Any, Any]") -> None:
    job = orjson.loads(channel.recv_bytes(MOST_JOB))
    _bound(job["seconds"])
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
        self._archive = open_archive(job["archive"])
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


def _bound(seconds: float) -> None:
    """Set the limits of the operating system for this process."""
    # The budget includes what the driver's threads and this process's stack map at once
    space = psutil.Process().memory_info().vms + ADDRESS_SPACE
    processor = int(2 * seconds) + CPU_SLACK
    for limit, most in (
        (resource.RLIMIT_AS, space),
        (resource.RLIMIT_CPU, processor),
        (resource.RLIMIT_FSIZE, SPILL),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # macOS has no limit of the address space
            resource.setrlimit(limit, (most, most))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    main()
