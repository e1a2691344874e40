"""Finer bins for the stretches of a chart that viewers have zoomed into.

A tile is TILE bins of one width on an absolute grid. So viewers of about the same stretch share tiles, and
panning needs only new tiles at the edge. A tile is computed from the window's rows once; after that, an
update processes only new rows.
"""

import secrets
import threading
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..table.snapshot import Snapshot
from ..table.values import Floats, Ints, is_null

TILE = 256
"""Bins of a tile."""
MOST_TILES = 24
"""Tiles of one width that are kept of a chart; a screen shows at most eight."""


class Cells(NamedTuple):
    """Cells of a chart, a row each: series `row` had values from `low` to `high` in bin `bin`. An infinite
    low says that the cell is empty now; -inf that there were only nulls."""

    bin: Ints
    row: Ints
    low: Floats
    high: Floats
    base: Floats
    """By series: what its values are to be told relative to, so that float32 is exact enough."""


def bases(low: Floats, high: Floats) -> Floats:
    """For series with values from `low` to `high`, what float32 can tell them relative to: 0 where it is
    exact enough for what a chart can show, so not for a large counter that moves little."""
    held = low < np.inf
    base = np.zeros(len(low))
    low, high = low[held], high[held]
    base[held] = np.where(np.maximum(np.abs(low), np.abs(high)) > 1000 * (high - low), low, 0.0)
    return base


def put(low: Floats, high: Floats, changed: Ints, cells: Ints, values: Floats, version: int) -> None:
    """Take `values` into the `cells` (places in the flattened arrays), and note the version of those that are
    other than before."""
    low, high = low.reshape(-1), high.reshape(-1)
    lowest, highest = low[cells], high[cells]
    np.minimum.at(low, cells, values)
    np.maximum.at(high, cells, values)
    changed.reshape(-1)[cells[(low[cells] < lowest) | (high[cells] > highest)]] = version


def put_nulls(low: Floats, nulls: npt.NDArray[np.bool_], changed: Ints, cells: Ints, version: int) -> None:
    """Note in `nulls` the `cells` of `low` in which a series says that it has no value."""
    new = cells[~nulls.reshape(-1)[cells]]
    nulls.reshape(-1)[new] = True
    changed.reshape(-1)[new[low.reshape(-1)[new] == np.inf]] = version


class Drawn(Protocol):
    """The chart whose series these are."""

    fields: tuple[str, ...]
    color: str | None
    epoch: int

    def rows(self) -> tuple[int, int | None, list[Ints]]:
        """Its epoch; the row of all that have none of their own; and for each field the row of each code of
        the colour column, below 0 for none yet."""


class Finer(NamedTuple):
    """The changes of some tiles since a version that a browser holds, and the version it has afterwards."""

    epoch: int
    version: int
    whole: bool
    of: int
    """The epoch of the chart whose series these are."""
    step: int
    cells: Cells


class _Tile:
    def __init__(self, series: int = 0, end: int = 0) -> None:
        self.end = end
        """One past the ordinal of the last row taken in."""
        self.low = np.full((series, TILE), np.inf)
        self.high = np.full((series, TILE), -np.inf)
        self.changed = np.zeros((series, TILE), dtype=np.int64)
        self.null = np.zeros((series, TILE), dtype=np.bool_)

    def reach(self, series: int) -> None:
        """Make room for rows below `series`."""
        if (more := series - len(self.low)) > 0:
            new = _Tile(more)
            self.low = np.vstack([self.low, new.low])
            self.high = np.vstack([self.high, new.high])
            self.changed = np.vstack([self.changed, new.changed])
            self.null = np.vstack([self.null, new.null])

    def put(self, rows: Ints, bins: Ints, values: Floats, version: int) -> None:
        """Take in values at these rows and bins of the tile."""
        self.reach(int(rows.max(initial=-1)) + 1)
        put(self.low, self.high, self.changed, rows * TILE + bins, values, version)

    def put_nulls(self, rows: Ints, bins: Ints, version: int) -> None:
        """Note that there is no value at these rows and bins of the tile."""
        self.reach(int(rows.max(initial=-1)) + 1)
        put_nulls(self.low, self.null, self.changed, rows * TILE + bins, version)


