"""Fixtures: a data directory, stand-ins for the app that use it, and databases."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from services.history.database import Database
from services.history.databases import open_database
from tests.postgres import READER, PostgresServer, postgres_server
from tests.services.stand_ins import App, is_alive, wait_for


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def run_app(data_dir: Path) -> Iterator[Callable[[], App]]:
    """Start stand-ins on one data directory. At the end, none of their processes may be left."""
    apps: list[App] = []

    def run() -> App:
        apps.append(App(data_dir))
        return apps[-1]

    yield run
    for app in apps:
        app.kill()
    left: list[psutil.Process] = []

    def none_left() -> bool:
        left[:] = [
            process
            for process in psutil.process_iter(["cmdline"])
            if any(str(data_dir) in word for word in process.info["cmdline"] or []) and is_alive(process)
        ]
        return not left

    try:
        wait_for(none_left, "an end of all processes")
    finally:
        for process in left:
            process.kill()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL for all tests, which use its database one after another."""
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["DuckDB", "PostgreSQL"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty archive; each test runs once with each database."""
    dsn = reader = None
    if request.param == "PostgreSQL":
        server: PostgresServer = request.getfixturevalue("postgres")
        dsn, reader = server.empty_database(), server.dsn("archive", READER)
    archive = open_database(tmp_path / "history.duckdb", dsn, reader)
    yield archive
    archive.close()
