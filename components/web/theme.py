"""The theme's settings, worked out once.

Streamlit puts them into the first message of each refresh, and looks through all of its settings for each
section of the theme to do so: a sixth of what a refresh costs. They change with the settings files alone.
"""

from typing import Any

from streamlit import config
from streamlit.runtime import app_session

_FUNCTION = "_populate_theme_msg"


def keep_theme() -> None:
    """Have Streamlit fill in each section of the theme as it did at first, until it has read its settings
    anew; no change where this Streamlit goes about it otherwise."""
    fill = getattr(app_session, _FUNCTION, None)
    if fill is None:
        return
    filled: dict[str, Any] = {}

    def fill_once(message: Any, section: str = "theme") -> None:
        if (kept := filled.get(section)) is None:
            kept = type(message)()
            fill(kept, section)
            filled[section] = kept
        if kept.ListFields():  # otherwise it would be there, if empty, in the message that it is part of
            message.MergeFrom(kept)

    setattr(app_session, _FUNCTION, fill_once)
    config.on_config_parsed(filled.clear, force_connect=True)
