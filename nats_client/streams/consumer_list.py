"""Lists the consumers of all streams, with the lag of each and its course."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..connection.connection import Connection, end_tasks
from ..errors import LookbackError, NotPermitted, RequestFailed, RequestRefused, StreamNotFound
from .by_sequence import ns
from .lag_courses import LagCourses
from .stream_list import StreamInfo, StreamList, is_leaderless

MOST = 5000
"""Consumers to read in one listing."""
AT_ONCE = 8
"""Streams whose consumers are requested at the same time."""
WITHIN = 6.0
"""Seconds to wait for the replies of one listing."""
DENIED_FOR = 60.0
"""Seconds after a denial until the consumers of that stream are requested again. The server logs denials."""
MOST_DENIED = 20
"""Maximum number of streams denied within DENIED_FOR. Once it is reached, no other stream is requested."""
UNREAD = 60.0
"""Seconds without a listing after which the courses start over."""


@dataclass(frozen=True)
class ConsumerInfo:
    """One consumer at the time of the request. Names and texts are untrusted."""

    stream: str
    name: str
    description: str
    durable: bool
    push: bool
    filters: tuple[str, ...]
    """Its subject filters; empty if it has none."""
    undelivered: int
    """Messages that match its filters and that it has not delivered yet."""
    unacknowledged: int
    """Messages that it has delivered and that are not acknowledged yet."""
    most_unacknowledged: int | None
    """Maximum number of unacknowledged messages; None for no limit."""
    redelivered: int
    """Unacknowledged messages that were delivered more than once."""
    waiting: int | None
    """Pull requests that wait for messages; None for a push consumer."""
    bound: bool
    """True if a client is subscribed to a push consumer; always True for a pull consumer."""
    active: int | None
    """When it last delivered a message or received an acknowledgement, ns since the epoch, UTC; None if
    never."""
    paused_until: int | None
    """When its pause ends, ns since the epoch, UTC; None if it is not paused."""
    leader: str
    """The server that leads it; empty if there is none, or without a cluster."""
    replicas: int
    """How many servers hold it."""
    behind: tuple[str, ...]
    """Servers whose replicas are offline or not up to date."""
    leaderless: bool
    created: str
    """When it was created, as text from the server. Distinguishes it from another consumer of the same
    name."""

    @property
    def lag(self) -> int:
        """Messages that it has not yet processed: not delivered, or not acknowledged."""
        return self.undelivered + self.unacknowledged

    @property
    def key(self) -> tuple[str, str, str]:
        """Its identity: stream, name and creation time."""
        return self.stream, self.name, self.created

    @classmethod
    def of(cls, stream: str, info: Mapping[str, Any]) -> "ConsumerInfo":
        """A consumer as `CONSUMER.LIST` describes it."""
        config = info["config"]
        push = bool(config.get("deliver_subject"))
        one = config.get("filter_subject")
        times = [(info.get(part) or {}).get("last_active") for part in ("delivered", "ack_floor")]
        known = [ns(each) for each in times if each]
        until = config.get("pause_until")
        most = config.get("max_ack_pending", -1)
        cluster = info.get("cluster") or {}
        others = cluster.get("replicas") or ()
        return cls(
            stream=stream,
            name=str(info["name"]),
            description=str(config.get("description") or ""),
            durable=bool(config.get("durable_name")),
            push=push,
            filters=tuple(config.get("filter_subjects") or ([one] if one else ())),
            undelivered=int(info.get("num_pending") or 0),
            unacknowledged=int(info.get("num_ack_pending") or 0),
            most_unacknowledged=most if most > 0 and config.get("ack_policy") != "none" else None,
            redelivered=int(info.get("num_redelivered") or 0),
            waiting=None if push else int(info.get("num_waiting") or 0),
            bound=bool(info.get("push_bound")) if push else True,
            active=max(known) if known else None,
            paused_until=ns(until) if info.get("paused") and until else None,
            leader=str(cluster.get("leader") or ""),
            replicas=1 + len(others),
            behind=tuple(str(each["name"]) for each in others if each.get("offline") or not each["current"]),
            leaderless=is_leaderless(dict(info)),
            created=str(info["created"]),
        )


@dataclass(frozen=True)
class Consumers:
    """The consumers that the login may see, and the streams that they belong to."""

    streams: tuple[StreamInfo, ...]
    """All streams that the login may see, those of buckets included, by name."""
    consumers: tuple[ConsumerInfo, ...]
    """The furthest behind first."""
    total: int
    """Number of consumers that these streams report. If it is above MOST, not all are read."""
    refused: Mapping[str, LookbackError]
    """Streams whose consumers could not be listed, each with the reason."""
    silent: tuple[str, ...]
    """Streams whose consumers are not all known, because nodes are away or did not answer in time."""
    courses: LagCourses
    """The lag of each consumer over time."""


class ConsumerList:
    """Lists consumers, and keeps the course of their lag until there was no listing for UNREAD seconds."""

    def __init__(self, connection: Connection, streams: StreamList) -> None:
        self._connection = connection
        self._streams = streams
        self._courses = LagCourses()
        self._denied: dict[str, tuple[float, LookbackError]] = {}
        self._listed = float("-inf")

    async def newest(self) -> Consumers:
        """The consumers now. Raises RequestFailed if the streams cannot be listed."""
        infos = await self._streams.infos()
        streams = sorted(map(self._streams.describe, infos), key=lambda stream: stream.name)
        away = [each.name for each in streams if each.away]
        asked = [each.name for each in streams if each.consumers and not each.away]
        found, failed, partly = await self._ask(asked)
        refused = {name: error for name, error in failed.items() if isinstance(error, RequestRefused)}
        gone = {name for name, error in failed.items() if isinstance(error, StreamNotFound)}
        silent = (failed.keys() | partly) - refused.keys() - gone
        consumers = sorted(found, key=lambda each: (-each.lag, each.stream, each.name))
        if time.monotonic() - self._listed > UNREAD:
            self._courses = LagCourses()
        self._listed = time.monotonic()
        unknown = {*away, *silent, *refused}
        self._courses.note(time.time_ns(), {each.key: each.lag for each in consumers}, unknown)
        return Consumers(
            tuple(streams),
            tuple(consumers),
            sum(each.consumers for each in streams),
            refused,
            tuple(sorted({*away, *silent})),
            self._courses,
        )

    def rest(self) -> None:
        """Release the courses after UNREAD seconds without a listing."""
        if self._courses and time.monotonic() - self._listed > UNREAD:
            self._courses = LagCourses()

    async def _ask(self, names: Iterable[str]) -> tuple[list[ConsumerInfo], dict[str, Exception], set[str]]:
        """The consumers of the streams `names`; the error of each stream whose consumers are unknown; and the
        streams of which only some consumers are known."""
        found: list[ConsumerInfo] = []
        partly: set[str] = set()
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> Exception | None:
            async with turns:
                if (denied := self._known_denial(name)) is not None:
                    return denied
                try:
                    if await self._list(name, found):
                        partly.add(name)
                except (RequestFailed, StreamNotFound, TimeoutError) as error:
                    if isinstance(error, NotPermitted):
                        self._denied[name] = time.monotonic(), error
                    return error
                return None

        asking = {asyncio.create_task(one(name), name=f"consumers of {name}"): name for name in names}
        if not asking:
            return found, {}, partly
        try:
            await asyncio.wait(asking, timeout=WITHIN)
            answers = {
                name: task.result() if task.done() else TimeoutError() for task, name in asking.items()
            }
        finally:
            await end_tasks(asking)
        failed = {name: error for name, error in answers.items() if error is not None}
        # The first pages of a stream that failed later are left out: they would look complete.
        return [each for each in found if each.stream not in failed], failed, partly

    def _known_denial(self, name: str) -> LookbackError | None:
        now = time.monotonic()
        self._denied = {
            stream: (when, error) for stream, (when, error) in self._denied.items() if now - when < DENIED_FOR
        }
        if name in self._denied:
            return self._denied[name][1]
        if len(self._denied) >= MOST_DENIED:
            return next(reversed(self._denied.values()))[1]
        return None

    async def _list(self, name: str, found: list[ConsumerInfo]) -> int:
        """Append the consumers of a stream to `found`. Returns how many more the server cannot describe,
        because their nodes are away."""
        offset = missing = 0
        while len(found) < MOST:
            answer = await self._connection.api(f"CONSUMER.LIST.{name}", {"offset": offset})
            page = answer.get("consumers") or []
            found += [ConsumerInfo.of(name, info) for info in page]
            unknown = len(answer.get("missing") or ())  # these also count towards the page
            missing += unknown
            offset += max(len(page) + unknown, int(answer.get("limit") or 0))
            if not (page or unknown) or offset >= answer.get("total", 0):
                break
        return missing
