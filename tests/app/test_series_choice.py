"""The choice of series with their own lines is in the page's address, in the whole app and a real browser."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser import fresh_context
from tests.nats import NatsServer, running_server
from tests.running import App, app
from tests.waiting import until

PAGE = '''"""Pumps."""
from components import line_chart, live

rows = live("PUMPS")
line_chart(rows, "n", by="pump", most=3, title="One")
line_chart(rows, "n", by="pump", most=3, title="Two")
'''
CHARTS = """() => [...document.querySelectorAll('.js-plotly-plot')].map(plot => {
  const { series, others, choices, config, legend } = plot.parentElement.lookback
  return [series.filter((each, i) => i !== others && each.cells.size).map(({ name }) => name).sort(),
    legend.rule.value, legend.value.value, config.values ?? null]
})"""
"""By chart: the series with lines, the legend's rule and value, and the values."""
RULE, VALUE = ".lb-menu select >> nth=0", ".lb-menu select >> nth=1"
GREATEST = ["pump-27", "pump-28", "pump-29"]
MARKUP = "%3Cimg%20src=x%20onerror=hacked()%3E"


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server with thirty pumps: the first ones are the busiest, the last ones have the greatest values."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.add_stream("PUMPS", ["pumps.>"])
        numbered = [(i, n) for i in range(30) for n in range(35 - i)]
        messages = [json.dumps({"pump": f"pump-{i}", "n": 10 * i + n % 2}).encode() for i, n in numbered]
        server.publish("pumps.x", *messages)
        yield server


@pytest.fixture(scope="module")
def running(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with this page."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "pumps.py").write_text(PAGE)
    with app(tmp_path_factory.mktemp("app"), NATS_URL=nats.url, LOOKBACK_PAGES=str(folder)) as running:
        yield running


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One browser context for all tabs, so that the app's files are fetched and compiled once."""
    with fresh_context(browser, viewport={"width": 1440, "height": 900}) as context:
        yield context


@pytest.fixture
def tab(context: BrowserContext) -> Iterator[Page]:
    """A viewer's tab; an error in the page fails the test."""
    page = context.new_page()
    page.add_init_script("window.hacked = () => { throw new Error('hacked') }")
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert not errors


def charts(tab: Page) -> list[list[Any]]:
    """What the charts show, without the values."""
    return [chart[:3] for chart in tab.evaluate(CHARTS)]


def search(tab: Page) -> str:
    """The query of the browser's current address."""
    return str(tab.evaluate("location.search"))


BUSIEST: list[Any] = [["pump-0", "pump-1", "pump-2"], "busiest", ""]


def test_a_link_shows_the_same(nats: NatsServer, running: App, context: BrowserContext, tab: Page) -> None:
    """A choice in the legend of one of two charts is in the address, and Back undoes it. A link shows the
    choice to another viewer, also at a stretch and in a playback. Series in a link that have no numbers are
    named, as plain text, and can be removed. An invalid choice in an address changes nothing."""
    start = datetime.now(UTC)
    tab.goto(f"{running.url}/pumps")
    until(lambda: charts(tab) == [BUSIEST] * 2)
    tab.locator(RULE).select_option("greatest")
    until(lambda: search(tab).endswith("=greatest~"))
    until(lambda: charts(tab) == [[GREATEST, "greatest", ""], BUSIEST])
    tab.locator(VALUE).select_option("mean")
    until(lambda: search(tab).endswith("=greatest~mean"))
    until(lambda: charts(tab)[0] == [GREATEST, "greatest", "mean"])
    link = search(tab)
    tab.go_back()
    until(lambda: charts(tab) == [[GREATEST, "greatest", ""], BUSIEST])
    tab.go_back()
    until(lambda: charts(tab) == [BUSIEST] * 2)
    assert search(tab) == ""

    other = context.new_page()
    try:
        other.goto(f"{running.url}/pumps{link}")
        until(lambda: charts(other) == [[GREATEST, "greatest", "mean"], BUSIEST])
        assert charts(tab) == [BUSIEST] * 2
        other.locator(RULE).select_option("busiest")
        until(lambda: charts(other)[0] == [BUSIEST[0], "busiest", "mean"])
        until(lambda: search(other).endswith("=~mean"))
    finally:
        other.close()

    time.sleep(max(0.0, 1.1 - (datetime.now(UTC) - start).total_seconds()))
    end = datetime.now(UTC)
    nats.publish("pumps.x", b'{"pump": "pump-99", "n": 9999}')  # later than the stretch
    first, last = (
        f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"
        for moment in (datetime.fromtimestamp(end.timestamp() - 120, UTC), end)
    )
    past = f"{running.url}/pumps{link}&from={first}&to={last}"
    for way in ("", "&play=600"):
        tab.goto(past + way)
        until(lambda: charts(tab)[:1] == [[GREATEST, "greatest", "mean"]])
        until(lambda: (tab.evaluate(CHARTS)[0][3] or {}).get("pump-29") == 290.5)
    tab.goto(f"{running.url}/pumps{link}")
    until(lambda: charts(tab)[:1] == [[["pump-28", "pump-29", "pump-99"], "greatest", "mean"]])

    tab.goto(f"{running.url}/pumps{link}~pump-7~{MARKUP}")
    until(lambda: charts(tab) and "pump-7" in charts(tab)[0][0])
    note = tab.locator(".lb-named", has_text="<img src=x onerror=hacked()>: no numbers")
    expect(note).to_be_visible()
    note.get_by_role("button").click()
    expect(note).to_have_count(0)
    until(lambda: search(tab).endswith("=greatest~mean~pump-7"))
    name = link.split("=")[0]
    for text in ("loudest~mean", f"name~~{'x' * 1001}", "~" * 500):
        tab.goto(f"{running.url}/pumps{name}={text}")
        until(lambda: charts(tab) == [BUSIEST] * 2)
        until(lambda: search(tab) == "")


def test_in_explore(running: App, context: BrowserContext, tab: Page) -> None:
    """The choice in Explore's chart is in the address beside the other choices, and a link shows it."""
    tab.goto(f"{running.url}/explore?stream=PUMPS&field=n&by=pump")
    until(lambda: charts(tab) and len(charts(tab)[0][0]) == 20)
    assert "pump-29" not in charts(tab)[0][0]
    tab.locator(RULE).select_option("greatest")
    until(lambda: "=greatest~" in search(tab) and "pump-29" in charts(tab)[0][0])
    other = context.new_page()
    try:
        other.goto(f"{running.url}/explore{search(tab)}")
        until(lambda: charts(other) and charts(other)[0] == charts(tab)[0])
    finally:
        other.close()
