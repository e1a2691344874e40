"""A live element whose content is a JSON object. The browser gets the entries that have changed."""

import json
from collections.abc import Mapping
from typing import Any

from .source import Source


class JsonSource(Source):
    """A source of such an object."""

    def __init__(self) -> None:
        super().__init__()
        self.content: Mapping[str, Any] | None = None
        """By name; None before the first update. An update puts another object here and does not change this
        one."""


class JsonElement:
    """The element on one viewer's page."""

    def __init__(self, source: JsonSource) -> None:
        self.source = source

    def next(self, held: Any) -> tuple[Any, bytes] | None:
        """The entries that the browser lacks."""
        if (content := self.source.content) is None or content is held:
            return None
        known = held or {}
        news = {name: value for name, value in content.items() if name not in known or known[name] != value}
        news |= dict.fromkeys(known.keys() - content.keys())
        return (content, packed(news)) if news else None

    def is_quick(self, held: Any) -> bool:
        """Always."""
        return True

    def hear(self, said: dict[str, Any]) -> None:
        """There is nothing to tell it."""


def packed(news: Mapping[str, Any]) -> bytes:
    """A message of changed entries. The browser drops an entry that is null."""
    return json.dumps(news, separators=(",", ":"), ensure_ascii=False).encode()
