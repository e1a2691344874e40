"""The status line above a page: it is never better than the page's worst feed, and it moves nothing.

Slow, because each state of the line has to come about by a real fault.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from streamlit.testing.v1 import AppTest

from tests.browser import fresh_tab, pick
from tests.components.test_words import seconds
from tests.nats import NatsServer, numbered, running_server
from tests.nats_client.test_rights import denying
from tests.running import App, app
from tests.status_line import status_html
from tests.waiting import until

Open = Callable[..., AppTest]

TWO = '''"""Two feeds."""
from components import live

live("S")
live("SILENT")
'''
CHART = '''"""Chart."""
import streamlit as st
from components import line_chart, live

rows = live("S", look_back="PT1H")
st.metric("Newest", 0 if not len(rows) else int(rows.latest("n").iloc[0]))
line_chart(rows, y="n")
'''
SIZES = pytest.mark.parametrize("size", [(1440, 900), (390, 844)], ids=["wide", "narrow"])
BOXES = """() => [...document.querySelectorAll(".js-plotly-plot, .lb-metric")].map(
  each => { const box = each.getBoundingClientRect(); return [box.x, box.y, box.width, box.height] })"""
KEEP_BOXES = f"""() => {{
  const boxes = {BOXES}
  const seen = window.seen = {{boxes: new Set(), words: new Set(), over: false}}
  const look = () => {{
    seen.boxes.add(JSON.stringify(boxes()))
    seen.words.add(document.querySelector(".lb-word")?.textContent)
    seen.over ||= document.querySelector("[data-testid=stMain]").scrollWidth > innerWidth
    requestAnimationFrame(look)
  }}
  look()
}}"""
"""Record, in each animation frame, the positions of charts and metrics and the state in the status line."""


def ages(line: str) -> list[float]:
    """The ages in a status line, in seconds, each as the oldest that its text can mean."""
    found = re.findall(r"under ([\d.]+) s ago|<b>([^<]*)</b> ago", line)
    return [float(bound) if bound else 1.06 * seconds(age) for bound, age in found]


def test_silent_feed_is_named(server: NatsServer, open_page: Open) -> None:
    """Beside an active feed, a silent feed is named with its age, which is never too low at any refresh."""
    server.add_stream("SILENT", ["silent.>"])
    server.publish("silent.a", b'{"n": 1}')
    stored = time.monotonic()
    server.publish("s.a", b'{"n": 1}')
    page = open_page(TWO)
    assert "SILENT" not in status_html(page)
    seen: list[str] = []
    while len(set(seen)) < 3:
        server.publish("s.a", b'{"n": 1}')
        before = time.monotonic() - stored
        page.run()
        line = status_html(page)
        if "SILENT" in line:
            seen.append(line)
            assert len(ages(line)) == 2
        assert max(ages(line)) >= before - 0.05, line
    assert re.search(r"newest message under 5 s ago; <b>1\d s</b> ago in SILENT<", seen[0])


def test_feed_without_a_message_is_named(server: NatsServer, open_page: Open) -> None:
    """A feed without any message is named beside a feed that has messages."""
    server.add_stream("SILENT", ["silent.>"])
    server.publish("s.a", b'{"n": 1}')
    assert "ago; none in SILENT" in status_html(open_page(TWO))


def test_worst_feed_is_the_word(server: NatsServer, open_page: Open) -> None:
    """If one feed had regular messages and then stops, the line says Stale, even if another feed is live."""
    server.add_stream("SILENT", ["silent.>"])
    begin = time.monotonic()
    while time.monotonic() - begin < 10.5:
        server.publish("silent.a", b'{"n": 1}')
        time.sleep(0.3)
    server.publish("s.a", b'{"n": 1}')
    page = open_page(TWO)
    assert "Live" in status_html(page)

    def stale() -> bool:
        server.publish("s.a", b'{"n": 1}')
        return "Stale" in status_html(page.run())

    until(stale)


def test_what_is_paused_has_no_age(server: NatsServer, open_page: Open) -> None:
    """While a page is paused or seldom refreshed, the line has the time of the newest message: an age would
    be wrong before the next refresh."""
    server.publish("s.a", b'{"n": 1}')
    for refresh in ("Paused", "15 s"):
        line = status_html(open_page(CHART, refresh=refresh))
        assert re.search(r"newest message at <b>\d\d:\d\d:\d\d</b>", line), line
        assert not ages(line)


@contextmanager
def watched(browser: Browser, url: str, size: tuple[int, int]) -> Iterator[Page]:
    """A tab with the page and its chart; from then on, all movement in it is recorded."""
    with fresh_tab(browser, viewport={"width": size[0], "height": size[1]}) as tab:
        tab.goto(url)
        tab.locator(".js-plotly-plot .trace").first.wait_for(timeout=60_000)
        tab.wait_for_timeout(2000)  # until fonts and the whole page are loaded
        tab.evaluate(KEEP_BOXES)
        yield tab


def moved(tab: Page) -> list[Any]:
    """All positions of charts and metrics if they moved, and "sideways" if the page could be scrolled
    sideways; empty if nothing moved."""
    boxes = tab.evaluate("[...seen.boxes].map(JSON.parse)")
    return [*(boxes if len(boxes) > 1 else []), *(["sideways"] if tab.evaluate("seen.over") else [])]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with its embedded demo."""
    with app(tmp_path_factory.mktemp("demo")) as running:
        yield running


