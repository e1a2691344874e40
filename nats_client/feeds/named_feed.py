"""A feed whose readers have names for the tokens of its subject."""

import pandas as pd

from ..events import Event
from ..table.snapshot import Snapshot
from ..table.window import Window
from .derived import Derived
from .feed import Feed
from .health import FeedKey, Health, Message


def named(feed: Feed, names: tuple[str, ...]) -> "Feed | NamedFeed":
    """`feed` with names for tokens of its subject, as in subjects.Pattern: the same consumer and the same
    window."""
    if not any(names):
        return feed
    return feed.by_names.once(names, None, lambda: NamedFeed(feed, names))


class NamedFeed(Derived):
    """A feed in which tokens of the subject have names. What is worked out of the rows goes by these names,
    so it is kept by itself; consumer and window are those of the feed."""

    def __init__(self, feed: Feed, names: tuple[str, ...]) -> None:
        super().__init__()
        self._feed = feed
        self.names = names

    @property
    def key(self) -> FeedKey:
        """Of the feed."""
        return self._feed.key

    @property
    def name_key(self) -> tuple[FeedKey, tuple[str, ...]]:
        """As of a Feed."""
        return self.key, self.names

    @property
    def window(self) -> Window:
        """Of the feed; its tokens have no names."""
        return self._feed.window

    @property
    def look_back(self) -> pd.Timedelta:
        """How far back the feed reaches."""
        return self._feed.look_back

    @property
    def health(self) -> Health:
        """How the feed is doing at this moment."""
        return self._feed.health

    @property
    def events(self) -> tuple[Event, ...]:
        """As of a Feed."""
        return self._feed.events

    def health_of(self, look_back: pd.Timedelta) -> Health:
        """As of a Feed."""
        return self._feed.health_of(look_back)

    @property
    def last_read(self) -> float:
        """When anybody last read the feed, on the monotonic clock."""
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
        """The newest messages as they came. Raises ClosedError."""
        return self._feed.newest()

    def wait(self, timeout: float, look_back: pd.Timedelta | None = None) -> bool:
        """As of a Feed."""
        return self._feed.wait(timeout, look_back)
