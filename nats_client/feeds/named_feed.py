"""A feed with names for the tokens of its subject."""

from collections.abc import Callable, Collection, Hashable
from typing import overload

import pandas as pd

from ..events import Event
from ..table.snapshot import Snapshot
from ..table.window import Window
from .derived import Derived, S
from .feed import Feed
from .health import FeedKey, Health, Message
from .played_feed import PlayedFeed


@overload
def named(feed: Feed, names: tuple[str, ...]) -> "Feed | NamedFeed": ...
@overload
def named(feed: PlayedFeed, names: tuple[str, ...]) -> "PlayedFeed | NamedFeed": ...
def named(feed: Feed | PlayedFeed, names: tuple[str, ...]) -> "Feed | PlayedFeed | NamedFeed":
    """`feed` with names for tokens of its subject, as in subjects.Pattern. Consumer and window are shared."""
    if not any(names):
        return feed
    return feed.by_names.once(names, None, lambda: NamedFeed(feed, names))


class NamedFeed(Derived):
    """A view of a feed in which tokens of the subject have names. It shares the feed's consumer and window,
    but has its own derived values, because those depend on the names."""

    def __init__(self, feed: Feed | PlayedFeed, names: tuple[str, ...]) -> None:
        super().__init__()
        self._feed = feed
        self.names = names

    def counted(self, made: S) -> S:
        """See Derived. The shared feed counts them, because it may drop this view while pages still use
        it."""
        return self._feed.counted(made)

    @property
    def key(self) -> FeedKey:
        """The feed's key."""
        return self._feed.key

    @property
    def name_key(self) -> tuple[FeedKey, tuple[str, ...]]:
        """See Feed."""
        return self.key, self.names

    @property
    def window(self) -> Window:
        """The feed's window, without names for tokens."""
        return self._feed.window

    @property
    def unnamed(self) -> Feed | PlayedFeed:
        """The feed, without names for tokens."""
        return self._feed

    @property
    def stretch(self) -> "Feed | NamedFeed | None":
        """In a playback: the feed of the whole stretch, with the same names. Otherwise None."""
        return named(self._feed.stretch, self.names) if isinstance(self._feed, PlayedFeed) else None

    @property
    def look_back(self) -> pd.Timedelta:
        """How far back the feed reaches."""
        return self._feed.look_back

    @property
    def health(self) -> Health:
        """The feed's current health."""
        return self._feed.health

    @property
    def events(self) -> tuple[Event, ...]:
        """See Feed."""
        return self._feed.events

    def health_of(self, look_back: pd.Timedelta) -> Health:
        """See Feed."""
        return self._feed.health_of(look_back)

    @property
    def last_read(self) -> float:
        """When the feed was last read, on the monotonic clock."""
        return self._feed.last_read

    def now(self) -> int:
        """The server's clock, ns since the epoch, UTC."""
        return self._feed.now()

    def snapshot(self) -> Snapshot:
        """The rows within the look-back, with the named tokens as text columns. Raises ClosedError."""
        return self._feed.snapshot().named(self.names)

    def frame(self) -> pd.DataFrame:
        """`snapshot().frame()`."""
        return self.snapshot().frame()

    def newest(self) -> list[Message]:
        """The newest raw messages; see Feed. Raises ClosedError."""
        return self._feed.newest()

    def wait(self, timeout: float, look_back: pd.Timedelta | None = None) -> bool:
        """See Feed."""
        return self._feed.wait(timeout, look_back)

    def want(self, reader: Hashable) -> None:
        """See Feed."""
        self._feed.want(reader)

    def stop(self, reader: Hashable) -> None:
        """See Feed."""
        self._feed.stop(reader)

    def read_before(self, moment: int, split_by: Collection[str], take: Callable[[Snapshot], None]) -> None:
        """See Derived."""
        others = set(split_by) - set(self.names)
        self._feed.read_before(moment, others, lambda rows: take(rows.named(self.names)))

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """See Feed."""
        return self._feed.watch(changed)
