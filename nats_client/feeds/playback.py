"""Replays a stretch of the past: one clock controls all feeds of a playback."""

import asyncio
import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import numpy as np
import pandas as pd

from ..connection.connection import end_tasks
from ..duration import LONGEST, Duration, parse_duration
from ..errors import LookbackError
from ..memory import Memory
from ..watchers import Watchers
from .feed import Feed
from .named_feed import NamedFeed, named
from .played_feed import PlayedFeed, Playhead

Opener = Callable[..., Feed | NamedFeed]

SPEEDS = (1, 2, 5, 10, 60, 600)
"""Speeds, as multiples of real time."""
TICK = 0.05
"""Seconds between two steps of the clock."""
LONGEST_STEP = 0.25
"""Maximum seconds that one step of the clock counts, so that it does not jump after the process was
paused."""
LATE = 0.5
"""Seconds after which the clock waits for a feed whose watchers have not read it since it moved."""
MEASURED = 2.0
"""Seconds over which the true speed is measured."""
UNHELD = 0.9
"""Share of the chosen speed at which it counts as reached."""
FIRST_FEED = 3.0
"""Seconds that a new playback waits for its first feed."""
UNREAD = 15.0
"""Seconds without a reader or watcher after which a playback pauses. After as many seconds without a reader,
it no longer waits for a feed."""
FORGOTTEN = 60.0
"""Seconds without a reader after which a playback forgets a feed."""
PLACES = 200
"""Parts of the stretch whose rows are counted, by default."""


