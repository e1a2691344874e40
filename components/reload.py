"""Reloads edited code at the next refresh and closes everything that runs the old code.

Streamlit's own file watcher visits every module after every refresh and costs more than the refresh, so it is
off. This one checks the app's few files, at most once a second.
"""

import sys
import time
from collections.abc import Hashable
from pathlib import Path

import streamlit as st

from nats_client import environment

from .data.connection import close_all

RELOADS = environment.RELOAD.read()
"""Whether a running app picks up edited code. For development."""
ROOMS = ("components", "nats_client")
KEPT = (
    "components.launcher",
    "components.calls",
    *(f"components.push.{name}" for name in ("channel", "source", "tabs", "varints")),
)
"""Modules that are not reloaded: the launcher sets its values once, Streamlit's functions are replaced once,
and open websockets and their threads continue."""
_ROOT = Path(__file__).parent.parent


def _versions() -> tuple[tuple[str, int], ...]:
    files = sorted(file for room in ROOMS for file in (_ROOT / room).rglob("*.py"))
    return tuple((str(file), file.stat().st_mtime_ns) for file in files)


_loaded = _newest = _versions()
_checked_at = time.monotonic()


def code_version() -> Hashable:
    """The files of the rooms with their times of change: a different value after a file was edited. Checks at
    most once a second, for all callers."""
    global _checked_at, _newest
    if RELOADS and time.monotonic() - _checked_at >= 1.0:
        _checked_at = time.monotonic()
        _newest = _versions()
    return _newest


def is_old() -> bool:
    """True if the code was reloaded since this viewer's script started. Its classes are then different
    objects."""
    return sys.modules.get(__name__) is not _myself


def refresh_code() -> None:
    """Rerun the whole app on new code if a file of the rooms changed since it was loaded."""
    if not RELOADS:
        return
    if is_old():
        st.rerun()  # another viewer's refresh already reloaded; this one still runs the old code
    if code_version() != _loaded:
        st.cache_data.clear()
        close_all("the code was edited")
        for name in [name for name in sys.modules if name.split(".")[0] in ROOMS]:
            if name not in KEPT:
                del sys.modules[name]
        st.rerun()


_myself = sys.modules[__name__]
