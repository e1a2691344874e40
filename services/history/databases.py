"""Which database the archive is in."""

from pathlib import Path
from typing import Any

from services.history.database import Database


def open_database(file: Path, dsn: str | None, reader_dsn: str | None = None) -> Database:
    """PostgreSQL where there is a DSN, else DuckDB in `file`. Raises DatabaseFailed on an unreadable DSN."""
    # Here, so that a process loads the driver of the one that it uses
    if dsn or reader_dsn:
        from services.history.postgresql import PostgreSql

        return PostgreSql(dsn or reader_dsn or "", reader_dsn)
    from services.history.duckdb_file import DuckDb

    return DuckDb(file)


def open_archive(lent: dict[str, Any]) -> Database:
    """An archive that another process lends to this one, to be read only."""
    if "file" in lent:
        from services.history.duckdb_file import DuckDb

        return DuckDb(Path(lent["file"]), scratch=Path(lent["scratch"]))
    from services.history.postgresql import PostgreSql

    return PostgreSql(lent["dsn"])
