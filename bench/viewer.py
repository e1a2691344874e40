"""A headless viewer: speaks Streamlit's websocket protocol as a browser does, without drawing.

It opens a session, runs the page once, finds the streamlit-autorefresh component among the elements and then
acts as that component: every interval it sends the component's new count and waits for the script to finish.
Many viewers live in one asyncio process, so they do as little as the protocol allows.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Delta_pb2 import Delta
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.typing import Origin, Subprotocol

from bench.chart_end import Chart

CLOCK = "streamlit_autorefresh.st_autorefresh"
PATIENCE = 60.0
"""Seconds after which a run that has not finished is taken for lost."""
CACHED_RUNS = 2
"""Runs for which a browser keeps a message it may be asked for again (`global.maxCachedMessageAge`)."""


class PageFailedError(Exception):
    """The page drew an exception, or has no refresh clock: nothing worth measuring."""


class CountingConnection(ClientConnection):
    """A websocket that counts what the socket brings, frame headers and compression included."""

    wire_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Count, then go on as usual."""
        self.wire_bytes += len(data)
        super().data_received(data)


@dataclass
class Refresh:
    """When one refresh was due, and how long after that its last element was there, in seconds."""

    due: float
    latency: float


@dataclass
class Viewer:
    """One session of an app."""

    url: str
    interval: float = 1.0
    refreshes: list[Refresh] = field(default_factory=list)
    runs: int = 0
    message_bytes: int = 0
    sent_bytes: int = 0
    due: float = 0.0
    chart: Chart = field(default_factory=Chart)
    page_name: str = ""
    """The page to open, as in its address; the first one without."""
    query: str = ""
    """The choices in its address."""
    needs_clock: bool = True
    """Whether a page that is refreshed by nothing is a fault. Where it is none, all of the page runs anew."""

    async def open(self) -> None:
        """Connect and run the page for the first time."""
        # Chromium's offer, which the server takes up if it is set so. The library's own would ask for a
        # smaller window, which compresses less.
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
        self.clock: str | None = None
        self.fragment = ""
        self.page = ""
        self.cached: dict[str, int] = {}
        await self._run("")
        if self.clock is None:
            # A page may draw its clock in a run of its own, right behind the first.
            await self._run("")
        if self.clock is None and self.needs_clock:
            raise PageFailedError(f"no {CLOCK} on the page at {self.url}")

    @property
    def wire_bytes(self) -> int:
        """Bytes from the socket so far, after compression."""
        return self.socket.wire_bytes

    async def watch(self, start: float) -> None:
        """Refresh at `start` and every interval after it, until cancelled.

        The due times stand fixed: a refresh that must wait for the one before it is late from its own due
        time on. Else a slow server would be asked less often and look fast.
        """
        self.due = start
        while True:
            await asyncio.sleep(max(0.0, self.due - time.monotonic()))
            await self.refresh()
            self.refreshes.append(Refresh(self.due, time.monotonic() - self.due))
            self.due += self.interval

    async def refresh(self) -> None:
        """Tick as the component would, and wait until the script has finished."""
        await self._run(self.fragment)

    async def close(self) -> None:
        """Leave, as a closed tab does."""
        if hasattr(self, "socket"):
            await self.socket.close()

    async def _run(self, fragment: str) -> None:
        """Ask for one run and read until it is over."""
        back = BackMsg()
        rerun = back.rerun_script
        if self.clock:
            rerun.widget_states.widgets.add(id=self.clock, json_value=str(self.runs))
        rerun.page_script_hash = self.page
        rerun.page_name = self.page_name
        rerun.query_string = self.query
        rerun.fragment_id = fragment
        rerun.cached_message_hashes.extend(self.cached)
        rerun.context_info.timezone = "UTC"
        rerun.context_info.locale = "en-US"
        rerun.context_info.url = self.url
        request = back.SerializeToString()
        self.sent_bytes += len(request)
        async with asyncio.timeout(PATIENCE):
            await self.socket.send(request)
            while not self._receive(await self.socket.recv(decode=False)):
                pass
        self.runs += 1
        self.cached = {name: run for name, run in self.cached.items() if run > self.runs - CACHED_RUNS}

    def _receive(self, payload: bytes) -> bool:
        """Take one message in; true when it ends the run."""
        self.message_bytes += len(payload)
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
            self.clock, self.fragment = element.component_instance.id, delta.fragment_id
        else:
            self.chart.see(element)


class Audience:
    """Viewers of one app, each with its own phase within the interval."""

    def __init__(self, url: str, count: int, *, interval: float = 1.0) -> None:
        self.viewers = [Viewer(url, interval) for _ in range(count)]
        self.interval = interval
        self.tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Audience":
        """Open the sessions, a few at a time, as people come; then let all refresh."""
        door = asyncio.Semaphore(4)

        async def enter(viewer: Viewer) -> None:
            async with door:
                await viewer.open()

        try:
            await asyncio.gather(*map(enter, self.viewers))
        except BaseException:
            await self.__aexit__()
            raise
        start = time.monotonic() + 0.1
        for place, viewer in enumerate(self.viewers):
            phase = self.interval * place / len(self.viewers)
            self.tasks.append(asyncio.create_task(viewer.watch(start + phase)))
        return self

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
        """Raise what stopped a viewer, if anything did."""
        for task in self.tasks:
            if task.done():
                task.result()

    def runs(self) -> int:
        """Refreshes finished so far, of all viewers."""
        return sum(len(viewer.refreshes) for viewer in self.viewers)

    def message_bytes(self) -> int:
        """Bytes of all messages received so far."""
        return sum(viewer.message_bytes for viewer in self.viewers)

    def wire_bytes(self) -> int:
        """The same as the sockets carried them."""
        return sum(viewer.wire_bytes for viewer in self.viewers)

    def latencies(self, start: float, end: float) -> list[float]:
        """Seconds that each refresh due from `start` to `end` took; those still open count until now."""
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
