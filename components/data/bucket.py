"""A key-value bucket as a page sees it during one refresh."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd

from nats_client import Entry, PastBucket, PlayedBucket, Values, Watch, WatchHealth

from .reads import NothingYet


@dataclass(frozen=True, eq=False)
class Bucket(Mapping[str, Any]):
    """A key-value bucket as a page sees it during one refresh: a mapping from key to value, in alphabetical
    order.

    Until the bucket has been read once, its contents are unknown: any access raises NothingYet, and the frame
    ends the page there. With `optional` the mapping is empty instead.
    """

    watch: "Watch | PastBucket | PlayedBucket" = field(repr=False)
    snapshot: Values = field(repr=False)
    now: int
    """The time of the values, ns since the epoch, UTC: the server's clock, or a time in the past."""
    health: WatchHealth
    optional: bool = False
    """True if the page works without this bucket."""
    shown_empty: list[str] = field(default_factory=list, repr=False)
    """Not empty once the page itself has said that the bucket is not read yet. Otherwise the frame says
    it."""

    @property
    def again(self) -> "Callable[[], Bucket]":
        """A function that returns this bucket's current state when called."""
        return partial(look_at, self.watch, optional=self.optional)

    @property
    def waiting(self) -> bool:
        """True if the bucket has not been read yet and the page needs it."""
        return not (self.snapshot.version or self.optional)

    @property
    def _known(self) -> Values:
        """The values. Raises NothingYet."""
        if self.waiting:
            raise NothingYet(self)
        return self.snapshot

    def __getitem__(self, key: str) -> Any:
        return self._known[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, key: object) -> bool:
        return key in self._known

    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`, or `default` if there is no such key."""
        return self._known.get(key, default)

    @property
    def complete(self) -> bool:
        """True if all keys of the bucket are held. If not, reading a key that is not held sends a request to
        the server, and len() and iteration raise TooManyKeys."""
        return self._known.complete

    @property
    def past(self) -> bool:
        """True if the values are from a time in the past, `now`."""
        return not isinstance(self.watch, Watch)

    @property
    def unknown(self) -> Mapping[str, int]:
        """In the past, the keys whose values at that time are unknown. Each has the time at which the
        bucket's history of it begins, ns since the epoch, UTC."""
        return self._known.unknown

    def entries(self, search: str = "", *, deleted: bool = False) -> list[Entry]:
        """The newest revision of each held key that contains `search`, ignoring case. `deleted` includes keys
        whose delete marker the bucket still keeps."""
        wanted = search.strip().lower()
        return [entry for entry in self._known.entries(deleted=deleted) if wanted in entry.key.lower()]

    def frame(self) -> pd.DataFrame:
        """One row per key: `key`, `value` (text, at most 300 characters), `revision`, `updated` (UTC), `age`
        (a Timedelta), `operation`."""
        return self._known.frame(self.now)


def look_at(watch: Watch | PastBucket | PlayedBucket, *, optional: bool) -> Bucket:
    """The current state of the bucket of `watch`."""
    return Bucket(watch, watch.snapshot(), watch.now(), watch.health, optional)
