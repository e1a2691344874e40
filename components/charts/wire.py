"""The binary messages of a live chart: what changed since the state this browser has.

A message begins with flags (1: a header follows, 2: finer cells follow those of the look-back). Then the
header, a length as a varint and a JSON object, and then the cells. A message that travels with the page's own
elements has more numbers after the flags, see ChartState. On the tab's own websocket, frames take care of
order and loss, and an empty message is not sent.

Cells: flags (1: replace all cells; 2: some cells have two values; 4: bases follow; 8 and 16: a step takes 2
or 4 bytes instead of 1; 32: numbers are float64 and not relative to a base; 64: short; 128: single values
have five bytes). With 8 and 16 together, another byte follows: those two flags instead, and 1: cells with two
values have a third, the newest one, NaN for a null. Then, as varints: the oldest valid bin (for finer cells
also the end, exclusive), how many bins later the first cell is, the number of series, of cells, and of bases.
If short: how many bins after the header's `origin` the first cell is, as a zigzag varint; the number of
cells; and with flag 4 the number of bases. The browser already has the number of series. It computes the
oldest bin from the look-back and the clock, unless the header has it. Then the bases, each a varint series
and a float64.

Cells are ordered by bin * series + row, and each is sent as the step from the cell before. If some cells have
two values, one bit per cell follows, lowest bit first. Then the values, relative to their base: of the cells
with one value, as little-endian float32, or as float64 without its last 24 bits; of those with two, all
minima, rounded down, then all maxima, rounded up, as float32 without the last eight bits, and then all newest
values like single ones. Each of these arrays is sent as byte planes: the lowest bytes of all values, then the
next. An infinite value means an empty cell; -inf means a cell of nulls only, where the line breaks.
"""

import json
import secrets
import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nats_client.series.bins import Bins, Changes
from nats_client.series.zoom_tiles import TILE, Cells
from nats_client.table.snapshot import Snapshot
from nats_client.table.values import Floats

from ..push.varints import varints

REMEMBERED = 8
"""A browser that is at most this many messages behind gets only the changes."""

_SHOWN = 0.0005
"""Half of the smallest fraction that a chart shows of a large number."""
_FURTHER = 24
"""The two flags of cells that together announce another byte of flags."""
_LEAST = 1e-290
"""Below this, a number has fewer than eight digits."""
_Mark = tuple[int, str, int, float]


@dataclass(frozen=True)
class Held:
    """The state of a chart in a browser."""

    epoch: int = 0
    version: int = 0
    others: int | None = None
    future: int = 0
    oldest: int = 0
    config: Mapping[str, Any] | None = None
    """None if the browser holds nothing."""
    finer: tuple[int, int, frozenset[int]] = (0, 0, frozenset())
    """Epoch, version and tiles of the finer bins."""


NOTHING = Held()


