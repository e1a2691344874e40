"""Child processes for work that cannot be interrupted, or limited in memory, within the calling process.

Each runs once, under limits that the operating system enforces, and can be killed.

    this process --- control socket --- fork server       python -m nats_client.processes BYTES MODULE …
          |                                | fork         has imported the modules
          +------ a socket for each ---- process          calls work() of the first one; single use

The fork server has no threads, so forking is safe. A fork takes some ms; a new interpreter with its imports
takes a third of a second. The fork server has a second socket for each process, and kills the process when
that socket is closed. The kernel closes it if this process dies.
"""

import contextlib
import ctypes
import logging
import math
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
YOUNG = 1.0
"""Seconds after which a process gets the lowest priority."""
LEAST_URGENT = 19
"""The lowest priority; see nice(1)."""
LOOK_EVERY = 0.1
"""Seconds between two checks of memory."""
OURS = ("NATS_", "LOOKBACK_")
"""Prefixes of environment variables, some of which contain secrets. No process gets them."""
REASON_TIMEOUT = 2.0
END_TIMEOUT = 10.0
"""Seconds for the kernel to end a killed process."""
MOST_FILES = 8
"""Files that a process can be given."""
NO_THREAD_DATA = "127"
"""The exit code with which glibc ends a process that has no memory left for the data of a thread: oom() in
https://sourceware.org/git/?p=glibc.git;a=blob;f=elf/dl-tls.c"""
OUT_OF_MEMORY = frozenset(
    {"memory", NO_THREAD_DATA, *(str(-number) for number in (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS))}
)
OUT_OF_TIME = frozenset({str(-signal.SIGXCPU)})
_PR_SET_PDEATHSIG = 1  # of Linux's prctl(2)


class ProcessEnded(Exception):  # noqa: N818 - a state
    """The process has ended, or none could be started."""

    def __init__(self, reason: str) -> None:
        """`reason`: "memory", or its exit code, which is the negative number of a signal; "" if unknown."""
        super().__init__(f"The process ended ({reason or 'reason unknown'}).")
        self.reason = reason

    @property
    def out_of_memory(self) -> bool:
        """True if it needed more memory or stack than it may have."""
        return self.reason in OUT_OF_MEMORY

    @property
    def out_of_time(self) -> bool:
        """True if it used up its processor time."""
        return self.reason in OUT_OF_TIME


class Processes:
    """A fork server. Started on first use, and again if it has ended. Thread-safe."""

    def __init__(self, *modules: str, memory: int) -> None:
        """The first of the `modules` has a function work(channel, files), which runs as the process. The fork
        server imports all of them before it forks. `memory`: resident bytes that a process may have, without
        shared memory, in addition to those of the fork server."""
        self._modules = modules
        self.memory = memory
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self, files: Sequence[int] = ()) -> "Process":
        """Start a process and pass it the file descriptors `files`, at most MOST_FILES. Raises
        ProcessEnded."""
        for _ in range(2):
            ours, theirs = socket.socketpair()
            life, its_life = socket.socketpair()
            try:
                with self._lock, theirs, its_life:
                    given = [theirs.fileno(), its_life.fileno(), *files]
                    socket.send_fds(self._running(), [b"+"], given)
                return Process(ours, life)
            except OSError:  # the fork server was killed
                ours.close()
                life.close()
                self.close()
        raise ProcessEnded("no fork server")

    def close(self) -> None:
        """End the fork server and all its processes."""
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
                [sys.executable, "-m", "nats_client.processes", str(self.memory), *self._modules],
                cwd=ROOT,
                env={name: value for name, value in os.environ.items() if not name.startswith(OURS)} | single,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
            )
        return self._control


