"""The content of an app test's page: that of its live elements, and the cells of its charts."""

import json
from dataclasses import dataclass
from typing import Any

from streamlit.testing.v1 import AppTest

from bench.chart_end import read

Cells = dict[str, dict[int, tuple[float, float]]]
"""Least and greatest value of each bin, by the name of the series."""


@dataclass(frozen=True)
class Shown:
    """A line chart."""

    cells: Cells
    newest: dict[str, dict[int, float]]
    """The newest value of each bin, if the chart draws values that hold until the next one."""
    header: dict[str, Any]
    config: dict[str, Any]


def contents(page: AppTest, kind: str) -> list[dict[str, Any]]:
    """The contents of all elements of a kind."""
    found = [each.proto for each in page.get("bidi_component") if each.proto.component_name == kind]
    return [(of := json.loads(proto.json)).get("content", of) for proto in found]


def charts(page: AppTest) -> dict[str, Shown]:
    """The line charts, by title. They must be in their first run, in which they are sent whole."""
    found = {}
    for each in page.get("bidi_component"):
        if each.proto.component_name == "chart":
            message = read(each.proto.bytes)
            names = dict(message.header.get("names", []))
            cells: Cells = {}
            newest: dict[str, dict[int, float]] = {}
            for (row, number), ends in message.cells.items():
                cells.setdefault(names[row], {})[number] = ends
                newest.setdefault(names[row], {})[number] = message.newest.get((row, number), ends[0])
            config = message.header["config"]
            found[config["title"]] = Shown(cells, newest, message.header, config)
    return found
