"""The script that each browser tab loads once, and whether the tab is visible."""

from collections.abc import Callable, Mapping

import streamlit as st

from .assets import asset_url, live_files

_files = "\n".join(f'import(new URL("{asset_url(name)}", root))' for name in ("status.js", *live_files()))
# The URL of Streamlit's own script gives the app's root, also below a base path or behind a proxy. The
# scripts of live elements are loaded here once per visit, so that a refresh need not send their URLs.
_STUB = f"""const root = new URL("../../", document.querySelector('script[src*="static/js/"]').src)
export default async (c) => {{
{_files}
return (await import(new URL("{asset_url("tab.js")}", root))).watch(c)}}"""

_HIDDEN = "_hidden"
"""The key of a copy in the session state: every refresh reads it, and the component's own state is much
slower to read."""
_BLOCKED = "_blocked"
"""The key of another such copy."""
_ENDS = "_ends"

_component = st.components.v2.component("lookback_tab", js=_STUB, isolate_styles=False)


def tab(ticket: str, changed: Callable[[], None] = lambda: None, *, zone: str = "") -> None:
    """Put the tab's script on the page. Call this once per run of the whole script, and not in a fragment.
    The tab's script opens its websocket with `ticket`, and draws times in `zone`, or else in the browser's
    zone. Calls `changed` when hidden() or blocked() changes. The whole script runs again when the server
    refuses the ticket, for example because the viewer's rights have changed."""

    def note(state: Mapping[str, object]) -> None:
        st.session_state[_HIDDEN] = bool(state.get("hidden"))
        st.session_state[_BLOCKED] = bool(state.get("blocked"))

    def on_change() -> None:
        note(st.session_state["tab"])
        changed()

    note(
        _component(
            key="tab",
            data={"ticket": ticket, "zone": zone},
            on_hidden_change=on_change,
            on_blocked_change=on_change,
            on_ended_change=_count_end,
        )
    )


def _count_end() -> None:
    st.session_state[_ENDS] = ends() + 1


def ends() -> int:
    """How often the server has refused the ticket of this tab's websocket."""
    count: int = st.session_state.get(_ENDS, 0)
    return count


def hidden() -> bool:
    """True if the tab is in the background or its window is minimised."""
    return bool(st.session_state.get(_HIDDEN))


def blocked() -> bool:
    """True if the browser reaches Streamlit's websocket but not the tab's own, because a proxy blocks it."""
    return bool(st.session_state.get(_BLOCKED))
