"""Keeps a window equal to its stream: removes rows of messages that the stream no longer holds.

A consumer reports new messages, but not removed ones: a purge, a deleted message, a limit. So each feed
requests the state of its stream every two seconds.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..errors import LookbackError, RequestFailed, RequestRefused, StreamNotFound
from ..streams.ordered_consumer import PATIENCE, Consumer
from ..streams.stream_list import limits_text
from ..table.values import Ints
from ..table.window import Window
from .archive import Archive
from .gaps import Gap
from .removals import SLACK, Endings, first_ever, has_limits, holes_are_removals, loses

EVERY = 2.0
"""Seconds between checks of the stream."""
LATER = 2
"""Checks after which a filtered feed has received the roll-up that removed messages."""
UNANSWERED = 6.0
"""Seconds without a reply and without a message after which the stream counts as unreachable. Heartbeats may
continue meanwhile, because the consumer's node needs no majority for them."""
HINT_EVERY = 10.0
"""Seconds between checks of why nothing matches."""
MOST_HOLES = 1000
"""Unexplained jumps in the sequence that are kept between two checks."""
MOST_DELETED = 100_000
"""Maximum messages deleted in the middle of a stream for which the server's list of them is requested."""

_log = logging.getLogger(__name__)


class _Gone(NamedTuple):
    """The messages that have left a stream."""

    first: int
    """All messages below this sequence have left."""
    deleted: Ints
    """Further sequences that have left, in ascending order."""
    last: int
    """The stream's newest sequence."""
    created: str
    """When the stream was created."""


class StreamCheck:
    """Compares one feed's window with its stream at intervals."""

    def __init__(
        self,
        consumer: Consumer,
        window: Window,
        found: Callable[[Gap], None],
        archive: Archive | None = None,
        left: Callable[[int], None] = lambda _: None,
    ) -> None:
        """With an `archive`, rows that it holds stay in the window. `left` is called with the stream's oldest
        sequence if messages below it count as lost."""
        self.first: int | None = None
        """The oldest sequence of the stream; None before the first check."""
        self.oldest: int | None = None
        """When the server stored the oldest message that the stream still holds, ns since the epoch, UTC;
        None if it is empty."""
        self.begins: int | None = None
        """The start of the stream's history: `oldest`, or None if the stream has lost no message at its
        start."""
        self.earlier = 0
        """Number of messages that the stream held before `oldest`."""
        self.base = 1
        """The first sequence that the stream ever had."""
        self.hint = ""
        """Why no message of the stream matches the filter, as a sentence; empty if some do, or if the reason
        is unknown."""
        self.ends = Endings()
        """Messages with an expiry or a roll-up header."""
        self.limits = ""
        """The stream's limits, in words; empty if it has none."""
        self._consumer = consumer
        self._window = window
        self._found = found
        self._archive = archive
        self._left = left
        self._gone_below = 0  # rows below this sequence have been removed
        self._deleted: Ints = np.zeros(0, dtype=np.int64)
        self._seen: deque[_Gone] = deque(
            maxlen=LATER + 1
        )  # at the last checks, if the stream allows roll-ups
        self._restarts = 0
        self._holes: list[Gap] = []  # jumps in the sequence that are not explained yet
        self._lost = True  # whether a removed message counted as a loss at the last check
        self._hint_again = 0.0
        self._read = (0, 0)  # everything up to this sequence had been read at this time

    def holds(self, seq: int) -> bool:
        """True if the stream still held this sequence at the last check."""
        return seq >= self._gone_below and seq not in self._deleted

    def unread(self, gap: Gap) -> None:
        """Record messages that left the stream before they could be read."""
        if holes_are_removals(self._consumer.config):
            self._found(gap)
        elif loses(self._consumer.config) and has_limits(self._consumer.config):
            self._holes = [*self._holes, gap][-MOST_HOLES:]

    async def run(self) -> None:
        """Check the stream at intervals until cancelled."""
        await check_regularly(self._consumer, self._check)

    async def _check(self) -> None:
        following = self._consumer.phase == "following"
        lost = self._lost and loses(self._consumer.config)
        info = await self._consumer.fetch_info()
        if not _has_majority(info):
            raise RequestFailed("The stream has lost the majority of its replicas.")
        state, config = info["state"], info["config"]
        first = int(state["first_seq"])
        self.base = first_ever(config, first)
        self.earlier = max(0, first - self.base)
        self.oldest = pd.Timestamp(state["first_ts"]).value if state["messages"] else None
        self.begins = self.oldest if self.earlier else None
        self.limits = limits_text(info["config"])
        self.first = first
        self._find_unread(config, first, int(state["last_seq"]), following)
        self._report_holes()
        await self._find_hint(info)
        oldest, newest = self._window.oldest_seq, self._consumer.last_seq or 0
        self.ends.forget(newest + 1 if oldest is None else oldest)
        self._lost = loses(config)
        if not self._lost:
            return
        self._gone_below = first if self._archive is None else 0
        if self._archive is None:
            self._left(first)
        self._deleted = self._deleted[self._deleted >= first]
        deleted = int(state.get("num_deleted") or 0)
        if deleted != len(self._deleted) and deleted <= MOST_DELETED:
            info = await self._consumer.fetch_info(deleted=True)
            self._deleted = np.array(info["state"].get("deleted") or [], dtype=np.int64)
        # Taken from the newest reply: the list of deleted messages may be newer than `state`.
        gone = _Gone(first, self._deleted, int(info["state"]["last_seq"]), info["created"])
        if config.get("allow_rollup_hdrs"):
            # A roll-up removes messages before it is delivered itself, so an earlier check decides: the
            # previous check, once everything up to it has been read. With a filter, that is unknown, so the
            # check before the previous one decides.
            self._seen.append(gone)
            ago = LATER if self._consumer.filtered else 1
            if len(self._seen) <= ago:
                return
            before = self._seen[-1 - ago]
            if before.created != gone.created or (before.last > newest and not self._consumer.filtered):
                return
            gone = before
        await self._remove(gone, info, lost=lost)

    async def _remove(self, gone: _Gone, info: dict[str, Any], *, lost: bool) -> None:
        """Remove the rows of messages that are gone and that the archive does not hold."""
        first, deleted, config = gone.first, gone.deleted, info["config"]
        kept = 0
        newest = max(first - 1, int(deleted[-1]) if len(deleted) else 0)
        if self._archive is not None and newest:
            try:
                kept = await self._archive.holds(info["created"], newest)
            except LookbackError:
                return  # what the archive holds is unknown, so no row is removed
        if self.ends:
            self._remove_ended(gone, kept)
        unlisted = int(info["state"].get("num_deleted") or 0) > MOST_DELETED
        if unlisted and self.ends:  # use the clock; delete markers extend a TTL
            longest = SLACK + int(config.get("subject_delete_marker_ttl") or 0)
            over = self.ends.over(self._consumer.now() - longest)
            self._window.remove(over[over > kept])
        for removed in (
            self._window.remove_before(first, after=kept),
            self._window.remove(deleted[deleted > kept]),
        ):
            if removed is not None and lost:  # otherwise it left before removals counted as losses
                self._found(Gap("removed", removed.start, removed.end, removed.count))

    def _remove_ended(self, gone: _Gone, kept: int) -> None:
        """Remove rows of messages that ended as intended. They are not a gap."""
        rows = self._window.snapshot()
        which = ((rows.seq < gone.first) | np.isin(rows.seq, gone.deleted)) & (rows.seq > kept)
        if which.any():
            self._window.remove(self.ends.expected_removals(rows, which, self._consumer.now()))

    def _report_holes(self) -> None:
        """Report the jumps that the stream's limits explain: everything before such a jump has left the
        stream, too."""
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
        """Report a possible gap of a filtered feed. With a filter, undelivered sequences are normal. After a
        restart, though, some may have matched: messages stored and removed while nothing was read."""
        seq, when = self._read
        restarts = self._consumer.restarts
        may_have_lost = holes_are_removals(config) or (loses(config) and has_limits(config))
        if (
            may_have_lost
            and self._consumer.filtered
            and restarts != self._restarts
            and seq
            and first > seq + 1
        ):
            self._found(Gap("removed", when, self._consumer.now(), None))
        if following:
            self._restarts = restarts
            self._read = (last, self._consumer.now())


