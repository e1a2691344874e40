"""Fixtures and hooks that all tests share."""

import os
import subprocess
import threading
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import coverage
import pytest
from hypothesis import settings
from playwright.sync_api import Browser, BrowserContext, Page, expect

from nats_client import Client, Settings
from tests.browser import chromium, faultless_tab, fresh_context
from tests.certificates import Certificates
from tests.nats import NatsServer, running_server

SLOW = (
    "app/test_sign_in_changes.py",
    "services/test_history.py",
    "app/test_leaks.py",
    "nats_client/test_roles.py",
    "app/test_moments.py",
    "app/test_charts_over_two_days.py",
    "components/test_push_browser.py",
    "services/test_archive.py",
    "app/test_workflows_page.py",
    "app/test_heavy_neighbour.py",
    "test_tools.py",
    "app/test_pages_over_two_days.py",
    "nats_client/test_sql_apart.py",
    "app/test_untrusted.py",
    "app/test_sql_box.py",
    "app/test_archive_page.py",
    "app/test_slow_pages.py",
    "app/test_sql_rights.py",
    "app/test_full_disk.py",
    "app/test_history_page.py",
    "app/test_recorded_live.py",
    "app/test_burst.py",
    "app/test_addresses.py",
    "bench/test_growth.py",
    "bench/test_bench.py",
    "components/test_streamlit_internals.py",
    "deploy/test_scale.py",
    "nats_client/test_replays.py",
    "test_soak.py",
    "nats_client/test_cluster.py",
    "nats_client/test_network.py",
    "app/test_comparison_settings.py",
    "nats_client/test_sleep_and_clock.py",
    "app/test_hidden_tab.py",
    "app/test_stopping.py",
    "app/test_sign_in_rights.py",
    "app/test_messages_rights.py",
    "app/test_comparison.py",
    "services/test_comparison_service.py",
    "app/test_small_multiples.py",
    "nats_client/test_patched_nats.py",
    "test_runner.py",
)
"""Files that `make test` leaves out. `make test-all` runs them. Their docstrings say why they are slow."""

LONG = (
    "nats_client/test_shared_follower.py",
    "nats_client/test_two_days.py",
    "app/test_push.py",
    "components/test_live_chart_browser.py",
    "nats_client/test_removals.py",
    "nats_client/test_rights.py",
    "app/test_second_viewer.py",
    "app/test_status.py",
    "app/test_cheap_pages.py",
    "app/test_sql_page.py",
    "app/test_web.py",
    "app/test_sign_in.py",
    "app/test_browser.py",
    "app/test_links.py",
    "app/test_explore.py",
    "app/test_clock.py",
    "app/test_messages_page.py",
    "app/test_consumers_page.py",
    "nats_client/test_connect_errors.py",
    "services/test_embedded.py",
    "services/test_tokens.py",
    "services/test_keys.py",
    "app/test_alerts.py",
    "nats_client/test_stream_kinds.py",
    "services/test_database.py",
    "nats_client/test_halted.py",
    "nats_client/test_by_sequence.py",
    "test_javascript.py",
)
"""Other files that take long. They begin early: a worker takes a file as a whole, and a long one at the end
would leave the others with nothing to do. Their docstrings say why they are slow, too."""

CHECKS = ("test_javascript.py", "nats_client/test_package.py")
"""Files that start programs, but neither a server nor a browser: `make check` runs them, too."""

STARTERS = {"server", "client", "browser", "certificates"}
"""Fixtures that start a program."""
STARTS_NONE = {"tests.audit", "tests.coverage_report", "tests.waiting"}
"""Test helpers that start no program; all other helpers do."""

settings.register_profile("patient", deadline=None)  # no test asserts an absolute time
settings.load_profile("patient")
expect.set_options(timeout=30_000)


def pytest_configure(config: pytest.Config) -> None:
    """Only the thread that runs the tests is measured with greenlet support, which only Playwright needs.
    coverage.py calls greenlet in each thread that it measures like that. When such a thread ends, greenlet
    queues a call that runs Python code, and that can make Python 3.11 repeat one traced instruction
    forever."""
    measuring = coverage.Coverage.current()
    if measuring is not None and hasattr(config, "workerinput"):
        assert measuring._collector is not None
        measuring._collector.concur_id_func = None  # for threads that are started from now on
        measuring.set_option("run:concurrency", ["thread"])  # for processes that are started from now on
        os.environ["COVERAGE_PROCESS_CONFIG"] = measuring.config.serialize()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Save a worker's coverage. Later may be too late: pytest-xdist kills a worker that has not ended after
    ten seconds."""
    measuring = coverage.Coverage.current()
    if measuring is not None and hasattr(session.config, "workerinput"):
        measuring.save()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take long first. Of the others, those with a browser use the CPU and the rest mostly
    wait, so the former are spread evenly among the latter."""
    folder = Path(__file__).parent
    slow = [folder / name for name in SLOW]
    pairs = zip_longest(slow, (folder / name for name in LONG))
    long = [file for pair in pairs for file in pair if file is not None]
    drawn = {item.path for item in items if _uses_browser(item)}
    rest = [file for file in dict.fromkeys(item.path for item in items) if file not in long]
    kinds = [[file for file in rest if (file in drawn) == wanted] for wanted in (True, False)]
    spread = sorted((number / len(files), file) for files in kinds for number, file in enumerate(files))
    place = {file: number for number, file in enumerate([*long, *(file for _, file in spread)])}
    items.sort(key=lambda item: place[item.path])
    opened: set[Path] = set()
    checks = [folder / name for name in CHECKS]
    for item in items:
        if item.path not in checks and _uses_real_parts(item):
            item.add_marker("real")
        if item.path in slow or (_uses_browser(item) and item.path in opened):
            item.add_marker("slow")
        if _uses_browser(item):
            opened.add(item.path)


def _uses_browser(item: pytest.Item) -> bool:
    return "browser" in item.fixturenames  # type: ignore[attr-defined]


def _uses_real_parts(item: pytest.Item) -> bool:
    """True if a test, or its file, uses something that starts a server, a browser or a program."""
    if not STARTERS.isdisjoint(item.fixturenames):  # type: ignore[attr-defined]
        return True
    module = item.module  # type: ignore[attr-defined]
    if any(value is subprocess for value in vars(module).values()):
        return True
    helpers = {getattr(value, "__module__", None) or "" for value in vars(module).values()}
    own = STARTS_NONE | {module.__name__}
    return any(name.startswith(("tests.", "bench.")) and name not in own for name in helpers)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove settings from the environment, so that it does not decide what the tests connect to."""
    for name in os.environ:
        if name.startswith(("NATS_", "LOOKBACK_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Fail if a test leaves a client open."""
    yield
    left = [thread for thread in threading.enumerate() if thread.name == "nats"]
    assert not left


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server with a stream S, unless the module has its own."""
    with running_server(tmp_path / "nats") as server:
        server.add_stream("S", ["s.>"])
        yield server


@pytest.fixture
def client(server: NatsServer) -> Iterator[Client]:
    """A client of that server."""
    with Client(Settings(url=server.url)) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def context(browser: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    """One context for all tabs of a module, so that the app is fetched and compiled once. Its options are in
    the module's VIEWER."""
    with fresh_context(browser, **getattr(request.module, "VIEWER", {})) as context:
        yield context


@pytest.fixture
def tab(context: BrowserContext) -> Iterator[Page]:
    """A tab in that context. An error in it fails the test."""
    with faultless_tab(context) as tab:
        yield tab


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A CA, and good and bad certificates."""
    return Certificates(tmp_path_factory.mktemp("tls"))
