"""Rows that a page passes instead of a stream: a pandas table over time, which the page can replace."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from ..errors import ColumnError, one_of
from ..feeds.derived import Derived
from ..feeds.health import FeedKey, Health, Message
from ..sql.arrow import ResultRows, arrow_table
from ..table.snapshot import Snapshot
from ..table.window import Window
from ..watchers import Watchers
from .result import EMPTY_HEALTH, round_up
from .result_bins import ResultBins

RECENT = 0.1
"""If the age of the newest row is at most this share of the rows' span, or a minute, the time axis ends now.
Otherwise it ends shortly after that row."""
MARGIN = 0.02
"""Share of the rows' span left free on each side, because a point at the edge would not be visible."""
SHORTEST = 1_000_000_000
"""Minimum length of the time axis, ns."""
MOMENT = 60_000_000_000
"""Length of the time axis if all rows have the same time, ns."""


class GivenRows(Derived):
    """The rows of the last table passed to put(). Readers use it like a feed."""

    _bins_class = ResultBins

    def __init__(self, name_key: object) -> None:
        """`name_key`: an identifier that stays the same after a restart of the app."""
        super().__init__()
        self.name_key = name_key
        self.events = ()
        self.look_back = pd.Timedelta(minutes=5)
        """How far back it reaches: to the oldest row or a little further."""
        self._rows = ResultRows()
        self._snapshot: Snapshot = Window().snapshot()
        self._watchers = Watchers()

    def put(self, table: "pd.DataFrame | pd.Series[Any]", columns: Sequence[str] | None = None) -> None:
        """Replace the rows with those of `table`, with only these `columns` (default: all). The times are the
        index or one of its levels, or else the column `_time` or `time`; without a zone, they are in UTC.
        Raises ColumnError if there are no times, or no such column."""
        self._snapshot = self._rows.snapshot(arrow_table(with_times(table, columns)), time.time_ns())
        if len(self._snapshot):
            length = self._length()
            if self.key.end is None:
                reach = self.now() - int(self._snapshot.time[0])
                self.look_back = round_up(max(length, int((1 + MARGIN) * reach)), self.look_back)
            elif not length <= self.look_back.value <= 1.1 * length:
                self.look_back = pd.Timedelta(length, unit="ns")
        self._watchers.notify()

    @property
    def key(self) -> FeedKey:
        """A key without a stream. If the newest row is old or in the future, the key has an `end` shortly
        after that row. Then the clock stands still there, as at a stretch of the past."""
        end = None
        if len(self._snapshot):
            oldest, newest = int(self._snapshot.time[0]), int(self._snapshot.time[-1])
            if not 0 <= time.time_ns() - newest <= max(RECENT * (newest - oldest), MOMENT):
                end = newest + (self._length() - (newest - oldest)) // 2
        return FeedKey(None, None, "given", None, end=end)

    def now(self) -> int:
        """This machine's clock, or the end of the rows, ns since the epoch, UTC."""
        end = self.key.end
        return time.time_ns() if end is None else end

    def _length(self) -> int:
        """The span of the rows with the margins on both sides, ns."""
        span = int(self._snapshot.time[-1]) - int(self._snapshot.time[0])
        return max(SHORTEST, int((1 + 2 * MARGIN) * span)) if span else MOMENT

    def snapshot(self) -> Snapshot:
        """The rows."""
        return self._snapshot

    def newest(self) -> list[Message]:
        """Always empty: these rows have no raw messages."""
        return []

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` after each put(). Returns a function that ends this."""
        return self._watchers.add(changed)

    @property
    def health(self) -> Health:
        """Always healthy; the history starts with the oldest row."""
        return (
            replace(EMPTY_HEALTH, history_start=int(self._snapshot.time[0]))
            if len(self._snapshot)
            else EMPTY_HEALTH
        )

    def health_of(self, look_back: pd.Timedelta) -> Health:
        """Equal to `health`: the look-back does not matter."""
        return self.health


def with_times(table: "pd.DataFrame | pd.Series[Any]", columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The rows of `table` with their times as the first column, `_time`, and only these other `columns`
    (default: all). Raises ColumnError if there are no times, or no such column."""
    frame = table.to_frame(table.name or "value") if isinstance(table, pd.Series) else table
    plain = isinstance(frame.index, pd.RangeIndex) and frame.index.name is None
    flat = frame.copy(deep=False) if plain else frame.reset_index()
    flat.columns = pd.Index([str(name) for name in flat.columns])
    levels = [] if plain else list(flat.columns[: frame.index.nlevels])
    at = next((name for name in (*levels, "_time", "time") if _holds_times(flat, name)), None)
    if at is None:
        raise ColumnError(
            "This table has no times to draw it over. Its index, or its column `_time` or `time`, must hold "
            "times: pd.to_datetime() makes them."
        )
    others = [name for name in flat.columns if name != at]
    wanted = others if columns is None else list(dict.fromkeys(columns))
    for name in wanted:
        if name not in others:
            raise ColumnError(f"There is no column {name!r}. " + one_of(name, others, what="column"))
    return flat[[at, *wanted]].rename(columns={at: "_time"})


def _holds_times(frame: pd.DataFrame, name: str) -> bool:
    return name in frame.columns and pd.api.types.is_datetime64_any_dtype(frame[name].dtype)
