"""SQL that two viewers of Explore write, against a real nats-server.

Slow, because it draws pages in a browser.
"""

import json
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser import fresh_tab
from tests.nats import running_server
from tests.running import app

OPEN = {"stream": "S", "show": "SQL"}


def test_sql_is_written_run_and_shared(browser: Browser, tmp_path: Path) -> None:
    """A name is completed from the columns, a mistake is shown at its place with the nearest name, the result
    is live, and a link shows another viewer the same. Each viewer has SQL of their own; markup is text."""
    with running_server(tmp_path / "nats") as server, app(tmp_path, NATS_URL=server.url) as running:
        server.add_stream("S", ["s.>"])
        server.publish("s.a", *(json.dumps({"percent": n, "kind": "<b>x</b>"}).encode() for n in range(5)))
        with fresh_tab(browser) as tab, fresh_tab(browser) as other:
            for each in (tab, other):
                each.goto(f"{running.url}/explore?{urlencode(OPEN)}")
                expect(rows(each).first).to_be_visible(timeout=60_000)

            box(tab).fill("SELECT max(perc")
            box(tab).press("Tab")
            box(tab).press_sequentially(") AS most FROM rows")
            expect(box(tab)).to_have_value("SELECT max(percent) AS most FROM rows")
            box(tab).press("Control+Enter")
            expect(rows(tab).first).to_contain_text("4", timeout=60_000)
            server.publish("s.a", json.dumps({"percent": 77}).encode())
            expect(rows(tab).first).to_contain_text("77", timeout=60_000)
            expect(rows(other).first).to_contain_text("s.a")  # it goes on with its own

            with fresh_tab(browser) as third:
                third.goto(str(tab.evaluate("location.href")))
                expect(box(third)).to_have_value("SELECT max(percent) AS most FROM rows", timeout=60_000)
                expect(rows(third).first).to_contain_text("77", timeout=60_000)

            box(other).fill("SELECT percnt, '<i>y</i>' AS y\nFROM rows")
            other.locator(".lb-sql .lb-run").click()
            mistake = other.locator(".lb-mistake")
            expect(mistake).to_contain_text("Did you mean 'percent'?", timeout=60_000)
            expect(mistake.locator("pre")).to_have_text("SELECT percnt, '<i>y</i>' AS y\n       ^")


def box(tab: Page) -> Locator:
    """Where SQL is written."""
    return tab.locator(".lb-sql textarea")


def rows(tab: Page) -> Locator:
    """The rows of the result."""
    return tab.locator(".lb-newest_rows tbody tr")
