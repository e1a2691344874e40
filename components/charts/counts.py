"""counts(): the number of rows per interval, stacked by a column."""

from typing import Any

import numpy as np

from nats_client import Duration, LookbackError
from nats_client.series.interval_counts import TextCounts
from nats_client.table.snapshot import Snapshot
from nats_client.table.values import Ints

from ..data.live import View
from ..data.states import check_times, empty_state
from ..push.json_element import Kind
from ..spent import timed
from ..words import cut
from .intervals import IntervalSource, interval_of, interval_settings

MOST = 10
"""Series to draw separately unless the page says otherwise."""
MOST_SERIES = 30
LONGEST = 60
"""Characters of a name."""

_kind = Kind("counts")


@timed
def counts(
    view: View,
    by: str | None = None,
    *,
    every: Duration | None = None,
    title: str | None = None,
    most: int = MOST,
    key: str | None = None,
) -> None:
    """Draw the number of rows per interval as bars, stacked by the values of the text column `by`: the `most`
    busiest values (up to MOST_SERIES), and the rest as one. The legend shows the number of rows of each. Rows
    without a value in `by` are counted as "n/a".

    Intervals start at whole multiples of their length since the epoch, in UTC. `every`: that length, such as
    "10s"; by default a round length of which at least 60 are in the look-back. If there were more than 1,000
    intervals, a multiple of it is used. Rows count at their own time, even if they arrive late. The current
    interval is paler. An interval that the look-back cuts is not shown. `key` distinguishes two equal
    elements on one page. Raises LookbackError if `most` is out of range, DurationError if `every` is no
    duration of whole milliseconds, and ColumnError, naming the columns that exist, if `by` is no text column.
    """
    if not isinstance(most, int) or not 1 <= most <= MOST_SERIES:
        raise LookbackError(f"counts() draws 1 to {MOST_SERIES} series separately, not most={most!r}.")
    step = interval_of(every, view.look_back)
    if not view:
        empty_state(view)
        return
    view = view.drawn
    check_times(view, "Counts over time")
    if by is not None:
        view.snapshot.codes(by, view.snapshot.end)
    of = view.feed, view.look_back, by, step, most
    _kind.draw(
        key or f"{view.feed.name_key} {of[1:]}",
        of,
        lambda: _CountsSource(view, by, step, most),
        **interval_settings(view, step, title),
        by=by is not None,
        empty=f"No events {view.span}",
    )


class _CountsSource(IntervalSource):
    """`others`: how many series are counted as one, and how many rows they have. Each other series is an
    entry named "s" and its place: the series' name, null for rows without a value, and its number of rows. A
    column has one number per place, then the number of the others."""

    def __init__(self, view: View, by: str | None, step: int, most: int) -> None:
        self._found = TextCounts(step, by)
        super().__init__(view, step, self._found)
        self._most = most
        self._places: dict[int, int] = {}  # by code

    def _counts(self, rows: Snapshot, first: int, last: int) -> dict[str, Any]:
        changed = self._found.update(rows, first, last)
        busiest = self._found.busiest(self._most)
        if places := self._placed([code for code, _ in busiest]):
            self._places = places
            self._columns = {}
        else:
            self._columns = {n: column for n, column in self._columns.items() if n not in changed}
        content: dict[str, Any] = {}
        for interval in range(first, last + 1):
            codes, counts = self._found.column(interval)
            if not len(codes):
                continue
            if (column := self._columns.get(interval)) is None:
                self._columns[interval] = column = self._column(codes, counts)
            content[f"c{interval}"] = column
        shown = 0
        for code, count in busiest:
            name = cut(self._found.labels[code - 1], LONGEST) if code else None
            content[f"s{self._places[code]}"] = [name, count]
            shown += count
        series, total = self._found.size()
        return {**content, "others": [series - len(busiest), total - shown]}

    def _placed(self, codes: list[int]) -> dict[int, int] | None:
        """A place for each code; codes that have a place keep it. None if the codes have not changed."""
        if self._places.keys() == set(codes):
            return None
        kept = {code: self._places[code] for code in codes if code in self._places}
        free = iter(sorted(set(range(self._most)) - set(kept.values())))
        return kept | {code: next(free) for code in codes if code not in kept}

    def _column(self, codes: Ints, counts: Ints) -> list[int]:
        drawn = np.array(list(self._places), dtype=np.int64)
        at = np.minimum(np.searchsorted(codes, drawn), len(codes) - 1)
        found = np.where(codes[at] == drawn, counts[at], 0)
        column = np.zeros(self._most + 1, dtype=np.int64)
        column[list(self._places.values())] = found
        column[-1] = counts.sum() - found.sum()
        values: list[int] = column.tolist()
        return values
