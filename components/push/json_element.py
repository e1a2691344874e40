"""Live elements whose content is a JSON object: the browser gets the entries that have changed.

A new kind of element needs a file with a Kind and a JsonSource, and static/live_<kind>.js, which draws it.
"""

import hashlib
import json
import threading
from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping
from typing import Any
from weakref import WeakValueDictionary

import streamlit as st
from streamlit.errors import StreamlitDuplicateElementKey

from nats_client import LookbackError

from ..web.assets import STUB
from .source import Source
from .tabs import own_tab

WHOLE = ""
"""The entry that marks a message as complete: the browser then drops what it holds."""


class JsonSource(Source):
    """A source whose content is a JSON object."""

    every = 0.2  # people cannot read faster

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()  # the scripts of paused viewers call look(), too
        self.content: Mapping[str, Any] | None = None
        """The entries by name; None before the first update. An update replaces this object and never changes
        it."""
        self._steps: tuple[object, dict[int, tuple[object, bytes | None]]] = None, {}

    @abstractmethod
    def look(self) -> Mapping[str, Any]:
        """The current content: names to values that JSON can hold, other than None. One call at a time; may
        take long."""

    def update(self) -> None:
        """Replace the content if look() returns a different one."""
        with self._lock:
            content = self.look()
            if content != self.content:
                self.content = content

    def news(self, known: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
        """The entries of `content` that differ from `known`, which a browser holds. None removes an entry."""
        news: dict[str, Any] = {
            name: value for name, value in content.items() if name not in known or known[name] != value
        }
        return news | dict.fromkeys(known.keys() - content.keys())

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer a question of a viewer; see Element."""
        raise LookbackError("There is nothing to ask of this.")

    def step(self, held: Mapping[str, Any] | None) -> tuple[Mapping[str, Any], bytes] | None:
        """The content, and the message that brings browsers that hold `held` (None: nothing) up to it.
        Computed once for all of them. None if there is nothing to send."""
        if (content := self.content) is None or content is held:
            return None
        of, steps = self._steps  # one tuple, because another thread may replace both
        if of is not content:
            of, steps = self._steps = content, {}
        found = steps.get(id(held))
        if found is None:  # `held` is kept in the entry, so that no other object can get its identity
            news = self.news(held or {}, content)
            if held is None:
                news[WHOLE] = True
            found = steps[id(held)] = held, packed(news) if news else None
        return None if found[1] is None else (content, found[1])

    def receive(self, message: dict[str, Any]) -> None:
        """Receive a viewer's action; called on the web server's loop. `message` is untrusted."""

    def now(self) -> Mapping[str, Any]:
        """The current content, for a browser that the websocket does not serve."""
        self.update()
        assert self.content is not None
        return self.content


class JsonElement:
    """The element on one viewer's page."""

    def __init__(self, source: JsonSource) -> None:
        self.source = source

    def next(self, held: Any) -> tuple[Any, bytes] | None:
        """The entries that the browser lacks."""
        return self.source.step(held)

    def is_quick(self, held: Any) -> bool:
        """True unless the whole content must be encoded."""
        return held is not None

    def receive(self, message: dict[str, Any]) -> None:
        """Pass the viewer's action to the source."""
        self.source.receive(message)

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """The answer of the source."""
        return self.source.answer(question)


def packed(news: Mapping[str, Any]) -> bytes:
    """A message of changed entries. The browser drops an entry that is null."""
    return json.dumps(news, separators=(",", ":"), ensure_ascii=False).encode()


class Kind:
    """A kind of live element with JSON content, drawn by static/live_<name>.js."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._component = st.components.v2.component(name, js=STUB.format(name), isolate_styles=False)
        self._sources: WeakValueDictionary[Hashable, JsonSource] = WeakValueDictionary()

    def draw(
        self,
        key: str,
        of: Hashable,
        make: Callable[[], JsonSource],
        *,
        clicked: Callable[[object], None] | None = None,
        **settings: object,
    ) -> None:
        """Draw the element `key` of the page. Viewers with an equal `of` share one source; `make` creates it.
        `clicked` is called before the page reruns for a click, with the value that the browser sends for it,
        which is untrusted. `settings` are for the browser and change only when the page runs. Raises
        LookbackError if the page has two elements with this key."""
        source = self._sources.get(of)
        if source is None:
            source = self._sources[of] = make()
        key = hashlib.blake2b(f"{self.name} {key}".encode(), digest_size=4).hexdigest()  # short: sent often
        tab = own_tab()
        placed = tab.place(key, lambda: JsonElement(source))
        if placed.element.source is not source:
            tab.replace(placed, JsonElement(source))
        data: dict[str, object] = {"key": key, "live": placed.number, **settings}
        if tab.blocked or tab.pace is None:
            data["content"] = source.now()
        callbacks: dict[str, Any] = {}
        if clicked is not None:
            callbacks["on_clicked_change"] = lambda: clicked(st.session_state[key].get("clicked"))
        try:
            self._component(key=key, data=data, **callbacks)
        except StreamlitDuplicateElementKey:
            raise LookbackError(
                "This page draws the same element twice. Give one of them a different key, such as "
                "key='second'."
            ) from None
