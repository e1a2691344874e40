"""Reads the result of a checked SELECT, up to a number of rows and bytes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import duckdb
import pyarrow as pa

from ..environment import SQL_SECONDS
from .guard import Statement

PATIENCE = 6
"""The time that a statement may take, as a multiple of its processor time: other threads go first."""
_BATCH = 65_536

Single = str | int | float | bool | datetime | None
Parameter = Single | tuple[Single, ...]
"""A value that a parameter may be bound to. A tuple becomes a list."""


@dataclass(frozen=True)
class Limits:
    """The limits of one statement."""

    seconds: float = field(default_factory=SQL_SECONDS.read)
    """Processor time. On a busy machine the statement may take PATIENCE times as long."""
    rows: int = 1_000_000
    nbytes: int = 128 << 20
    """Bytes of the result."""

    @property
    def too_slow(self) -> str:
        """The error text for a statement that exceeded its processor time."""
        return (
            f"The query took more than {self.seconds:g} s of processor time and was stopped. "
            "Read fewer rows or group them."
        )

    @property
    def too_long(self) -> str:
        """The error text for a statement that took too long on a busy machine."""
        return f"The query took more than {PATIENCE * self.seconds:g} s and was stopped."


def read(
    connection: duckdb.DuckDBPyConnection,
    statement: Statement,
    parameters: Mapping[str, Parameter],
    limits: Limits,
) -> pa.Table:
    """The result of `statement` over the tables that are registered with the connection. Raises SqlError with
    the limit that was reached, and DuckDB's errors."""
    sql = statement.sql.rstrip().rstrip(";")
    bound = {
        name: list(value) if isinstance(value, tuple) else value for name, value in parameters.items()
    } or None
    try:
        relation = connection.sql(sql, params=bound)
    except (duckdb.BinderException, duckdb.CatalogException):
        connection.execute(sql, bound)  # fails as well, with the place of the mistake
        raise
    reader = relation.to_arrow_reader(_BATCH)
    batches, rows, nbytes = [], 0, 0
    for batch in reader:
        rows, nbytes = rows + batch.num_rows, nbytes + batch.nbytes
        if rows > limits.rows:
            raise statement.error(
                f"The result has more than {limits.rows:,} rows. Group them, or add a LIMIT."
            )
        if nbytes > limits.nbytes:
            raise statement.error(
                f"The result has more than {limits.nbytes >> 20:,} MiB. Read fewer columns or rows."
            )
        batches.append(batch)
    return pa.Table.from_batches(batches, reader.schema)
