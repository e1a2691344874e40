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
"""Maximum headers kept of a raw message, and maximum characters of each."""


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
    """Names of the tokens, as in subjects.Pattern, as far as the expressions depend on them: with other
    names, the same expression has another meaning."""
    headers: tuple[str, ...] = ()
    """The headers that are columns."""
    end: int | None = None
    """The end of the stretch that the feed reads, ns since the epoch, UTC; None if it is live."""

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
    "halted": its readers have stopped loading, and the part that is not loaded is a gap."""
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
    """The gaps within the look-back, by time. Parts that are not loaded count within the reader's look-back
    only."""
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
    """Why the stream is read by sequence (every half second), as part of a sentence; None if it is not."""
    hint: str = ""
    """Why no message matches the subject, as a sentence; empty if unknown."""

    where: str | None = None
    """The feed's `where`, shortened; None without one."""
    read: int = 0
    """With a `where`: messages within the look-back that were read, with and without a row."""
    read_until: int | None = None
    """With a `where`: when the newest of them was stored, ns since the epoch, UTC."""
    doubts: tuple[str, ...] = ()
    """Possible mistakes in `where` or a computed column, as sentences: a field that no message has had so
    far, or a type for which an expression has no value."""

    history_start: int | None = None
    """The start of the readable history, ns since the epoch, UTC: when the oldest message was stored that the
    stream or its archive held when the feed was opened. For plain subjects, it is when the feed was opened.
    None while unknown."""

    ended: bool = False
    """True if the feed has read a stretch to its end, so no more rows will arrive."""

    plays: bool | None = None
    """True while its playback is playing, False while that is paused; None without a playback."""

    progress: float = 1.0
    """Progress of the replay, 0 to 1. It never decreases during a replay."""

    def known_to(self, now: int) -> int:
        """The time up to which all rows are known, as of `now` (both ns since the epoch, UTC). It is `now`
        while the feed follows, has ended or has no rows; otherwise the time of the newest row. While halted,
        it is the start of the part that is not loaded and reaches to `now`."""
        if self.phase == "halted":
            return min(
                (gap.start for gap in self.gaps if gap.why == "unread" and gap.end >= now), default=now
            )
        return now if self.phase == "following" or self.newest is None else min(now, self.newest)
