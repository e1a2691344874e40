"""Opens the database of the archive."""

from pathlib import Path
from typing import Any

from services.history.database import Database


def open_database(file: Path, dsn: str | None, reader_dsn: str | None = None) -> Database:
    """PostgreSQL if there is a DSN, else DuckDB in `file`. Raises DatabaseFailed if a DSN cannot be
    parsed."""
    # Imported here, so that a process loads only the driver it uses
    if dsn or reader_dsn:
        from services.history.postgresql import PostgreSql

        return PostgreSql(dsn or reader_dsn or "", reader_dsn)
    from services.history.duckdb_file import DuckDb

    return DuckDb(file)


def open_archive(lent: dict[str, Any], memory: int) -> Database:
    """An archive that another process lends to this one, for reading only. `memory`: bytes that DuckDB may
    have."""
    if "file" in lent:
        from services.history.duckdb_file import DuckDb

        return DuckDb(Path(lent["file"]), scratch=Path(lent["scratch"]), memory=memory)
    from services.history.postgresql import PostgreSql

    return PostgreSql(lent["dsn"])
