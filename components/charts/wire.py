"""The binary messages of a live chart: what changed since the state this browser has, and how it recovers.

A message: flags (1: a header follows, 2: finer cells follow those of the look-back). Then, as varints: the
sender, the message's number, how many messages back its base is, and the server's clock in ms. Then the
header, a length and a JSON object. Then the cells. A browser ignores a message that is not newer than its
state. If a message extends one the browser never received, the browser replies with the last number it
applied, and the server resends from there.

Cells: flags (1: replace all cells; 2: some cells have two values; 4: bases follow; 8 and 16: a step takes 2
or 4 bytes instead of 1; 32: numbers are float64 and not relative to a base). Then, as varints: the oldest bin
that counts (for finer cells also the end, exclusive), how many bins later the first cell is, the number of
series, of cells, and of bases. Then the bases, each a varint series and a float64. Cells are ordered by bin *
series + row, and each is sent as the step from the one before. If some cells have two values, one bit per
cell follows, lowest bit first. Then the cells with one value, as little-endian float32 relative to their
base. Then those with two: all minima, rounded down, then all maxima, rounded up, as float32 without the last
eight bits. Each of these three arrays is sent as byte planes: the lowest bytes of all values, then the next.
An infinite value means an empty cell; -inf means a cell of nulls only, where the line breaks.
"""

import json
import secrets
import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nats_client.series.bins import Bins
from nats_client.series.zoom_tiles import TILE, Cells
from nats_client.table.snapshot import Snapshot
from nats_client.table.values import Floats

REMEMBERED = 8
"""How many messages back a browser may be and still be caught up with changes alone."""

_SHOWN = 0.0005
"""Half of the smallest fraction that a chart shows of a large number."""
_Mark = tuple[int, str, int, float]


@dataclass(frozen=True)
class _Held:
    """The state that a browser has after one message."""

    number: int = 0
    epoch: int = 0
    version: int = 0
    others: int | None = None
    future: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)
    detail: tuple[int, int, frozenset[int]] = (0, 0, frozenset())
    """Epoch, version and tiles of the finer bins."""


