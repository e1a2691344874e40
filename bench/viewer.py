"""A headless viewer: speaks Streamlit's websocket protocol as a browser does, without drawing.

It opens a session and runs the page once. If the page has live elements, it opens the tab's own websocket,
applies their messages, and reruns the page when the status line requests it. If the page has the
streamlit-autorefresh component, it acts as that component: every interval it sends the component's new count
and waits for the script to finish. Many viewers run in one asyncio process, so they do as little as the
protocol allows.
"""

import asyncio
import contextlib
import json
import math
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.BidiComponent_pb2 import BidiComponent
from streamlit.proto.Delta_pb2 import Delta
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.typing import Origin, Subprotocol

from bench.channel_end import Channel
from bench.chart_end import Chart
from bench.stage import EPOCH

CLOCK = "streamlit_autorefresh.st_autorefresh"
PATIENCE = 60.0
"""Seconds after which a run that has not finished is taken for lost."""
CHECK_EVERY = 1.0
"""Seconds between two checks of whether the tab's websocket is still open."""
ROUNDED = 0.001
"""Seconds by which a time is rounded on its way through a chart."""
CACHED_RUNS = 2
"""Runs for which a browser keeps a message that the server may refer to (`global.maxCachedMessageAge`)."""


class PageFailedError(Exception):
    """The page drew an exception, or nothing on it is ever new, so there is nothing to measure."""


