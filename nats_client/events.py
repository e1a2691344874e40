"""Events of a connection, feed or bucket, with their reasons: logged, and kept for display on pages."""

import logging
import threading
import time
from dataclasses import dataclass

MOST_KEPT = 20
"""Events kept per connection, feed or bucket."""
LONGEST = 500
"""Maximum characters of a reason."""

_log = logging.getLogger("nats_client")


@dataclass(frozen=True)
class Event:
    """One event, with the number of times it happened in a row."""

    at: float
    """When it last happened, seconds since the epoch, by our own clock."""
    what: str
    """The event in a few words, such as "reconnecting"."""
    why: str
    """The reason, on one line; may be empty."""
    times: int = 1
    """How often it happened in a row."""


class Events:
    """The newest events of one connection, feed or bucket. Thread-safe.

    If an event repeats the newest one, it is counted and not logged again, so that retries do not flood the
    log.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        """What the events belong to, as named in the log."""
        self._kept: tuple[Event, ...] = ()
        self._lock = threading.Lock()

    def note(self, what: str, why: object = "", level: int = logging.INFO) -> None:
        """Add an event and log it. Line breaks and control characters in `why` are escaped, because it may
        come from a server."""
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
        """The kept events, oldest first."""
        return self._kept


def _one_line(text: str) -> str:
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"
