"""Decodes CBOR."""

import io
from typing import Any

from .elements import with_path
from .plain_values import hexadecimal, plain

DEEPEST = 200
"""Maximum levels of arrays and maps."""


def read_cbor(payload: bytes) -> Any:
    """Decode one payload: one value, or several arrays or maps one after the other, which become an array.
    Raises ValueError."""
    import cbor2  # loaded only when used

    stream = io.BytesIO(payload)
    values: list[Any] = []
    try:
        reader = cbor2.CBORDecoder(
            stream,
            tag_hook=_tag,
            # Regular expressions and e-mails stay texts: they need not be compiled or parsed.
            semantic_decoders={35: _content, 36: _content},
            str_errors="backslashreplace",
            max_depth=DEEPEST,
            read_size=max(1, len(payload)),
        )
        while not values or stream.tell() < len(payload):
            values.append(reader.decode())
    except Exception as error:
        raise ValueError(f"not CBOR: {str(error)[:100] or type(error).__name__}") from None
    if len(values) > 1 and not all(isinstance(value, dict | list) for value in values):
        # Otherwise any text would be accepted, with a number for each character.
        raise ValueError("not CBOR: more follows after a value that is no array or map")
    return plain(values[0] if len(values) == 1 else values, len(payload))


def _content(value: Any, immutable: bool) -> Any:
    return value


def _tag(tag: Any, immutable: bool) -> Any:
    """A value with a tag that the library does not know."""
    value = hexadecimal(tag.value) if isinstance(tag.value, bytes) else tag.value
    return f"tag {tag.tag}: {str(value)[:100]}" if immutable else {"tag": tag.tag, "value": value}


CBOR = with_path("cbor", read_cbor)
