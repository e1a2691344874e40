"""The browser's half of a chart, without the drawing: what arrived, and whether a browser could draw it.

A page that shows nothing is fast. So each viewer counts the points of its chart, and fails on a message that
a browser's chart could not apply.
"""

import base64
import json
import struct
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import Any

import numpy as np
from streamlit.proto.Element_pb2 import Element


class BrokenChartError(Exception):
    """A chart's message does not follow from the messages before it."""


class Chart:
    """The charts of a page, of this app or of the plain recipe."""

    def __init__(self) -> None:
        self.figure = ""
        self.points_whole = 0
        self.changes = 0
        self._numbers: dict[int, int] = {}  # by sender: the last message
        self._pushed: dict[int, tuple[int, int]] = {}  # by number on the tab's websocket: series and origin

    def see(self, element: Element) -> None:
        """Process an element if it is a chart. Raises BrokenChartError."""
        kind = element.WhichOneof("type")
        if kind == "plotly_chart":
            self.figure = element.plotly_chart.spec  # parsed only on request: it is long
            self.changes += 1
        elif kind == "bidi_component" and element.bidi_component.bytes:
            self._receive(element.bidi_component.bytes)

    def points(self) -> int:
        """The number of points in the newest whole picture."""
        return points_in(self.figure) if self.figure else self.points_whole

    def apply(self, number: int, data: bytes) -> "Pushed":
        """Apply a message of the tab's websocket to the element `number`, as the browser does. Raises
        BrokenChartError."""
        everything = data[0] & EVERYTHING
        if not everything and number not in self._pushed:
            raise BrokenChartError(f"the chart {number} was sent a change before anything else")
        message = read_pushed(data, *((0, 0) if everything else self._pushed[number]))
        self._pushed[number] = message.series, message.origin
        if message.whole:
            self.points_whole = len(message.cells)
        self.changes += len(message.cells) > 0
        return message

    def forget(self, number: int) -> None:
        """Forget an element that has left the page."""
        self._pushed.pop(number, None)

    def _receive(self, data: bytes) -> None:
        """Apply a message that came with the page's elements, as static/live_chart.js does."""
        message = read(data)
        if message.builds_on == 0:
            self.points_whole = len(message.cells)
        elif (got := self._numbers.get(message.sender, 0)) < message.builds_on:
            raise BrokenChartError(f"got number {got}, was sent what builds on {message.builds_on}")
        self._numbers[message.sender] = message.number
        self.changes += len(message.cells) > 0


Found = dict[tuple[int, int], tuple[float, float]]
"""Cells: (row, bin) to (low, high)."""


@dataclass
class Message:
    """A message of the live chart that came with the page's elements, as components/charts/wire.py describes
    it."""

    sender: int
    number: int
    builds_on: int
    """The number of the message that this one extends; 0 for a whole picture."""
    now: int
    header: dict[str, Any]
    whole: bool
    oldest: int
    cells: Found
    newest: dict[tuple[int, int], float]
    """The newest value of each cell, if values hold and some cells have two."""
    finer: "Message | None" = None
    """The cells of the zoomed range. Its `oldest` is the first bin."""


@dataclass(frozen=True)
class Pushed:
    """A message of the live chart that came over the tab's websocket."""

    header: dict[str, Any]
    whole: bool
    series: int
    """The number of series that the browser has after this message."""
    origin: int
    cells: Found
    newest: float
    """The greatest value in the message; -inf without cells."""


def read(data: bytes) -> Message:
    """Parse a message that came with the page's elements. Raises BrokenChartError."""
    reader = _Reader(data)
    flags = reader.byte()
    sender, count, back, now = (reader.number() for _ in range(4))
    header = reader.header() if flags & HEADER else {}
    message = Message(sender, count, count - back, now, header, *reader.cells(), reader.newest)
    if flags & FINER:
        finer = reader.cells(bounded=True)
        message.finer = Message(sender, count, count - back, now, header, *finer, reader.newest)
    reader.end()
    return message


