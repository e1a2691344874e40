"""A feed's key, its health, and the raw messages that it keeps as a sample."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..decoding.raw import Malformed
from ..errors import LookbackError
from ..streams.sink import Phase
from .gaps import Gap

LONGEST_PAYLOAD = 4096
"""Bytes kept of a raw message."""
MOST_HEADERS, LONGEST_HEADER = 50, 1000
"""What is kept of a raw message's headers: how many, and how many characters of each."""


LONGEST_WHERE = 60
"""Characters shown of a `where`."""


def shortened(where: str) -> str:
    """An expression on one line, cut where it is long."""
    line = " ".join(where.split())
    return line if len(line) <= LONGEST_WHERE else line[: LONGEST_WHERE - 1] + "…"


@dataclass(frozen=True)
class FeedKey:
    """Identifies a feed within a client: readers with equal keys share one feed."""

    stream: str | None
    """None for plain subjects, without a stream."""
    subject: str | None
    """The filter, or several separated by spaces; None for all subjects."""
    decoder: str
    time: str | None
    archive: str | None = None
    """The history service that is queried for older rows; None for no archive."""
    where: str | None = None
    """An SQL expression; only rows for which it is true are kept. None for all."""
    columns: tuple[tuple[str, str], ...] = ()
    """Computed columns: names, and the SQL expressions."""
    names: tuple[str, ...] = ()
    """The tokens with names, as in subjects.Pattern, as far as the expressions depend on them: the same text
    means something else with other names."""
    headers: tuple[str, ...] = ()
    """The headers that are columns."""
    end: int | None = None
    """When the stretch that it reads ends, ns since the epoch, UTC; None if it continues."""

    @property
    def name(self) -> str:
        """A description of what the feed reads: stream, subject and filter."""
        where = f"where {shortened(self.where)}" if self.where else None
        return " ".join(part for part in (self.stream, self.subject, where) if part)


@dataclass(frozen=True)
class Message:
    """A raw message, whether it could be decoded or not."""

    seq: int
    received: int
    """When the server stored it, ns since the epoch, UTC."""
    subject: str
    payload: bytes
    """At most its first LONGEST_PAYLOAD bytes."""
    size: int
    """Bytes of the whole payload."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """At most MOST_HEADERS of them, each cut after LONGEST_HEADER characters."""


def kept_headers(headers: Mapping[str, str] | None) -> Mapping[str, str]:
    """The headers, shortened to the limits of Message.headers."""
    held = list((headers or {}).items())[:MOST_HEADERS]
    return {name[:LONGEST_HEADER]: text[:LONGEST_HEADER] for name, text in held}


@dataclass(frozen=True)
class Health:
    """The state of a feed: can its window be trusted? Counts are since the feed was created."""

    stream: str | None
    """None for plain subjects, without a stream."""
    subject: str | None
    name: str
    """Stream and subject, as shown on a page."""
    phase: Phase
    """"connecting", "replaying", "following" (live), "reconnecting", "stopped" (it cannot be read), or
    "halted": its readers have stopped loading, and what is not loaded is a gap."""
    since: float
    """When this phase began, seconds since the epoch."""
    why: LookbackError | None
    """Why it is neither replaying nor following."""
    done: int
    """Messages of this replay received so far."""
    pending: int
    """Messages that the server has not delivered yet."""
    rows: int
    bytes: int
    newest: int | None
    """When the server stored the newest row, ns since the epoch, UTC."""
    malformed: int
    """Messages that could not be decoded."""
    samples: tuple[Malformed, ...]
    """The last few of them."""
    dropped: int
    """Rows within the look-back that were dropped at the window's ceiling."""
    dropped_until: int
    """When the server stored the newest of those, ns since the epoch, UTC."""
    mistyped: int
    """Values in number columns that were not finite numbers; shown as missing."""
    surplus_fields: int
    """Payload fields beyond the number of columns that a window keeps."""
    restarts: int
    """How often the consumer was recreated."""
    recreated: int
    """How often the stream turned out to be another one, and the window started over."""
    gaps: tuple[Gap, ...]
    """The gaps within the look-back, by time; those of what is not loaded, in the reader's look-back."""
    begins: int | None
    """When the server stored the oldest message that the stream or its archive still holds, ns since the
    epoch, UTC; None if none was lost at its start."""
    earlier: int
    """How many messages the stream held before that one."""
    archive: LookbackError | None
    """Why rows older than the stream's own cannot be fetched from the archive; None if they can."""
    limits: str
    """The stream's limits, in words; empty if it has none."""
    squeezed: int = 0
    """The process's memory ceiling in bytes, if that is why the window had to drop rows; otherwise 0."""
    flow_control_denied: LookbackError | None = None
    """Why reading is slow (about a megabyte a second); None if it is not."""
    by_sequence: str | None = None
    """Why it is read by sequence, every half second; part of a sentence. None if it is not."""
    hint: str = ""
    """Why no message matches the subject, as a sentence; empty if unknown."""

    where: str | None = None
    """The feed's `where`, shortened; None without one."""
    read: int = 0
    """With a `where`: messages within the look-back that were read, with and without a row."""
    read_until: int | None = None
    """With a `where`: when the newest of them was stored, ns since the epoch, UTC."""
    doubts: tuple[str, ...] = ()
    """What `where` or a computed column may have got wrong, as sentences: a field that no message had so
    far, or a type with which an expression has no value."""

    history_start: int | None = None
    """When what can be read began, ns since the epoch, UTC: the oldest message that the stream or its archive
    held when the feed was opened; of plain subjects, when the feed was opened. None while unknown."""

    ended: bool = False
    """True if it shows a stretch that has been read to its end: nothing more comes."""

    plays: bool | None = None
    """True while a playback moves it on, False while that stands still; None without a playback."""

    progress: float = 1.0
    """Progress of the replay, 0 to 1. It never decreases during a replay."""

    def known_to(self, now: int) -> int:
        """Until when it is known what was sent, as of `now` (ns since the epoch, UTC): `now` only while it
        follows or has ended."""
        if self.phase == "halted":
            return min(
                (gap.start for gap in self.gaps if gap.why == "unread" and gap.end >= now), default=now
            )
        return now if self.phase == "following" or self.newest is None else min(now, self.newest)
