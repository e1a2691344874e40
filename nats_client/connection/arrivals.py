"""Messages as they arrive: one by one, or a run of them column by column. No code of nats-py."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BEFORE = b"MSG "
"""What stands before the subject in the line that announces a message."""

Arrived = tuple[bytes, bytes, bytes, dict[str, str] | None]
"""Subject, reply subject, payload, headers."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Messages of one JetStream consumer that came one after the other, column by column."""

    subjects: list[bytes]
    """Each with BEFORE before it, as it came."""
    acks: npt.NDArray[np.int64]
    """What the last four tokens of the reply subjects say, a row for each message: stream sequence, consumer
    sequence, when it was stored (ns since the epoch, UTC), messages still to come."""
    payloads: list[bytes]

    def __len__(self) -> int:
        return len(self.payloads)
