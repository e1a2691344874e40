"""The History page in a real browser, with the real history service and with stand-ins.

Slow, because it draws a page in a browser, while history services start and end.
"""

import asyncio
import io
import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from services.history.database import Message
from tests.archive import history
from tests.browser import fresh_tab
from tests.chunked import Asked, endless, service
from tests.nats import NatsServer, running_server
from tests.node import node
from tests.running import App, app
from tests.waiting import until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server without JetStream."""
    with running_server(tmp_path_factory.mktemp("nats"), "# no jetstream") as server:
        yield server


@pytest.fixture(scope="module")
def running(server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with its built-in pages."""
    with app(tmp_path_factory.mktemp("app"), NATS_URL=server.url) as running:
        yield running


@pytest.fixture
def tab(browser: Browser, running: App) -> Iterator[Page]:
    """A tab with the History page."""
    with fresh_tab(browser) as tab:
        tab.goto(f"{running.url}/history?refresh=1+s")
        expect(button(tab, "Run")).to_be_visible(timeout=30_000)
        yield tab


def button(tab: Page, name: str) -> Locator:
    return tab.get_by_role("button", name=name, exact=True)


def ask(tab: Page, sql: str | None = None) -> None:
    """Type a query, if one is given, and run it."""
    if sql is not None:
        tab.get_by_role("textbox", name="SQL").fill(sql)
    button(tab, "Run").click()


def alert(tab: Page, text: str) -> None:
    expect(tab.locator("[data-testid=stAlert]")).to_contain_text(text, timeout=30_000)


def offered(tab: Page) -> pd.DataFrame:
    """The rows of the CSV download."""
    link = tab.locator(".lb-downloads a").first.get_attribute("href")
    with urllib.request.urlopen(urllib.parse.urljoin(tab.url, link), timeout=30) as file:
        return pd.read_csv(io.BytesIO(file.read()))


def hour() -> list[Message]:
    """The last hour's messages: one each ten seconds, alternating between two subjects."""
    now = datetime.now(UTC).replace(microsecond=0)
    return [
        Message(
            "METRICS",
            now - timedelta(days=1),
            seq,
            now - timedelta(seconds=10 * seq),
            f"metrics.cpu.core-{seq % 2}",
            json.dumps({"percent": seq / 4}).encode(),
        )
        for seq in range(1, 361)
    ]


def test_the_real_service(server: NatsServer, tab: Page, tmp_path: Path) -> None:
    """The page's default query gives a chart and files. A refused query says why. Stop ends a query before
    its first row, and the next query works."""
    with history(server, tmp_path, hour()):
        ask(tab)
        expect(tab.locator(".lb-legend button")).to_have_text(["core-0", "core-1"], timeout=30_000)
        rows = offered(tab)
        assert list(rows) == ["time", "subject", "messages"]
        assert 240 < rows["messages"].sum() <= 360  # the oldest may have left the look-back
        assert pd.to_datetime(rows["time"], format="ISO8601").dt.tz is not None

        ask(tab, "SELECT nothing FROM nowhere")
        alert(tab, "The query failed: Line 1, column 21: There is no table 'nowhere'.")
        expect(tab.locator(".lb-downloads")).to_have_count(0)

        ask(tab, "SELECT count(*) FROM range(1000000) a, range(1000000) b")
        expect(button(tab, "Stop")).to_be_enabled(timeout=30_000)
        button(tab, "Stop").click()
        alert(tab, "Stopped after 0 rows")
        text = tab.locator("[data-testid=stAlert]").inner_text()
        assert "may go on" not in text
        assert "kept" not in text  # there is nothing to keep

        ask(tab, "SELECT subject, payload->>'percent' AS percent FROM history ORDER BY time LIMIT 3")
        expect(tab.locator("[data-testid=stDataFrame]")).to_be_visible(timeout=30_000)
        expect(tab.get_by_text("3 rows,")).to_be_visible()
        assert offered(tab)["percent"].tolist() == [90, 89.75, 89.5]


