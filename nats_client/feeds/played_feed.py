"""A feed that shows a stretch as it was at the moment of a playback."""

import threading
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, replace
from time import monotonic

import numpy as np
import pandas as pd

from ..errors import ClosedError, LookbackError
from ..events import Event
from ..table.memo import Memo
from ..table.snapshot import Snapshot
from ..table.values import Ints
from ..table.window import Window
from ..watchers import Watchers
from .derived import Derived
from .feed import MOST_MESSAGES, Feed
from .health import FeedKey, Health, Message

FETCH_EVERY = 1.0
"""Seconds between two requests for raw messages."""
FETCH_AGAIN = 10.0
"""Seconds until the next request after a failed one."""
FETCH_WITHIN = 2.0
"""Timeout of these requests in seconds."""


@dataclass(eq=False)
class Playhead:
    """The position of a playback. It only moves forward; a backward seek replaces it and the feeds."""

    moment: int
    """ns since the epoch, UTC."""
    playing: bool = False
    """True while it moves by itself."""


class PlayedFeed(Derived):
    """A feed of a stretch, up to the moment of a playback. Its `now()` is that moment, and its rows are those
    of the shared feed that were stored before it. The arrays are shared, not copied. Readers use it like a
    feed. A column appears with the first row that has a value in it; its kind is that of the whole
    stretch."""

    def __init__(self, feed: Feed, playhead: Playhead, look_back: pd.Timedelta) -> None:
        super().__init__()
        self.by_names = Memo()
        """This feed with names for tokens of its subject; see named_feed.py."""
        self.last_read = monotonic()
        self.look_back = look_back
        """How far back it reaches from the playback's moment."""
        self._feed = feed
        self._playhead = playhead
        self._waits = True
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._state: object = None
        self._version = 0
        self._columns = _Columns()
        self._unread: float | None = None  # when it moved and the watchers have not read it since
        self._watchers = Watchers()
        self._derived_bytes = 0
        self._fetching = threading.Lock()
        self._fetch_again = 0.0
        self._raw: dict[int, Message | None] = {}  # by sequence; None: the stream does not hold it

    @property
    def key(self) -> FeedKey:
        """The key of the shared feed; its `end` is that of the stretch."""
        return self._feed.key

    @property
    def name_key(self) -> tuple[FeedKey, tuple[str, ...]]:
        """See Feed."""
        return self.key, ()

    @property
    def stretch(self) -> Feed:
        """The shared feed, which has the rows of the whole stretch."""
        return self._feed

    @property
    def window(self) -> Window:
        """The window of the shared feed, which has the rows of the whole stretch."""
        return self._feed.window

    def now(self) -> int:
        """The playback's moment, ns since the epoch, UTC."""
        return self._playhead.moment

    def snapshot(self) -> Snapshot:
        """The rows stored before the moment, as far back as the look-back reaches. Raises ClosedError after
        the shared feed was closed."""
        with self._lock:
            self.last_read, self._unread = monotonic(), None
            whole, moment = self._feed.snapshot(), self._playhead.moment
            start, end = np.searchsorted(whole.received, [moment - self.look_back.value, moment])
            state = whole.version, whole.generation, whole.first + int(start), whole.first + int(end)
            if self._snapshot is None or state != self._state:
                self._version += 1
                rows = whole.between(*state[2:])
                later = self._columns.later(whole, state[3])
                self._snapshot, self._state = rows.without(later, self._version), state
            return self._snapshot

    def frame(self) -> pd.DataFrame:
        """`snapshot().frame()`."""
        return self.snapshot().frame()

    def newest(self) -> list[Message]:
        """The raw messages of the newest rows, newest first, at most MOST_MESSAGES, without those that have
        left the stream. They are fetched from the stream at most once per second, so they may be a second
        behind the rows, and more after a failed request. Do not call it on the client's own thread. Raises
        ClosedError."""
        rows = self.snapshot()
        wanted = _distinct(rows.seq, MOST_MESSAGES, last=True).tolist()
        with self._fetching:
            missing = [seq for seq in wanted if seq not in self._raw]
            if missing and monotonic() >= self._fetch_again:
                rest = FETCH_EVERY
                try:
                    found = {message.seq: message for message in self._feed.stored(missing, FETCH_WITHIN)}
                    known = dict.fromkeys(missing) | self._raw | found
                    self._raw = {seq: known[seq] for seq in wanted}
                except LookbackError:  # keep the known messages; the server logs each request that it denies
                    rest = FETCH_AGAIN
                self._fetch_again = monotonic() + rest
            # The moment only moves forward, so the fetched messages may be older than the rows, but never
            # newer.
            held = [self._raw[seq] for seq in sorted(self._raw, reverse=True)]
        oldest = rows.seq[0] if len(rows) else 0
        return [message for message in held if message is not None and message.seq >= oldest]

    def wait(self, timeout: float, look_back: pd.Timedelta | None = None) -> bool:
        """Wait at most `timeout` seconds until the stretch is loaded. False on timeout."""
        return self._feed.wait(timeout)

    def want(self, reader: Hashable) -> None:
        """See Feed."""
        self._waits = True
        self._feed.want(reader)

    def stop(self, reader: Hashable) -> None:
        """See Feed. The playback no longer waits for rows that are being loaded."""
        self._waits = False
        self._feed.stop(reader)

    def read_before(self, moment: int, split_by: Collection[str], take: Callable[[Snapshot], None]) -> None:
        """See Derived."""

        def taken(rows: Snapshot) -> None:
            take(rows)
            self.moved(monotonic())

        self._feed.read_before(moment, split_by, taken)

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` each time the moment changes, from any thread, so it must return at once. Returns a
        function that ends this."""
        return self._watchers.add(changed)

    @property
    def health(self) -> Health:
        """The health of the stretch as of the playback's moment."""
        return self.health_of(self.look_back)

    def health_of(self, look_back: pd.Timedelta) -> Health:
        """The health for a reader with this look-back."""
        with self._lock:
            rows = self._snapshot
        moment, key = self.now(), self.key
        assert key.end is not None
        rest = pd.Timedelta(key.end - moment, unit="ns")
        health = self._feed.health_of(rest + look_back)
        later = self._feed.health_of(rest).read if key.where is not None else 0
        count = 0 if rows is None else len(rows)
        newest = int(rows.received[-1]) if rows is not None and count else None
        known = -1 if rows is None or not count else int(rows.seq[-1])
        samples = tuple(sample for sample in health.samples if sample.seq <= known or moment >= key.end)
        read_until = health.read_until
        return replace(
            health,
            plays=self._playhead.playing,
            ended=health.ended and moment >= key.end,
            rows=health.rows if health.phase == "replaying" else count,
            newest=newest,
            malformed=health.malformed if samples else 0,
            samples=samples,
            dropped=health.dropped if health.dropped_until >= moment - look_back.value else 0,
            gaps=tuple(replace(gap, end=min(gap.end, moment)) for gap in health.gaps if gap.start < moment),
            read=max(0, health.read - later),
            read_until=None if read_until is None else min(read_until, moment),
        )

    @property
    def events(self) -> tuple[Event, ...]:
        """The events of the shared feed."""
        return self._feed.events

    # -- for the playback --------------------------------------------------------------------------------

    @property
    def is_loading(self) -> bool:
        """True while rows of the stretch are being loaded, unless a reader has called stop() since."""
        return self._waits and self._feed.is_loading

    def shows(self, feed: Feed) -> bool:
        """True if these are the rows of `feed`."""
        return self._feed is feed

    def extend(self, look_back: pd.Timedelta) -> None:
        """Extend the look-back to at least `look_back`."""
        with self._lock:
            self.last_read = monotonic()
            self.look_back = max(self.look_back, look_back)

    def moved(self, now: float) -> None:
        """Notify the watchers that the moment has changed, at `now` on the monotonic clock."""
        if self._unread is None and self._watchers:
            self._unread = now
        self._watchers.notify()

    def is_late(self, since: float) -> bool:
        """True if it moved before `since` (seconds, monotonic) and its watchers have not read it after the
        move."""
        return bool(self._watchers) and self._unread is not None and self._unread < since

    def stored_near(self, moment: int, most: int, *, after: bool) -> Ints:
        """The next `most` distinct storage times from `moment` on, or the last ones before it; ns since the
        epoch, UTC."""
        received = self._stored
        at = int(np.searchsorted(received, moment))
        return _distinct(received[at:] if after else received[:at], most, last=not after)

    def stored_between(self, edges: Ints) -> Ints:
        """The number of rows of the stretch stored between each two neighbouring `edges`, which ascend (ns
        since the epoch, UTC)."""
        return np.diff(np.searchsorted(self._stored, edges))

    @property
    def _stored(self) -> Ints:
        """Storage times of the rows of the stretch. Empty after the feed was closed; reading its snapshot
        raises the error."""
        try:
            return self._feed.snapshot().received
        except ClosedError:
            return np.zeros(0, dtype=np.int64)

    def rest(self) -> None:
        """Release the snapshot, because the feed has no reader."""
        with self._lock:
            self._snapshot = None

    # -- memory, from any thread -------------------------------------------------------------------------

    @property
    def nbytes(self) -> int:
        """Bytes of derived values at the last count. The rows belong to the shared feed."""
        return self._derived_bytes

    def count_derived(self) -> None:
        """Count the bytes of derived values."""
        named = [feed.derived_bytes for feed in self.by_names.values()]
        self._derived_bytes = self.derived_bytes + sum(named)

    def forget_derived(self) -> None:
        """See Derived. It also drops the values of feeds with names for tokens."""
        super().forget_derived()
        self.by_names.clear()
        self._derived_bytes = self.derived_bytes

    def shrink(self, nbytes: int, ceiling: int) -> None:
        """Drop the derived values. They are computed again on request."""
        self.forget_derived()

    def relax(self) -> None:
        """Do nothing: shrink() sets no limit."""


def _distinct(ascending: Ints, most: int, *, last: bool) -> Ints:
    """The first `most` distinct values; with `last`, the last ones."""
    size = most
    while True:
        found = np.unique(ascending[-size:] if last else ascending[:size])
        if len(found) >= most or size >= len(ascending):
            return found[-most:] if last else found[:most]
        size *= 4


class _Columns:
    """The first row with a value in each column of a window. Not thread-safe."""

    def __init__(self) -> None:
        self._generation: int | None = None
        self._begins: dict[str, int] = {}
        self._searched: dict[str, int] = {}  # the end of the search, for columns without a value so far

    def later(self, whole: Snapshot, end: int) -> frozenset[str]:
        """The columns whose first value is in the row with the ordinal `end` or after it."""
        if whole.generation != self._generation:
            self._generation, self._begins, self._searched = whole.generation, {}, {}
        for name in whole.columns.keys() - self._begins.keys():
            if self._searched.get(name, whole.first) < whole.end:
                found = whole.begins(name, self._searched.get(name))
                if found is None:
                    self._searched[name] = whole.end
                else:
                    self._begins[name] = found
        return frozenset(name for name, begin in self._begins.items() if begin >= end and name != "_subject")
