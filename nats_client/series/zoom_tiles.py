"""Finer bins for the time ranges of a chart that viewers have zoomed into.

A tile is TILE bins of one width on an absolute grid. So viewers of about the same range share tiles, and
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
from ..table.values import Codes, Floats, Ints, is_null

TILE = 256
"""Bins per tile."""
MOST_TILES = 24
"""Tiles kept per chart and width; a screen shows at most eight."""


class Cells(NamedTuple):
    """Cells of a chart, one entry per cell in each array but `base`: series `row` has values from `low` to
    `high` in bin `bin`. A `low` of inf means that the cell is empty now, -inf that it has only nulls."""

    bin: Ints
    row: Ints
    low: Floats
    high: Floats
    base: Floats
    """Per series: an offset to subtract from its values, so that float32 is precise enough."""
    last: Floats | None = None
    """The newest value in each cell, of a chart whose values hold until the next one; NaN for a null."""


def bases(low: Floats, high: Floats) -> Floats:
    """Offsets for series with values from `low` to `high`, so that float32 is precise enough for a chart.
    Usually 0; not for a large counter that changes little."""
    held = low < np.inf
    base = np.zeros(len(low))
    low, high = low[held], high[held]
    base[held] = np.where(np.maximum(np.abs(low), np.abs(high)) > 1000 * (high - low), low, 0.0)
    return base


def put(low: Floats, high: Floats, changed: Ints, cells: Ints, values: Floats, version: int) -> None:
    """Update minimum and maximum of `cells` (indices into the flattened arrays) with `values`. Cells that
    change get `version` in `changed`."""
    low, high = low.reshape(-1), high.reshape(-1)
    lowest, highest = low[cells], high[cells]
    np.minimum.at(low, cells, values)
    np.maximum.at(high, cells, values)
    changed.reshape(-1)[cells[(low[cells] < lowest) | (high[cells] > highest)]] = version


class Newest:
    """The newest value of each of `shape` cells; NaN for a null, and where there is none."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.value = np.full(shape, np.nan)
        self.time = np.full(shape, NEVER, dtype=np.int64)

    def put(self, changed: Ints, cells: Ints, times: Ints, values: Floats, version: int) -> None:
        """Update `cells` (indices into the flattened arrays) with values and nulls in order of arrival. Cells
        that change get `version` in `changed`."""
        value, time = self.value.reshape(-1), self.time.reshape(-1)
        order = np.argsort(times, kind="stable")
        order = order[times[order] >= time[cells[order]]]
        cells, values = cells[order], np.where(is_null(values[order]), np.nan, values[order])
        before = value[cells]
        value[cells], time[cells] = values, times[order]  # of several for one cell, the last stays
        changed.reshape(-1)[cells[~same_numbers(value[cells], before)]] = version

    def clear(self, places: Ints) -> None:
        """Clear these columns."""
        self.value[:, places] = np.nan
        self.time[:, places] = NEVER

    def reach(self, rows: int) -> None:
        """Make room for rows below `rows`."""
        if (more := rows - len(self.value)) > 0:
            new = Newest((more, self.value.shape[1]))
            self.value = np.vstack([self.value, new.value])
            self.time = np.vstack([self.time, new.time])


def put_nulls(low: Floats, nulls: npt.NDArray[np.bool_], changed: Ints, cells: Ints, version: int) -> None:
    """Mark `cells` (indices into the flattened arrays) as having an explicit null. Cells without values get
    `version` in `changed` if they were not marked before."""
    new = cells[~nulls.reshape(-1)[cells]]
    nulls.reshape(-1)[new] = True
    changed.reshape(-1)[new[low.reshape(-1)[new] == np.inf]] = version


NEVER = np.iinfo(np.int64).min
"""The time of a cell without a value."""


class Drawn(Protocol):
    """The part of Bins that tiles need."""

    fields: tuple[str, ...]
    hold: bool
    epoch: int

    def rows(self) -> tuple[int, int | None, list[Ints]]:
        """The epoch; the row into which undrawn series are folded; and for each field, the row of each code
        of codes(), negative if it has none yet."""

    def codes(self, snapshot: Snapshot) -> tuple[Codes, list[str]]:
        """The code of each row, of the columns that split rows into series, and the labels, see
        Snapshot.codes."""


class FinerChanges(NamedTuple):
    """The changes of some tiles since a version that a browser has, and the version it will have after
    applying them."""

    epoch: int
    version: int
    whole: bool
    of: int
    """The epoch of the chart."""
    step: int
    cells: Cells


class _Tile:
    def __init__(self, series: int = 0, end: int = 0, *, hold: bool = False) -> None:
        self.end = end
        """One past the ordinal of the last processed row."""
        self.low = np.full((series, TILE), np.inf)
        self.high = np.full((series, TILE), -np.inf)
        self.changed = np.zeros((series, TILE), dtype=np.int64)
        self.null = np.zeros((series, TILE), dtype=np.bool_)
        self.newest = Newest((series, TILE)) if hold else None

    def reach(self, series: int) -> None:
        """Make room for rows below `series`."""
        if (more := series - len(self.low)) > 0:
            new = _Tile(more)
            self.low = np.vstack([self.low, new.low])
            self.high = np.vstack([self.high, new.high])
            self.changed = np.vstack([self.changed, new.changed])
            self.null = np.vstack([self.null, new.null])
            if self.newest is not None:
                self.newest.reach(series)

    def changed_since(self, before: "_Tile", version: int) -> None:
        """Mark as changed all cells that differ from the tile `before`, which this tile replaces."""
        series = max(len(self.low), len(before.low))
        self.reach(series)
        before.reach(series)
        same = (self.low == before.low) & (self.high == before.high) & (self.null == before.null)
        if self.newest is not None and before.newest is not None:
            same &= same_numbers(self.newest.value, before.newest.value)
        self.changed = np.where(same, before.changed, version)

    def put(self, rows: Ints, bins: Ints, values: Floats, version: int) -> None:
        """Update the cells at `rows` and `bins` of the tile with `values`."""
        self.reach(int(rows.max(initial=-1)) + 1)
        put(self.low, self.high, self.changed, rows * TILE + bins, values, version)

    def put_nulls(self, rows: Ints, bins: Ints, version: int) -> None:
        """Mark the cells at `rows` and `bins` of the tile as having an explicit null."""
        self.reach(int(rows.max(initial=-1)) + 1)
        put_nulls(self.low, self.null, self.changed, rows * TILE + bins, version)


