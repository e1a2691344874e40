"""Decodes messages into the window of a feed, keeps the rows that match its `where`, and counts messages that
cannot be decoded."""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ..decoding.decode import decode
from ..decoding.raw import Malformed, Raw
from ..errors import ClosedError, SqlError
from ..sql.row_filter import RowFilter, StoppedError
from ..table.values import Batch, Ints, Truths
from ..table.window import Window
from .gaps import Gap, Gaps
from .health import FeedKey
from .message_count import MessageCount

MICROSECOND = 1_000
"""ns. Starts are requested from the server, and times from the archive, to the microsecond."""
ROW = 16
"""Minimum bytes of a row, used to reserve room for expected rows."""
LONGEST_WORK = 2.0
"""Maximum seconds of processor time that the expressions of a feed may take in one round."""
MOST_AT_ONCE = 5_000
"""Maximum messages decoded and filtered in one round, in the feed's own thread."""
FEWEST = 16
"""Messages of the first round, and the minimum of each later round."""
SHORT = 0.1
"""Seconds of processor time that one round should take. The speed of the last round decides the number of
messages."""
SLICE = 0.2
"""Seconds after which no further round begins, so that other replays have their turn."""
HEAVY = 0.1
"""If a round takes more than this many seconds of processor time, the feed's thread gets a low priority."""
LEAST_URGENT = 10
"""Niceness of that thread (see nice(1)), on systems that have one per thread."""
STOP_AGAIN = 0.1
"""Seconds between checks of the time taken, and between attempts to stop: an attempt may come too early."""


@dataclass
class _Decoded:
    """The result of decoding some messages, before it is added to the window."""

    batches: list[Batch]
    samples: list[Malformed]
    malformed: int
    count: int
    """How many messages."""
    places: Ints | None
    """Indices of the messages that have a row or could not be decoded; None for all."""


@dataclass
class Taken:
    """The result of Intake.take()."""

    raw: Raw
    """The messages taken: all, or the first of them."""
    places: Ints | None
    """Indices of those that have a row or could not be decoded; None for all."""

    def newest(self, most: int) -> Raw:
        """The last `most` messages that have a row or could not be decoded."""
        if self.places is not None:
            return self.raw.pick(self.places[-most:].tolist())
        return self.raw.after(max(0, len(self.raw) - most))

    def sequences(self) -> set[int] | None:
        """The sequences of the messages that have a row or could not be decoded; None for all."""
        return None if self.places is None else {self.raw.seq[i] for i in self.places.tolist()}