class CountingConnection(ClientConnection):
    """A websocket that counts the bytes it receives, including frame headers and compression."""

    wire_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Count the bytes, then process them as usual."""
        self.wire_bytes += len(data)
        super().data_received(data)


@dataclass
class Refresh:
    """When one refresh was due (monotonic time), and how long after that its run had finished; in seconds."""

    due: float
    latency: float


@dataclass
class Viewer:
    """One session of an app."""

    url: str
    interval: float = 1.0
    refreshes: list[Refresh] = field(default_factory=list)
    runs: int = 0
    due: float = 0.0
    chart: Chart = field(default_factory=Chart)
    page_name: str = ""
    """The page to open, as in its address; "" for the first page."""
    query: str = ""
    """The query string of the page's address, which holds the viewer's choices."""
    needs_clock: bool = True
    """True if a page on which nothing is ever new is an error. If False, such a page is rerun as a whole."""
    blocked: bool = False
    """True if a proxy blocks the tab's own websocket, so that charts come with the page's elements."""
    frames: list[tuple[float, float]] | None = None
    """For each frame with cells of a chart: when it arrived, and the newest value drawn by then. Both are in
    seconds since EPOCH, if the chart draws publishing times. None until note()."""
    status: dict[str, Any] = field(default_factory=dict)
    """The values of the status line, as static/status.js draws them; empty if the page has none."""

    async def open(self) -> None:
        """Connect and run the page for the first time. Raises PageFailedError."""
        # Chromium's offer of compression, which the server accepts if its settings say so. The library's
        # default would request a smaller window, which compresses less.
        offer = [ClientPerMessageDeflateFactory(client_max_window_bits=True)]
        socket = await connect(
            self.url.replace("http", "ws", 1) + "/_stcore/stream",
            origin=Origin(self.url),
            subprotocols=[Subprotocol("streamlit")],
            compression=None,
            extensions=offer,
            max_size=None,
            create_connection=CountingConnection,
        )
        assert isinstance(socket, CountingConnection)
        self.socket = socket
        given = socket.response.headers.get_all("Set-Cookie") if socket.response else []
        self.cookies = "; ".join(cookie.partition(";")[0] for cookie in given)
        self.clock: str | None = None
        self.fragment = ""
        self.page = ""
        self.cached: dict[str, int] = {}
        self.tab: str | None = None
        self.ticket = ""
        self.channel = Channel(self._apply)
        self.again = asyncio.Event()
        self._stream_bytes = 0
        self._kinds: dict[int, str] = {}
        self._newest = -math.inf
        self._one_run = asyncio.Lock()
        await self._run("")
        if self.blocked or (self.clock is None and not self._kinds):
            # A browser first reports that the websocket is blocked. And a page may draw its clock only in a
            # second run, right after the first.
            await self._run("")
        if self.clock is None and not self._kinds and self.needs_clock:
            raise PageFailedError(f"no {CLOCK} and no live element on the page at {self.url}")

    @property
    def message_bytes(self) -> int:
        """Bytes of all messages of both sockets so far, before compression."""
        return self._stream_bytes + self.channel.message_bytes

    @property
    def wire_bytes(self) -> int:
        """Bytes from both sockets so far, after compression."""
        return self.socket.wire_bytes + self.channel.wire_bytes

    async def watch(self, start: float) -> None:
        """Refresh at `start` and then every interval, as long as the page has a clock, until cancelled. Also
        rerun the page when the status line requests it.

        The due times are fixed: if a refresh has to wait for the previous one, its latency still counts from
        its own due time. Otherwise a slow server would get fewer requests and look fast.
        """
        self.due = start
        while True:
            wait = max(0.0, self.due - time.monotonic()) if self.clock else CHECK_EVERY
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self.again.wait()
            self.channel.check()
            if self.again.is_set() or not self.clock:
                if self.again.is_set():
                    await self._run(self.fragment)
                if not self.clock:
                    self.due = time.monotonic() + self.interval
                continue
            await self.refresh()
            self.refreshes.append(Refresh(self.due, time.monotonic() - self.due))
            self.due += self.interval

    async def refresh(self) -> None:
        """Send a tick of the component, and wait until the script has finished."""
        self.channel.check()
        await self._run(self.fragment)

    async def close(self) -> None:
        """Close both websockets, as a closed tab does."""
        if hasattr(self, "socket"):
            if hasattr(self, "channel"):
                await self.channel.close()
            await self.socket.close()

    async def _run(self, fragment: str) -> None:
        """Request one run and read until it is over. Then report the page's elements on the tab's
        websocket."""
        async with self._one_run:
            self.again.clear()
            self._live: dict[int, str] = {}
            self._ticks: tuple[str, str] | None = None
            back = BackMsg()
            rerun = back.rerun_script
            if self.clock:
                rerun.widget_states.widgets.add(id=self.clock, json_value=str(self.runs))
            if self.tab and self.blocked:
                rerun.widget_states.widgets.add(id=self.tab, json_value=json.dumps({"blocked": True}))
            rerun.page_script_hash = self.page
            rerun.page_name = self.page_name
            rerun.query_string = self.query
            rerun.fragment_id = fragment
            rerun.cached_message_hashes.extend(self.cached)
            rerun.context_info.timezone = "UTC"
            rerun.context_info.locale = "en-US"
            rerun.context_info.url = self.url
            request = back.SerializeToString()
            async with asyncio.timeout(PATIENCE):
                await self.socket.send(request)
                while not self._receive(await self.socket.recv(decode=False)):
                    pass
            self.runs += 1
            self.cached = {name: run for name, run in self.cached.items() if run > self.runs - CACHED_RUNS}
            self.clock, self.fragment = self._ticks or (None, self.fragment)
            for number in self._kinds.keys() - self._live.keys():
                self.chart.forget(number)
            self._kinds = self._live
            if not self.blocked:
                self.channel.show(set(self._kinds))
                if self.ticket and self.ticket != self.channel.ticket:
                    async with asyncio.timeout(PATIENCE):
                        await self.channel.open(self.url, self.cookies, self.ticket)

    def _receive(self, payload: bytes) -> bool:
        """Process one message. Returns True if it ends the run."""
        self._stream_bytes += len(payload)
        message = ForwardMsg.FromString(payload)
        kind = message.WhichOneof("type")
        if kind == "script_finished":
            return message.script_finished in (
                ForwardMsg.FINISHED_SUCCESSFULLY,
                ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY,
            )
        if kind == "new_session":
            self.page = message.new_session.page_script_hash
        elif kind == "ref_hash":
            self.cached[message.ref_hash] = self.runs
        elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
            if message.metadata.cacheable:
                self.cached[message.hash] = self.runs
            self._see(message.delta)
        return False

    def _see(self, delta: Delta) -> None:
        """Note the elements a browser would act on."""
        element = delta.new_element
        kind = element.WhichOneof("type")
        if kind == "exception":
            raise PageFailedError(f"{element.exception.type}: {element.exception.message}")
        if kind == "component_instance" and element.component_instance.component_name == CLOCK:
            self._ticks = element.component_instance.id, delta.fragment_id
        elif kind == "bidi_component" and element.bidi_component.json:
            self._see_component(element.bidi_component, delta.fragment_id)
        else:
            self.chart.see(element)

    def _see_component(self, component: BidiComponent, fragment: str) -> None:
        data = json.loads(component.json)
        if not isinstance(data, dict):
            return
        if "ticket" in data:
            self.tab, self.ticket = component.id, data["ticket"]
        if "live" in data:
            name = component.component_name.rpartition(".")[2]
            self._live[data["live"]] = name
            self.fragment = self.fragment or fragment
            if name == "status":
                self.status = {entry: value for entry, value in data.items() if entry != "live"}

    def _apply(self, number: int, message: bytes) -> None:
        """Apply a message of the tab's websocket to an element."""
        kind = self._kinds.get(number)
        if kind == "status":
            news = json.loads(message)
            if news.pop("again", None):
                self.again.set()
            self.status = {**self.status, **news}
        elif kind == "chart":
            found = self.chart.apply(number, message)
            if self.frames is not None and found.cells:
                self._newest = max(self._newest, found.newest)
                self.frames.append((time.time() - EPOCH, self._newest))


