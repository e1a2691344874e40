"""The browser's half of a chart, without the drawing: what arrived, and whether a browser could draw it.

A page that shows nothing is fast. So each viewer knows how many points its chart holds, and fails on a
message that a browser's chart could not apply.
"""

import base64
import json
import struct

from streamlit.proto.Element_pb2 import Element


class BrokenChartError(Exception):
    """A chart's message does not follow from the ones before."""


class Chart:
    """One chart of a page, either side's."""

    def __init__(self) -> None:
        self.figure = ""
        self.points_whole = 0
        self.changes = 0
        self._epoch: object = None
        self._version = 0

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

    def _receive(self, message: bytes) -> None:
        """Follow the live chart's messages as static/live_chart.js does; bins.py has the layout."""
        (size,) = struct.unpack_from("<I", message)
        head = json.loads(message[4 : 4 + size])
        if head["a"] == 0:
            self._epoch, self.points_whole = head["e"], head["c"]
        elif head["e"] != self._epoch or self._version < head["a"]:
            raise BrokenChartError(f"holds version {self._version}, was sent what follows {head['a']}")
        self._version = head["v"]
        self.changes += head["c"] > 0


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
