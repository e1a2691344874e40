"""The reads of a page during one run, and whether its own code needs another run to see newer data."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from nats_client import Health, WatchHealth
from nats_client.errors import LookbackError


class Read(Protocol):
    """One read of a page from NATS: the rows of a feed, or the values of a bucket."""

    @property
    def health(self) -> Health | WatchHealth:
        """The state of its feed or watch."""

    @property
    def shown_empty(self) -> list[str]:
        """Not empty once the page itself has said that there is no data yet. Otherwise the frame says it."""

    def __len__(self) -> int: ...


class Reads(list[Read]):
    """All reads of one run of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.by_code: dict[str, None] = {}
        """The reads by the page's own code, in order. Unlike live elements, the code sees newer rows only in
        its next run."""
        self.live = False
        """True if an element without a feed or bucket updates itself."""
        self.then = False
        """True if the page shows a time in the past without a feed or bucket."""
        self.others: dict[Callable[[], Hashable], Hashable] = {}
        """Functions, and the value each returned when the page was drawn. The page runs again when one
        returns another value."""
        self.notes: list[Callable[[], str]] = []
        """Functions that return a further note for the status line, or an empty text."""
        self.marks: list[Callable[[], list[int]]] = []
        """Functions that return the times to mark in the bar of a playback, ns since the epoch, UTC."""


class NothingYet(LookbackError):  # noqa: N818 - drawn as the empty state, not as an error
    """A page reads a bucket that has never been read from the server, so its contents are unknown."""

    def __init__(self, read: Read) -> None:
        super().__init__(f"The bucket {read.health.name!r} has not been read yet.")
        self.read = read


_reads: ContextVar[Reads | None] = ContextVar("reads", default=None)


@contextmanager
def collected() -> Iterator[Reads]:
    """Collect what the page reads within the block, so that the frame can show its state."""
    reads = Reads()
    token = _reads.set(reads)
    try:
        yield reads
    finally:
        _reads.reset(token)


def collect(read: Read) -> None:
    """Make the frame show the state of `read`."""
    reads = _reads.get()
    if reads is not None:
        reads.append(read)


def rerun_on(value: Callable[[], Hashable]) -> None:
    """Run the page again when `value` returns another value than now. `value` is called in other threads.
    Equal functions count once."""
    reads = _reads.get()
    if reads is not None:
        reads.others.setdefault(value, value())


def say(note: Callable[[], str]) -> None:
    """Make the status line show what `note` returns; an empty text shows nothing. `note` is called in other
    threads. Equal functions count once."""
    reads = _reads.get()
    if reads is not None and note not in reads.notes:
        reads.notes.append(note)


def mark(times: Callable[[], list[int]]) -> None:
    """Make the bar of a playback mark the times (ns since the epoch, UTC) that `times` returns. `times` is
    called in other threads and may take long. Equal functions count once."""
    reads = _reads.get()
    if reads is not None and times not in reads.marks:
        reads.marks.append(times)


def note_live() -> None:
    """Record that an element updates itself, so the page does not have to run again for it."""
    reads = _reads.get()
    if reads is not None:
        reads.live = True


def note_then() -> None:
    """Record that the page shows a time in the past without a feed or bucket, so that the status line says
    so."""
    reads = _reads.get()
    if reads is not None:
        reads.then = True


def note_code(what: str) -> None:
    """Record that the page's own code used `what`; only the page's next run sees newer data."""
    reads = _reads.get()
    if reads is not None:
        reads.by_code[what] = None