class Detail:
    """Tiles of bins `step` ns wide, of the series of `chart`. Thread-safe."""

    def __init__(self, chart: Drawn, step: int) -> None:
        self.step = step
        self._chart = chart
        self._lock = threading.Lock()
        self._generation: int | None = None
        self._start_over(chart.epoch)

    def _start_over(self, of: int) -> None:
        self._epoch = secrets.randbits(32)
        self._of = of
        self._version = 1
        self._tiles: dict[int, _Tile] = {}  # the one that was looked at last is at the end

    @property
    def nbytes(self) -> int:
        """Bytes of the tiles."""
        return sum(3 * tile.low.nbytes + tile.null.nbytes for tile in list(self._tiles.values()))

    def finer(
        self, snapshot: Snapshot, tiles: Sequence[int], epoch: int, since: int, held: frozenset[int]
    ) -> Finer:
        """What changed in `tiles` after version `since` of `epoch`, of which `held` are known; with what is
        new in `snapshot`, which the chart must have taken in before. Raises ColumnError as it does."""
        with self._lock:
            of, others, rows = self._chart.rows()
            if of != self._of or snapshot.generation != self._generation:
                self._start_over(of)
                self._generation = snapshot.generation
            self._version += 1
            for number in tiles:
                if (tile := self._tiles.pop(number, None)) is None:
                    tile = _Tile(end=snapshot.first)
                self._tiles[number] = tile
                if snapshot.end > tile.end:
                    self._take(snapshot, number, tile, others, rows)
            while len(self._tiles) > max(MOST_TILES, len(tiles)):
                del self._tiles[next(iter(self._tiles))]
            whole = epoch != self._epoch
            cells = [self._changed(n, since if n in held and not whole else 0) for n in tiles]
            bins, row, low, high = (np.concatenate(part) for part in zip(*cells, strict=True))
            series = int(row.max(initial=-1)) + 1
            least, greatest = np.full(series, np.inf), np.full(series, -np.inf)
            valued = low > -np.inf
            np.minimum.at(least, row[valued], low[valued])
            np.maximum.at(greatest, row, high)
            found = Cells(bins, row, low, high, bases(least, greatest))
            return Finer(self._epoch, self._version, whole, self._of, self.step, found)

    def _take(
        self, snapshot: Snapshot, number: int, tile: _Tile, others: int | None, rows: list[Ints]
    ) -> None:
        """Put the rows that are new into a tile."""
        start, end = number * TILE * self.step, (number + 1) * TILE * self.step
        new = max(0, tile.end - snapshot.first)
        tile.end = snapshot.end
        part: slice | Ints
        if snapshot.ordered:
            first, last = np.searchsorted(snapshot.time, (start, end)).tolist()
            part = slice(max(first, new), last)
        else:
            times = snapshot.time[new:]
            part = np.flatnonzero((times >= start) & (times < end)) + new
        bins = snapshot.time[part] // self.step - number * TILE
        if not len(bins):
            return
        color = self._chart.color
        codes = snapshot.codes(color)[0][part] if color else np.zeros(len(bins), dtype=np.int32)
        for name, row_of in zip(self._chart.fields, rows, strict=True):
            values = snapshot.numbers(name)[part]
            named = (codes >= 0) & (codes < len(row_of))
            good = np.flatnonzero((np.abs(values) < TOO_LARGE) & named)
            row = row_of[codes[good]]
            good, row = good[row >= 0], row[row >= 0]
            tile.put(row, bins[good], values[good], self._version)
            nulls = np.flatnonzero(is_null(values) & named)
            row = row_of[codes[nulls]]
            drawn = (row >= 0) & (row != (-2 if others is None else others))
            tile.put_nulls(row[drawn], bins[nulls[drawn]], self._version)

    def _changed(self, number: int, since: int) -> tuple[Ints, Ints, Floats, Floats]:
        tile = self._tiles[number]
        row, place = np.nonzero(tile.changed > since)
        low = tile.low[row, place]
        low[(low == np.inf) & tile.null[row, place]] = -np.inf
        return place + number * TILE, row, low, tile.high[row, place]


TOO_LARGE = 3e38
"""float32 on the wire ends here."""
