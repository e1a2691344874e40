"""The clock above every page: a viewer chooses when all pages look, and a link keeps it."""

import json
import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from streamlit.testing.v1 import AppTest

from tests.browser import fresh_tab
from tests.nats import NatsServer, running_server
from tests.running import ROOT, App, app
from tests.status_line import status_html
from tests.waiting import until

Open = Callable[..., AppTest]
PAGE = """
import time
import streamlit as st
from components import alerts, line_chart, live, metric, sql
rows = live("S", "s.*", look_back=f"PT{time.time() - MIDDLE:.1f}S")
if not rows:
    st.stop()
metric(rows, "n", over="PT1S", change="PT1S")
line_chart(rows, "n")
alerts(rows, "n", {"high": "> 7"})
st.text(f"rows {sorted(rows['n'].astype(int))}")
st.text(f"sum {int(sql('SELECT sum(n) AS n FROM rows', rows=rows)['n'].iloc[0])}")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with ten messages, and ten more that came later."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.add_stream("S", ["s.>"])
        server.publish("s.a", *[json.dumps({"n": n}).encode() for n in range(5)])
        time.sleep(3)
        server.middle = time.time()  # type: ignore[attr-defined]
        time.sleep(3)
        server.publish("s.a", *[json.dumps({"n": n}).encode() for n in range(5, 10)])
        yield server


def source(server: NatsServer) -> str:
    """The page; its own look-back holds the later five messages."""
    return PAGE.replace("MIDDLE", str(server.middle))  # type: ignore[attr-defined]


def said(page: AppTest) -> str:
    """The page's texts."""
    return " ".join([each.value for each in page.text] + [each.value for each in page.warning])


def test_all_reads_obey(open_page: Open, server: NatsServer) -> None:
    """The length in the address replaces the look-back of each read of a page; everything that is made of the
    rows has those of that length, and the address of the page's own length has no word of it."""
    page = open_page(source(server))
    assert "rows [5, 6, 7, 8, 9] sum 35" in said(page)
    page = open_page(source(server), last="PT1H")
    assert "rows [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] sum 45" in said(page)
    assert "rows in 1 hour" in status_html(page)
    assert page.query_params["last"] == "PT1H"
    assert not page.exception
    assert not page.error


def test_a_shorter_length_breaks_no_page(open_page: Open, server: NatsServer) -> None:
    """A length that is shorter than what a page's code asks for is no error: a metric shows what the length
    holds, and a comparison has the periods that it needs."""
    page = open_page(source(server), last="PT1S")
    assert not page.error
    page = open_page(ROOT / "pages" / "compare.py", stream="S", last="PT1S")
    assert not page.error
    assert "rows in 2 hours" in status_html(page)


@pytest.mark.parametrize(
    ("last", "kept"),
    [("1h 30m", "PT1H30M"), ("90 minutes", "PT1H30M"), ("last 2 hours", "PT2H"), ("P1D", "P1D")],
)
def test_as_people_write_it(open_page: Open, server: NatsServer, last: str, kept: str) -> None:
    """An address may have a length as people write it; the page's own has ISO 8601."""
    page = open_page(source(server), last=last)
    assert page.query_params["last"] == kept
    assert "sum 45" in said(page)


@pytest.mark.parametrize("last", ["nonsense", "PT0S", "-5m", "400 days", "P1M", "5", "x" * 5000, "<b>1h</b>"])
def test_a_wrong_length(open_page: Open, server: NatsServer, last: str) -> None:
    """What is no length is named in a sentence, and the page looks as far as it says itself."""
    page = open_page(source(server), last=last)
    sentence = said(page)
    assert "sum 35" in sentence
    assert "The page looks as far back as it says itself" in sentence
    assert len(sentence) < 1000
    assert "last" not in page.query_params
    assert not page.exception


@pytest.fixture(scope="module")
def running(server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with that page."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "pages").mkdir()
    (folder / "pages" / "clocked.py").write_text(source(server))
    with app(folder, NATS_URL=server.url, LOOKBACK_PAGES=str(folder / "pages")) as running:
        yield running


def addressed(tab: Page) -> str:
    """The choices in the address that the browser has now."""
    return str(tab.evaluate("decodeURIComponent(location.search)")).removeprefix("?")


def test_choosing(running: App, browser: Browser) -> None:
    """A viewer chooses a length from the list, or types one; the address has it, the next page too, Back
    leaves it, and a colleague who opens the link sees the same."""
    with fresh_tab(browser) as tab:
        tab.goto(f"{running.url}/clocked")
        clock = tab.locator(".st-key-page-clock").get_by_role("button").first
        expect(clock).to_contain_text("Live", timeout=30_000)
        clock.click()
        box = tab.get_by_role("combobox", name="Look back")
        box.click()
        tab.get_by_role("option", name="Last 6 hours").click()
        expect(clock).to_contain_text("Live, last 6 hours")
        until(lambda: addressed(tab) == "last=PT6H")
        expect(tab.get_by_text("sum 45")).to_be_visible()
        box.fill("3 hours")
        box.press("Enter")
        expect(clock).to_contain_text("Live, last 3 hours")
        until(lambda: addressed(tab) == "last=PT3H")
        tab.keyboard.press("Escape")
        tab.get_by_role("link", name="Inside").click()
        expect(tab.locator("h1")).to_have_text("Inside")
        until(lambda: addressed(tab) == "last=PT3H")
        expect(clock).to_contain_text("Live, last 3 hours")
        with fresh_tab(browser) as other:
            other.goto(tab.url)
            expect(other.locator(".st-key-page-clock")).to_contain_text("Live, last 3 hours", timeout=30_000)
        tab.go_back()
        expect(tab.locator("h1")).to_have_text("Clocked")
        until(lambda: addressed(tab) == "last=PT3H")
        clock.click()
        box.fill("soon")
        box.press("Enter")
        expect(tab.get_by_text("The look-back 'soon' is not a duration")).to_be_visible()
        until(lambda: addressed(tab) == "")
