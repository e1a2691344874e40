"""The consumers of the server's streams with their lag, and how full the streams are."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from nats_client import Client, ConsumerInfo, Consumers, LookbackError, StreamInfo
from nats_client.errors import NotPermitted
from nats_client.streams.consumer_list import MOST as MOST_READ

from ..data.connection import shared
from ..data.reads import note_live
from ..push.asked import Asked, asked
from ..push.json_element import JsonSource, Kind
from ..spent import timed
from ..units import number_text
from ..words import bytes_text, clock_text, count_text, cut, in_zone, zone
from .streams import stream_state

MOST = 200
"""Rows to draw."""
EVERY = 2.0
"""The least number of seconds between two listings, for all viewers with the same rights together."""
REST, SELDOM = 10, 10.0
"""The pause between two listings is REST times as long as the last one took, but at most SELDOM seconds."""
POINTS = 60
"""Points of a line."""
LONGEST = 200
"""Characters of a name or text."""
OLD = 20.0
"""Seconds after which the age of a listing is mentioned."""
MOST_NAMED = 5
"""Streams to name in a sentence."""

_CONSUMERS: list[dict[str, Any]] = [
    {"label": "Stream"},
    {"label": "Consumer"},
    {"label": "Lag", "number": True},
    {"label": "Lag over time", "line": True},
    {"label": "Change/s", "number": True},
    {"label": "State"},
    {"label": "Undelivered", "number": True},
    {"label": "Unacknowledged", "number": True},
    {"label": "Redelivered", "number": True},
    {"label": "Waiting pulls", "number": True},
    {"label": "Last activity"},
    {"label": "Kind"},
    {"label": "Subjects"},
    {"label": "Leader"},
    {"label": "Replicas", "number": True},
    {"label": "Description"},
]
_STREAMS: list[dict[str, Any]] = [
    {"label": "Stream"},
    {"label": "Full", "share": True},
    {"label": "Keeps at most"},
    {"label": "Messages", "number": True},
    {"label": "Size", "number": True},
    {"label": "Messages/s", "number": True},
    {"label": "Consumers", "number": True},
    {"label": "State"},
    {"label": "Leader"},
    {"label": "Replicas", "number": True},
]

_kind = Kind("server_list")


@timed
def consumer_list(search: str = "") -> None:
    """Draw a table of the consumers of all streams, the furthest behind first, with the course of their lag
    since a viewer first opened the list. The table updates itself. `search`: only consumers with this text in
    the name of the stream or the consumer. A note names the streams that the login may not see."""
    _draw("consumers", search, _CONSUMERS, _consumer_rows)


@timed
def stream_limits(search: str = "") -> None:
    """Draw a table of all streams, including those of buckets, the fullest first: their limits, and how full
    they are. The table updates itself. `search`: only streams with this text in the name."""
    _draw("streams", search, _STREAMS, _stream_rows)


def _draw(what: str, search: str, columns: list[dict[str, Any]], rows: "RowsOf") -> None:
    _, nats = shared(by_code=False)
    note_live()
    wanted = search.strip().casefold()
    of = nats, what, wanted, zone()
    _kind.draw(what, of, lambda: _ListSource(nats, wanted, zone(), rows), columns=columns)


@dataclass(frozen=True)
class _Listed:
    """The outcome of one listing."""

    found: Consumers | None
    """The last list; None if there has never been one, or if the login no longer permits it."""
    when: int
    """The time of that list, ns since the epoch, UTC."""
    took: float
    """Seconds of the listing."""
    error: LookbackError | None = None
    """Why the last attempt failed; None if it succeeded."""


RowsOf = Callable[[Consumers, str], tuple[dict[str, Any], list[str]]]
"""A function from a listing and a search to the rows, and notes about them."""


def _soon(nats: Client) -> _Listed | None:
    """The last listing. An old listing is refreshed in the background, so only while a viewer has it open."""
    answer: Asked[_Listed] = asked(nats, "consumers")
    last = answer.last
    if nats.state.status != "connected":
        return last
    every = min(SELDOM, max(EVERY, REST * last.took)) if last is not None else EVERY
    return answer.soon(every, partial(_listed, nats, last))


def _listed(nats: Client, last: _Listed | None) -> _Listed:
    began = time.monotonic()
    try:
        found = nats.consumers()
    except LookbackError as error:
        kept = None if isinstance(error, NotPermitted) or last is None else last.found
        when = last.when if last is not None else time.time_ns()
        return _Listed(kept, when, time.monotonic() - began, error)
    return _Listed(found, time.time_ns(), time.monotonic() - began)


class _ListSource(JsonSource):
    """Each row is an entry, named "=" and the stream or consumer: its place, its cells as text, the length of
    its bar, and the points of its line. `note`: notes about the rows. `trouble`: what is missing, and why."""

    every = 1.0  # the server is asked less often still

    def __init__(self, nats: Client, wanted: str, zone: str, rows: RowsOf) -> None:
        super().__init__()
        self._nats = nats
        self._wanted = wanted
        self._zone = zone
        self._rows = rows

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Never calls `changed`: the list is polled once a second, which is enough."""
        return lambda: None

    def look(self) -> Mapping[str, Any]:
        """The table now."""
        listed = _soon(self._nats)
        if listed is None:
            waits = self._nats.state.status != "connected"
            return {"note": "Waits for a connection." if waits else "Asking the server …", "trouble": ""}
        with in_zone(self._zone):
            trouble = [str(listed.error)] if listed.error is not None else []
            if listed.found is None:
                return {"note": "", "trouble": " ".join(trouble)}
            rows, notes = self._rows(listed.found, self._wanted)
            if (time.time_ns() - listed.when) / 1e9 > OLD:
                notes.append(f"As of {clock_text(listed.when)}.")
            return {"note": " ".join(notes), "trouble": " ".join(trouble + _missing(listed.found)), **rows}