@SIZES
def test_demo_stands_still(demo: App, browser: Browser, size: tuple[int, int]) -> None:
    """While values change, no metric or chart of the overview moves or changes its size."""
    with watched(browser, demo.url, size) as tab:
        values = "[...document.querySelectorAll('.lb-metric-number')].map(e => e.textContent)"
        seen = set()
        until(lambda: seen.add(str(tab.evaluate(values))) or len(seen) > 8)
        assert moved(tab) == []


def test_four_charts_fit(demo: App, browser: Browser) -> None:
    """On a screen of 1440 by 900, the status line takes one line, and all four charts and metrics are in
    sight."""
    with watched(browser, demo.url, (1440, 900)) as tab:
        assert tab.locator(".lb-status").evaluate("each => each.clientHeight") < 30
        charts = tab.locator(".js-plotly-plot")
        expect(charts).to_have_count(4)
        for each in [*charts.all(), *tab.locator(".lb-metric, .lb-legend").all()]:
            expect(each).to_be_in_viewport(ratio=1)


def test_choices_are_a_line_on_a_phone(demo: App, browser: Browser) -> None:
    """On a phone, choices that are beside each other stay on one line: the chart is in sight, the page cannot
    be scrolled sideways, and a choice at the end of the line can be reached."""
    with fresh_tab(browser, viewport={"width": 390, "height": 844}) as tab:
        tab.goto(f"{demo.url}/explore?stream=METRICS&field=percent")
        expect(tab.locator(".js-plotly-plot").first).to_be_in_viewport(timeout=60_000)
        tops = (
            "[...document.querySelectorAll('.stSelectbox')].map((each) => each.getBoundingClientRect().top)"
        )
        assert len(set(tab.evaluate(tops))) < len(tab.evaluate(tops)) / 2
        assert tab.evaluate("document.documentElement.scrollWidth") == 390
        pick(tab, "Calculate", "rate")
        until(lambda: "calculate=rate" in tab.evaluate("location.search"))


@SIZES
def test_faults_move_nothing(
    server: NatsServer, tmp_path: Path, browser: Browser, size: tuple[int, int]
) -> None:
    """A lost connection, a reconnect, a new warning and a pause move neither metrics nor charts. The reason
    for a lost connection is in sight; warnings are one click away and stay open."""
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "chart.py").write_text(CHART)
    server.publish("s.a", *numbered(60))
    settings = {"NATS_URL": server.url, "LOOKBACK_PAGES": str(tmp_path / "pages")}
    with app(tmp_path, **settings) as running, watched(browser, running.url, size) as tab:
        server.kill()
        expect(tab.locator(".lb-word")).to_have_text("Disconnected")
        alert = tab.locator("[data-testid=stAlert]")
        expect(alert).to_contain_text("The page keeps showing the last data.")
        expect(alert).to_be_in_viewport(ratio=1)
        server.start()
        expect(tab.locator(".lb-word")).to_have_text("Live")
        expect(alert).to_have_count(0)
        server.run(lambda nc: nc.jetstream().purge_stream("S", keep=20))
        warnings = tab.get_by_role("button", name="1 warning")
        expect(warnings).to_be_in_viewport(ratio=1)
        assert moved(tab) == []
        warnings.click()
        expect(alert).to_contain_text("40 messages from")
        drawn = tab.locator("[data-testid=stMetricValue]")
        server.publish("s.a", *numbered(2, 60))
        expect(drawn).to_have_text("61")
        tab.wait_for_timeout(3000)  # the warning must survive some refreshes
        expect(alert).to_be_in_viewport(ratio=0.9)
        tab.keyboard.press("Escape")
        tab.goto(f"{running.url}/?refresh=Paused")
        expect(tab.locator(".lb-word")).to_have_text("Paused")


@SIZES
def test_replay_moves_nothing(tmp_path: Path, browser: Browser, size: tuple[int, int]) -> None:
    """During a replay its progress is in the status line, and nothing moves, also when the replay ends."""
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "chart.py").write_text(CHART)
    # Without flow control a replay takes a megabyte a second.
    with running_server(tmp_path / "nats", denying("publish", "$JS.FC.>")) as server:
        server.url = server.url.replace("//", "//admin:x@")
        server.add_stream("S", ["s.>"])
        text = "x" * 10_000
        server.publish("s.a", *[json.dumps({"n": n, "text": text}).encode() for n in range(1500)])
        address = server.url.replace("admin:x@", "")
        settings = {"NATS_URL": address, "NATS_USER": "me", "NATS_PASSWORD": "x"}
        settings["LOOKBACK_PAGES"] = str(tmp_path / "pages")
        with app(tmp_path, **settings) as running, watched(browser, running.url, size) as tab:
            expect(tab.locator(".lb-status")).to_contain_text("messages to come")
            expect(tab.locator(".lb-word")).to_have_text("Live")
            expect(tab.locator(".lb-status")).to_contain_text("1,500 rows")
            until(lambda: tab.evaluate("[...seen.words]") == ["Replaying", "Live"])
            assert moved(tab) == []
