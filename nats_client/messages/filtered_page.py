"""A page of the stored messages for which an expression is true, in both directions.

Each message must be read to evaluate the expression, so a page may have to read the whole stream. It is a
search that ends when the page is full. Forward, it reads from a sequence on. Backward, it reads ranges before
a sequence until it has found enough, each four times as long as the previous one, as stored.py does.
"""

import asyncio

from ..connection.connection import Connection, end_tasks
from ..decoding.raw import Malformed, Raw
from ..errors import LookbackError
from ..streams.ordered_consumer import Consumer
from .search import MOST_SAMPLES, Checked, Search, Wanted
from .stored import MOST_BYTES, Held, StoredMessage, held_of

FIRST_RANGE = 1_000
"""Sequences in the first range of a page that is read backward."""
FEW = 50_000
"""If a range has fewer messages than this, the next one is longer."""
MANY = 200_000
"""If a range has more messages than this, a shorter one is read in its place."""


class FilteredPage(Search):
    """A page that is being read. It is complete once it has ended as "done" or "full". If it ended otherwise,
    it has the messages found until then. `low` and `high` are the sequences that it covers."""

    def __init__(
        self, connection: Connection, wanted: Wanted, *, start: int | None, upto: int, most: int
    ) -> None:
        """Up to `most` messages: the first from the sequence `start` on, or else the newest up to the
        sequence `upto`; fewer if they have more than MOST_BYTES of payload. Raises SqlError."""
        super().__init__(connection, wanted)
        self.held: Held | None = None
        """The state of the stream when reading began; None until it is known."""
        self.low, self.high = 1, 0
        """The page has all matches from `low` to `high`. It covers nothing yet while `low` is greater."""
        self._start, self._upto, self._most = start, upto, most
        self._range = 1, 0  # sequences that are being read
        self._in_range = 0  # messages read in this range
        self._recent: list[StoredMessage] = []  # the newest matches in this range
        self._dropped = False  # True if this range has more matches
        self._bad: list[int] = []  # sequences in this range that could not be decoded
        self._samples: list[Malformed] = []
        self._dense = asyncio.Event()

    def shrink(self, nbytes: int, ceiling: int) -> None:
        """A no-op: a page has at most MOST_BYTES, and must keep all matches from `low` to `high`."""

    @property
    def older(self) -> bool:
        """True if the stream has sequences before this page."""
        return self.held is not None and self.low > self.held.first

    @property
    def newer(self) -> bool:
        """True if the stream had sequences after this page."""
        return self.held is not None and self.high < self.held.last

    @property
    def progress(self) -> float:
        """Share that was read of the stream before or after the page's first sequence, 0 to 1."""
        if self.is_over or self.held is None:
            return float(self.is_over)
        start, end = self._range
        read = max(0, min(self.scanned_to, end) + 1 - start)
        if self._start is None:
            first, last, read = self.held.first, self.high, read + max(0, self.high + 1 - self.low)
        else:
            first, last = start, end
        return min(1.0, read / max(1, last + 1 - first))

    # -- on the client's loop ----------------------------------------------------------------------------

    async def _read(self) -> None:
        held = self.held = held_of(
            await self._answered(lambda: self._connection.infos.ask(self.wanted.stream))
        )
        if self._start is None:
            await self._back(held)
        else:
            self.low = max(held.first, self._start)
            self.high = min(self.low - 1, held.last)
            if self.low <= held.last and await self._read_range(self.low, held.last):
                self.high = held.last

    async def _back(self, held: Held) -> None:
        end = self.high = min(self._upto, held.last)
        self.low = end + 1
        width = FIRST_RANGE
        while end >= held.first:
            start = max(held.first, end + 1 - width)
            if not await self._read_range(start, end):
                if self._status != "under way":
                    return
                width = max(FEW, width // 16)  # messages are denser here
                continue
            found, dropped = _newest([*self._recent, *self._found], self._most)
            self._found = tuple(found)
            full = dropped or self._dropped or len(found) == self._most
            self.low = found[0].seq if full else start
            self.malformed += sum(seq >= self.low for seq in self._bad)
            samples = [sample for sample in self._samples if sample.seq >= self.low]
            self.sample = self.sample or (samples[-1] if samples else None)
            if full:
                self._end("full")
                return
            self._watchers.notify()
            end = start - 1
            width *= 4 if self._in_range < FEW else 1

    async def _read_range(self, start: int, end: int) -> bool:
        """Read the messages from `start` to `end`. False if reading was given up."""
        assert self.held is not None
        self._range = start, end
        self.scanned_to = start - 1
        self._in_range, self._recent, self._dropped = 0, [], False
        self._bad, self._samples = [], []
        self._dense.clear()
        wanted = self.wanted
        consumer = self._consumer = Consumer(
            self._connection, wanted.stream, wanted.subject, None, self, until=end + 1
        )
        consumer.last_seq = start - 1
        tasks = [asyncio.ensure_future(consumer.run()), asyncio.ensure_future(self._dense.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not tasks[0].done():
                return False
            tasks[0].result()
        finally:
            await end_tasks(tasks)
        if consumer.created not in (None, self.held.created):
            self.recreated()
        return self._status == "under way"

    def _take(self, checked: Checked, raw: Raw) -> None:
        if self._start is None:
            self._take_back(checked, raw)
        else:
            self._take_forward(checked, raw)

    def _take_forward(self, checked: Checked, raw: Raw) -> None:
        for message in checked.found:
            large = bool(self._found) and self._bytes + len(message.payload) > MOST_BYTES
            if not large:
                self._add(message)
            if large or len(self._found) == self._most:
                end = message.seq - large
                checked.malformed = [seq for seq in checked.malformed if seq <= end]
                checked.samples = [sample for sample in checked.samples if sample.seq <= end]
                self._count(checked)
                self.high = end
                self._advance(sum(seq <= end for seq in raw.seq[: checked.count]), raw)
                self._end("full")
                return
        self._count(checked)
        if checked.count:
            self.high = raw.seq[checked.count - 1]
        self._advance(checked.count, raw)

    def _take_back(self, checked: Checked, raw: Raw) -> None:
        self._recent, dropped = _newest([*self._recent, *checked.found], self._most)
        self._dropped |= dropped
        self._bad += checked.malformed
        self._samples = [*self._samples, *checked.samples][-MOST_SAMPLES:]
        self._in_range += checked.count
        self._advance(checked.count, raw)
        if self._in_range > MANY and self._range[1] - self._range[0] >= FEW:
            self._dense.set()

    def recreated(self) -> None:
        """The stream is another one now: its sequences have other messages."""
        super().recreated()
        self._recent = []
        self.low, self.high = 1, 0
        self._fail(LookbackError("The stream was recreated while the page was read. Read it again."))

    def back_to(self, seq: int, stored: int) -> None:
        """Drop the messages found after `seq`, because they are delivered again."""
        if self._start is None:
            self._recent = [message for message in self._recent if message.seq <= seq]
            self._bad = [each for each in self._bad if each <= seq]
        else:
            super().back_to(seq, stored)
            self.high = min(self.high, seq)


def _newest(messages: list[StoredMessage], most: int) -> tuple[list[StoredMessage], bool]:
    """The newest of `messages` that fit on a page, and True if some do not fit."""
    size = 0
    for count, message in enumerate(reversed(messages)):
        size += len(message.payload)
        if count == most or (count and size > MOST_BYTES):
            return messages[-count:], True
    return messages, False