def _missing(found: Consumers) -> list[str]:
    sentences = []
    if found.silent:
        sentences.append(f"Not all consumers are shown of {_some(found.silent)}: nodes do not answer.")
    if found.refused:
        reason = str(next(iter(found.refused.values())))
        sentences.append(f"The consumers of {_some(sorted(found.refused))} cannot be listed. {reason}")
    return sentences


def _some(names: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return ", ".join(repr(cut(name, LONGEST)) for name in names[:MOST_NAMED]) + more


def _consumer_rows(found: Consumers, wanted: str) -> tuple[dict[str, Any], list[str]]:
    fitting = [
        each for each in found.consumers if wanted in each.stream.casefold() or wanted in each.name.casefold()
    ]
    rows = {
        f"={each.stream}\n{each.name}": [
            place,
            _consumer_cells(each, found.courses.change(each.key)),
            0,
            _steady(found.courses.of(each.key, POINTS)),
        ]
        for place, each in enumerate(fitting[:MOST])
    }
    if not found.consumers:
        return rows, [] if found.refused or found.silent else ["No stream has a consumer."]
    if not fitting:
        return rows, ["No consumer matches the search."]
    notes = [
        f"The {MOST} furthest behind of {count_text(len(fitting), 'consumer')}. The search finds the others."
        if len(fitting) > MOST
        else f"{count_text(len(fitting), 'consumer')}."
    ]
    if len(found.consumers) >= MOST_READ:
        notes.append(f"The server has {found.total:,}; no more than about {MOST_READ:,} are read.")
    if (since := found.courses.since) is not None:
        notes.append(f"Lines begin at {clock_text(since)}.")
    return rows, notes


def _consumer_cells(each: ConsumerInfo, change: float | None) -> list[str]:
    most = "" if each.most_unacknowledged is None else f" of {each.most_unacknowledged:,}"
    return [
        cut(each.stream, LONGEST),
        cut(each.name, LONGEST),
        f"{each.lag:,}",
        "",
        "" if change is None else _signed(change),
        _consumer_state(each),
        f"{each.undelivered:,}",
        f"{each.unacknowledged:,}{most}",
        f"{each.redelivered:,}",
        "" if each.waiting is None else f"{each.waiting:,}",
        "never" if each.active is None else clock_text(each.active),
        f"{'durable' if each.durable else 'ephemeral'} {'push' if each.push else 'pull'}",
        cut(", ".join(each.filters), LONGEST) or "all",
        each.leader,
        f"{each.replicas:,}",
        cut(each.description, LONGEST),
    ]


def _signed(change: float) -> str:
    rounded = round(change, 1 if abs(change) < 100 else 0)
    return f"{'+' if rounded > 0 else ''}{number_text(rounded or 0.0)}"


def _consumer_state(each: ConsumerInfo) -> str:
    if each.leaderless:
        return "no leader"
    if each.paused_until is not None:
        return f"paused until {clock_text(each.paused_until)}"
    if not each.bound:
        return "nobody is subscribed"
    if each.most_unacknowledged is not None and each.unacknowledged >= each.most_unacknowledged:
        return "waits for acknowledgements"
    if each.waiting == 0 and each.undelivered and not each.unacknowledged:
        return "nobody pulls"
    if each.behind:
        return f"not up to date: {cut(', '.join(each.behind), LONGEST)}"
    return "ok"


def _steady(course: Any) -> list[int | None]:
    """The points of a line; a level line is reduced to one point, so that nothing is sent while nothing
    changes."""
    points = list(course)
    known = {lag for lag in points if lag is not None}
    return points[-1:] if len(known) == 1 and None not in points else points


def _stream_rows(found: Consumers, wanted: str) -> tuple[dict[str, Any], list[str]]:
    fitting = [each for each in found.streams if wanted in each.name.casefold()]
    fitting.sort(key=lambda each: (-(each.fullness or 0.0), each.name))
    rows = {
        f"={each.name}": [place, _stream_cells(each), round(each.fullness or 0.0, 3), None]
        for place, each in enumerate(fitting[:MOST])
    }
    if not found.streams:
        return rows, ["This server has no streams yet."]
    if not fitting:
        return rows, ["No stream matches the search."]
    if len(fitting) > MOST:
        return rows, [f"The {MOST} fullest of {count_text(len(fitting), 'stream')}."]
    return rows, [f"{count_text(len(fitting), 'stream')}."]


def _stream_cells(each: StreamInfo) -> list[str]:
    limits = each.limits or "no limit"
    refuses = each.refuses and each.fullness is not None
    return [
        cut(each.name, LONGEST),
        "" if each.fullness is None else f"{100 * each.fullness:.0f} %",
        f"{limits}; then refuses new ones" if refuses else limits,
        f"{each.messages:,}",
        bytes_text(each.bytes),
        "" if each.per_second is None else number_text(round(each.per_second, 1)),
        f"{each.consumers:,}",
        stream_state(each) or "ok",
        each.leader,
        f"{each.replicas:,}",
    ]
