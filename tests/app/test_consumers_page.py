"""The Consumers page in a real browser: two viewers, live updates, and how many requests they cost the
server.

Slow, because a thousand consumers are created, and rates need some seconds.
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from streamlit.testing.v1 import AppTest

from tests.browser import fresh_tab
from tests.jetstream import api, publish, stream, work, worker
from tests.nats import NatsServer, connected, numbered, running_server
from tests.nats_client.test_consumers import many
from tests.running import ROOT, App, app
from tests.waiting import until

USERS = """authorization { users: [
  { user: admin, password: x },
  { user: me, password: x, permissions: { publish: { deny: "$JS.API.CONSUMER.LIST.SECRET" } } } ] }"""
HOSTILE = "<img src=x onerror=document.title='bad'> [a](http://127.0.0.1:9/)"
ROWS = ".lb-server_list >> nth=0 >> tbody tr"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server with consumers, some of which the app's login may not list."""
    with running_server(tmp_path_factory.mktemp("nats"), USERS) as server:
        server.url = server.url.replace("//", "//admin:x@")
        stream(server, "ORDERS", "orders.>", max_msgs=100)
        stream(server, "SECRET", "secret.>")
        worker(server, "ORDERS", "fast")
        worker(server, "ORDERS", "<i_[x](y)", description=HOSTILE, filter_subject="orders.slow")
        worker(server, "SECRET", "hidden-7d31c9")
        yield server


