"""SQL in the whole app, for two viewers, against a real nats-server.

Slow, because endless queries run until their limit of time beside other viewers.
"""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from playwright.sync_api import Browser, Dialog, Page, WebSocket, expect

from tests.nats import NatsServer, running_server
from tests.running import app
from tests.waiting import until

ROOT = Path(__file__).parents[2]
PAGE = '''"""Asked."""
from pathlib import Path
from components import alerts, downloads, every, latest_values, line_chart, live, metric, newest_rows, sql

with Path({runs!r}).open("a") as runs:
    runs.write("run\\n")
rows = live("S", "s.{{host}}")
big = sql("SELECT * FROM r WHERE n > 15", r=rows)
metric(sql("SELECT sum(n) AS total FROM b", b=big), "total", title="Total")
per = every("PT1S", rows, by="host", peak="max(n)", count="count(*)")
line_chart(per, "peak", by="host", title="Peak", key="peak")
latest_values(sql("SELECT host, sum(n) AS n FROM r GROUP BY ALL", r=rows), "n", by="host")
newest_rows(big, 5)
alerts(per, "peak", {{"hot": 50}}, by="host")
downloads(big, "big")
'''
LATER = '''"""Later."""
from components import live, newest_rows, sql

rows = live("S")
newest_rows(sql("SELECT CASE WHEN n = 99 THEN error('ninety-nine') ELSE n END AS m FROM r", r=rows))
'''
ENDLESS = '''"""Endless."""
from components import live, newest_rows, sql

rows = live("S")
newest_rows(sql(
    "SELECT count(*) AS n FROM r, range(10000000) a, range(10000000) b WHERE a.range + b.range = r.n", r=rows
))
'''
TYPED = {
    "stream": "S",
    "show": "SQL",
    "sql": "SELECT count(*) AS n FROM rows, range(10000000) a, range(10000000) b WHERE a.range + b.range = n",
}
LINE = '''"""Line."""
from components import line_chart, live

line_chart(live("S"), "n", by="_subject")
'''
TABLES = '''"""Tables."""
from components import line_chart, live

rows = live("S", "s.{{host}}")
line_chart(rows["n"].rolling("10s").mean(), title="Rolling")
line_chart(rows.frame(["n", "host"]), "n", by="host", title="By host")
line_chart(rows.frame(["n"])[:0], "n", title="None")
'''
WRONG = '''"""Wrong."""
from components import live, newest_rows, sql

rows = live("S")
newest_rows(sql("SELECT m FROM r", r=rows))
'''


class Two:
    """Two viewers of the page."""

    def __init__(self, server: NatsServer, tabs: list[Page], runs: Path, pages: Path) -> None:
        self.server = server
        self.tabs = tabs
        self.pages = pages
        self._runs = runs

    def say(self, subject: str, *numbers: float) -> None:
        """Publish numbers."""
        self.server.publish(subject, *(json.dumps({"n": n}).encode() for n in numbers))

    @property
    def runs(self) -> int:
        """How often the page's code has run."""
        return len(self._runs.read_text().splitlines())


def total(tab: Page) -> str:
    """The number of the metric."""
    return tab.locator(".lb-metric", has_text="Total").locator(".lb-metric-number").inner_text()


def sums(tab: Page) -> dict[str, str]:
    """The table of sums per host."""
    cells = tab.locator(".lb-latest_values tbody tr td").all_inner_texts()
    return dict(zip(cells[0::2], cells[1::2], strict=True))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@contextmanager
def opened(server: NatsServer, folder: Path, browser: Browser, *, blocked: bool = False) -> Iterator[Two]:
    """Open the page for two viewers, on a stream S with a few numbers. `blocked`: the tab's own websocket is
    closed at once."""
    server.run(lambda nc: nc.jetstream().add_stream(name="S", subjects=["s.>"]))
    runs, pages, bad = folder / "runs", folder / "pages", []

    def refuse(dialog: Dialog) -> None:
        bad.append(dialog.message)
        dialog.dismiss()

    pages.mkdir()
    (pages / "overview.py").write_text(PAGE.format(runs=str(runs)))
    contexts = [browser.new_context(viewport={"width": 1200, "height": 1800}) for _ in range(2)]
    try:
        with app(folder, NATS_URL=server.url, LOOKBACK_PAGES=str(pages)) as running:
            tabs = [context.new_page() for context in contexts]
            two = Two(server, tabs, runs, pages)
            two.say("s.a", 10, 20)
            two.say("s.b", 30)
            for tab in tabs:
                tab.on("pageerror", lambda error: bad.append(str(error)))
                tab.on("dialog", refuse)
                if blocked:
                    tab.route_web_socket("**/lookback/push", lambda socket: socket.close())
                tab.goto(running.url)
            for tab in tabs:
                expect(tab.locator(".lb-newest_rows tbody tr").first).to_be_attached()
            yield two
            for tab in tabs:
                tab.goto("about:blank")
        assert not bad
    finally:
        for context in contexts:
            context.close()
        server.run(lambda nc: nc.jetstream().delete_stream("S"))


