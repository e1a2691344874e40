"""Finds when the value of a series changed: from one row to the next it is another number or text.

All viewers of a feed share one set of changes. An update processes only the rows that are new since the last
refresh, or, after late rows, all of the look-back.
"""

from typing import NamedTuple

import numpy as np

from ..table.snapshot import Snapshot
from ..table.values import Floats, Ints
from .crossings import Crossing, Found
from .noticed import Noticing, Structured

_CHANGE = np.dtype([("code", "i8"), ("time", "i8"), ("value", "f8"), ("since", "i8"), ("before", "f8")])
"""`since` is the time of the first row with the value `before`."""
_NEVER = np.iinfo(np.int64).min


class Span(NamedTuple):
    """A time in which a series had one value. Times are ns since the epoch, UTC."""

    series: str
    value: float | str
    start: int
    """Time of the first row with the value."""
    end: int | None
    """Time of the next row with another value; None while there is none."""


class ValueChanges(Noticing):
    """When the value of the number or text column `field` changed, per value of the text column `color`, for
    one look-back on one feed.

    The first value of a series is no change. Rows without a value are skipped. A change ends when it begins;
    `value` and `peak` of its Crossing are the new number, and `text` the new text.
    """

    ended_at = "time"

    def found(self) -> Found:
        """The changes at the last update."""
        with self._lock:
            self._forget()
            kept = self._past[np.argsort(-self._past["time"], kind="stable")]
            texts = self._texts
            some = tuple(
                Crossing(
                    self._labels[code], time, value, time, value, True, texts[int(value)] if texts else ""
                )
                for code, time, value, _, _ in kept.tolist()
            )
            series = int((self._time > _NEVER).sum())
            return Found(some, len(some) + self._further.total(), 0, series)

    def spans(self) -> tuple[list[Span], int]:
        """Which value each series had when, ordered by start, for those with a row within the look-back; and
        how many changes within it are no longer kept, so that what was before them is missing."""
        with self._lock:
            self._forget()
            edge, texts = self._now - self._look_back, self._texts
            shown = self._time >= edge
            found = [
                (code, before, since, time)
                for code, time, _, since, before in self._past[shown[self._past["code"]]].tolist()
            ]
            found += [
                (code, float(self._value[code]), int(self._since[code]), None)
                for code in np.flatnonzero(shown).tolist()
            ]
            spans = [
                Span(self._labels[code], texts[int(value)] if texts is not None else value, start, end)
                for code, value, start, end in found
            ]
            return sorted(spans, key=lambda span: (span.start, span.series)), self._further.total()

    # -- below, the lock is held -------------------------------------------------------------------------

    def _nothing(self) -> Structured:
        self._texts: list[str] | None = None
        self._time = np.zeros(0, dtype=np.int64)  # of each code, the time and value of its newest row
        self._value = np.zeros(0)
        self._since = np.zeros(0, dtype=np.int64)  # when that value came first
        return np.zeros(0, dtype=_CHANGE)

    def _take(self, snapshot: Snapshot, start: int) -> None:
        codes, times, values = self._rows(snapshot, start)
        if (times < self._time[codes]).any():
            # All rows since then are held. Of earlier rows, perhaps only those that arrived late are.
            edge = self._now - self._look_back
            self._go_back(edge)
            codes, times, values = self._rows(snapshot, snapshot.first)
            held = times >= edge
            codes, times, values = codes[held], times[held], values[held]
        order = np.lexsort((times, codes))
        self._compare(codes[order], times[order], values[order])

    def _go_back(self, edge: int) -> None:
        """Restore the state of all series before the time `edge`."""
        past = self._past[np.argsort(self._past["time"], kind="stable")]
        before = past["time"] < edge
        undone = past[~before][::-1]
        # Of several entries for one code the last assignment counts: here that of the first change undone.
        self._since[undone["code"]], self._value[undone["code"]] = undone["since"], undone["before"]
        self._past = past[before]
        self._time = np.where(self._since < edge, self._since, _NEVER)
        self._further.clear()

    def _compare(self, codes: Ints, times: Ints, values: Floats) -> None:
        if not len(codes):
            return
        first = np.append(True, codes[1:] != codes[:-1])
        known = self._time[codes] > _NEVER
        before = np.append(np.nan, values[:-1])
        before[first] = np.where(known[first], self._value[codes[first]], values[first])
        changed = values != before
        begins = np.flatnonzero(changed | (first & ~known))  # where a series has a value first
        since = self._since[codes[begins]]
        same = codes[begins[1:]] == codes[begins[:-1]]
        since[1:][same] = times[begins[:-1]][same]
        new = np.zeros(len(begins), dtype=_CHANGE)
        new["code"], new["time"], new["value"] = codes[begins], times[begins], values[begins]
        new["since"], new["before"] = since, before[begins]
        self._since[codes[begins]] = times[begins]
        self._keep(np.concatenate([self._past, new[changed[begins]]]))
        last = np.append(np.flatnonzero(first)[1:] - 1, len(codes) - 1)
        self._time[codes[last]], self._value[codes[last]] = times[last], values[last]

    def _rows(self, snapshot: Snapshot, start: int) -> tuple[Ints, Ints, Floats]:
        times = snapshot.times(start)
        if snapshot.kind_of(self.field) == "text":
            found, self._texts = snapshot.codes(self.field, start)
            held, values = found >= 0, found.astype(np.float64)
        else:
            values = snapshot.numbers(self.field, start)
            held, self._texts = ~np.isnan(values), None
        codes, good = self._codes(snapshot, start, times, held)
        if (more := len(self._labels) - len(self._time)) > 0:
            self._time = np.append(self._time, np.full(more, _NEVER))
            self._value = np.append(self._value, np.full(more, np.nan))
            self._since = np.append(self._since, np.full(more, _NEVER))
        return codes[good], times[good], values[good]
