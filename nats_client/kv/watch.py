"""Keeps the values of a key-value bucket current, whatever happens to it.

It uses the same consumer as feeds, which delivers every write. Some removals come without a message: the
bucket's TTL, a purge of the stream, a message deleted by an administrator. They are found by requesting the
stream's state every two seconds.
"""

import asyncio
import threading
import time
from collections import OrderedDict
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any

from ..connection.connection import Connection, end_tasks
from ..decoding.raw import Raw
from ..errors import (
    ClosedError,
    LookbackError,
    RequestFailed,
    RequestRefused,
    TooManyKeys,
)
from ..events import Event
from ..feeds.reconcile import check_regularly
from ..memory import wait_as_reader
from ..streams.ordered_consumer import Consumer
from ..streams.sink import Phase
from ..streams.stream_list import BUCKET
from ..subjects import check_key
from .buckets import filter_of, key_of, newest_entry, operation_of
from .values import Entry, Values

MOST_DELETED = 10_000
"""Messages deleted in the middle of a bucket's stream up to which the server's list of them is requested. If
there are more, keys are counted instead."""
ENTRY_SIZE = 300
"""Estimated overhead of a key in memory, in bytes, besides its name and value."""
MOST_ASKED = 1_000
"""Maximum number of cached keys beyond the ceiling, each requested when it was read."""
ASKED_SHARE = 0.1
"""Maximum size of that cache, as a share of the watch's ceiling in bytes."""
ASK_TIMEOUT = 8.0
"""Seconds that a reader waits for such a key."""


@dataclass(frozen=True)
class WatchHealth:
    """The state of a watch: can its values be trusted?"""

    name: str
    """The bucket."""
    phase: Phase
    """"connecting", "replaying" (reading the current values), "following" (live), "reconnecting" or
    "stopped"."""
    since: float
    """When this phase began, seconds since the epoch."""
    why: LookbackError | None
    """Why it is neither replaying nor following."""
    keys: int
    """Keys held, including deleted ones whose deletion the bucket still keeps."""
    bytes: int
    """Their estimated size in memory."""
    left_out: int
    """Keys that are not held because the watch is at its ceiling."""
    restarts: int
    """Number of restarts of the consumer."""
    flow_control_denied: LookbackError | None = None
    """Why reading is limited to steps of about a megabyte a second; None if it is not."""
    by_sequence: str | None = None
    """Why the bucket is read by sequence; None if it is not. As in Health."""