def step(
    bins: Bins,
    held: Held,
    config: Mapping[str, Any],
    snapshot: Snapshot | None = None,
    zoom: tuple[int, int] | None = None,
    *,
    short: bool,
) -> tuple[Held, int, dict[str, object], bytes]:
    """The change that brings a browser from `held` to the present: its new state, and the message's flags,
    header and cells. If the viewer has zoomed into `zoom` (ns since the epoch, UTC), the cells include finer
    bins of `snapshot` for that range. `short`: use the short form where the browser has the values that it
    leaves out."""
    changes = bins.changes(held.epoch, held.version)
    short = short and not changes.whole
    header: dict[str, object] = {}
    if changes.whole:
        header["step"] = changes.step / 1e6
        header["origin"] = changes.origin
        if changes.held:
            header["held"] = changes.held
    if changes.names:
        header["names"] = changes.names
    if changes.others != held.others:
        header["others"] = changes.others
    if changes.future != held.future:
        header["future"] = changes.future
    if short and changes.oldest > max(held.oldest, bins.edge):
        header["oldest"] = changes.oldest
    _settings(header, held.config or {}, config)
    oldest = max(held.oldest, changes.oldest) if short and "oldest" not in header else changes.oldest
    now = Held(changes.epoch, changes.version, changes.others, changes.future, oldest, config)
    cells = changes.packed.get(short)
    if cells is None:
        cells = packed(changes, short=short)
        changes.packed[short] = cells
    finer_bins, zoomed = bins.finer(zoom[1] - zoom[0]) if zoom else None, False
    if snapshot is not None and zoom is not None and finer_bins is not None:
        width = TILE * finer_bins.step
        tiles = range(zoom[0] // width, -(-zoom[1] // width))
        finer = finer_bins.changes(snapshot, tiles, *held.finer)
        # If another viewer's refresh has made the series start over, the next message has these bins.
        if finer.of == changes.epoch:
            if finer.whole:
                header["finer"] = finer.step / 1e6
            now = replace(now, finer=(finer.epoch, finer.version, frozenset(tiles)))
            zoomed = True
            span = tiles.start * TILE, tiles.stop * TILE
            series = max(changes.series, int(finer.cells.row.max(initial=0)) + 1)
            cells += _packed(finer.cells, series, varints(*span), span[0], whole=finer.whole)
    return now, bool(header) | zoomed << 1, header, cells


def with_header(head: bytes, header: Mapping[str, object], cells: bytes) -> bytes:
    """A message made of its parts; `head` is the bytes before the header."""
    if not header:
        return head + cells
    text = json.dumps(header, separators=(",", ":")).encode()
    return head + varints(len(text)) + text + cells


class ChartState:
    """The messages that one viewer's chart was sent with the page's elements, and the states in which its
    browser may therefore be.

    After the flags, such a message has as varints: the sender, the message's number, how many messages back
    its base is, and the server's clock in ms. A browser ignores a message that is not newer than its state.
    If a message extends one the browser never received, the browser replies with the last number it applied,
    and the server resends from there.
    """

    def __init__(self) -> None:
        self._sender = secrets.randbits(21)  # three bytes: tells a new session's messages from old ones
        self._number = 0
        self._held: deque[tuple[int, Held]] = deque([(0, NOTHING)], maxlen=REMEMBERED)
        self.bins: Bins | None = None
        """The bins of the last message, which are kept for the next one."""

    def forget(self) -> None:
        """Assume that the browser holds nothing; the next message then contains everything."""
        self._held.clear()
        self._held.append((0, NOTHING))

    def go_back(self, sender: int, number: int) -> None:
        """The browser applied message `number` of `sender` and missed a later one: continue from there."""
        while self._held and (self._held[-1][0] != number or sender != self._sender):
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
        """The next message; see step()."""
        before, held = self._held[-1]
        now, flags, header, cells = step(bins, held, config, snapshot, zoom, short=False)
        self._number += 1
        self._held.append((self._number, now))
        head = bytes([flags]) + varints(self._sender, self._number, self._number - before, bins.now)
        return with_header(head, header, cells)


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
    """`marks`, newest first, as a change: the new marks, to be put before the first `keep` marks of `known`.
    If that does not give the right list, all marks and a `keep` of 0."""
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


def packed(changes: Changes, *, short: bool) -> bytes:
    """The cells of `changes` as described above."""
    if not short:
        oldest = changes.oldest
        return _packed(changes.cells, changes.series, varints(oldest), oldest, whole=changes.whole)
    return _packed(changes.cells, changes.series, None, changes.origin, whole=False)


def has_cells(cells: bytes) -> bool:
    """True if there are cells in the short form."""
    at = 2 if cells[0] & _FURTHER == _FURTHER else 1
    while cells[at] > 127:  # the first bin
        at += 1
    return cells[at + 1] > 0


def _packed(cells: Cells, series: int, place: bytes | None, start: int, *, whole: bool) -> bytes:
    """Encode cells. `place`: the encoded range of valid bins; None in the short form. The first cell's bin is
    sent relative to `start`."""
    based = np.flatnonzero(cells.base).tolist()
    order = np.lexsort((cells.row, cells.bin))
    bins, rows = cells.bin[order], cells.row[order]
    low, high = cells.low[order], cells.high[order]
    high = np.where(np.isinf(high), low, high)
    last = None if cells.last is None else cells.last[order]
    exact = _needs_all_digits(low, high) or (last is not None and _needs_all_digits(last, last))
    if exact:
        based, series_base = [], np.zeros_like(cells.base)
    else:
        series_base = cells.base
    base = series_base[rows]
    first = int(bins[0]) if len(bins) else start
    steps = np.diff((bins - first) * series + rows, prepend=0)
    greatest = int(steps.max(initial=0))
    width = 0 if greatest < 1 << 8 else 1 if greatest < 1 << 16 else 2
    kind = np.float64 if exact else np.float32
    spread = (low - base).astype(kind) != (high - base).astype(kind)
    if last is not None:
        spread |= np.isnan(last) & np.isfinite(low)  # a null has followed the value
    several = bool(spread.any())
    singles = low[~spread] if last is None else np.concatenate([low[~spread], last[spread]])
    single_bases = base[~spread] if last is None else np.concatenate([base[~spread], base[spread]])
    fine = not exact and _needs_five_bytes(singles, single_bases)
    held = several and last is not None
    flags = whole | several << 1 | bool(based) << 2 | exact << 5 | (place is None) << 6 | fine << 7
    parts = [bytes([flags | _FURTHER, width << 3 | 1] if held else [flags | width << 3])]
    if place is None:
        parts += [varints(_zigzag(first - start), len(bins))]
        parts += [varints(len(based))] * bool(based)
    else:
        parts += [place, varints(first - start, series, len(bins), len(based))]
    parts += [varints(i) + struct.pack("<d", cells.base[i]) for i in based]
    parts.append(steps.astype(("<u1", "<u2", "<u4")[width]).tobytes())
    if several:
        parts.append(np.packbits(spread, bitorder="little").tobytes())

    def single(values: Floats, bases: Floats) -> bytes:
        if exact:
            return values.astype("<f8").tobytes()
        if fine:
            return _five_bytes(_eight_digits(values) - bases)
        return _planes((values - bases).astype("<f4"), 4)

    parts.append(single(low[~spread], base[~spread]))
    if several and exact:
        parts += [low[spread].astype("<f8").tobytes(), high[spread].astype("<f8").tobytes()]
    elif several:
        ends = ((values[spread] - base[spread]).astype("<f4") for values in (low, high))
        parts += [_shortened(values, side) for values, side in zip(ends, (-1, 1), strict=True)]
    if several and last is not None:
        parts.append(single(last[spread], base[spread]))
    return b"".join(parts)


def _needs_all_digits(low: Floats, high: Floats) -> bool:
    """True if float32 would change what a chart shows of a large number: a whole digit, or one of the first
    three decimals."""
    held = np.isfinite(low)
    low, high = low[held], high[held]
    large = np.maximum(np.abs(low), np.abs(high))
    if not len(large) or large.max() < 1e5:
        return False
    ends = np.concatenate([low[large >= 1e5], high[large >= 1e5]])
    same = np.abs(ends.astype("<f4").astype(float) - ends) < _SHOWN
    return bool((low[large >= 1e5] != high[large >= 1e5]).any() or not same.all())


def _needs_five_bytes(values: Floats, base: Floats) -> bool:
    """True if float32 would change one of the eight digits that a chart shows of a single value. For a range
    of values, of which it shows five digits, float32 suffices."""
    held = np.isfinite(values)
    values, base = values[held], base[held]
    sent = (values - base).astype("<f4").astype(float) + base
    away = np.abs(sent - _eight_digits(values))
    return bool((away >= 0.499 * _digit(values)).any())


def _digit(values: Floats) -> Floats:
    """The value of one unit in the eighth digit of each number."""
    return np.asarray(10.0 ** (np.floor(np.log10(np.maximum(np.abs(values), _LEAST))) - 7))


def _eight_digits(values: Floats) -> Floats:
    """Each number rounded to eight digits."""
    digit = _digit(values)
    return np.where(np.isfinite(values), np.round(values / digit) * digit, values)


def _five_bytes(values: Floats) -> bytes:
    """float64 values rounded to their first 40 bits, which is enough for eight digits."""
    bits = values.astype("<f8").view("<u8")
    rounded = np.where(np.isfinite(values), bits + (1 << 23), bits)  # a carry into the exponent is right, too
    return bytes(rounded.astype("<u8").view("u1").reshape(-1, 8)[:, 3:].T.tobytes())


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


def _zigzag(number: int) -> int:
    """0, -1, 1, -2, … as 0, 1, 2, 3, …"""
    return 2 * number if number >= 0 else -2 * number - 1
