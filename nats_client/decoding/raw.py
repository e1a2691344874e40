"""Raw messages, as received from a server or the archive."""

from array import array
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Malformed:
    """A sample of a payload that could not be decoded, for display."""

    subject: str
    seq: int
    reason: str
    payload: str
    """Its first 200 bytes, as text."""


@dataclass(slots=True)
class Raw:
    """Messages as received, one entry per message in each list. `received` is when the server stored it, ns
    since the epoch, UTC."""

    seq: "array[int] | list[int]" = field(default_factory=lambda: array("q"))
    received: "array[int] | list[int]" = field(default_factory=lambda: array("q"))
    subject: list[str] = field(default_factory=list)
    payload: list[bytes] = field(default_factory=list)
    headers: dict[int, dict[str, str]] = field(default_factory=dict)
    """By stream sequence; only of messages with headers."""

    def __len__(self) -> int:
        return len(self.seq)

    def split(self) -> "list[Raw]":
        """One Raw per message."""
        each = zip(self.seq, self.received, self.subject, self.payload, strict=True)
        return [
            Raw([seq], [received], [subject], [payload], self.headers)
            for seq, received, subject, payload in each
        ]

    def before(self, count: int) -> "Raw":
        """The first `count` messages."""
        return self if count >= len(self) else self._at(slice(0, count))

    def after(self, count: int) -> "Raw":
        """All but the first `count` messages."""
        return Raw() if count >= len(self) else self._at(slice(count, None))

    def pick(self, places: list[int]) -> "Raw":
        """The messages at the indices `places`, which must ascend."""
        return Raw(
            [self.seq[i] for i in places],
            [self.received[i] for i in places],
            [self.subject[i] for i in places],
            [self.payload[i] for i in places],
            self.headers,
        )

    def _at(self, part: slice) -> "Raw":
        return Raw(self.seq[part], self.received[part], self.subject[part], self.payload[part], self.headers)
