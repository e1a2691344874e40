"""The browser's half of a chart, without the drawing: what arrived, and whether a browser could draw it.

A page that shows nothing is fast. So each viewer knows how many points its chart holds, and fails on a
message that a browser's chart could not apply.
"""

import base64
import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from streamlit.proto.Element_pb2 import Element


class BrokenChartError(Exception):
    """A chart's message does not follow from the ones before."""


class Chart:
    """The charts of a page, either side's; `points` are those of the newest whole picture."""

    def __init__(self) -> None:
        self.figure = ""
        self.points_whole = 0
        self.changes = 0
        self._numbers: dict[int, int] = {}  # by sender: the last message

    def see(self, element: Element) -> None:
        """Take in an element, if it is a chart."""
        kind = element.WhichOneof("type")
        if kind == "plotly_chart":
            self.figure = element.plotly_chart.spec  # read when asked for: it is long and comes each second
            self.changes += 1
        elif kind == "bidi_component" and element.bidi_component.bytes:
            self._receive(element.bidi_component.bytes)

    def points(self) -> int:
        """Points of the last whole picture."""
        return points_in(self.figure) if self.figure else self.points_whole

    def _receive(self, data: bytes) -> None:
        """Follow the live chart's messages as static/live_chart.js does."""
        message = read(data)
        if message.builds_on == 0:
            self.points_whole = len(message.cells)
        elif (got := self._numbers.get(message.sender, 0)) < message.builds_on:
            raise BrokenChartError(f"got number {got}, was sent what builds on {message.builds_on}")
        self._numbers[message.sender] = message.number
        self.changes += len(message.cells) > 0


@dataclass
class Message:
    """A message of the live chart, as components/charts/wire.py describes it."""

    sender: int
    number: int
    builds_on: int
    """0 for nothing."""
    now: int
    header: dict[str, Any]
    whole: bool
    oldest: int
    cells: dict[tuple[int, int], tuple[float, float]]
    """By row and bin: low and high."""
    fine: "Message | None" = None
    """The same of the zoomed range: `oldest` is its first bin."""


def read(data: bytes) -> Message:
    """Take a message apart."""
    flags, at = data[0], 1

    def number() -> int:
        nonlocal at
        found = shift = 0
        while True:
            byte = data[at]
            found |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return found

    def cells(*, bounded: bool) -> tuple[bool, int, dict[tuple[int, int], tuple[float, float]]]:
        nonlocal at
        kind = data[at]
        at += 1
        oldest = number()
        if bounded:
            number()  # one past the last
        key, series, count, based = (oldest + number(), number(), number(), number())
        bases = {}
        for _ in range(based):
            row = number()
            (bases[row],) = struct.unpack_from("<d", data, at)
            at += 8
        width = 1 << (kind >> 3 & 3)
        steps = np.frombuffer(data, f"<u{width}", count, at).astype(np.int64)
        at += width * count

        def values(count: int, size: int) -> np.ndarray:
            nonlocal at
            if kind & 32:
                at += 8 * count
                return np.frombuffer(data, "<f8", count, at - 8 * count)
            part = np.zeros((count, 4), dtype=np.uint8)
            part[:, 4 - size :] = np.frombuffer(data, "u1", size * count, at).reshape(size, count).T
            at += size * count
            return part.view("<f4")[:, 0]

        spread = np.zeros(count, dtype=bool)
        if kind & 2:
            bits = np.frombuffer(data, "u1", -(-count // 8), at)
            spread, at = np.unpackbits(bits, count=count, bitorder="little").astype(bool), at + len(bits)
        low = np.zeros(count)
        low[~spread] = values(int((~spread).sum()), 4)
        high = low.copy()
        low[spread], high[spread] = (values(int(spread.sum()), 3) for _ in range(2))
        found = {}
        for step, least, most in zip(np.cumsum(steps).tolist(), low.tolist(), high.tolist(), strict=True):
            row = step % series
            base = bases.get(row, 0.0)
            found[row, key + step // series] = (least + base, most + base)
        return bool(kind & 1), oldest, found

    sender, count, back, now = number(), number(), number(), number()
    header = {}
    if flags & 1:
        size = number()
        header = json.loads(data[at : at + size])
        at += size
    message = Message(sender, count, count - back, now, header, *cells(bounded=False))
    if flags & 2:
        message.fine = Message(sender, count, count - back, now, header, *cells(bounded=True))
    if at != len(data):
        raise BrokenChartError(f"{len(data) - at} bytes too many")
    return message


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
