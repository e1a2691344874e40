"""The Workflows page: real programs report, and the page is checked in Streamlit's AppTest and in a real
browser.

Slow, because a workflow is lost only after it has missed several heartbeats.
"""

import contextlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import streamlit as st
from playwright.sync_api import Browser, Page, WebSocketRoute, expect
from streamlit.testing.v1 import AppTest

from services.workflow import Workflow
from tests.answers import answer, answering
from tests.app.test_untrusted import FOUND, MARKUP
from tests.browser import fresh_tab
from tests.nats import NatsServer, running_server
from tests.running import app
from tests.service import service
from tests.status_line import status_html
from tests.waiting import until

ROOT = Path(__file__).parent.parent.parent
HASHING = ROOT / "tests" / "services" / "hashing.py"
SERVING = ROOT / "tests" / "services" / "serving.py"
PAGE = ROOT / "pages" / "workflows.py"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """An empty nats-server."""
    with running_server(tmp_path / "nats") as server:
        yield server


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """A folder with only the Workflows page."""
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "workflows.py").write_text(PAGE.read_text())
    return folder


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start programs, and kill them at the end."""
    programs: list[subprocess.Popen[bytes]] = []

    def start(file: Path, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(file), *arguments]
        programs.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL))
        return programs[-1]

    yield start
    for program in programs:
        program.kill()
        program.wait()


@pytest.fixture
def open_page(
    server: NatsServer, pages: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., str]]:
    """Open the page with a query and return its texts."""

    def open_page(**query: str) -> str:
        test = AppTest.from_file(str(ROOT / "components" / "frame.py"), default_timeout=30)
        for name, value in query.items():
            test.query_params[name] = value
        test.run()
        assert not test.exception
        drawn = "".join(each.proto.body for each in test.get("html"))
        with contextlib.suppress(StopIteration):
            drawn += status_html(test)
        boxes = "".join(box.value for box in [*test.info, *test.warning, *test.error, *test.caption])
        return re.sub(r"\\(.)", r"\1", re.sub(r"<[^>]+>", " ", drawn) + boxes)

    monkeypatch.setattr("components.pages.FOLDER", pages)
    monkeypatch.setenv("NATS_URL", server.url)
    yield open_page
    st.cache_data.clear()
    st.cache_resource.clear()


def test_nothing_yet(open_page: Callable[..., str]) -> None:
    """If no workflow has reported, the page says so and how to report, and shows no error."""
    words = open_page()
    assert "No workflow has reported to this server yet" in words
    assert "There is no stream" not in words


def test_start_button_stores_nothing(
    server: NatsServer, pages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a stream captures the subject of an announced start endpoint, a click on its button sends nothing,
    and the page says why."""
    monkeypatch.setattr("components.pages.FOLDER", pages)
    monkeypatch.setenv("NATS_URL", server.url)
    server.add_stream("S", ["workflow-start.>"])
    endpoints = [{"name": "start", "subject": "workflow-start.x"}]
    answers = {"PING": [answer("PING")], "INFO": [answer("INFO", endpoints=endpoints)]}
    page = AppTest.from_file(str(ROOT / "components" / "frame.py"), default_timeout=30)
    try:
        with answering(server.url, answers):
            until(lambda: any(each.key == "workflow-start.x" for each in page.run().button))
            page.button(key="workflow-start.x").click().run()
        assert "The stream 'S' captures 'workflow-start.x'" in page.error[0].value.replace("\\", "")
        assert server.run(lambda nc: nc.jetstream().stream_info("S")).state.messages == 0
    finally:
        st.cache_data.clear()
        st.cache_resource.clear()


@pytest.mark.parametrize("key", ["w.unknown", "*.*", "a", "a.b.c", "<b>.c", "", " "])
def test_unknown_run(server: NatsServer, open_page: Callable[..., str], key: str) -> None:
    """An address of a run that does not exist, or of no run at all, is not an error and opens no other
    run."""
    with Workflow("w", url=server.url):
        pass
    words = open_page(run=key)
    assert "The stream has no such run." in words
    assert "Succeeded" not in words


def test_filters(server: NatsServer, open_page: Callable[..., str]) -> None:
    """The list can be filtered by workflow and by status."""
    with Workflow("good", url=server.url, trigger="by hand"):
        pass
    with pytest.raises(ValueError, match="x"), Workflow("bad", url=server.url):
        raise ValueError("x")
    everything = open_page()
    assert "good" in everything
    assert "bad" in everything
    assert "by hand" in everything
    assert "good" not in open_page(status="Failed")
    assert "bad" not in open_page(workflow="good")
    assert "No matching run within the look-back." in open_page(status="Lost")


