"""What the server holds: its streams, as a table."""

import base64
import time
from dataclasses import dataclass

import pandas as pd

from .connection import Connection


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
    asked: float
    """When the server was asked, seconds of the monotonic clock."""


async def list_streams(connection: Connection) -> list[StreamInfo]:
    """All streams that the login may see, sorted by name; key-value and object buckets are left out."""
    found: list[StreamInfo] = []
    while True:
        answer = await connection.api("STREAM.LIST", {"offset": len(found)})
        page = answer.get("streams") or []
        for info in page:
            config, state = info["config"], info["state"]
            last = pd.Timestamp(state["last_ts"]) if state["last_seq"] else None
            found.append(
                StreamInfo(
                    name=config["name"],
                    description=config.get("description", ""),
                    subjects=tuple(config.get("subjects") or ()),
                    messages=state["messages"],
                    bytes=state["bytes"],
                    first_seq=state["first_seq"],
                    last_seq=state["last_seq"],
                    last_time=last,
                    asked=time.monotonic(),
                )
            )
        if not page or len(found) >= answer.get("total", 0):
            break
    return sorted((s for s in found if not s.name.startswith(("KV_", "OBJ_"))), key=lambda s: s.name)


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