class Watch:
    """Keeps the values of one bucket current. Created by `Client.values`, and shared by all readers of the
    bucket. It is closed after some time without a reader."""

    def __init__(
        self,
        connection: Connection,
        loop: asyncio.AbstractEventLoop,
        bucket: str,
        *,
        max_keys: int,
        max_bytes: int,
    ) -> None:
        self.bucket = bucket
        self.opened = self.last_read = time.monotonic()
        self._max_keys = max_keys
        self._max_bytes = self._own_most = max_bytes
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._version = 0
        self._latest = Values(bucket, 0, {})
        self._rebuilt: dict[str, Entry] | None = {}  # the current replay; replaces _entries when complete
        self._bytes = 0  # size of the newest entries, possibly of a replay
        self._before = 0  # size of the entries that readers see during a replay
        self._asked_bytes = 0
        self._full_at: tuple[int, int] | None = None  # keys and bytes when the ceiling was reached
        self._partial = False  # True if readers do not see all keys
        self._closed = False
        self._settled = threading.Event()
        self._state: tuple[int, ...] = ()  # of the stream, at the last check
        self._deleted: set[int] = set()  # sequences deleted in the middle of the stream
        self._suspects: dict[str, int] = {}  # revisions that the stream did not hold at the last check
        self._surplus = 0  # subjects of the stream that are not keys of ours
        self._left_out = 0
        self._connection = connection
        self._loop = loop
        self._asked: OrderedDict[str, Entry | None] = OrderedDict()  # requested keys that are not held
        self._asking: dict[str, asyncio.Task[Entry | None]] = {}
        self._consumer = BucketConsumer(connection, BUCKET + bucket, f"$KV.{bucket}.>", None, self)
        self._consumer.changed = self._on_change
        self._tasks = [
            loop.create_task(self._consumer.run(), name=f"bucket {bucket}"),
            loop.create_task(check_regularly(self._consumer, self._check), name=f"check of bucket {bucket}"),
        ]

    def now(self) -> int:
        """The server's clock, ns since the epoch, UTC."""
        return self._consumer.now()

    def snapshot(self) -> Values:
        """The current values; the same object until something changes. Raises ClosedError if the watch was
        closed."""
        self._check_open()
        self.last_read = time.monotonic()
        latest = self._latest
        if latest.version != self._version:
            with self._lock:
                self._check_open()
                version, entries = self._version, dict(self._entries)
                ask = self.ask if self._partial else None
                latest = self._latest = Values(self.bucket, version, entries, ask)
        return latest

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"The watch of {self.bucket!r} is closed. Open it again with client.values().")

    def ask(self, key: str) -> Entry | None:
        """Request the newest revision of a key that is not held; None if there is none. Cached until it
        changes. Raises SubjectError if `key` is invalid, RequestRefused if the server refuses or the login
        does not permit it, and TooManyKeys if the server does not answer."""
        future = asyncio.run_coroutine_threadsafe(self._newest(check_key(key)), self._loop)
        try:
            return future.result(ASK_TIMEOUT)
        except (FutureTimeoutError, TimeoutError, RequestFailed) as error:
            future.cancel()
            if isinstance(error, RequestRefused):
                raise
            raise TooManyKeys(
                f"The bucket {self.bucket!r} has more keys than are held here, and the key {key!r} "
                f"cannot be requested at the moment. {error}".strip()
            ) from None

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until the bucket has been read, or cannot be. False on a timeout."""
        return wait_as_reader(self, self._settled, timeout)

    @property
    def health(self) -> WatchHealth:
        """The watch's current health."""
        return WatchHealth(
            name=self.bucket,
            phase=self._consumer.phase,
            since=self._consumer.since,
            why=self._consumer.why,
            keys=len(self._entries),
            bytes=self._bytes,
            left_out=self._left_out if self._full_at else 0,
            restarts=self._consumer.restarts,
            flow_control_denied=self._consumer.flow_control_denied,
            by_sequence=self._consumer.by_sequence,
        )

    @property
    def nbytes(self) -> int:
        """Estimated bytes of the values; during a replay, including the old values that readers still see."""
        return self._bytes + self._before + self._asked_bytes

    def shrink(self, nbytes: int, ceiling: int) -> None:
        """Add nothing beyond `nbytes`, because the process may hold at most `ceiling` bytes. Values already
        held stay."""
        self._max_bytes = min(self._own_most, nbytes)

    def relax(self) -> None:
        """Undo `shrink`: only its own ceiling applies again."""
        self._max_bytes = self._own_most

    @property
    def events(self) -> tuple[Event, ...]:
        """The newest events of the watch, oldest first, with their reasons."""
        return self._consumer.events.newest

    # -- on the client's loop ----------------------------------------------------------------------------

    def room(self) -> None:
        """None: the consumer has to deliver all keys, because the watch decides which ones to keep."""

    def left_out(self, count: int, until: int) -> None:
        """Never called, because room() is None."""

    async def messages(self, raw: Raw) -> int:
        """Apply new revisions."""
        with self._lock:
            entries = self._entries if self._rebuilt is None else self._rebuilt
            for seq, stored, subject, payload in zip(
                raw.seq, raw.received, raw.subject, raw.payload, strict=True
            ):
                key = key_of(subject)
                if key is None:
                    continue
                operation = operation_of(raw.headers.get(seq))
                kept = payload if operation == "PUT" else b""
                entry = Entry(key, kept, seq, stored, operation)
                self._put(entries, entry)
                if key in self._asked:
                    self._asked[key] = entry
            if self._rebuilt is None:
                self._version += 1
                self._partial = self._full_at is not None
        return len(raw)

    async def _newest(self, key: str) -> Entry | None:
        if self._consumer.phase != "following":
            raise RequestFailed("The bucket is not live.")
        if key in self._asked:
            self._asked.move_to_end(key)
            return self._asked[key]
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = self._loop.create_task(self._fetch(key))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        await asyncio.wait({asking})
        return asking.result()

    async def _fetch(self, key: str) -> Entry | None:
        self._asked[key] = None  # so that messages() records a newer revision meanwhile
        try:
            found = await newest_entry(self._connection, self.bucket, key, self._consumer.config)
        except BaseException:
            self._asked.pop(key, None)
            raise
        known = self._asked.get(key)
        if found is None or (known is not None and known.revision > found.revision):
            found = known
        if key in self._asked:
            self._asked[key] = found
        size = sum(_size(each) for each in self._asked.values() if each is not None)
        while self._asked and (len(self._asked) > MOST_ASKED or size > ASKED_SHARE * self._max_bytes):
            _, old = self._asked.popitem(last=False)
            size -= 0 if old is None else _size(old)
        self._asked_bytes = size
        return found

    def _forget_asked(self) -> None:
        self._asked.clear()
        self._asked_bytes = 0

    def recreated(self) -> None:
        """Start over, because the bucket is another one, or in doubt. Readers see the old values until the
        replay is complete."""
        if self._rebuilt is None:
            self._before = self._bytes
        self._rebuilt, self._bytes, self._full_at = {}, 0, None
        self._forget_asked()
        self._suspects, self._state = {}, ()

    def gone(self, count: int, start: int, end: int) -> None:
        """A no-op: only the newest revision of each key matters."""

    def back_to(self, seq: int, stored: int) -> None:
        """Start over, because keys may have been left out."""
        self._consumer.start_over(f"the consumer of the bucket {self.bucket!r} was changed")

    async def close(self, why: str) -> None:
        """End the consumer and drop the values. Existing snapshots keep theirs. `why` is the reason in the
        last event."""
        with self._lock:
            self._closed = True
        self._consumer.events.note("closed", why)
        self._settled.set()
        await end_tasks([*self._tasks, *self._asking.values()])
        with self._lock:
            self._entries, self._rebuilt, self._latest = {}, None, Values(self.bucket, 0, {})
            self._bytes = self._before = 0
            self._forget_asked()

    def _put(self, entries: dict[str, Entry], entry: Entry) -> None:
        self._drop(entries, entry.key)  # without room for the new value, the old one must not remain
        size = _size(entry)
        if len(entries) < self._max_keys and self._bytes + size <= self._max_bytes:
            entries[entry.key] = entry
            self._bytes += size
        elif self._full_at is None:
            self._full_at = len(entries), self._bytes

    def _drop(self, entries: dict[str, Entry], key: str) -> None:
        old = entries.pop(key, None)
        if old is not None:
            self._bytes -= _size(old)

    def _on_change(self) -> None:
        if self._consumer.phase == "following" and self._rebuilt is not None:
            with self._lock:
                if self._rebuilt != self._entries or not self._version:
                    self._version += 1
                self._entries, self._rebuilt, self._before = self._rebuilt, None, 0
                self._partial = self._full_at is not None
        if self._consumer.phase in ("following", "stopped"):
            self._settled.set()

    async def _check(self) -> None:
        """Compare with the stream's state, to find removals that no message announces."""
        state = (await self._consumer.fetch_info())["state"]
        self._left_out = max(0, _number(state, "num_subjects") - len(self._entries))
        now = tuple(_number(state, name) for name in ("first_seq", "last_seq", "num_deleted", "num_subjects"))
        if now == self._state and not self._suspects:
            return
        if self._asked and (self._state[:1], self._state[2:]) != (now[:1], now[2:]):
            self._forget_asked()  # requested keys may have been removed
            with self._lock:
                self._version += 1
        self._deleted = {seq for seq in self._deleted if seq >= now[0]}
        if len(self._deleted) != now[2] <= MOST_DELETED:
            state = (await self._consumer.fetch_info(deleted=True))["state"]
            self._deleted = set(state.get("deleted") or ())
        elif now[2] > MOST_DELETED:
            self._deleted = set()
        first, last, subjects = (_number(state, name) for name in ("first_seq", "last_seq", "num_subjects"))
        for _ in range(10):
            if caught_up := (self._consumer.last_seq or 0) >= last:
                break
            await asyncio.sleep(0.1)
        if self._rebuilt is not None or self._consumer.phase != "following" or self._consumer.pending:
            return
        left = self._find_gone(first, caught_up)
        if (self._consumer.last_seq or 0) == last:
            self._state = now
            if self._full_at and subjects <= len(self._entries) - len(left):
                self._full_at = None  # keys that were left out were removed, or are held now
            surplus = 0 if self._full_at else subjects - len(self._entries) + len(left)
            known, self._surplus = self._surplus, surplus
            if surplus not in (0, known):  # a surplus after a replay is subjects that are not keys
                self._consumer.start_over(f"keys have left the bucket {self.bucket!r}")
                return
        with self._lock:
            for key in left:
                self._drop(self._entries, key)
            self._version += bool(left) or self._partial != (self._full_at is not None)
            self._partial = self._full_at is not None
        if self._has_room():
            self._consumer.start_over(f"there is room for more keys of the bucket {self.bucket!r}")

    def _find_gone(self, first: int, caught_up: bool) -> list[str]:
        """Keys whose revision the stream no longer holds. Until the watch has caught up, a newer revision may
        still arrive. If none has arrived by the next check, none will: the stream's last message may also
        have been removed."""
        gone = {
            key: entry.revision
            for key, entry in self._entries.items()
            if entry.revision < first or entry.revision in self._deleted
        }
        left = [key for key in gone if caught_up or self._suspects.get(key) == gone[key]]
        self._suspects = {} if caught_up else gone
        return left

    def _has_room(self) -> bool:
        """True if keys that were left out may fit now."""
        if self._full_at is None:
            return False
        keys, size = self._full_at
        return len(self._entries) < 0.9 * keys or self._bytes < 0.9 * size


class BucketConsumer(Consumer):
    """A consumer of a bucket, which may have a mirror or sources."""

    async def fetch_info(self, *, deleted: bool = False) -> dict[str, Any]:
        """Like Consumer.fetch_info; also updates the filter to the bucket's configuration."""
        info = await super().fetch_info(deleted=deleted)
        wanted = filter_of(self._stream.removeprefix(BUCKET), ">", info["config"])
        known, self._subject = self._subject, wanted
        if wanted != known and self.done:
            self.start_over("the bucket's mirror or sources were changed")
        return info


def _number(state: dict[str, Any], name: str) -> int:
    return int(state.get(name) or 0)


def _size(entry: Entry) -> int:
    return ENTRY_SIZE + len(entry.key) + len(entry.payload)
