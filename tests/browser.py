"""A real Chromium for tests and screenshots. `python -m tests.browser` installs one if there is none."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Frame, Page, sync_playwright
from playwright.sync_api import TimeoutError as NotYet

from .waiting import until

SHELL = "chromium-headless-shell"
"""The same engine without a window's parts: a fifth to a quarter less CPU. It never hides a tab."""
NAMES = (
    SHELL,
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
LEFT_OUT = (
    # Parts of Chromium's window. Each context would load them beside the page, at a third of its cost.
    "WebUIOmniboxPopup",
    "WebUIOmniboxAimPopup",
    "WebUIOmniboxFullPopup",
    "PreloadTopChromeWebUI",
    # From Playwright's own list, which this one replaces: features that affect loading or reach the network
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "HttpsUpgrades",
    "HttpsFirstBalancedModeAutoEnable",
    "MediaRouter",
    "PaintHolding",
    "ThirdPartyStoragePartitioning",
    "AvoidCorsURLLoaderRestartOnRedirect",
    "OptimizationHints",
    "NetworkTimeServiceQuerying",
    "AimEnabled",
    "PreconnectToSearch",
)
ARGUMENTS = [
    "--no-sandbox",  # as root in a container, Chromium starts only this way; the pages are our own
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    f"--disable-features={','.join(LEFT_OUT)}",
]


def find(*, whole: bool = False) -> str | None:
    """The path of a Chromium: CHROMIUM, one on PATH, or Playwright's own; None if there is none. With
    `whole`, a Chromium with windows."""
    if chosen := os.environ.get("CHROMIUM"):
        return chosen
    for name in NAMES:
        if not (whole and name == SHELL) and (path := shutil.which(name)):
            return path
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() else None


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium, closed at the end."""
    path = find()
    if path is None:
        raise RuntimeError(
            "No Chromium found. `python -m tests.browser` installs one, or set CHROMIUM to its path."
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Contexts:
    """Contexts of one browser, used one after another. A new context must fetch and compile the app, which
    costs more than everything else in opening a page. A returned context keeps only that."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._idle: list[tuple[dict[str, Any], BrowserContext]] = []
        self._used: dict[BrowserContext, tuple[dict[str, Any], set[str]]] = {}
        self._errors: dict[BrowserContext, list[str]] = {}

    def take(self, **options: Any) -> BrowserContext:
        """A context without tabs, cookies and stored data. Do not add scripts or listeners to it: add them to
        a tab."""
        found = next((each for each in self._idle if each[0] == options), None)
        if found:
            self._idle.remove(found)
            context = found[1]
        else:
            context = self._browser.new_context(**options)
            context.on("page", lambda tab: self._follow(context, tab))
            errors = self._errors[context] = []
            context.on("weberror", lambda said: errors.append(said.error.stack or str(said.error)))
        self._used[context] = options, set()
        return context

    def give_back(self, context: BrowserContext) -> None:
        """Return a context: close its tabs, and remove all data that they have stored. Raises AssertionError
        if a script of ours threw an error that nothing caught."""
        options, origins = self._used.pop(context)
        tab = context.new_page()
        for other in context.pages:
            if other != tab:
                other.close()
        context.unroute_all()
        context.clear_permissions()
        context.clear_cookies()
        session = context.new_cdp_session(tab)
        for origin in origins:
            session.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})
        tab.close()
        self._idle.append((options, context))
        ours = [error for error in self._errors[context] if "/lookback/" in error]
        self._errors[context].clear()
        assert not ours, ours

    def _follow(self, context: BrowserContext, tab: Page) -> None:
        def note(frame: Frame) -> None:
            parts = urlsplit(frame.url)
            if context in self._used and parts.netloc:
                self._used[context][1].add(f"{parts.scheme}://{parts.netloc}")

        tab.on("framenavigated", note)


_contexts: WeakKeyDictionary[Browser, Contexts] = WeakKeyDictionary()


def contexts(browser: Browser) -> Contexts:
    """The contexts of this browser."""
    return _contexts.setdefault(browser, Contexts(browser))


@contextmanager
def fresh_context(browser: Browser, **options: Any) -> Iterator[BrowserContext]:
    """A context without tabs, cookies and stored data, see `Contexts`."""
    context = contexts(browser).take(**options)
    try:
        yield context
    finally:
        contexts(browser).give_back(context)


@contextmanager
def fresh_tab(browser: Browser, **options: Any) -> Iterator[Page]:
    """The first tab of a fresh context, see `Contexts`."""
    with fresh_context(browser, **options) as context:
        yield context.new_page()


@contextmanager
def faultless_tab(context: BrowserContext) -> Iterator[Page]:
    """A tab, closed at the end. Raises AssertionError if a script failed or the console has an error."""
    errors: list[str] = []

    def said(message: ConsoleMessage) -> None:
        # for a deep link, Streamlit first looks for its own API below the page's URL
        if message.type == "error" and "/_stcore/" not in message.location["url"]:
            errors.append(f"{message.text} ({message.location['url']})")

    tab = context.new_page()
    tab.on("console", said)
    tab.on("pageerror", lambda error: errors.append(error.stack or str(error)))
    yield tab
    tab.close()
    assert not errors, errors


def pick(tab: Page, label: str, option: str) -> None:
    """Choose from a list, as a viewer does. A redraw of the page closes an open list, so the list is opened
    again until the choice is made."""

    def picked() -> bool:
        tab.get_by_role("combobox", name=label).click()
        with suppress(NotYet):
            tab.get_by_role("option", name=option, exact=True).click(timeout=5000)
            return True
        return False

    until(picked, 60)


if __name__ == "__main__":
    if (
        find() is None
        and subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"]).returncode
    ):
        sys.exit("There is no Chromium, and none could be installed. Set CHROMIUM to the path of one.")
