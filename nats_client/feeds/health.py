"""What a feed is, what it tells of itself, and the messages that it keeps as they came."""

from dataclasses import dataclass

from ..decoding.decoders import Malformed
from ..errors import LookbackError
from ..streams.sink import Phase
from .gaps import Gap

LONGEST_PAYLOAD = 4096
"""Bytes kept of a message as it came."""


@dataclass(frozen=True)
class FeedKey:
    """What makes two feeds of a client the same one."""

    stream: str | None
    """None: plain subjects, without a stream."""
    subject: str | None
    decoder: str
    time: str | None
    archive: str | None = None
    """Where the history service is asked for older rows; None: nowhere."""

    @property
    def name(self) -> str:
        """What it reads, in words."""
        return " ".join(part for part in (self.stream, self.subject) if part)


@dataclass(frozen=True)
class Message:
    """A message as it came, decoded or not."""

    seq: int
    received: int
    """When the server stored it, ns since the epoch, UTC."""
    subject: str
    payload: bytes
    """At most its first LONGEST_PAYLOAD bytes."""
    size: int
    """Bytes of the whole payload."""


@dataclass(frozen=True)
class Health:
    """Can what the window shows be trusted? Counts are since the feed began."""

    stream: str | None
    """None: plain subjects, without a stream."""
    subject: str | None
    name: str
    """Stream and subject, as they are called on a page."""
    phase: Phase
    """"connecting", "replaying", "following" (live), "reconnecting" or "stopped"."""
    since: float
    """When this phase began, seconds since the epoch."""
    why: LookbackError | None
    """Why it is neither replaying nor following."""
    done: int
    """Messages of this replay received so far."""
    pending: int
    """Messages that the server has still to deliver."""
    rows: int
    bytes: int
    newest: int | None
    """When the server stored the newest row, ns since the epoch, UTC."""
    malformed: int
    """Messages that could not be decoded."""
    samples: tuple[Malformed, ...]
    """The last few of them."""
    dropped: int
    """Rows that the window's ceiling pushed out before their time."""
    dropped_until: int
    """When the server had stored the newest of those, ns since the epoch, UTC."""
    mistyped: int
    """Values in a column of numbers that were no finite numbers; shown as missing."""
    surplus_fields: int
    """Payload fields beyond the number of columns that a window keeps."""
    restarts: int
    """Times that the consumer was made anew."""
    recreated: int
    """Times that the stream turned out to be another one, and the window started over."""
    gaps: tuple[Gap, ...]
    """What is missing within the look-back, by time."""
    begins: int | None
    """When the server stored the oldest message that the stream, or its archive, still holds, ns since the
    epoch, UTC; None where none has gone from its start."""
    earlier: int
    """Messages that the stream held before that one."""
    archive: LookbackError | None
    """Why the rows from before the stream's own cannot be fetched from its archive."""
    limits: str
    """What the stream keeps at most, in words; empty where nothing limits it."""
    squeezed: int = 0
    """The ceiling of the process's memory, in bytes, where it is why the window holds less than it may."""
    hindered: LookbackError | None = None
    """Why it is read in steps of about a megabyte a second, if it is."""
    by_sequence: str | None = None
    """Why it is read by sequence, every half second, if it is: a part of a sentence."""
    hint: str = ""
    """Why not one message matches the subject, in a sentence, where that is known."""

    progress: float = 1.0
    """How far the replay is, 0 to 1; it never goes back while one lasts."""
