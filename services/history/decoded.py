"""Decodes messages to JSON for the archive."""

import orjson

from nats_client.decoding.decode import read_values
from nats_client.decoding.decoders import check_decoder
from nats_client.decoding.raw import Raw
from nats_client.errors import LookbackError

LARGEST = 1 << 20
"""Characters of a stored value. A longer one counts as one that cannot be decoded."""


def decoded(raw: Raw, decoder: str) -> tuple[list[str | None], list[int], str]:
    """Decode messages. Returns their values, the indices of those that failed, and the first reason or "".

    A value is JSON: an object, an array of objects, or a single value. It is None if the payload itself is
    that JSON, or if decoding failed. If the decoder no longer exists, all fail, but can still be archived.
    """
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
    """True if the payload is this JSON, apart from white space."""
    try:
        return orjson.dumps(orjson.loads(payload)).decode() == text
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return False
