"""Edited code takes effect at the next refresh, and leaves nothing of the old running.

Streamlit's own file watcher looks at every module after every refresh, at more cost than the refresh
itself, so it is switched off; this looks at the few files of the app, at most once a second.
"""

import os
import sys
import time
from pathlib import Path

import streamlit as st

RELOADS = os.environ.get("LOOKBACK_RELOAD") != "0"
"""Whether edited code takes effect in a running app: for development."""
ROOMS = ("components", "nats_client")
KEPT = ("components.launcher", "components.calls")
"""What stays: the launcher hands things over once, and Streamlit's functions are changed once."""
_ROOT = Path(__file__).parent.parent


def _stamp() -> tuple[tuple[str, int], ...]:
    files = sorted(file for room in ROOMS for file in (_ROOT / room).rglob("*.py"))
    return tuple((str(file), file.stat().st_mtime_ns) for file in files)


_loaded = _stamp()
_looked = time.monotonic()


def is_old() -> bool:
    """Whether the code was loaded anew since this viewer's script began: classes are then others."""
    return sys.modules.get(__name__) is not _myself


def refresh_code() -> None:
    """Rerun the whole app on new code, when a file of the rooms has changed since it was loaded."""
    global _looked
    if not RELOADS:
        return
    if is_old():
        st.rerun()  # another viewer's refresh has seen to it; this one still runs the old code
    if time.monotonic() - _looked < 1.0:
        return
    _looked = time.monotonic()
    if _stamp() != _loaded:
        st.cache_data.clear()
        st.cache_resource.clear()  # closes the client: its thread, its connection, its consumers
        for name in [name for name in sys.modules if name.split(".")[0] in ROOMS]:
            if name not in KEPT:
                del sys.modules[name]
        st.rerun()


_myself = sys.modules[__name__]
