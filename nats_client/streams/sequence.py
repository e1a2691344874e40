"""Checks the messages of a consumer: which are new, which are missing, and whether it can be trusted.

The check uses sequences and storage times only. It has no connection, no clock and never waits. It changes
nothing but the result it returns, so a caller that cannot use a result drops it and reads the messages again.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..connection.arrivals import BEFORE, Arrived, MessageBlock
from ..decoding.raw import Raw
from ..subjects import matches_any

MOST_NAMES = 100_000
"""Decoded subjects that are cached."""


class AnotherStreamError(Exception):
    """The last message was delivered a second time and differs: this is another stream."""


class DoubtError(Exception):
    """The consumer can no longer be trusted; the text says why."""


@dataclass(slots=True)
class Position:
    """How far a stream has been read."""

    last: int = -1
    """Stream sequence of the last message, -1 before the first."""
    expected: int = 1
    """Consumer sequence of the next message."""
    pending: int = 0
    """Messages that the server has still to deliver."""
    known_at: int | None = None
    """When the server stored the message `last`, ns since the epoch, UTC; None if unknown."""
    scanned_to: int = 0
    """Stream sequence up to which the consumer has scanned, as of its last heartbeat; 0 before the first."""


@dataclass(slots=True)
class Taken:
    """The result of checking one batch."""

    at: Position
    """How far the stream has been read, this batch included."""
    raw: Raw = field(default_factory=Raw)
    """Its new messages, in order."""
    gone: list[tuple[int, int, int]] = field(default_factory=list)
    """Messages that left the stream before we read them: count, start and end (ns since the epoch, UTC)."""
    replies: list[str] = field(default_factory=list)
    """Flow control subjects to answer after `raw` has been delivered."""
    doubt: str | None = None
    """Why the consumer is in doubt, if it is. Messages after that point were not taken."""


class Tracker:
    """Checks the messages of one consumer."""

    def __init__(self, until: int | None) -> None:
        """Messages at or after the stream sequence `until` are not taken."""
        self._until = until
        self._subject: str | None = None
        self._names: dict[bytes, str] = {}

    def take(self, batch: Sequence[Arrived | MessageBlock], at: Position, subject: str | None) -> Taken:
        """Check the messages that arrived after the position `at`. Without a filter (`subject`), a jump in
        the stream sequence means messages that left the stream unread. Raises AnotherStreamError, and
        DoubtError if a message does not match the filter."""
        self._subject = subject
        taken = Taken(Position(at.last, at.expected, at.pending, at.known_at))
        if len(self._names) > MOST_NAMES:
            self._names.clear()
        for part in batch:
            if isinstance(part, MessageBlock):
                taken.doubt = self._take_block(part, taken)
            elif part[1].startswith(b"$JS.ACK."):
                taken.doubt = self._take(*part, taken)
            else:
                _, reply, _, headers = part
                taken.doubt = _take_status(reply.decode(), headers or {}, taken)
                if not taken.doubt and _is_idle(reply, headers or {}):
                    taken.at.pending = 0  # the pending messages were purged before delivery
            if taken.doubt:
                break
        return taken

    def _take(
        self, subject: bytes, reply: bytes, payload: bytes, headers: dict[str, str] | None, taken: Taken
    ) -> str | None:
        """Take one message. Returns why the consumer is in doubt, or None. Raises AnotherStreamError."""
        tokens = reply.split(b".")
        # $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>; version 2 has
        # <domain>.<account> before the stream (ADR-15).
        first = 5 if len(tokens) == 9 else 7
        ack = list(map(int, tokens[first : first + 4]))
        return self._take_one(subject, ack, payload, headers, taken)

    def _take_one(
        self,
        subject: bytes,
        ack: list[int],
        payload: bytes,
        headers: dict[str, str] | None,
        taken: Taken,
    ) -> str | None:
        seq, order, stored, pending = ack
        at, raw = taken.at, taken.raw
        if order != at.expected:
            return f"consumer sequence {at.expected} is missing"
        at.expected += 1
        at.pending = pending
        limit = self._until if self._until is not None else 2**63
        if at.last < seq < limit:
            if self._subject is None and at.known_at is not None and seq != at.last + 1:
                taken.gone.append((seq - at.last - 1, at.known_at, stored))
            at.known_at = stored
            raw.seq.append(seq)
            raw.received.append(stored)
            raw.subject.append(self._name(subject))
            raw.payload.append(payload)
            if headers:
                raw.headers[seq] = headers
            at.last = seq
        elif seq >= limit:
            if self._subject is None and at.known_at is not None and at.last < limit - 1:
                taken.gone.append((limit - 1 - at.last, at.known_at, stored))
            at.last = max(at.last, limit - 1)
        elif seq == at.last and at.known_at is not None and stored != at.known_at:
            raise AnotherStreamError
        return None

    def _take_block(self, block: MessageBlock, taken: Taken) -> str | None:
        """Like _take for each message of a block, but vectorised if all sequences are as expected."""
        at, raw = taken.at, taken.raw
        seq, order, stored, pending = block.acks.T
        count = len(block)
        in_order = bool((order == np.arange(at.expected, at.expected + count)).all())
        ascending = seq[0] > at.last and bool((seq[1:] > seq[:-1]).all())
        if not in_order or not ascending or (self._until is not None and seq[-1] >= self._until):
            for subject, ack, payload in zip(
                block.subjects, block.acks.tolist(), block.payloads, strict=True
            ):
                if doubt := self._take_one(subject.removeprefix(BEFORE), ack, payload, None, taken):
                    return doubt
            return None
        if self._subject is None and at.known_at is not None and seq[-1] - at.last != count:
            before, known = np.append(at.last, seq[:-1]), np.append(at.known_at, stored[:-1])
            for i in np.flatnonzero(seq - before > 1).tolist():
                taken.gone.append((int(seq[i] - before[i] - 1), int(known[i]), int(stored[i])))
        elif self._subject is None and seq[-1] - seq[0] != count - 1:
            for i in (np.flatnonzero(np.diff(seq) > 1) + 1).tolist():
                taken.gone.append((int(seq[i] - seq[i - 1] - 1), int(stored[i - 1]), int(stored[i])))
        raw.seq.extend(array("q", seq.tobytes()))
        raw.received.extend(array("q", stored.tobytes()))
        names = self._names
        for subject in set(block.subjects).difference(names):
            names[subject] = self._name(subject.removeprefix(BEFORE))
        raw.subject.extend(map(names.__getitem__, block.subjects))
        raw.payload.extend(block.payloads)
        at.expected += count
        at.last, at.known_at, at.pending = int(seq[-1]), int(stored[-1]), int(pending[-1])
        return None

    def _name(self, subject: bytes) -> str:
        name = self._names.get(subject)
        if name is None:
            name = subject.decode("utf-8", "replace")
            if self._subject is not None and not matches_any(name, self._subject):
                raise DoubtError(f"the consumer delivered {name!r}, which its filter does not match")
            self._names[subject] = name
        return name


def _take_status(reply: str, headers: dict[str, str], taken: Taken) -> str | None:
    """Take a control message. Returns why the consumer is in doubt, or None. Flow control is answered only
    after all earlier messages are in the window: that limits how much is in flight."""
    status = headers.get("Status", "")
    if status == "100":
        if reply:
            taken.replies.append(reply)
        elif stalled := headers.get("Nats-Consumer-Stalled"):
            taken.replies.append(stalled)
        delivered = headers.get("Nats-Last-Consumer")
        if delivered is not None and int(delivered) >= taken.at.expected:
            return f"consumer sequences {taken.at.expected} to {delivered} are missing"
        if delivered is not None:
            taken.at.scanned_to = int(headers.get("Nats-Last-Stream") or 0)
        return None
    return f"the server reports status {status} {headers.get('Description', '')}".strip()


def _is_idle(reply: bytes, headers: dict[str, str]) -> bool:
    """True if a control message is the heartbeat of a consumer with nothing to deliver. A consumer that
    waits for a flow control reply reports that it is stalled, or requests the reply."""
    return not reply and "Nats-Last-Consumer" in headers and "Nats-Consumer-Stalled" not in headers
