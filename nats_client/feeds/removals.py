"""Which messages leave a stream as they were meant to, and so are no loss.

Somebody has worked on it; a newer one has replaced it; its own time to live is over; the server has sent it,
as its schedule said. What is purged or deleted, or pushed out by the stream's limits, is a loss to whoever
looks back.
"""

import re
from array import array
from typing import Any

import numpy as np
import numpy.typing as npt

from ..decoding.decoders import Raw
from ..table.snapshot import Snapshot
from ..table.values import Ints

SLACK = 2_000_000_000
"""By how much the server may be ahead of what we take for its clock, ns."""
MOST_SUBJECTS = 100_000
"""Subjects whose newest roll-up is remembered."""

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|m|s|us|µs|ns)")


def loses(config: dict[str, Any]) -> bool:
    """Whether a message that goes from this stream is a loss.

    It is none where somebody has worked on it (retention by interest or work queue), or where a newer one
    has replaced it (a limit per subject): then the window keeps what it has seen.
    """
    return not _worked_on(config) and config.get("max_msgs_per_subject", -1) <= 0


def holes_tell(config: dict[str, Any]) -> bool:
    """Whether a sequence that is not there is a loss also where nobody knows what the message was. Where
    messages may end by themselves, as a rule they did; a mirror of some subjects never had the others."""
    may_end = any(config.get(name) for name in ("allow_msg_ttl", "allow_msg_schedules", "allow_rollup_hdrs"))
    return loses(config) and not may_end and not _is_partial(config)


def has_limits(config: dict[str, Any]) -> bool:
    """Whether the stream pushes out its oldest messages, whoever they are."""
    return config.get("max_age", 0) > 0 or any(config.get(name, -1) > 0 for name in ("max_msgs", "max_bytes"))


def first_ever(config: dict[str, Any], first: int) -> int:
    """The sequence with which the stream began, where it holds its oldest message under `first`; that one
    where nobody can know, or where what was there before has only ended as it was meant to."""
    mirror = config.get("mirror") or {}
    ended = not holes_tell(config) and not has_limits(config)
    if _worked_on(config) or _is_partial(config) or ended or mirror.get("opt_start_time"):
        return first
    return max(1, int(config.get("first_seq") or 1), int(mirror.get("opt_start_seq") or 1))


def _worked_on(config: dict[str, Any]) -> bool:
    return bool(config.get("retention", "limits") != "limits")


def _is_partial(config: dict[str, Any]) -> bool:
    mirror = config.get("mirror") or {}
    return bool(mirror.get("filter_subject") or mirror.get("subject_transforms"))


class Endings:
    """The messages of one feed that say when they end, or which others."""

    def __init__(self) -> None:
        self._seqs = array("q")
        self._ends = array("q")
        self._rolled: dict[str, int] = {}
        self._rolled_all = 0

    def note(self, raw: Raw) -> None:
        """Take in what the headers of new messages say (ADR-43, ADR-51)."""
        if not raw.headers:
            return
        for at, seq in enumerate(raw.seq):
            headers = raw.headers.get(seq) or {}
            ttl = headers.get("Nats-TTL")
            end = raw.received[at] + lives(ttl) if ttl else None
            if headers.get("Nats-Schedule", "").startswith("@at"):
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
        """Take in what another one knows of the same stream."""
        self._seqs.extend(others._seqs)
        self._ends.extend(others._ends)
        self._rolled_all = max(self._rolled_all, others._rolled_all)
        for subject, seq in others._rolled.items():
            self._rolled[subject] = max(self._rolled.get(subject, 0), seq)

    def forget(self, first: int) -> None:
        """Forget what concerns messages below the sequence `first` only."""
        seqs, ends = np.array(self._seqs, dtype=np.int64), np.array(self._ends, dtype=np.int64)
        if len(seqs) and (kept := seqs >= first).sum() < len(seqs) // 2:
            self._seqs, self._ends = array("q", seqs[kept].tobytes()), array("q", ends[kept].tobytes())
        self._rolled = {subject: seq for subject, seq in self._rolled.items() if seq > first}

    def over(self, now: int) -> Ints:
        """The sequences of those whose time to live was over at `now` (ns since the epoch, UTC)."""
        return np.array(self._seqs, dtype=np.int64)[np.array(self._ends, dtype=np.int64) <= now]

    def meant(self, rows: Snapshot, gone: npt.NDArray[np.bool_], now: int) -> Ints:
        """The sequences of those `rows`, of which those that are `gone` have left the stream at `now` (ns
        since the epoch, UTC), that did as they were meant to."""
        seqs = rows.seq[gone]
        meant = np.isin(seqs, self.over(now + SLACK)) | (seqs < self._rolled_all)
        if self._rolled:
            codes, labels = rows.codes("_subject")
            replaced = np.array([self._rolled.get(label, 0) for label in labels], dtype=np.int64)
            meant |= seqs < replaced[codes[gone]]
        return np.unique(seqs[meant])

    def __bool__(self) -> bool:
        return bool(self._seqs or self._rolled or self._rolled_all)


def lives(ttl: str) -> int:
    """How long a message with this header Nats-TTL lives, in ns: a duration as Go writes it, or seconds; for
    ever where it is none."""
    if ttl.isdecimal():
        return int(ttl) * 1_000_000_000
    if not ttl or _PART.sub("", ttl):
        return 2**62
    return int(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(ttl)) * 1e9)
