"""tail(): log lines as they arrive, the newest at the bottom."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nats_client import LookbackError, Snapshot
from nats_client.decoding.decoder import LONGEST_TEXT
from nats_client.table.values import Ints

from ..data.live import View
from ..data.states import check_times, empty_state
from ..push.json_element import JsonSource, Kind
from ..spent import timed
from ..words import cut

MOST = 2000
"""Lines to hold at most."""
LONGEST = 1000
"""Characters of a line that every browser gets."""
LONGEST_LEVEL = 60
WHOLE = 100_000
"""Characters of a line that a viewer can open; rows of messages hold LONGEST_TEXT."""
_AFTER_ALL = "m"  # after the names of all lines

_kind = Kind("tail")


@timed
def tail(
    view: View,
    text: str = "message",
    *,
    level: str = "level",
    title: str | None = None,
    most: int = 500,
    key: str | None = None,
) -> None:
    """Draw the newest `most` rows (up to MOST) as lines of a log, the newest at the bottom: the row's time in
    the viewer's zone, the column `level` in a colour for its severity, and the column `text`, unchanged. The
    log updates itself. A viewer can search the lines, hold them, and open a line to read all of it.

    Levels are words such as INFO, warning or FATAL, in any case, or numbers of syslog, 0 to 7. The column
    may be missing. `key` distinguishes two equal elements on one page. Raises LookbackError if `most` is out
    of range, and ColumnError, naming the columns that exist, if there is no column `text`.
    """
    if not isinstance(most, int) or not 1 <= most <= MOST:
        raise LookbackError(f"most={most!r} is not valid. tail() shows 1 to {MOST} lines.")
    if not view:
        empty_state(view)
        return
    view = view.drawn
    check_times(view, "A log")
    view.snapshot.kind_of(text)
    of = view.feed, view.look_back, text, level, most
    _kind.draw(
        key or f"{view.feed.name_key} {of[1:]}",
        of,
        lambda: _TailSource(view, text, level, most),
        title=title or "",
        empty=f"No lines {view.span}",
    )


class _Line(NamedTuple):
    time: int
    ordinal: int
    name: str
    entry: list[object]


class _TailSource(JsonSource):
    """Each line is an entry: its time (ms since the epoch, UTC), its level, its text, and the length of the
    text if it was cut. The names of these entries begin with "l" and ascend in time. `from`: the name of the
    oldest line; browsers drop earlier lines. `came`: how many rows have arrived since the source was
    created."""

    def __init__(self, view: View, text: str, level: str, most: int) -> None:
        super().__init__()
        self._feed = view.feed
        self._look_back = view.look_back.value
        self._text = text
        self._level = level
        self._most = most
        self._generation: int | None = None
        self._end = 0  # one past the ordinal of the last processed row
        self._seq = -1
        self._came = 0
        self._lines: list[_Line] = []  # ordered by time

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """New messages."""
        return self._feed.watch(changed)

    def look(self) -> Mapping[str, Any]:
        """The newest lines now."""
        rows = self._feed.snapshot().since(self._feed.now() - self._look_back)
        if len(rows):
            self._take(rows)
        else:
            self._lines = []
        content: dict[str, Any] = {line.name: line.entry for line in self._lines}
        content["from"] = self._lines[0].name if self._lines else _AFTER_ALL
        content["came"] = self._came
        return content

    def news(self, known: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
        """The changed entries, without those that remove lines: the browser drops lines before `from`."""
        news = super().news(known, content)
        first = content["from"]
        return {name: value for name, value in news.items() if value is not None or name >= first}

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """The `text` of the line named `line`, up to WHOLE characters. If the row may hold only a part of it,
        also `stream` and `seq` of its message. Raises LookbackError if the line has left the look-back."""
        with self._lock:
            ordinal = next((line.ordinal for line in self._lines if line.name == question.get("line")), None)
            rows = self._feed.snapshot()
            if ordinal is None or rows.generation != self._generation or ordinal < rows.first:
                raise LookbackError("This line has left the look-back.")
            text = _texts(rows, self._text, np.array([ordinal]))[0]
            found: dict[str, Any] = {"text": text[:WHOLE]}
            stream = self._feed.key.stream
            if stream is not None and len(text) >= LONGEST_TEXT:
                found |= {"stream": stream, "seq": str(rows.seq[ordinal - rows.first])}
            return found

    def _take(self, rows: Snapshot) -> None:
        goes_on = rows.generation == self._generation
        lines = [line for line in self._lines if line.ordinal >= rows.first] if goes_on else []
        start = max(self._end, rows.first) if goes_on else rows.first
        if self._generation is not None:
            self._came += rows.end - start if goes_on else int((rows.seq > self._seq).sum())
        if len(lines) < len(self._lines) and not rows.ordered and len(rows) > self._most:
            lines, start = [], rows.first  # earlier rows take the place of those that left
        self._generation, self._end, self._seq = rows.generation, rows.end, int(rows.seq[-1])
        ordinals = self._newest(rows, start)
        if len(ordinals):
            lines += self._made(rows, ordinals, {line.name for line in lines})
            lines.sort(key=lambda line: line.name)
        self._lines = lines[-self._most :]

    def _newest(self, rows: Snapshot, start: int) -> Ints:
        """The ordinals of the newest rows by time, from `start` on."""
        if rows.ordered:
            return np.arange(max(start, rows.end - self._most), rows.end)
        order = np.argsort(rows.times(start), kind="stable")
        return np.sort(order[len(order) - min(len(order), self._most) :]) + start

    def _made(self, rows: Snapshot, ordinals: Ints, taken: set[str]) -> list[_Line]:
        places = ordinals - rows.first
        times, seqs = rows.time[places].tolist(), rows.seq[places].tolist()
        if "_subject" not in rows.columns:  # sequences of a result are places in it
            seqs = [0] * len(seqs)
        levels = _texts(rows, self._level, ordinals) if self._level in rows.columns else [""] * len(places)
        texts = _texts(rows, self._text, ordinals)
        lines = []
        for time, seq, ordinal, level, text in zip(
            times, seqs, ordinals.tolist(), levels, texts, strict=True
        ):
            name = first = f"l{max(0, time):016x}{max(0, seq):012x}"
            number = 0
            while name in taken:  # a message may be several rows
                number += 1
                name = f"{first}.{number:06d}"
            taken.add(name)
            entry: list[object] = [time // 1_000_000, cut(level, LONGEST_LEVEL), text[:LONGEST]]
            lines.append(_Line(time, ordinal, name, entry + [len(text)] * (len(text) > LONGEST)))
        return lines


def _texts(rows: Snapshot, name: str, ordinals: Ints) -> list[str]:
    """The values of a column as text, in the rows with these ascending ordinals; "" for a missing value."""
    start, kind = int(ordinals[0]), rows.kind_of(name)
    places = ordinals - start
    if kind == "text":
        codes, labels = rows.codes(name, start)
        return [labels[code] if code >= 0 else "" for code in codes[places].tolist()]
    if kind == "number":
        return [_number(rows.value(name, ordinal)) for ordinal in ordinals.tolist()]
    times = pd.to_datetime(rows.iso_times(name, start)["ns"][places], unit="ns", utc=True)
    return ["" if pd.isna(time) else time.isoformat() for time in times]


def _number(value: float) -> str:
    if value != value:
        return ""
    return str(int(value)) if value == int(value) else repr(value)
