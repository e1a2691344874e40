"""What a chart can show of a million rows: the least and the greatest value per pixel column and series.

The time grid is absolute, so all viewers of a feed share one set of bins, and only rows that are new since
the last refresh are looked at. A single outlier stays visible, since both extremes of a bin are kept.
"""

import json
import re
import secrets
import struct
import threading
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from .window import Snapshot

COLUMNS = 600
"""Bins that a look-back is cut into, at least; a chart is about as many pixels wide."""
MOST_SERIES = 100
"""Series that one chart draws, the busiest; further ones are counted."""
AHEAD = 0.1
"""How far into the future rows are taken in, as a share of the look-back: clocks differ a little."""

_UNKNOWN, _SURPLUS = -2, -1
_TOO_LARGE = 3e38  # float32 on the wire ends here

_STEPS = [
    number * unit
    for unit, numbers in (
        (1_000_000, (1, 2, 5, 10, 20, 50, 100, 200, 500)),
        (1_000_000_000, (1, 2, 5, 10, 15, 30)),
        (60_000_000_000, (1, 2, 5, 10, 15, 30)),
        (3_600_000_000_000, (1, 2, 3, 6, 12, 24)),
    )
    for number in numbers
]


def step_for(look_back: pd.Timedelta) -> int:
    """Width of a bin in ns: the largest round one that cuts `look_back` into at least COLUMNS bins."""
    return max([step for step in _STEPS if step * COLUMNS <= look_back.value], default=_STEPS[0])


class Message(NamedTuple):
    """What a browser is to be sent, and what it holds once it has it."""

    epoch: int
    version: int
    data: bytes


