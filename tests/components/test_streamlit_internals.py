"""An unexpected version of Streamlit or uvicorn: the app refuses to start, or works without the feature.

Slow, because each test starts a Python that imports Streamlit.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.altered import altered, environment
from tests.running import ROOT

NOT_SUPPORTED = "is not supported"
PROGRAM = """
import app, asyncio
from components import calls
from components.web import streamlit_internals as internals

class Protocol:
    def send(self): ...

print(internals.asked_page(), internals.has_gone_back(), internals.is_started_by_streamlit())
print(internals.on_sent(Protocol().send, print))
"""
# Package, file, pattern to replace, replacement, and the expected report
NEEDED = {
    "reads cookies otherwise": (
        "streamlit",
        "auth_util.py",
        r"def get_cookie_with_chunks\(",
        "def get_cookie_with_chunks(request, ",
        "'get_cookie_with_chunks(request, get_single_cookie_fn, cookie_name)', expected",
    ),
    "has no secret": (
        "streamlit",
        "web/server/server_util.py",
        r"def get_cookie_secret\(",
        "def get_cookie_secret(section=None",
        "get_cookie_secret is 'get_cookie_secret(section=None)', expected",
    ),
    "checks signatures elsewhere": (
        "streamlit",
        "web/server/starlette/starlette_app_utils.py",
        r"(def decode_signed_value\(\s*)secret",
        r"\1key",
        "decode_signed_value is 'decode_signed_value(key, name, value, max_age_days=31.0)', expected",
    ),
}
MISSED = {
    "finds pages otherwise": (
        "streamlit",
        "runtime/pages_manager.py",
        r"def set_script_intent\(\s*self,",
        "def set_script_intent(self, path,",
        "pages are found by their exact name only",
    ),
    "tells of no back button": (
        "streamlit",
        "runtime/scriptrunner_utils/script_run_context.py",
        r"\bis_history_navigation\b",
        "navigation",
        "a choice may outlive",
    ),
    "fills in its theme otherwise": (
        "streamlit",
        "runtime/app_session.py",
        r"\b_populate_theme_msg\b",
        "_theme",
        "a refresh costs a sixth more",
    ),
    "sends hashes": (
        "streamlit",
        "config.py",
        r"global\.minCachedMessageSize",
        "global.cachedMessageSize",
        "a page may stop",
    ),
    "tells no mode": ("streamlit", "config.py", r"\b_server_mode\b", "_mode", "browsers may not connect"),
    "has another main container": ("streamlit", "__init__.py", r"\Z", "\ndel _main\n", "st.plotly_chart"),
    "has another socket": (
        "uvicorn",
        "protocols/websockets/websockets_sansio_impl.py",
        r"\bself\.conn\b",
        "self.protocol",
        "bytes on the wire are not counted, and each websocket takes 40 KB more",
    ),
    "compresses otherwise": (
        "websockets",
        "extensions/permessage_deflate.py",
        r"\bself\.encoder\b",
        "self.deflate",
        "each websocket takes 40 KB more",
    ),
}


def ran(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the launcher with the packages in `folder` in front of the installed ones."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_what_is_installed_is_as_it_should_be(tmp_path: Path) -> None:
    """With the pinned versions nothing is reported."""
    done = ran(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "None False False\nFalse\n"
    assert NOT_SUPPORTED not in done.stderr


@pytest.mark.parametrize("change", NEEDED)
def test_the_app_does_not_start(tmp_path: Path, change: str) -> None:
    """If the app could not know who is signed in, it does not start, and says what to install."""
    *where, expected = NEEDED[change]
    done = ran(altered(tmp_path, *where))
    assert done.returncode != 0
    last = done.stderr.strip().split("\n")[-1]
    assert NOT_SUPPORTED in last
    assert expected in last
    assert last.endswith("Install the version in requirements.txt.")


@pytest.mark.parametrize("change", MISSED)
def test_the_app_goes_without(tmp_path: Path, change: str) -> None:
    """If only a convenience or an optimization is affected, the app runs without it and reports that once."""
    *where, expected = MISSED[change]
    done = ran(altered(tmp_path, *where))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "None False False\nFalse\n"
    assert done.stderr.count(NOT_SUPPORTED) == 1
    assert expected in done.stderr
