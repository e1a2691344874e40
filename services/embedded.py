"""The embedded NATS server: a real nats-server with JetStream, used if no other is configured.

For each data directory, one process of this machine is the owner. It runs the server and the programs beside
it (the publisher of the machine's figures, the history, token and comparison services); other processes join
it. The owner holds a file lock, which the kernel releases when the owner dies. Twice a second, every process
checks the lock and takes over if it is free; the owner also restarts children that have ended. The URL stays
the same, so clients simply reconnect.
"""

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from nats_client.connection.settings import ENVIRONMENT
from nats_client.errors import LookbackError
from services.accounts import configuration as accounts
from services.accounts.configuration import User
from services.accounts.roles import Roles, Table
from services.nats_server import server as nats_server
from services.nats_server.guarded import Guarded
from services.nats_server.server import Ports, ServerError

__all__ = ["ServerError", "embedded"]

ROOT = Path(__file__).parent.parent
LOOK_EVERY = 0.5  # seconds
JOIN_TIMEOUT = 9.0  # seconds in which the owner's server must answer
RESTART_PAUSE = 2.0  # seconds between two starts of the same child, which keeps a crash loop cheap
MAX_PAUSE = 30.0  # seconds between two failing attempts
HEALTH_EVERY = 2.0  # seconds between two checks of the server's health
PROGRAM_GRACE = 2.0  # seconds
APP_USERS: tuple[User, ...] = ("dashboard", "broker")

_FULL = (
    "Nothing is stored any more: the disk with the data of the embedded NATS server is full. Free some "
    "space; storing then resumes by itself. The page keeps showing the last data."
)
_UNWELL = (
    "Nothing is stored at the moment: the embedded NATS server could not write. It is being restarted; the "
    "app's log says why."
)

log = logging.getLogger(__name__)


@asynccontextmanager
async def embedded(
    origins: Sequence[str] = (), report: Callable[[str | None], None] = lambda _: None
) -> AsyncIterator[dict[str, dict[str, str]]]:
    """Run or join this machine's embedded NATS server and the programs beside it. Yields the app's
    logins, as mappings for Settings.load: "dashboard" without sign-in, "broker" with sign-in.

    The URL (nats://127.0.0.1:port) is valid until the context ends: the server is restarted on the same port
    if it crashes, and taken over if the process that ran it is gone. Browsers may connect from pages of
    `origins` (scheme://host:port). `report` is called, from any thread, with a sentence when nothing can be
    stored, and with None when it works again. Data and keys are in LOOKBACK_DATA_DIR, by default the user's
    data directory. Raises ServerError if there is no nats-server, or if it does not start.
    """
    directory = nats_server.data_dir()
    member = _Member(directory, origins, report)
    watch: asyncio.Task[None] | None = None
    try:
        url = await asyncio.to_thread(member.start)
        watch = asyncio.create_task(member.watch())
        yield {user: accounts.login(directory, user, url) for user in APP_USERS}
    finally:
        member.closing.set()
        if watch:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        await asyncio.to_thread(member.stop)


def programs(ports: Ports, directory: Path) -> dict[str, tuple[User, list[str]]]:
    """The programs beside the server: modules of services/, the user each logs in as, and their arguments."""
    return {
        "metrics": ("data", [ports.url, ports.monitoring_url]),
        "history": ("services", [ports.url, str(directory / "history.duckdb"), "METRICS"]),
        "tokens": ("services", [ports.url, str(directory / "keys")]),
        "comparison": (
            "services",
            [ports.url, ports.monitoring_url, str(accounts.credentials_file(directory, "data"))],
        ),
    }


def _environment(login: Mapping[str, str]) -> dict[str, str]:
    """This process's environment, with `login` replacing any login in it."""
    others = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    return others | {name: login[key] for name, key in ENVIRONMENT.items() if key in login}


