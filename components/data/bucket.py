"""What a page sees of a key-value bucket during one refresh."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from nats_client import Entry, Values, Watch, WatchHealth

from .live import NothingYet


@dataclass(frozen=True, eq=False)
class Bucket(Mapping[str, Any]):
    """What a page sees of a bucket during one refresh: a mapping from key to value, in alphabetical order.

    Until the bucket has been read for the first time, nobody knows what is in it: whatever asks raises
    NothingYet then, with which the frame ends the page there. With `optional` it is empty instead.
    """

    watch: Watch = field(repr=False)
    snapshot: Values = field(repr=False)
    now: int
    """The server's clock, ns since the epoch, UTC."""
    health: WatchHealth
    optional: bool = False
    """Whether the page can do without it."""
    told: list[str] = field(default_factory=list, repr=False)
    """Where the page says that it has not been read; the frame does where nothing else has."""

    @property
    def waiting(self) -> bool:
        """Whether it has not been read yet, and the page cannot do without it."""
        return not (self.snapshot.version or self.optional)

    @property
    def _known(self) -> Values:
        """What it holds. Raises NothingYet."""
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
        """The value of `key`; `default` where there is none."""
        return self._known.get(key, default)

    @property
    def complete(self) -> bool:
        """Whether all keys of the bucket are held. Where they are not, the server is asked for each key that
        is read and not held, and len() and iteration raise TooManyKeys."""
        return self._known.complete

    def entries(self, search: str = "", *, deleted: bool = False) -> list[Entry]:
        """The newest revision of each key that is held and contains `search`, in whatever case; with
        `deleted`, also of the keys whose deletion the bucket still keeps."""
        wanted = search.strip().lower()
        return [entry for entry in self._known.entries(deleted=deleted) if wanted in entry.key.lower()]

    def frame(self) -> pd.DataFrame:
        """A row for each key: `key`, `value` (text, at most 300 characters), `revision`, `updated` (UTC),
        `age` (a Timedelta), `operation`."""
        return self._known.frame(self.now)
