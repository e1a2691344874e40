"""Alerts in the whole app, against a real nats-server.

Slow, because it draws pages in a browser.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from playwright.sync_api import Dialog, Page, expect
from streamlit.testing.v1 import AppTest

from components.charts.thresholds import checked
from components.data.live import look_at
from components.tables.alerts import _AlertsSource
from nats_client import Client, Settings
from tests.browser import chromium
from tests.nats import NatsServer, running_server
from tests.running import ROOT, app
from tests.waiting import until

CHART = ".js-plotly-plot"
LINES = "el => (el.layout.shapes || []).filter(s => s.type === 'line').map(s => s.y0)"
MARKS = "el => el.data.filter(t => t.uid === 'marks').flatMap(t => t.customdata)"
RANGE = "el => el._fullLayout.xaxis.range"
MARKUP = "<img/src=x/onerror=hacked()>"
PAGE = f'''"""Overview."""
import streamlit as st
from components import alerts, line_chart, live

limits = {{"<b>hot</b> *{MARKUP}*": st.number_input("Limit", value=50.0)}}
rows = live("S")
line_chart(rows, y="n", by="_subject", unit="%", thresholds=limits)
alerts(rows, "n", limits, by="_subject", unit="%")
'''


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server with a stream S, whose subjects may have markup in them."""
    with running_server(tmp_path / "nats") as server:
        server.add_stream("S", ["s.>"])
        say(server, "s.calm", 10, 20)
        say(server, f"s.{MARKUP}", 20, 30)
        yield server


def say(server: NatsServer, subject: str, *numbers: float) -> None:
    """Publish numbers."""
    server.publish(subject, *(json.dumps({"n": n, "host": "h"}).encode() for n in numbers))


