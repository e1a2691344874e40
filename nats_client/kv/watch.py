"""Keeps the values of a key-value bucket current, whatever happens to it.

It uses the same consumer as feeds, which delivers every write. Removals that nothing announces (the bucket's
TTL, a purge of the stream, a message deleted by an administrator) are found by requesting the stream's state
every two seconds.
"""

import asyncio
import threading
import time
from collections import OrderedDict
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any

from ..connection.connection import Connection, end_tasks
from ..decoding.decoders import Raw
from ..errors import (
    ClosedError,
    LookbackError,
    RequestFailed,
    RequestRefused,
    TooManyKeys,
)
from ..events import Event
from ..feeds.reconcile import look_again
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
"""Bytes that a key takes in memory beside its name and its value."""
MOST_ASKED = 1_000
"""Keys beyond the ceiling whose values are kept once they were asked for, one by one."""
ASKED_SHARE = 0.1
"""Of a mapping's ceiling in bytes, what those may have together."""
ASK_TIMEOUT = 8.0
"""Seconds that a reader waits for such a key."""


@dataclass(frozen=True)
class WatchHealth:
    """The state of a watch: can its values be trusted?"""

    name: str
    """The bucket."""
    phase: Phase
    """"connecting", "replaying" (the first state is under way), "following" (live), "reconnecting" or
    "stopped"."""
    since: float
    """When this phase began, seconds since the epoch."""
    why: LookbackError | None
    """Why it is neither replaying nor following."""
    keys: int
    """Keys held; those whose deletion the bucket still keeps count as well."""
    bytes: int
    """What they take in memory, roughly."""
    left_out: int
    """Keys that are not in the mapping because it is full."""
    restarts: int
    """Times that the consumer was made anew."""
    hindered: LookbackError | None = None
    """Why it is read in steps of about a megabyte a second, if it is."""
    by_sequence: str | None = None
    """Why it is read by sequence, if it is, as in Health."""


