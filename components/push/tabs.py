"""What the script says is on the page of a browser tab. The tab's websocket brings it there."""

import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol
from weakref import ref

import streamlit as st

from nats_client import Client, LookbackError
from nats_client.feeds.health import FeedKey

from .. import launcher
from ..web.sign_in import owner, rights
from .source import Element

MOST_ELEMENTS = 200
"""Live elements on one page."""
REMEMBERED = 8
"""States of an element to which a browser that missed something can go back. Before that it gets
everything."""

_TAB = "_live_tab"

_drawn: ContextVar[set[int] | None] = ContextVar("drawn", default=None)
"""What this run has placed. In a context, because two runs of one tab can be under way, each in a thread."""

tabs: MutableMapping[str, "Tab"] = launcher.tabs
"""The tabs with a session, by ticket. Weak: a tab is gone with its session."""


class Placed:
    """An element on the page of one tab."""

    def __init__(self, number: int, element: Element) -> None:
        self.number = number
        self.element = element
        self.failed = False
        """True once the log has said that its element failed."""
        self.states: deque[tuple[int, Any]] = deque(maxlen=REMEMBERED)
        """What the browser holds after the frame with this number."""

    @property
    def held(self) -> Any:
        """What the browser holds; None: nothing."""
        return self.states[-1][1] if self.states else None

    def back_to(self, frame: int) -> None:
        """The browser applied no frame after this one."""
        while self.states and self.states[-1][0] > frame:
            self.states.pop()


class Connected(Protocol):
    """The websocket of a tab."""

    def changed(self) -> None:
        """The tab has other elements or another pace. From any thread."""


class Tab:
    """One browser tab: its live elements, and how often it wants news of them."""

    def __init__(self, owner: str | None, rights: str | None) -> None:
        self.ticket = secrets.token_urlsafe(18)
        self.owner = owner
        """The key of the sign-in; None if sign-in is off."""
        self.rights = rights
        self.pace: float | None = 0.0
        """Seconds between two frames at least; None while paused."""
        self.placed: dict[int, Placed] = {}
        self.frame = 0
        """The number of the newest frame."""
        self.blocked = False
        """True if the browser cannot open the websocket."""
        self.reads: frozenset[FeedKey] = frozenset()
        """The feeds that its page read when it was last drawn."""
        self._reads_of: ref[Client] | None = None
        self.channel: Connected | None = None
        self.socket = ""
        """The key by which the traffic of its websocket is counted."""
        self.sent: Callable[[int, list[Element]], None] | None = None
        """Called on the web server's loop after a frame was sent, with its number and its elements; must
        return at once."""
        self._lock = threading.Lock()  # runs of the script and the web server's loop change `placed`
        self._numbers: dict[str, int] = {}
        self._newest: set[int] = set()
        """What the run that began last has placed."""
        tabs[self.ticket] = self

    def place(self, key: str, make: Callable[[], Element]) -> Placed:
        """The element `key` of this page, made if the tab does not have it yet. Raises LookbackError if the
        page has too many."""
        drawn = _drawn.get()
        with self._lock:
            number = self._numbers.get(key)
            placed = None if number is None else self.placed.get(number)
            if number is None or placed is None:
                # While a page is drawn, the elements of the one before are still there
                if len(self.placed if drawn is None else drawn) >= MOST_ELEMENTS:
                    raise LookbackError(f"A page has at most {MOST_ELEMENTS} live elements.")
                number = self._numbers[key] = number or len(self._numbers) + 1
        if placed is None:
            made = Placed(number, make())
            with self._lock:
                placed = self.placed.get(number) or made
                self.placed = {**self.placed, number: placed}
        if drawn is not None:
            drawn.add(number)
        return placed

    def replace(self, placed: Placed, element: Element) -> None:
        """Put another element in its place; the browser starts over with it."""
        with self._lock:
            self.placed = {**self.placed, placed.number: Placed(placed.number, element)}

    def exchange(self, element: Element, other: Element) -> None:
        """Put `other` in the place of `element`, if that is still on the page; the browser starts over with
        it."""
        with self._lock:
            for number, placed in self.placed.items():
                if placed.element is element:
                    self.placed = {**self.placed, number: Placed(number, other)}
                    break
        if self.channel is not None:
            self.channel.changed()

    @property
    def reads_of(self) -> Client | None:
        """The client of these feeds."""
        return self._reads_of() if self._reads_of else None

    def keep_reads(self, nats: Client, reads: Iterable[FeedKey]) -> None:
        """Keep what the page reads."""
        self._reads_of, self.reads = ref(nats), frozenset(reads)

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """While the page is drawn. Afterwards, what it did not place is gone, unless the run broke off or
        another one has begun: Streamlit begins a run in another thread, and stops the one before at its next
        element."""
        drawn = self._newest = set()
        token = _drawn.set(drawn)
        try:
            yield
            with self._lock:
                if self._newest is drawn:
                    self.placed = {number: each for number, each in self.placed.items() if number in drawn}
        finally:
            _drawn.reset(token)
            if self.channel is not None:
                self.channel.changed()


def own_tab() -> Tab:
    """The tab of this session."""
    tab: Tab | None = st.session_state.get(_TAB)
    if tab is None or (tab.owner, tab.rights) != (owner(), rights()):
        tab = st.session_state[_TAB] = Tab(owner(), rights())
    return tab
