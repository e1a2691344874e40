"""The tab's own websocket in a real Chromium: after any fault, the chart has the same content as a new
tab's.

Slow, because faults happen to many frames by chance, and dead connections are noticed after seconds.
"""

import random
import re
import time
from pathlib import Path

from playwright.sync_api import BrowserContext, Page, WebSocketRoute

from tests.chart_app import CELLS, chart_app, lookback, opened
from tests.waiting import until

ROUTE = re.compile(r"/lookback/push$")
STEP = "chart.step"


class Faults:
    """A proxy for the websockets of a tab that causes faults."""

    def __init__(self, tab: Page, *, seed: int = 0) -> None:
        self.kinds: list[str] = []
        """The faults, of which each frame from the app gets one at random; "mute" stops both directions."""
        self.opened = 0
        self.happened: dict[str, int] = {}
        self.refuses = False
        self._random = random.Random(seed)
        self._held: list[str | bytes] = []
        tab.route_web_socket(ROUTE, self._route)

    def _route(self, browser: WebSocketRoute) -> None:
        self.opened += 1
        if self.refuses:
            browser.close(code=1011)
            return
        app = browser.connect_to_server()
        browser.on_message(lambda said: self._up(app, said))
        app.on_message(lambda said: self._down(browser, said))

    def _up(self, app: WebSocketRoute, said: str | bytes) -> None:
        if "mute" not in self.kinds:
            app.send(said)

    def _down(self, browser: WebSocketRoute, said: str | bytes) -> None:
        kind = self._random.choice(self.kinds or ["none"])
        self.happened[kind] = self.happened.get(kind, 0) + 1
        if kind in ("lose", "mute"):
            return
        if kind == "delay":
            self._held.append(said)
            return
        if kind == "cut":
            browser.close(code=1001)
            return
        browser.send(said)
        if kind == "repeat":
            browser.send(said)
        while self._held:
            browser.send(self._held.pop(0))


def frames(tab: Page, count: int, seconds: float = 30) -> None:
    """Wait for about `count` further frames, by the chart's time."""
    before = lookback(tab, "chart.now")
    until(lambda: lookback(tab, f"chart.frame !== null && chart.shownAt > {before} + {count * 200}"), seconds)


def assert_same(tabs: list[Page]) -> None:
    """All tabs hold the same cells, except for the oldest second and for cells newer than the earliest
    read."""
    newest = "Math.max(...chart.series.flatMap(series => [...series.cells.keys()]))"
    asked = f"[{CELLS}, Math.ceil((chart.now - chart.config.window) / {STEP}), {newest}]"
    held = [lookback(tab, asked) for tab in tabs]
    second = int(1000 / lookback(tabs[0], STEP))
    start = max(start for _, start, _ in held) + second
    end = min(end for *_, end in held)
    assert end - start > 300
    (first, *_), *others = held
    for cells, *_ in others:
        assert cells.keys() == first.keys()
        for name in first:
            within = [
                {cell: values for cell, values in each[name].items() if start <= int(cell) < end}
                for each in (first, cells)
            ]
            assert within[0] == within[1]
            assert len(within[0]) > 100


def test_faults_heal(url: str, context: BrowserContext) -> None:
    """After lost, late, repeated and reordered frames and cut connections, the tab has the same content as a
    fresh tab, and so does a second viewer's tab."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    tab, other = context.new_page(), context.new_page()
    faults = Faults(tab, seed=seed)
    opened(other, url)
    opened(tab, url)
    faults.kinds = ["lose", "delay", "repeat", "none", "none", "none", "none"]
    until(lambda: frames(tab, 5, 60) or sum(faults.happened.values()) > 150, 90)
    faults.kinds = ["cut", *["none"] * 19]
    until(lambda: frames(tab, 2, 60) or faults.happened.get("cut", 0) >= 2, 90)
    faults.kinds = []
    assert {"lose", "delay", "repeat", "cut"} <= faults.happened.keys()
    frames(tab, 10)
    fresh = context.new_page()
    opened(fresh, url)
    frames(fresh, 5)
    assert_same([fresh, tab, other])


def test_a_socket_that_dies_without_a_word(url: str, context: BrowserContext) -> None:
    """A connection over which nothing arrives any more is replaced by a new one."""
    tab = context.new_page()
    faults = Faults(tab)
    opened(tab, url)
    before = faults.opened
    faults.kinds = ["mute"]
    until(lambda: tab.evaluate("true") and faults.opened > before, 40)
    faults.kinds = []
    frames(tab, 5)
    fresh = context.new_page()
    opened(fresh, url)
    assert_same([fresh, tab])


def test_a_stopped_script_is_caught_up_with(url: str, context: BrowserContext) -> None:
    """A browser whose script is suspended, as on a sleeping laptop, then gets the newest state, not each
    frame in between."""
    tab = context.new_page()
    opened(tab, url)
    frames(tab, 5)
    before = int(lookback(tab, "chart.frame"))
    tab.evaluate("() => { const end = Date.now() + 15000; while (Date.now() < end); }")
    frames(tab, 5)
    assert int(lookback(tab, "chart.frame")) - before < 60  # 75 were due in the meantime
    fresh = context.new_page()
    opened(fresh, url)
    assert_same([fresh, tab])


def test_other_page_and_back(url: str, context: BrowserContext) -> None:
    """One websocket serves all pages of a tab, and charts that have left the page receive nothing."""
    tab = context.new_page()
    faults = Faults(tab)
    opened(tab, f"{url}/?show=few,many")
    frames(tab, 2)
    tab.get_by_role("link", name="Nothing").click()
    tab.get_by_text("Nothing here").wait_for()
    time.sleep(1)
    counted = dict(faults.happened)
    time.sleep(3)
    assert sum(faults.happened.values()) - sum(counted.values()) <= 2  # keep-alives
    tab.get_by_role("link", name="Charts").click()
    tab.locator(".js-plotly-plot").first.wait_for()
    until(lambda: lookback(tab, "chart.series.length > 0"))
    frames(tab, 3)
    assert faults.opened == 1


def test_the_log_has_no_fault(tmp_path: Path, context: BrowserContext) -> None:
    """Tabs that open and close leave no errors in the app's log."""
    log = tmp_path / "log"
    with chart_app(log) as url:
        for _ in range(3):
            tab = context.new_page()
            opened(tab, url)
            frames(tab, 2)
            tab.close()
    assert "Traceback" not in log.read_text()
    assert "Error" not in log.read_text()
