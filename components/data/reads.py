"""What a page reads during one run, and whether its own code needs the next run to see more."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from nats_client import Health, WatchHealth
from nats_client.errors import LookbackError


class Read(Protocol):
    """What a page has read from NATS: the rows of a feed, or the values of a bucket."""

    @property
    def health(self) -> Health | WatchHealth:
        """The state of its feed or watch."""

    @property
    def shown_empty(self) -> list[str]:
        """Not empty once the page itself has said that there is no data yet. Otherwise the frame says it."""

    def __len__(self) -> int: ...


class Reads(list[Read]):
    """What a page has read."""

    def __init__(self) -> None:
        super().__init__()
        self.by_code: dict[str, None] = {}
        """How the page's code took rows or asked the server, in order. It sees newer ones in its next run
        only. Live elements do not need one."""
        self.live = False
        """Whether something on the page keeps itself current without a feed or bucket."""
        self.then = False
        """Whether the page shows something of then without a feed or bucket."""
        self.others: dict[Callable[[], Hashable], Hashable] = {}
        """What the page was drawn for besides, and what each returned then: it runs again when one of these
        returns something else."""
        self.notes: list[Callable[[], str]] = []
        """What the status line says besides; an empty text says nothing."""
        self.marks: list[Callable[[], list[int]]] = []
        """What the bar of a playback marks: each returns times, ns since the epoch, UTC."""


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
    """Run the page again when `value` returns something else than now. It is called in other threads, and
    equal ones should be equal."""
    reads = _reads.get()
    if reads is not None:
        reads.others.setdefault(value, value())


def say(note: Callable[[], str]) -> None:
    """Make the status line say what `note` returns; an empty text says nothing. It is called in other
    threads, and equal ones should be equal."""
    reads = _reads.get()
    if reads is not None and note not in reads.notes:
        reads.notes.append(note)


def mark(times: Callable[[], list[int]]) -> None:
    """Make the bar of a playback mark the times (ns since the epoch, UTC) that `times` returns. It is called
    in other threads, may take long, and equal ones should be equal."""
    reads = _reads.get()
    if reads is not None and times not in reads.marks:
        reads.marks.append(times)


def note_live() -> None:
    """Something on the page keeps itself current: it need not run again for that."""
    reads = _reads.get()
    if reads is not None:
        reads.live = True


def note_then() -> None:
    """Something on the page is as of a time in the past, without a feed or bucket: the line says so."""
    reads = _reads.get()
    if reads is not None:
        reads.then = True


def note_code(what: str) -> None:
    """The page's code used `what`, which only its next run shows newer."""
    reads = _reads.get()
    if reads is not None:
        reads.by_code[what] = None