@lru_cache(maxsize=512)
def read_pushed(data: bytes, series: int, origin: int) -> Pushed:
    """Parse a message of the tab's websocket, for a browser that has `series` series and this `origin`.

    Raises BrokenChartError. Cached, because many viewers receive the same bytes.
    """
    reader = _Reader(data)
    flags = reader.byte()
    header = reader.header() if flags & HEADER else {}
    names = [index + 1 for index, _ in header.get("names", [])]
    origin = header.get("origin", origin)
    whole, _, cells = reader.cells(known=max([series, *names]), origin=origin)
    if flags & FINER:
        reader.cells(bounded=True)
    reader.end()
    known = max([0 if whole else series, *names])
    return Pushed(
        header, whole, known, origin, cells, max((high for _, high in cells.values()), default=-inf)
    )


HEADER, FINER, EVERYTHING = 1, 2, 4
"""Flags of a message."""


class _Reader:
    """Reads a message from front to back."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self.newest: dict[tuple[int, int], float] = {}

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def number(self) -> int:
        found = shift = 0
        while True:
            byte = self.byte()
            found |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return found

    def header(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._bytes(self.number()))
        return found

    def end(self) -> None:
        if self._at != len(self._data):
            raise BrokenChartError(f"{len(self._data) - self._at} bytes too many")

    def cells(self, *, bounded: bool = False, known: int = 0, origin: int = 0) -> tuple[bool, int, Found]:
        """Returns whether all cells follow, the oldest bin that counts (0 in the short form), and the cells.
        Their newest values are then in `newest`. `known` and `origin` are left out of the short form."""
        kind = self.byte()
        further = self.byte() if kind & 24 == 24 else kind & 24
        if kind & 64:
            oldest, zigzag = 0, self.number()
            key = origin + (-(zigzag + 1) // 2 if zigzag % 2 else zigzag // 2)
            series, count = known, self.number()
            based = self.number() if kind & 4 else 0
        else:
            oldest = self.number()
            if bounded:
                self.number()  # one past the last
            key, series, count, based = oldest + self.number(), self.number(), self.number(), self.number()
        bases = {}
        for _ in range(based):
            row = self.number()
            (bases[row],) = struct.unpack("<d", self._bytes(8))
        width = 1 << (further >> 3 & 3)
        steps = np.frombuffer(self._bytes(width * count), f"<u{width}").astype(np.int64)
        spread = np.zeros(count, dtype=bool)
        if kind & 2:
            bits = np.frombuffer(self._bytes(-(-count // 8)), "u1")
            spread = np.unpackbits(bits, count=count, bitorder="little").astype(bool)
        low = np.zeros(count)
        single = 5 if kind & 128 else 4
        low[~spread] = self._values(int((~spread).sum()), single, exact=bool(kind & 32))
        high = low.copy()
        low[spread], high[spread] = (
            self._values(int(spread.sum()), 3, exact=bool(kind & 32)) for _ in range(2)
        )
        last = low.copy()
        if further & 1:
            last[spread] = self._values(int(spread.sum()), single, exact=bool(kind & 32))
        found = {}
        for step, least, most in zip(np.cumsum(steps).tolist(), low.tolist(), high.tolist(), strict=True):
            row = step % series
            base = bases.get(row, 0.0)
            found[row, key + step // series] = (least + base, most + base)
        if further & 1:
            each = zip(found, last.tolist(), strict=True)
            self.newest = {cell: newest + bases.get(cell[0], 0.0) for cell, newest in each}
        return bool(kind & 1), oldest, found

    def _values(self, count: int, size: int, *, exact: bool) -> np.ndarray:
        if exact:
            return np.frombuffer(self._bytes(8 * count), "<f8")
        whole = 8 if size == 5 else 4
        part = np.zeros((count, whole), dtype=np.uint8)
        part[:, whole - size :] = np.frombuffer(self._bytes(size * count), "u1").reshape(size, count).T
        return part.view(f"<f{whole}")[:, 0].astype(float)

    def _bytes(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at]


def points_in(figure: str) -> int:
    """Count the y values of a Plotly figure's traces; they travel as base64 of float64 or the like."""
    count = 0
    for trace in json.loads(figure)["data"]:
        y = trace.get("y", [])
        if isinstance(y, dict):
            count += len(base64.b64decode(y["bdata"])) // int(y["dtype"][1:] or 8)
        else:
            count += len(y)
    return count