class Intake:
    """The rows of one feed, and the gaps in them."""

    def __init__(
        self,
        key: FeedKey,
        look_back: pd.Timedelta,
        limits: dict[str, Any],
        room: Callable[[], int],
        grown: Callable[[], None],
    ) -> None:
        """`limits` are those of a Window. `room` returns the bytes that the process has left. `grown` is
        called after rows were added."""
        self.key = key
        self.look_back = look_back
        """How far back the feed reaches: the longest look-back that any reader has requested."""
        self.limits = limits
        self.window = Window(**limits)
        self.malformed = 0
        """Messages that could not be decoded."""
        self.samples: list[Malformed] = []
        """The last few of them."""
        self.gaps = Gaps()
        self.recreated = 0
        """How often the stream turned out to be another one."""
        self.grown = grown
        self.counted = MessageCount()
        """The messages read, with or without a row."""
        self.filter = RowFilter(key.where, key.columns, key.names) if key.where or key.columns else None
        """`where` and `columns` of the feed; None if it has neither."""
        self._room = room
        self.left_early = False
        """True if messages stored before the look-back arrived among those within it: the clock was set
        back."""
        self._thread = ThreadPoolExecutor(1, "filter") if self.filter is not None else None
        self._spent: Callable[[], float] = lambda: 0.0  # processor time of the current round
        self._urgent = True
        self._most = FEWEST
        self._closed = False

    def another_window(self) -> Window:
        """An empty window with the same limits."""
        return Window(**self.limits)

    def missing(self, gap: Gap) -> None:
        """Record missing rows."""
        if (end := self.key.end) is not None:
            if gap.start >= end:
                return
            if gap.end > end:  # how many of them were sent before the end is unknown
                gap = replace(gap, end=end, count=None)
        self.gaps.add(gap, self.look_back)

    def of_stretch(self, raw: Raw, now: int) -> tuple[Raw, list[int] | None]:
        """The messages of `raw` that belong to the stretch, and their indices; None if all do. The look-back
        ends at `now`, or at the end of the stretch once that has passed. A server whose clock was set back
        stores messages out of the order of their times."""
        if (end := self.key.end) is None or not len(raw):
            return raw, None
        start = min(now, end) - self.look_back.value
        if start <= min(raw.received) and max(raw.received) < end:
            return raw, None
        self.left_early |= min(raw.received) < start - MICROSECOND
        places = [i for i, stored in enumerate(raw.received) if start <= stored < end]
        return raw.pick(places), places

    async def take(
        self,
        raw: Raw,
        window: Window,
        expected: int = 0,
        *,
        counted: MessageCount | None = None,
        valid: Callable[[], bool] = lambda: True,
    ) -> Taken | None:
        """Decode `raw` and append it to `window`, which should reserve room for `expected` further messages.

        With a `where` or `columns`, this runs in a thread of its own, so other feeds are not delayed. If it
        takes long, only the first messages are taken. If the messages are no longer `valid` afterwards,
        nothing is appended, and the result is None. `counted` counts the messages; the default is the feed's
        own count. Raises SqlError if the expressions take too long.
        """
        places: Ints | None = None
        if self.filter is None:
            found = [self._decode(raw)]
        else:
            found = []
            began, left = time.monotonic(), raw
            while len(left) and (not found or time.monotonic() - began < SLICE):
                some = left.before(self._most)
                found.append(await self._in_thread(some))
                left = left.after(len(some))
            if not valid():
                return None
            raw = raw.before(len(raw) - len(left))
            (self.counted if counted is None else counted).add(raw.seq, raw.received)
            places = _together(found)
            if places is not None:
                expected = expected * len(places) // max(1, len(raw))
        for each in found:
            self.malformed += each.malformed
            self.samples = [*self.samples, *each.samples][-5:]
            for batch in each.batches:
                window.append(batch, expected=min(expected, self._room() // ROW))
                self.grown()
        return Taken(raw, places)

    def decoded(self, raw: Raw) -> Window:
        """Decode `raw` into a separate window. Messages that cannot be decoded are not counted. Only for a
        feed without a filter."""
        window = self.another_window()
        for batch in self._decode(raw).batches:
            window.append(batch)
        return window

    def close(self) -> None:
        """End the thread, and interrupt its expressions."""
        self._closed = True
        if self.filter is not None and self._thread is not None:
            self.filter.stop()
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, raw: Raw) -> _Decoded:
        assert self.filter is not None
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._filtered, self.filter, raw)
        work.add_done_callback(lambda done: done.cancelled() or done.exception())  # the caller may be gone
        wait = LONGEST_WORK
        while not (await asyncio.wait({work}, timeout=wait))[0]:
            wait = STOP_AGAIN
            if self._spent() >= LONGEST_WORK:
                self.filter.stop()
        return work.result()

    # -- in the feed's own thread, if it has one ---------------------------------------------------------

    def _filtered(self, row_filter: RowFilter, raw: Raw) -> _Decoded:
        row_filter.prepare()
        clock = _clock_of_this_thread()
        began = clock()
        self._spent = lambda: clock() - began
        row_filter.go_on()
        if self._closed:
            raise ClosedError("The feed is closed.")
        found = self._decode(raw)
        decoded = [batch.seq for batch in found.batches]
        try:
            found.batches = [row_filter.apply(batch) for batch in found.batches]
        except StoppedError:
            raise SqlError(
                f"The expressions of {self.key.name} were stopped: they took more than {LONGEST_WORK:g} s "
                f"for {count_of(raw)}. Simplify `where` or `columns`. It is tried again after a minute."
            ) from None
        if self._urgent and clock() - began > HEAVY:
            self._urgent = False
            with contextlib.suppress(AttributeError, OSError):  # only Linux has it for one thread
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LEAST_URGENT)
        self._most = max(FEWEST, min(MOST_AT_ONCE, int(len(raw) * SHORT / max(1e-9, clock() - began))))
        seqs, held = np.asarray(raw.seq, dtype=np.int64), _all([batch.seq for batch in found.batches])
        without = _has(_all(decoded), seqs) & ~_has(held, seqs)
        if without.any():
            found.places = np.flatnonzero(~without)
        return found

    def _decode(self, raw: Raw) -> _Decoded:
        try:
            batch, samples, malformed = decode(raw, self.key.decoder, self.key.time, self.key.headers)
        except Exception as error:
            if len(raw) > 1:
                each = [self._decode(one) for one in raw.split()]
                return _Decoded(
                    [batch for one in each for batch in one.batches],
                    [sample for one in each for sample in one.samples],
                    sum(one.malformed for one in each),
                    len(raw),
                    None,
                )
            # One payload must not block the others, even if it breaks the decoder.
            reason = str(error) if isinstance(error, ValueError) else repr(error)
            sample = Malformed(raw.subject[0], raw.seq[0], reason, repr(raw.payload[0][:200]))
            return _Decoded([], [sample], 1, 1, None)
        return _Decoded([batch], samples, malformed, len(raw), None)


def _has(ascending: Ints, values: Ints) -> Truths:
    """A bool array: which of `values` are in `ascending`. Sorting all of them would take as long as the
    rest."""
    if not len(ascending):
        return np.zeros(len(values), dtype=np.bool_)
    places = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return np.asarray(ascending[places] == values)


def _all(parts: list[Ints]) -> Ints:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _together(parts: list[_Decoded]) -> Ints | None:
    """The indices of all `parts`, relative to the first message of the first part; None for all messages."""
    if all(part.places is None for part in parts):
        return None
    found, start = [], 0
    for part in parts:
        found.append((np.arange(part.count) if part.places is None else part.places) + start)
        start += part.count
    return _all(found)


def _clock_of_this_thread() -> Callable[[], float]:
    """A function for any thread, which returns the processor time (seconds) of the thread that called this
    one. Where the system does not offer that, it returns elapsed time. Elapsed time is no good measure: on a
    busy machine, a cheap expression takes long, too."""
    find = getattr(time, "pthread_getcpuclockid", None)
    if find is None:
        return time.monotonic
    number: int = find(threading.get_ident())
    return lambda: time.clock_gettime(number)


def count_of(raw: Raw) -> str:
    """How many messages, in words."""
    return f"{len(raw):,} messages" if len(raw) != 1 else "one message"
