"""Messages as they arrived, decoded or not."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from nats_client.feeds.health import LONGEST_PAYLOAD, Message

from ..data.live import View
from ..push.json_element import JsonSource, Kind
from ..spent import timed
from ..words import bytes_text, cut, in_zone, zone

_IN_A_ROW = 200  # characters of a payload in the table
_IN_FULL = 2000  # characters of the newest payload below it
_TIME = "%Y-%m-%d %H:%M:%S.%f"

COLUMNS = ["Stored", "Subject", "Sequence", "Bytes", "Headers", "Payload"]

_kind = Kind("message_list")


@timed
def message_list(view: View) -> None:
    """Draw the feed's newest messages, newest first, and the newest payload in full with indented JSON. A
    payload that is not text is shown in hex. The list updates itself, can be searched, and does not move
    while a viewer holds it or points at it."""
    draw_messages(view)


def draw_messages(view: View, opened: Callable[[int], None] | None = None) -> None:
    """Draw message_list(). When the viewer opens a message, `opened` is called with its sequence, before the
    page runs again. Without `opened`, messages cannot be opened."""
    of = view.feed, zone()

    def clicked(value: object) -> None:
        if opened is not None and (seq := sequence_of(value)) is not None:
            opened(seq)

    _kind.draw(
        f"{view.feed.name_key}",
        of,
        lambda: _MessagesSource(view, zone()),
        clicked=clicked if opened is not None else None,
        columns=COLUMNS,
        opens=opened is not None,
    )


def sequence_of(value: object) -> int | None:
    """A sequence that a browser sent; None if `value` is not a sequence."""
    text = str(value)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def cells_of(message: Message) -> list[str]:
    """A message as a row of a table with COLUMNS, in the viewer's zone."""
    return [
        pd.Timestamp(message.received, tz="UTC").tz_convert(zone()).strftime(_TIME)[:-3],
        message.subject,
        str(message.seq),
        f"{message.size:,}",
        cut(_headers(message, ", "), _IN_A_ROW),
        cut(_text(message), _IN_A_ROW),
    ]


class _MessagesSource(JsonSource):
    """Each message is an entry: its cells as text. The names of these entries begin with "r" and ascend in
    the order of arrival. `newest`, `headers`, `payload`: the newest message in words, and its contents."""

    def __init__(self, view: View, zone: str) -> None:
        super().__init__()
        self._feed = view.feed
        self._zone = zone

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """New messages."""
        return self._feed.watch(changed)

    def look(self) -> Mapping[str, Any]:
        """The messages now."""
        messages = self._feed.newest()
        if not messages:
            return {}
        newest = messages[0]
        of = f"The newest: {newest.subject}, sequence {newest.seq}, {bytes_text(newest.size)}"
        with in_zone(self._zone):
            rows = {f"r{message.received:020d}.{message.seq:020d}": cells_of(message) for message in messages}
        headers = cut(_headers(newest, "\n"), _IN_FULL)
        return {"newest": of, "headers": headers, "payload": cut(pretty(newest), _IN_FULL), **rows}


def _headers(message: Message, between: str) -> str:
    return between.join(f"{name}: {text}" for name, text in message.headers.items())


def pretty(message: Message) -> str:
    """The payload in readable form: JSON is indented and has no escapes."""
    text = _text(message)
    if message.size > LONGEST_PAYLOAD:
        return text
    try:
        return json.dumps(json.loads(message.payload), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _text(message: Message) -> str:
    whole = message.size == len(message.payload)
    try:
        text = message.payload.decode()
    except UnicodeDecodeError as error:
        if whole or error.start < len(message.payload) - 3:  # a cut may go through the last character
            return message.payload.hex(" ")
        text = message.payload[: error.start].decode()
    return text if whole else text + "…"
