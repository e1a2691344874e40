"""The values of a bucket as of an earlier time, as far as its history reaches.

A bucket keeps the newest revisions of each key, at most 64. All kept revisions are read once, by the same
kind of consumer as for a feed, which then ends. The value as of a time is the newest revision that was stored
before it. A key may have existed at that time even if all its kept revisions are later. Its absence is
certain only if none of its revisions can have been removed.
"""

import asyncio
import threading
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ..connection.connection import Connection, end_tasks
from ..decoding.raw import Raw
from ..errors import ClosedError, RequestFailed, TooManyKeys
from ..events import Event
from ..feeds.playback import Playback
from ..memory import wait_as_reader
from ..streams.stream_list import BUCKET
from ..subjects import check_key
from .buckets import key_history, key_of, operation_of
from .values import Entry, Values
from .watch import ASK_TIMEOUT, ENTRY_SIZE, BucketConsumer, WatchHealth

ALL = pd.Timedelta(36_500, unit="D")
"""A look-back that reaches before all revisions."""


@dataclass
class _Key:
    """The revisions of one key that the bucket keeps."""

    first: int
    """When the oldest revision was stored, ns since the epoch, UTC."""
    certain: bool
    """True if there certainly was no earlier revision."""
    removed: bool
    """True if the oldest revision is a purge, which removes all earlier ones."""
    count: int = 0
    stored: list[int] = field(default_factory=list)
    """When each revision before the end was stored, ns since the epoch, UTC."""
    revisions: list[Entry] = field(default_factory=list)
    """The revisions before the end, oldest first."""
    ascends: bool = True
    """False if the server's clock was set back between two of these revisions."""

    def before(self, moment: int) -> list[Entry]:
        """The revisions stored before `moment` (ns since the epoch, UTC), oldest first."""
        if self.ascends:
            return self.revisions[: bisect_left(self.stored, moment)]
        return [each for each, stored in zip(self.revisions, self.stored, strict=True) if stored < moment]

    def newest(self, moment: int) -> Entry | None:
        """The last revision of before(); None if there is none."""
        if self.ascends:
            at = bisect_left(self.stored, moment)
            return self.revisions[at - 1] if at else None
        return next(reversed(self.before(moment)), None)


class _Whole(BucketConsumer):
    """Reads all messages that the bucket has at the first fetch_info(), and ends."""

    async def fetch_info(self, *, deleted: bool = False) -> dict[str, Any]:
        """Like BucketConsumer.fetch_info; the first call also sets the last message to read."""
        info = await super().fetch_info(deleted=deleted)
        if self._until is None:
            self._until = int(info["state"]["last_seq"]) + 1
        return info

    def start_over(self, why: str) -> None:
        """Like BucketConsumer.start_over; the next fetch_info() sets the last message to read."""
        self._until = None
        super().start_over(why)


