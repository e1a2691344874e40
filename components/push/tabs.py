"""The live elements that the script placed on the page of a browser tab. The tab's websocket updates them."""

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
"""Earlier states of an element from which a browser that missed a frame can continue. If its state is older,
it gets everything."""

_TAB = "_live_tab"

_drawn: ContextVar[set[int] | None] = ContextVar("drawn", default=None)
"""The elements that this run has placed. A context variable, because two runs of one tab can be under way,
each in its own thread."""

tabs: MutableMapping[str, "Tab"] = launcher.tabs
"""The tabs with a session, by ticket. Weak: a tab is gone with its session."""


class Placed:
    """An element on the page of one tab."""

    def __init__(self, number: int, element: Element) -> None:
        self.number = number
        self.element = element
        self.failed = False
        """True once a failure of the element was logged."""
        self.states: deque[tuple[int, Any]] = deque(maxlen=REMEMBERED)
        """Numbers of frames, each with the state that the browser holds after it."""

    @property
    def held(self) -> Any:
        """The state that the browser holds; None if it holds nothing."""
        return self.states[-1][1] if self.states else None

    def back_to(self, frame: int) -> None:
        """Drop the later states: the browser applied no frame after `frame`."""
        while self.states and self.states[-1][0] > frame:
            self.states.pop()


class Connected(Protocol):
    """The websocket of a tab."""

    def changed(self) -> None:
        """The tab's elements or pace have changed. Any thread may call this."""


class Tab:
    """One browser tab: its live elements, and how often they are updated."""

    def __init__(self, owner: str | None, rights: str | None) -> None:
        self.ticket = secrets.token_urlsafe(18)
        self.owner = owner
        """The key of the sign-in; None if sign-in is off."""
        self.rights = rights
        self.pace: float | None = 0.0
        """The least number of seconds between two frames; None while paused."""
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
        self._lock = threading.Lock()  # both runs of the script and the web server's loop change `placed`
        self._numbers: dict[str, int] = {}
        self._newest: set[int] = set()
        """The elements that the newest run has placed."""
        tabs[self.ticket] = self

    def place(self, key: str, make: Callable[[], Element]) -> Placed:
        """The element `key` of this page, created with `make` if the tab does not have it. Raises
        LookbackError if the page has too many elements."""
        drawn = _drawn.get()
        with self._lock:
            number = self._numbers.get(key)
            placed = None if number is None else self.placed.get(number)
            if number is None or placed is None:
                # While a page is drawn, the elements of the page before are still placed.
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
        """Replace the element of `placed`; the browser starts over with the new element."""
        with self._lock:
            self.placed = {**self.placed, placed.number: Placed(placed.number, element)}

    def exchange(self, element: Element, other: Element) -> None:
        """Replace `element` by `other` if it is still on the page; the browser then starts over."""
        with self._lock:
            for number, placed in self.placed.items():
                if placed.element is element:
                    self.placed = {**self.placed, number: Placed(number, other)}
                    break
        if self.channel is not None:
            self.channel.changed()

    @property
    def reads_of(self) -> Client | None:
        """The client of the feeds in `reads`; None if there is none any more."""
        return self._reads_of() if self._reads_of else None

    def keep_reads(self, nats: Client, reads: Iterable[FeedKey]) -> None:
        """Keep the feeds that the page reads, and their client."""
        self._reads_of, self.reads = ref(nats), frozenset(reads)

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Draw the page within the block. Elements that it did not place are removed afterwards, unless the
        run was stopped or a newer run has begun. Streamlit begins a new run in another thread, and stops the
        earlier run at its next element."""
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
