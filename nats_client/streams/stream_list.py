"""Lists the server's streams, their subjects and their newest messages."""

import asyncio
import base64
import contextlib
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..connection.connection import Connection, end_tasks
from ..duration import format_duration
from ..errors import (
    LookbackError,
    NoResponders,
    NotPermitted,
    RequestFailed,
    RequestRefused,
    RequestTimeout,
    StreamNotFound,
    TooManySubjects,
    one_of,
)
from ..subjects import check_stream_name

BUCKET = "KV_"
"""Prefix of the stream name of a key-value bucket (ADR-8)."""
MOST_NAMES = 5000
"""Stream names to list when searching for the one most similar to a missing name."""
PAGE = 100_000
"""Subjects that the server lists in one reply."""
OVERLAP = 1_000
"""Subjects that two replies have in common. If a subject is removed between them, the following ones move
up, and without an overlap one of them would be skipped."""
MOST_TRIES = 3
"""Maximum attempts to count. A count starts over if the stream's subjects change too quickly."""
QUICK = 1.0  # seconds to wait for the server's list before falling back to the names
MOST_COUNTED = 10_000
"""Subjects of a stream that may be counted unless a viewer requests more. Publishers to the stream wait while
the server counts."""
RATE_OVER = 10.0  # seconds over which a rate is averaged, once that much is known

Newest = tuple[str, pd.Timestamp, bytes]
"""Subject, storage time (UTC) and payload of a message."""


@dataclass(frozen=True)
class StreamInfo:
    """One stream of the server at the time of the request."""

    name: str
    description: str
    subjects: tuple[str, ...]
    messages: int
    bytes: int
    first_seq: int
    last_seq: int
    last_time: pd.Timestamp | None
    """When the newest message was stored, UTC; None if there never was one."""
    age: pd.Timedelta | None
    """Age of the newest message, by the server's clock; None if there never was one, or if the server does
    not report its time (before 2.10)."""
    limits: str
    """The stream's limits, in words; empty if it has none."""
    per_second: float | None
    """Messages a second over about the last ten seconds; None at the first request."""
    away: bool = False
    """True if the nodes that hold it do not answer. Its numbers are then the last known ones, or 0."""
    leaderless: bool = False
    """True if its replicas have no leader, as without a majority: nothing is stored until they have one. Its
    numbers are those of one replica."""
    consumers: int = 0
    """How many consumers it has."""
    leader: str = ""
    """The server that leads it; empty if there is none or it is unknown."""
    replicas: int = 1
    """How many servers are to hold it."""
    fullness: float | None = None
    """Used share of its limit of messages or bytes, the larger of the two, 0 to 1; None without such a
    limit."""
    refuses: bool = False
    """True if a full stream refuses new messages, False if it removes the oldest."""


@dataclass(frozen=True)
class Subjects:
    """Subjects of a stream."""

    total: int
    """How many match."""
    counts: dict[str, int]
    """Messages per subject, in alphabetical order of the subjects."""