class _Member:
    """This process as one of those that share a data directory: the owner, or one that joined."""

    def __init__(self, directory: Path, origins: Sequence[str], report: Callable[[str | None], None]) -> None:
        self.closing = threading.Event()
        self._dir = directory
        self._origins = origins
        # Not thread-local, because different threads of a pool use it. Not soft, because the kernel must
        # release it when this process dies.
        self._lock = FileLock(directory / "lock", mode=0o600, thread_local=False, fallback_to_soft=False)
        self._busy = threading.Lock()  # a cancelled watch leaves its thread running; stop() waits for it
        self._ports: Ports | None = None  # once set, the client port never changes
        self._server: Guarded | None = None
        self._table: Table | None = None
        self._applied: Roles | None = None  # the roles in the server's configuration
        self._programs: dict[str, Guarded] = {}
        self._report = report
        self._trouble: str | None = None
        self._look_at_health = 0.0  # when the next check is due
        self._unwell = 0  # failed checks in a row
        self._restart_at = 0.0  # earliest time of the next restart
        self._restart_pause = RESTART_PAUSE

    def start(self) -> str:
        """Own or join; returns the client URL. Blocks, for a bounded time. Raises ServerError."""
        deadline = time.monotonic() + JOIN_TIMEOUT
        while True:
            with self._busy:
                if self.closing.is_set():
                    raise ServerError("The embedded server was stopped while starting.")
                if self._is_owner():
                    self._tend()
                else:
                    self._join()
                if self._ports:
                    return self._ports.url
            if time.monotonic() > deadline:
                raise ServerError(
                    f"Another process holds {self._dir / 'lock'}, but its nats-server did not answer within "
                    f"{JOIN_TIMEOUT:g} s. End that process, or set LOOKBACK_DATA_DIR to another directory."
                )
            self.closing.wait(0.1)

    async def watch(self) -> None:
        """Take over when the owner is gone; as the owner, restart what has ended. Runs until cancelled."""
        pause = LOOK_EVERY
        while True:
            await asyncio.sleep(pause)
            try:
                await asyncio.to_thread(self._look)
                pause = LOOK_EVERY
            except (ServerError, OSError) as error:
                pause = min(2 * pause, MAX_PAUSE)
                if not await asyncio.to_thread(nats_server.has_room, self._dir):
                    self._say(_FULL)
                log.warning("Embedded NATS server: %s Retrying in %g s.", error, pause)

    def stop(self) -> None:
        """End the children, the server last, and release ownership."""
        with self._busy:
            self._stop_programs()
            if self._server:
                self._server.stop()
            self._lock.release()

    def _look(self) -> None:
        with self._busy:
            if self.closing.is_set():
                return
            owner = self._is_owner()
            if owner:
                self._tend()
            if time.monotonic() >= self._look_at_health:
                self._look_at_health = time.monotonic() + HEALTH_EVERY
                self._tend_store(owner)

    def _tend_store(self, owner: bool) -> None:
        """Report when the server cannot store, and restart it when that may help."""
        assert self._ports is not None
        why = nats_server.why_unwell(self._ports)
        if why is None:
            self._unwell = 0
            if time.monotonic() > self._restart_at + MAX_PAUSE:
                self._restart_pause = RESTART_PAUSE
            self._say(None)
            return
        self._unwell += 1
        if self._unwell < 2:  # a server that has just started may still be recovering
            return
        if not nats_server.has_room(self._dir):
            self._say(_FULL, why)
        else:
            self._say(_UNWELL, why)
            if owner and self._server and time.monotonic() >= self._restart_at:
                log.warning("The embedded NATS server could not write; restarting it.")
                self._server.stop()
                self._start_server()
                self._restart_at = time.monotonic() + self._restart_pause
                self._restart_pause = min(2 * self._restart_pause, MAX_PAUSE)

    def _say(self, trouble: str | None, why: str = "") -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            if trouble:
                log.warning("%s %s", trouble, why)
            else:
                log.warning("The embedded NATS server stores messages again.")
            self._report(trouble)

    def _is_owner(self) -> bool:
        if self._lock.is_locked:
            return True
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        log.info("This process runs the embedded NATS server of %s.", self._dir)
        return True

    def _tend(self) -> None:
        if _is_due(self._server):
            if self._server:
                log.warning("The embedded NATS server has ended; restarting it.")
                self._server.stop()
            self._start_server()
        self._apply_roles()
        assert self._ports is not None
        for name, (user, arguments) in programs(self._ports, self._dir).items():
            program = self._programs.get(name)
            if _is_due(program):
                if program:
                    program.stop()
                self._programs[name] = Guarded(
                    [sys.executable, "-m", f"services.{name}", *arguments],
                    cwd=ROOT,
                    output=self._dir / f"{name}.out",
                    grace=PROGRAM_GRACE,
                    env=_environment(accounts.login(self._dir, user, self._ports.url)),
                )

    def _stop_programs(self) -> None:
        for program in self._programs.values():
            program.stop()

    def _start_server(self) -> None:
        before = self._ports
        nats_server.end_predecessor(self._dir)
        try:
            with accounts.locked(self._dir):  # until the server answers, so that revoke() finds it running
                accounts.adopt_store(self._dir)
                self._table = Table()  # read before the server starts: applying it twice is a no-op
                self._applied = self._table.current()
                self._server, self._ports = nats_server.start(
                    self._dir,
                    accounts.server_config(self._dir),
                    self._origins,
                    before or nats_server.last_ports(self._dir),
                    keep_url=before is not None,
                    closing=self.closing,
                )
                nats_server.remember_ports(self._dir, self._ports)
        except LookbackError as error:  # keys or roles that cannot be read
            raise ServerError(str(error)) from None
        if before != self._ports:  # the programs have the old monitoring port
            self._stop_programs()

    def _apply_roles(self) -> None:
        """Apply a changed roles file to the server."""
        assert self._table is not None
        roles = self._table.current()
        if roles is not self._applied:
            try:
                accounts.permit(self._dir, roles)
            except LookbackError as error:
                raise ServerError(str(error)) from None
            self._applied = roles

    def _join(self) -> None:
        ports = nats_server.last_ports(self._dir)
        if ports and nats_server.is_ready(self._dir, ports):
            self._ports = ports


def _is_due(child: Guarded | None) -> bool:
    return child is None or (not child.running and time.monotonic() > child.started + RESTART_PAUSE)
