"""Caches the theme's settings.

Streamlit puts them into the first message of each refresh and searches all its settings for each section of
the theme: a sixth of the cost of a refresh. They change only with the settings files.
"""

from typing import Any

from streamlit import config
from streamlit.runtime import app_session

_FUNCTION = "_populate_theme_msg"


def keep_theme() -> None:
    """Make Streamlit fill each section of the theme from a cache until it re-reads its settings. A no-op if
    this version of Streamlit has no such function."""
    fill = getattr(app_session, _FUNCTION, None)
    if fill is None:
        return
    filled: dict[str, Any] = {}

    def fill_once(message: Any, section: str = "theme") -> None:
        if (kept := filled.get(section)) is None:
            kept = type(message)()
            fill(kept, section)
            filled[section] = kept
        if kept.ListFields():  # merging an empty section would still add it to the message
            message.MergeFrom(kept)

    setattr(app_session, _FUNCTION, fill_once)
    config.on_config_parsed(filled.clear, force_connect=True)
