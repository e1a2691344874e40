"""Keeps a window equal to its stream: rows of messages that the stream no longer holds leave.

A consumer tells of what comes, not of what goes: a purge, a deleted message, a limit. So each feed asks for
the state of its stream every other second.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pandas as pd

from ..errors import LookbackError, RequestFailed, RequestRefused, StreamNotFound
from ..streams.ordered_consumer import PATIENCE, Consumer
from ..streams.stream_list import limits_text
from ..table.values import Ints
from ..table.window import Window
from .archive import Archive
from .gaps import Gap
from .removals import SLACK, Endings, first_ever, has_limits, holes_tell, loses

EVERY = 2.0
"""Seconds between two looks at the stream."""
UNANSWERED = 6.0
"""Seconds without an answer, and without a message, after which the stream is called out of reach: heartbeats
may go on, since the consumer's node needs no majority for them."""
HINT_EVERY = 10.0
"""Seconds between two looks at why nothing matches."""
MOST_HOLES = 1000
"""Runs of sequences that were not there to be read, between two looks."""
MOST_DELETED = 100_000
"""Messages deleted in the middle of a stream that are looked for one by one; the server sends their list."""

_log = logging.getLogger(__name__)


class Audit:
    """Compares one feed's window with its stream, again and again."""

    def __init__(
        self, consumer: Consumer, window: Window, found: Callable[[Gap], None], archive: Archive | None = None
    ) -> None:
        """With an `archive`, only rows leave that are not in there either."""
        self.first: int | None = None
        """The oldest sequence of the stream, None before the first look."""
        self.oldest: int | None = None
        """When the server stored the oldest message that the stream still holds, ns since the epoch, UTC;
        None where it holds none."""
        self.begins: int | None = None
        """The same; None where none has gone from its start but as it was meant to."""
        self.earlier = 0
        """Messages that the stream held before that one."""
        self.base = 1
        """The sequence with which the stream began."""
        self.hint = ""
        """Why not one message of the stream matches the filter, in a sentence; empty where that is not so, or
        not known."""
        self.ends = Endings()
        """Messages that say when they end."""
        self.limits = ""
        """What the stream keeps at most, in words; empty where nothing limits it."""
        self._consumer = consumer
        self._window = window
        self._found = found
        self._archive = archive
        self._gone_below = 0  # rows of messages below this sequence have left
        self._deleted: Ints = np.zeros(0, dtype=np.int64)
        self._restarts = 0
        self._holes: list[Gap] = []  # messages that were not there to be read, of which nobody knows why
        self._lost = True  # whether at the last look a message that went was a loss
        self._hint_again = 0.0
        self._read = (0, 0)  # all up to this sequence had been read at this time

    def holds(self, seq: int) -> bool:
        """Whether the message of this sequence was not gone when the stream was last looked at."""
        return seq >= self._gone_below and seq not in self._deleted

    def unread(self, gap: Gap) -> None:
        """Take in messages that left the stream before they could be read."""
        if holes_tell(self._consumer.config):
            self._found(gap)
        elif loses(self._consumer.config) and has_limits(self._consumer.config):
            self._holes = [*self._holes, gap][-MOST_HOLES:]

    async def run(self) -> None:
        """Look until cancelled."""
        await look_again(self._consumer, self._look)

    async def _look(self) -> None:
        following = self._consumer.phase == "following"
        lost = self._lost and loses(self._consumer.config)
        info = await self._consumer.look()
        if not _has_majority(info):
            raise RequestFailed("It has lost the majority of its replicas.")
        state, config = info["state"], info["config"]
        first = int(state["first_seq"])
        self.base = first_ever(config, first)
        self.earlier = max(0, first - self.base)
        self.oldest = pd.Timestamp(state["first_ts"]).value if state["messages"] else None
        self.begins = self.oldest if self.earlier else None
        self.limits = limits_text(info["config"])
        self.first = first
        self._find_unread(config, first, int(state["last_seq"]), following)
        self._tell_holes()
        await self._find_hint(info)
        oldest, newest = self._window.oldest_seq, self._consumer.last_seq or 0
        self.ends.forget(newest + 1 if oldest is None else oldest)
        self._lost = loses(config)
        if not self._lost:
            return
        self._gone_below = first if self._archive is None else 0
        self._deleted = self._deleted[self._deleted >= first]
        deleted = int(state.get("num_deleted") or 0)
        if deleted != len(self._deleted) and deleted <= MOST_DELETED:
            info = await self._consumer.look(deleted=True)
            self._deleted = np.array(info["state"].get("deleted") or [], dtype=np.int64)
        kept = 0
        newest = max(first - 1, int(self._deleted[-1]) if len(self._deleted) else 0)
        if self._archive is not None and newest:
            try:
                kept = await self._archive.holds(info["created"], newest)
            except LookbackError:
                return  # nobody knows what it holds, so nothing leaves
        if self.ends:
            self._remove_ended(first, kept)
        if deleted > MOST_DELETED and self.ends:  # then the clock has to do; markers make a TTL longer
            longest = SLACK + int(config.get("subject_delete_marker_ttl") or 0)
            over = self.ends.over(self._consumer.now() - longest)
            self._window.remove(over[over > kept])
        for removed in (
            self._window.remove_before(first, after=kept),
            self._window.remove(self._deleted[self._deleted > kept]),
        ):
            if removed is not None and lost:  # otherwise it had gone before that was one
                self._found(Gap("removed", removed.start, removed.end, removed.count))

    def _remove_ended(self, first: int, kept: int) -> None:
        """Let rows leave of messages that ended as they were meant to: they are no gap."""
        rows = self._window.snapshot()
        gone = ((rows.seq < first) | np.isin(rows.seq, self._deleted)) & (rows.seq > kept)
        if gone.any():
            self._window.remove(self.ends.meant(rows, gone, self._consumer.now()))

    def _tell_holes(self) -> None:
        """Tell of the unread messages at the start of a stream, which its limits may have pushed out: then
        what came before them has gone as well."""
        holes, self._holes = self._holes, []
        for gap in holes:
            if self.oldest is None or self.oldest > gap.start:
                self._found(gap)

    async def _find_hint(self, info: dict[str, Any]) -> None:
        if len(self._window) or not self._consumer.filtered:
            self.hint, self._hint_again = "", 0.0
        elif self._consumer.phase == "following" and time.monotonic() >= self._hint_again:
            self._hint_again = time.monotonic() + HINT_EVERY
            self.hint = await self._consumer.why_empty(info)

    def _find_unread(self, config: dict[str, Any], first: int, last: int, following: bool) -> None:
        """With a filter, sequences that were never delivered are normal. Only after a restart can some of
        them have been ours: those that had come and gone while nothing was read."""
        seq, when = self._read
        restarts = self._consumer.restarts
        told = holes_tell(config) or (loses(config) and has_limits(config))
        if told and self._consumer.filtered and restarts != self._restarts and seq and first > seq + 1:
            self._found(Gap("removed", when, self._consumer.now(), None))
        if following:
            self._restarts = restarts
            self._read = (last, self._consumer.now())


