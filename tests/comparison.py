"""The page Comparison in a browser, for tests."""

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import BrowserContext, Frame, Page, Response, expect

from tests.waiting import until

SLOW = "?rate=2&series=1"
"""The query for tests that are not about drawing, which costs the most."""
SIZE: Any = {"width": 1280, "height": 800}
PATIENCE = 90.0  # seconds: three pages load at once
UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}
NEWEST = "el => Math.max(...el.data.flatMap(trace => Array.from(trace.x, x => Date.parse(x + 'Z'))))"


class Comparison:
    """The page, and its two halves."""

    def __init__(
        self,
        context: BrowserContext,
        url: str,
        query: str = "",
        note: Callable[[Response], None] | None = None,
    ) -> None:
        self.page: Page = context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "console",
            lambda m: self.errors.append(m.text) if m.type == "error" else None,
        )
        if note:
            self.page.on("response", note)
        self.page.goto(f"{url}/comparison{query}")
        until(lambda: self._frame("chart=") and self._frame("/lookback/comparison/"), PATIENCE)

    def _frame(self, part: str) -> Frame | None:
        self.page.wait_for_timeout(50)  # lets Playwright process events of the browser
        return next((frame for frame in self.page.frames if part in frame.url), None)

    @property
    def ours(self) -> Frame:
        """The left half."""
        frame = self._frame("chart=")
        assert frame is not None
        return frame

    @property
    def theirs(self) -> Frame:
        """The right half."""
        frame = self._frame("/lookback/comparison/")
        assert frame is not None
        return frame

    def of_chart(self, frame: Frame, what: str) -> Any:
        """The value of JavaScript evaluated on a chart; None while there is no chart."""
        chart = frame.locator(".js-plotly-plot").first
        try:
            return chart.evaluate(what, timeout=10_000)
        except Exception:  # the chart is being redrawn, or was never drawn
            return None

    def wait_until_live(self) -> None:
        """Wait until both halves draw live data."""
        expect(self.theirs.locator("#status")).to_contain_text("Live", timeout=1000 * PATIENCE)
        for frame in (self.ours, self.theirs):
            until(lambda: (self.of_chart(frame, NEWEST) or 0) > 0, PATIENCE)

    def figures(self, row: str) -> tuple[float, float]:
        """Bytes in that row of the table, for both sides; nan for a side without a number."""
        found = self.page.locator(".lb-compared tr", has_text=row).first.locator("td").all_inner_texts()
        numbers = [re.match(r"([\d.]+) (B|kB|MB|GB)", text) for text in found]
        left, right = [float(n[1]) * UNITS[n[2]] if n else float("nan") for n in numbers]
        return left, right


def newest_advances(comparison: Comparison, frame: Frame) -> None:
    """Wait for points newer than the present ones."""
    before = comparison.of_chart(frame, NEWEST) or 0
    until(lambda: (comparison.of_chart(frame, NEWEST) or 0) > before, PATIENCE)


def token_of(context: BrowserContext) -> dict[str, Any]:
    """The cookie with the token."""
    (cookie,) = [cookie for cookie in context.cookies() if cookie["name"] == "nats_jwt"]
    return dict(cookie)
