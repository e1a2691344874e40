"""Makes consumers on the server: their configuration, and where they begin."""

import contextlib
from datetime import UTC, datetime
from typing import Any

from nats.nuid import NUID

from ..connection.connection import Connection
from ..errors import LookbackError, NotPermitted, RequestRefused
from .by_sequence import ns, refused

HEARTBEAT = 1.0  # seconds between the server's signs of life on an idle stream
INACTIVE = 10.0  # seconds after which the server forgets a consumer that nobody listens to
FITTING = 6  # tries to find where the messages begin that a window keeps

_nuid = NUID()


def push_config(name: str, address: str, stream: dict[str, Any], rate: int | None) -> dict[str, Any]:
    """The configuration of a push consumer that delivers to `address`, at most `rate` bytes a second, as the
    configuration of its `stream` permits; without a start."""
    config: dict[str, Any] = {
        "name": name,
        "deliver_subject": address,
        "ack_policy": "none",
        "max_deliver": 1,
        "replay_policy": "instant",
        "mem_storage": True,
        "num_replicas": 0,  # as many as the stream wants
        "flow_control": True,
        "idle_heartbeat": int(HEARTBEAT * 1e9),
        "inactive_threshold": int(INACTIVE * 1e9),
    }
    limits = stream.get("consumer_limits") or {}
    if 0 < (shortest := limits.get("inactive_threshold", 0)) < config["inactive_threshold"]:
        config["inactive_threshold"] = shortest
    if rate is not None:
        config["rate_limit_bps"] = rate * 8
    return config


def from_time(start: int) -> dict[str, Any]:
    """A start with the first message that was stored at `start` (ns since the epoch, UTC) or later."""
    text = datetime.fromtimestamp(start / 1e9, UTC).isoformat()
    return {"deliver_policy": "by_start_time", "opt_start_time": text}


def from_sequence(seq: int) -> dict[str, Any]:
    """A start with the first message from the stream sequence `seq` on."""
    return {"deliver_policy": "by_start_sequence", "opt_start_seq": seq}


async def create_consumer(
    connection: Connection, stream: str, subject: str | None, config: dict[str, Any]
) -> dict[str, Any]:
    """Make a consumer with the filter `subject`; the server's answer. Raises NoConsumerError where the server
    refuses it, LookbackError."""
    address = f"CONSUMER.CREATE.{stream}.{config['name']}"
    if subject is not None:
        config["filter_subject"] = subject
        address += f".{subject}"  # a permission can pin the filter this way
    request = {"stream_name": stream, "config": config, "action": "create"}
    try:
        return await connection.api(address, request)
    except NotPermitted:
        raise
    except RequestRefused as error:
        raise refused(error) from error


async def count_from(connection: Connection, stream: str, subject: str | None, start: dict[str, Any]) -> int:
    """How many messages a consumer with this start has to deliver. It is one that delivers nothing."""
    name = _nuid.next().decode()
    config = start | {
        "name": name,
        "ack_policy": "none",
        "mem_storage": True,
        "num_replicas": 0,
        "inactive_threshold": int(HEARTBEAT * 1e9),
    }
    answer = await create_consumer(connection, stream, subject, config)
    with contextlib.suppress(LookbackError):
        await connection.api(f"CONSUMER.DELETE.{stream}.{name}")
    return int(answer.get("num_pending", 0))


async def find_beginning(
    connection: Connection,
    stream: str,
    subject: str | None,
    start: dict[str, Any],
    state: dict[str, Any],
    room: int,
) -> tuple[int, int] | None:
    """Where more than `room` messages are stored from `start` on: the sequence from which they fit, and how
    many come before it. None where all fit. The server says how many messages there are from a sequence on,
    so a few guesses between two known points find it."""
    count = await count_from(connection, stream, subject, start)
    if count <= room:
        return None
    low, high = int(state["first_seq"]), int(state["last_seq"]) + 1
    at_low, at_high = count, 0
    most, guess, held = room, high, 0
    for _ in range(FITTING):
        share = (at_low - 0.98 * most) / max(1, at_low - at_high)
        guess = min(high - 1, max(low + 1, low + int((high - low) * share)))
        held = await count_from(connection, stream, subject, from_sequence(guess))
        if held > most:
            low, at_low = guess, held
        else:
            high, at_high = guess, held
            if held > 0.9 * most:
                break
    return (high, count - at_high) if at_high else None


async def passes_over(
    connection: Connection,
    stream: str,
    subject: str | None,
    start: int | None,
    answer: dict[str, Any],
    state: dict[str, Any],
) -> bool:
    """Whether a consumer that begins at a time stands behind messages of that time. After a purge that
    rewrites the newest part of a stream, nats-server 2.15.1 takes each time for one after the end."""
    by_time = answer["config"].get("deliver_policy") == "by_start_time"
    at_end = by_time and answer["delivered"]["stream_seq"] >= state["last_seq"] and state["messages"]
    if not at_end or start is None or ns(state["last_ts"]) < start:
        return False
    if subject is None:
        return True
    try:  # of a filter, there may be none
        last = await connection.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
    except RequestRefused:
        return False
    return ns(last["message"]["time"]) >= start


def settings_of(info: dict[str, Any]) -> dict[str, Any]:
    """What a consumer is set to; the server notes in the metadata what it needs to know for itself."""
    return {
        name: value
        for name, value in info["config"].items()
        if name not in ("metadata", "pause_until") and value
    }
