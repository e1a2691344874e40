"""The types and values of a window's fields, per pattern of subjects, and when these changed.

Updated incrementally: rows are counted in tiles, sixty per look-back, on an absolute grid of storage times.
New rows are added to their tile, and a tile is dropped once all of its rows are too old.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd

from ..decoding.payload_times import read_times
from ..table.columns import Part
from ..table.snapshot import Snapshot
from ..table.values import EXACT, IS_NUMBER, IS_TEXT, IS_TIME, Codes, Floats, Ints
from .subject_patterns import SubjectPatterns

Type = Literal["number", "text", "time"]
TILES = 60
"""Tiles per look-back."""
SHORTEST = 10**9
"""Minimum length of a tile, ns."""
MOST_FIELDS = 2_000
"""Maximum number of fields, of all patterns together."""
MOST_DISTINCT = 1_000
"""Maximum number of different values counted for one field."""
MOST_VALUES = 200_000
"""Maximum number of different values of all fields together; with many fields, each gets fewer."""
SURE = 8.0
"""The number of rows with a type or field that its share lets expect, but that are lacking, from which on it
counts as a change. By chance, that happens once in 3,000 times."""
FEWEST = 10
"""Minimum number of rows from which a share is computed."""
NAMES: dict[int, Type] = {IS_NUMBER: "number", IS_TEXT: "text", IS_TIME: "time"}

Number = float | int
Value = float | int | str


@dataclass(frozen=True)
class FieldTypes:
    """One field in the rows of one pattern, or of all patterns."""

    name: str
    rows: int
    """Number of rows that have the field."""
    share: float
    """Their share of all rows, 0 to 1."""
    types: Mapping[Type, int]
    """Number of rows by the type of their value as received, the most frequent type first."""
    integral: bool
    """True if all numbers are integers."""
    newest: Mapping[Type, Value]
    """The value of each type in the row with the latest time, as received."""
    least: float | int | pd.Timestamp | None
    """The smallest number or the earliest time (UTC), whichever type is more frequent; None for text."""
    greatest: float | int | pd.Timestamp | None
    distinct: int
    """Different values."""
    more: bool
    """True if there are more different values than were counted."""


@dataclass(frozen=True)
class Change:
    """A change of a field within the look-back: a new type, its first row, or its last."""

    kind: Literal["type", "appears", "vanishes"]
    """Values of another type, a field that is new, or a field that has vanished."""
    pattern: str
    field: str
    type: Type | None
    """Only for the kind "type"."""
    since: int
    """When the first such row was stored, or the last one of a field that vanished; ns since the epoch,
    UTC."""
    until: int | None
    """When the last such row was stored, if they have stopped. None for a field that vanished."""
    share: float
    """Share of the pattern's rows from then on; for a field that vanished, its share before."""
    example: Value | None
    """Such a value in the row with the latest time."""


@dataclass(frozen=True)
class Report:
    """The fields of a window, their types, and when these changed."""

    patterns: Mapping[str, float]
    """Patterns of subjects and their share of the rows, the most frequent first, then by name."""
    fields: Sequence[FieldTypes]
    """In the order of the columns."""
    changes: Sequence[Change]
    """The newest first."""
    left_out: bool
    """True if there are more than MOST_FIELDS."""


@dataclass(slots=True)
class _Held:
    """Values of one type in the rows of one pattern. Row numbers count the rows of the pattern."""

    count: int
    first_at: int
    first_row: int
    last_at: int
    last_row: int
    least: Number | None
    greatest: Number | None
    integral: bool
    newest_at: int
    """The latest time of their rows; of rows with equal times, the last."""
    newest: Value
    """The value of that row."""

    def with_later(self, later: "_Held", rows: int) -> "_Held":
        """This and `later`, whose numbers of rows begin at `rows`."""
        newest = later if later.newest_at >= self.newest_at else self
        return _Held(
            self.count + later.count,
            self.first_at,
            self.first_row,
            later.last_at,
            later.last_row + rows,
            _one_of(min, self.least, later.least),
            _one_of(max, self.greatest, later.greatest),
            self.integral and later.integral,
            newest.newest_at,
            newest.newest,
        )


def _one_of(pick: Callable[[list[Number]], Number], *numbers: Number | None) -> Number | None:
    known = [number for number in numbers if number is not None]
    return pick(known) if known else None


_Types = dict[int, _Held]
_Key = tuple[int, str]


