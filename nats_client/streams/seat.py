"""A feed's share of a consumer that several feeds use together."""

from collections.abc import Callable
from typing import Protocol

from ..decoding.raw import Raw


class Seat:
    """The messages of one subject that a shared consumer has delivered, until the feed takes them. Everything
    here runs on the client's event loop."""

    def __init__(
        self,
        subject: str,
        since: int,
        wake: Callable[[], None],
        leave: Callable[[], None],
        current_at: Callable[[], float],
    ) -> None:
        """`wake` is called when there is something to take, `leave` when the feed takes no more."""
        self.subject = subject
        self.since = since
        """All messages of the subject above this stream sequence arrive here."""
        self.wake = wake
        self.leave = leave
        self.current_at = current_at
        """All messages stored before this time (monotonic clock) have arrived here."""
        self.ended: str | None = None
        """Why no more messages arrive; None while they do."""
        self.doubted = False
        """True if the shared consumer ended in doubt."""
        self.valid_to: int | None = None
        """Messages above this stream sequence are void: some may be missing. None if all are valid."""
        self._raw = Raw()

    def put(self, raw: Raw, i: int) -> None:
        """Take in message `i` of `raw`."""
        seq = raw.seq[i]
        self._raw.seq.append(seq)
        self._raw.received.append(raw.received[i])
        self._raw.subject.append(raw.subject[i])
        self._raw.payload.append(raw.payload[i])
        if seq in raw.headers:
            self._raw.headers[seq] = raw.headers[seq]

    def take(self, last: int) -> Raw:
        """The messages above the stream sequence `last`, in order. Empties the seat."""
        taken, self._raw = self._raw, Raw()
        if not len(taken) or taken.seq[0] > last:
            return taken
        return _above(taken, last)

    def forget(self, last: int) -> None:
        """Forget the messages up to the stream sequence `last`."""
        if len(self._raw) and self._raw.seq[0] <= last:
            self._raw = _above(self._raw, last)

    def end(self, why: str, *, doubted: bool) -> None:
        """Notify the feed that no more messages arrive."""
        if self.ended is None:
            self.ended, self.doubted = why, doubted
            self.wake()


class Seats(Protocol):
    """Assigns seats to feeds."""

    def seat(self, stream: str, subject: str, created: str | None, wake: Callable[[], None]) -> Seat | None:
        """A seat for a feed of `subject` in the `stream` created at `created`; None while there is none.
        Feeds request one every other second."""


def _above(raw: Raw, last: int) -> Raw:
    first = next((i for i, seq in enumerate(raw.seq) if seq > last), len(raw))
    headers = {seq: kept for seq, kept in raw.headers.items() if seq > last}
    return Raw(raw.seq[first:], raw.received[first:], raw.subject[first:], raw.payload[first:], headers)
