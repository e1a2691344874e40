"""The browser's half of a tab's own websocket, without the drawing: components/push/channel.py describes it.

Thousands of these run in one process, so this is no general client: it reads only what our server sends.
"""

import asyncio
import base64
import json
import os
import time
import zlib
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

PATH = "/lookback/push"
TELL_EVERY = 16
"""Frames between two reports of what was applied, as in static/channel.js."""
ASK_AGAIN = 1.5
"""Seconds after which an unanswered request is taken for lost."""
# Chromium's offer of compression, which the server accepts if its settings say so.
OFFER = "permessage-deflate; client_max_window_bits"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
CLOSED = 1006
"""The code where a websocket ended without one."""


class ChannelError(Exception):
    """The tab's websocket was refused or closed, or carried a frame that a browser could not read."""


class Socket(asyncio.Protocol):
    """A websocket that counts the bytes it receives, including frame headers and compression."""

    def __init__(self, url: str, cookies: str, receive: Callable[[bytes | str], None]) -> None:
        self.wire_bytes = 0
        self.closed: int | None = None
        """The close code; None while the websocket is open."""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._url = url
        self._cookies = cookies
        self._receive = receive
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._inflate: Any = None
        self._forgets = False

    @classmethod
    async def connect(cls, url: str, cookies: str, receive: Callable[[bytes | str], None]) -> "Socket":
        """Open a websocket at the app's `url`. Raises ChannelError or OSError."""
        parts = urlsplit(url)
        socket = cls(url, cookies, receive)
        host, port = parts.hostname or "", parts.port or 80
        await asyncio.get_running_loop().create_connection(lambda: socket, host, port)
        await socket.opened
        return socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the same handshake as Chromium."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        parts = urlsplit(self._url)
        headers = {
            "Host": parts.netloc,
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Origin": f"{parts.scheme}://{parts.netloc}",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Extensions": OFFER,
        }
        if self._cookies:
            headers["Cookie"] = self._cookies
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        transport.write(f"GET {parts.path.rstrip('/')}{PATH} HTTP/1.1\r\n{head}\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """Process all complete frames received so far."""
        self.wire_bytes += len(data)
        self._buffer += data
        try:
            if not self.opened.done() and not self._shaken():
                return
            while self._take():
                pass
        except Exception as error:
            self._fail(error)

    def connection_lost(self, error: Exception | None) -> None:
        """Note that either side has closed the connection."""
        self.closed = self.closed or CLOSED
        self._fail(ChannelError(f"the tab's websocket was closed: {self.closed} {error or ''}"))

    def send(self, message: dict[str, Any]) -> None:
        """Send a JSON object."""
        self._write(TEXT, json.dumps(message, separators=(",", ":")).encode())

    async def close(self) -> None:
        """Close the websocket as a closed tab does."""
        if self._transport is None or self.closed is not None:
            return
        self._write(CLOSE, (1001).to_bytes(2, "big"))
        self._transport.close()

    def _fail(self, error: Exception) -> None:
        self.closed = self.closed or CLOSED
        if not self.opened.done():
            self.opened.set_exception(error)
        if self._transport is not None:
            self._transport.close()

    def _shaken(self) -> bool:
        head, end, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if not end:
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        if " 101 " not in f"{first} ":
            raise ChannelError(f"the tab's websocket was refused: {first}")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "permessage-deflate" in (agreed := headers.get("sec-websocket-extensions", "")):
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            self._forgets = "server_no_context_takeover" in agreed
        self._buffer = bytearray(rest)
        self.opened.set_result(None)
        return True

    def _take(self) -> bool:
        buffer = self._buffer
        if len(buffer) < 2:
            return False
        size, at = buffer[1] & 127, 2
        if size >= 126:
            at = 4 if size == 126 else 10
            if len(buffer) < at:
                return False
            size = int.from_bytes(buffer[2:at], "big")
        if len(buffer) < at + size:
            return False
        first, content = buffer[0], bytes(buffer[at : at + size])
        del buffer[: at + size]
        if not first & 128:
            raise ChannelError("a frame in parts")
        if first & 64:
            content = self._inflate.decompress(content + b"\x00\x00\xff\xff")
            if self._forgets:
                self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        match first & 15:
            case 1:
                self._receive(content.decode())
            case 2:
                self._receive(content)
            case 8:
                self.closed = int.from_bytes(content[:2], "big") or CLOSED
            case 9:
                self._write(PONG, content)
        return True

    def _write(self, kind: int, content: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        mask = b"\0\0\0\0"  # a mask of zeros leaves the content unchanged
        size = len(content)
        length = bytes([128 | size]) if size < 126 else bytes([128 | 126]) + size.to_bytes(2, "big")
        self._transport.write(bytes([128 | kind]) + length + mask + content)


class Channel:
    """The tab's websocket as a browser uses it: it applies numbered frames and requests missing ones."""

    def __init__(self, apply: Callable[[int, bytes], None]) -> None:
        """`apply`: called with an element's number and its message. It may raise."""
        self.frames = 0
        """Frames applied so far, including empty ones."""
        self.message_bytes = 0
        self.pace: float | None = None
        self.shown: dict[int, int | None] = {}
        """The elements on the page: for each the last frame with a message for it, or None."""
        self.ticket = ""
        self.fault: Exception | None = None
        """The error that stopped the channel."""
        self._apply = apply
        self._frame = 0
        self._told = 0
        self._asked: float | None = None
        self._ready = asyncio.Event()
        self._socket: Socket | None = None
        self._before = 0  # bytes of the websockets before this one

    async def open(self, url: str, cookies: str, ticket: str) -> None:
        """Open the websocket with the script's ticket, and wait for the server's answer. Raises
        ChannelError."""
        await self.close()
        self.ticket = ticket
        self.shown = dict.fromkeys(self.shown)
        self._ready.clear()
        self._socket = await Socket.connect(url, cookies, self._receive)
        shown = {str(number): frame for number, frame in self.shown.items()}
        self._socket.send({"ticket": ticket, "shown": shown, "hidden": False})
        while not self._ready.is_set():
            self.check()
            try:
                async with asyncio.timeout(0.5):
                    await self._ready.wait()
            except TimeoutError:
                continue

    async def close(self) -> None:
        """Close the websocket; its bytes still count."""
        if self._socket is not None:
            self._before += self._socket.wire_bytes
            await self._socket.close()
            self._socket = None

    @property
    def wire_bytes(self) -> int:
        """Bytes received on all websockets so far, as TCP carried them."""
        return self._before + (self._socket.wire_bytes if self._socket else 0)

    def check(self) -> None:
        """Raise the error that stopped the channel. Raises ChannelError if the websocket was closed."""
        if self.fault is not None:
            raise self.fault
        if self._socket is not None and self._socket.closed is not None:
            raise ChannelError(f"the tab's websocket was closed with {self._socket.closed}")

    def show(self, numbers: set[int]) -> None:
        """Report that exactly these elements are on the page."""
        for number in self.shown.keys() - numbers:
            del self.shown[number]
            self._say({"hide": number})
        for number in numbers - self.shown.keys():
            self.shown[number] = None
            self._say({"show": number, "at": None})

    def _say(self, message: dict[str, Any]) -> None:
        if self._socket is not None and self._ready.is_set():
            self._socket.send(message)

    def _receive(self, data: bytes | str) -> None:
        self.message_bytes += len(data)
        try:
            if isinstance(data, str):
                self._hear(json.loads(data))
            elif data[0] != self._frame & 255:  # otherwise a repetition of the last frame
                self._take(data)
        except Exception as error:
            self.fault = error
            raise

    def _hear(self, said: dict[str, Any]) -> None:
        if "pace" in said:
            self.pace = said["pace"]
        if "next" in said:
            self._frame = self._told = said["next"] - 1
            self._asked = None
            self._ready.set()

    def _take(self, data: bytes) -> None:
        if self._asked is not None or data[0] != (self._frame + 1) & 255:
            now = time.monotonic()
            if self._asked is None or now - self._asked > ASK_AGAIN:
                self._asked = now
                self._say({"lost": self._frame})
            return
        self._frame += 1
        self.frames += 1
        at = 1
        while at < len(data):
            key, at = _varint(data, at)
            length, at = _varint(data, at) if key & 1 else (len(data) - at, at)
            number = key >> 1
            if number in self.shown:  # otherwise it has left the page
                self._apply(number, data[at : at + length])
                self.shown[number] = self._frame
            at += length
        if self._frame - self._told >= TELL_EVERY:
            self._told = self._frame
            self._say({"got": self._frame, "pace": 0})


def _varint(data: bytes, at: int) -> tuple[int, int]:
    found = shift = 0
    while True:
        byte = data[at]
        at += 1
        found |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return found, at