class FinerBins:
    """The tiles of `chart` with bins of `step` ns. Thread-safe."""

    def __init__(self, chart: Drawn, step: int, *, replaced: bool = False) -> None:
        """`replaced`: each snapshot replaces the previous one, and cells that stay the same do not count as
        changed."""
        self.step = step
        self.replaced = replaced
        self._chart = chart
        self._lock = threading.Lock()
        self._rows_of: int | None = None
        self._start_over(chart.epoch)

    def _start_over(self, of: int) -> None:
        self._epoch = secrets.randbits(32)
        self._of = of
        self._version = 1
        self._tiles: dict[int, _Tile] = {}  # least recently used first

    @property
    def nbytes(self) -> int:
        """Bytes of the tiles."""
        each = 5 if self._chart.hold else 3
        return sum(each * tile.low.nbytes + tile.null.nbytes for tile in list(self._tiles.values()))

    def changes(
        self, snapshot: Snapshot, tiles: Sequence[int], epoch: int, since: int, held: frozenset[int]
    ) -> FinerChanges:
        """Process the new rows of `snapshot`, and return the changes in `tiles` after version `since` of
        `epoch`. The browser has the tiles `held`; the others are returned completely. Call chart.update()
        with the snapshot first. Raises ColumnError if a column does not exist or is of another kind."""
        with self._lock:
            of, others, rows = self._chart.rows()
            rows_of = snapshot.version if self.replaced else snapshot.generation
            other, self._rows_of = rows_of != self._rows_of, rows_of
            if of != self._of or (other and not self.replaced):
                self._start_over(of)
            self._version += 1
            before = self._tiles
            if other:
                self._tiles = {}
            for number in tiles:
                if (tile := self._tiles.pop(number, None)) is None:
                    tile = _Tile(end=snapshot.first, hold=self._chart.hold)
                self._tiles[number] = tile
                if snapshot.end > tile.end:
                    self._take(snapshot, number, tile, others, rows)
                if other and number in before:
                    tile.changed_since(before[number], self._version)
            while len(self._tiles) > max(MOST_TILES, len(tiles)):
                del self._tiles[next(iter(self._tiles))]
            whole = epoch != self._epoch
            cells = [self._changed(n, since if n in held and not whole else 0) for n in tiles]
            bins, row, low, high, last = (np.concatenate(part) for part in zip(*cells, strict=True))
            series = int(row.max(initial=-1)) + 1
            least, greatest = np.full(series, np.inf), np.full(series, -np.inf)
            valued = low > -np.inf
            np.minimum.at(least, row[valued], low[valued])
            np.maximum.at(greatest, row, high)
            found = Cells(bins, row, low, high, bases(least, greatest), last if self._chart.hold else None)
            return FinerChanges(self._epoch, self._version, whole, self._of, self.step, found)

    def _take(
        self, snapshot: Snapshot, number: int, tile: _Tile, others: int | None, rows: list[Ints]
    ) -> None:
        """Add the new rows to a tile."""
        start, end = number * TILE * self.step, (number + 1) * TILE * self.step
        new = max(0, tile.end - snapshot.first)
        tile.end = snapshot.end
        part: slice | Ints
        if snapshot.ordered:
            first, last = np.searchsorted(snapshot.time, (start, end)).tolist()
            part = slice(max(first, new), last)
        else:
            late = snapshot.time[new:]
            part = np.flatnonzero((late >= start) & (late < end)) + new
        times = snapshot.time[part]
        bins = times // self.step - number * TILE
        if not len(bins):
            return
        codes = self._codes(snapshot, part)
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
            if tile.newest is not None:
                each = np.sort(np.concatenate([good, nulls[drawn]]))
                cells = row_of[codes[each]] * TILE + bins[each]
                tile.newest.put(tile.changed, cells, times[each], values[each], self._version)

    def _codes(self, snapshot: Snapshot, part: slice | Ints) -> Codes:
        if isinstance(part, slice):  # pairs are computed row by row, so not for all of the window
            first = snapshot.first
            return self._chart.codes(snapshot.between(first + part.start, first + part.stop))[0]
        return self._chart.codes(snapshot)[0][part]

    def _changed(self, number: int, since: int) -> tuple[Ints, Ints, Floats, Floats, Floats]:
        tile = self._tiles[number]
        row, place = np.nonzero(tile.changed > since)
        low = tile.low[row, place]
        low[(low == np.inf) & tile.null[row, place]] = -np.inf
        last = low if tile.newest is None else tile.newest.value[row, place]
        return place + number * TILE, row, low, tile.high[row, place], last


def same_numbers(one: Floats, other: Floats) -> npt.NDArray[np.bool_]:
    """True where two arrays are equal, or both NaN."""
    return np.asarray((one == other) | (np.isnan(one) & np.isnan(other)))


TOO_LARGE = 3e38
"""Values at least this large are skipped, because the wire format is float32."""
