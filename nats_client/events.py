"""What happens to a connection, a feed or a bucket: logged once, with its reason, and kept for pages."""

import logging
import threading
import time
from dataclasses import dataclass

MOST_KEPT = 20
"""Events of one feed, connection or bucket that are kept."""
LONGEST = 500
"""Characters of a reason."""

_log = logging.getLogger("nats_client")


@dataclass(frozen=True)
class Event:
    """One thing that happened."""

    at: float
    """When it happened the last time in a row, seconds since the epoch, by our own clock."""
    what: str
    """In a few words, as "reconnecting"."""
    why: str
    """The reason, as one line; empty where there is nothing to say."""
    times: int = 1
    """How often it happened in a row."""


class Events:
    """The newest events of one thing. Any thread may note and read them.

    An event that repeats the newest one is counted, and not logged again: what is tried each second fails
    each second.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        """What they happened to, as it is called in the log."""
        self._kept: tuple[Event, ...] = ()
        self._lock = threading.Lock()

    def note(self, what: str, why: object = "", level: int = logging.INFO) -> None:
        """Keep an event and log it. Line ends and control characters in `why`, which may come from a server,
        are written as escapes."""
        reason = _one_line(str(why))
        with self._lock:
            newest = self._kept[-1] if self._kept else None
            if newest is not None and (newest.what, newest.why) == (what, reason):
                again = Event(time.time(), what, reason, newest.times + 1)
                self._kept = (*self._kept[:-1], again)
                return
            self._kept = (*self._kept, Event(time.time(), what, reason))[-MOST_KEPT:]
        _log.log(level, "%s: %s%s", self.name, what, f" ({reason})" if reason else "")

    @property
    def newest(self) -> tuple[Event, ...]:
        """The events that are kept, oldest first."""
        return self._kept


def _one_line(text: str) -> str:
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"
