"""Decodes payloads of the agents Telegraf and Fluent Bit, in any of the formats that they can send."""

from typing import Any

from .decoder import Decoder
from .json_payloads import read_json
from .line_protocol import read_line_protocol
from .msgpack_payloads import read_msgpack
from .plain_values import epoch_text

_METRIC = {"fields", "name", "tags", "timestamp"}


def telegraf_rows(value: Any) -> list[Any] | None:
    """The rows of Telegraf's JSON, one metric or a batch, with the columns of its line protocol: the name is
    `measurement`, the timestamp is `time`. None if `value` is something else."""
    metrics = value["metrics"] if type(value) is dict and value.keys() == {"metrics"} else [value]
    if type(metrics) is not list or not metrics or not all(map(_is_metric, metrics)):
        return None
    rows: list[Any] = []
    for metric in metrics:
        row: dict[str, Any] = {"measurement": metric["name"]}
        held = [*metric["tags"].items(), *metric["fields"].items(), ("time", epoch_text(metric["timestamp"]))]
        for key, item in held:
            while key in row:
                key += "'"
            row[key] = item
        rows.append(row)
    return rows


def _is_metric(value: Any) -> bool:
    return (
        type(value) is dict
        and value.keys() == _METRIC
        and type(value["tags"]) is dict
        and type(value["fields"]) is dict
        and type(value["timestamp"]) in (int, float)
    )


def fluent_bit_rows(value: Any) -> list[Any] | None:
    """The rows of Fluent Bit's arrays of pairs: a time, or an array with a time and metadata, and a record.
    The time is `time`. None if `value` is something else."""
    if type(value) is not list or not value:
        return None
    rows: list[Any] = []
    for pair in value:
        if type(pair) is not list or len(pair) != 2 or type(pair[1]) is not dict:
            return None
        time = pair[0][0] if type(pair[0]) is list and pair[0] else pair[0]
        if type(time) not in (int, float, str):
            return None
        row = {"time": time if type(time) is str else epoch_text(time)}
        for key, item in pair[1].items():
            row[key if key != "time" else "time'"] = item
        rows.append(row)
    return rows


def read_telegraf(payload: bytes) -> Any:
    """Decode one payload: line protocol, JSON or MessagePack. Raises ValueError."""
    if payload[:1] in (b"{", b"["):
        value = read_json(payload)
    elif payload and payload[0] >= 0x80:
        value = read_msgpack(payload)
    else:
        return read_line_protocol(payload)
    return telegraf_rows(value) or value


def read_fluent_bit(payload: bytes) -> Any:
    """Decode one payload: JSON or MessagePack. Raises ValueError."""
    value = read_msgpack(payload) if payload and payload[0] >= 0x80 else read_json(payload)
    return fluent_bit_rows(value) or value


TELEGRAF = Decoder(read_telegraf)
FLUENT_BIT = Decoder(read_fluent_bit)
