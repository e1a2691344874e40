"""Lists buckets, reads histories of keys, and interprets the messages of a bucket's stream.

A bucket is the stream KV_{bucket} with the subjects $KV.{bucket}.{key}; a subject's newest message is the
key's value. In a bucket with a mirror or sources, the second token may be the name of another bucket (ADR-8
of https://github.com/nats-io/nats-architecture-and-design).
"""

import base64
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..connection.connection import Connection
from ..connection.header_block import read_headers
from ..errors import MessageNotFound, StreamNotFound
from ..streams.by_sequence import ns
from ..streams.stream_list import BUCKET, StreamList
from .values import Entry, Operation

MOST_REVISIONS = 64
"""Maximum revisions of a key that a bucket may keep (ADR-8)."""


def filter_of(bucket: str, key: str, config: Mapping[str, Any]) -> str:
    """The filter for `key` (">" for all keys) in `bucket`, whose stream has this `config`. With a mirror or
    sources, it matches any bucket name. Subjects then keep the name of the bucket they were written to,
    unless a transform changes it, and a mirror of a mirror does not report that name (ADR-8)."""
    return f"$KV.{'*' if config.get('mirror') or config.get('sources') else bucket}.{key}"


def key_of(subject: str) -> str | None:
    """The key in the subject of a bucket's message; None if it has none."""
    kind, _, rest = subject.partition(".")
    key = rest.partition(".")[2]
    return key if kind == "$KV" and key else None


def operation_of(headers: Mapping[str, str] | None) -> Operation:
    """The operation of a bucket's message: its KV-Operation header (ADR-8), or the reason of a marker that
    the server wrote (ADR-48)."""
    if not headers:
        return "PUT"
    operation = headers.get("KV-Operation")
    if operation is not None:
        return "PURGE" if operation == "PURGE" else "PUT" if operation == "PUT" else "DEL"
    reason = headers.get("Nats-Marker-Reason")
    return "PUT" if reason is None else "DEL" if reason == "Remove" else "PURGE"


@dataclass(frozen=True)
class BucketInfo:
    """One bucket at the time of the request."""

    name: str
    description: str
    keys: int
    """Number of keys, including deleted ones whose deletion is still kept."""
    revisions: int
    """Revisions of all keys that are still kept."""
    bytes: int
    last_time: pd.Timestamp | None
    """When the newest revision was stored, UTC; None if there never was one."""
    history: int
    """Maximum revisions kept per key; -1 for no limit."""
    ttl: pd.Timedelta | None
    """How long a revision is kept; None for ever."""
    max_bytes: int | None
    """None for no limit."""
    replicas: int
    storage: str
    """"file" or "memory"."""


async def list_buckets(streams: StreamList) -> list[BucketInfo]:
    """All buckets that the login may see, sorted by name. Raises RequestFailed."""
    infos = [info for info in await streams.infos() if info["config"]["name"].startswith(BUCKET)]
    return sorted(map(_describe, infos), key=lambda bucket: bucket.name)


def _describe(info: dict[str, Any]) -> BucketInfo:
    config, state = info["config"], info.get("state", {"messages": 0, "bytes": 0, "last_seq": 0})
    age, size = config.get("max_age", 0), config.get("max_bytes", -1)
    return BucketInfo(
        name=config["name"].removeprefix(BUCKET),
        description=config.get("description", ""),
        keys=state.get("num_subjects", 0),
        revisions=state["messages"],
        bytes=state["bytes"],
        last_time=pd.Timestamp(state["last_ts"]) if state["last_seq"] else None,
        history=config.get("max_msgs_per_subject", -1),
        ttl=pd.Timedelta(age) if age > 0 else None,
        max_bytes=size if size > 0 else None,
        replicas=config.get("num_replicas", 1),
        storage=config.get("storage", ""),
    )


async def key_history(connection: Connection, bucket: str, key: str) -> list[Entry]:
    """The revisions of `key` that are still kept, oldest first; at most 64. Raises StreamNotFound if there is
    no such bucket, and RequestFailed."""
    found: list[Entry] = []
    seq = 1
    try:
        config = (await connection.infos.ask(BUCKET + bucket))["config"]
        with suppress(MessageNotFound):
            while len(found) < MOST_REVISIONS:
                request = {"seq": seq, "next_by_subj": filter_of(bucket, key, config)}
                message = (await connection.api(f"STREAM.MSG.GET.{BUCKET}{bucket}", request))["message"]
                found.append(_entry(key, message))
                seq = message["seq"] + 1
    except StreamNotFound:
        raise StreamNotFound(f"There is no bucket {bucket!r} in this account.") from None
    return found


async def newest_entry(
    connection: Connection, bucket: str, key: str, config: Mapping[str, Any]
) -> Entry | None:
    """The newest revision of `key` in `bucket`, whose stream has this `config`; None if there is none. Raises
    RequestFailed."""
    request = {"last_by_subj": filter_of(bucket, key, config)}
    try:
        answer = await connection.api(f"STREAM.MSG.GET.{BUCKET}{bucket}", request)
    except MessageNotFound:
        return None
    return _entry(key, answer["message"])


def _entry(key: str, message: dict[str, Any]) -> Entry:
    operation = operation_of(read_headers(base64.b64decode(message.get("hdrs") or "")))
    payload = base64.b64decode(message.get("data") or "") if operation == "PUT" else b""
    return Entry(key, payload, message["seq"], ns(message["time"]), operation)