class Process:
    """One process. kill() may be called at any time from any thread."""

    def __init__(self, talk: socket.socket, life: socket.socket) -> None:
        self._talk: socket.socket | None = talk
        self._life: socket.socket | None = life
        self._channel: Connection[Any, Any] = Connection(os.dup(talk.fileno()))
        self._lock = threading.Lock()
        self._reason: str | None = None

    def send(self, message: bytes) -> None:
        """Send it a message. Raises ProcessEnded."""
        try:
            self._channel.send_bytes(message)
        except OSError:
            raise self._ended() from None

    def receive(self, most: int) -> bytes:
        """Wait for its next message, of at most `most` bytes. Raises ProcessEnded."""
        try:
            return self._channel.recv_bytes(most)
        except (EOFError, OSError):
            raise self._ended() from None

    def answers(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds; True if there is a message, or if it has ended."""
        return self._channel.poll(timeout)

    def kill(self) -> None:
        """Kill it. A receive() that waits raises ProcessEnded at once."""
        with self._lock:
            for end, way in ((self._life, socket.SHUT_WR), (self._talk, socket.SHUT_RDWR)):
                if end is not None:
                    with contextlib.suppress(OSError):
                        end.shutdown(way)

    def close(self, *, wait: bool = True) -> bool:
        """Kill it and close its sockets. Idempotent; call it when no other method is running. With `wait`,
        wait until the kernel has closed the files of the process; returns False if the process does not end
        in time."""
        self.kill()
        ended = True
        if wait and self._life is not None:
            self._life.settimeout(END_TIMEOUT)
            try:
                while self._life.recv(32):
                    pass
            except OSError:
                ended = False
        with self._lock:
            for end in (self._life, self._talk, self._channel):
                if end is not None:
                    end.close()
            self._life = self._talk = None
        return ended

    def _ended(self) -> ProcessEnded:
        if self._reason is None and self._life is not None:
            self._life.settimeout(REASON_TIMEOUT)
            try:
                self._reason = self._life.recv(32).decode()
            except OSError:
                self._reason = ""
        return ProcessEnded(self._reason or "")


class _Child:
    def __init__(self, pid: int, life: socket.socket) -> None:
        self.pid = pid
        self.life = life
        self.reason = ""
        self._since = time.monotonic()
        self._gave_way = False

    def age(self) -> None:
        """Lower the priority of the process once it is older than YOUNG. Its threads are in its process
        group, so theirs is lowered too."""
        if not self._gave_way and time.monotonic() > self._since + YOUNG:
            self._gave_way = True
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PGRP, self.pid, LEAST_URGENT)

    def is_larger(self, nbytes: int) -> bool:
        """True if it has more than `nbytes` of memory, which is then its reason. A limit that the system
        itself enforces takes effect earlier."""
        with contextlib.suppress(psutil.Error):
            if _memory_of(self.pid) > nbytes:
                self.reason = "memory"
                return True
        return False


def main() -> None:
    """The fork server. Runs until its control socket is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which then ends this process
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    memory, modules = int(sys.argv[1]), [import_module(name) for name in sys.argv[2:]]
    most = memory + _memory_of(os.getpid())
    control = socket.socket(fileno=0)
    children: list[_Child] = []
    while True:
        ready = select.select(
            [control, *(child.life for child in children)], [], [], LOOK_EVERY if children else None
        )[0]
        for child in list(children):
            child.age()
            if child.life in ready or child.is_larger(most):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGKILL)
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                children.remove(child)
                with contextlib.suppress(OSError):  # the parent may have closed it already
                    child.life.send((child.reason or str(os.waitstatus_to_exitcode(status))).encode())
                child.life.close()
        if control in ready:
            order, given, _, _ = socket.recv_fds(control, 1, 2 + MOST_FILES)
            if not order:
                for child in children:
                    os.kill(child.pid, signal.SIGKILL)
                return
            talk, life, *files = given
            try:
                pid = os.fork()
            except OSError:  # too little memory, or too many processes; the caller sees both sockets close
                pid = -1
            if pid == 0:
                os.close(life)
                for held in (control, *(child.life for child in children)):
                    held.close()
                _be_one(modules[0], talk, files)
            for number in (talk, *files):
                os.close(number)
            if pid > 0:
                children.append(_Child(pid, socket.socket(fileno=life)))
            else:
                os.close(life)


def _memory_of(pid: int) -> int:
    """Resident bytes, without files and shared memory where the system reports those."""
    info = psutil.Process(pid).memory_info()
    return int(info.rss - getattr(info, "shared", 0))


def _be_one(module: Any, talk: int, files: list[int]) -> None:
    """Runs as the process. Never returns."""
    status = 1
    try:
        with contextlib.suppress(EOFError, OSError), Connection(talk) as channel:
            if sys.platform == "linux":
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                with contextlib.suppress(OSError):  # if memory runs out, the kernel kills this one first
                    Path("/proc/self/oom_score_adj").write_text("1000")
            os.setpgid(0, 0)
            module.work(channel, files)
        status = 0
    finally:
        os._exit(status)


def bound(*, address_space: int, seconds: float, file_size: int) -> None:
    """Limit this process: bytes that it may map from now on, seconds of processor time, bytes of a file."""
    import resource  # which not every system has

    processor = math.ceil(seconds)
    for limit, soft, hard in (
        (resource.RLIMIT_AS, space := psutil.Process().memory_info().vms + address_space, space),
        (resource.RLIMIT_CPU, processor, processor + 1),  # SIGXCPU at the soft limit shows the reason
        (resource.RLIMIT_FSIZE, file_size, file_size),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # macOS has no limit of the address space
            resource.setrlimit(limit, (soft, hard))


if __name__ == "__main__":
    main()