class StreamList:
    """Lists the streams, and keeps enough history to compute their rates."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._counts: dict[str, list[tuple[float, int]]] = {}
        self._known: dict[str, dict[str, Any]] = {}
        self._asking: asyncio.Task[list[dict[str, Any]]] | None = None
        self._slow = False

    async def streams(self) -> list[StreamInfo]:
        """All streams that the login may see, sorted by name, without key-value and object buckets."""
        streams = [
            info for info in await self.infos() if not info["config"]["name"].startswith(("KV_", "OBJ_"))
        ]
        names = {info["config"]["name"] for info in streams}
        self._counts = {name: counts for name, counts in self._counts.items() if name in names}
        return sorted(map(self.describe, streams), key=lambda stream: stream.name)

    async def infos(self) -> list[dict[str, Any]]:
        """The STREAM.INFO of each stream, buckets included. A node that does not answer delays the server's
        list for seconds. Then only the names are requested; each stream keeps its last known info, or is
        "away"."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._list(), name="list streams")
            self._asking.add_done_callback(_retrieve)
        asking = self._asking
        # After a slow list, the wait is short until the list is quick again.
        await asyncio.wait({asking}, timeout=QUICK / 10 if self._slow else QUICK)
        self._slow = not asking.done()
        if self._slow or _is_silent(asking.exception()):
            try:
                names = self._connection.rights.streams or await list_names(self._connection)
                return [self._known.get(name) or _away(name) for name in names]
            except RequestFailed:
                await asyncio.wait({asking})  # a login may permit the list, but not the names
        return asking.result()

    async def _list(self) -> list[dict[str, Any]]:
        infos = [
            info if "state" in info else {**self._known.get(info["config"]["name"], info), "away": True}
            for info in await list_infos(self._connection)
        ]
        self._known = {info["config"]["name"]: info for info in infos}
        return infos

    async def close(self) -> None:
        """Cancel a pending request."""
        if self._asking is not None:
            await end_tasks([self._asking])

    def describe(self, info: dict[str, Any]) -> StreamInfo:
        """Describe a stream from its `info`, as returned by infos()."""
        if "state" not in info:
            name = info["config"]["name"]
            return StreamInfo(name, "", (), 0, 0, 0, 0, None, None, "", None, away=True)
        config, state = info["config"], info["state"]
        newest = pd.Timestamp(state["last_ts"]) if state["last_seq"] else None
        return StreamInfo(
            name=config["name"],
            description=config.get("description", ""),
            subjects=tuple(config.get("subjects") or ()),
            messages=state["messages"],
            bytes=state["bytes"],
            first_seq=state["first_seq"],
            last_seq=state["last_seq"],
            last_time=newest,
            age=pd.Timestamp(info["ts"]) - newest if newest is not None and "ts" in info else None,
            limits=limits_text(config),
            per_second=self._rate(config["name"], state["last_seq"]),
            away="away" in info,
            leaderless=is_leaderless(info),
            consumers=int(state.get("consumer_count") or 0),
            leader=str((info.get("cluster") or {}).get("leader") or ""),
            replicas=int(config.get("num_replicas") or 1),
            fullness=_fullness(config, state),
            refuses=config.get("discard") == "new",
        )

    def _rate(self, name: str, last_seq: int) -> float | None:
        now = time.monotonic()
        counts = self._counts.setdefault(name, [])
        counts.append((now, last_seq))
        while len(counts) > 2 and counts[1][0] < now - RATE_OVER:
            counts.pop(0)
        since, seq = counts[0]
        return max(0, last_seq - seq) / (now - since) if now > since else None


async def list_infos(connection: Connection) -> list[dict[str, Any]]:
    """All streams that the login may see, key-value buckets included, as `STREAM.LIST` describes them. If
    the role names its streams, each is requested by name, and missing or denied ones are left out. A stream
    whose nodes do not answer has a name and no state."""
    if (names := connection.rights.streams) is not None:
        asked = [connection.api(f"STREAM.INFO.{check_stream_name(name)}") for name in names]
        found = await asyncio.gather(*asked, return_exceptions=True)
        for info in found:
            known = _is_silent(info) or isinstance(info, StreamNotFound | RequestRefused)
            if isinstance(info, BaseException) and not known:
                raise info
        if found and all(_is_silent(info) for info in found):
            raise next(info for info in found if isinstance(info, BaseException))
        named = zip(names, found, strict=True)
        shown = [(name, _away(name) if _is_silent(info) else info) for name, info in named]
        return [info for _, info in shown if not isinstance(info, BaseException)]
    infos: dict[str, dict[str, Any]] = {}
    offset = 0
    while True:
        answer = await connection.api("STREAM.LIST", {"offset": offset})
        page = {info["config"]["name"]: info for info in answer.get("streams") or []}
        # Streams that the server cannot describe also count towards the page.
        page |= {
            name: _away(name) for name in [*(answer.get("missing") or ()), *(answer.get("offline") or ())]
        }
        infos |= page
        offset += max(len(page), int(answer.get("limit") or 0))
        if not page or offset >= answer.get("total", 0):
            return list(infos.values())


