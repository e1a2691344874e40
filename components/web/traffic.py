"""ASGI middleware for websockets: counts the messages and bytes sent to each browser, and releases the memory
of idle compressors."""

from dataclasses import dataclass

import streamlit as st
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import launcher
from .compressor import Compressor
from .streamlit_internals import direct, on_sent, replace_compressor

KEY = "sec-websocket-key"
"""The header that identifies a websocket: browsers make a new value for each."""
STREAM = "/_stcore/stream"
"""The end of the path of Streamlit's own websocket."""
DIRECT = "lookback.direct"
"""Entry of a websocket's scope: a function that sends a binary message at once and uncompressed, with a
fraction of the CPU of `send`. It raises RuntimeError once the websocket is closed. None if the web server
does not allow it."""


@dataclass
class Traffic:
    """The traffic that one websocket has sent to its browser so far."""

    of_streamlit: bool = False
    """True for Streamlit's own websocket; each tab has one."""
    messages: int = 0
    plain: int = 0
    """Bytes of the messages, before compression."""
    wire: int | None = None
    """Bytes written to the socket: handshake and frames, after compression. None if the web server does not
    expose it."""


_open: dict[str, Traffic] = launcher.traffic


def own_traffic(*others: str) -> dict[str, Traffic]:
    """Traffic counters of this viewer's open websockets, by key: Streamlit's own, and those with the keys
    `others`."""
    return traffic_of(st.context.headers.get(KEY) or "", *others)


def traffic_of(*keys: str) -> dict[str, Traffic]:
    """Traffic counters of the given websockets, by key. Closed and uncounted websockets are omitted."""
    return {key: _open[key] for key in keys if key in _open}


def open_tabs() -> int:
    """How many browser tabs are connected."""
    return sum(traffic.of_streamlit for traffic in list(_open.values()))


class Count:
    """Counts messages and bytes, and installs a compressor that releases its memory when idle. Must be the
    outermost middleware that touches a websocket's messages."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count one websocket. Other requests pass through."""
        key = Headers(scope=scope).get(KEY) if scope["type"] == "websocket" else None
        if not key:
            await self._app(scope, receive, send)
            return
        traffic = _open[key] = Traffic(of_streamlit=scope["path"].endswith(STREAM))
        _count_wire(send, traffic)
        replace_compressor(send, Compressor)

        async def counted(message: Message) -> None:
            if message["type"] == "websocket.send":
                traffic.messages += 1
                traffic.plain += len(message.get("bytes") or (message.get("text") or "").encode())
            await send(message)

        try:
            await self._app({**scope, DIRECT: direct(send, traffic)}, receive, counted)
        finally:
            if _open.get(key) is traffic:
                del _open[key]


def _count_wire(send: Send, traffic: Traffic) -> None:
    """Count the bytes after compression. uvicorn compresses behind `send`."""

    def add(size: int) -> None:
        traffic.wire = (traffic.wire or 0) + size

    if on_sent(send, add):
        traffic.wire = 0
