"""Counts the messages that a feed has read, by time, including those without a row in the window."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MOST = 2_000
"""Maximum spans of time with a separate count. Above it, they are joined in pairs."""


@dataclass
class _Span:
    first_seq: int
    last_seq: int
    start: int
    end: int
    count: int


class MessageCount:
    """Counts messages once, however often they are delivered. Written on the client's loop, read from any
    thread."""

    def __init__(self, below: int | None = None) -> None:
        """With `below`, only messages below that sequence count."""
        self._spans: tuple[_Span, ...] = ()
        self._below = below

    @property
    def lowest(self) -> int | None:
        """The lowest sequence counted."""
        return self._spans[0].first_seq if self._spans else None

    @property
    def newest(self) -> int | None:
        """When the newest message counted was stored, ns since the epoch, UTC; None if there is none."""
        return self._spans[-1].end if self._spans else None

    def add(self, seqs: Sequence[int], received: Sequence[int]) -> None:
        """Count messages, in ascending order. Those at or below the last counted sequence are skipped."""
        above = self._spans[-1].last_seq if self._spans else -1
        if not len(seqs) or seqs[-1] <= above:
            return
        held = np.asarray(seqs, dtype=np.int64)
        first = int(np.searchsorted(held, above, "right"))
        last = len(held) if self._below is None else int(np.searchsorted(held, self._below))
        if first < last:
            span = _Span(
                int(held[first]), int(held[last - 1]), received[first], received[last - 1], last - first
            )
            self._spans = _few((*self._spans, span))

    def prepend(self, older: "MessageCount") -> None:
        """Add the counts of `older`, which has counted older messages."""
        self._spans = _few((*older._spans, *self._spans))

    def since(self, time: int) -> int:
        """How many messages were stored at or after `time` (ns since the epoch, UTC). Within one span,
        messages are assumed to be evenly spread."""
        spans = self._spans
        total = 0
        for span in reversed(spans):
            if span.end < time:
                break
            share = 1.0
            if span.start < time:
                share = (span.end - time + 1) / (span.end - span.start + 1)
            total += round(span.count * share)
        return total

    def forget(self, time: int) -> None:
        """Forget the messages stored before `time`, except the last."""
        if len(self._spans) > 1 and self._spans[0].end < time:
            self._spans = (*(span for span in self._spans[:-1] if span.end >= time), self._spans[-1])

    def remove_before(self, seq: int) -> None:
        """Remove the messages below this sequence, because they have left the stream."""
        if self._spans and self._spans[0].first_seq < seq:
            kept = []
            for span in self._spans:
                if span.last_seq < seq:
                    continue
                if span.first_seq < seq:
                    share = (span.last_seq - seq + 1) / (span.last_seq - span.first_seq + 1)
                    span = _Span(seq, span.last_seq, span.start, span.end, max(1, round(span.count * share)))
                kept.append(span)
            last = self._spans[-1]
            # An empty span keeps the last sequence, so that nothing counts twice.
            self._spans = tuple(kept) or (_Span(seq, max(seq - 1, last.last_seq), last.end, last.end, 0),)

    def clear(self) -> None:
        """Forget everything: the stream is another one."""
        self._spans = ()


def _few(spans: tuple[_Span, ...]) -> tuple[_Span, ...]:
    if len(spans) <= MOST:
        return spans
    pairs = [spans[i : i + 2] for i in range(0, len(spans) - 1, 2)]
    joined = [_Span(a.first_seq, b.last_seq, a.start, b.end, a.count + b.count) for a, b in pairs]
    return (*joined, *spans[2 * len(joined) :])