class Bins:
    """Least and greatest value per series and time bin, for one chart on one feed.

    Thread-safe. `version` grows with every change; `epoch` names one life of the bins: when rows that were
    handed out before have changed their meaning, the bins start over under a new one.
    """

    def __init__(self, fields: tuple[str, ...], color: str | None, look_back: pd.Timedelta) -> None:
        self.fields = fields
        self.color = color
        self.step = step_for(look_back)
        self._look_back = look_back.value
        self._lock = threading.Lock()
        self._capacity = int(look_back.value / self.step * (1 + AHEAD)) + 2
        self._now = 0  # the latest time that a viewer came with, ns since the epoch
        self._generation: int | None = None
        self._snapshot_version = -1
        self._start_over()

    def _start_over(self) -> None:
        self.epoch = secrets.randbits(32)
        self.version = 1
        self.names: list[str] = []
        self._added: list[int] = []  # the version in which each series appeared
        self._rows = [np.zeros(0, dtype=np.int64) for _ in self.fields]  # per field: code to row of the ring
        self._low = np.full((0, self._capacity), np.inf)
        self._high = np.full((0, self._capacity), -np.inf)
        self._changed = np.zeros((0, self._capacity), dtype=np.int64)
        self._edge = (self._now - self._look_back) // self.step  # the ring holds bins from here on
        self._oldest = self._edge  # of these, the ones of which the window still holds rows
        self.future = 0
        """Rows whose own time is ahead of the server's clock by more than AHEAD. They are not drawn before
        their time: one broken clock would push all the rest out of the window."""
        self._too_early: int | None = None  # the first bin for which a row was too far in the future
        self._seen: int | None = None  # one past the ordinal of the last row taken in

    def update(self, snapshot: Snapshot, now: int) -> None:
        """Take in the rows that are new, and forget what is older than the look-back before `now` (ns since
        the epoch, UTC). Costs nothing where another viewer brought the same. Raises ColumnError when a
        column is not there or of another kind."""
        with self._lock:
            if now > self._now:
                self._now = now
                self._advance()
            # A thread may come late with an older snapshot; its rows are in already.
            if snapshot.version < self._snapshot_version:
                return
            if snapshot.version == self._snapshot_version and not self._come_of_age():
                return
            if snapshot.generation != self._generation or self._outgrown():
                self._start_over()
            self._take(snapshot)
            self._generation, self._snapshot_version = snapshot.generation, snapshot.version

    def message(
        self, epoch: int, since: int, config: Mapping[str, object], *, configured: bool = False
    ) -> Message:
        """What changed after version `since` of `epoch`, with `config` unless the browser is `configured`;
        everything, when `since` is 0 or the epoch is over.

        Little-endian: uint32 length of a JSON header, padded to four bytes; then for each of its `c` cells
        float32 low, float32 high (only with `h`), uint16 bin relative to `b`, uint8 series. Lows and highs
        are relative to the bases in `k`, pairs of series and base; an infinite low says that the cell is
        empty now.
        """
        with self._lock:
            if epoch != self.epoch:
                since = 0
            row, place = np.nonzero(self._changed > since)
            bins = self._edge + (place - self._edge) % self._capacity
            kept = bins >= self._oldest
            if since == 0:
                kept &= self._low[row, place] < np.inf
            row, place, bins = row[kept], place[kept], bins[kept]
            base = self._bases(row)
            low = (self._low[row, place] - base[row]).astype("<f4")
            high = (self._high[row, place] - base[row]).astype("<f4")
            high = np.where(np.isinf(high), low, high)
            spread = bool((low != high).any())
            first = int(bins.min()) if len(bins) else self._oldest
            header: dict[str, object] = {
                "e": self.epoch,
                "a": since,
                "v": self.version,
                "s": self.step / 1e6,
                "t": self._now // 1_000_000,
                "o": self._oldest,
                "b": first,
                "c": len(bins),
                "h": int(spread),
                "n": [[i, name] for i, name in enumerate(self.names) if self._added[i] > since],
                "k": [[int(i), float(base[i])] for i in np.flatnonzero(base)],
            }
            if surplus := self._surplus():
                header["m"] = surplus
            if self.future:
                header["f"] = self.future
            held = Message(self.epoch, self.version, b"")
        if since == 0 or not configured:
            header["config"] = config
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        parts = [struct.pack("<I", len(text)), text, low.tobytes(), high.tobytes() if spread else b""]
        parts += [(bins - first).astype("<u2").tobytes(), row.astype(np.uint8).tobytes()]
        return held._replace(data=b"".join(parts))

    # -- below, the lock is held -------------------------------------------------------------------------

    def _bases(self, row: np.ndarray) -> np.ndarray:
        """Per series, what its values are sent relative to: 0 where float32 is exact enough for what the
        chart can show, so not for a large counter that moves little."""
        base = np.zeros(len(self.names))
        if not len(row):
            return base
        present = np.unique(row)
        low, high = self._low[present].min(axis=1), self._high[present].max(axis=1)
        held = low < np.inf
        low, high, present = low[held], high[held], present[held]
        fine = np.maximum(np.abs(low), np.abs(high)) > 1000 * (high - low)
        base[present[fine]] = low[fine]
        return base

    def _advance(self) -> None:
        """Let go of the bins that are older than the look-back."""
        edge = (self._now - self._look_back) // self.step
        self._clear(self._edge, edge)
        self._edge = max(edge, self._edge)
        self._oldest = max(self._oldest, self._edge)

    def _clear(self, start: int, end: int, version: int = 0) -> None:
        places = np.arange(start, min(end, start + self._capacity)) % self._capacity
        if version:
            filled = self._low[:, places] < np.inf
            self._changed[:, places] = np.where(filled, version, self._changed[:, places])
        else:
            self._changed[:, places] = 0
        self._low[:, places] = np.inf
        self._high[:, places] = -np.inf

    def _outgrown(self) -> bool:
        """Whether starting over would show more: rows from the future have come of age, or many of the
        series that are drawn have fallen silent while others wait."""
        if self._come_of_age():
            return True
        if not self._surplus():
            return False
        silent = int((self._high == -np.inf).all(axis=1).sum())
        return silent * 4 >= len(self.names)

    def _come_of_age(self) -> bool:
        return self._too_early is not None and self._too_early < self._edge + self._capacity

    def _surplus(self) -> int:
        return sum(int((rows == _SURPLUS).sum()) for rows in self._rows)

    def _take(self, snapshot: Snapshot) -> None:
        start = snapshot.first if self._seen is None else max(self._seen, snapshot.first)
        columns = [snapshot.numbers(name, start) for name in self.fields] if len(snapshot) else []
        codes, labels = snapshot.codes(self.color, start) if columns and self.color else (None, [])
        self._seen = snapshot.end
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
        for field, values in enumerate(columns):
            good = held & (np.abs(values) < _TOO_LARGE)  # false for NaN
            which = np.zeros(len(values), dtype=np.int64) if codes is None else codes
            good &= which >= 0
            rows = self._rows_of(field, which[good], labels)
            drawn = rows >= 0
            cells = rows[drawn] * self._capacity + bins[good][drawn] % self._capacity
            values = values[good][drawn]
            np.minimum.at(self._low.reshape(-1), cells, values)
            np.maximum.at(self._high.reshape(-1), cells, values)
            self._changed.reshape(-1)[cells] = self.version

    def _forget(self, snapshot: Snapshot) -> None:
        """Clear the bins before the oldest row of the window, which its ceiling may have pushed out."""
        oldest = self._edge + self._capacity
        if len(snapshot):
            first = int(snapshot.time[0] if snapshot.ordered else snapshot.time.min())
            oldest = max(self._edge, min(first // self.step, oldest))
        # Marked as changed: if a late row makes the window reach back again, browsers hear that these are
        # empty.
        self._clear(self._oldest, oldest, self.version)
        self._oldest = oldest

    def _rows_of(self, field: int, codes: np.ndarray, labels: list[str]) -> np.ndarray:
        """Row of the ring for each code, _SURPLUS where there is none; new series get one, the busiest
        first."""
        count = np.bincount(codes)
        rows = self._rows[field]
        if len(count) > len(rows):
            more = np.full(len(count) - len(rows), _UNKNOWN, dtype=np.int64)
            rows = self._rows[field] = np.concatenate([rows, more])
        new = np.flatnonzero((rows[: len(count)] == _UNKNOWN) & (count > 0))
        if len(new):
            room = max(1, MOST_SERIES // len(self.fields)) - int((rows >= 0).sum())
            rows[new] = _SURPLUS
            busiest = new[np.argsort(-count[new], kind="stable")][: max(0, room)].tolist()
            if labels:  # by name, so that a line has the same colour after a restart
                busiest.sort(key=lambda code: _natural(labels[code]))
            rows[busiest] = np.arange(len(busiest)) + len(self.names)
            for code in busiest:
                label = labels[code] if labels else ""
                several = len(self.fields) > 1
                self.names.append(f"{label} {self.fields[field]}".strip() if several or not label else label)
                self._added.append(self.version)
            shape = (len(busiest), self._capacity)
            self._low = np.vstack([self._low, np.full(shape, np.inf)])
            self._high = np.vstack([self._high, np.full(shape, -np.inf)])
            self._changed = np.vstack([self._changed, np.zeros(shape, dtype=np.int64)])
        of_codes: np.ndarray = rows[codes]
        return of_codes


def _natural(name: str) -> list[str | int]:
    """Sorts "core-2" before "core-10"."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]