class ChartState:
    """What one viewer's chart was sent, and what its browser may therefore have."""

    def __init__(self) -> None:
        self._sender = secrets.randbits(21)  # three bytes: tells a new session's messages from old ones
        self._number = 0
        self._held: deque[_Held] = deque([_Held()], maxlen=REMEMBERED)

    def forget(self) -> None:
        """Assume the browser has nothing; the next message then has everything."""
        self._held.clear()
        self._held.append(_Held())

    def go_back(self, sender: int, number: int) -> None:
        """The browser applied message `number` of `sender` and missed a later one: continue from there."""
        while self._held and (self._held[-1].number != number or sender != self._sender):
            self._held.pop()
        if not self._held:
            self.forget()

    def next(
        self,
        bins: Bins,
        config: Mapping[str, Any],
        snapshot: Snapshot | None = None,
        zoom: tuple[int, int] | None = None,
    ) -> bytes:
        """The next message. If the viewer has zoomed into `zoom` (ns since the epoch, UTC), it includes finer
        bins of `snapshot` for that range."""
        held = self._held[-1]
        changes = bins.changes(held.epoch, held.version)
        self._number += 1
        header: dict[str, object] = {}
        if changes.whole:
            header["step"] = changes.step / 1e6
        if changes.names:
            header["names"] = changes.names
        if changes.others != held.others:
            header["others"] = changes.others
        if changes.future != held.future:
            header["future"] = changes.future
        _settings(header, held.config if held.number else {}, config)
        now = _Held(self._number, changes.epoch, changes.version, changes.others, changes.future, config)
        cells = changes.packed
        if cells is None:
            cells = packed(changes.cells, changes.series, changes.oldest, whole=changes.whole)
            changes.packed = cells
        detail, zoomed = bins.detail(zoom[1] - zoom[0]) if zoom else None, False
        if snapshot is not None and zoom is not None and detail is not None:
            width = TILE * detail.step
            tiles = range(zoom[0] // width, -(-zoom[1] // width))
            finer = detail.finer(snapshot, tiles, *held.detail)
            # If another viewer's refresh has made the series start over, the next message has these bins.
            if finer.of == changes.epoch:
                if finer.whole:
                    header["detail"] = finer.step / 1e6
                now = replace(now, detail=(finer.epoch, finer.version, frozenset(tiles)))
                zoomed = True
                span = tiles.start * TILE, tiles.stop * TILE
                series = max(changes.series, int(finer.cells.row.max(initial=0)) + 1)
                cells += packed(finer.cells, series, *span, whole=finer.whole)
        self._held.append(now)
        flags = bool(header) | zoomed << 1
        head = bytes([flags]) + varints(self._sender, self._number, self._number - held.number, bins.now)
        if header:
            text = json.dumps(header, separators=(",", ":")).encode()
            head += varints(len(text)) + text
        return head + cells


def _settings(header: dict[str, object], known: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Put the parts of `config` that differ from `known` into the header."""
    changed = {name: value for name, value in config.items() if name not in known or value != known[name]}
    if "marks" in changed and "marks" in known and "thresholds" not in changed:
        header["marks"] = _marks(known["marks"], changed.pop("marks"))
    if changed:
        header["config"] = changed
    if gone := [name for name in known if name not in config]:
        header["gone"] = gone


def _marks(known: Mapping[str, Any], marks: Mapping[str, Any]) -> dict[str, object]:
    """`marks`, newest first, as a change: the new ones, to be put before the first `keep` of the `known`
    ones. All of them if that does not give the right list."""
    before, now = _named(known), _named(marks)
    held = set(before)
    new = [mark for mark in now if mark not in held]
    keep = len(now) - len(new)
    if now != [*new, *before[:keep]]:
        new, keep = now, 0
    names = list(dict.fromkeys(name for _, name, *_ in new))
    at = [[line, names.index(name), time, value] for line, name, time, value in new]
    return {"keep": keep, "names": names, "at": at, "more": marks["more"]}


def _named(marks: Mapping[str, Any]) -> list[_Mark]:
    return [(line, marks["names"][name], time, value) for line, name, time, value in marks["at"]]


def packed(cells: Cells, series: int, oldest: int, end: int | None = None, *, whole: bool) -> bytes:
    """Encode cells. Bins from `oldest` up to `end` (exclusive) count."""
    based = np.flatnonzero(cells.base).tolist()
    order = np.lexsort((cells.row, cells.bin))
    bins, rows = cells.bin[order], cells.row[order]
    exact = _needs_all_digits(cells.low, cells.high)
    if exact:
        based, series_base = [], np.zeros_like(cells.base)
    else:
        series_base = cells.base
    base = series_base[rows]
    kind = "<f8" if exact else "<f4"
    low = (cells.low[order] - base).astype(kind)
    high = (cells.high[order] - base).astype(kind)
    high = np.where(np.isinf(high), low, high)
    first = int(bins[0]) if len(bins) else oldest
    steps = np.diff((bins - first) * series + rows, prepend=0)
    greatest = int(steps.max(initial=0))
    width = 0 if greatest < 1 << 8 else 1 if greatest < 1 << 16 else 2
    spread = low != high
    several = bool(spread.any())
    flags = whole | several << 1 | bool(based) << 2 | width << 3 | exact << 5
    place = (oldest,) if end is None else (oldest, end)
    parts = [bytes([flags]), varints(*place, first - oldest, series, len(bins), len(based))]
    parts += [varints(i) + struct.pack("<d", cells.base[i]) for i in based]
    parts.append(steps.astype(("<u1", "<u2", "<u4")[width]).tobytes())
    if several:
        parts.append(np.packbits(spread, bitorder="little").tobytes())
    if exact:
        parts += [low[~spread].tobytes(), low[spread].tobytes(), high[spread].tobytes()]
    else:
        parts += [_planes(low[~spread], 4), _shortened(low[spread], -1), _shortened(high[spread], 1)]
    return b"".join(parts)


def _needs_all_digits(low: Floats, high: Floats) -> bool:
    """True if float32 would change what a chart shows: any whole digit of a large number, or the first three
    decimals. Of small numbers a chart shows seven digits, and five of a range."""
    held = np.isfinite(low)
    low, high = low[held], high[held]
    large = np.maximum(np.abs(low), np.abs(high))
    if not len(large) or large.max() < 1e5:
        return False
    ends = np.concatenate([low[large >= 1e5], high[large >= 1e5]])
    same = np.abs(ends.astype("<f4").astype(float) - ends) < _SHOWN
    return bool((low[large >= 1e5] != high[large >= 1e5]).any() or not same.all())


def _shortened(values: npt.NDArray[np.float32], side: int) -> bytes:
    """float32 values without their last eight bits, rounded down (`side` -1) or up (1)."""
    bits = values.view("<u4")
    away = (bits & 255 > 0) & ((values < 0) == (side < 0))
    # Rounding away from zero adds one to the bits that stay. A carry into the exponent is right, too.
    bits = bits + (away.astype("<u4") << 8)
    return _planes(bits.astype("<u4").view("<f4"), 3)


def _planes(values: npt.NDArray[np.float32], size: int) -> bytes:
    """The lowest bytes of all values, then the next ones, and so on: byte planes compress better."""
    return bytes(values.view("u1").reshape(-1, 4)[:, 4 - size :].T.tobytes())


def varints(*numbers: int) -> bytes:
    """Encode non-negative numbers as unsigned LEB128: seven bits per byte, lowest first, the top bit set on
    all but the last byte."""
    out = bytearray()
    for number in numbers:
        while number > 127:
            out.append(number & 127 | 128)
            number >>= 7
        out.append(number)
    return bytes(out)
