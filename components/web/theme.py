"""Caches the theme's settings.

Streamlit puts them into the first message of each refresh, and searches all its settings for each section of
the theme. That is a sixth of the cost of a refresh, but the theme changes only with the settings files.
"""

from collections.abc import Callable
from typing import Any

from .streamlit_internals import replace_theme


def keep_theme() -> None:
    """Make Streamlit fill each section of the theme from a cache until it re-reads its settings. A no-op if
    this version of Streamlit does it in another way."""
    filled: dict[str, Any] = {}

    def once(fill: Callable[..., None]) -> Callable[..., None]:
        def fill_once(message: Any, section: str = "theme") -> None:
            if (kept := filled.get(section)) is None:
                kept = type(message)()
                fill(kept, section)
                filled[section] = kept
            if kept.ListFields():  # merging an empty section would still add it to the message
                message.MergeFrom(kept)

        return fill_once

    replace_theme(once, filled.clear)
