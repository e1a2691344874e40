"""Received messages: single ones, or blocks of consecutive ones as columns. Does not use nats-py."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BEFORE = b"MSG "
"""What precedes the subject in the control line of a message."""

Arrived = tuple[bytes, bytes, bytes, dict[str, str] | None]
"""Subject, reply subject, payload, headers."""


@dataclass(frozen=True, slots=True, eq=False)
class MessageBlock:
    """Consecutive messages of one JetStream consumer, as columns."""

    subjects: list[bytes]
    """The subjects, each still prefixed with BEFORE."""
    acks: npt.NDArray[np.int64]
    """The last four tokens of the reply subjects, shape (messages, 4), int64: stream sequence, consumer
    sequence, storage time (ns since the epoch, UTC), pending messages."""
    payloads: list[bytes]

    def __len__(self) -> int:
        return len(self.payloads)
