"""A second viewer of each page that a test opens in a browser: what one viewer does must not stop the
other."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page

from tests import running
from tests.crowd import Reader
from tests.running import App
from tests.waiting import until

EVERY = 1.0  # seconds between two refreshes
NOT_PAGES = ("lookback/", "auth/", "_stcore/", "app/", "media/", "component/")


class SecondViewer:
    """A separate session on one page, without a browser, refreshed until the end."""

    def __init__(self, app: App, page: str, query: str) -> None:
        self.app = app
        self.address = (page, query)
        self.answers = 0
        """Refreshes that returned a status line."""
        self.fault: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._due = asyncio.Event()  # set to refresh at once
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Wait for another refresh. Raises AssertionError if there is none."""
        before = self.answers
        self._tell()
        until(lambda: self.fault or self.answers > before)
        assert self.fault is None, f"a second viewer of {self.address} was stopped: {self.fault!r}"

    def end(self) -> None:
        """End the session."""
        self._ended = True
        self._tell()
        self._thread.join(20)

    def _tell(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is already closed
            self._loop.call_soon_threadsafe(self._due.set)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._watch())
        except Exception as error:
            self.fault = error
        finally:
            self._loop.close()

    async def _watch(self) -> None:
        page, query = self.address
        reader = Reader(self.app.url, page, query=query, needs_clock=False)
        try:
            await reader.open()
            while not self._ended:
                self._due.clear()
                await reader.refresh()
                self.answers += bool(reader.status)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._due.wait(), EVERY)
        finally:
            await reader.close()


class SecondViewers:
    """A second viewer for each app, on the page that a browser opened last."""

    def __init__(self) -> None:
        self._viewers: dict[int, SecondViewer] = {}

    def follow(self, address: str) -> None:
        """Move the second viewer to a page that a browser has opened."""
        for app in running.apps:
            parts = urlsplit(address)
            path = address.split("?")[0].split("#")[0].removeprefix(app.url)
            if not address.startswith(app.url) or path.startswith(NOT_PAGES):
                continue
            page, before = path.strip("/"), self._viewers.get(id(app))
            if before and before.address == (page, parts.query) and before.fault is None:
                return
            if before:
                before.end()
            self._viewers[id(app)] = SecondViewer(app, page, parts.query)

    def check(self, app: App) -> None:
        """Check that this app's second viewer is still refreshed, and end it."""
        viewer = self._viewers.pop(id(app), None)
        if viewer is None:
            return
        try:
            if app.process.poll() is None:
                viewer.check()
        finally:
            viewer.end()

    def end(self) -> None:
        """End all second viewers."""
        for viewer in self._viewers.values():
            viewer.end()


@contextlib.contextmanager
def second_viewers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within the block, each page that a browser opens has a second viewer. It must still be refreshed at the
    end of the block, or at the end of the app."""
    found = SecondViewers()
    go = Page.goto

    def goto(tab: Page, url: str, **options: object) -> object:
        answer = go(tab, url, **options)  # type: ignore[arg-type]
        found.follow(url)
        return answer

    monkeypatch.setattr(Page, "goto", goto)
    running.before_end.append(found.check)
    try:
        yield
        for app in list(running.apps):
            found.check(app)
    finally:
        running.before_end.remove(found.check)
        found.end()