def test_page(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link opens the page "Alerts" with its limit. The page lists the series above or outside the limit,
    for a field and for an expression. An invalid limit is an error."""
    say(server, "s.busy", 40, 95, 97)
    monkeypatch.setenv("NATS_URL", server.url)
    try:
        page = AppTest.from_file(str(ROOT / "pages" / "alerts.py"), default_timeout=30)
        page.query_params.update({"limit": "60", "field": "n"})
        page.run()
        own_tab = page.session_state["_live_tab"]
        own_tab.blocked = True  # so that the list arrives with the page
        page.run()
        assert not page.exception
        labels = ["Stream", "Subjects", "Field", "By", "Limit"]
        assert [box.label for box in page.selectbox] == labels
        assert page.selectbox(key="limit").value == "60"
        content = json.loads(page.get("bidi_component")[1].proto.json)["content"]
        assert content["h0"] == [True, "1 of 3 series is above 'limit' (60) now."]
        (row,) = [value for name, value in content.items() if name.startswith("r")]
        assert [row[i] for i in (1, 3, 4, 5)] == ["s.busy", "still above", "95", "97"]
        page = AppTest.from_file(str(ROOT / "pages" / "alerts.py"), default_timeout=30)
        page.query_params.update({"limit": "outside 30..96", "expression": "n + 1"})
        page.run()
        page.session_state["_live_tab"].blocked = True
        page.run()
        content = json.loads(page.get("bidi_component")[1].proto.json)["content"]
        assert content["h0"] == [True, "2 of 3 series are outside 'limit' (30 to 96) now."]
        page = AppTest.from_file(str(ROOT / "pages" / "alerts.py"), default_timeout=30)
        page.query_params.update({"limit": "many", "field": "n"})
        assert page.run().exception  # the frame shows it to the viewer
    finally:
        st.cache_data.clear()
        st.cache_resource.clear()


def test_no_silence_while_disconnected(server: NatsServer) -> None:
    """While the server is away, no series counts as silent. Once the server is back and a series has sent
    nothing for long enough, the list reports its silence."""
    with Client(Settings(url=server.url)) as client:
        feed = client.feed("S", look_back="PT5M")
        assert feed.wait(30)
        say(server, "s.calm", 10)
        view = look_at(feed, feed.look_back, True)
        source = _AlertsSource(view, ("n",), None, checked({"pause": "silent for 5s"}), "", "UTC")
        assert source.look()["h0"][0] is False
        server.kill()
        until(lambda: feed.health.phase != "following")
        time.sleep(6)
        assert source.look()["h0"][0] is False
        server.start()
        until(lambda: feed.health.phase == "following")
        until(lambda: source.look()["h0"][0])


def test_in_a_browser(server: NatsServer, tmp_path: Path) -> None:
    """A value that rises above the threshold gets a mark and a row without a reload. A changed threshold
    moves the line and keeps the zoom. Markup in names is shown as plain text."""
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "overview.py").write_text(PAGE)
    bad: list[str] = []
    with (
        app(tmp_path, NATS_URL=server.url, LOOKBACK_PAGES=str(tmp_path / "pages")) as running,
        chromium() as browser,
    ):
        tab = browser.new_page(viewport={"width": 1200, "height": 1000})
        tab.add_init_script("window.hacked = () => alert('hacked')")

        def refuse(dialog: Dialog) -> None:
            bad.append(dialog.message)
            dialog.dismiss()

        tab.on("dialog", refuse)
        tab.goto(running.url)
        chart = tab.locator(CHART)
        expect(chart).to_be_visible(timeout=30_000)
        words = tab.locator(".lb-alerts p")
        expect(words).to_contain_text(
            f"Nothing crossed '<b>hot</b> *{MARKUP}*' (50 %) in the last 5 minutes."
        )
        # 50 is one data range above the values, which are 10 to 30: the axis is extended.
        until(lambda: chart.evaluate(LINES) == [50])
        assert chart.evaluate("el => el._fullLayout.yaxis.range[1]") > 50
        assert chart.evaluate(MARKS) == []

        say(server, f"s.{MARKUP}", 60, 70)
        expect(words).to_contain_text(f"1 of 2 series is above '<b>hot</b> *{MARKUP}*' (50 %) now.")
        until(lambda: len(chart.evaluate(MARKS)) == 1)
        table = tab.locator(".lb-alerts table")
        for text in (f"<b>hot</b> *{MARKUP}*", f"s.{MARKUP}", "still above", "60", "70"):
            expect(table.locator("td", has_text=text).first).to_be_attached()

        zoom(tab)
        before = chart.evaluate(RANGE)
        limit = tab.get_by_label("Limit")
        limit.fill("40")
        limit.press("Enter")
        until(lambda: chart.evaluate(LINES) == [40])
        assert chart.evaluate(RANGE) == before
        expect(words).to_contain_text("(40 %) now.")
        note = tab.locator(f"{CHART} .annotation-text").first
        expect(note).to_have_text(f"<b>hot</b> *{MARKUP}* 40 %")

        limit.fill("900")
        limit.press("Enter")
        expect(note).to_have_text(f"↑ <b>hot</b> *{MARKUP}* 900 % above")
        assert chart.evaluate(LINES) == []
        assert chart.evaluate("el => el._fullLayout.yaxis.range[1]") < 200
        assert tab.locator(f"{CHART} :is(b, img), [onerror]").count() == 0
        tab.goto("about:blank")
    assert not bad


def zoom(tab: Page) -> None:
    """Draw a zoom box over the right half of the chart, and wait until it shows."""
    box = tab.locator(f"{CHART} .nsewdrag").first.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    before = tab.locator(CHART).evaluate(RANGE)
    tab.mouse.move(box["x"] + box["width"] * 0.5, middle)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 0.95, middle, steps=8)
    tab.mouse.up()
    until(lambda: tab.locator(CHART).evaluate("el => el.parentElement.lookback.zoom.x"))
    assert tab.locator(CHART).evaluate(RANGE) != before


def test_limit_from_a_bucket(server: NatsServer, tmp_path: Path) -> None:
    """A limit kept in a bucket is a line in the chart. The line moves when the value changes, and disappears
    when its key is deleted."""

    async def put(nc: Any, value: bytes | None) -> None:
        bucket = await nc.jetstream().key_value("limits")
        await (bucket.delete("n") if value is None else bucket.put("n", value))

    async def create(nc: Any) -> None:
        await nc.jetstream().create_key_value(bucket="limits")

    server.run(create)
    server.run(lambda nc: put(nc, b"25"))
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "limit.py").write_text(
        '"""Limit."""\nfrom components import line_chart, live, values\n\n'
        'line_chart(live("S"), y="n", thresholds={"high": values("limits").get("n")})\n'
    )
    with (
        app(tmp_path, NATS_URL=server.url, LOOKBACK_PAGES=str(tmp_path / "pages")) as running,
        chromium() as browser,
    ):
        tab = browser.new_page()
        tab.goto(running.url)
        chart = tab.locator(CHART)
        for value in (25, 28):
            server.run(lambda nc: put(nc, b"%d" % value))
            until(lambda: chart.count() and chart.evaluate(LINES) == [value])
        server.run(lambda nc: put(nc, None))
        until(lambda: chart.evaluate(LINES) == [])
        tab.goto("about:blank")
