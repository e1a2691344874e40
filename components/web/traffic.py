"""What each browser is sent over Streamlit's websocket, counted where it is sent: an ASGI middleware."""

from dataclasses import dataclass

import streamlit as st
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import launcher
from .streamlit_internals import on_sent

KEY = "sec-websocket-key"
"""The header by which one websocket is told from another: browsers make a new one for each."""


@dataclass
class Traffic:
    """What one websocket has carried to its browser so far."""

    messages: int = 0
    plain: int = 0
    """Bytes of the messages, before compression."""
    wire: int | None = None
    """Bytes given to the socket: handshake and frames, compressed where they are. None where the web server
    does not let it be counted."""


_open: dict[str, Traffic] = launcher.traffic


def own_traffic() -> tuple[str, Traffic] | None:
    """What this viewer's websocket has carried, and a name for it; None where it is not counted."""
    key = st.context.headers.get(KEY) or ""
    return (key, _open[key]) if key in _open else None


class Count:
    """Counts. It has to be the outermost that touches a websocket's messages."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One websocket; what else there is passes through."""
        key = Headers(scope=scope).get(KEY) if scope["type"] == "websocket" else None
        if not key:
            await self._app(scope, receive, send)
            return
        traffic = _open[key] = Traffic()
        _count_wire(send, traffic)

        async def counted(message: Message) -> None:
            if message["type"] == "websocket.send":
                traffic.messages += 1
                traffic.plain += len(message.get("bytes") or (message.get("text") or "").encode())
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            if _open.get(key) is traffic:
                del _open[key]


def _count_wire(send: Send, traffic: Traffic) -> None:
    """Count what leaves compression, which is uvicorn's own and lies behind `send`."""

    def add(size: int) -> None:
        traffic.wire = (traffic.wire or 0) + size

    if on_sent(send, add):
        traffic.wire = 0
