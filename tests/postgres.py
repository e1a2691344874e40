"""A real PostgreSQL on a free loopback port, its data in a temporary directory."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg

from tests.running import free_port

ADMIN = "admin"
ROLE = "lookback"
READER = "reader"
PASSWORD = "between-us"


def program(name: str) -> str:
    """The path of one of PostgreSQL's programs, of the newest version if there are several."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: int(p.parts[4]))
    path = str(found[-1]) if found else shutil.which(name)
    if path is None:
        raise RuntimeError("Tests of the archive need PostgreSQL: apt-get install postgresql.")
    return path


class PostgresServer:
    """A PostgreSQL with an administrator, an ordinary role and one that can only read; stop() removes its
    files."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._has_database = False
        self._folder = Path(tempfile.mkdtemp(prefix="lookback-postgres-"))
        # PostgreSQL refuses to run as root; Debian's package creates a user for it
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            shutil.chown(self._folder, "postgres", "postgres")
            self._user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        password = self._folder / "password"
        password.write_text(PASSWORD)
        if self._user:
            shutil.chown(password, "postgres")
        self._run(
            "initdb", "-U", ADMIN, "--pwfile", str(password), "-A", "scram-sha-256", "--no-sync", "-E", "UTF8"
        )
        self.start()
        for role in (ROLE, READER):
            self.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")

    def _run(self, name: str, *arguments: str) -> None:
        command = [program(name), "-D", str(self._folder / "data"), *arguments]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, **self._user)
        assert done.returncode == 0, done.stderr.decode()

    def start(self) -> None:
        """Start it, on the same port and data as before, and wait until it answers."""
        self._process = subprocess.Popen(
            [
                program("postgres"),
                *("-D", str(self._folder / "data"), "-k", str(self._folder), "-p", str(self.port)),
                *("-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "shared_buffers=16MB"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self._user,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def signal(self, number: int) -> None:
        """Send a signal to all its processes."""
        assert self._process is not None
        main = psutil.Process(self._process.pid)
        for process in [main, *main.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def kill(self) -> None:
        """kill -9 of all its processes."""
        self.signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def stop(self) -> None:
        """Stop it, and remove its files."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def dsn(self, database: str, role: str = ROLE) -> str:
        """The URL of a database, with the password."""
        return f"postgresql://{role}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def empty_database(self) -> str:
        """Empty the ordinary role's only database, and return its DSN."""
        if not self._has_database:
            self.execute(f"CREATE DATABASE archive OWNER {ROLE} TEMPLATE template0")
            self.execute(
                f"ALTER DEFAULT PRIVILEGES FOR ROLE {ROLE} IN SCHEMA public"
                f" GRANT SELECT ON TABLES TO {READER}",
                "archive",
            )
            self._has_database = True
        self.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN ('{ROLE}', '{READER}')"
        )
        self.execute("DROP TABLE IF EXISTS messages CASCADE", "archive")
        return self.dsn("archive")

    def execute(self, sql: str, database: str = "postgres") -> Sequence[Any]:
        """Run a statement as the administrator, and return its rows."""
        with psycopg.connect(self.dsn(database, ADMIN), autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def running_queries(self) -> int:
        """The number of statements of the two roles that are running, or in an open transaction."""
        rows = self.execute(
            f"SELECT count(*) FROM pg_stat_activity WHERE usename IN ('{ROLE}', '{READER}')"
            " AND state <> 'idle'"
        )
        return int(rows[0][0])


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgresServer, stopped at the end."""
    server = PostgresServer()
    try:
        yield server
    finally:
        server.stop()