async def list_names(connection: Connection, most: float = math.inf) -> list[str]:
    """The names of the streams that the login may see, requested about a thousand at a time until there are
    `most`. The server lists them without a request to the streams' nodes."""
    names: list[str] = []
    while True:
        answer = await connection.api("STREAM.NAMES", {"offset": len(names)})
        page = answer.get("streams") or []
        names += page
        if not page or len(names) >= min(most, answer.get("total", 0)):
            return names


async def no_such_stream(connection: Connection, name: str) -> StreamNotFound:
    """The error for a stream that does not exist, with the most similar name as a suggestion."""
    known: Sequence[str] | None = connection.rights.streams
    if known is None:
        with contextlib.suppress(LookbackError, OSError):
            known = await list_names(connection, MOST_NAMES)
    names, what = list(known or ()), "stream"
    if name.startswith(BUCKET):
        name, what = name.removeprefix(BUCKET), "bucket"
        names = [other.removeprefix(BUCKET) for other in names if other.startswith(BUCKET)]
    near = ""
    if known is not None:  # in a thread, because comparing thousands of names takes a while
        near = await asyncio.to_thread(one_of, name, set(names) - {name}, what=what)
    return StreamNotFound(f"There is no {what} {name!r} in this account. {near}".strip())


def _retrieve(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()  # mark it as retrieved: there may be no caller left


def _fullness(config: dict[str, Any], state: dict[str, Any]) -> float | None:
    limits = (("messages", "max_msgs"), ("bytes", "max_bytes"))
    shares = [state[held] / config[most] for held, most in limits if config.get(most, -1) > 0]
    return max(shares) if shares else None


def is_leaderless(info: dict[str, Any]) -> bool:
    """True if a stream or consumer with this info has no leader at the moment."""
    return "cluster" in info and not (info["cluster"] or {}).get("leader")


def _away(name: str) -> dict[str, Any]:
    return {"config": {"name": name}}


def _is_silent(answer: dict[str, Any] | BaseException | None) -> bool:
    """True for a failure that says nothing about the stream or the login, such as a timeout."""
    return isinstance(answer, LookbackError | TimeoutError) and not isinstance(
        answer, StreamNotFound | RequestRefused
    )


async def list_subjects(
    connection: Connection,
    stream: str,
    pattern: str,
    most: int = MOST_COUNTED,
    progress: Callable[[int, int], None] | None = None,
) -> Subjects:
    """Subjects of `stream` that match `pattern`, from as many replies as needed. Each reply blocks
    publishers, so there is a pause between two, as long as the last one took. `progress` is called with the
    number of subjects counted so far and in all. Raises TooManySubjects if the stream has more than `most`
    subjects, a number that the server reports without counting, and RequestFailed."""
    state = (await connection.infos.ask(stream))["state"]
    _check_total(stream, int(state.get("num_subjects") or 0), most)
    for _ in range(MOST_TRIES):
        found = await _all_subjects(connection, stream, pattern, most, progress or (lambda done, total: None))
        if found is not None:
            return found
    raise RequestFailed(
        f"The subjects of {stream!r} change too quickly to be counted. Try a narrower filter."
    )


def _check_total(stream: str, total: int, most: int) -> None:
    if total > most:
        raise TooManySubjects(
            f"The stream {stream!r} has {total:,} subjects, more than {most:,}. Publishers to it would wait "
            "while the server counts them.",
            total,
        )


async def _all_subjects(
    connection: Connection, stream: str, pattern: str, most: int, progress: Callable[[int, int], None]
) -> Subjects | None:
    """The subjects, from one reply after another; None if a reply does not overlap the previous one."""
    counts: dict[str, int] = {}
    at, last = 0, ""
    while True:
        began = time.monotonic()
        info = await connection.api(f"STREAM.INFO.{stream}", {"subjects_filter": pattern, "offset": at})
        took = time.monotonic() - began
        page: dict[str, int] = info["state"].get("subjects") or {}
        total = int(info.get("total") or len(page))
        _check_total(stream, total, most)
        if page and last and min(page) > last:
            return None
        counts |= page
        last = max(page, default=last)
        progress(min(at + len(page), total), total)
        if not page or at + len(page) >= total:
            return Subjects(len(counts), counts if at == 0 else dict(sorted(counts.items())))
        at += max(1, len(page) - OVERLAP)
        await asyncio.sleep(took)


async def newest_message(connection: Connection, stream: str) -> Newest | None:
    """Subject, storage time (UTC) and payload of the newest message; None if the stream is empty."""
    info = await connection.api(f"STREAM.INFO.{stream}")
    if not info["state"]["messages"]:
        return None
    answer = await connection.api(f"STREAM.MSG.GET.{stream}", {"seq": info["state"]["last_seq"]})
    message = answer["message"]
    payload = base64.b64decode(message.get("data") or "")
    return message["subject"], pd.Timestamp(message["time"]), payload


async def newest_messages(
    read: Callable[[str], Coroutine[Any, Any, Newest | None]], streams: Sequence[str], within: float
) -> dict[str, Newest | RequestFailed | None]:
    """The result of `read` for each of `streams`, requested concurrently, or the error. A stream that does
    not answer within `within` seconds, for example because its nodes are away, gets RequestTimeout. A missing
    stream gets None."""
    asking = {asyncio.create_task(read(name), name=f"newest of {name}"): name for name in streams}
    if not asking:
        return {}
    try:
        await asyncio.wait(asking, timeout=within)
        return {name: _newest(task, name) for task, name in asking.items()}
    finally:
        await end_tasks(asking)


def _newest(task: "asyncio.Task[Newest | None]", name: str) -> Newest | RequestFailed | None:
    failed = task.exception() if task.done() else TimeoutError()
    if failed is None:
        return task.result()
    if isinstance(failed, StreamNotFound):
        return None
    if isinstance(failed, RequestRefused | NoResponders):
        return failed
    if isinstance(failed, RequestFailed | TimeoutError):
        return RequestTimeout(f"The nodes of the stream {name!r} do not respond.")
    raise failed


async def capturing(connection: Connection, subject: str) -> list[str]:
    """Names of the streams that store messages published to `subject`; empty without JetStream. Raises
    NotPermitted, RequestFailed."""
    try:
        answer = await connection.api("STREAM.NAMES", {"subject": subject})
    except NotPermitted:
        raise
    except (NoResponders, RequestRefused):  # no JetStream on the server, or not for this account
        return []
    return list(answer.get("streams") or ())


def limits_text(config: dict[str, Any]) -> str:
    """The limits of a stream with this configuration, in words; empty if it has none."""
    words = []
    if (age := config.get("max_age", 0)) > 0:
        words.append(f"messages for {format_duration(pd.Timedelta(age))}")
    if (count := config.get("max_msgs", -1)) > 0:
        words.append(f"{count:,} message{'s' * (count != 1)}")
    if (size := config.get("max_bytes", -1)) > 0:
        words.append(_size(size))
    if (each := config.get("max_msgs_per_subject", -1)) > 0:
        words.append(f"{each:,} message{'s' * (each != 1)} per subject")
    return " and ".join(words)


def _size(count: int) -> str:
    """A number of bytes as the `nats` command line tool takes it: "512 MiB"; other numbers to the byte."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if count % 1024**power == 0:
            return f"{count // 1024**power:,} {unit}"
    return f"{count:,} byte{'s' * (count != 1)}"