class Playback:
    """Replays a stretch. `Client.playback` creates it, paused at the start. Its feed() returns feeds that
    follow its clock: each shows the rows stored before the playback's moment, as far back as the feed's
    look-back reaches. Such a feed holds no rows of its own. It shows a part of the feed of the whole stretch,
    which all playbacks and all other readers of the stretch share.

    Any thread may call it. It needs no thread of its own, and ends when the last reference to it is gone.
    """

    def __init__(
        self, start: int, end: int, open_feed: Opener, memory: Memory, wake: Callable[[], None]
    ) -> None:
        """`start`, `end`: of the stretch, ns since the epoch, UTC. `open_feed` is Client.feed. `wake` starts
        the task that calls advance() once per TICK while it plays."""
        self._open = open_feed
        self.start = start
        self.end = end
        self._memory = memory
        self._wake = wake
        self._lock = threading.RLock()
        self._playhead = Playhead(start)
        self._feeds: dict[Any, PlayedFeed] = {}
        self._speed = 1
        self._ticked = self._made = self._seen = monotonic()
        self._passed: deque[tuple[float, float, float]] = (
            deque()
        )  # of each step: when, seconds since the last, seconds that counted
        self._watchers = Watchers()

    @property
    def moment(self) -> int:
        """The current position, ns since the epoch, UTC. Rows stored before it are shown."""
        return self._playhead.moment

    @property
    def playing(self) -> bool:
        """True while it plays."""
        return self._playhead.playing

    @property
    def speed(self) -> int:
        """The chosen speed as a multiple of real time, one of SPEEDS."""
        return self._speed

    @property
    def held_to(self) -> float | None:
        """The actual speed as a multiple of real time, if viewers or the machine cannot keep up with the
        chosen one; otherwise None."""
        with self._lock:
            real, counted = (sum(each[i] for each in self._passed) for i in (1, 2))
        if not self.playing or real < MEASURED / 2 or counted >= UNHELD * real:
            return None
        return self._speed * counted / real

    @property
    def is_loading(self) -> bool:
        """True while it waits for rows of the stretch that are being loaded."""
        now = monotonic()
        return any(feed.is_loading and now - feed.last_read < UNREAD for feed in self._known())

    def play(self, speed: int | None = None) -> None:
        """Play at `speed`, by default the last one. At the end of the stretch, it begins again at the start.
        Raises LookbackError if `speed` is none of SPEEDS."""
        if speed is not None:
            self.set_speed(speed)
        with self._lock:
            if self.moment >= self.end:
                self._move(self.start)
            self._ticked = self._seen = monotonic()
            self._passed.clear()
            self._playhead.playing = True
        self._wake()
        self._notify()

    def set_speed(self, speed: int) -> None:
        """Set the speed. Raises LookbackError if it is none of SPEEDS."""
        if speed not in SPEEDS or isinstance(speed, bool):
            offered = ", ".join(map(str, SPEEDS))
            raise LookbackError(f"The speed {speed!r} is not valid. A playback goes {offered} times as fast.")
        with self._lock:
            self._speed = int(speed)
            self._passed.clear()
        self._notify()

    def pause(self) -> None:
        """Pause it."""
        with self._lock:
            self._playhead.playing = False
        self._notify()

    def jump(self, moment: int) -> None:
        """Move to `moment` (ns since the epoch, UTC), or to the nearest moment of the stretch. After a move
        back, feeds that were returned before no longer update: call feed() again."""
        with self._lock:
            self._move(min(self.end, max(self.start, moment)))
        self._notify()

    def step(self, count: int) -> None:
        """Pause, and move forward until `count` more messages of the feeds are shown. A negative count moves
        back until that many fewer are shown. Messages stored at the same nanosecond are one step."""
        with self._lock:
            self._playhead.playing = False
            feeds = self._current()
            # Each of them may have all of the next messages.
            times = [feed.stored_near(self.moment, abs(count), after=count > 0) for feed in feeds]
            near = np.unique(np.concatenate([*times, np.zeros(0, dtype=np.int64)]))
            near = near[(near >= self.start) & (near < self.end)]
            if count > 0:
                self._move(int(near[min(count, len(near)) - 1]) + 1 if len(near) else self.end)
            elif count < 0:
                self._move(int(near[max(0, len(near) + count)]) if len(near) else self.start)
        self._notify()

    def density(self, places: int = PLACES) -> list[int]:
        """The number of loaded rows of the feeds in each of `places` equal parts of the stretch, by storage
        time. Empty if there is no feed yet, or none since a move back."""
        feeds = self._current()
        if not feeds:
            return []
        edges = self.start + (self.end - self.start) * np.arange(places + 1, dtype=np.int64) // places
        total = np.zeros(places, dtype=np.int64)
        for feed in feeds:
            total += feed.stored_between(edges)
        return [int(count) for count in total]

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` after each change of its moment or state, from any thread, so it must return at
        once. Returns a function that ends this."""
        return self._watchers.add(changed)

    def feed(
        self,
        stream: str | None,
        subject: str | Sequence[str] | None = None,
        *,
        look_back: Duration = "PT5M",
        **others: Any,
    ) -> PlayedFeed | NamedFeed:
        """A feed with the rows of `stream` as of the playback's moment. It takes the arguments of
        Client.feed, except `end`, and raises the same errors. Equal arguments return the same feed, until the
        playback moves back."""
        length = parse_duration(look_back)
        # Far enough that the look-back is complete even at the start of the stretch.
        reach = min(LONGEST, length + pd.Timedelta(self.end - self.start, unit="ns"))
        end = pd.Timestamp(self.end, tz="UTC")
        found = self._open(stream, subject, look_back=reach, end=end, **others)
        if isinstance(found, NamedFeed):
            assert isinstance(found.unnamed, Feed)
            return named(self._played(found.unnamed, length), found.names)
        return named(self._played(found, length), ())

    # -- for the client ----------------------------------------------------------------------------------
    def advance(self, now: float) -> bool:
        """Move the clock to `now` (seconds, monotonic). False if it does not play."""
        with self._lock:
            if not self.playing:
                return False
            since, self._ticked = now - self._ticked, now
            known = self._known()
            seen = bool(self._watchers) or any(now - feed.last_read < UNREAD for feed in known)
            self._seen = now if seen else self._seen
            if now - self._seen >= UNREAD:
                self._playhead.playing = False
                return False
            if self.is_loading or (not known and now - self._made < FIRST_FEED):
                return True
            held = self._speed > 1 and any(feed.is_late(now - LATE) for feed in known)
            counted = 0.0 if held else min(since, LONGEST_STEP)
            self._passed.append((now, since, counted))
            while self._passed[0][0] < now - MEASURED:
                self._passed.popleft()
            self._playhead.moment = min(self.end, self.moment + int(counted * 1e9 * self._speed))
            if self.moment >= self.end:
                self._playhead.playing = False
        self._notify()
        return True

    def count_derived(self) -> None:
        """Count the bytes of derived values, and drop feeds without a reader for FORGOTTEN seconds."""
        with self._lock:
            limit = monotonic() - FORGOTTEN
            for key, feed in list(self._feeds.items()):
                if feed.last_read < limit:
                    feed.rest()
                    del self._feeds[key]
                    self._memory.leave(feed)
                else:
                    feed.count_derived()

    # -- below, any thread -------------------------------------------------------------------------------

    def _played(self, of: Feed, look_back: pd.Timedelta) -> PlayedFeed:
        """The played feed of `of`, which reads the whole stretch."""
        with self._lock:
            found = self._feeds.get(of.key)
            if found is None or not found.shows(of):
                found = self._feeds[of.key] = PlayedFeed(of, self._playhead, look_back)
                # Not a method of this playback: the memory would keep the playback alive.
                self._memory.join(found, PlayedFeed.forget_derived)
            found.extend(look_back)
            return found

    def _known(self) -> list[PlayedFeed]:
        return list(self._feeds.values())

    def _current(self) -> list[PlayedFeed]:
        """The feeds with a recent reader, without those of a page that was left. All feeds if none has one,
        because a paused page does not read."""
        now = monotonic()
        return [feed for feed in self._known() if now - feed.last_read < UNREAD] or self._known()

    def _move(self, moment: int) -> None:
        """Needs the lock."""
        self._passed.clear()
        if moment < self.moment:
            # Derived values can only move forward, so a move back needs new feeds.
            playing, self._playhead.playing = self._playhead.playing, False
            self._playhead = Playhead(moment, playing)
            for feed in self._known():
                self._memory.leave(feed)
            self._feeds = {}
            self._made = monotonic()
        else:
            self._playhead.moment = moment

    def _notify(self) -> None:
        now = monotonic()
        for feed in self._known():
            feed.moved(now)
        self._watchers.notify()


class Playbacks:
    """All playbacks of a client, and the task on its loop that advances those that are playing."""

    def __init__(self, loop: asyncio.AbstractEventLoop, memory: Memory) -> None:
        self._loop = loop
        self._memory = memory
        self._all: weakref.WeakSet[Playback] = weakref.WeakSet()
        self._task: asyncio.Task[None] | None = None
        self._lock = threading.Lock()

    def add(self, start: int, end: int, open_feed: Opener) -> Playback:
        """Create a playback. Any thread may call it."""
        playback = Playback(start, end, open_feed, self._memory, self._wake)
        with self._lock:
            self._all.add(playback)
        return playback

    def count_derived(self) -> None:
        """Count the bytes of derived values."""
        for playback in self._there():
            playback.count_derived()

    async def close(self) -> None:
        """End the task."""
        if self._task is not None:
            await end_tasks([self._task])

    def _there(self) -> list[Playback]:
        with self._lock:
            return list(self._all)

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the client is closed, and its loop with it
            self._loop.call_soon_threadsafe(self._start)

    def _start(self) -> None:
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._move(), name="playback")

    async def _move(self) -> None:
        while self._advance():  # noqa: ASYNC110 - a clock
            await asyncio.sleep(TICK)

    def _advance(self) -> bool:
        """Advance all playbacks; True if one is playing. Not part of the task itself, whose variables would
        keep the last playback alive while the task sleeps."""
        moved = [playback.advance(monotonic()) for playback in self._there()]
        return any(moved)
