"""latest_values(): the newest value of each series, as a table that updates itself."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from nats_client.table.values import EXACT

from ..data.live import View
from ..data.states import empty_state
from ..push.json_element import JsonSource, Kind
from ..spent import timed
from ..words import rounded

MOST = 500
"""Values to show, the largest ones."""

_kind = Kind("latest_values")


@timed
def latest_values(view: View, column: str, by: str = "_subject", *, unit: str = "") -> None:
    """Draw a table of the newest value of the numeric `column` for each value of `by`, largest first, at most
    MOST rows. The table updates itself. A click on a column's name sorts it. `unit`: written after the
    numbers, as in line_chart(). Raises ColumnError, naming the columns that exist, if a column does not exist
    or has another kind."""
    if not view:
        empty_state(view)
        return
    view = view.drawn
    view.snapshot.numbers(column, view.snapshot.end)
    view.snapshot.codes(by, view.snapshot.end)
    of = view.feed, view.look_back, column, by
    _kind.draw(
        f"{view.feed.name_key} {of[1:]} {unit}",
        of,
        lambda: _LatestSource(view, column, by),
        columns=["Subject" if by == "_subject" else by, column],
        most=MOST,
        unit=unit,
    )


class _LatestSource(JsonSource):
    """Each value is an entry named "=" and the series: a number, or text if a browser's numbers cannot
    represent it. `total`: how many series there are. `low`, `high`: the ends of a bar."""

    def __init__(self, view: View, column: str, by: str) -> None:
        super().__init__()
        self._feed = view.feed
        self._look_back = view.look_back
        self._column = column
        self._by = by

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """New messages."""
        return self._feed.watch(changed)

    def look(self) -> Mapping[str, Any]:
        """The newest values now."""
        snapshot = self._feed.snapshot().since(self._feed.now() - self._look_back.value)
        if not len(snapshot):
            return {"total": 0}
        found = self._feed.latest(self._column, self._by, self._look_back).of(snapshot)
        if found.empty:  # only messages before the look-back had this field
            return {"total": 0}
        latest = found.nlargest(MOST)
        whole = pd.api.types.is_integer_dtype(latest.dtype)
        shown = {f"={name}": _shown(value, whole=whole) for name, value in latest.items()}
        low, high = min(0.0, float(latest.min())), float(latest.max())
        return {"total": len(found), "low": rounded(low), "high": rounded(high) or 1.0, **shown}


def _shown(value: float | int, *, whole: bool) -> float | int | str:
    if not whole:
        return rounded(float(value))
    return int(value) if abs(int(value)) < EXACT else str(int(value))