def test_progress_and_stop(server: NatsServer, tab: Page) -> None:
    """While rows arrive, the bar shows how many of how many, and the rows so far are on the page. Refreshes
    do not send the query again, and Stop stops the service."""
    with service(server.url, endless) as running:
        ask(tab)
        bar = tab.locator("[data-testid=stProgress]")
        expect(bar).to_contain_text(" of 1,000,000 rows", timeout=30_000)
        expect(bar).to_contain_text(" left")
        first = len(offered(tab))
        shown = bar.inner_text()
        until(lambda: bar.inner_text() != shown)
        assert len(offered(tab)) > first > 0
        expect(tab.locator(".js-plotly-plot").first).to_be_visible(timeout=30_000)
        button(tab, "Stop").click()
        alert(tab, "Stopped after")
        assert "stop" in running.commands()
        expect(button(tab, "Stop")).to_be_disabled()
        rows = offered(tab)
        assert rows["n"].tolist() == list(range(len(rows)))
        assert len(running.asked) == 1


def test_another_takes_over(server: NatsServer, tab: Page) -> None:
    """Another Run, another page, and closing the tab each stop the running query; its rows disappear."""
    with service(server.url, endless) as running:
        ask(tab)
        expect(tab.locator("[data-testid=stProgress]")).to_be_visible(timeout=30_000)
        ask(tab)
        until(lambda: len(running.asked) == 2)
        until(lambda: "stop" in running.asked[0].commands)
        assert "stop" not in running.asked[1].commands
        tab.get_by_role("link", name="Overview").click()
        until(lambda: "stop" in running.asked[1].commands)
        tab.get_by_role("link", name="History").click()
        expect(button(tab, "Stop")).to_be_disabled(timeout=30_000)
        expect(tab.locator(".lb-downloads")).to_have_count(0)
        ask(tab)
        until(lambda: len(running.asked) == 3)
        tab.goto("about:blank")
        until(lambda: "stop" in running.asked[2].commands)
        assert len(running.asked) == 3


def test_an_error_in_the_middle(server: NatsServer, tab: Page) -> None:
    """Rows received before an error stay on the page beside it; markup in the rows or the error is shown as
    plain text."""

    async def answer(asked: Asked) -> None:
        for n in range(2):
            await asked.rows(
                {"time": f"2026-01-01T00:00:0{n}Z", "**n**": n, "who": '<a href="http://evil.test">x</a>'},
                {"time": f"2026-01-01T00:00:1{n}Z", "**n**": n, "who": "<b>bold</b>"},
            )
        await asyncio.sleep(0.5)
        await asked.error(500, "the disk <b>broke</b> ![](http://evil.test/i.png)")

    wanted: list[str] = []
    tab.on("request", lambda request: wanted.append(request.url))
    with service(server.url, answer):
        ask(tab)
        alert(tab, "The query failed: the disk <b>broke</b> ![](http://evil.test/i.png)")
        expect(tab.get_by_text("4 rows,")).to_contain_text("arrived before the error and are kept")
        expect(tab.locator(".lb-legend button")).to_have_text(
            ['<a href="http://evil.test">x</a>', "<b>bold</b>"], timeout=30_000
        )
        expect(tab.locator(".lb-chart-title")).to_have_text("**n**")
        assert offered(tab)["**n**"].tolist() == [0, 0, 1, 1]
    assert not [url for url in wanted if "evil.test" in url]


def test_nobody_answers(tab: Page) -> None:
    """Without a history service, the page says so, and how to start one."""
    ask(tab)
    alert(tab, "No history service answers at history.query. Start one with python -m services.history")


def test_a_service_of_another_client(server: NatsServer, tab: Page) -> None:
    """A service under Node that only marks the end of an answer with an empty message: its rows are shown.
    Stop ends the query on the page and warns that the service may continue."""
    with node("history.mjs", server.url) as script:
        assert script.line() == "ready"
        ask(tab, "SELECT 50")
        expect(tab.get_by_text("100 rows,")).to_be_visible(timeout=30_000)
        expect(tab.locator(".js-plotly-plot")).to_be_visible(timeout=30_000)
        assert offered(tab)["n"].tolist() == list(range(100))
        ask(tab, "SELECT 100000")
        expect(tab.get_by_text("The total is not known")).to_be_visible(timeout=30_000)
        button(tab, "Stop").click()
        alert(tab, "has no control subject, so its query may go on")
