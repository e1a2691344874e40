"""Discovers services with the NATS service protocol (ADR-32): their running instances and statistics.

A discovery sends `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS` once to all services, or to each service by name
if the login may discover only some. It collects replies until no more arrive. Anyone who may publish may
reply, so a reply is accepted only if it follows the protocol; the others are counted.
https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-32.md
"""

import asyncio
import contextlib
import copy
import logging
import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import nats.errors
import pandas as pd
from nats.aio.msg import Msg

from ..connection.connection import Connection, end_tasks, not_permitted
from ..connection.patched_nats import SafeNatsPy
from ..errors import LookbackError, RequestFailed, ServerUnreachable
from .discovery_answers import read_answer

VERBS = ("PING", "INFO", "STATS")
AGAIN_AFTER = 2.0  # seconds that all callers share a result before a new discovery starts
TOO_OLD = 5.0  # seconds after which a caller waits for the next result
QUIET = 0.3  # seconds without a reply that end a discovery
FIRST = 1.0  # seconds to wait for the first reply
AT_MOST = 2.0  # maximum seconds of a discovery, and to wait for known instances
GONE_FOR = 60.0  # seconds that an instance is listed after it stopped answering
RATE_OVER = 10.0  # seconds over which rates are averaged, once there is enough history

MOST_BYTES = 16 * 1024 * 1024
"""Maximum bytes of all replies to one discovery."""
MOST_INSTANCES = 1000
"""Maximum instances listed, including those that are gone."""
MOST_MOMENTS = 300
"""Discoveries whose statistics are kept, per service: ten minutes."""

_log = logging.getLogger(__name__)

Key = tuple[str, str]  # name and id of an instance


