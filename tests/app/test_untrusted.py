"""Markup in subjects, field names and payloads, in a real browser: it is shown as text and never run.

Slow, because the hostile names are drawn by each page of the app.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Dialog, Page, Request, expect

from tests.browser import fresh_tab
from tests.nats import NatsServer, running_server
from tests.running import ROOT, app
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
line_chart(rows, y=field, by="_subject", title=field, unit=field)
line_chart(rows, y=field, by="text", title=field, unit=field, key="by text")
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


@contextmanager
def watched(
    server: NatsServer, browser: Browser, folder: Path, *pages: tuple[str, str]
) -> Iterator[tuple[Page, str]]:
    """A tab and the URL of an app with these pages. At the end, assert that no markup has run and nothing was
    fetched from other hosts."""
    elsewhere: list[str] = []
    bad: list[str] = []

    def requested(request: Request) -> None:
        if "127.0.0.1" not in request.url and not request.url.startswith(("data:", "blob:")):
            elsewhere.append(request.url)

    (folder / "pages").mkdir()
    for name, source in pages:
        (folder / "pages" / name).write_text(source)
    environment = {"NATS_URL": server.url, "LOOKBACK_PAGES": str(folder / "pages")}
    with app(folder, **environment) as running, fresh_tab(browser) as tab:
        tab.on("request", requested)

        def refuse(dialog: Dialog) -> None:
            bad.append(dialog.message)
            dialog.dismiss()

        tab.on("dialog", refuse)
        tab.add_init_script("window.hacked = () => alert('hacked')")
        yield tab, running.url
    assert not bad
    assert not elsewhere


def test_nothing_runs(server: NatsServer, browser: Browser, tmp_path: Path) -> None:
    """Charts, legends, tooltips, tables, choices, warnings, addresses and error messages show markup as plain
    text: nothing runs, nothing is rendered, and nothing is fetched from other hosts."""
    with watched(server, browser, tmp_path, ("overview.py", PAGE), ("mistakes.py", MISTAKES)) as (tab, url):
        tab.goto(url)
        expect(tab.locator(".lb-status")).to_contain_text("rows", timeout=30_000)
        tab.locator(".js-plotly-plot").nth(1).wait_for(timeout=30_000)
        tab.get_by_role("button", name="warning").click()
        for expander in tab.locator("summary").all():
            expander.click()
        for field in MARKUP:
            tab.goto(f"{url}/?field={quote(field, safe='')}")
            tab.locator(".lb-legend button").first.wait_for(timeout=30_000)
            hover(tab, field)
            assert tab.evaluate(FOUND) == []
        tab.get_by_role("button", name="warning").click()
        expect(tab.locator("body")).to_contain_text("malformed messages left out")
        for text in MARKUP:
            for query in (
                f"stream={quote(text, safe='')}&column=x",
                f"stream=&column={quote(f'no {text}', safe='')}",
            ):
                tab.goto(f"{url}/mistakes?{query}")
                expect(tab.locator("[data-testid=stAlert]").first).to_be_visible(timeout=30_000)
                assert tab.evaluate(FOUND) == []


def test_nothing_runs_while_exploring(server: NatsServer, browser: Browser, tmp_path: Path) -> None:
    """The page "Explore" shows markup in fields, values, subjects and messages as plain text."""
    page = (ROOT / "pages" / "explore.py").read_text()
    with watched(server, browser, tmp_path, ("explore.py", page)) as (tab, url):
        for show, field in zip(["Fields", "Messages", "Subjects", "Copy as page"], MARKUP, strict=False):
            view = f"chart=scatter&by=text&field={quote(field, safe='')}&show={show}&last=PT1H"
            tab.goto(f"{url}/?{view}")
            expect(tab.locator(".js-plotly-plot .ytitle")).to_have_text(field, timeout=30_000)
            expect(tab.locator(".lb-scatter .lb-legend")).to_contain_text(field)
            expect(tab.get_by_role("tab", selected=True)).to_have_text(show)
            shown = ".lb-rows:visible, [data-testid=stDataFrame]:visible, [data-testid=stCode]:visible"
            tab.locator(shown).first.wait_for()
            assert tab.evaluate(FOUND) == []
        expect(tab.locator("code")).to_contain_text(repr(MARKUP[3])[1:-1])


NEWEST = """el => {
  const times = el.data.flatMap((trace) => [...(trace.x ?? [])]).filter((x) => x !== null);
  const at = times.map((time) => el._fullLayout.xaxis.d2p(time));
  return Math.max(...at.filter((px) => px < el._fullLayout.xaxis._length - 8));
}"""
"""The position of a chart's newest point, in px from the left edge of the plot."""


def hover(tab: Page, unit: str) -> None:
    """Point at each chart, and check that its tooltip and its axis have the unit as plain text."""
    for chart in tab.locator(".js-plotly-plot").all():
        chart.scroll_into_view_if_needed()
        box = chart.locator(".nsewdrag").first.bounding_box()
        assert box is not None
        point = box["x"] + chart.evaluate(NEWEST)
        tab.mouse.move(point + 4, box["y"] + box["height"] / 2)
        tab.mouse.move(point, box["y"] + box["height"] / 2, steps=3)
        chart.locator(".hoverlayer .hovertext, .hoverlayer .legend").first.wait_for(timeout=30_000)
        until(lambda: unit in (chart.locator(".hoverlayer").text_content() or ""))
        assert unit in (chart.locator(".yaxislayer-above, .ytick").first.text_content() or "")
