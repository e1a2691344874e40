"""The built-in pages that consist of live elements: what makes them run again, and what does not.

Slow, because each page is watched for some time, to see that it does not run again.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.nats import NatsServer, running_server
from tests.publisher import Publisher
from tests.running import App, app
from tests.waiting import until

CLOCK = "iframe[title*=autorefresh]"
CHART = "document.querySelector('.js-plotly-plot')?.parentElement.lookback"
EXPLORED = "explore?stream=S&field=n&"


class Asked:
    """How often a tab has requested a rerun."""

    def __init__(self, tab: Page) -> None:
        self.count = 0
        tab.on("websocket", self._open)

    def _open(self, socket: Any) -> None:
        if socket.url.endswith("stream"):
            socket.on("framesent", self._ask)

    def _ask(self, _: object) -> None:
        self.count += 1


def opened(browser: Browser, url: str) -> tuple[Page, Asked]:
    """Open a page in a new browser context; return the tab and its count of reruns."""
    tab = browser.new_context(viewport={"width": 1200, "height": 1400}).new_page()
    asked = Asked(tab)
    tab.goto(url)
    return tab, asked


def settled(tab: Page, asked: Asked) -> None:
    """Wait until a tab has requested no rerun for three seconds."""
    before = -1
    while asked.count != before:
        before = asked.count
        tab.wait_for_timeout(3000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with a stream S."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.add_stream("S", ["s.>"])
        server.publish("s.a", *(b'{"n": %d, "m": 1}' % n for n in range(5)))
        yield server


@pytest.fixture(scope="module")
def running(server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with its own pages."""
    with app(tmp_path_factory.mktemp("app"), NATS_URL=server.url) as running:
        yield running


@contextmanager
def two(browser: Browser, url: str) -> Iterator[list[tuple[Page, Asked]]]:
    """Two viewers."""
    found = [opened(browser, url) for _ in range(2)]
    yield found
    for tab, _ in found:
        tab.context.close()


@pytest.mark.parametrize(
    ("page", "moves"),
    [
        ("alerts?stream=S&subjects=>&field=n&by=_subject&limit=50", ".js-plotly-plot"),
        (EXPLORED, ".lb-field_list"),
        (f"{EXPLORED}show=Messages", ".lb-message_list"),
        (f"{EXPLORED}show=Messages&chart=scatter&against=m", ".lb-scatter"),
        (f"{EXPLORED}show=Copy+as+page&chart=latest", ".lb-latest_values"),
    ],
)
def test_messages_do_not_make_it_run(
    server: NatsServer, running: App, browser: Browser, page: str, moves: str
) -> None:
    """While messages arrive, both viewers see them, and neither page runs again. No page has a refresh
    timer."""
    with Publisher([server.url], "s.a", rate=10), two(browser, f"{running.url}/{page}") as tabs:
        for tab, asked in tabs:
            tab.locator(moves).wait_for(timeout=60_000)
            settled(tab, asked)
        before = [asked.count for _, asked in tabs]
        for tab, _ in tabs:
            count = tab.locator(".lb-status").inner_text()
            until(lambda: tab.locator(".lb-status").inner_text() != count)
            tab.wait_for_timeout(3000)
            assert tab.locator(CLOCK).count() == 0
        assert [asked.count for _, asked in tabs] == before


def test_the_parts_move(server: NatsServer, running: App, browser: Browser) -> None:
    """The line about the stream, its fields and its newest messages are updated for both viewers without a
    rerun. Payloads are shown as text."""
    with (
        two(browser, f"{running.url}/{EXPLORED}") as tabs,
        two(browser, f"{running.url}/{EXPLORED}show=Messages") as others,
    ):
        for tab, _ in tabs:
            tab.locator(".lb-field_list td").first.wait_for(timeout=60_000)
        for tab, _ in others:
            tab.locator(".lb-message_list td").first.wait_for(timeout=60_000)
        server.publish("s.b", json.dumps({"n": 77777, "m": 2}).encode())
        for tab, _ in tabs:
            expect(tab.locator(".lb-field_list tr", has_text="n").nth(1)).to_contain_text("77,777")
            expect(tab.locator(".lb-stream_line")).to_contain_text("messages · ")
        for tab, _ in others:
            expect(tab.locator(".lb-message_list tbody tr").first).to_contain_text("s.b")
            expect(tab.locator(".lb-message_list pre").last).to_have_text('{\n  "n": 77777,\n  "m": 2\n}')


@pytest.mark.parametrize("page", [EXPLORED, "alerts?stream=S&subjects=>&field=n&by=_subject"])
def test_a_new_stream_and_a_new_column_make_it_run(
    server: NatsServer, running: App, browser: Browser, page: str
) -> None:
    """A new stream is offered on each open page, a deleted one no longer, and a new column is offered too.
    After that, the page makes no further reruns."""
    name, column = f"NEW{page[:3]}", f"new{page[:3]}"
    with two(browser, f"{running.url}/{page}") as tabs:
        for tab, asked in tabs:
            tab.locator(".js-plotly-plot").wait_for(timeout=60_000)
            settled(tab, asked)
        server.add_stream(name, [f"{name}.>"])
        for tab, _ in tabs:
            until(lambda: name in options(tab, "Stream"))
        server.run(lambda nc: nc.jetstream().delete_stream(name))
        for tab, _ in tabs:
            until(lambda: name not in options(tab, "Stream"))
        server.publish("s.a", json.dumps({"n": 1, column: 1}).encode())
        for tab, asked in tabs:
            until(lambda: column in options(tab, "Field"))
            settled(tab, asked)
            assert tab.locator(CLOCK).count() == 0


def test_an_empty_stream_gets_its_page(server: NatsServer, running: App, browser: Browser) -> None:
    """A page of a stream without rows is drawn in full once its first rows arrive."""
    server.add_stream("EMPTY", ["empty.>"])
    with two(browser, f"{running.url}/explore?stream=EMPTY") as tabs:
        for tab, asked in tabs:
            tab.get_by_text("No messages in the last").wait_for(timeout=60_000)
            settled(tab, asked)
        server.publish("empty.a", b'{"z": 1}')
        for tab, _ in tabs:
            until(lambda: tab.evaluate(f"Boolean({CHART}?.drawn)"))


def test_the_demo_overview_rests(browser: Browser, tmp_path: Path) -> None:
    """The demo's Overview does not run again while its figures change each second."""
    with app(tmp_path) as running, two(browser, running.url) as tabs:
        for tab, asked in tabs:
            until(lambda: tab.evaluate(f"Boolean({CHART}?.drawn)"))
            settled(tab, asked)
        before = [asked.count for _, asked in tabs]
        tab = tabs[0][0]
        frame = int(tab.evaluate(f"{CHART}.frame"))
        until(lambda: int(tab.evaluate(f"{CHART}.frame")) > frame + 3)
        assert [asked.count for _, asked in tabs] == before


def options(tab: Page, label: str) -> list[str]:
    """The options of a select box."""
    box = tab.locator(f'input[aria-label="{label}"]')
    box.click()
    found = tab.get_by_role("option").all_inner_texts()
    tab.keyboard.press("Escape")
    return found
