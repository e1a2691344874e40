"""Subjects, field names and payloads with markup in them, in a real browser: shown, never run."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, Request, expect

from tests.browser import chromium
from tests.nats import NatsServer, running_server
from tests.running import app
from tests.waiting import until

MARKUP = [
    "<img/src=x/onerror=hacked()>",
    "<b/class=injected>bold</b>",
    "<script>hacked()</script>",
    "[link](javascript:hacked())",
    "![picture](http://evil.example/x.png)",
    "$\\color{red}{x}$",
    ":red[words]",
    "**stars**",
    "%{customdata}<br>&lt;",
    '"onmouseover="hacked()',
]
FOUND = """() => [
  ...document.querySelectorAll('.injected, [onerror], [onmouseover], [href^="javascript"]'),
  ...document.querySelectorAll('[src*="evil"], .katex'),
].map(e => e.outerHTML)"""
PAGE = '''"""<b class="injected">Untrusted</b> [link](javascript:hacked())"""
from components import choose, downloads, latest_values, line_chart, live, newest_rows

field = choose("Field", sorted(k for k, v in live("S").columns.items() if v == "number"))
rows = live("S", look_back="PT1H")
line_chart(rows, y=field, color="_subject", title=field, unit=field)
line_chart(rows, y=field, color="text", title=field, unit=field, key="by text")
latest_values(rows, field)
newest_rows(rows)
downloads(rows, field)
'''
MISTAKES = '''"""Mistakes."""
import streamlit as st
from components import live
live(st.query_params["stream"] or "S").latest(st.query_params["column"])
'''


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A nats-server whose stream S is full of markup."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.add_stream("S", ["s.>"])
        for number, text in enumerate(MARKUP):
            subject = "s." + "".join(c for c in text if c not in " .*")
            payload = {field: number + i for i, field in enumerate(MARKUP)} | {"text": text}
            server.publish(subject, json.dumps(payload).encode(), f"{text} no JSON".encode())
        yield server


def test_nothing_runs(server: NatsServer, tmp_path: Path) -> None:
    """Charts, legends, tooltips, tables, choices, warnings, addresses and error messages show markup to the
    letter: nothing runs, nothing is drawn as markup, nothing is fetched from elsewhere."""
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "overview.py").write_text(PAGE)
    (pages / "mistakes.py").write_text(MISTAKES)
    elsewhere: list[str] = []
    bad: list[str] = []

    def requested(request: Request) -> None:
        if "127.0.0.1" not in request.url and not request.url.startswith(("data:", "blob:")):
            elsewhere.append(request.url)

    with app(tmp_path, NATS_URL=server.url, LOOKBACK_PAGES=str(pages)) as running, chromium() as browser:
        tab = browser.new_page()
        tab.on("request", requested)
        tab.on("dialog", lambda dialog: (bad.append(dialog.message), dialog.dismiss()))
        tab.add_init_script("window.hacked = () => alert('hacked')")
        tab.goto(running.url)
        expect(tab.locator(".lb-status")).to_contain_text("rows", timeout=30_000)
        tab.locator(".js-plotly-plot").nth(1).wait_for(timeout=20_000)
        for expander in tab.locator("summary").all():
            expander.click()
        for field in MARKUP:
            tab.goto(f"{running.url}/?field={quote(field, safe='')}")
            tab.locator(".lb-legend button").first.wait_for(timeout=20_000)
            hover(tab, field)
            assert tab.evaluate(FOUND) == []
        expect(tab.locator("body")).to_contain_text("malformed messages left out")
        for text in MARKUP:
            for query in (
                f"stream={quote(text, safe='')}&column=x",
                f"stream=&column={quote(text, safe='')}",
            ):
                tab.goto(f"{running.url}/mistakes?{query}")
                expect(tab.locator("[data-testid=stAlert]").first).to_be_visible(timeout=20_000)
                assert tab.evaluate(FOUND) == []
        tab.goto("about:blank")
    assert not bad
    assert not elsewhere


def hover(tab: Page, unit: str) -> None:
    """Point at each chart: its tooltip and its axis have the unit, to the letter."""
    for chart in tab.locator(".js-plotly-plot").all():
        chart.scroll_into_view_if_needed()
        box = chart.locator(".nsewdrag").first.bounding_box()
        assert box is not None
        tab.mouse.move(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
        tab.mouse.move(box["x"] + box["width"] - 8, box["y"] + box["height"] / 2, steps=3)
        chart.locator(".hoverlayer .hovertext, .hoverlayer .legend").first.wait_for(timeout=5000)
        until(lambda chart=chart: unit in (chart.locator(".hoverlayer").text_content() or ""))
        assert unit in (chart.locator(".yaxislayer-above, .ytick").first.text_content() or "")
