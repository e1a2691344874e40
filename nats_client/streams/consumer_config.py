"""Creates consumers on the server: their configuration and their start."""

import contextlib
from datetime import UTC, datetime
from typing import Any

from nats.nuid import NUID

from ..connection.connection import Connection
from ..errors import LookbackError, NotPermitted, RequestRefused
from ..subjects import filters_of
from .by_sequence import BySequence, consumer_refused, ns
from .clock_changes import Find, all_from, first_at

HEARTBEAT = 1.0  # seconds between idle heartbeats
INACTIVE = 10.0  # seconds without a subscriber after which the server deletes a consumer
FITTING = 6  # guesses to find the first sequence from which all messages fit into the window

_nuid = NUID()


def push_config(name: str, address: str, stream: dict[str, Any], rate: int | None) -> dict[str, Any]:
    """The configuration of a push consumer that delivers to `address`, at most `rate` bytes a second, within
    the consumer limits of its `stream` (a stream configuration). The start is not included."""
    config: dict[str, Any] = {
        "name": name,
        "description": "Lookback",  # shows an administrator which program it belongs to
        "deliver_subject": address,
        "ack_policy": "none",
        "max_deliver": 1,
        "replay_policy": "instant",
        "mem_storage": True,
        "num_replicas": 0,  # as many as the stream has
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
    """A start at the first message stored at or after `start` (ns since the epoch, UTC)."""
    text = datetime.fromtimestamp(start / 1e9, UTC).isoformat()
    return {"deliver_policy": "by_start_time", "opt_start_time": text}


def from_sequence(seq: int) -> dict[str, Any]:
    """A start at the stream sequence `seq`, or the next one that exists."""
    return {"deliver_policy": "by_start_sequence", "opt_start_seq": seq}


async def create_consumer(
    connection: Connection, stream: str, subject: str | None, config: dict[str, Any]
) -> dict[str, Any]:
    """Create a consumer with the filter `subject`, or several of a Pattern, and return the server's reply.
    Raises NoConsumerError if the server refuses it, LookbackError."""
    address = f"CONSUMER.CREATE.{stream}.{config['name']}"
    if subject is not None and len(filters := filters_of(subject)) > 1:
        config["filter_subjects"] = filters
    elif subject is not None:
        config["filter_subject"] = subject
        address += f".{subject}"  # so that a permission can restrict the filter
    request = {"stream_name": stream, "config": config, "action": "create"}
    try:
        return await connection.api(address, request)
    except NotPermitted:
        raise
    except RequestRefused as error:
        raise consumer_refused(error) from error


async def count_from(connection: Connection, stream: str, subject: str | None, start: dict[str, Any]) -> int:
    """How many messages a consumer with this start would deliver."""
    return (await _beginning_of(connection, stream, subject, start))[1]


async def _beginning_of(
    connection: Connection, stream: str, subject: str | None, start: dict[str, Any]
) -> tuple[int, int]:
    """The stream sequence at which a consumer with this start begins, and how many messages it would deliver,
    counted by a pull consumer that never pulls."""
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
    return int(answer["delivered"]["stream_seq"]) + 1, int(answer.get("num_pending", 0))


async def find_end(
    connection: Connection, stream: str, subject: str | None, end: int, state: dict[str, Any]
) -> tuple[int, int]:
    """The place in the stream where a stretch up to `end` (ns since the epoch, UTC) ends: the sequence from
    which on all messages were stored at or after `end`, and how many of these match the filter."""
    found, after = await _beginning_of(connection, stream, subject, from_time(end))
    seq = found
    if seq > int(state["last_seq"]) and state["messages"] and ns(state["last_ts"]) >= end:
        # See skips_messages().
        seq = await BySequence(connection, stream, None, "").since(end, state)
    with contextlib.suppress(NotPermitted):  # then assume that the clock was never set back
        seq = await all_from(_reader(connection, stream), _finder(connection, stream, subject), seq, end)
    if seq != found:
        _, after = await _beginning_of(connection, stream, subject, from_sequence(max(1, seq)))
    return seq, after


async def find_start(connection: Connection, stream: str, subject: str | None, start: int) -> dict[str, Any]:
    """The start of a consumer at the first message stored at or after `start` (ns since the epoch, UTC),
    even if the server's clock was set back."""
    find = _finder(connection, stream, subject)
    with contextlib.suppress(NotPermitted):
        found = await find(start)
        if (first := await first_at(_reader(connection, stream), find, found, start)) < found:
            return from_sequence(max(1, first))
    return from_time(start)


def _reader(connection: Connection, stream: str) -> BySequence:
    return BySequence(connection, stream, None, "")


def _finder(connection: Connection, stream: str, subject: str | None) -> Find:
    async def find(time: int) -> int:
        return (await _beginning_of(connection, stream, subject, from_time(time)))[0]

    return find


async def find_beginning(
    connection: Connection,
    stream: str,
    subject: str | None,
    start: dict[str, Any],
    state: dict[str, Any],
    room: int,
    end: tuple[int, int] | None = None,
) -> tuple[int, int] | None:
    """The sequence from which on at most `room` messages are stored, and how many messages come before it;
    None if all fit. Only messages from `start` up to `end` count; `end` is a result of find_end(). The server
    can count the messages after any sequence, so a few interpolated guesses find it."""
    until, after = end or (int(state["last_seq"]) + 1, 0)
    count = await count_from(connection, stream, subject, start) - after
    if count <= room:
        return None
    low, high = int(state["first_seq"]), until
    at_low, at_high = count, 0
    most, guess, held = room, high, 0
    for _ in range(FITTING):
        share = (at_low - 0.98 * most) / max(1, at_low - at_high)
        guess = min(high - 1, max(low + 1, low + int((high - low) * share)))
        held = max(0, await count_from(connection, stream, subject, from_sequence(guess)) - after)
        if held > most:
            low, at_low = guess, held
        else:
            high, at_high = guess, held
            if held > 0.9 * most:
                break
    return (high, count - at_high) if at_high else None


async def skips_messages(
    connection: Connection,
    stream: str,
    subject: str | None,
    start: int | None,
    answer: dict[str, Any],
    state: dict[str, Any],
) -> bool:
    """True if a consumer that starts by time has skipped messages it should deliver. After a purge that
    rewrites the newest block of a stream, nats-server 2.15.1 treats every start time as after the end."""
    by_time = answer["config"].get("deliver_policy") == "by_start_time"
    at_end = by_time and answer["delivered"]["stream_seq"] >= state["last_seq"] and state["messages"]
    if not at_end or start is None or ns(state["last_ts"]) < start:
        return False
    if subject is None:
        return True
    for each in filters_of(subject):
        with contextlib.suppress(RequestRefused):  # nothing may match the filter
            last = await connection.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": each})
            if ns(last["message"]["time"]) >= start:
                return True
    return False


def settings_of(info: dict[str, Any]) -> dict[str, Any]:
    """A consumer's settings that are not empty, without its pause, and without the metadata, to which the
    server adds values of its own."""
    return {
        name: value
        for name, value in info["config"].items()
        if name not in ("metadata", "pause_until") and value
    }
