"""One message in full: its value as a tree, its text, its bytes, its headers, and its neighbours of the same
subject."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import streamlit as st

from nats_client import Client, LookbackError
from nats_client.errors import MessageNotFound
from nats_client.messages.content import Content, content_of, differences, hex_lines, tree
from nats_client.messages.stored import StoredMessage

from ..data.connection import client
from ..tables.download import payload_link
from ..tables.messages import sequence_of
from ..web.assets import STUB
from ..words import bytes_text, plain, zone
from .kept import forget, kept
from .rows import Rows

TEXT, HEX = 32_768, 4_096
"""Bytes that are shown at first as text, and in hex."""
MOST_TEXT, MOST_HEX = 1_048_576, 65_536
"""The most bytes shown as text, and in hex, so that the browser stays quick. The rest can be downloaded."""
MORE = 8
"""The factor by which a viewer's request for more raises the bytes shown."""
MOST_HEADERS, LONGEST_HEADER = 200, 2_000
_MORE, _KEY = "_message_more", "_message"

_message = st.components.v2.component("message", js=STUB.format("message"), isolate_styles=False)


def message_in_full(rows: Rows, seq: int, opened: Callable[[int], None], closed: Callable[[], None]) -> None:
    """Draw the message `seq` of the stream. `opened` is called with the sequence of another message that the
    viewer opens, `closed` when the viewer closes this message."""
    nats = client(by_code=False)
    decoder = rows.view.feed.key.decoder
    more = st.session_state.get(_MORE)
    texts, bytes_ = more[1:] if more is not None and more[0] == (rows.stream, seq) else (TEXT, HEX)
    key = rows.stream, seq, decoder, zone(), texts, bytes_
    try:
        stored, data = kept(
            "message", nats, key, lambda: _read(nats, rows.stream, seq, decoder, texts, bytes_)
        )
    except MessageNotFound as error:
        st.info(plain(str(error)), icon=":material/search_off:")
        return
    except LookbackError as error:
        st.warning(plain(str(error)), icon=":material/lock:")
        return
    if data["after"] is None:
        forget("message")  # a next message may arrive
    link = payload_link(nats, rows.stream, seq, stored)

    def clicked() -> None:
        what = st.session_state[_KEY].get("clicked")
        if what == "close":
            closed()
        elif what == "more":
            most = min(MOST_TEXT, texts * MORE), min(MOST_HEX, bytes_ * MORE)
            st.session_state[_MORE] = (rows.stream, seq), *most
        elif (other := sequence_of(what)) is not None:
            opened(other)

    _message(key=_KEY, data={**data, "link": link}, on_clicked_change=clicked)


def _read(
    nats: Client, stream: str, seq: int, decoder: str, texts: int, bytes_: int
) -> tuple[int, dict[str, Any]]:
    """When the message was stored (ns since the epoch, UTC), and its data for the browser."""
    message = nats.stored_message(stream, seq)
    content = content_of(message, decoder)
    before, after = nats.beside(stream, message)
    text = content.unpacked[:texts].decode("utf-8", "replace")
    stored = pd.Timestamp(message.stored, tz="UTC").tz_convert(zone())
    return message.stored, {
        "stream": stream,
        "seq": str(seq),
        "stored": stored.strftime("%Y-%m-%d %H:%M:%S.%f"),
        "subject": message.subject,
        "size": bytes_text(len(message.payload)),
        "takenFor": _taken_for(content, message),
        "tree": tree(content.value) if content.is_structured else [],
        "text": text,
        "textCut": _cut(len(content.unpacked), texts, MOST_TEXT),
        "hex": hex_lines(message.payload[:bytes_]),
        "hexCut": _cut(len(message.payload), bytes_, MOST_HEX),
        "headers": [
            [name[:LONGEST_HEADER], value[:LONGEST_HEADER]] for name, value in message.headers[:MOST_HEADERS]
        ],
        "before": None if before is None else str(before),
        "after": None if after is None else str(after),
        **_differences(nats, stream, before, content, decoder),
    }


def _cut(size: int, shown: int, most: int) -> dict[str, Any] | None:
    """A note about the bytes that are not shown; None if all are shown. `more`: more can be requested."""
    if size <= shown:
        return None
    return {"said": f"The first {bytes_text(shown)} of {bytes_text(size)}.", "more": shown < most}


def _taken_for(content: Content, message: StoredMessage) -> str:
    name = content.taken_for.partition("#")[0]
    said = f"Taken for {name}" if name else "Not decoded"
    if content.why:
        said += f" ({content.why})"
    if len(content.unpacked) != len(message.payload):
        said += f", decompressed to {bytes_text(len(content.unpacked))}"
    return said


def _differences(
    nats: Client, stream: str, before: int | None, content: Content, decoder: str
) -> dict[str, Any]:
    if before is None:
        return {"differences": [], "said": "There is no message of this subject before it."}
    try:
        other = content_of(nats.stored_message(stream, before), decoder)
    except LookbackError as error:
        return {"differences": [], "said": str(error)}
    if not (content.taken_for and other.taken_for):
        same = content.unpacked == other.unpacked
        said = "The same bytes as" if same else "Other bytes than"
        return {"differences": [], "said": f"{said} {before:,}; not both could be decoded."}
    found, more = differences(other.value, content.value)
    if not found:
        return {"differences": [], "said": f"The same values as {before:,}."}
    return {"differences": found, "said": f"And {more:,} more." if more else ""}
