"""The messages behind a point that a viewer clicks: found by their rows, and read from the stream."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from nats_client import Client, Feed, LookbackError, NamedFeed, PlayedFeed, Snapshot
from nats_client.errors import MessageNotFound
from nats_client.results.given_rows import GivenRows
from nats_client.table.values import Floats

from ..words import bytes_text, cut
from .connection import client
from .live import Readable, View

MOST = 5
"""Messages to show for one click."""
LONGEST = 4000
"""Characters of a payload to show."""
MOST_BYTES = 8 * 1024 * 1024
"""Bytes of payloads after which no further message is read."""
MOST_HEADERS, LONGEST_HEADER = 50, 1000
"""Headers to show of a message, and characters of each."""
LONGEST_SUBJECT = 1000
_SAME = 1_000_000  # ns by which a row's time of storage may differ from the message's: an archive rounds it


class Behind:
    """Reads the messages of the rows of one feed, with the rights of its viewers. Thread-safe."""

    def __init__(self, feed: Readable, nats: Client | None) -> None:
        """`nats`: the client of the feed; None if the rows are not messages."""
        self._feed = feed
        self._client = nats

    def check(self) -> None:
        """Raises LookbackError if these rows have no messages that can be read."""
        if isinstance(self._feed, GivenRows):
            raise LookbackError("This is a table of the page's own, so no message stands behind it.")
        if self._client is None:
            raise LookbackError("This is a result of SQL over rows, so no single message stands behind it.")
        if self._feed.key.stream is None:
            raise LookbackError("Plain subjects are not stored, so their messages cannot be read any more.")

    def messages(self, rows: Snapshot, values: Floats | None = None) -> dict[str, Any]:
        """The messages of `rows`, for the browser: `stream`, `count`, and in `messages` up to MOST of them in
        the order of time. These are the messages with the least and the greatest of `values`, if given, then
        the newest. `gone` or `why` says why a message has no payload. Raises LookbackError."""
        self.check()
        stream = self._feed.key.stream
        assert self._client is not None
        assert stream is not None
        found: list[dict[str, Any]] = []
        size = 0
        labels = rows.codes("_subject")[1] if len(rows) else []
        for place in _chosen(rows, values):
            subject = labels[rows.codes("_subject")[0][place]]
            seq, stored = int(rows.seq[place]), int(rows.received[place])
            shown: dict[str, Any] = {
                "subject": cut(subject, LONGEST_SUBJECT),
                "seq": str(seq),
                "stored": stored // 1_000_000,
            }
            if size > MOST_BYTES:
                shown["why"] = "It was not read, because the others are so large. Explore shows it."
            else:
                try:
                    message = self._client.stored_message(stream, seq)
                except MessageNotFound as error:
                    shown["gone"] = str(error)
                else:
                    if message.subject == subject and abs(message.stored - stored) < _SAME:
                        size += len(message.payload)
                        shown |= _content(message.payload, message.headers)
                    else:
                        shown["gone"] = f"The stream {stream!r} was recreated since, and no longer holds it."
            found.append(shown)
        return {"stream": stream, "count": len(np.unique(rows.seq)), "messages": found}


def messages_behind(view: View) -> Behind:
    """A reader of the messages behind the rows of `view`, with the viewer's rights."""
    read = isinstance(view.feed, Feed | NamedFeed | PlayedFeed)
    return Behind(view.feed, client(by_code=False) if read else None)


def _chosen(rows: Snapshot, values: Floats | None) -> list[int]:
    """The places of the rows to show, in the order of time. One message may have several rows."""
    order = np.lexsort((rows.seq, rows.time))
    first = list(order[::-1])
    if values is not None and len(values):
        first = [int(np.argmin(values)), int(np.argmax(values)), *first]
    chosen: dict[int, int] = {}
    for place in first:
        if len(chosen) < MOST:
            chosen.setdefault(int(rows.seq[place]), int(place))
    return sorted(chosen.values(), key=lambda place: (int(rows.time[place]), int(rows.seq[place])))


def _content(payload: bytes, headers: tuple[tuple[str, str], ...]) -> Mapping[str, Any]:
    text, kind = _text(payload)
    return {
        "size": bytes_text(len(payload)),
        "kind": kind,
        "payload": text[:LONGEST],
        "cut": len(text) > LONGEST or len(payload) > 4 * LONGEST,
        "headers": [
            [cut(name, LONGEST_HEADER), cut(value, LONGEST_HEADER)] for name, value in headers[:MOST_HEADERS]
        ],
        "more_headers": max(0, len(headers) - MOST_HEADERS),
    }


def _indented(text: str) -> str:
    """JSON for people; anything else as it is."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _text(payload: bytes) -> tuple[str, str]:
    """The start of a payload as text, or in hex if it is not UTF-8; and which of the two, "text" or "hex"."""
    part = payload[: 4 * LONGEST]  # a character has up to four bytes
    try:
        text = part.decode()
        return (_indented(text) if len(payload) <= LONGEST else text), "text"
    except UnicodeDecodeError as error:
        if len(part) < len(payload) and error.start >= len(part) - 3:  # the cut goes through a character
            return part[: error.start].decode(), "text"
    return part[: LONGEST // 3 + 1].hex(" "), "hex"
