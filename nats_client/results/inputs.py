"""Inputs of SQL: rows of feeds, values of buckets, rows of queries, other results, and pandas tables."""

import hashlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Protocol

import pandas as pd

from ..errors import TooManyKeys
from ..feeds.feed import Feed
from ..feeds.health import Health
from ..feeds.named_feed import NamedFeed
from ..feeds.played_feed import PlayedFeed
from ..kv.past import PastBucket, PlayedBucket
from ..kv.values import Values
from ..kv.watch import Watch
from ..requests.query import Query
from ..requests.result_table import with_times
from ..sql.arrow import Table
from ..table.snapshot import Snapshot


class Moment:
    """The tables of one calculation. Each window is read once, so two tables of the same window always have
    the same version."""

    def __init__(self) -> None:
        self._windows: dict[int, tuple[int, Snapshot]] = {}

    def rows(self, feed: Feed | NamedFeed | PlayedFeed, look_back: pd.Timedelta) -> Snapshot:
        """The rows of a feed. Raises ClosedError."""
        names, shared = (feed.names, feed.unnamed) if isinstance(feed, NamedFeed) else ((), feed)
        if id(shared) not in self._windows:
            self._windows[id(shared)] = shared.now(), shared.snapshot()
        now, rows = self._windows[id(shared)]
        return rows.named(names).since(now - look_back.value)


class Input(Protocol):
    """A table that SQL can read. Equal inputs are the same table, for readers with the same rights."""

    @property
    def name_key(self) -> object:
        """An identifier that stays the same after a restart of the app."""

    @property
    def look_back(self) -> pd.Timedelta | None:
        """How far back it reaches; None if it has no time."""

    def take(self, moment: Moment) -> tuple[Hashable, Table]:
        """A state that changes whenever the rows change, and the rows. Raises LookbackError."""

    def now(self) -> int | None:
        """The server's clock, ns since the epoch, UTC; None if it has none."""

    def health(self) -> Health | None:
        """The state of its feed; None if it has none."""

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed`, from any thread, when the rows may have changed. Returns a function that ends this.
        Inputs that never call it are polled once a second."""


@dataclass(frozen=True)
class Rows:
    """The rows of a feed."""

    feed: Feed | NamedFeed | PlayedFeed
    look_back: pd.Timedelta

    @property
    def name_key(self) -> object:
        """See Input."""
        return self.feed.name_key, self.look_back.value

    def take(self, moment: Moment) -> tuple[Hashable, Table]:
        """See Input."""
        rows = moment.rows(self.feed, self.look_back)
        return (rows.generation, rows.version, rows.first, len(rows)), rows

    def now(self) -> int | None:
        """See Input."""
        return self.feed.now()

    def health(self) -> Health | None:
        """See Input."""
        return self.feed.health_of(self.look_back)

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """See Input."""
        return self.feed.watch(changed)


class _Still:
    """An input that never notifies its watchers."""

    look_back: pd.Timedelta | None = None

    def now(self) -> int | None:
        """None."""
        return None

    def health(self) -> Health | None:
        """None."""
        return None

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Never calls `changed`."""
        return lambda: None


class _Kept:
    """Caches the last table, since an input is read more often than it changes."""

    def __init__(self) -> None:
        self._last: tuple[object, Table] | None = None

    def get(self, of: object, make: Callable[[], Table]) -> Table:
        """The table of `of`; the same object until `of` changes."""
        if self._last is None or self._last[0] is not of:
            self._last = of, make()
        return self._last[1]


@dataclass(frozen=True)
class BucketValues(_Still):
    """The values of a bucket, with the columns `key`, `value` and `_time`. If all values are objects, their
    fields replace `value`. A field named `key` or `_time` becomes `payload{name}`."""

    bucket: Watch | PastBucket | PlayedBucket
    _kept: _Kept = field(default_factory=_Kept, compare=False, repr=False)

    @property
    def name_key(self) -> object:
        """See Input."""
        return self.bucket.health.name

    def take(self, moment: Moment) -> tuple[Hashable, Table]:
        """See Input. Raises ClosedError, and TooManyKeys if the bucket has more keys than are held."""
        values = self.bucket.snapshot()
        if not values.complete:
            raise TooManyKeys(
                f"The bucket {values.bucket!r} has more keys than the {values.held:,} held here, so SQL "
                "cannot read it: a part of the keys would give wrong results. Read single keys by name."
            )
        return values.version, self._kept.get(values, lambda: _table_of(values))


@dataclass(frozen=True)
class AnswerRows(_Still):
    """The rows of a query so far."""

    query: Query
    _kept: _Kept = field(default_factory=_Kept, compare=False, repr=False)

    @property
    def name_key(self) -> object:
        """See Input."""
        return self.query.subject

    def take(self, moment: Moment) -> tuple[Hashable, Table]:
        """See Input. Raises ClosedError, and AnswerBroken."""
        frame = self.query.frame()
        return len(frame), self._kept.get(frame, lambda: with_times(frame))


@dataclass(frozen=True)
class Given(_Still):
    """A pandas table. Tables with equal content are the same input."""

    frame: pd.DataFrame = field(compare=False, repr=False)
    content: bytes

    @classmethod
    def of(cls, frame: pd.DataFrame) -> "Given":
        """An input with the present content of `frame`."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr((list(frame.columns), list(frame.dtypes), frame.index.names)).encode())
        plain = frame.reset_index()
        for name in plain.columns:
            column = plain[name]
            if column.dtype == object:
                column = column.map(repr)
            digest.update(pd.util.hash_pandas_object(column, index=False).to_numpy().tobytes())
        return cls(frame.copy(deep=False), digest.digest())

    @property
    def name_key(self) -> object:
        """See Input."""
        return tuple(map(str, self.frame.columns))

    def take(self, moment: Moment) -> tuple[Hashable, Table]:
        """See Input."""
        return None, self.frame


def _table_of(values: Values) -> pd.DataFrame:
    entries = values.entries()
    read = [entry.value for entry in entries]
    frame = pd.DataFrame({"key": pd.Series([entry.key for entry in entries], dtype="str")})
    frame["_time"] = pd.to_datetime([entry.updated for entry in entries], utc=True).as_unit("ns")
    if read and all(isinstance(value, dict) for value in read):
        for name in dict.fromkeys(name for value in read for name in value):
            shown = f"payload{name}" if name in ("key", "_time") else name
            frame[shown] = [value.get(name) for value in read]
    else:
        frame["value"] = read
    return frame