class PastBucket:
    """A bucket before the time `end` (ns since the epoch, UTC). Created by `Client.values`, and shared by all
    readers of the bucket as of the same time. Thread-safe. It reads the bucket once. Revisions that are later
    removed from the bucket stay here until this is closed, after some time without a reader."""

    def __init__(
        self,
        connection: Connection,
        loop: asyncio.AbstractEventLoop,
        bucket: str,
        end: int,
        *,
        max_keys: int,
        max_bytes: int,
    ) -> None:
        self.bucket = bucket
        self.end = end
        self.opened = self.last_read = time.monotonic()
        self._connection = connection
        self._loop = loop
        self._max_keys = max_keys
        self._max_bytes = self._own_most = max_bytes
        self._lock = threading.Lock()
        self._closed = False
        self._settled = threading.Event()
        self._done = False
        self._forget()
        self._latest: Values | None = None
        self._consumer = _Whole(connection, BUCKET + bucket, f"$KV.{bucket}.>", lambda: ALL, self)
        self._consumer.changed = self._on_change
        self._task = loop.create_task(self._read(), name=f"bucket {bucket} then")

    def now(self) -> int:
        """The end, ns since the epoch, UTC."""
        return self.end

    def snapshot(self, moment: int | None = None) -> Values:
        """The values as of its end, or as of an earlier `moment` (ns since the epoch, UTC); the same object
        until they differ. Raises ClosedError if it was closed."""
        if self._closed:
            raise ClosedError(f"The bucket {self.bucket!r} is closed. Open it again with client.values().")
        self.last_read = time.monotonic()
        moment = self.end if moment is None else min(moment, self.end)
        with self._lock:
            if not self._done:
                return Values(self.bucket, 0, {})
            version = 1 + bisect_left(self._times, moment)
            if self._latest is None or self._latest.version != version:
                self._latest = self._as_of(version, moment)
            return self._latest

    def history(self, key: str, moment: int | None = None) -> list[Entry]:
        """The kept revisions of `key` that were stored before `moment` (ns since the epoch, UTC; by default
        the end), oldest first."""
        moment = self.end if moment is None else moment
        with self._lock:
            held = self._keys.get(key)
            return [] if held is None else held.before(moment)

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until the bucket has been read, or cannot be. False on a timeout."""
        return wait_as_reader(self, self._settled, timeout)

    @property
    def kept_since(self) -> int | None:
        """The time before which revisions had expired when the bucket was read, ns since the epoch, UTC. None
        if revisions do not expire, or if the bucket has not been read yet."""
        age = int(self._consumer.config.get("max_age") or 0)
        return self._read_at - age if age and self._done else None

    @property
    def health(self) -> WatchHealth:
        """Its state; "following" once it has been read."""
        consumer = self._consumer
        return WatchHealth(
            name=self.bucket,
            phase="following"
            if self._done
            else "replaying"
            if consumer.phase == "following"
            else consumer.phase,
            since=consumer.since,
            why=consumer.why,
            keys=len(self._keys),
            bytes=self._bytes,
            left_out=len(self._left_out),
            restarts=consumer.restarts,
            flow_control_denied=consumer.flow_control_denied,
            by_sequence=consumer.by_sequence,
        )

    @property
    def nbytes(self) -> int:
        """Estimated bytes of the revisions."""
        return self._bytes

    def shrink(self, nbytes: int, ceiling: int) -> None:
        """Add nothing beyond `nbytes`, because the process may hold at most `ceiling` bytes."""
        self._max_bytes = min(self._own_most, nbytes)

    def relax(self) -> None:
        """Undo `shrink`: only its own ceiling applies again."""
        self._max_bytes = self._own_most

    @property
    def events(self) -> tuple[Event, ...]:
        """The newest events, oldest first, with their reasons."""
        return self._consumer.events.newest

    # -- on the client's loop ----------------------------------------------------------------------------

    def room(self) -> None:
        """None: which revisions are kept is decided here."""

    def left_out(self, count: int, until: int) -> None:
        """Never called, because room() is None."""

    async def messages(self, raw: Raw) -> int:
        """Take revisions."""
        with self._lock:
            for seq, stored, subject, payload in zip(
                raw.seq, raw.received, raw.subject, raw.payload, strict=True
            ):
                complete = self._count == seq - 1  # no earlier message of the stream is missing
                self._count += 1
                key = key_of(subject)
                if key is None or key in self._left_out:
                    continue
                operation = operation_of(raw.headers.get(seq))
                held = self._keys.get(key)
                size = ENTRY_SIZE + len(key) + (len(payload) if stored < self.end else 0)
                if self._bytes + size > self._max_bytes or (
                    held is None and len(self._keys) >= self._max_keys
                ):
                    self._leave_out(key)
                    continue
                self._bytes += size
                if held is None:
                    held = self._keys[key] = _Key(stored, complete, operation == "PURGE")
                held.count += 1
                if stored < self.end:
                    held.ascends &= not held.stored or held.stored[-1] <= stored
                    held.stored.append(stored)
                    held.revisions.append(
                        Entry(key, payload if operation == "PUT" else b"", seq, stored, operation)
                    )
        return len(raw)

    def recreated(self) -> None:
        """Start over, because the bucket is another one."""
        with self._lock:
            self._forget()

    def gone(self, count: int, start: int, end: int) -> None:
        """A no-op: revisions that the bucket does not keep are unknown anyway."""

    def back_to(self, seq: int, stored: int) -> None:
        """Start over, because revisions may be missing."""
        self._consumer.start_over(f"the consumer of the bucket {self.bucket!r} was changed")

    async def close(self, why: str) -> None:
        """End reading and drop the values. Existing snapshots keep theirs. `why` is the reason in the last
        event."""
        self._closed = True
        self._consumer.events.note("closed", why)
        self._settled.set()
        await end_tasks([self._task])
        with self._lock:
            self._forget()
            self._latest = None

    async def _read(self) -> None:
        await self._consumer.run()
        with self._lock:
            self._read_at = self._consumer.now()
            self._times += sorted(stored for held in self._keys.values() for stored in held.stored)
            self._done = True
        self._settled.set()

    def _on_change(self) -> None:
        if self._consumer.phase == "stopped":
            self._settled.set()

    def _forget(self) -> None:
        self._keys: dict[str, _Key] = {}
        self._left_out: set[str] = set()
        self._times: list[int] = []
        self._count = 0  # messages of the stream
        self._bytes = 0
        self._read_at = 0

    def _leave_out(self, key: str) -> None:
        self._left_out.add(key)
        held = self._keys.pop(key, None)
        if held is not None:
            self._bytes -= sum(ENTRY_SIZE + len(key) + len(each.payload) for each in held.revisions)

    def _as_of(self, version: int, moment: int) -> Values:
        """The values as of `moment`. The caller holds the lock."""
        found = {key: held.newest(moment) for key, held in self._keys.items()}
        entries = {key: entry for key, entry in found.items() if entry is not None}
        unknown = {key: held.first for key, held in self._keys.items() if self._is_unknown(held, moment)}

        def ask(key: str) -> Entry | None:
            return self._ask(key, moment)

        return Values(self.bucket, version, entries, ask if self._left_out else None, unknown)

    def _is_unknown(self, held: _Key, moment: int) -> bool:
        """True if the bucket may have had a revision of the key at `moment` that it no longer keeps."""
        if held.first < moment or held.certain:
            return False
        limits = self._consumer.config
        full = 0 < limits.get("max_msgs_per_subject", -1) <= held.count
        expires = limits.get("max_age", 0) > 0 or limits.get("max_msgs", -1) > 0
        return full or expires or held.removed

    def _ask(self, key: str, moment: int) -> Entry | None:
        """Request the revisions of a key that is not held, and return the newest one before `moment`."""
        asked = key_history(self._connection, self.bucket, check_key(key))
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(asked, ASK_TIMEOUT), self._loop)
        try:
            found = [entry for entry in future.result(ASK_TIMEOUT + 1) if entry.updated < moment]
        except (TimeoutError, RequestFailed) as error:
            raise TooManyKeys(
                f"The bucket {self.bucket!r} has more keys than are held here, and the key {key!r} "
                f"cannot be requested at the moment. {error}".strip()
            ) from None
        return found[-1] if found else None


@dataclass(frozen=True)
class PlayedBucket:
    """A bucket as of the moment of a playback. Objects for the same bucket and playback are equal."""

    past: PastBucket
    playback: Playback

    @property
    def bucket(self) -> str:
        """Its name."""
        return self.past.bucket

    @property
    def opened(self) -> float:
        """See PastBucket."""
        return self.past.opened

    def now(self) -> int:
        """The moment, ns since the epoch, UTC."""
        return self.playback.moment

    def snapshot(self) -> Values:
        """The values as of the moment. Raises ClosedError."""
        return self.past.snapshot(self.playback.moment)

    def history(self, key: str) -> list[Entry]:
        """The revisions of `key` before the moment."""
        return self.past.history(key, self.playback.moment)

    def wait(self, timeout: float) -> bool:
        """See PastBucket."""
        return self.past.wait(timeout)

    @property
    def kept_since(self) -> int | None:
        """See PastBucket."""
        return self.past.kept_since

    @property
    def health(self) -> WatchHealth:
        """See PastBucket."""
        return self.past.health

    @property
    def events(self) -> tuple[Event, ...]:
        """See PastBucket."""
        return self.past.events
