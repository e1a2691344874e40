"""Decides which messages leave a stream as intended, and which are a loss.

As intended: a worker has processed it, a newer one has replaced it, its time to live is over, or the server
has published it on its schedule. A message that is purged, deleted or removed by the stream's limits is a
loss for every look-back.
"""

import re
from array import array
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from ..decoding.raw import Raw
from ..table.snapshot import Snapshot
from ..table.values import Ints

SLACK = 2_000_000_000
"""By how many ns the server may be ahead of our estimate of its clock."""
MOST_SUBJECTS = 100_000
"""Subjects whose newest roll-up is kept."""

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|m|s|us|µs|ns)")


def loses(config: dict[str, Any]) -> bool:
    """True if a message that leaves this stream is a loss.

    It is not if a consumer has processed it (interest or work queue retention), or if a newer one has
    replaced it (a limit per subject). Then the window keeps the rows it has seen.
    """
    return not _removed_on_ack(config) and config.get("max_msgs_per_subject", -1) <= 0


def holes_are_removals(config: dict[str, Any]) -> bool:
    """True if a missing sequence is a loss even if its message is unknown. It is not if messages may expire,
    because then the message has usually expired. Nor is it a loss in a mirror of only some subjects, which
    never had the other messages."""
    may_end = any(config.get(name) for name in ("allow_msg_ttl", "allow_msg_schedules", "allow_rollup_hdrs"))
    return loses(config) and not may_end and not _is_partial(config)


def has_limits(config: dict[str, Any]) -> bool:
    """True if the stream's limits remove its oldest messages, whatever they are."""
    return config.get("max_age", 0) > 0 or any(config.get(name, -1) > 0 for name in ("max_msgs", "max_bytes"))


def first_ever(config: dict[str, Any], first: int) -> int:
    """The stream's very first sequence. `first` is its oldest one now. Returns `first` if the beginning is
    unknown, or if the messages before it have all ended as intended."""
    mirror = config.get("mirror") or {}
    ended = not holes_are_removals(config) and not has_limits(config)
    if _removed_on_ack(config) or _is_partial(config) or ended or mirror.get("opt_start_time"):
        return first
    return max(1, int(config.get("first_seq") or 1), int(mirror.get("opt_start_seq") or 1))


def _removed_on_ack(config: dict[str, Any]) -> bool:
    return bool(config.get("retention", "limits") != "limits")


def _is_partial(config: dict[str, Any]) -> bool:
    mirror = config.get("mirror") or {}
    return bool(mirror.get("filter_subject") or mirror.get("subject_transforms"))


class Endings:
    """The messages of one feed with headers that say when they expire or which others they replace."""

    def __init__(self) -> None:
        self._seqs = array("q")
        self._ends = array("q")
        self._rolled: dict[str, int] = {}
        self._rolled_all = 0

    def note(self, raw: Raw, held: Collection[int] | None = None) -> None:
        """Record the headers of new messages (ADR-43, ADR-51). `held` are the sequences of the messages with
        rows; None if all have rows. For the other messages, only roll-ups are recorded, because they also
        remove messages."""
        if not raw.headers:
            return
        for at, seq in enumerate(raw.seq):
            headers = raw.headers.get(seq) or {}
            ttl = headers.get("Nats-TTL") if held is None or seq in held else None
            end = raw.received[at] + lives(ttl) if ttl else None
            if headers.get("Nats-Schedule", "").startswith("@at") and (held is None or seq in held):
                end = 0
            if end is not None:
                self._seqs.append(seq)
                self._ends.append(min(end, 2**63 - 1))
            rollup = headers.get("Nats-Rollup", "").lower()
            if rollup == "all":
                self._rolled_all = max(self._rolled_all, seq)
            elif rollup == "sub" and len(self._rolled) < MOST_SUBJECTS:
                subject = raw.subject[at]
                self._rolled[subject] = max(self._rolled.get(subject, 0), seq)

    def add(self, others: "Endings") -> None:
        """Merge the records of another object for the same stream."""
        self._seqs.extend(others._seqs)
        self._ends.extend(others._ends)
        self._rolled_all = max(self._rolled_all, others._rolled_all)
        for subject, seq in others._rolled.items():
            self._rolled[subject] = max(self._rolled.get(subject, 0), seq)

    def forget(self, first: int) -> None:
        """Drop the records that concern only messages below the sequence `first`."""
        seqs, ends = np.array(self._seqs, dtype=np.int64), np.array(self._ends, dtype=np.int64)
        if len(seqs) and (kept := seqs >= first).sum() < len(seqs) // 2:
            self._seqs, self._ends = array("q", seqs[kept].tobytes()), array("q", ends[kept].tobytes())
        self._rolled = {subject: seq for subject, seq in self._rolled.items() if seq > first}

    def over(self, now: int) -> Ints:
        """The sequences whose time to live was over at `now` (ns since the epoch, UTC)."""
        return np.array(self._seqs, dtype=np.int64)[np.array(self._ends, dtype=np.int64) <= now]

    def expected_removals(self, rows: Snapshot, gone: npt.NDArray[np.bool_], now: int) -> Ints:
        """The sequences of those `rows` that left the stream as intended. `gone` marks the rows that had left
        it at `now` (ns since the epoch, UTC)."""
        seqs = rows.seq[gone]
        expected = np.isin(seqs, self.over(now + SLACK)) | (seqs < self._rolled_all)
        if self._rolled:
            codes, labels = rows.codes("_subject")
            replaced = np.array([self._rolled.get(label, 0) for label in labels], dtype=np.int64)
            expected |= seqs < replaced[codes[gone]]
        return np.unique(seqs[expected])

    def __bool__(self) -> bool:
        return bool(self._seqs or self._rolled or self._rolled_all)


def lives(ttl: str) -> int:
    """How long a message with this Nats-TTL header lives, in ns. The header is a Go duration or a number of
    seconds; anything else means for ever (2**62)."""
    if ttl.isdecimal():
        return int(ttl) * 1_000_000_000
    if not ttl or _PART.sub("", ttl):
        return 2**62
    return int(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(ttl)) * 1e9)