@dataclass(frozen=True)
class Endpoint:
    """One endpoint of one service instance. Counts are since the instance started."""

    name: str
    subject: str
    """The subject for requests."""
    queue_group: str
    """Instances in the same queue group share the requests."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    requests: int | None = None
    """None if the instance reported no statistics."""
    errors: int | None = None
    last_error: str = ""
    processing_time: float | None = None
    """Total seconds."""
    average_processing_time: float | None = None
    """Seconds per request."""
    requests_per_s: float | None = None
    """Average of about the last ten seconds; None at the first discovery."""
    errors_per_s: float | None = None
    latency: float | None = None
    """Seconds per request over the same time; None if there was no request."""


@dataclass(frozen=True)
class ServiceInstance:
    """One running instance of a service, as it described itself; untrusted."""

    name: str
    id: str
    version: str
    description: str
    metadata: Mapping[str, str]
    started: pd.Timestamp | None
    """UTC; None if the instance did not report it."""
    endpoints: tuple[Endpoint, ...]
    seen: float
    """Start of the last discovery that it answered, seconds since the epoch."""
    gone: bool
    """True if it did not answer the newest discovery."""


class RejectedReply(NamedTuple):
    """A rejected reply, because it violates the protocol or a limit."""

    subject: str
    reason: str
    payload: str
    """Its first 200 bytes."""


@dataclass(frozen=True)
class Services:
    """The result of one discovery. Immutable. All names, texts and metadata are untrusted."""

    instances: tuple[ServiceInstance, ...] = ()
    """Sorted by name, instances that are gone last; those are listed for a minute."""
    time: float = 0.0
    """Start of the discovery, seconds since the epoch."""
    malformed: int = 0
    """Number of rejected replies."""
    samples: tuple[RejectedReply, ...] = ()
    """At most five of them."""
    refused: str | None = None
    """A sentence on the discovery request that the login does not permit; None if all are permitted."""
    _moments: Mapping[str, tuple[tuple[float, float, float, float], ...]] = field(
        default_factory=dict, repr=False
    )

    @property
    def names(self) -> list[str]:
        """Names of the services, sorted."""
        return sorted({instance.name for instance in self.instances})

    def frame(self) -> pd.DataFrame:
        """A table with one row per endpoint of each instance; an instance without endpoints has one row.

        Columns: service, id, version, endpoint, subject, queue_group, last_error (text); requests, errors,
        requests_per_s, errors_per_s (float64, NaN if not reported); average (seconds per request since the
        start), latency (seconds per request recently), processing (total seconds; all float64); started, seen
        (UTC); gone (bool).
        """
        rows = [
            {
                "service": instance.name,
                "id": instance.id,
                "version": instance.version,
                "endpoint": each.name,
                "subject": each.subject,
                "queue_group": each.queue_group,
                "requests": each.requests,
                "errors": each.errors,
                "requests_per_s": each.requests_per_s,
                "errors_per_s": each.errors_per_s,
                "average": each.average_processing_time,
                "latency": each.latency,
                "processing": each.processing_time,
                "last_error": each.last_error,
                "started": instance.started,
                "seen": pd.Timestamp(instance.seen, unit="s", tz="UTC"),
                "gone": instance.gone,
            }
            for instance in self.instances
            for each in instance.endpoints or (Endpoint("", "", ""),)
        ]
        numbers = ["requests", "errors", "requests_per_s", "errors_per_s", "average", "latency", "processing"]
        texts = ["service", "id", "version", "endpoint", "subject", "queue_group"]
        columns = [*texts, *numbers, "last_error", "started", "seen", "gone"]
        kinds = {**dict.fromkeys(numbers, "float64"), "gone": "bool"}
        table = pd.DataFrame(rows, columns=columns).astype(kinds)
        for column in ("started", "seen"):
            table[column] = pd.to_datetime(table[column], utc=True)
        return table

    def over_time(self, name: str) -> pd.DataFrame:
        """Statistics of the service `name` at each of the last 300 discoveries, which are ten minutes if a
        page was open all the time. Columns: requests_per_s, errors_per_s, latency (seconds per request, NaN
        if there was none), all float64. Index: `_time` (UTC)."""
        columns = ["_time", "requests_per_s", "errors_per_s", "latency"]
        table = pd.DataFrame(list(self._moments.get(name, ())), columns=columns).astype("float64")
        return table.assign(_time=pd.to_datetime(table["_time"], unit="s", utc=True)).set_index("_time")


class ServiceList:
    """Discovers services, and keeps recent results to compute rates and to list instances that are gone.
    Everything here runs on the client's event loop."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known: dict[Key, _Known] = {}
        self._moments: dict[str, deque[tuple[float, float, float, float]]] = {}
        self._newest: Services | None = None
        self._discovered_at = -math.inf  # end of the newest discovery, monotonic clock
        self._running: asyncio.Task[None] | None = None
        self._failure: LookbackError | None = None

    async def newest(self) -> Services:
        """The newest result. If it is older than two seconds, a new discovery starts in the background; if it
        is older than five, this waits for it.

        Raises RequestFailed if the server does not answer, and ConnectionFailed if there is no connection and
        no result yet.
        """
        state = self._connection.state
        if state.error is not None:
            if self._newest is None:
                raise state.error
            return self._newest
        age = time.monotonic() - self._discovered_at
        if age > AGAIN_AFTER and (self._running is None or self._running.done()):
            self._running = asyncio.create_task(self._discover(), name="discover services")
        if age > TOO_OLD and self._running is not None:
            await asyncio.wait({self._running})
            if self._failure is not None:
                raise copy.copy(self._failure)
        if self._newest is None:
            raise ServerUnreachable("Not connected to NATS yet.")
        return self._newest

    async def close(self) -> None:
        """Cancel the current discovery."""
        if self._running is not None:
            await end_tasks([self._running])

    async def _discover(self) -> None:
        began = time.time()
        try:
            async with asyncio.timeout(AT_MOST):
                client = await self._connection.ready()
            replies = _Replies({key for key, known in self._known.items() if known.missed is None})
            await self._gather(client, replies)
            self._note(replies, began)
        except (TimeoutError, nats.errors.Error, OSError):
            self._failure = self._connection.state.error or RequestFailed(
                "The NATS server did not answer the service discovery in time."
            )
            return
        except LookbackError as error:
            self._failure = error
            return
        except Exception as error:
            # A bug of ours must be visible, and not hide behind the last result.
            _log.exception("Service discovery failed.")
            self._failure = LookbackError(f"Service discovery failed: {error!r}.")
            return
        self._failure = None
        self._discovered_at = time.monotonic()

    def _note(self, replies: "_Replies", began: float) -> None:
        if replies.refused and len(replies.refused) == replies.asked:
            self._known.clear()
        self._take(replies, began)
        self._newest = Services(
            tuple(sorted((known.instance for known in self._known.values()), key=_order)),
            began,
            replies.malformed,
            tuple(replies.samples),
            replies.refused[0] if replies.refused else None,
            {name: tuple(moments) for name, moments in self._moments.items()},
        )

    async def _gather(self, client: SafeNatsPy, replies: "_Replies") -> None:
        """Send the requests and collect the replies."""
        inbox = client.new_inbox()
        with contextlib.ExitStack() as stack:
            asked = _subjects(self._connection.rights.services)
            replies.asked = len(asked)
            denied = {subject: stack.enter_context(self._connection.denial(subject)) for subject, _ in asked}
            inbox_denied = stack.enter_context(self._connection.denial(f"{inbox}.*"))
            listening = await client.subscribe(f"{inbox}.*", cb=replies.receive)
            try:
                for subject, verb in asked:
                    await client.publish(subject, reply=f"{inbox}.{verb}")
                await client.flush(int(AT_MOST))
                began = time.monotonic()
                while True:
                    self._connection.check_inbox(client)
                    if inbox_denied.done():
                        raise not_permitted("to subscribe to", self._connection.inboxes)
                    refused = [subject for subject, answer in denied.items() if answer.done()]
                    replies.refused = [
                        str(not_permitted("to send requests to", subject)) for subject in refused
                    ]
                    if replies.is_over(began, time.monotonic()):
                        return
                    await asyncio.sleep(0.05)
            finally:
                with contextlib.suppress(Exception):
                    await listening.unsubscribe()

    def _take(self, replies: "_Replies", when: float) -> None:
        now = time.monotonic()
        for key, answers in replies.by_instance.items():
            if key not in self._known and len(self._known) >= MOST_INSTANCES and not self._drop_one():
                replies.reject("$SRV.PING", f"more than {MOST_INSTANCES:,} instances", b"")
                continue
            self._known.setdefault(key, _Known()).answered(answers, when, now)
        for key, known in list(self._known.items()):
            if key not in replies.by_instance:
                known.missed = known.missed or now
                known.silent()
                if now - known.missed > GONE_FOR:
                    del self._known[key]
        names = {name for name, _ in self._known}
        self._moments = {name: each for name, each in self._moments.items() if name in names}
        for name in names:
            moments = self._moments.setdefault(name, deque(maxlen=MOST_MOMENTS))
            alive = [known.instance for key, known in self._known.items() if key[0] == name]
            figures = _together([each for one in alive if not one.gone for each in one.endpoints])
            if figures is not None:
                moments.append((when, *figures))

    def _drop_one(self) -> bool:
        """Drop the instance that has been gone longest. False if none is gone."""
        gone = [(known.missed, key) for key, known in self._known.items() if known.missed is not None]
        if gone:
            del self._known[min(gone)[1]]
        return bool(gone)