class Audience:
    """Viewers of one app, each with its own phase within the interval."""

    def __init__(self, url: str, count: int, *, interval: float = 1.0, **more: Any) -> None:
        """`more`: fields of Viewer."""
        self.viewers: list[Viewer] = []
        self.interval = interval
        self.tasks: list[asyncio.Task[None]] = []
        self._new: Callable[[], Viewer] = partial(Viewer, url, interval, **more)
        self._first = count

    async def __aenter__(self) -> "Audience":
        """Open the sessions."""
        try:
            await self.grow(self._first)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def grow(self, count: int) -> None:
        """Open `count` more sessions, four at a time, and start their refreshes."""
        door = asyncio.Semaphore(4)
        new = [self._new() for _ in range(count)]
        self.viewers += new

        async def enter(viewer: Viewer) -> None:
            async with door:
                await viewer.open()

        await asyncio.gather(*map(enter, new))
        start = time.monotonic() + 0.1
        for place, viewer in enumerate(new):
            phase = self.interval * place / len(new)
            self.tasks.append(asyncio.create_task(viewer.watch(start + phase)))

    async def __aexit__(self, *reason: object) -> None:
        """Close all sessions."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        closing = (viewer.close() for viewer in self.viewers)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.gather(*closing, return_exceptions=True)

    def check(self) -> None:
        """Raise the error that stopped a viewer, if any."""
        for task in self.tasks:
            if task.done():
                task.result()

    def runs(self) -> int:
        """Refreshes finished so far, of all viewers."""
        return sum(len(viewer.refreshes) for viewer in self.viewers)

    def frames(self) -> int:
        """Frames of the tabs' own websockets so far, of all viewers."""
        return sum(viewer.channel.frames for viewer in self.viewers)

    def message_bytes(self) -> int:
        """Bytes of all messages received so far, before compression."""
        return sum(viewer.message_bytes for viewer in self.viewers)

    def wire_bytes(self) -> int:
        """Bytes received on all sockets so far, after compression."""
        return sum(viewer.wire_bytes for viewer in self.viewers)

    def latencies(self, start: float, end: float) -> list[float]:
        """Seconds that each refresh due from `start` to `end` took. One that has not finished counts until
        now."""
        now = time.monotonic()
        found = []
        for viewer in self.viewers:
            found += [r.latency for r in viewer.refreshes if start <= r.due < end]
            due = viewer.due
            while due < end:
                if due >= start:
                    found.append(now - due)
                due += self.interval
        return found

    def note(self) -> None:
        """Discard the frames noted so far, and note when each frame arrives from now on."""
        for viewer in self.viewers:
            viewer.frames = []

    def waits(self, published: Sequence[float]) -> list[float]:
        """For all viewers, the seconds from each publishing time to the frame with that message or a newer.

        `published` is in seconds since EPOCH. A message that has not arrived counts until now. Call note()
        first.
        """
        now, found = time.time() - EPOCH, []
        for viewer in self.viewers:
            frames = viewer.frames or []
            for at in published:
                first = bisect_left(frames, at - ROUNDED, key=lambda frame: frame[1])
                found.append((frames[first][0] if first < len(frames) else now) - at)
        return found
