"""Stored messages as a table, for files."""

import base64
import json
from collections.abc import Sequence

import pandas as pd

from .stored import StoredMessage


def messages_frame(messages: Sequence[StoredMessage]) -> pd.DataFrame:
    """The messages, one per row, indexed by `_time` (when each was stored, UTC): `_subject`, `_seq`,
    `_headers` (a JSON array of names and values; missing without headers), and either `payload` (text) or,
    if it is not UTF-8, `payload_base64`."""
    payloads = [_payload(message) for message in messages]
    columns = {
        "_subject": [message.subject for message in messages],
        "_seq": [message.seq for message in messages],
        "_headers": [
            json.dumps(message.headers, ensure_ascii=False) if message.headers else None
            for message in messages
        ],
        "payload": [text for text, _ in payloads],
        "payload_base64": [coded for _, coded in payloads],
    }
    times = pd.DatetimeIndex([message.stored for message in messages], tz="UTC", name="_time")
    found = pd.DataFrame(columns, index=times)
    texts = [name for name in columns if name != "_seq"]
    return found.astype({"_seq": "int64", **dict.fromkeys(texts, "string")})


def _payload(message: StoredMessage) -> tuple[str | None, str | None]:
    try:
        return message.payload.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(message.payload).decode()
