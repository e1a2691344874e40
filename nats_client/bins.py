"""What a chart can show of a million rows: the least and the greatest value per pixel column and series.

The time grid is absolute, so all viewers of a feed share one set of bins, and only rows that are new since
the last refresh are looked at. A single outlier stays visible, since both extremes of a bin are kept.
"""

import json
import secrets
import struct
import threading
from collections.abc import Hashable

import numpy as np
import pandas as pd

from .window import Snapshot

COLUMNS = 600
"""Bins that a look-back is cut into, at least; a chart is about as many pixels wide."""
MOST_SERIES = 100
"""Series that one chart draws; further ones are counted."""

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


class Bins:
    """Least and greatest value per series and time bin, for one chart on one feed.

    Thread-safe. `version` grows with every change; `epoch` names one life of the bins: when rows that were
    handed out before have changed their meaning, the bins start over under a new one.
    """

    def __init__(self, fields: tuple[str, ...], color: str | None, look_back: pd.Timedelta) -> None:
        self.fields = fields
        self.color = color
        self.step = step_for(look_back)
        self._lock = threading.Lock()
        self._ahead = look_back.value // 10
        self._capacity = (look_back.value + self._ahead) // self.step + 3
        self._start_over()

    def _start_over(self) -> None:
        self.epoch = secrets.randbits(32)
        self.version = 0
        self.names: list[str] = []
        self.surplus: set[Hashable] = set()
        """Series that came after the first MOST_SERIES."""
        self.future = 0
        """Rows whose own time is ahead of the server's clock by more than a tenth of the look-back. They are
        not drawn: one broken clock would push all the rest out of the window."""
        self._added: list[int] = []  # the version in which each series appeared
        self._base: list[
            float
        ] = []  # float32 on the wire is relative to this, to be exact for large counters
        self._row_of: dict[tuple[int, str], int] = {}
        self._low = np.full((0, self._capacity), np.inf)
        self._high = np.full((0, self._capacity), -np.inf)
        self._changed = np.zeros((0, self._capacity), dtype=np.int64)
        self._newest: int | None = None  # absolute number of the newest bin
        self._generation: int | None = None
        self._seen = 0  # one past the ordinal of the last row taken in
        self._snapshot_version = -1

    def update(self, snapshot: Snapshot, now: int) -> None:
        """Take in the rows that are new; `now` is the server's clock in ns since the epoch.

        Raises ColumnError when a column is not there or of another kind.
        """
        with self._lock:
            if snapshot.generation != self._generation:
                self._start_over()
                self._generation = snapshot.generation
                self._seen = snapshot.first
            if snapshot.version <= self._snapshot_version:
                return
            self._snapshot_version = snapshot.version
            start = max(self._seen, snapshot.first)
            if snapshot.end <= start:
                return
            self._seen = snapshot.end
            self.version += 1
            bins = snapshot.times(start) // self.step
            codes, labels = snapshot.codes(self.color, start) if self.color else (None, [])
            due = bins <= (now + self._ahead) // self.step
            self.future += len(due) - int(np.count_nonzero(due))
            if not due.any():
                return
            self._advance(int(bins[due].max()))
            for i, name in enumerate(self.fields):
                self._take(i, bins, np.where(due, snapshot.numbers(name, start), np.nan), codes, labels)

    def message(self, since: int, oldest: int, now: int, config: dict[str, object]) -> bytes:
        """What changed after version `since` (0: everything, with `config`), of bins from `oldest` on.

        `now` is the server's clock in ns since the epoch.

        Little-endian: uint32 length of a JSON header, padded to four bytes; then for each of its `c` cells
        float32 low, float32 high (only with `h`), uint16 bin relative to `b`, uint8 series.
        """
        with self._lock:
            series, cells = np.nonzero(self._changed > since)
            newest = self._newest if self._newest is not None else 0
            bins = newest - (newest - cells) % self._capacity
            kept = bins >= oldest
            series, cells, bins = series[kept], cells[kept], bins[kept]
            base = np.asarray(self._base)[series] if len(series) else np.zeros(0)
            low = (self._low[series, cells] - base).astype("<f4")
            high = (self._high[series, cells] - base).astype("<f4")
            spread = bool((low != high).any())
            first = int(bins.min()) if len(bins) else oldest
            header: dict[str, object] = {
                "e": self.epoch,
                "a": since,
                "v": self.version,
                "s": self.step / 1e6,
                "t": now // 1_000_000,
                "o": oldest,
                "b": first,
                "c": len(bins),
                "h": int(spread),
                "n": [
                    [i, name, self._base[i]]
                    for i, name in enumerate(self.names)
                    if self._added[i] > since or since == 0
                ],
            }
            if self.surplus:
                header["m"] = len(self.surplus)
            if self.future:
                header["f"] = self.future
        if since == 0:
            header["config"] = config
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        parts = [struct.pack("<I", len(text)), text, low.tobytes(), high.tobytes() if spread else b""]
        return b"".join([*parts, (bins - first).astype("<u2").tobytes(), series.astype(np.uint8).tobytes()])

    def _advance(self, newest: int) -> None:
        """Free the ring's places for bins up to `newest`."""
        if self._newest is None:
            self._newest = newest
        for number in range(max(self._newest, newest - self._capacity) + 1, newest + 1):
            place = number % self._capacity
            self._low[:, place] = np.inf
            self._high[:, place] = -np.inf
            self._changed[:, place] = 0
        self._newest = max(self._newest, newest)

    def _take(
        self,
        field: int,
        bins: np.ndarray,
        values: np.ndarray,
        codes: np.ndarray | None,
        labels: list[str],
    ) -> None:
        assert self._newest is not None
        good = np.isfinite(values) & (bins > self._newest - self._capacity)
        if codes is None:
            rows = np.full(len(values), self._row(field, "", values[good]))
        else:
            good &= codes >= 0
            row_of_code = np.full(len(labels) + 1, -1)
            for code in np.unique(codes[good]).tolist():
                row_of_code[code] = self._row(field, labels[code], values[good & (codes == code)])
            rows = row_of_code[codes]
        good &= rows >= 0
        if not good.any():
            return
        cells = rows[good] * self._capacity + bins[good] % self._capacity
        np.minimum.at(self._low.reshape(-1), cells, values[good])
        np.maximum.at(self._high.reshape(-1), cells, values[good])
        self._changed.reshape(-1)[cells] = self.version

    def _row(self, field: int, label: str, values: np.ndarray) -> int:
        """The series' row, made when it is new; -1 when there are too many, or nothing to draw."""
        row = self._row_of.get((field, label))
        if row is not None:
            return row
        if not len(values):
            return -1
        if len(self.names) >= MOST_SERIES:
            self.surplus.add((field, label))
            return -1
        row = self._row_of[field, label] = len(self.names)
        several = len(self.fields) > 1
        self.names.append(f"{label} {self.fields[field]}".strip() if several or not label else label)
        self._added.append(self.version)
        self._base.append(float(values[0]))
        self._low = np.vstack([self._low, np.full((1, self._capacity), np.inf)])
        self._high = np.vstack([self._high, np.full((1, self._capacity), -np.inf)])
        self._changed = np.vstack([self._changed, np.zeros((1, self._capacity), dtype=np.int64)])
        return row