def test_results_move_without_a_run(server: NatsServer, tmp_path: Path, browser: Browser) -> None:
    """Each published message reaches every element that draws a result, for both viewers and also for a
    result of a result, while the page's code does not run again."""
    with opened(server, tmp_path, browser) as two:
        for tab in two.tabs:
            until(lambda: total(tab) == "50")
            until(lambda: sums(tab) == {"a": "30", "b": "30"})
            expect(tab.locator(".js-plotly-plot").first).to_be_visible()
            assert tab.locator("iframe[title*=autorefresh]").count() == 0
        runs = two.runs
        two.say("s.a", 100, 5)
        for tab in two.tabs:
            until(lambda: total(tab) == "150")
            until(lambda: sums(tab) == {"a": "135", "b": "30"})
            expect(tab.locator(".lb-newest_rows tbody tr")).to_have_count(3)
            expect(tab.locator(".lb-alerts")).to_contain_text("hot")
        assert two.runs == runs
        link = two.tabs[0].locator(".lb-downloads a", has_text="CSV")
        with two.tabs[0].expect_download() as download:
            link.click()
        lines = Path(download.value.path()).read_text().splitlines()
        assert lines[0] == "_time,_subject,_seq,host,n"
        assert len(lines) == 4


def test_a_mistake_is_said_and_ends_with_it(server: NatsServer, tmp_path: Path, browser: Browser) -> None:
    """Invalid SQL is reported with its position and the nearest column; the page works once the column
    exists."""
    with opened(server, tmp_path, browser) as two:
        (two.pages / "overview.py").write_text(WRONG)
        for tab in two.tabs:
            says = re.compile(r"Line 1, column 8: There is no column 'm'\. .*'n'")
            expect(tab.get_by_text(says)).to_be_visible(timeout=30_000)
        two.server.publish("s.c", b'{"m": 1}')
        for tab in two.tabs:
            expect(tab.locator(".lb-newest_rows tbody tr").first).to_be_attached(timeout=30_000)
            expect(tab.get_by_text("There is no column")).to_have_count(0)


def test_a_result_that_fails_later_says_so(server: NatsServer, tmp_path: Path, browser: Browser) -> None:
    """If a result fails after it was drawn, the page says why, without a refresh timer."""
    with opened(server, tmp_path, browser) as two:
        (two.pages / "overview.py").write_text(LATER)
        for tab in two.tabs:
            expect(tab.locator(".lb-newest_rows th", has_text="m")).to_be_attached(timeout=30_000)
        two.say("s.a", 99)
        for tab in two.tabs:
            expect(tab.get_by_text("ninety-nine")).to_be_visible(timeout=30_000)


def test_a_table_is_drawn_like_rows(server: NatsServer, tmp_path: Path, browser: Browser) -> None:
    """line_chart() draws a Series and a DataFrame that the page has computed, and is updated with them."""
    with opened(server, tmp_path, browser) as two:
        (two.pages / "overview.py").write_text(TABLES.format())

        def series(tab: Page, chart: int) -> list[str]:
            traces: list[str] = tab.evaluate(
                "chart => [...document.querySelectorAll('.js-plotly-plot')][chart]?.data"
                ".filter(trace => trace.x?.length).map(trace => trace.name) ?? []",
                chart,
            )
            return traces

        for tab in two.tabs:
            expect(tab.get_by_text("This table has no rows yet.")).to_be_visible(timeout=30_000)
            until(lambda: set(series(tab, 1)) >= {"a", "b"})
        two.say("s.new", 7)
        for tab in two.tabs:
            until(lambda: "new" in series(tab, 1))


@pytest.mark.parametrize("address", ["endless", f"explore?{urlencode(TYPED)}"], ids=["page", "typed"])
def test_an_endless_query_slows_nobody_else(
    server: NatsServer, tmp_path: Path, browser: Browser, address: str
) -> None:
    """While one viewer's endless join runs, on a page or typed in Explore, the p95 time between frames of
    another viewer's chart is at most twice its value at rest. The join is ended with a sentence."""
    with opened(server, tmp_path, browser) as two:
        frames: list[float] = []

        def connected(socket: WebSocket) -> None:
            if "push" in socket.url:
                socket.on("framereceived", lambda _: frames.append(time.monotonic()))

        watcher, asker = two.tabs
        watcher.on("websocket", connected)
        (two.pages / "line.py").write_text(LINE)
        (two.pages / "endless.py").write_text(ENDLESS)
        (two.pages / "explore.py").write_text((ROOT / "pages" / "explore.py").read_text())
        base = watcher.url.rstrip("/")
        watcher.goto(f"{base}/line")
        expect(watcher.locator(".js-plotly-plot").first).to_be_visible(timeout=30_000)

        def p95(asking: bool) -> float:
            if asking:
                asker.goto(f"{base}/{address}")
                asker.wait_for_timeout(1000)
            frames.clear()
            end = time.monotonic() + 6
            while time.monotonic() < end:
                two.say("s.a", 1)
                watcher.wait_for_timeout(20)
            return float(np.percentile(np.diff(frames), 95))

        at_rest = p95(False)
        during = p95(True)
        expect(asker.get_by_text(re.compile("took more than (10 s of processor time|60 s)"))).to_be_visible(
            timeout=120_000
        )
        assert during <= 2 * at_rest


def test_without_the_websocket(server: NatsServer, tmp_path: Path, browser: Browser) -> None:
    """If the tab's own websocket is blocked, results arrive with the page's elements."""
    with opened(server, tmp_path, browser, blocked=True) as two:
        for tab in two.tabs:
            until(lambda: total(tab) == "50")
        two.say("s.a", 100)
        for tab in two.tabs:
            until(lambda: total(tab) == "150")
