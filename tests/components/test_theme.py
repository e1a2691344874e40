"""The theme in the first message of each run is the same as Streamlit would put there."""

from collections.abc import Iterator

import pytest
from streamlit import config
from streamlit.proto.NewSession_pb2 import NewSession
from streamlit.runtime import app_session

from components.web.theme import keep_theme

SECTIONS = ["theme", "theme.light", "theme.dark", "theme.sidebar", "theme.light.sidebar"]


@pytest.fixture
def own_theme() -> Iterator[None]:
    """A theme with options in some of its sections."""
    options = {
        "theme.base": "dark",
        "theme.font": "monospace",
        "theme.headingFontSizes": ["3rem", "2rem"],
        "theme.light.primaryColor": "#0b6e7f",
        "theme.light.sidebar.textColor": "#123456",
    }
    before = {name: config.get_option(name) for name in options}
    for name, value in options.items():
        config.set_option(name, value)
    yield
    for name, value in before.items():
        config.set_option(name, value)


def filled() -> NewSession:
    """The message with all sections, filled in as AppSession does."""
    message = NewSession()
    theme = message.custom_theme
    parts = [theme, theme.light, theme.dark, theme.sidebar, theme.light.sidebar]
    for part, section in zip(parts, SECTIONS, strict=True):
        app_session._populate_theme_msg(part, section)
    return message


@pytest.mark.usefixtures("own_theme")
def test_the_message_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """With keep_theme(), the message is byte for byte the one that Streamlit fills in, each time."""
    own = filled()
    assert own.custom_theme.light.primary_color == "#0b6e7f"
    assert not own.custom_theme.HasField("sidebar")
    monkeypatch.setattr(app_session, "_populate_theme_msg", app_session._populate_theme_msg)
    keep_theme()
    for _ in range(2):
        assert filled() == own
        assert filled().SerializeToString(deterministic=True) == own.SerializeToString(deterministic=True)


@pytest.mark.usefixtures("own_theme")
def test_new_settings_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the settings are read anew, messages have the new theme."""
    monkeypatch.setattr(app_session, "_populate_theme_msg", app_session._populate_theme_msg)
    keep_theme()
    filled()
    config.set_option("theme.light.primaryColor", "#222222")
    config._on_config_parsed.send()  # as Streamlit does after it has read its settings files
    assert filled().custom_theme.light.primary_color == "#222222"