async def look_again(consumer: Consumer, look: Callable[[], Awaitable[None]]) -> None:
    """Call `look` every other second while `consumer` reads; a stream that is gone, or does not answer, puts
    the consumer in doubt. Runs until cancelled."""
    answered, done = time.monotonic(), -1
    while True:
        if consumer.phase not in ("replaying", "following") or consumer.done != done:
            answered, done = time.monotonic(), consumer.done
        if consumer.phase in ("replaying", "following"):
            try:
                await look()
                answered = time.monotonic()
            except (RequestRefused, StreamNotFound) as error:
                consumer.restart(str(error))
            except (LookbackError, TimeoutError, OSError) as error:
                if time.monotonic() - answered > UNANSWERED and consumer.done == done:
                    consumer.restart(f"The stream does not answer. {error}".strip())
            except Exception:
                _log.exception("looking at the stream")  # and look again: a feed must not grow blind
        # All at the same moments, so that the feeds of one stream share one request.
        await asyncio.sleep(EVERY - time.monotonic() % EVERY)


def _has_majority(info: dict[str, Any]) -> bool:
    """Whether a stream can take messages. A node that is cut off from the others goes on answering for it,
    and sends heartbeats of consumers: as its leader for some 20 s, afterwards as one that has none."""
    replicas, cluster = info["config"].get("num_replicas", 1), info.get("cluster") or {}
    if replicas == 1:
        return True
    # `active` is how long ago the leader heard of a follower, in ns; 0 means never.
    heard = sum(0 < node.get("active", 0) < PATIENCE * 1e9 for node in cluster.get("replicas") or [])
    return bool(cluster.get("leader")) and 2 * (1 + heard) > int(replicas)