def test_whole_run(server: NatsServer, open_page: Callable[..., str]) -> None:
    """The page of a run has its error, its steps, its log lines, and the number of dropped events."""
    workflow = Workflow("w", url=server.url)

    def work() -> None:
        with workflow, workflow.job("Job A") as job, job.step("Step B") as step:
            step.log("a line of it")
            workflow._n += 3  # three events that are never sent
            workflow.unsent = 3
            raise OSError("no disk")

    with pytest.raises(OSError, match="disk"):
        work()
    words = open_page(run=workflow.key)
    for said in ("Failed", "OSError: no disk", "Job A", "Step B", "a line of it", "3 events are missing"):
        assert said in words
    assert "The program dropped 3" in words


def test_runs_in_a_browser(
    server: NatsServer,
    pages: Path,
    tmp_path: Path,
    browser: Browser,
    start: Callable[..., subprocess.Popen[bytes]],
) -> None:
    """A run appears while it runs, its log lines arrive live, and it ends as succeeded; a link opens it with
    all lines. A killed run becomes lost, a failed run shows its error, and a button starts a run in its
    program. While NATS is away, no run becomes lost."""
    with app(tmp_path, NATS_URL=server.url, LOOKBACK_PAGES=str(pages)) as running, fresh_tab(browser) as tab:
        tab.goto(running.url)
        expect(tab.locator("[data-testid=stAlert]")).to_contain_text("No workflow has", timeout=30_000)
        program = start(HASHING, server.url, "--slowly")
        expect(tab.locator(".lb-runs a")).to_contain_text("Running", timeout=30_000)
        tab.locator(".lb-runs a").click()
        expect(tab.locator(".lb-facts")).to_contain_text("Running", timeout=30_000)
        expect(tab.locator(".lb-log").last).to_contain_text("components/data/live.py", timeout=30_000)
        assert program.poll() is None  # its lines arrive before it ends
        expect(tab.locator(".lb-bar span")).to_have_count(1, timeout=30_000)
        until(lambda: "run=" in tab.evaluate("location.search"))
        late = tab.context.new_page()
        late.goto(tab.url)  # opened in the middle of the run, it has the first line
        expect(late.locator(".lb-log").first).to_contain_text("files in components", timeout=30_000)
        late.close()
        expect(tab.locator(".lb-facts")).to_contain_text("Succeeded", timeout=30_000)
        expect(tab.locator(".lb-steps .lb-state-running")).to_have_count(0, timeout=30_000)
        expect(tab.locator(".js-plotly-plot .bars path")).to_have_count(6, timeout=30_000)
        expect(tab.locator(".lb-log").last).to_contain_text("services/workflow.py", timeout=30_000)
        tab.get_by_label("Search the log").fill("EMBEDDED")
        tab.get_by_label("Search the log").press("Enter")
        expect(tab.locator(".lb-log div")).to_have_count(1, timeout=30_000)

        tab.get_by_role("link", name="All runs").click()
        program = start(HASHING, server.url, "--slowly")
        expect(tab.locator(".lb-runs a").first).to_contain_text("Running", timeout=30_000)
        program.send_signal(signal.SIGKILL)
        expect(tab.locator(".lb-runs a").first).to_contain_text("Lost", timeout=30_000)
        tab.locator(".lb-runs a").first.click()
        expect(tab.locator(".lb-facts")).to_contain_text("Last seen", timeout=30_000)
        expect(tab.locator(".lb-steps .lb-state-lost")).to_have_count(2, timeout=30_000)

        start(HASHING, server.url, "--fail")
        tab.get_by_role("link", name="All runs").click()
        expect(tab.locator(".lb-runs a").first).to_contain_text("Failed", timeout=30_000)
        tab.locator(".lb-runs a").first.click()
        expect(tab.locator(".lb-error")).to_contain_text("FileNotFoundError", timeout=30_000)

        start(SERVING, server.url)
        tab.get_by_role("link", name="All runs").click()
        tab.get_by_role("button", name="Start a run of waiting").click(timeout=30_000)
        expect(tab.locator(".lb-facts")).to_contain_text("Running", timeout=30_000)
        expect(tab.locator(".lb-facts")).to_contain_text("request", timeout=30_000)
        tab.get_by_role("link", name="All runs").click()
        tab.get_by_role("button", name="Start a run of waiting").click(timeout=30_000)
        expect(tab.locator("[data-testid=stAlert]")).to_contain_text("code 409", timeout=30_000)

        start(HASHING, server.url, "--slowly")
        first = tab.locator(".lb-runs a").first
        expect(first).to_contain_text("hashing", timeout=30_000)
        server.kill()
        expect(tab.locator(".lb-word")).to_have_text("Disconnected", timeout=30_000)
        time.sleep(3)  # twice the time after which a run is lost
        expect(first).to_contain_text("Running")  # without a connection, missing heartbeats mean nothing
        server.start()
        expect(first).to_contain_text("Succeeded", timeout=30_000)


