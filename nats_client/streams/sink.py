"""Where a consumer delivers to, and what it says of itself."""

from typing import Literal, Protocol

from ..decoding.decoders import Raw

Phase = Literal["connecting", "replaying", "following", "reconnecting", "stopped"]


class Sink(Protocol):
    """Where a consumer delivers to."""

    def messages(self, raw: Raw) -> None:
        """New messages, in order, each stream sequence once."""

    def recreated(self) -> None:
        """The stream is another one now: what its sequences mean starts over."""

    def gone(self, count: int, start: int, end: int) -> None:
        """`count` messages of the stream, between `start` and `end` (ns since the epoch, UTC), were taken
        from it before they could be read."""

    def room(self) -> int | None:
        """How many messages can be kept at most, as far as that is known; None: all."""

    def left_out(self, count: int, until: int) -> None:
        """`count` messages, the newest stored at `until` (ns since the epoch, UTC), were not read since newer
        ones take all the room; so did what was delivered before."""

    def back_to(self, seq: int, stored: int) -> None:
        """What was delivered behind `seq`, which was stored at `stored` (ns since the epoch, UTC), is void:
        some of it may have been left out. It comes again, complete."""
