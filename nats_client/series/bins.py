"""Reduces millions of rows to what a chart can show: minimum and maximum per pixel column and series.

The time grid is absolute, so all viewers of a feed share one set of bins. An update processes only the rows
that are new since the last refresh. A single outlier stays visible, because each bin keeps both extremes.
"""

import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ..errors import ColumnError, LookbackError
from ..table.snapshot import Oldest, Snapshot
from ..table.values import Codes, Floats, Ints, is_null
from .pairs import BETWEEN, Pairs
from .series_choice import SeriesChoice, by_name, natural
from .series_values import Numbers, SeriesValues
from .zoom_tiles import NEVER, TOO_LARGE, Cells, FinerBins, Newest, bases, put, put_nulls

COLUMNS = 600
"""Minimum number of bins per look-back, about a chart's width in pixels."""
MOST = 20
"""Default maximum number of series in a chart that have lines of their own. The rest are folded into one."""
MOST_SERIES = 100
"""Maximum number of series in a chart, limited by the browser and by the wire format."""
AHEAD = 0.1
"""How far a row's time may be in the future, as a share of the look-back, because clocks differ a little."""

_UNKNOWN = -1
_CLEARLY = 10  # a series replaces a drawn one if it has more than twice as many values plus this
CHOOSE_EVERY = 5.0
"""Seconds between two applications of the choice of series, if its rule is not "busiest"."""

ROUND_STEPS = [
    number * unit
    for unit, numbers in (
        (1_000_000, (1, 2, 5, 10, 20, 50, 100, 200, 500)),
        (1_000_000_000, (1, 2, 5, 10, 15, 30)),
        (60_000_000_000, (1, 2, 5, 10, 15, 30)),
        (3_600_000_000_000, (1, 2, 3, 6, 12, 24)),
    )
    for number in numbers
]
"""Possible widths of a bin, ascending, in ns."""


_BEGINS_LATER = np.iinfo(np.int64).max
MOST_ZOOM_LEVELS = 4
"""Zoom levels kept per chart; each has its own width of finer bins."""


def step_for(look_back: pd.Timedelta) -> int:
    """Width of a bin in ns: the largest of ROUND_STEPS that divides `look_back` into at least COLUMNS
    bins."""
    return max([step for step in ROUND_STEPS if step * COLUMNS <= look_back.value], default=ROUND_STEPS[0])


@dataclass(eq=False)
class Changes:
    """The changes since a version that a browser has, and the version it will have after applying them.
    Shared by all browsers with the same version."""

    epoch: int
    version: int
    whole: bool
    """True if this is everything, because the browser's data is of another epoch."""
    oldest: int
    """The first bin for which the window still has rows."""
    step: int
    """Width of a bin, ns."""
    series: int
    names: list[tuple[int, str]]
    """Index and name of series that are new or renamed."""
    others: int | None
    """Index of the series into which all undrawn ones are folded."""
    future: int
    origin: int
    """A bin near those that change. It is the same for all browsers, and for the whole epoch."""
    cells: Cells
    held: list[tuple[int, int, float]]
    """If `whole` and values hold: series, bin and value of each series' newest value before the first bin."""
    packed: dict[bool, bytes] = field(default_factory=dict)
    """The cells in each of the two wire formats, cached after the first packing."""


class _Seen:
    """The state of each code of the columns that split rows into series, for one field. All arrays are
    indexed by code."""

    def __init__(self) -> None:
        self.row = np.zeros(0, dtype=np.int64)
        """Row of the ring; _UNKNOWN before the first value."""
        self.count = np.zeros(0, dtype=np.int64)
        """Number of values so far."""
        self.newest = np.zeros(0, dtype=np.int64)
        """The last bin with a value."""
        self.named = np.zeros(0, dtype=np.bool_)
        """True if it was chosen by its name."""

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self.row.nbytes + self.count.nbytes + self.newest.nbytes + self.named.nbytes

    def reach(self, size: int) -> None:
        """Make room for codes below `size`."""
        if (more := size - len(self.row)) > 0:
            self.row = np.append(self.row, np.full(more, _UNKNOWN))
            self.count = np.append(self.count, np.zeros(more, dtype=np.int64))
            self.newest = np.append(self.newest, np.zeros(more, dtype=np.int64))
            self.named = np.append(self.named, np.zeros(more, dtype=np.bool_))


