"""newest_rows(): the newest rows as they arrive."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from nats_client import LookbackError, Result

from ..data.live import View
from ..data.states import empty_state
from ..push.json_element import JsonSource, Kind
from ..spent import timed
from ..units import number_text, with_unit
from ..words import cut, in_zone, local, zone

MOST = 1000
"""Rows to show at most."""
_LONGEST = 1000  # characters of a text
_LABELS = {"_time": "Time", "_subject": "Subject", "_seq": "Sequence"}

_kind = Kind("newest_rows")


@timed
def newest_rows(view: View, rows: int = 20, *, units: Mapping[str, str] | None = None) -> None:
    """Draw a table of the newest rows, newest first, times in the viewer's time zone. The table updates
    itself, can be searched, and does not move while a viewer holds it or points at it. `rows`: from 1 to
    MOST; raises LookbackError otherwise. `units`: column name to the unit of its numbers, as in
    line_chart()."""
    if not isinstance(rows, int) or not 1 <= rows <= MOST:
        raise LookbackError(f"rows={rows!r} is not valid. A table shows 1 to {MOST} of the newest rows.")
    if not view:
        empty_state(view)
        return
    view = view.drawn
    given = dict(units or {})
    of = view.feed, view.look_back, rows, zone(), tuple(given.items())
    _kind.draw(
        f"{view.feed.name_key} {of[1:3]} {given}", of, lambda: _NewestSource(view, rows, zone(), given)
    )


class _NewestSource(JsonSource):
    """`columns`: the label of each column, and whether it holds numbers. Each row is an entry: its cells as
    text, "" for a missing value. The names of these entries begin with "r" and ascend in time."""

    def __init__(self, view: View, rows: int, zone: str, units: Mapping[str, str]) -> None:
        super().__init__()
        self._feed = view.feed
        self._look_back = view.look_back.value
        self._rows = rows
        self._zone = zone
        self._units = units

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """New messages."""
        return self._feed.watch(changed)

    def look(self) -> Mapping[str, Any]:
        """The newest rows now."""
        snapshot = self._feed.snapshot().since(self._feed.now() - self._look_back)
        if not len(snapshot):
            return {}
        table = snapshot.frame(last=self._rows).reset_index()
        if isinstance(self._feed, Result) and self._feed.timeless:
            return self._shown(table.drop(columns="_time"), [f"r{row:020d}" for row in table.index])
        # The rows of a result have no sequence of their own.
        seqs = table["_seq"] if "_seq" in table else table.groupby("_time").cumcount()
        names = [
            f"r{time:020d}.{seq}" for time, seq in zip(table["_time"].astype("int64"), seqs, strict=True)
        ]
        return self._shown(table, names)

    def _shown(self, table: pd.DataFrame, names: list[str]) -> Mapping[str, Any]:
        with in_zone(self._zone):
            cells = [_texts(table, str(name), self._units.get(str(name), "")) for name in table]
        columns = [[_LABELS.get(str(name), str(name)), _is_number(table[name])] for name in table]
        return {"columns": columns, **dict(zip(names, map(list, zip(*cells, strict=True)), strict=True))}


def _is_number(values: "pd.Series[Any]") -> bool:
    return bool(pd.api.types.is_numeric_dtype(values.dtype))


def _texts(table: pd.DataFrame, name: str, unit: str) -> list[str]:
    """The values of a column as text."""
    values = table[name]
    if unit and _is_number(values):
        return ["" if pd.isna(value) else with_unit(value, unit) for value in values.tolist()]
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        times = local(table, name)[name].dt.strftime("%Y-%m-%d %H:%M:%S.%f")
        return [text[:-3] if isinstance(text, str) else "" for text in times]
    if pd.api.types.is_float_dtype(values.dtype):
        return [number_text(value).replace(",", "") if value == value else "" for value in values.tolist()]
    return ["" if pd.isna(value) else cut(str(value), _LONGEST) for value in values]