async def check_regularly(consumer: Consumer, check: Callable[[], Awaitable[None]]) -> None:
    """Call `check` every two seconds while `consumer` reads. If the stream is gone or does not answer, the
    consumer is restarted. Runs until cancelled."""
    answered, done = time.monotonic(), -1
    while True:
        if consumer.phase not in ("replaying", "following") or consumer.done != done:
            answered, done = time.monotonic(), consumer.done
        if consumer.phase in ("replaying", "following"):
            try:
                await check()
                answered = time.monotonic()
            except (RequestRefused, StreamNotFound) as error:
                consumer.restart(str(error))
            except (LookbackError, TimeoutError, OSError) as error:
                if time.monotonic() - answered > UNANSWERED and consumer.done == done:
                    consumer.restart(f"The stream does not answer. {error}".strip())
            except Exception:
                _log.exception("Checking the stream failed.")  # and retry: the feed still needs its checks
        # All feeds check at the same moments, so that those of one stream share one request.
        await asyncio.sleep(EVERY - time.monotonic() % EVERY)


def _has_majority(info: dict[str, Any]) -> bool:
    """True if a stream can store messages. A node that is cut off from the others still answers for the
    stream and sends consumer heartbeats. It does so for about 20 s as leader, then as a node without a
    leader."""
    replicas, cluster = info["config"].get("num_replicas", 1), info.get("cluster") or {}
    if replicas == 1:
        return True
    # `active` is the time since the follower's last contact with the leader, in ns; 0 means never.
    in_contact = sum(0 < node.get("active", 0) < PATIENCE * 1e9 for node in cluster.get("replicas") or [])
    return bool(cluster.get("leader")) and 2 * (1 + in_contact) > int(replicas)
