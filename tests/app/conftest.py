"""Fixtures shared by the tests of pages."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from playwright.sync_api import Browser
from streamlit.testing.v1 import AppTest

from tests.nats import NatsServer
from tests.running import ROOT
from tests.second_viewer import second_viewers
from tests.stage import Stage, running_stage

OWN_SESSIONS = {
    "test_sign_in.py": "people sign in one by one, and each request counts",
    "test_sign_in_rights.py": "people sign in one by one, and each request counts",
    "test_sql_rights.py": "people sign in one by one",
    "test_messages_rights.py": "people sign in one by one",
    "test_sign_in_changes.py": "people sign in one by one, and each request counts",
    "test_web.py": "it counts requests, over TLS and below other paths too",
    "test_comparison.py": "it measures what one viewer gets",
    "test_comparison_settings.py": "its proxies let pass what one viewer needs",
    "test_hidden_tab.py": "it counts the refreshes of one session",
    "test_leaks.py": "it counts threads and sessions",
    "test_viewers.py": "it brings its own viewers",
    "test_burst.py": "it brings its own viewers",
    "test_heavy_neighbour.py": "it brings its own viewers",
    "test_full_disk.py": "the app runs in a mount namespace of its own",
    "test_health.py": "it counts viewers",
    "test_slow_pages.py": "people sign in one by one",
    "test_push.py": "it brings its own viewers, and counts what goes over the websockets of one tab",
    "test_scatter.py": "it brings its own viewers, and counts the runs of the page",
    "test_point_messages.py": "it brings its own viewers",
    "test_stopping.py": "it brings its own viewers, and each of them may load what another has stopped",
    "test_event_marks.py": "it brings its own viewers",
    "test_cheap_pages.py": "it brings its own viewers, and counts their reruns",
    "test_live_elements.py": "it brings its own viewers, and counts the runs of the page",
    "test_log_page.py": "it brings its own viewers",
    "test_consumers_page.py": "it brings its own viewers, and counts what they cost the server",
    "test_sql_page.py": "it brings its own viewers, and counts the runs of the page",
}
"""Files whose tests have no second viewer, each with the reason."""


@pytest.fixture(autouse=True)
def beside_a_second_viewer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Open a second viewer of each page that a browser opens; that viewer's runs must finish too."""
    if request.path.name in OWN_SESSIONS:
        yield
        return
    with second_viewers(monkeypatch):
        yield


@pytest.fixture
def open_page(server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Open the frame with a page of the given source or file, and the given query, on the module's `server`.
    `blocked`: without the tab's own websocket, so that data arrives with the elements."""

    placed: set[Path] = set()

    def open_page(source: str | Path, *, blocked: bool = False, **query: str) -> AppTest:
        file = tmp_path / (source.name if isinstance(source, Path) else "page.py")
        for other in placed - {file}:
            other.unlink(missing_ok=True)  # the first page is the one that opens
        placed.add(file)
        if isinstance(source, Path):
            shutil.copy(source, file)
        else:
            file.write_text(source)
        monkeypatch.setattr("components.pages.FOLDER", tmp_path)
        monkeypatch.setattr("components.pages._listing", (tmp_path, 0.0, {}))  # forget pages of before
        app = AppTest.from_file(str(ROOT / "components" / "frame.py"), default_timeout=30)
        app.session_state["_blocked"] = blocked
        for name, value in query.items():
            app.query_params[name] = value
        return app.run()

    monkeypatch.setenv("NATS_URL", server.url)
    yield open_page
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture(scope="module")
def whole_stage(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One app behind a sign-in for all tests of a file."""
    with running_stage(browser, tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@pytest.fixture
def stage(whole_stage: Stage) -> Iterator[Stage]:
    """The app behind a sign-in; each test adds its own people, who are removed after it."""
    yield whole_stage
    for person in list(whole_stage.people):
        whole_stage.without(person)
