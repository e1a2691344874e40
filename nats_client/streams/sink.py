"""The interface that a consumer delivers to, and the phases it reports."""

from typing import Literal, Protocol

from ..decoding.raw import Raw

Phase = Literal["connecting", "replaying", "halted", "following", "reconnecting", "stopped"]
"""Only a feed can be "halted": its readers have stopped the loading of a stretch."""


class Sink(Protocol):
    """Receives what a consumer delivers."""

    async def messages(self, raw: Raw) -> int:
        """Take new messages, in order, each stream sequence exactly once. Returns how many were taken, from
        the first on. If taking them is slow, that is fewer than all, and the rest is delivered again. Returns
        0 if the messages have become void meanwhile. Raises SqlError if the feed's expressions take too long;
        then none was taken."""

    def recreated(self) -> None:
        """The stream is another one now, so its sequences start over."""

    def gone(self, count: int, start: int, end: int) -> None:
        """`count` messages between `start` and `end` (ns since the epoch, UTC) left the stream before they
        could be read."""

    def room(self) -> int | None:
        """How many messages can be kept, as far as known; None means all."""

    def left_out(self, count: int, until: int) -> None:
        """`count` messages, the newest stored at `until` (ns since the epoch, UTC), were not read, because
        newer ones fill the window. Everything delivered before is dropped for the same reason."""

    def back_to(self, seq: int, stored: int) -> None:
        """Everything delivered after `seq` is void, because messages may be missing from it. It is delivered
        again, complete. `stored` is when `seq` was stored (ns since the epoch, UTC)."""
