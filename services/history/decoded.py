"""What a decoder makes of messages, as JSON for the archive."""

import orjson

from nats_client.decoding.decode import read_values
from nats_client.decoding.decoders import check_decoder
from nats_client.decoding.raw import Raw
from nats_client.errors import LookbackError

LARGEST = 1 << 20
"""Characters of a value that are stored."""


def decoded(raw: Raw, decoder: str) -> tuple[list[str | None], list[int], str]:
    """The value of each message as JSON: an object, an array of them, or a single value; None if it is the
    payload itself, or cannot be had. And the places of those that cannot be had, with the reason for the
    first. A decoder that is gone decodes nothing: the messages are archived all the same."""
    try:
        answers = read_values(raw, check_decoder(decoder))
    except LookbackError as error:
        answers = [(False, str(error))] * len(raw)
    values: list[str | None] = []
    reasons: dict[int, str] = {}
    for i, (payload, (good, value)) in enumerate(zip(raw.payload, answers, strict=True)):
        values.append(None)
        if not good:
            reasons[i] = str(value)
            continue
        try:
            text = orjson.dumps(value).decode()
        except orjson.JSONEncodeError as error:
            reasons[i] = f"its value cannot be written as JSON: {error}"
            continue
        if len(text) > LARGEST:
            reasons[i] = f"its value has more than {LARGEST:,} characters"
        elif not _is_itself(payload, text):
            values[-1] = text
    return values, list(reasons), next(iter(reasons.values()), "")


def _is_itself(payload: bytes, text: str) -> bool:
    """True if the payload is this JSON, but for spaces."""
    try:
        return orjson.dumps(orjson.loads(payload)).decode() == text
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return False
