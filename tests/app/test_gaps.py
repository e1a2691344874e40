"""Missing messages are reported as such, with counts and times, in a real browser."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import fresh_tab
from tests.nats import NatsServer
from tests.running import App, app
from tests.waiting import until

PLAIN = '''"""Plain."""
from components import line_chart, live

rows = live(subject="t.>")
line_chart(rows, y="n")
'''
STREAM = '''"""Stream."""
from components import line_chart, live

rows = live("S")
line_chart(rows, y="n")
'''
BANDS = "el => (el.layout.shapes || []).map(shape => [+new Date(shape.x0), +new Date(shape.x1)])"


@pytest.fixture
def running(tmp_path: Path, server: NatsServer) -> Iterator[App]:
    """The app with one page on the stream, and one on plain subjects."""
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "plain.py").write_text(PLAIN)
    (tmp_path / "pages" / "stream.py").write_text(STREAM)
    with app(tmp_path, NATS_URL=server.url, LOOKBACK_PAGES=str(tmp_path / "pages")) as running:
        yield running


def say(server: NatsServer, subject: str, count: int, pause: float = 0.1) -> None:
    """Publish numbers."""

    async def work(nc: Any) -> None:
        for n in range(count):
            await nc.publish(subject, json.dumps({"n": n}).encode())
            await nc.flush()
            await asyncio.sleep(pause)

    server.run(work)


def bands(tab: Page) -> list[list[float]]:
    """The times that the chart shades as missing, as start and end in ms."""
    found: list[list[float]] = tab.locator(".js-plotly-plot").first.evaluate(BANDS)
    return found


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """A viewer."""
    with fresh_tab(browser) as tab:
        yield tab


def test_purged(server: NatsServer, running: App, tab: Page) -> None:
    """Purged messages leave the page. The page states their number and time, and the chart shades that
    time."""
    say(server, "s.a", 60)
    tab.goto(f"{running.url}/stream")
    expect(tab.locator(".lb-status")).to_contain_text("60 rows", timeout=30_000)
    server.run(lambda nc: nc.jetstream().purge_stream("S", keep=20))
    expect(tab.locator(".lb-status")).to_contain_text("20 rows", timeout=30_000)
    tab.get_by_role("button", name="1 warning").click()
    warning = tab.locator("[data-testid=stAlert]")
    expect(warning).to_contain_text("40 messages from")
    expect(warning).to_contain_text("cannot be shown: they were purged, deleted or expired")
    until(lambda: bands(tab))
    ((start, end),) = bands(tab)
    assert 3000 < end - start < 10_000


def test_history_begins(server: NatsServer, running: App, tab: Page) -> None:
    """If a stream begins later than the look-back, the page says since when it holds messages, and how many
    had left it."""
    say(server, "s.a", 30, 0.02)
    server.run(lambda nc: nc.jetstream().purge_stream("S", keep=20))
    tab.goto(f"{running.url}/stream")
    tab.get_by_role("button", name="1 warning").click(timeout=30_000)
    warning = tab.locator("[data-testid=stAlert]")
    expect(warning).to_contain_text("the stream holds nothing from before", timeout=30_000)
    expect(warning).to_contain_text("10 earlier messages had already left the stream")


def test_plain_subjects(server: NatsServer, running: App, tab: Page) -> None:
    """A page of plain subjects says that there is no history. Time without a connection is reported and
    shaded."""
    tab.goto(running.url)
    expect(tab.locator("[data-testid=stAlert]")).to_contain_text("No messages in the last", timeout=30_000)
    say(server, "t.a", 30)
    expect(tab.locator(".lb-status")).to_contain_text("plain subjects: no history, at-most-once delivery")
    expect(tab.locator(".lb-status")).to_contain_text("30 rows")
    server.kill()
    expect(tab.locator(".lb-word")).to_have_text("Disconnected", timeout=30_000)
    time.sleep(3)
    server.start()
    expect(tab.locator(".lb-word")).to_have_text("Live", timeout=30_000)
    say(server, "t.a", 20)
    tab.get_by_role("button", name="1 warning").click()
    expect(tab.locator("[data-testid=stAlert]")).to_contain_text("1 interruption,")
    expect(tab.locator("[data-testid=stAlert]")).to_contain_text("Messages published meanwhile are lost")
    until(lambda: bands(tab))
    ((start, end),) = bands(tab)
    assert end - start > 3000
