"""What the server holds: its streams, as a table."""

import base64
import time
from dataclasses import dataclass
from typing import Any

import pandas as pd

from .connection import Connection

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
    per_second: float | None
    """Messages a second since about ten seconds ago; None at the first look."""


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
        return StreamInfo(
            name=config["name"],
            description=config.get("description", ""),
            subjects=tuple(config.get("subjects") or ()),
            messages=state["messages"],
            bytes=state["bytes"],
            first_seq=state["first_seq"],
            last_seq=state["last_seq"],
            last_time=pd.Timestamp(state["last_ts"]) if state["last_seq"] else None,
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
    """All streams that the login may see, key-value buckets too, as `STREAM.LIST` describes them."""
    infos: list[dict[str, Any]] = []
    while True:
        answer = await connection.api("STREAM.LIST", {"offset": len(infos)})
        page = answer.get("streams") or []
        infos += page
        if not page or len(infos) >= answer.get("total", 0):
            return infos


async def list_subjects(connection: Connection, stream: str, pattern: str = ">") -> dict[str, int]:
    """Subjects of `stream` that match `pattern`, with their numbers of messages; at most one page of them."""
    info = await connection.api(f"STREAM.INFO.{stream}", {"subjects_filter": pattern})
    counts: dict[str, int] = info["state"].get("subjects") or {}
    return dict(sorted(counts.items()))


async def newest_message(connection: Connection, stream: str) -> tuple[str, pd.Timestamp, bytes] | None:
    """Subject, time of storage (UTC) and payload of the newest message; None when the stream is empty."""
    info = await connection.api(f"STREAM.INFO.{stream}")
    if not info["state"]["messages"]:
        return None
    answer = await connection.api(f"STREAM.MSG.GET.{stream}", {"seq": info["state"]["last_seq"]})
    message = answer["message"]
    payload = base64.b64decode(message.get("data") or "")
    return message["subject"], pd.Timestamp(message["time"]), payload
