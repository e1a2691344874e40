"""Messages for an archive, and queries of it."""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

from services.history.database import Database, Message, Scalar
from services.history.duckdb_file import DuckDb
from tests.nats import NatsServer
from tests.running import ROOT
from tests.waiting import until

CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def message(seq: int, payload: bytes = b'{"p": 1}', created: datetime = CREATED) -> Message:
    """One message, stored `seq` seconds after the stream's creation."""
    return Message("S", created, seq, CREATED + timedelta(seconds=seq), f"s.{seq % 3}", payload)


def fill(database: Database, count: int) -> None:
    """Store messages 1 to `count`, with their sequence in the payload."""
    database.insert([message(seq, b'{"n": %d}' % seq) for seq in range(1, count + 1)])


def rows(
    database: Database, sql: str, parameters: Mapping[str, Scalar] | None = None
) -> list[dict[str, Any]]:
    """All rows of a query."""
    with database.query(sql, parameters or {}, 30) as query:
        found: list[dict[str, Any]] = pa.Table.from_batches(query.batches(), query.schema).to_pylist()
        return found


@contextmanager
def history(server: NatsServer, folder: Path, messages: Sequence[Message]) -> Iterator[None]:
    """The history service of `server`, over an archive of these messages; killed at the end."""
    archive = DuckDb(folder / "history.duckdb")
    archive.insert(messages)
    archive.close()
    process = subprocess.Popen(
        [sys.executable, "-m", "services.history", server.url, str(folder / "history.duckdb")], cwd=ROOT
    )

    def answers() -> bool:
        try:
            server.run(lambda nc: nc.request("history.tables", b"", timeout=5))
        except Exception:
            return False
        return True

    try:
        until(answers)
        yield
    finally:
        queries = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        assert not psutil.wait_procs(queries, 20)[1]  # DuckDB's file is in use while one of them lives