class Bins:
    """Minimum and maximum per series and time bin, for one chart on one feed.

    The `most` series that `choice` chooses are separate. All others are folded into one, named by their
    number ("37 others"), with the minimum and maximum of all of them. `step` is the width of a bin in ns, by
    default step_for(look_back). With `hold` each bin also has its newest value, and each series has its
    newest value that has left the look-back.

    With `facet`, a text column, the rows of each of its values are split into series by `color`. The name of
    such a series is the value of `facet`, BETWEEN, and its name otherwise.

    Thread-safe. `version` grows with every change. When the meaning of cells sent earlier changes, the bins
    start over with a new random `epoch`.
    """

    _replaced = False
    """True if each snapshot replaces the one before."""

    def __init__(
        self,
        fields: tuple[str, ...],
        color: str | None,
        look_back: pd.Timedelta,
        *,
        most: int = MOST,
        step: int | None = None,
        hold: bool = False,
        facet: str | None = None,
        choice: SeriesChoice | None = None,
    ) -> None:
        """Raises LookbackError if `most` or the number of fields is not between 1 and MOST_SERIES."""
        if not isinstance(most, int) or not 1 <= most <= MOST_SERIES:
            raise LookbackError(f"most={most!r} is not valid. A chart draws 1 to {MOST_SERIES} series.")
        if not 1 <= len(fields) <= MOST_SERIES:
            raise LookbackError(f"{len(fields)} fields were given. A chart draws 1 to {MOST_SERIES}.")
        self.fields = fields
        self.color = color
        self.facet = facet
        self.hold = hold
        self.choice = choice or SeriesChoice()
        self._pairs = Pairs(facet, color) if facet is not None and color is not None else None
        self.step = step or step_for(look_back)
        self._room = max(1, most // len(fields))  # series of each field
        self._look_back = look_back.value
        self._lock = threading.Lock()
        self._capacity = int(look_back.value / self.step * (1 + AHEAD)) + 2
        self._now = 0  # the latest `now` of all updates, ns since the epoch, UTC
        self._asked_before: int | None = None  # the epoch for which rows from before were asked for
        self._generation: int | None = None
        self._snapshot_version = -1
        self._changes_at = (0, 0, 0, 0)
        self._changes: dict[int, Changes] = {}  # cache by `since`, until the next change
        self._first = Oldest()
        self._began = [np.zeros(0, dtype=np.int64) for _ in fields]  # the first bin of each code, by field
        self._chosen_at = -CHOOSE_EVERY
        self._chosen_of = -1, 0  # version and rows of the last snapshot the choice was applied to
        self._values: SeriesValues | None = None
        self._finer: dict[int, FinerBins] = {}  # by width of bin, least recently used first
        self._start_over()

    def _start_over(self) -> None:
        self.epoch = secrets.randbits(32)
        self.version = 1
        self.names: list[str] = []
        self._named: list[int] = []  # the version in which each series got its name
        self._seen = [_Seen() for _ in self.fields]
        self._others: int | None = None  # the row into which undrawn series are folded
        self._low = np.full((0, self._capacity), np.inf)
        self._high = np.full((0, self._capacity), -np.inf)
        self._changed = np.zeros((0, self._capacity), dtype=np.int64)
        self._null = np.zeros((0, self._capacity), dtype=np.bool_)
        self._newest = Newest((0, self._capacity)) if self.hold else None
        self._held: dict[int, tuple[int, float]] = {}  # by row: bin and value of the newest that has left
        self._let_go: set[int] = set()  # rows of which a null has left
        self._early: dict[tuple[int, str], int] = {}  # rows of series without values yet, by field and label
        self._edge = (self._now - self._look_back) // self.step  # first bin of the ring
        self._origin = self._now // self.step
        self._oldest = self._edge  # first bin for which the window still has rows
        self.future = 0
        """Rows whose own time is ahead of the server's clock by more than AHEAD. They are drawn once they are
        due. Otherwise one wrong clock would push all other rows out of the chart."""
        self._too_early: int | None = None  # the first bin with a row too far in the future
        self._misses_chosen = False  # a series that was chosen by its name is folded
        self._end: int | None = None  # one past the ordinal of the last processed row

    def update(self, snapshot: Snapshot, now: int) -> None:
        """Process the new rows, and drop everything older than the look-back before `now` (ns since the
        epoch, UTC). A no-op if another viewer has passed the same snapshot. Raises ColumnError if a column
        does not exist or is of another kind."""
        with self._lock:
            if now > self._now:
                self._now = now
                self._advance()
            # Another thread may have passed a newer snapshot already.
            if snapshot.version < self._snapshot_version:
                return
            due = self._future_is_due() or self._choice_is_due(snapshot)
            if snapshot.version == self._snapshot_version and not due:
                return
            if other := self._is_other(snapshot):
                self._began = [np.zeros(0, dtype=np.int64) for _ in self.fields]
            if other or self._should_rebuild():
                self._start_over()  # always before the first rows, so the origin is that of a real time
            self._take(snapshot)
            if self._misses_chosen or (self._choice_is_due(snapshot) and self._chooses_others(snapshot)):
                self._start_over()  # of all rows at once, those that are chosen come first
                self._take(snapshot)
                self._misses_chosen = False
            self._name_others()
            self._generation, self._snapshot_version = snapshot.generation, snapshot.version

    def changes(self, epoch: int, since: int) -> Changes:
        """The changes after version `since` of `epoch`; everything if `since` is 0 or the epoch is over."""
        with self._lock:
            whole = epoch != self.epoch or since == 0
            since = 0 if whole else since
            if self._changes_at != (self.epoch, self.version, self._edge, self._oldest):
                self._changes_at = self.epoch, self.version, self._edge, self._oldest
                self._changes.clear()
            if (changes := self._changes.get(since)) is not None:
                return changes
            row, place = np.nonzero(self._changed > since)
            bins = self._edge + (place - self._edge) % self._capacity
            kept = bins >= self._oldest
            low = self._low[row, place]
            low[(low == np.inf) & self._null[row, place]] = -np.inf
            if whole:
                kept &= low < np.inf
            row, place, bins, low = row[kept], place[kept], bins[kept], low[kept]
            last = None if self._newest is None else self._newest.value[row, place]
            cells = Cells(bins, row, low, self._high[row, place], self._bases(row), last)
            self._changes[since] = changes = Changes(
                self.epoch,
                self.version,
                whole,
                self._oldest,
                self.step,
                len(self.names),
                [(i, name) for i, name in enumerate(self.names) if self._named[i] > since],
                self._others,
                self.future,
                self._origin,
                cells,
                [(row, *held) for row, held in self._held.items()] if whole else [],
            )
            return changes

    @property
    def nbytes(self) -> int:
        """Bytes of all bins, including the finer ones."""
        finer = sum(each.nbytes for each in list(self._finer.values()))
        finer += 0 if self._values is None else self._values.nbytes
        by_code = sum(seen.nbytes for seen in self._seen) + sum(began.nbytes for began in self._began)
        return (5 if self.hold else 3) * self._low.nbytes + self._null.nbytes + finer + by_code

    @property
    def is_busy(self) -> bool:
        """True while another thread updates or reads them."""
        return self._lock.locked()

    @property
    def edge(self) -> int:
        """The first bin that the look-back reaches; the window may have no rows for it."""
        return self._edge

    @property
    def now(self) -> int:
        """The latest `now` of all updates, in milliseconds since the epoch, UTC."""
        return self._now // 1_000_000

    @property
    def split_by(self) -> tuple[str, ...]:
        """The text columns that split the rows into series."""
        return tuple(name for name in (self.facet, self.color) if name is not None)

    def codes(self, snapshot: Snapshot, start: int | None = None) -> tuple[Codes, list[str]]:
        """The code of each row with an ordinal of at least `start` (default: all), of the columns that
        split rows into series, and the labels, see Snapshot.codes. Raises ColumnError."""
        if self._pairs is not None:
            return self._pairs.codes(snapshot, start)
        if names := self.split_by:
            return snapshot.codes(names[0], start)
        return np.zeros(len(snapshot.times(start)), dtype=np.int32), [""]

    def name_of(self, label: str, field: str) -> str:
        """The name of the series of `field` with this label of codes()."""
        if self.facet is None:
            return series_name(label, field, self.fields)
        panel, line = label.split(BETWEEN) if self._pairs is not None else (label.replace(BETWEEN, " "), "")
        return f"{panel}{BETWEEN}{series_name(line, field, self.fields)}"

    def lacks_before(self) -> tuple[int, int] | None:
        """If values hold: the epoch, and the time (ns since the epoch, UTC) before which hold_before() needs
        rows. None after the first call in an epoch."""
        with self._lock:
            if not self.hold or self._asked_before == self.epoch or not self._now:
                return None
            self._asked_before = self.epoch
            return self.epoch, self._now - self._look_back

    def hold_before(self, epoch: int, rows: Snapshot) -> None:
        """Take the newest row of each series from before the look-back that lacks_before() returned.

        Each value holds until the next one of its series, even if the series has had no row since. Series for
        which there is no room are left out. A no-op if `epoch` is over.
        """
        with self._lock:
            if epoch != self.epoch:
                return
            before = len(self.names), len(self._held)
            for place, field in enumerate(self.fields):
                self._hold_before(place, field, rows)
            if (len(self.names), len(self._held)) != before:
                self.version += 1
                self.epoch = self._asked_before = secrets.randbits(32)  # browsers get all of it again

    def rows(self) -> tuple[int, int | None, list[Ints]]:
        """The epoch; the row into which undrawn series are folded; and for each field, the row of each code
        of codes(), negative if it has none yet."""
        with self._lock:
            return self.epoch, self._others, [seen.row.copy() for seen in self._seen]

    def numbers(self, snapshot: Snapshot) -> dict[str, Numbers]:
        """The newest, the greatest and the mean value in the look-back, by the name of the series. Computed
        only on request. Call update() with the snapshot first. Raises ColumnError."""
        with self._lock:
            if self._values is None:
                self._values = SeriesValues(self, self._capacity)
            edge, oldest = self._edge, self._oldest
        epoch, found = self._values.of(snapshot, edge, oldest, replaced=self._replaced)
        with self._lock:
            return dict(zip(self.names, found, strict=False)) if epoch == self.epoch else {}

    def undrawn(self, snapshot: Snapshot, part: str, most: int) -> tuple[list[str], int]:
        """The names of undrawn series that contain `part`, and how many there are.

        These are the series that are folded into one and have values in the look-back. Case is ignored. Only
        the first `most` by name are returned. Call update() with the snapshot first. Raises ColumnError.
        """
        labels = self.codes(snapshot)[1] if self.split_by and len(snapshot) else []
        with self._lock:
            if self._others is None:
                return [], 0
            found: list[str] = []
            for seen, name in zip(self._seen, self.fields, strict=True):
                waits = np.flatnonzero((seen.row == self._others) & (seen.newest >= self._oldest))
                found += [self.name_of(labels[code], name) for code in waits.tolist() if code < len(labels)]
        wanted = [name for name in found if part.lower() in name.lower()]
        return sorted(wanted, key=by_name)[:most], len(wanted)

    def finer(self, width: int) -> FinerBins | None:
        """The finer bins for a visible range of `width` ns, shared by all viewers at that zoom level. None if
        the chart's own bins are as fine."""
        step = step_for(pd.Timedelta(width))
        if step >= self.step:
            return None
        with self._lock:
            if (finer := self._finer.pop(step, None)) is None:
                finer = FinerBins(self, step, replaced=self._replaced)
            self._finer[step] = finer
            while len(self._finer) > MOST_ZOOM_LEVELS:
                del self._finer[next(iter(self._finer))]
            return finer

    # -- below, the lock is held -------------------------------------------------------------------------

    def _is_other(self, snapshot: Snapshot) -> bool:
        """True if ordinals or codes of earlier snapshots mean something else in this one."""
        return snapshot.generation != self._generation

    def _bases(self, row: Ints) -> Floats:
        present = np.unique(row)
        base = np.zeros(len(self.names))
        base[present] = bases(self._low[present].min(axis=1), self._high[present].max(axis=1))
        return base

    def _advance(self) -> None:
        """Clear the bins that are older than the look-back."""
        edge = (self._now - self._look_back) // self.step
        if edge <= self._edge:
            return
        self._clear(self._edge, edge)
        self._edge = edge
        self._oldest = max(self._oldest, edge)
        self._name_others()

    def _clear(self, start: int, end: int, version: int = 0) -> None:
        bins = np.arange(start, min(end, start + self._capacity))
        places = bins % self._capacity
        if self._newest is not None:
            self._keep_newest(self._newest, bins, places)
        if version:
            filled = (self._low[:, places] < np.inf) | self._null[:, places]
            self._changed[:, places] = np.where(filled, version, self._changed[:, places])
        else:
            self._changed[:, places] = 0
        self._low[:, places] = np.inf
        self._high[:, places] = -np.inf
        self._null[:, places] = False

    def _keep_newest(self, newest: Newest, bins: Ints, places: Ints) -> None:
        """Keep the newest values of bins that are cleared. A null means that the series holds no value."""
        filled = newest.time[:, places] > NEVER
        for row in np.flatnonzero(filled.any(axis=1)).tolist():
            at = int(np.flatnonzero(filled[row])[-1])
            value = float(newest.value[row, places[at]])
            if value == value:
                self._held[row] = int(bins[at]), value
            else:
                self._held.pop(row, None)
                self._let_go.add(row)
        newest.clear(places)

    def _should_rebuild(self) -> bool:
        """True if starting over would show more: rows from the future are due now, many of the drawn series
        have no new values, or one of them is far less busy than one that is not drawn."""
        if self._future_is_due():
            return True
        if self._others is None or not self._waiting():
            return False
        if self.choice.rule != "busiest":
            return False
        silent = (self._high == -np.inf).all(axis=1)
        silent[self._others] = False
        for seen in self._seen:
            silent[seen.row[seen.named]] = False
        if silent.sum() * 4 >= len(self.names) - 1:
            return True
        return any(
            seen.count[seen.row == self._others].max(initial=0)
            > 2 * seen.count[(seen.row >= 0) & (seen.row != self._others) & ~seen.named].min(initial=2**62)
            + _CLEARLY
            for seen in self._seen
        )

    def _choice_is_due(self, snapshot: Snapshot) -> bool:
        """True if the choice of series may have another result now: after CHOOSE_EVERY, or once the rows have
        doubled, as in a replay."""
        if self.choice.rule == "busiest" or self._others is None:
            return False
        version, rows = self._chosen_of
        if snapshot.version == version:
            return False
        return len(snapshot) >= 2 * rows or time.monotonic() - self._chosen_at >= CHOOSE_EVERY

    def _chooses_others(self, snapshot: Snapshot) -> bool:
        """True if the choice of series has another result than the series that are drawn."""
        self._chosen_at, self._chosen_of = time.monotonic(), (snapshot.version, len(snapshot))
        if not len(snapshot) or not self._waiting():
            return False
        codes, labels = self.codes(snapshot)
        which, bins = codes.astype(np.int64), snapshot.time // self.step
        held = (bins >= self._edge) & (bins < self._edge + self._capacity) & (which >= 0)
        for place, name in enumerate(self.fields):
            values, seen = snapshot.numbers(name), self._seen[place]
            good = held & (np.abs(values) < TOO_LARGE)
            known = np.flatnonzero((seen.row >= 0) & ~seen.named)
            present = known[np.bincount(which[good], minlength=len(seen.row))[known] > 0]
            drawn = present[seen.row[present] != self._others]
            room = self._room - sum(of == place for of, _ in self._early) - int(seen.named.sum())
            order = self.choice.order(present, which[good], values[good], self._began[place], labels)
            wanted = order[: max(0, room)]
            if len(np.setdiff1d(wanted, drawn)):
                return True
        return False

    def _future_is_due(self) -> bool:
        return self._too_early is not None and self._too_early < self._edge + self._capacity

    def _waiting(self) -> int:
        """Number of undrawn series with values in the look-back."""
        return sum(
            int(((seen.row == self._others) & (seen.newest >= self._oldest)).sum()) for seen in self._seen
        )

    def _name_others(self) -> None:
        if self._others is None:
            return
        count = self._waiting()
        name = f"{count:,} other" + ("" if count == 1 else "s")
        if self.names[self._others] != name:
            self.version += 1
            self.names[self._others], self._named[self._others] = name, self.version

    def _take(self, snapshot: Snapshot) -> None:
        start = snapshot.first if self._end is None else max(self._end, snapshot.first)
        columns = [snapshot.numbers(name, start) for name in self.fields] if len(snapshot) else []
        codes, labels = self.codes(snapshot, start) if columns and self.split_by else (None, [])
        self._end = snapshot.end
        self.version += 1
        self._forget(snapshot)
        if start >= snapshot.end:
            return
        bins = snapshot.times(start) // self.step
        late = bins >= self._edge + self._capacity
        if late.any():
            first = int(bins[late].min())
            self.future += int(np.count_nonzero(late))
            self._too_early = first if self._too_early is None else min(first, self._too_early)
        held = (bins >= self._edge) & ~late
        for place, values in enumerate(columns):
            good = held & (np.abs(values) < TOO_LARGE)  # false for NaN
            which = np.zeros(len(values), dtype=np.int64) if codes is None else codes.astype(np.int64)
            good &= which >= 0
            rows = self._rows_of(place, which[good], bins[good], values[good], labels)
            cells = rows * self._capacity + bins[good] % self._capacity
            nulls = held & is_null(values) & (which >= 0)
            if self._newest is not None:
                each = np.flatnonzero(good | nulls)
                times = snapshot.times(start)[each]
                self._hold(self._newest, place, which[each], bins[each], times, values[each])
            values = values[good]
            put(self._low, self._high, self._changed, cells, values, self.version)
            if nulls.any():
                self._break(place, which[nulls].astype(np.int64), bins[nulls])

    def _hold(self, newest: Newest, field: int, codes: Ints, bins: Ints, times: Ints, values: Floats) -> None:
        """Record the newest values and nulls of the drawn series."""
        known = self._seen[field].row
        row = known[np.minimum(codes, len(known) - 1)] if len(known) else np.full(len(codes), _UNKNOWN)
        drawn = (codes < len(known)) & (row >= 0) & (row != (-2 if self._others is None else self._others))
        cells = row[drawn] * self._capacity + bins[drawn] % self._capacity
        newest.put(self._changed, cells, times[drawn], values[drawn], self.version)

    def _break(self, field: int, codes: Ints, bins: Ints) -> None:
        """Record explicit nulls, which break a line. Skipped for series without a value so far."""
        known = self._seen[field].row
        codes, bins = codes[codes < len(known)], bins[codes < len(known)]
        row = known[codes]
        drawn = (row >= 0) & (row != (-2 if self._others is None else self._others))
        cells = row[drawn] * self._capacity + bins[drawn] % self._capacity
        put_nulls(self._low, self._null, self._changed, cells, self.version)

    def _forget(self, snapshot: Snapshot) -> None:
        """Clear the bins before the oldest row of the window, because its ceiling may have dropped rows."""
        oldest = self._edge + self._capacity
        if len(snapshot):
            first = self._first.of(snapshot)
            oldest = max(self._edge, min(first // self.step, oldest))
        # Marked as changed: if a late row moves the oldest time back again, browsers must be sent that these
        # bins are empty.
        self._clear(self._oldest, oldest, self.version)
        self._oldest = oldest

    def _rows_of(self, field: int, codes: Ints, bins: Ints, values: Floats, labels: list[str]) -> Ints:
        """Row of the ring for each of `codes`. New series get their own row while there is room, the chosen
        ones first; the rest share one."""
        count = np.bincount(codes)
        seen = self._seen[field]
        seen.reach(len(count))
        seen.count[: len(count)] += count
        new = np.flatnonzero((seen.row[: len(count)] == _UNKNOWN) & (count > 0))
        if len(new) and self._early:
            for code in new.tolist():
                seen.row[code] = self._early.pop((field, labels[code] if labels else ""), _UNKNOWN)
            new = new[seen.row[new] == _UNKNOWN]
        if len(new):
            room = self._room_of(field)
            order = self.choice.order(new, codes, values, self._begin(field, new, codes, bins), labels)
            if self.choice.names and labels:
                order = self._named_first(field, order, labels)
            first, rest = order[:room].tolist(), order[room:]
            if labels:  # sorted by name, so that colours stay the same after a restart
                first.sort(key=lambda code: natural(labels[code]))
            seen.row[first] = np.arange(len(first)) + len(self.names)
            known = [labels[code] if labels else "" for code in first]
            self._add([self.name_of(label, self.fields[field]) for label in known])
            if len(rest):
                if self._others is None:
                    self._others = len(self.names)
                    self._add([""])
                seen.row[rest] = self._others
                drawn = (seen.row >= 0) & (seen.row != self._others)
                self._misses_chosen |= bool(seen.named[rest].any() and (drawn & ~seen.named).any())
        rows: np.ndarray = seen.row[codes]
        if self._others is not None:
            folded = rows == self._others
            np.maximum.at(seen.newest, codes[folded], bins[folded])
        return rows

    def _begin(self, field: int, new: Ints, codes: Ints, bins: Ints) -> Ints:
        """The bins in which series began, by code; those of `new` ones are noted."""
        known = self._began[field]
        if (more := int(new.max()) + 1 - len(known)) > 0:
            known = self._began[field] = np.append(known, np.full(more, _BEGINS_LATER))
        first = np.full(len(known), _BEGINS_LATER)
        kept = codes < len(known)
        np.minimum.at(first, codes[kept], bins[kept])
        unknown = new[known[new] == _BEGINS_LATER]
        known[unknown] = first[unknown]
        return known

    def _named_first(self, field: int, order: Ints, labels: list[str]) -> Ints:
        """`order`, with the series that were chosen by their names at its beginning."""
        names, of = self.choice.names, self.fields[field]
        chosen = np.array(
            [self.name_of(labels[code], of) in names for code in order.tolist()], dtype=np.bool_
        )
        self._seen[field].named[order] = chosen
        return np.concatenate([order[chosen], order[~chosen]])

    def _room_of(self, field: int) -> int:
        """How many series of this field may still get a row of their own."""
        row = self._seen[field].row
        drawn = int(((row >= 0) & (row != self._others)).sum()) + sum(of == field for of, _ in self._early)
        return max(0, self._room - drawn)

    def _hold_before(self, place: int, field: str, rows: Snapshot) -> None:
        if not len(rows) or rows.columns.get(field) not in ("number", "text"):
            return
        try:
            values = rows.numbers(field)
        except ColumnError:
            return  # texts that are not numbers
        codes, labels = self.codes(rows)
        newest: dict[int, int] = {}
        for at in np.argsort(rows.time, kind="stable").tolist():
            if codes[at] >= 0 and (values[at] == values[at] or is_null(values[at : at + 1])[0]):
                newest[int(codes[at])] = at
        for code, at in newest.items():
            value, name = float(values[at]), self.name_of(labels[code], field)
            if not abs(value) < TOO_LARGE:
                continue
            row = self.names.index(name) if name in self.names else None
            if row is None and (self._others is not None or not self._room_of(place)):
                continue
            if row is None:
                row = self._early[place, labels[code]] = len(self.names)
                self._add([name])
            if row not in self._let_go:
                self._held.setdefault(row, (min(int(rows.time[at] // self.step), self._edge - 1), value))

    def _add(self, names: list[str]) -> None:
        """Append empty rows to the ring for series of these `names`."""
        self.names += names
        self._named += [self.version] * len(names)
        shape = (len(names), self._capacity)
        self._low = np.vstack([self._low, np.full(shape, np.inf)])
        self._high = np.vstack([self._high, np.full(shape, -np.inf)])
        self._changed = np.vstack([self._changed, np.zeros(shape, dtype=np.int64)])
        self._null = np.vstack([self._null, np.zeros(shape, dtype=np.bool_)])
        if self._newest is not None:
            self._newest.reach(len(self.names))


def series_name(label: str, field: str, fields: Sequence[str]) -> str:
    """The name of the series of `label`, a value of the colour column, in a chart of `fields`."""
    return f"{label} {field}".strip() if len(fields) > 1 or not label else label
