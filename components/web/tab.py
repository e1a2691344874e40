"""The page's other end: what a browser tab loads once, and whether anybody looks at it."""

from collections.abc import Callable, Mapping

import streamlit as st

from .assets import asset_url

# Streamlit's own script tells where the app's root is, also below a base path or a proxy's. What draws the
# charts is loaded here, once for each visit, so that a refresh need not say where it is.
_STUB = f"""const root = new URL("../../", document.querySelector('script[src*="static/js/"]').src)
export default async (c) => {{
import(new URL("{asset_url("live_chart.js")}", root))
return (await import(new URL("{asset_url("tab.js")}", root))).watch(c)}}"""

_HIDDEN = "_hidden"
"""The component's own state costs much more to look at, and every refresh does."""

_component = st.components.v2.component("lookback_tab", js=_STUB, isolate_styles=False)


def tab(changed: Callable[[], None] = lambda: None) -> None:
    """Put what the browser needs on the page, once in each run of the whole script and in no fragment; call
    `changed` when hidden() has changed."""

    def note(state: Mapping[str, object]) -> None:
        st.session_state[_HIDDEN] = bool(state.get("hidden"))

    def hear() -> None:
        note(st.session_state["tab"])
        changed()

    note(_component(key="tab", on_hidden_change=hear))


def hidden() -> bool:
    """Whether the tab is behind others, or its window is minimised."""
    return bool(st.session_state.get(_HIDDEN))