class _Replies:
    """Collects the replies to one discovery."""

    def __init__(self, expected: set[Key]) -> None:
        self.by_instance: dict[Key, dict[str, dict[str, Any]]] = {}
        self.malformed = 0
        self.samples: list[RejectedReply] = []
        self.refused: list[str] = []
        self.asked = 0
        """Number of requests sent."""
        self._expected = expected
        self._nobody = 0
        self._last: float | None = None
        self._bytes = 0

    async def receive(self, message: Msg) -> None:
        """Handle one reply."""
        verb, data = message.subject.rpartition(".")[2], message.data
        if not data and (message.headers or {}).get("Status") == "503":
            self._nobody += 1
            return
        self._last = time.monotonic()
        self._bytes += len(data)
        subject = f"$SRV.{verb}"
        try:
            if self._bytes > MOST_BYTES:
                raise ValueError(f"more than {MOST_BYTES:,} bytes of replies")
            answer = read_answer(verb, data)
        except ValueError as error:
            self.reject(subject, str(error), data)
            return
        self.by_instance.setdefault((answer["name"], answer["id"]), {})[verb] = answer

    def reject(self, subject: str, reason: str, data: bytes) -> None:
        """Count a rejected reply, and keep the first five as samples."""
        self.malformed += 1
        if len(self.samples) < 5:
            self.samples.append(RejectedReply(subject, reason[:200], data[:200].decode("utf-8", "replace")))

    def is_over(self, began: float, now: float) -> bool:
        """True if no more replies are expected, or AT_MOST seconds have passed."""
        if self._nobody + len(self.refused) >= self.asked or now - began > AT_MOST:
            return True
        if self._expected - self.by_instance.keys():
            return False
        return now - began > FIRST if self._last is None else now - max(began, self._last) > QUIET