@dataclass(slots=True)
class _Tile:
    rows: dict[int, int] = field(default_factory=dict)
    """By pattern."""
    cells: dict[_Key, _Types] = field(default_factory=dict)


@dataclass(slots=True)
class _Values:
    """The different values of one field. The tiles up to `full` had too many."""

    held: dict[int, int] = field(default_factory=dict)
    """The last tile of each."""
    full: int | None = None


class FieldCourses:
    """The fields of a window, per pattern, shared by all viewers of one look-back. The cost depends on the
    number of new rows, not on the size of the window. Thread-safe."""

    def __init__(self, look_back: pd.Timedelta) -> None:
        self._step = max(SHORTEST, look_back.value // TILES)
        self._lock = threading.Lock()
        self._labels: list[str] | None = None
        self._patterns = SubjectPatterns()
        self._generation: int | None = None
        self._version = 0  # of the last snapshot; other threads may still pass older ones
        self._start_over()

    def _start_over(self) -> None:
        self._end: int | None = None  # one past the ordinal of the last row counted
        self._tiles: dict[int, _Tile] = {}
        self._values: dict[_Key, _Values] = {}
        self._left_out = False
        self._merged: tuple[dict[int, int], dict[_Key, _Types]] | None = None

    @property
    def nbytes(self) -> int:
        """Estimated bytes."""
        tiles = list(self._tiles.values())
        values = sum(len(each.held) for each in list(self._values.values()))
        return 400 * sum(len(tile.cells) for tile in tiles) + 100 * values + self._patterns.codes.nbytes

    def report(self, snapshot: Snapshot, pattern: str | None = None) -> Report:
        """A report of the rows of `snapshot`, with the fields of `pattern`, by default of all patterns."""
        with self._lock:
            if snapshot.generation != self._generation or snapshot.version >= self._version:
                # A playback can go back.
                if snapshot.generation != self._generation or snapshot.end < (self._end or 0):
                    self._start_over()
                self._generation, self._version = snapshot.generation, snapshot.version
                self._take(snapshot)
                self._forget(snapshot)
            if self._merged is None:
                self._merged = self._merge()
            rows, cells = self._merged
            names, total = self._patterns.names, max(1, sum(rows.values()))
            order = list(snapshot.columns)
            named = sorted((-count, names.get(code, "")) for code, count in rows.items())
            shares = {name: -count / total for count, name in named}
            chosen = [code for code in rows if pattern is None or names.get(code, "") == pattern]
            fields = [self._field(name, chosen, rows, cells) for name in order]
            return Report(shares, list(filter(None, fields)), self._changes(rows, cells), self._left_out)

    # -- counting ----------------------------------------------------------------------------------------

    def _take(self, snapshot: Snapshot) -> None:
        codes: Codes = np.zeros(len(snapshot), dtype=np.int32)
        if "_subject" in snapshot.columns:
            codes, labels = snapshot.codes("_subject")
            count = len(labels)
            if labels is not self._labels:
                self._labels, self._patterns = labels, SubjectPatterns()
                self._start_over()
            if self._patterns.add(labels, count):
                self._start_over()
            start = 0 if self._end is None else max(0, self._end - snapshot.first)
            codes = self._patterns.codes[codes[start:]]
        else:
            start = 0 if self._end is None else max(0, self._end - snapshot.first)
            codes = codes[start:]
        self._end = snapshot.end
        if not len(codes):
            return
        self._merged = None
        stored, times = snapshot.received[start:], snapshot.time[start:]
        numbers = stored // self._step
        parts = [
            (name, snapshot.received_as(name, snapshot.first + start))
            for name in snapshot.columns
            if name != "_subject"
        ]
        ends = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
        for low, high in pairwise(ends):
            some = slice(low, high)
            tile = self._tiles.setdefault(int(numbers[low]), _Tile())
            groups = _groups(codes[some])
            for name, part in parts:
                cut = part.cut(some)
                self._count(int(numbers[low]), tile, groups, name, cut, stored[some], times[some])
            for code, rows in groups:
                tile.rows[code] = tile.rows.get(code, 0) + len(rows)

    def _count(
        self,
        number: int,
        tile: _Tile,
        groups: "list[tuple[int, Ints]]",
        name: str,
        part: Part,
        stored: Ints,
        times: Ints,
    ) -> None:
        types = part.types()
        if not types.any():
            return
        keys: Ints | None = None
        for code, rows in groups:
            mine = types[rows]
            for held in np.flatnonzero(np.bincount(mine, minlength=4)[1:]) + 1:
                kind = int(held)
                key = code, name
                if key not in self._values:
                    if len(self._values) >= MOST_FIELDS:
                        self._left_out = True
                        continue
                    self._values[key] = _Values()
                at = np.flatnonzero(mine == kind)
                places = rows[at]
                keys = part.keys() if keys is None else keys
                newest = int(places[len(places) - 1 - times[places][::-1].argmax()])
                found = _Held(
                    len(at),
                    int(stored[places[0]]),
                    int(at[0]),
                    int(stored[places[-1]]),
                    int(at[-1]),
                    *_extremes(part, kind, places, keys),
                    int(times[newest]),
                    part.value(newest),
                )
                cell = tile.cells.setdefault(key, {})
                before = tile.rows.get(code, 0)
                if kind in cell:
                    cell[kind] = cell[kind].with_later(found, before)
                else:
                    found.first_row += before
                    found.last_row += before
                    cell[kind] = found
                self._count_different(self._values[key], number, keys[places])

    def _count_different(self, values: _Values, number: int, keys: Ints) -> None:
        if values.full == number:
            return
        values.held |= dict.fromkeys(pd.unique(keys).tolist(), number)
        most = min(MOST_DISTINCT, MOST_VALUES // len(self._values))
        if len(values.held) > most:
            oldest = min(self._tiles)
            values.held = {key: last for key, last in values.held.items() if last >= oldest}
        if len(values.held) > most:
            values.held, values.full = {}, number

    def _forget(self, snapshot: Snapshot) -> None:
        oldest = int(snapshot.received[0]) // self._step if len(snapshot) else None
        gone = [number for number in self._tiles if oldest is None or number < oldest]
        if not gone:
            return
        self._merged = None
        for number in gone:
            del self._tiles[number]
        there = {key for tile in self._tiles.values() for key in tile.cells}
        for key in self._values.keys() - there:
            del self._values[key]
        for values in self._values.values():
            if oldest is not None and any(last < oldest for last in values.held.values()):
                values.held = {key: last for key, last in values.held.items() if last >= oldest}
            if values.full is not None and oldest is not None and values.full < oldest:
                values.full = None
        self._left_out &= len(self._values) >= MOST_FIELDS

    # -- reading -----------------------------------------------------------------------------------------

    def _merge(self) -> tuple[dict[int, int], dict[_Key, _Types]]:
        """All tiles as one."""
        rows: dict[int, int] = {}
        cells: dict[_Key, _Types] = {}
        for number in sorted(self._tiles):
            tile = self._tiles[number]
            for key, types in tile.cells.items():
                before = rows.get(key[0], 0)
                whole = cells.setdefault(key, {})
                for kind, held in types.items():
                    if kind in whole:
                        whole[kind] = whole[kind].with_later(held, before)
                    else:
                        whole[kind] = replace(
                            held, first_row=held.first_row + before, last_row=held.last_row + before
                        )
            for code, count in tile.rows.items():
                rows[code] = rows.get(code, 0) + count
        return rows, cells

    def _field(
        self, name: str, codes: Iterable[int], rows: dict[int, int], cells: dict[_Key, _Types]
    ) -> FieldTypes | None:
        """One field in the rows of these patterns; None if they do not have it."""
        codes = list(codes)
        keys = [(code, name) for code in codes if (code, name) in cells]
        total = sum(rows[code] for code in codes)
        counts: dict[int, int] = {}
        newest: dict[int, _Held] = {}
        for key in keys:
            for kind, held in cells[key].items():
                counts[kind] = counts.get(kind, 0) + held.count
                if kind not in newest or held.newest_at >= newest[kind].newest_at:
                    newest[kind] = held
        if not counts:
            return None
        order = sorted(counts, key=lambda kind: -counts[kind])
        ranged = [kind for kind in order if kind != IS_TEXT]
        least = greatest = None
        if ranged and counts[ranged[0]] * 2 >= counts[order[0]]:
            mine = [cells[key][ranged[0]] for key in keys if ranged[0] in cells[key]]
            least = _one_of(min, *(held.least for held in mine))
            greatest = _one_of(max, *(held.greatest for held in mine))
        values = [self._values[key] for key in keys]
        full = any(each.full is not None for each in values)
        different = 0 if full else len(set().union(*(each.held for each in values)))
        timed = bool(ranged) and ranged[0] == IS_TIME
        count = sum(counts.values())
        return FieldTypes(
            name,
            count,
            count / max(1, total),
            {NAMES[kind]: counts[kind] for kind in order},
            all(held.integral for key in keys for kind, held in cells[key].items() if kind == IS_NUMBER),
            {NAMES[kind]: newest[kind].newest for kind in order},
            _time(least) if timed else least,
            _time(greatest) if timed else greatest,
            min(MOST_DISTINCT, MOST_VALUES // len(self._values)) if full else different,
            full,
        )

    def _changes(self, rows: dict[int, int], cells: dict[_Key, _Types]) -> list[Change]:
        found: list[Change] = []
        for (code, name), types in cells.items():
            pattern, total = self._patterns.names.get(code, ""), rows[code]
            whole = _together(types.values())
            if (part := _course(whole, 0, total)) is not None:
                found.append(Change("appears", pattern, name, None, *part, whole.newest))
            elif _is_over(whole, 0, total):
                share = whole.count / (whole.last_row + 1)
                found.append(Change("vanishes", pattern, name, None, whole.last_at, None, share, None))
            for kind, held in types.items():
                if len(types) > 1 and (part := _course(held, whole.first_row, total)) is not None:
                    found.append(Change("type", pattern, name, NAMES[kind], *part, held.newest))
        return sorted(found, key=lambda change: -(change.until or change.since))


def _groups(codes: Codes) -> list[tuple[int, Ints]]:
    """The patterns of some rows, and the indices of each pattern's rows."""
    if not (codes != codes[0]).any():
        return [(int(codes[0]), np.arange(len(codes)))]
    order = np.argsort(codes, kind="stable")
    sorted_codes = codes[order]
    ends = np.flatnonzero(np.diff(sorted_codes)) + 1
    return [(int(codes[part[0]]), part) for part in np.split(order, ends)]


def _extremes(part: Part, kind: int, places: Ints, keys: Ints) -> tuple[Number | None, Number | None, bool]:
    """The least and the greatest of the values in these rows, and whether all are integers."""
    if kind == IS_TIME:
        if part.kind == "time":
            times = keys[places]
        else:
            _, first = np.unique(keys[places], return_index=True)
            read, good = read_times([str(part.value(int(place))) for place in places[first]])
            times = read[good]
        return (int(times.min()), int(times.max()), True) if len(times) else (None, None, True)
    numbers = part.as_numbers(slice(None)) if kind == IS_NUMBER else None
    if numbers is None:
        return None, None, True
    values = numbers[places]
    least = _exact(part, places, values, keys, min)
    return least, _exact(part, places, values, keys, max), bool((values == np.floor(values)).all())


def _exact(
    part: Part, places: Ints, values: Floats, keys: Ints, pick: Callable[[list[Number]], Number]
) -> Number:
    """The least or greatest value, exact even if float64 cannot hold it."""
    extreme = float(values.min() if pick is min else values.max())
    if abs(extreme) < EXACT:
        return extreme
    there = places[values == extreme]
    _, first = np.unique(keys[there], return_index=True)
    exact = [part.value(int(place)) for place in there[first]]
    return pick([value for value in exact if not isinstance(value, str)])


def _time(ns: float | int | None) -> pd.Timestamp | None:
    return None if ns is None else pd.Timestamp(int(ns), tz="UTC")


def _together(types: Iterable[_Held]) -> _Held:
    """Values of all types."""
    each = list(types)
    first, last = min(each, key=lambda one: one.first_row), max(each, key=lambda one: one.last_row)
    newest = max(each, key=lambda one: one.newest_at)
    return _Held(
        sum(one.count for one in each),
        first.first_at,
        first.first_row,
        last.last_at,
        last.last_row,
        None,
        None,
        True,
        newest.newest_at,
        newest.newest,
    )


def _course(held: _Held, start: int, total: int) -> tuple[int, int | None, float] | None:
    """When these values began, when they ended (None if they continue), and their share in between. None if
    they have been there since the row `start`."""
    over = _is_over(held, held.first_row, total)
    rows = (held.last_row + 1 if over else total) - held.first_row
    if (held.first_row - start) * held.count / max(rows, FEWEST) < SURE:
        return None
    return held.first_at, held.last_at if over else None, held.count / rows


def _is_over(held: _Held, start: int, total: int) -> bool:
    rows = held.last_row + 1 - start
    return (total - held.last_row - 1) * held.count / max(rows, FEWEST) >= SURE