@pytest.fixture(scope="module")
def running(server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with its own pages."""
    url = server.url.replace("admin", "me")
    with app(tmp_path_factory.mktemp("app"), NATS_URL=url) as running:
        yield running


class Requests:
    """The times of the server's requests for the list of the consumers of ORDERS."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def since(self, when: float) -> int:
        """How many requests arrived after `when`, which is in seconds of time.monotonic()."""
        return sum(each > when for each in self.at)


@contextmanager
def requests(server: NatsServer) -> Iterator[Requests]:
    """Record the requests for lists within the block."""
    found, listens = Requests(), threading.Event()
    ending: list[Callable[[], object]] = []

    async def listen(nc: Any) -> None:
        async def note(_: Any) -> None:
            found.at.append(time.monotonic())

        await nc.subscribe("$JS.API.CONSUMER.LIST.ORDERS", cb=note)
        await nc.flush()
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        ending.append(lambda: loop.call_soon_threadsafe(ended.set))
        listens.set()
        await ended.wait()

    thread = threading.Thread(target=connected, args=([server.url], listen))
    thread.start()
    try:
        assert listens.wait(30)
        yield found
    finally:
        for end in ending:
            end()
        thread.join()


def cells(tab: Page) -> dict[str, list[str]]:
    """The cells of the list of consumers, by name."""
    rows: list[list[str]] = tab.evaluate(
        "[...document.querySelector('.lb-server_list').querySelectorAll('tbody tr')]"
        ".map((row) => [...row.children].map((cell) => cell.textContent))"
    )
    return {row[1]: row for row in rows}


def opened(tab: Page, running: App, query: str = "") -> Page:
    """Open the page, and wait for its list."""
    tab.goto(f"{running.url}/consumers{query}")
    tab.locator(ROWS).first.wait_for(timeout=60_000)
    return tab


def test_two_viewers(server: NatsServer, running: App, browser: Browser) -> None:
    """Two viewers see each consumer's lag and its course as they change, the largest lag first, with names
    and descriptions as plain text. The page names the stream whose consumers the login may not list. Both
    viewers together cost the server the listings of one, and none after both have left."""
    with requests(server) as asked, fresh_tab(browser) as one, fresh_tab(browser) as two:
        tabs = [opened(tab, running) for tab in (one, two)]
        publish(server, "orders.slow", *numbered(40))
        for tab in tabs:
            until(lambda: cells(tab)["fast"][2] == cells(tab)["<i_[x](y)"][2] == "40")
        work(server, "ORDERS", 30, "fast")
        for tab in tabs:
            until(lambda: list(cells(tab)) == ["<i_[x](y)", "fast"] and cells(tab)["fast"][2] == "10")
            fast, slow = cells(tab)["fast"], cells(tab)["<i_[x](y)"]
            assert fast[6:9] == ["10", "0 of 1,000", "0"]
            assert (slow[5], slow[11], slow[12], slow[15]) == (
                "nobody pulls",
                "durable pull",
                "orders.slow",
                HOSTILE,
            )
            until(lambda: "L" in str(tab.locator(f"{ROWS} >> nth=0 >> path").get_attribute("d")))
            expect(tab.locator(".lb-trouble").first).to_contain_text(
                "The consumers of 'SECRET' cannot be listed. The login is not permitted"
            )
            expect(tab.locator(".lb-trouble").first).to_contain_text("'$JS.API.CONSUMER.LIST.SECRET'")
            expect(tab.locator(".lb-server_list").nth(1)).to_contain_text("40 %")
            assert "hidden-7d31c9" not in tab.content()
            assert tab.locator("iframe[title*=autorefresh]").count() == 0
            assert tab.title() != "bad"
        began, count = time.monotonic(), len(asked.at)
        until(lambda: len(asked.at) >= count + 4, 60)
        # There would be twice as many if each viewer caused their own listings.
        assert len(asked.at) - count <= (time.monotonic() - began) / 2 + 2
        for tab in tabs:
            tab.goto("about:blank")
        left = time.monotonic()
        time.sleep(3)  # until the app notices
        before = len(asked.at)
        assert asked.since(left) <= 3
        time.sleep(6)
        assert len(asked.at) == before


def test_a_thousand_and_the_search(server: NatsServer, running: App, browser: Browser) -> None:
    """Of a thousand consumers, the page draws the 200 with the largest lag. The search finds any of the rest,
    and a link keeps the search."""
    stream(server, "MANY", "many.>")
    many(server, "MANY", 1000)
    try:
        with fresh_tab(browser) as tab:
            opened(tab, running)
            note = tab.locator(".lb-note").first
            expect(note).to_contain_text("The 200 furthest behind of 1,002 consumers.", timeout=60_000)
            assert tab.locator(ROWS).count() == 200
            tab.get_by_placeholder("Part of the name").fill("C999")
            tab.get_by_placeholder("Part of the name").press("Enter")
            expect(note).to_contain_text("1 consumer.", timeout=60_000)
            assert list(cells(tab)) == ["c999"]
            with fresh_tab(browser) as other:
                opened(other, running, tab.url.partition("consumers")[2])
                until(lambda: list(cells(other)) == ["c999"])
    finally:
        api(server, "STREAM.DELETE.MANY")


def test_without_the_websocket(server: NatsServer, open_page: Callable[..., AppTest]) -> None:
    """Without the tab's own websocket, the list is part of the page's elements."""
    page = open_page(ROOT / "pages" / "consumers.py", blocked=True)

    def listed() -> bool:
        page.session_state["_blocked"] = True
        parsed = [json.loads(each.proto.json or "{}") for each in page.run().get("bidi_component")]
        found = [each["content"] for each in parsed if isinstance(each, dict) and "content" in each]
        return any("=ORDERS\nfast" in content for content in found)

    until(listed)
    assert not page.exception


def test_without_a_server(server: NatsServer, running: App, browser: Browser) -> None:
    """Without a server, the last list stays, with the time that it is from. Once the server is back, the list
    is updated again."""
    with fresh_tab(browser) as tab:
        opened(tab, running)
        server.kill()
        expect(tab.locator(".lb-note").first).to_contain_text("As of ", timeout=90_000)
        assert "fast" in cells(tab)
        server.start()
        worker(server, "ORDERS", "newcomer")
        until(lambda: "newcomer" in cells(tab), 60)
        expect(tab.locator(".lb-note").first).not_to_contain_text("As of ")
