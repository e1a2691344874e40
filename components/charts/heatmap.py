"""heatmap(): the distribution of a number over time."""

from typing import Any

import numpy as np

from nats_client import Duration
from nats_client.series.value_ranges import UNFIT, ValueCounts
from nats_client.table.snapshot import Snapshot

from ..data.live import View
from ..data.states import check_times, empty_state
from ..push.json_element import Kind
from ..spent import timed
from .intervals import IntervalSource, interval_of, interval_settings

_kind = Kind("heatmap")


@timed
def heatmap(
    view: View,
    y: str,
    *,
    every: Duration | None = None,
    title: str | None = None,
    unit: str | None = None,
    log_y: bool = False,
    key: str | None = None,
) -> None:
    """Draw the distribution of the number column `y` over time: a column per interval, as in counts(), a row
    per range of values, and a colour for the number of values. Rows without a number are left out.

    Ranges have round ends and follow the values; at most 40 are in use. `log_y`: ranges grow with the value;
    zero and negative numbers are then only counted, below the chart. `unit`: as in line_chart(). `every`:
    the length of an interval, as in counts(). `key` distinguishes two equal elements on one page. Raises
    DurationError if `every` is no duration, and ColumnError, naming the columns that exist, if `y` is no
    number column.
    """
    step = interval_of(every, view.look_back)
    if not view:
        empty_state(view)
        return
    view = view.drawn
    check_times(view, "A distribution over time")
    view.snapshot.numbers(y, view.snapshot.end)
    of = view.feed, view.look_back, y, step, log_y
    _kind.draw(
        key or f"{view.feed.name_key} {of[1:]}",
        of,
        lambda: _HeatSource(view, y, step, log=log_y),
        **interval_settings(view, step, title),
        unit=unit or "",
        log=log_y,
        empty=f"No numbers {view.span}",
    )


class _HeatSource(IntervalSource):
    """`rows`: the number of the lowest row, and a list of the lower ends of all rows from there on, then the
    upper end of the last. `unfit`: how many values fit no row. A column is a list of row numbers, which may
    be negative, each followed by the number of values in that row."""

    def __init__(self, view: View, field: str, step: int, *, log: bool) -> None:
        self._found = ValueCounts(step, field, log=log)
        super().__init__(view, step, self._found)
        self._scale: object = None
        self._base = 0  # the code of row 0

    def _counts(self, rows: Snapshot, first: int, last: int) -> dict[str, Any]:
        changed = self._found.update(rows, first, last)
        low, high = self._found.extent(first, last)
        scale = self._found.scale
        if scale != self._scale:
            self._scale, self._base, self._columns = scale, low, {}
        self._columns = {n: column for n, column in self._columns.items() if n not in changed}
        content: dict[str, Any] = {"unfit": 0, "rows": [0, []]}
        for interval in range(first, last + 1):
            codes, counts = self._found.column(interval)
            if len(codes) and codes[0] == UNFIT:
                content["unfit"] += int(counts[0])
                codes, counts = codes[1:], counts[1:]
            if not len(codes):
                continue
            if (column := self._columns.get(interval)) is None:
                pairs = np.column_stack([codes - self._base, counts])
                self._columns[interval] = column = pairs.ravel().tolist()
            content[f"c{interval}"] = column
        if scale is not None and low <= high:
            edges = scale.edges(np.arange(low, high + 2))
            content["rows"] = [low - self._base, edges.tolist()]
        return content
