"""Aggregates per bucket of time. Only buckets whose rows have changed are computed again."""

from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa

from ..sql.arrow import Table
from ..sql.bounded import Limits
from ..sql.engine import Stop, ask
from ..sql.guard import check_select
from ..sql.names import every_sql
from ..table.snapshot import Snapshot
from ..table.values import Ints


class Every:
    """The work of every(): buckets of `length` on a grid that begins at the epoch, per series.

    A bucket has changed if rows entered it, late rows included, or left it. All buckets are computed again
    when the generation of the rows changes.
    """

    moment = False
    typed = False

    def __init__(self, length: pd.Timedelta, by: tuple[str, ...], shows: Mapping[str, str]) -> None:
        """Raises SqlError, with the place of the mistake."""
        self.sql = every_sql(length, by, shows)
        self.statement = check_select(self.sql, ("rows",))
        self._step = length.value // 1000 * 1000
        self._generation: int | None = None
        self._first = 0
        self._times: Ints = np.zeros(0, dtype=np.int64)  # of the rows so far
        self._kept: pa.Table | None = None
        self.worked_out = 0
        """How many rows the last result was computed from."""

    @property
    def identity(self) -> Hashable:
        """Equal for equal work."""
        return "every", self.sql

    def __call__(self, tables: Mapping[str, Table], limits: Limits, stop: Stop) -> pa.Table:
        """The result. Raises SqlError."""
        rows = tables["rows"]
        assert isinstance(rows, Snapshot)
        kept = self._kept
        buckets = self._changed(rows) if kept is not None and rows.generation == self._generation else None
        self._kept, self._generation = None, rows.generation  # compute all again if this fails
        if buckets is None or kept is None:
            self.worked_out = len(rows)
            made = ask(self.statement, {"rows": rows}, limits=limits, stop=stop)
        else:
            part = _within(rows, buckets, self._step)
            self.worked_out = len(part)
            news = ask(self.statement, {"rows": part}, limits=limits, stop=stop)
            # DuckDB rounds the times of buckets down to microseconds, so the grid is rounded, too.
            of = np.asarray(kept.column("time").combine_chunks().cast(pa.int64())) * 1000 // self._step
            made = kept.filter(pa.array(~np.isin(of, buckets)))
            if news.schema != made.schema:  # a column's type follows from its values
                made = ask(self.statement, {"rows": rows}, limits=limits, stop=stop)
            else:
                made = pa.concat_tables([made, news]).combine_chunks()
        self._first, self._times, self._kept = rows.first, rows.time, made
        return made

    def _changed(self, rows: Snapshot) -> Ints:
        """Indices of the buckets that rows have entered or left since the last result."""
        end = self._first + len(self._times)
        left = self._times[: max(0, rows.first - self._first)]
        came = rows.times(max(end, rows.first))
        # Prepended rows change the generation, so they need no check here.
        return np.unique(np.concatenate([left, came]) // self._step)


def _within(rows: Snapshot, buckets: Ints, step: int) -> Snapshot:
    """The rows in these buckets."""
    if not len(buckets):
        return rows.between(rows.end, rows.end)
    if not rows.ordered:
        return rows.where(np.isin(rows.time // step, buckets))
    first = np.searchsorted(rows.time, buckets * step)
    last = np.searchsorted(rows.time, (buckets + 1) * step)
    return rows.where(np.concatenate([np.arange(*ends) for ends in zip(first, last, strict=True)]))
