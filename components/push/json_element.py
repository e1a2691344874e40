"""Live elements whose content is a JSON object: the browser gets the entries that have changed.

A new kind of them is a file that makes a Kind and a JsonSource, and static/live_<kind>.js, which draws it.
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
"""The entry of a message that has everything: the browser then drops what it holds."""


class JsonSource(Source):
    """A source of such an object."""

    every = 0.2  # people cannot read faster

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()  # the scripts of paused viewers look, too
        self.content: Mapping[str, Any] | None = None
        """By name; None before the first update. An update puts another object here and does not change this
        one."""
        self._steps: tuple[object, dict[int, tuple[object, bytes | None]]] = None, {}

    @abstractmethod
    def look(self) -> Mapping[str, Any]:
        """The content now: names to what JSON can hold, but not None. One call at a time; may take long."""

    def update(self) -> None:
        """Look again."""
        with self._lock:
            content = self.look()
            if content != self.content:
                self.content = content

    def news(self, known: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
        """The entries of `content` that a browser that holds `known` lacks. None removes one."""
        news: dict[str, Any] = {
            name: value for name, value in content.items() if name not in known or known[name] != value
        }
        return news | dict.fromkeys(known.keys() - content.keys())

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer a question of a viewer, see Element."""
        raise LookbackError("There is nothing to ask of this.")

    def step(self, held: Mapping[str, Any] | None) -> tuple[Mapping[str, Any], bytes] | None:
        """What takes browsers that hold `held` (None: nothing) to the present: the content, and the message.
        Worked out once for all of them. None if there is nothing to say."""
        if (content := self.content) is None or content is held:
            return None
        of, steps = self._steps  # one tuple, because an update may come in between
        if of is not content:
            of, steps = self._steps = content, {}
        found = steps.get(id(held))
        if found is None:  # with `held`, so that no other one can have its identity
            news = self.news(held or {}, content)
            if held is None:
                news[WHOLE] = True
            found = steps[id(held)] = held, packed(news) if news else None
        return None if found[1] is None else (content, found[1])

    def receive(self, message: dict[str, Any]) -> None:
        """Receive what a viewer did; called on the web server's loop. `message` is untrusted."""

    def now(self) -> Mapping[str, Any]:
        """The content now, for a browser that the websocket does not serve."""
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
        """True unless all of the content has to be encoded."""
        return held is not None

    def receive(self, message: dict[str, Any]) -> None:
        """Pass on to the source what the viewer did."""
        self.source.receive(message)

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """What the source answers."""
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
        """Draw the element `key` of the page. `make` is called for its source unless another viewer has one
        with an equal `of`. `clicked` is called with what the browser says the viewer clicked, which is
        untrusted, before the page runs for that. `settings` are for the browser and do not change by
        themselves. Raises LookbackError if the page has two elements with this key."""
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
