"""A link keeps every choice: the choices of its page, and those of the frame around it.

Slow, because every page is opened in a browser by its own link.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from streamlit.testing.v1 import AppTest

from tests.browser import fresh_tab, pick
from tests.running import App, app
from tests.waiting import until


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with its embedded demo."""
    with app(tmp_path_factory.mktemp("demo")) as running:
        yield running


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """A tab in the browser."""
    with fresh_tab(browser) as page:
        yield page


LINKS: dict[str, tuple[Callable[[Page], None], str, Callable[[Page], None]]] = {}
"""By page: what a viewer does there, the query of the link afterwards, and a check of the page that the link
opens."""


def link(page: str, address: str, opens: Callable[[Page], None]) -> Callable[[Callable[[Page], None]], None]:
    """Register what a viewer does on `page`."""

    def note(does: Callable[[Page], None]) -> None:
        LINKS[page] = does, address, opens

    return note


def same_key(tab: Page) -> None:
    """The search and the switch are as the viewer chose them."""
    expect(tab.get_by_placeholder("Part of a key")).to_have_value("sys")
    expect(tab.get_by_role("switch", name="Deleted keys too")).to_be_checked()


@link("values", "search=sys&deleted=true", same_key)
def search_a_key(tab: Page) -> None:
    """Search for a key, including deleted keys."""
    tab.get_by_placeholder("Part of a key").fill("sys")
    tab.get_by_placeholder("Part of a key").press("Enter")
    tab.get_by_text("Deleted keys too").click()


def same_tab(tab: Page) -> None:
    """The selected tab is the one that the viewer chose."""
    expect(tab.get_by_role("tab", name="Messages")).to_have_attribute("aria-selected", "true")


@link("explore", "show=Messages&payloads=auto", same_tab)
def choose_another_tab(tab: Page) -> None:
    """Choose a tab and a decoder."""
    tab.get_by_role("tab", name="Messages").click()
    expect(tab.locator(".lb-message_list")).to_be_visible(timeout=30_000)  # the page has run with the new tab
    pick(tab, "Payloads", "auto")


def same_steps(tab: Page) -> None:
    """The sliders are where the viewer moved them."""
    expect(tab.get_by_role("slider", name="Messages a second")).to_have_attribute("aria-valuetext", "20")
    expect(tab.get_by_role("slider", name="Series")).to_have_attribute("aria-valuetext", "5")


@link("comparison", "rate=20&series=5", same_steps)
def move_sliders(tab: Page) -> None:
    """Move both sliders by a step."""
    tab.get_by_role("slider", name="Messages a second").press("ArrowRight")
    tab.get_by_role("slider", name="Series").press("ArrowLeft")


def addressed(tab: Page) -> set[str]:
    """The choices in the browser's current address; `tab.url` is only updated by Playwright calls."""
    return set(str(tab.evaluate("location.search")).removeprefix("?").split("&"))


def test_back_leaves_the_refresh(demo: App, tab: Page) -> None:
    """The refresh interval makes no history entry on any page. Back undoes the choice before it, and keeps
    the current interval in the address."""
    tab.goto(f"{demo.url}/explore?stream=METRICS")
    expect(tab.locator(".lb-status")).to_be_visible(timeout=30_000)
    tab.get_by_role("tab", name="Messages").click()
    until(lambda: "show=Messages" in addressed(tab))
    for interval in ("2 s", "Paused", "5 s"):
        tab.get_by_role("radio", name=interval, exact=True).click()
        until(lambda: f"refresh={interval.replace(' ', '+')}" in addressed(tab))
    tab.get_by_role("link", name="Inside").click()
    expect(tab.locator("h1")).to_have_text("Inside")
    until(lambda: addressed(tab) == {"refresh=5+s"})
    tab.get_by_role("radio", name="15 s", exact=True).click()
    until(lambda: addressed(tab) == {"refresh=15+s"})
    tab.go_back()
    expect(tab.locator("h1")).to_have_text("Explore")
    until(lambda: addressed(tab) >= {"refresh=15+s", "show=Messages"})
    expect(tab.get_by_role("radio", name="15 s", exact=True)).to_be_checked()
    tab.go_back()
    until(lambda: "refresh=15+s" in addressed(tab) and "show=Messages" not in addressed(tab))
    expect(tab.get_by_role("tab", name="Messages")).to_have_attribute("aria-selected", "false")
    expect(tab.get_by_role("radio", name="15 s", exact=True)).to_be_checked()
    tab.get_by_role("radio", name="Live", exact=True).click()  # the default
    until(lambda: not any(each.startswith("refresh") for each in addressed(tab)))


