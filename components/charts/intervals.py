"""Shared by the charts of counts per interval: the intervals, and which of them are shown."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import pandas as pd

from nats_client import Duration, parse_duration
from nats_client.errors import DurationError
from nats_client.series.bins import ROUND_STEPS
from nats_client.table.snapshot import Snapshot

from ..data.live import View
from ..push.json_element import JsonSource

LEAST = 60
"""The least number of intervals in a look-back, unless the page sets their length."""
MOST = 1000
"""The greatest number of intervals. If there were more, each is several times as long."""
NUMBER = 40
"""Bytes of memory that a number in a column takes."""
_DAY = 86_400_000_000_000
_STEPS = [*ROUND_STEPS, 2 * _DAY, 4 * _DAY]


def interval_of(every: Duration | None, look_back: pd.Timedelta) -> int:
    """The length of an interval, ns: `every`, or a multiple of it if there were more than MOST intervals. If
    `every` is None, the longest round length of which LEAST are in the look-back. Raises DurationError if
    `every` is no duration of whole milliseconds."""
    if every is None:
        return max([step for step in _STEPS if step * LEAST <= look_back.value], default=_STEPS[0])
    length = parse_duration(every, "interval").value
    if length % 1_000_000:
        raise DurationError(f"The interval {every!r} is not valid. It must be whole milliseconds.")
    return length * -(-look_back.value // (length * MOST))


def interval_settings(view: View, step: int, title: str | None) -> dict[str, Any]:
    """Settings that the browser needs for the axis. `step`: ms. `when`: identifies the time range; the zoom
    is reset when it changes."""
    return {
        "title": title or "",
        "step": step // 1_000_000,
        "still": view.past,
        "when": f"{view.look_back.value} {view.feed.key.end}",
    }


class Counting(Protocol):
    """The interface of a counter, as a source uses it."""

    @property
    def nbytes(self) -> int: ...

    def release(self) -> None: ...


class IntervalSource(JsonSource):
    """`until`: now, ms since the epoch, UTC. `first`: the first interval shown; an interval that the
    look-back cuts is not shown. `last`: the current interval. `young`: as in View.young_since, in ms. `gaps`:
    the missing parts, from and to, in ms. Each interval with rows has a column: an entry whose name is "c"
    and the interval."""

    def __init__(self, view: View, step: int, counting: Counting) -> None:
        super().__init__()
        self._feed = view.feed
        self._look_back = view.look_back.value
        self._again = view.again
        self._step = step
        self._counting = counting
        self._columns: dict[int, list[int]] = {}  # the columns made from the counts, by interval
        view.feed.counted(self)
        self._now = 0  # until when all messages were received, on the server's clock

    @property
    def nbytes(self) -> int:
        """Bytes of the counts and of the columns made from them."""
        return self._counting.nbytes + NUMBER * sum(map(len, list(self._columns.values())))

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """New messages."""
        return self._feed.watch(changed)

    def rest(self) -> None:
        """Release the rows."""
        self._counting.release()

    def look(self) -> Mapping[str, Any]:
        """The counts now."""
        view = self._again()
        if view.health.phase == "following" or not self._now:
            self._now = max(self._now, view.now)
        start = view.now - self._look_back  # rows leave the look-back even while no new rows arrive
        if view.health.dropped:
            start = max(start, view.health.dropped_until + 1)
        last = (self._now - view.past) // self._step  # a stretch has no row at its end
        first = min(-(-start // self._step), last)
        content: dict[str, Any] = {"until": self._now // 1_000_000, "first": first, "last": last}
        if (young := view.young_since) is not None:
            content["young"] = young // 1_000_000
        if gaps := [[gap.start // 1_000_000, gap.end // 1_000_000] for gap in view.gaps]:
            content["gaps"] = gaps
        return content | self._counts(view.snapshot, first, last)

    @abstractmethod
    def _counts(self, rows: Snapshot, first: int, last: int) -> dict[str, Any]:
        """The columns from `first` to `last`, and the entries that explain them."""