class Watch:
    """Keeps the values of one bucket. Made by `Client.values`, shared by all who ask for the same bucket;
    reading it keeps it alive."""

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
        self._anew: dict[str, Entry] | None = {}  # a reading from the beginning, shown when it is complete
        self._bytes = 0  # of the newest reading, which may be under way
        self._before = 0  # of what is shown until it is complete
        self._asked_bytes = 0
        self._full_at: tuple[int, int] | None = None  # keys and bytes when there was no room for another
        self._partial = False  # whether what is shown lacks keys
        self._closed = False
        self._settled = threading.Event()
        self._state: tuple[int, ...] = ()  # of the stream, as at the last look
        self._deleted: set[int] = set()  # sequences in the middle of the stream that it no longer holds
        self._suspects: dict[str, int] = {}  # revisions that it did not hold at the last look
        self._surplus = 0  # subjects of the stream beyond our keys
        self._left_out = 0
        self._connection = connection
        self._loop = loop
        self._asked: OrderedDict[str, Entry | None] = OrderedDict()  # of keys that are not held
        self._asking: dict[str, asyncio.Task[Entry | None]] = {}
        self._consumer = _BucketConsumer(connection, BUCKET + bucket, f"$KV.{bucket}.>", None, self)
        self._consumer.changed = self._on_change
        self._tasks = [
            loop.create_task(self._consumer.run(), name=f"bucket {bucket}"),
            loop.create_task(look_again(self._consumer, self._look), name=f"audit of bucket {bucket}"),
        ]

    def now(self) -> int:
        """The server's clock, ns since the epoch, UTC."""
        return self._consumer.now()

    def snapshot(self) -> Values:
        """The values as they are now; the same object until something changes. Raises ClosedError after the
        watch was closed."""
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
            raise ClosedError(f"The watch of {self.bucket!r} is closed. Ask the client for it again.")

    def ask(self, key: str) -> Entry | None:
        """The newest revision of a key that is not held, None where there is none; kept until it changes.
        Raises SubjectError on what is no key, NotPermitted, and TooManyKeys when the server can't answer."""
        future = asyncio.run_coroutine_threadsafe(self._newest(check_key(key)), self._loop)
        try:
            return future.result(ASK_TIMEOUT)
        except (FutureTimeoutError, TimeoutError, RequestFailed) as error:
            future.cancel()
            if isinstance(error, RequestRefused):
                raise
            raise TooManyKeys(
                f"The bucket {self.bucket!r} has more keys than its mapping may hold, and {key!r} "
                f"can't be asked for at the moment. {error}".strip()
            ) from None

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for the first state, or its failure; whether either is there."""
        return self._settled.wait(timeout)

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
            hindered=self._consumer.hindered,
            by_sequence=self._consumer.by_sequence,
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the values, roughly; while the bucket is read anew, of what is shown meanwhile as well."""
        return self._bytes + self._before + self._asked_bytes

    def shrink(self, nbytes: int, ceiling: int) -> None:
        """Take in no more than `nbytes`, since all that the process holds may be `ceiling`. What is there
        stays."""
        self._max_bytes = min(self._own_most, nbytes)

    def relax(self) -> None:
        """Hold as much as it may by itself."""
        self._max_bytes = self._own_most

    @property
    def events(self) -> tuple[Event, ...]:
        """The newest things that happened to it, oldest first, with their reasons."""
        return self._consumer.events.newest

    # -- on the client's loop ----------------------------------------------------------------------------

    def room(self) -> None:
        """All keys are read: which of them are kept is decided here."""

    def left_out(self, count: int, until: int) -> None:
        """Never: there is room for all."""

    def messages(self, raw: Raw) -> None:
        """Take what was written."""
        with self._lock:
            entries = self._entries if self._anew is None else self._anew
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
            if self._anew is None:
                self._version += 1
                self._partial = self._full_at is not None

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
        self._asked[key] = None  # so that a newer revision that comes meanwhile is noted
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
        """Replay: the bucket is another one now, or in doubt. Readers see the old values until it is done."""
        if self._anew is None:
            self._before = self._bytes
        self._anew, self._bytes, self._full_at = {}, 0, None
        self._forget_asked()
        self._suspects, self._state = {}, ()

    def gone(self, count: int, start: int, end: int) -> None:
        """A no-op: only the newest revision of each key matters."""

    def back_to(self, seq: int, stored: int) -> None:
        """Replay, because keys may have been left out."""
        self._consumer.start_over(f"the consumer of the bucket {self.bucket!r} was changed")

    async def close(self) -> None:
        """End the consumer and forget the values; a snapshot that somebody holds keeps its own."""
        with self._lock:
            self._closed = True
        self._settled.set()
        await end_tasks([*self._tasks, *self._asking.values()])
        with self._lock:
            self._entries, self._anew, self._latest = {}, None, Values(self.bucket, 0, {})
            self._bytes = self._before = 0
            self._forget_asked()

    def _put(self, entries: dict[str, Entry], entry: Entry) -> None:
        self._drop(entries, entry.key)  # where there is no room, the old value must not stand for the new one
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
        if self._consumer.phase == "following" and self._anew is not None:
            with self._lock:
                if self._anew != self._entries or not self._version:
                    self._version += 1
                self._entries, self._anew, self._before = self._anew, None, 0
                self._partial = self._full_at is not None
        if self._consumer.phase in ("following", "stopped"):
            self._settled.set()

    async def _look(self) -> None:
        """Compare with the stream's state, and find removals that nothing announced."""
        state = (await self._consumer.look())["state"]
        self._left_out = max(0, _number(state, "num_subjects") - len(self._entries))
        now = tuple(_number(state, name) for name in ("first_seq", "last_seq", "num_deleted", "num_subjects"))
        if now == self._state and not self._suspects:
            return
        if self._asked and (self._state[:1], self._state[2:]) != (now[:1], now[2:]):
            self._forget_asked()  # what was asked for one by one may have left
            with self._lock:
                self._version += 1
        self._deleted = {seq for seq in self._deleted if seq >= now[0]}
        if len(self._deleted) != now[2] <= MOST_DELETED:
            state = (await self._consumer.look(deleted=True))["state"]
            self._deleted = set(state.get("deleted") or ())
        elif now[2] > MOST_DELETED:
            self._deleted = set()
        first, last, subjects = (_number(state, name) for name in ("first_seq", "last_seq", "num_subjects"))
        for _ in range(10):
            if caught_up := (self._consumer.last_seq or 0) >= last:
                break
            await asyncio.sleep(0.1)
        if self._anew is not None or self._consumer.phase != "following" or self._consumer.pending:
            return
        left = self._find_gone(first, caught_up)
        if (self._consumer.last_seq or 0) == last:
            self._state = now
            if self._full_at and subjects <= len(self._entries) - len(left):
                self._full_at = None  # what was left out has gone, or has come in
            surplus = 0 if self._full_at else subjects - len(self._entries) + len(left)
            known, self._surplus = self._surplus, surplus
            if surplus not in (0, known):  # what is left after a reading are subjects that are no keys
                self._consumer.start_over(f"keys have left the bucket {self.bucket!r}")
                return
        with self._lock:
            for key in left:
                self._drop(self._entries, key)
            self._version += bool(left) or self._partial != (self._full_at is not None)
            self._partial = self._full_at is not None
        if self._has_room():
            self._consumer.start_over(f"there is room for more keys of {self.bucket!r}")

    def _find_gone(self, first: int, caught_up: bool) -> list[str]:
        """Keys whose revision the stream no longer holds. Until the watch has caught up, a newer revision may
        still arrive. If it has not by the next check, it never will: the stream's last message may be gone,
        too."""
        gone = {
            key: entry.revision
            for key, entry in self._entries.items()
            if entry.revision < first or entry.revision in self._deleted
        }
        left = [key for key in gone if caught_up or self._suspects.get(key) == gone[key]]
        self._suspects = {} if caught_up else gone
        return left

    def _has_room(self) -> bool:
        """Whether keys that were left out may fit in now."""
        if self._full_at is None:
            return False
        keys, size = self._full_at
        return len(self._entries) < 0.9 * keys or self._bytes < 0.9 * size


class _BucketConsumer(Consumer):
    """A consumer of a bucket, also of one whose messages have the subjects of others."""

    async def look(self, *, deleted: bool = False) -> dict[str, Any]:
        """As Consumer.look; the filter is then what this bucket needs."""
        info = await super().look(deleted=deleted)
        wanted = filter_of(self._stream.removeprefix(BUCKET), ">", info["config"])
        known, self._subject = self._subject, wanted
        if wanted != known and self.done:
            self.start_over("the bucket takes from other buckets now")
        return info


def _number(state: dict[str, Any], name: str) -> int:
    return int(state.get(name) or 0)


def _size(entry: Entry) -> int:
    return ENTRY_SIZE + len(entry.key) + len(entry.payload)