@pytest.mark.parametrize("page", LINKS)
def test_links_keep_every_choice(demo: App, browser: Browser, tab: Page, page: str) -> None:
    """The choices on a page and the refresh interval are in its address, and another viewer who opens it sees
    the same. Another page of the menu keeps only the interval."""
    does, address, opens = LINKS[page]
    tab.goto(f"{demo.url}/{page}")
    expect(tab.locator(".lb-status")).to_be_visible(timeout=30_000)
    does(tab)
    interval = tab.get_by_role("radio", name="2 s")
    interval.click()
    expect(interval).to_be_checked()
    chosen = set(address.split("&")) | {"refresh=2+s"}
    until(lambda: addressed(tab) >= chosen)
    tab.wait_for_timeout(3000)
    assert addressed(tab) >= chosen
    with fresh_tab(browser) as other:
        other.goto(tab.url)
        expect(other.locator(".lb-status")).to_be_visible(timeout=30_000)
        opens(other)
        expect(other.get_by_role("radio", name="2 s")).to_be_checked()
        assert addressed(other) >= chosen
    tab.get_by_role("link", name="Inside").click()
    expect(tab.locator("h1")).to_have_text("Inside")
    until(lambda: addressed(tab) == {"refresh=2+s"})
    expect(tab.get_by_role("radio", name="2 s")).to_be_checked()
    tab.go_back()
    expect(tab.locator("h1")).not_to_have_text("Inside")
    opens(tab)
    assert addressed(tab) >= chosen


def test_changes_within_one_task(demo: App, tab: Page) -> None:
    """If a choice of the frame and a choice of the page are made in the same task of the browser, neither is
    lost. This holds for the refresh interval, the clock and the list "What happened"."""
    tab.goto(f"{demo.url}/values")
    expect(tab.locator(".lb-status")).to_be_visible(timeout=30_000)
    tab.get_by_test_id("stPopover").filter(has_text="Live").get_by_role("button").click()
    expect(tab.get_by_role("button", name="Yesterday")).to_be_visible()
    together = """(frame) => {
        const page = [...document.querySelectorAll('[data-testid="stMain"] input[type=checkbox]')].at(-1);
        page.click();
        const all = [...document.querySelectorAll("button, label")];
        all.find((each) => each.textContent.includes(frame)).click();
    }"""
    switch = tab.get_by_role("switch", name="Deleted keys too")
    on = False
    for frame, address in (("Last hour", "last=PT1H"), ("2 s", "refresh=2+s"), ("Paused", "refresh=Paused")):
        tab.evaluate(together, frame)
        on = not on
        until(lambda: address in addressed(tab))
        expect(switch).to_be_checked(checked=on)
        until(lambda: ("deleted=true" in addressed(tab)) == on)
    tab.evaluate(together, "What happened")
    expect(tab.get_by_test_id("stPopoverBody").filter(has_text="Connection")).to_be_visible()


RERUNS = """
import streamlit as st
from components.choices.choose import choose_flag
flag = choose_flag("More")
if st.session_state.pop("interrupted", False):
    st.rerun()
st.text(f"more {flag}")
"""


def test_an_interrupted_run_loses_no_choice(open_page: Callable[..., AppTest]) -> None:
    """A choice is kept if its run ends before the address is written."""
    page = open_page(RERUNS).run()
    page.session_state["interrupted"] = True
    page.toggle[0].set_value(True).run()
    assert page.text[-1].value == "more True"
    assert page.query_params["more"] == "true"


SWAPS = '''"""Swap."""
import streamlit as st
from components import choose_flag


def swap():
    st.session_state["one"], st.session_state["two"] = False, True


choose_flag("One")
choose_flag("Two")
st.button("Swap", on_click=swap)
'''


def test_one_step_back_undoes_one_change(tmp_path: Path, browser: Browser) -> None:
    """If one click adds a parameter to the address and removes another, Back undoes both at once."""
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "swap.py").write_text(SWAPS)
    with app(tmp_path, LOOKBACK_PAGES=str(tmp_path / "pages")) as running, fresh_tab(browser) as tab:
        tab.goto(f"{running.url}/swap?one=true")
        expect(tab.get_by_role("switch", name="One")).to_be_checked(timeout=30_000)
        tab.get_by_role("button", name="Swap").click()
        until(lambda: addressed(tab) == {"two=true"})
        tab.go_back()
        expect(tab.get_by_role("switch", name="One")).to_be_checked()
        expect(tab.get_by_role("switch", name="Two")).not_to_be_checked()
        until(lambda: addressed(tab) == {"one=true"})
