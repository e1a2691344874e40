"""A stream with known contents over two days: times, sequences, subjects and values of all messages.

The first day is only in the archive. On that day the server was away for twenty minutes, and messages of half
an hour left the stream before they were archived. On the second day, messages of ten minutes were deleted.
The server's clock was an hour behind three times.
"""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from services.history.database import Message
from tests.archive import history
from tests.jetstream import api
from tests.origin import PastServer, Stored
from tests.shown import Cells

SECOND, MINUTE, HOUR = 10**9, 60 * 10**9, 3600 * 10**9
START = pd.Timestamp("2026-11-20T00:00Z").as_unit("ns").value
LINES, STATES = ("one", "two", "three"), ("RUN", "IDLE", "FAULT")


@dataclass(frozen=True)
class Line:
    """The fields of a message."""

    seq: int
    time: int
    line: str
    n: int
    state: str | None

    @property
    def payload(self) -> bytes:
        """The message's payload."""
        return json.dumps({"n": self.n} | ({"state": self.state} if self.state else {})).encode()


def at(day: int, clock: str) -> int:
    """The time on the first or the second day, in ns since the epoch, UTC."""
    return START + (day - 1) * 24 * HOUR + int(pd.Timedelta(f"{clock}:00").value)


MOMENTS = {
    "its beginning": at(1, "00:40"),
    "only the archive": at(1, "06:00"),
    "the server was away": at(1, "09:30"),
    "messages were lost": at(1, "11:45"),
    "the clock was set back": at(1, "13:40"),
    "and is right again": at(1, "15:10"),
    "across the seam": at(1, "23:40"),
    "messages were deleted": at(2, "10:30"),
    "set back again": at(2, "14:20"),
    "only the stream": at(2, "20:00"),
}
"""Ten moments, in ns since the epoch, UTC, by what happened then."""


SET_BACK = (
    (at(1, "14:00"), at(1, "14:40")),
    (at(1, "23:50"), at(2, "00:20")),
    (at(2, "15:00"), at(2, "15:40")),
)
"""Real times between which the clock was an hour behind. During the second one, the stream is purged."""
AWAY = at(1, "09:00"), at(1, "09:20")
LOST = at(1, "11:00"), at(1, "11:30")
DELETED = at(2, "10:00"), at(2, "10:10")
CUT = at(2, "00:05")
"""A real time. Messages from before it are only in the archive."""


def _between(time: int, times: tuple[int, int]) -> bool:
    return times[0] <= time < times[1]


def _all() -> list[tuple[int, Line]]:
    """Each message with its real time."""
    chance, found, time, seq = random.Random(48), [], START, 0
    while time < START + 48 * HOUR:
        time += chance.randrange(20 * SECOND, 200 * SECOND)
        if _between(time, AWAY):
            continue
        seq += 1
        clock = time - HOUR if any(_between(time, times) for times in SET_BACK) else time
        clock -= clock % 1000  # the archive stores microseconds
        state = chance.choice(STATES) if chance.random() < 0.7 else None
        found.append((time, Line(seq, clock, chance.choice(LINES), chance.randrange(100), state)))
    return found


_EACH = _all()
ARCHIVED = [line for time, line in _EACH if time < CUT and not _between(time, LOST)]
STORED = [line for time, line in _EACH if time >= CUT and not _between(time, DELETED)]
KNOWN = [*ARCHIVED, *STORED]


def between(start: int, end: int) -> list[Line]:
    """The known messages whose time is in that stretch, by sequence."""
    return [line for line in KNOWN if start <= line.time < end]


def iso(time: int) -> str:
    """A time as written in a URL."""
    return pd.Timestamp(time, unit="ns", tz="UTC").isoformat()


def by_time(lines: list[Line]) -> list[Line]:
    """The messages in the order of their times."""
    return sorted(lines, key=lambda line: line.time)


def of_series(lines: list[Line]) -> dict[str, list[Line]]:
    """The messages of each series that has some, in the order of their times."""
    each = {name: [line for line in by_time(lines) if line.line == name] for name in LINES}
    return {name: its for name, its in each.items() if its}


def runs(lines: list[Line], what: Callable[[Line], Any]) -> list[tuple[Any, int]]:
    """Successive values of `what` without repeats, each with the time of its first message."""
    return [(value, next(iter(each)).time) for value, each in groupby(lines, what)]


def cells(series: dict[str, list[Line]], what: Callable[[Line], float], step: int) -> Cells:
    """The minimum and maximum of each bin of `step` ns, as charts have them."""
    found: Cells = {}
    for name, lines in series.items():
        bins: dict[int, list[float]] = {}
        for line in lines:
            bins.setdefault(line.time // step, []).append(what(line))
        found[name] = {number: (min(values), max(values)) for number, values in bins.items()}
    return found


def lost(start: int, end: int) -> int:
    """The number of unknown messages between the first and the last message of a stretch."""
    seqs = [line.seq for line in between(start, end)]
    held = {line.seq for line in KNOWN}
    return sum(seq not in held for seq in range(seqs[0], seqs[-1])) if seqs else 0


@contextmanager
def two_days_stream(folder: Path) -> Iterator[tuple[PastServer, list[Message]]]:
    """A server with the stream S, killed at the end, and the messages for its archive."""
    server = PastServer(folder / "nats")
    try:
        yield server, _add_stream(server)
    finally:
        server.kill()


@contextmanager
def two_days_server(folder: Path) -> Iterator[PastServer]:
    """A server with the stream S, and its archive; killed at the end."""
    with two_days_stream(folder) as (server, archived), history(server, folder, archived):
        yield server


def _add_stream(server: PastServer) -> list[Message]:
    """Create the stream S. Returns the messages for its archive."""
    kept = [line for time, line in _EACH if not _between(time, LOST) and not _between(time, DELETED)]
    stored = [Stored(line.seq, line.time, f"s.{line.line}", line.payload) for line in kept]
    server.add_past_stream("S", ["s.>"], stored, allow_direct=True)
    api(server, "STREAM.PURGE.S", {"seq": STORED[0].seq})
    server.stop()
    server.start()
    info: dict[str, Any] = api(server, "STREAM.INFO.S")
    created = pd.Timestamp(info["created"]).floor("us").to_pydatetime()
    # When the stream was purged, the archiver had already copied the next few messages.
    return [
        Message(
            "S",
            created,
            line.seq,
            datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=line.time // 1000),
            f"s.{line.line}",
            line.payload,
        )
        for line in [*ARCHIVED, *STORED[:20]]
    ]
