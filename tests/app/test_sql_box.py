"""SQL that two viewers of Explore write, against a real nats-server.

Slow, because it draws pages in a browser.
"""

import contextlib
import json
from pathlib import Path
from urllib.parse import urlencode

import psutil
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser import fresh_tab
from tests.nats import running_server
from tests.running import app
from tests.waiting import until

OPEN = {"stream": "S", "show": "SQL"}
ENDLESS = "SELECT count(*) AS n FROM range(10000000) a, range(10000000) b WHERE a.range + b.range = 3"
DOUBLED = "SELECT list(x) AS n FROM range(1000000000) r(x)"


def test_sql_is_written_run_and_shared(browser: Browser, tmp_path: Path) -> None:
    """A name is completed from the columns, a mistake is shown at its position with the nearest name, the
    result is live, and a link shows another viewer the same. Each viewer has their own SQL; markup in it is
    plain text."""
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
            expect(rows(other).first).to_contain_text("s.a")  # the other viewer keeps their own

            with fresh_tab(browser) as third:
                third.goto(str(tab.evaluate("location.href")))
                expect(box(third)).to_have_value("SELECT max(percent) AS most FROM rows", timeout=60_000)
                expect(rows(third).first).to_contain_text("77", timeout=60_000)

            box(other).fill("SELECT percnt, '<i>y</i>' AS y\nFROM rows")
            other.locator(".lb-sql .lb-run").click()
            mistake = other.locator(".lb-mistake")
            expect(mistake).to_contain_text("Did you mean 'percent'?", timeout=60_000)
            expect(mistake.locator("pre")).to_have_text("SELECT percnt, '<i>y</i>' AS y\n       ^")


def test_typed_sql_is_stopped_and_survives_its_process(browser: Browser, tmp_path: Path) -> None:
    """Endless SQL can be stopped and run again. SQL that needs too much memory is refused in a sentence, and
    the next query is answered. If its process is killed, the viewer sees a sentence and can query again.
    Another viewer's result continues throughout."""
    with running_server(tmp_path / "nats") as server, app(tmp_path, NATS_URL=server.url) as running:
        server.add_stream("S", ["s.>"])
        server.publish("s.a", *(json.dumps({"n": n}).encode() for n in range(5)))
        with fresh_tab(browser) as tab, fresh_tab(browser) as other:
            for each in (tab, other):
                each.goto(f"{running.url}/explore?{urlencode(OPEN)}")
                expect(rows(each).first).to_be_visible(timeout=60_000)

            run(tab, ENDLESS)
            until(lambda: len(queries()) >= 1)
            stop = tab.get_by_role("button", name="Stop")
            stop.click()
            expect(tab.locator(".lb-mistake")).to_contain_text("Stopped.", timeout=60_000)
            expect(stop).to_be_disabled()
            run(tab, ENDLESS)
            expect(stop).to_be_enabled(timeout=60_000)
            until(lambda: any(process.nice() == 19 for process in queries()))
            for process in queries():
                process.kill()
            expect(tab.locator(".lb-mistake")).to_contain_text("ended by somebody else", timeout=60_000)

            run(tab, DOUBLED)
            expect(tab.locator(".lb-mistake")).to_contain_text("512 MiB", timeout=120_000)
            run(tab, "SELECT sum(n) AS total FROM rows")
            expect(rows(tab).first).to_contain_text("10", timeout=60_000)
            server.publish("s.b", b'{"n": 7}')
            expect(rows(tab).first).to_contain_text("17", timeout=60_000)
            expect(rows(other).filter(has_text="s.b").first).to_be_visible(timeout=60_000)


def run(tab: Page, sql: str) -> None:
    """Run SQL in the box."""
    box(tab).fill(sql)
    box(tab).press("Control+Enter")


def queries() -> list[psutil.Process]:
    """The processes that run queries."""
    found, name = list[psutil.Process](), "nats_client.sql.apart_process"
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            parent = process.parent()
            if parent is not None and all(name in each.cmdline() for each in (process, parent)):
                found.append(process)
    return found


def box(tab: Page) -> Locator:
    """The box in which SQL is typed."""
    return tab.locator(".lb-sql textarea")


def rows(tab: Page) -> Locator:
    """The rows of the result."""
    return tab.locator(".lb-newest_rows tbody tr")
