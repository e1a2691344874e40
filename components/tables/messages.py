"""Messages as they arrived, decoded or not."""

import json

import pandas as pd
import streamlit as st

from nats_client.feeds.health import LONGEST_PAYLOAD, Message

from ..data.live import View
from ..spent import timed
from ..words import bytes_text, cut, local, plain

_IN_A_ROW = 200  # characters of a payload in the table
_IN_FULL = 2000  # characters of the newest payload below it


@timed
def message_list(view: View) -> None:
    """Draw the feed's newest messages, newest first, and the newest payload in full with indented JSON. A
    payload that is not text is shown in hex."""
    messages = view.feed.newest()
    if not messages:
        st.info("No message has arrived yet.", icon=":material/hourglass_empty:")
        return
    table = pd.DataFrame(
        {
            "time": pd.to_datetime([message.received for message in messages], utc=True),
            "subject": [message.subject for message in messages],
            "seq": [message.seq for message in messages],
            "size": [message.size for message in messages],
            "headers": [cut(_headers(message), _IN_A_ROW) for message in messages],
            "payload": [cut(_text(message), _IN_A_ROW) for message in messages],
        }
    )
    st.dataframe(
        local(table, "time"),
        column_config={
            "time": st.column_config.DatetimeColumn("Stored", format="YYYY-MM-DD HH:mm:ss.SSS"),
            "subject": "Subject",
            "seq": st.column_config.NumberColumn("Sequence", format="%d"),
            "size": st.column_config.NumberColumn("Bytes", format="localized"),
            "headers": st.column_config.TextColumn("Headers"),
            "payload": st.column_config.TextColumn("Payload", width="large"),
        },
        hide_index=True,
        height=318,
    )
    newest = messages[0]
    st.caption(plain(f"The newest: {newest.subject}, sequence {newest.seq}, {bytes_text(newest.size)}"))
    if newest.headers:
        st.code(
            cut("\n".join(f"{name}: {text}" for name, text in newest.headers.items()), _IN_FULL),
            language=None,
        )
    text, language = pretty(newest)
    st.code(
        cut(text, _IN_FULL), language=language, wrap_lines=True, height=240 if len(text) > 300 else "content"
    )


def _headers(message: Message) -> str:
    return ", ".join(f"{name}: {text}" for name, text in message.headers.items())


def pretty(message: Message) -> tuple[str, str | None]:
    """The payload for people, and "json" if it is JSON: indented, without escapes."""
    text = _text(message)
    if message.size > LONGEST_PAYLOAD:
        return text, None
    try:
        return json.dumps(json.loads(message.payload), indent=2, ensure_ascii=False), "json"
    except (ValueError, RecursionError):
        return text, None


def _text(message: Message) -> str:
    whole = message.size == len(message.payload)
    try:
        text = message.payload.decode()
    except UnicodeDecodeError as error:
        if whole or error.start < len(message.payload) - 3:  # a cut may go through the last character
            return message.payload.hex(" ")
        text = message.payload[: error.start].decode()
    return text if whole else text + "…"