def test_a_click_outlives_a_refresh_under_way(
    server: NatsServer, pages: Path, tmp_path: Path, browser: Browser
) -> None:
    """A viewer who clicks from a run to the list, or to a run, gets there even if refreshes were requested
    before the browser received the answer to the click."""
    with Workflow("w", url=server.url):
        pass
    held: list[str | bytes] | None = None
    sides: list[WebSocketRoute] = []

    def between(browser_side: WebSocketRoute) -> None:
        server_side = browser_side.connect_to_server()
        sides.append(browser_side)
        browser_side.on_message(server_side.send)
        server_side.on_message(
            lambda message: browser_side.send(message) if held is None else held.append(message)
        )

    with app(tmp_path, NATS_URL=server.url, LOOKBACK_PAGES=str(pages)) as running, fresh_tab(browser) as tab:
        tab.route_web_socket(re.compile("/_stcore/stream"), between)
        tab.goto(running.url)
        for link, shown in [(".lb-runs a", ".lb-facts"), ("text=All runs", ".lb-head")] * 2:
            tab.locator(link).first.wait_for(timeout=30_000)
            held = []
            tab.locator(link).first.click()
            tab.wait_for_timeout(2500)  # two or three refreshes
            for message in held:
                sides[-1].send(message)
            held = None
            expect(tab.locator(shown)).to_be_visible(timeout=30_000)
            before = tab.locator(".lb-status").inner_html()
            until(lambda: tab.locator(".lb-status").inner_html() != before)
            expect(tab.locator(shown)).to_be_visible()
            assert ("run=" in tab.url) is (shown == ".lb-facts")


def test_a_start_outlives_another_run_of_the_page(
    server: NatsServer, pages: Path, tmp_path: Path, browser: Browser
) -> None:
    """A viewer starts a run and chooses another interval before the program replies, so Streamlit stops the
    run of the page that waits. The page still opens the started run. A viewer who has opened another run
    meanwhile stays there."""
    with (
        Workflow("w", url=server.url) as workflow,
        service(server.url, "workflow-start"),
        app(tmp_path, NATS_URL=server.url, LOOKBACK_PAGES=str(pages)) as running,
        fresh_tab(browser) as tab,
        fresh_tab(browser) as other,
    ):
        for each in (tab, other):
            each.goto(running.url)
        tab.get_by_role("button", name="Start a run of start").click(timeout=30_000)
        tab.wait_for_timeout(500)
        tab.get_by_test_id("stSidebar").get_by_text("5 s", exact=True).click()
        tab.wait_for_url("**run=w.begun**")
        other.get_by_role("button", name="Start a run of start").click(timeout=30_000)
        other.wait_for_timeout(500)
        other.locator(".lb-runs a").first.click()
        other.wait_for_url(f"**run={workflow.key}**")
        other.wait_for_timeout(3000)
        assert f"run={workflow.key}" in other.url


def hovered(tab: Page) -> str:
    """The hover text of the chart's last bar."""
    bar = tab.locator(".js-plotly-plot .bars path").last
    bar.scroll_into_view_if_needed()
    box = bar.bounding_box()
    if box is None:
        return ""
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2 - 3)
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    return tab.locator(".js-plotly-plot .hoverlayer").first.text_content() or ""


def test_names_are_no_markup(server: NatsServer, pages: Path, tmp_path: Path, browser: Browser) -> None:
    """Markup in names, triggers, log lines and errors is plain text everywhere."""
    for text in MARKUP:
        with Workflow(text, url=server.url, trigger=text) as workflow:
            for each in MARKUP:
                with workflow.job(each) as job, suppress(ValueError), job.step(each) as step:
                    step.log(each)
                    raise ValueError(each)
    with app(tmp_path, NATS_URL=server.url, LOOKBACK_PAGES=str(pages)) as running, fresh_tab(browser) as tab:
        tab.goto(running.url)
        rows = tab.locator(".lb-runs a")
        expect(rows).to_have_count(len(MARKUP), timeout=30_000)
        for text in MARKUP:
            expect(tab.locator(".lb-runs")).to_contain_text(text, timeout=30_000)
        assert tab.evaluate(FOUND) == []
        rows.first.click()
        expect(tab.locator(".js-plotly-plot .bars path")).to_have_count(len(MARKUP), timeout=30_000)
        expect(tab.locator(".lb-facts")).to_contain_text(MARKUP[-1], timeout=30_000)
        for text in MARKUP:
            for place in (".lb-steps", ".lb-log"):
                expect(tab.locator(place).first).to_contain_text(text, timeout=30_000)
        until(lambda: MARKUP[-1] in hovered(tab))
        expect(tab.locator(".js-plotly-plot")).to_contain_text(MARKUP[2][:20], timeout=30_000)
        assert tab.evaluate(FOUND) == []
