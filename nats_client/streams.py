"""What the server holds: its streams, as a table."""

import asyncio
import base64
import time
from dataclasses import dataclass
from typing import Any, TypeGuard

import pandas as pd

from .connection import Connection
from .duration import format_duration
from .errors import NoResponders, NotPermitted, RequestRefused, StreamNotFound
from .subjects import check_stream_name

PAGE = 100_000
"""Subjects that the server lists in one answer."""
RATE_OVER = 10.0  # seconds that a rate is taken over, once there are as many


@dataclass(frozen=True)
class StreamInfo:
    """One stream of the server, as it was when asked."""

    name: str
    description: str
    subjects: tuple[str, ...]
    messages: int
    bytes: int
    first_seq: int
    last_seq: int
    last_time: pd.Timestamp | None
    """When the newest message was stored, UTC; None when there never was one."""
    age: pd.Timedelta | None
    """How old the newest message was, by the server's clock; None when there never was one, and where the
    server does not tell its time (before 2.10)."""
    limits: str
    """What the stream keeps at most, in words; empty where nothing limits it."""
    per_second: float | None
    """Messages a second since about ten seconds ago; None at the first look."""


@dataclass(frozen=True)
class Subjects:
    """Subjects of a stream."""

    total: int
    """How many match."""
    counts: dict[str, int]
    """The first of them in alphabetical order, at most PAGE, with their numbers of messages."""


class StreamList:
    """Lists the streams, and remembers enough of the last looks to tell their rates."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._looks: dict[str, list[tuple[float, int]]] = {}

    async def look(self) -> list[StreamInfo]:
        """All streams that the login may see, by name; key-value and object buckets are left out."""
        infos = await list_infos(self._connection)
        streams = [info for info in infos if not info["config"]["name"].startswith(("KV_", "OBJ_"))]
        names = {info["config"]["name"] for info in streams}
        self._looks = {name: looks for name, looks in self._looks.items() if name in names}
        return sorted(map(self._describe, streams), key=lambda stream: stream.name)

    def _describe(self, info: dict[str, Any]) -> StreamInfo:
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
        )

    def _rate(self, name: str, last_seq: int) -> float | None:
        now = time.monotonic()
        looks = self._looks.setdefault(name, [])
        looks.append((now, last_seq))
        while len(looks) > 2 and looks[1][0] < now - RATE_OVER:
            looks.pop(0)
        since, seq = looks[0]
        return max(0, last_seq - seq) / (now - since) if now > since else None


async def list_infos(connection: Connection) -> list[dict[str, Any]]:
    """All streams that the login may see, key-value buckets too, as `STREAM.LIST` describes them. Where it is
    known which those are, each is asked for; one that is not there, or denied, is left out."""
    if (names := connection.rights.streams) is not None:
        asked = [connection.api(f"STREAM.INFO.{check_stream_name(name)}") for name in names]
        found = await asyncio.gather(*asked, return_exceptions=True)
        return [info for info in found if _is_there(info)]
    infos: list[dict[str, Any]] = []
    while True:
        answer = await connection.api("STREAM.LIST", {"offset": len(infos)})
        page = answer.get("streams") or []
        infos += page
        if not page or len(infos) >= answer.get("total", 0):
            return infos


def _is_there(answer: dict[str, Any] | BaseException) -> TypeGuard[dict[str, Any]]:
    if isinstance(answer, BaseException) and not isinstance(answer, StreamNotFound | RequestRefused):
        raise answer
    return not isinstance(answer, BaseException)


async def list_subjects(connection: Connection, stream: str, pattern: str) -> Subjects:
    """Subjects of `stream` that match `pattern`: one answer of the server, however many there are."""
    info = await connection.api(f"STREAM.INFO.{stream}", {"subjects_filter": pattern})
    counts: dict[str, int] = info["state"].get("subjects") or {}
    return Subjects(int(info.get("total") or len(counts)), counts)


async def newest_message(connection: Connection, stream: str) -> tuple[str, pd.Timestamp, bytes] | None:
    """Subject, time of storage (UTC) and payload of the newest message; None when the stream is empty."""
    info = await connection.api(f"STREAM.INFO.{stream}")
    if not info["state"]["messages"]:
        return None
    answer = await connection.api(f"STREAM.MSG.GET.{stream}", {"seq": info["state"]["last_seq"]})
    message = answer["message"]
    payload = base64.b64decode(message.get("data") or "")
    return message["subject"], pd.Timestamp(message["time"]), payload


async def capturing(connection: Connection, subject: str) -> list[str]:
    """Names of the streams that store what is published to `subject`; none without JetStream. Raises
    NotPermitted, RequestFailed."""
    try:
        answer = await connection.api("STREAM.NAMES", {"subject": subject})
    except NotPermitted:
        raise
    except (NoResponders, RequestRefused):  # there is no JetStream, or not for this account
        return []
    return list(answer.get("streams") or ())


def limits_text(config: dict[str, Any]) -> str:
    """What a stream of this configuration keeps at most, in words; empty where nothing limits it."""
    words = []
    if (age := config.get("max_age", 0)) > 0:
        words.append(f"messages for {format_duration(pd.Timedelta(age))}")
    if (count := config.get("max_msgs", -1)) > 0:
        words.append(f"{count:,} messages")
    if (size := config.get("max_bytes", -1)) > 0:
        words.append(f"{size:,} bytes")
    if (each := config.get("max_msgs_per_subject", -1)) > 0:
        words.append(f"{each:,} messages per subject")
    return " and ".join(words)
