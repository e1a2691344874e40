"""A page with a filtered view, in a real browser: its status line, and its sentences without rows."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.nats import NatsServer
from tests.running import App, app

HOSTILE = "level = '<b>[x](http://evil)</b>' OR ms > 100"
PAGES = {
    "errors": """live("S", look_back="PT1H", where="level = 'error'", columns={"kw": "w / 1000"})""",
    "hostile": f"""live("S", look_back="PT1H", where={HOSTILE!r})""",
    "none": """live("S", look_back="PT1H", where="levle = 'error'")""",
    "wrong": """live("S", look_back="PT1H", where="level = 'error' AND count(ms) > 1")""",
}


@pytest.fixture
def running(tmp_path: Path, server: NatsServer) -> Iterator[App]:
    """The app with one page per view."""
    (tmp_path / "pages").mkdir()
    for name, view in PAGES.items():
        lines = [
            f'"""{name.title()}."""',
            "from components import line_chart, live",
            f"rows = {view}",
            'line_chart(rows, y="kw" if "kw" in rows.columns else "ms")',
        ]
        (tmp_path / "pages" / f"{name}.py").write_text("\n".join(lines))
    server.publish("s.a", *(_line(i) for i in range(30)))
    with app(tmp_path, NATS_URL=server.url, LOOKBACK_PAGES=str(tmp_path / "pages")) as running:
        yield running


def _line(number: int) -> bytes:
    level = "error" if number % 3 == 0 else "info"
    return json.dumps({"level": level, "ms": 10 * number, "w": number}).encode()


def opened(running: App, browser: Browser, page: str) -> Page:
    """A tab with that page."""
    tab = browser.new_page()
    tab.goto(f"{running.url}/{page}")
    return tab


def test_words_above_the_page(server: NatsServer, running: App, browser: Browser) -> None:
    """The status line shows how many messages match, of how many, and counts new messages as they arrive. The
    computed column is drawn."""
    tab = opened(running, browser, "errors")
    line = tab.locator(".st-key-status-line")
    expect(line).to_contain_text("level = 'error': 10 of 30 messages")
    expect(tab.locator(".js-plotly-plot").first).to_be_visible()
    server.publish("s.a", *(_line(i) for i in range(30, 36)))
    expect(line).to_contain_text("level = 'error': 12 of 36 messages")
    expect(tab.get_by_text("warning")).to_have_count(0)
    tab.close()


def test_an_expression_is_no_markup(running: App, browser: Browser) -> None:
    """Markup in an expression is shown as plain text."""
    tab = opened(running, browser, "hostile")
    line = tab.locator(".st-key-status-line")
    expect(line).to_contain_text("<b>[x](http://evil)</b>")
    expect(line.locator("b", has_text="evil")).to_have_count(0)
    expect(line.locator("a")).to_have_count(0)
    tab.close()


def test_nothing_matches(server: NatsServer, running: App, browser: Browser) -> None:
    """Without a matching row, the page says that no message matches, and that no message has the misspelt
    field."""
    tab = opened(running, browser, "none")
    expect(tab.get_by_text("None of the 30 messages in the last 1 h")).to_be_visible()
    doubt = "No message so far has the field 'levle'. Did you mean 'level'?"
    expect(tab.get_by_text(doubt).first).to_be_visible()
    server.publish("s.a", b'{"levle": "error", "ms": 5}')
    expect(tab.locator(".st-key-status-line")).to_contain_text("levle = 'error': 1 of 31 messages")
    tab.close()


def test_a_mistake(running: App, browser: Browser) -> None:
    """Invalid SQL is an error on the page, with line and column."""
    tab = opened(running, browser, "wrong")
    expect(tab.get_by_text("where: Line 1, column 21: The aggregate 'count'")).to_be_visible()
    tab.close()
