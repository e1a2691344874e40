"""Decodes MessagePack."""

from typing import Any

from .elements import with_path
from .plain_values import hexadecimal, iso_of_ns, plain


def read_msgpack(payload: bytes) -> Any:
    """Decode one payload: one value, or several arrays or maps one after the other, which become an
    array. Raises ValueError."""
    import msgpack  # loaded only when used

    options: dict[str, Any] = {
        "strict_map_key": False,
        "unicode_errors": "backslashreplace",
        "ext_hook": _extension,
        "max_buffer_size": max(len(payload), 1),
    }
    try:
        # The library reserves memory by an array's count before it reads the items. So check first that all
        # items are present.
        checked = msgpack.Unpacker(**options)
        checked.feed(payload)
        while checked.tell() < len(payload):
            checked.skip()
        reader = msgpack.Unpacker(**options)
        reader.feed(payload)
        values = [_time(value) for value in reader]
    except msgpack.OutOfData:
        raise ValueError("not MessagePack: cut off") from None
    except Exception as error:
        raise ValueError(f"not MessagePack: {str(error)[:100] or type(error).__name__}") from None
    if len(values) > 1 and not all(isinstance(value, dict | list) for value in values):
        # Otherwise any text would be accepted, with a number for each character.
        raise ValueError("not MessagePack: more follows after a value that is no array or map")
    return plain(values[0] if len(values) == 1 else values, len(payload))


def _time(value: Any) -> Any:
    """`value` with its times as ISO 8601 texts."""
    import msgpack

    if type(value) is msgpack.Timestamp:
        return iso_of_ns(value.to_unix_nano()) or str(value)
    if type(value) is dict:
        return {key: _time(item) for key, item in value.items()}
    return [_time(item) for item in value] if type(value) is list else value


def _extension(code: int, data: bytes) -> Any:
    if code == 0 and len(data) == 8:  # the time format of Fluentd and Fluent Bit: seconds and nanoseconds
        seconds, ns = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:], "big")
        if ns < 10**9:
            return iso_of_ns(seconds * 10**9 + ns)
    return f"extension {code}: {hexadecimal(data)}"


MSGPACK = with_path("msgpack", read_msgpack)
