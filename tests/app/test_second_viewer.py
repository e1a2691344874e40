"""Each page with a second viewer: what one viewer does must not stop the other.

Slow, because each page is opened by two browsers.
"""

import json
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, FloatRect, Page, WebSocket, expect
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from tests.browser import fresh_tab
from tests.nats import NatsServer, running_server
from tests.running import ROOT, App, app
from tests.waiting import until

OWN = {
    "stops": '"""Stops."""\nimport streamlit as st\nfrom components import live\n'
    'st.write(live("S").now)\nst.stop()\n',
    "fails": '"""Fails."""\nimport streamlit as st\nfrom components import live\n'
    'st.write(live("S").now)\nraise RuntimeError("secret-word")\n',
}
PAGES = sorted(file.stem for file in (ROOT / "pages").glob("*.py"))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[App, NatsServer]]:
    """The app with own pages beside the built-in ones, on a server with a stream."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "pages").mkdir()
    for name, source in OWN.items():
        (folder / "pages" / f"{name}.py").write_text(source)
    settings = {"LOOKBACK_PAGES": str(folder / "pages")}
    with running_server(folder / "nats") as server, app(folder, NATS_URL=server.url, **settings) as started:
        server.add_stream("S", ["s.>"])
        server.publish("s.a", *(json.dumps({"value": i}).encode() for i in range(5)))
        yield started, server


@pytest.fixture
def pair(browser: Browser) -> Iterator[tuple[Page, Page]]:
    """Two viewers with separate sessions; both tabs count as visible."""
    with fresh_tab(browser) as first, fresh_tab(browser) as second:
        yield first, second


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """A viewer's tab."""
    with fresh_tab(browser) as tab:
        yield tab


class News:
    """Counts what a tab receives from now on: completed runs of the page's script, and frames of its own
    websocket."""

    def __init__(self, tab: Page) -> None:
        self._tab = tab
        self._count = 0
        tab.on("websocket", self._meet)

    def _meet(self, socket: WebSocket) -> None:
        pushed = urlsplit(socket.url).path.endswith("/lookback/push")
        socket.on("framereceived", self._receive_frame if pushed else self._receive)

    def _receive(self, frame: str | bytes) -> None:
        message = ForwardMsg.FromString(frame if isinstance(frame, bytes) else frame.encode())
        self._count += message.WhichOneof("type") == "script_finished"

    def _receive_frame(self, frame: str | bytes) -> None:
        self._count += isinstance(frame, bytes)

    def wait(self, count: int) -> None:
        """Wait for `count` more."""
        wanted = self._count + count
        # Playwright dispatches events only during a call, so each check makes one.
        until(lambda: self._tab.evaluate("0") or self._count >= wanted)


def place(tab: Page) -> FloatRect:
    """The position of the first chart, once it is drawn and has stopped moving."""
    chart = tab.locator(".js-plotly-plot").first
    expect(chart).to_be_visible()
    found: list[FloatRect] = []

    def settled() -> bool:
        tab.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        box = chart.bounding_box()
        if box is not None:
            found.append(box)
        return len(found) > 5 and all(each == found[-1] for each in found[-5:])

    until(settled)
    return found[-1]


@pytest.mark.parametrize("page", [*OWN, *PAGES])
def test_older_viewer_goes_on(running: tuple[App, NatsServer], pair: tuple[Page, Page], page: str) -> None:
    """The first viewer of a page keeps getting refreshes after a second has opened it, and both keep their
    status line. A page with a mistake leaves one traceback in the log, whoever views it; other pages leave
    none."""
    started, _ = running
    before = len(started.log.read_bytes())
    news = [News(tab) for tab in pair]
    for tab in pair:
        tab.goto(f"{started.url}/{page}")
        expect(tab.locator(".lb-status")).to_be_visible()
    for each in reversed(news):
        each.wait(3)
    for tab in pair:
        expect(tab.locator(".lb-status")).to_be_visible()
        expect(tab.locator('[data-testid="stException"]')).to_have_count(0)
    log = started.log.read_bytes()[before:].decode()
    mistakes = re.findall(r"The page (\S+) failed \(\w+\)$", log, re.MULTILINE)
    assert mistakes == (["fails.py"] if page == "fails" else [])
    assert log.count("Traceback") == len(mistakes), log


@pytest.mark.parametrize("address", ["overview", "Overview", "EXPLORE", "stops", "Stops"])
def test_names_of_pages(running: tuple[App, NatsServer], tab: Page, address: str) -> None:
    """A page is found by its name in any case, also the first page."""
    tab.goto(f"{running[0].url}/{address}")
    expect(tab.locator("h1")).to_have_text(address.capitalize())
    expect(tab.get_by_role("dialog")).to_have_count(0)


def test_dead_page_comes_back(running: tuple[App, NatsServer], tab: Page) -> None:
    """If Streamlit's script gives up the connection, as after a message that it cannot read, the page
    recovers at the same address."""
    tries, breaks = [0], [False]

    def meet(socket: object) -> None:
        server = socket.connect_to_server()  # type: ignore[attr-defined]
        tries[0] += 1
        if tries[0] == 1:

            def pass_on(message: bytes) -> None:
                socket.send(b"\xff\xff\xff" if breaks[0] else message)  # type: ignore[attr-defined]

            server.on_message(pass_on)

    tab.route_web_socket("**/_stcore/stream", meet)
    tab.goto(f"{running[0].url}/explore?subjects=s.a")
    expect(tab.locator(".lb-word")).to_have_text("Live")
    breaks[0] = True
    tab.get_by_role("tab", name="Messages").click()
    until(lambda: tab.wait_for_timeout(50) or tries[0] > 1, 60)
    expect(tab.locator(".lb-word")).to_have_text("Live")
    assert "subjects=s.a" in tab.url


def test_pausing_moves_nothing(running: tuple[App, NatsServer], tab: Page) -> None:
    """Pausing does not move what is below the status line."""
    news = News(tab)
    tab.goto(f"{running[0].url}/explore")
    news.wait(2)
    before = place(tab)
    tab.get_by_text("Paused", exact=True).click()
    expect(tab.locator(".lb-word")).to_have_text("Paused")
    assert place(tab)["y"] == before["y"]