def _subjects(names: tuple[str, ...] | None) -> list[tuple[str, str]]:
    """Subjects of the discovery requests, each with its verb: for all services, or for each of `names`."""
    if names is None:
        return [(f"$SRV.{verb}", verb) for verb in VERBS]
    return [(f"$SRV.{verb}.{name}", verb) for name in names for verb in VERBS]


class _Known:
    """An instance and its recent statistics."""

    instance: ServiceInstance

    def __init__(self) -> None:
        self.missed: float | None = None
        """When it first did not answer, on the monotonic clock; None if it answered last time."""
        self._answers: dict[str, dict[str, Any]] = {}
        self._figures: dict[tuple[str, str], list[tuple[float, int, int, float]]] = {}

    def answered(self, answers: dict[str, dict[str, Any]], when: float, now: float) -> None:
        """Update from its replies. If one is missing this time, the previous one stays in use."""
        self.missed = None
        self._answers |= answers
        ping, info = answers.get("PING", {}), self._answers.get("INFO", {})
        stats = self._answers.get("STATS", {})
        known = {**ping, **stats, **info}
        self.instance = ServiceInstance(
            name=known["name"],
            id=known["id"],
            version=known["version"],
            description=info.get("description", ""),
            metadata=known["metadata"],
            started=stats.get("started"),
            endpoints=self._endpoints(
                info.get("endpoints", []), stats.get("endpoints"), "STATS" in answers, now
            ),
            seen=when,
            gone=False,
        )

    def silent(self) -> None:
        """Mark it as gone, and remove its rates."""
        endpoints = tuple(
            replace(each, requests_per_s=None, errors_per_s=None, latency=None)
            for each in self.instance.endpoints
        )
        self.instance = replace(self.instance, endpoints=endpoints, gone=True)

    def _endpoints(
        self, info: list[dict[str, Any]], stats: list[dict[str, Any]] | None, fresh: bool, now: float
    ) -> tuple[Endpoint, ...]:
        described = {(each["name"], each["subject"]): each for each in info}
        if stats is None:
            return tuple(
                Endpoint(name, subject, each["queue_group"], each["metadata"])
                for (name, subject), each in described.items()
            )
        keys = {(each["name"], each["subject"]) for each in stats}
        self._figures = {key: counts for key, counts in self._figures.items() if key in keys}
        found = []
        for each in stats:
            key = each["name"], each["subject"]
            counts = self._figures.setdefault(key, [])
            if fresh:
                counts.append((now, each["num_requests"], each["num_errors"], each["processing_time"]))
            while len(counts) > 2 and counts[1][0] < now - RATE_OVER:
                counts.pop(0)
            (since, requests, errors, processing), last = counts[0], counts[-1]
            length, new = last[0] - since, max(0, last[1] - requests)
            found.append(
                Endpoint(
                    *key,
                    queue_group=each["queue_group"],
                    metadata=described[key]["metadata"] if key in described else {},
                    requests=each["num_requests"],
                    errors=each["num_errors"],
                    last_error=each["last_error"],
                    processing_time=each["processing_time"],
                    average_processing_time=each["average_processing_time"],
                    requests_per_s=new / length if length else None,
                    errors_per_s=max(0, last[2] - errors) / length if length else None,
                    latency=max(0.0, last[3] - processing) / new if new else None,
                )
            )
        return tuple(found)


def _together(endpoints: list[Endpoint]) -> tuple[float, float, float] | None:
    """Requests per second, errors per second and seconds per request of all `endpoints` together; None if no
    rate is known."""
    rated = [each for each in endpoints if each.requests_per_s is not None]
    if not rated:
        return None
    requests = sum(each.requests_per_s or 0.0 for each in rated)
    busy = sum((each.requests_per_s or 0.0) * (each.latency or 0.0) for each in rated)
    errors = sum(each.errors_per_s or 0.0 for each in rated)
    return requests, errors, busy / requests if requests else math.nan


def _order(instance: ServiceInstance) -> tuple[bool, str, str]:
    return instance.gone, instance.name, instance.id
