"""The theme's settings, worked out once.

Streamlit puts them into the first message of each refresh, and looks through all of its settings for each
section of the theme to do so: a sixth of what a refresh costs. They change with the settings files alone.
"""

from collections.abc import Callable
from typing import Any

from .streamlit_internals import replace_theme


def keep_theme() -> None:
    """Have Streamlit fill in each section of the theme as it did at first, until it has read its settings
    anew; no change where this Streamlit goes about it otherwise."""
    filled: dict[str, Any] = {}

    def once(fill: Callable[..., None]) -> Callable[..., None]:
        def fill_once(message: Any, section: str = "theme") -> None:
            if (kept := filled.get(section)) is None:
                kept = type(message)()
                fill(kept, section)
                filled[section] = kept
            if kept.ListFields():  # otherwise it would be there, if empty, in the message that it is part of
                message.MergeFrom(kept)

        return fill_once

    replace_theme(once, filled.clear)
