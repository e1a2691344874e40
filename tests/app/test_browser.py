"""The whole app in a real Chromium: every page opens, points arrive, zoom holds, faults are reported.

Slow, because every page is opened in a browser, and edited code has to be noticed.
"""

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
from playwright.sync_api import Page, expect

from tests.nats import NatsServer, running_server
from tests.running import ROOT, App, app
from tests.waiting import until

VIEWER = {"viewport": {"width": 1300, "height": 900}, "timezone_id": "Europe/Berlin"}
CHART = ".js-plotly-plot"
NEWEST = "el => Math.max(...el.data.flatMap(trace => Array.from(trace.x, x => Date.parse(x + 'Z'))))"
RANGE = "el => el._fullLayout.xaxis.range.map(x => +new Date(x))"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with its embedded demo, as `make run` starts it."""
    with app(tmp_path_factory.mktemp("demo")) as running:
        yield running


def newest(tab: Page) -> float:
    """The newest time in the first chart, in ms; 0 before there is one."""
    chart = tab.locator(CHART).first
    return float(chart.evaluate(NEWEST)) if chart.count() else 0.0


def test_points_arrive(demo: App, tab: Page) -> None:
    """The overview labels the embedded demo as a demo, and its charts grow."""
    tab.goto(demo.url)
    expect(tab.locator(".lb-word")).to_have_text("Live", timeout=30_000)
    expect(tab.locator(".lb-status")).to_contain_text("embedded demo")
    until(lambda: newest(tab) > 0)
    before = newest(tab)
    until(lambda: newest(tab) > before)


def test_zoom_holds(demo: App, tab: Page) -> None:
    """A zoomed chart stays zoomed while refreshes bring new points; a double click resets the zoom."""
    tab.goto(f"{demo.url}/explore")
    until(lambda: newest(tab) > 0, 30)
    chart = tab.locator(CHART).first
    box = chart.locator(".nsewdrag").first.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    start, end = chart.evaluate(RANGE)
    tab.mouse.move(box["x"] + box["width"] * 0.4, middle)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 0.7, middle, steps=5)
    tab.mouse.up()
    zoomed = chart.evaluate(RANGE)
    assert zoomed[1] - zoomed[0] < 0.4 * (end - start)
    before = newest(tab)
    until(lambda: newest(tab) > before + 4000)
    assert chart.evaluate(RANGE) == zoomed
    tab.mouse.dblclick(box["x"] + box["width"] / 2, middle)
    until(lambda: chart.evaluate(RANGE)[1] - chart.evaluate(RANGE)[0] > 0.99 * (end - start))


def test_choices_live_in_the_address(demo: App, tab: Page) -> None:
    """A viewer's choices are in the address, and a link with them opens the same view."""
    tab.goto(f"{demo.url}/explore?subjects=metrics.cpu.*&last=PT1M&refresh=Paused")
    expect(tab.locator(".lb-word")).to_have_text("Paused", timeout=30_000)
    expect(tab.locator(".lb-status")).to_contain_text("1 minute")
    expect(tab.locator('input[aria-label*="Subjects"]')).to_have_value("metrics.cpu.*")


def test_downloads(demo: App, tab: Page) -> None:
    """The rows can be downloaded as CSV and as Parquet, with times in UTC, subjects and values. A link read
    some refreshes ago still works, also while another viewer has the page open."""
    other = tab.context.new_page()
    other.goto(f"{demo.url}/explore")
    tab.goto(f"{demo.url}/explore?subjects=metrics.cpu.*")
    links = tab.locator(".lb-downloads a")
    links.first.wait_for(timeout=30_000)
    addresses = links.evaluate_all("links => links.map(link => link.href)")
    tab.wait_for_timeout(3000)
    assert links.evaluate_all("links => links.map(link => link.href)") == addresses
    files = []
    for link in (links.nth(0), links.nth(1)):
        with tab.expect_download() as waiting:
            link.click()
        files.append(Path(waiting.value.path()))
    assert waiting.value.suggested_filename == "METRICS.parquet"
    other.close()
    table, parquet = pd.read_csv(files[0]), pd.read_parquet(files[1])
    assert list(table.columns)[:3] == ["_time", "_subject", "_seq"]
    assert table["_time"].str.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z").all()
    assert table["_subject"].str.startswith("metrics.cpu.").all()
    assert len(table) > 3
    assert isinstance(parquet.index, pd.DatetimeIndex)
    assert str(parquet.index.tz) == "UTC"
    assert parquet["percent"].between(0, 100).all()


@pytest.mark.parametrize("place", ["", "/explore", "/explore/", "/somewhere/else"])
def test_unknown_download(demo: App, place: str) -> None:
    """A link that this process did not issue gets a 404 and a sentence, whatever the path of the page."""
    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        urllib.request.urlopen(f"{demo.url}{place}/lookback/rows/{'x' * 32}/METRICS.csv")
    with refused.value as answer:
        assert answer.read() == b"No such file. Reload the page that links to it.\n"


def test_the_viewers_own_time_zone(demo: App, tab: Page) -> None:
    """The chart's axis and the clock use the time zone of the viewer's browser, and the clock names it."""
    tab.goto(f"{demo.url}/explore")
    until(lambda: newest(tab) > 0, 30)
    tab.locator(".st-key-page-clock").get_by_role("button").first.click()
    expect(tab.get_by_role("combobox", name="Time zone")).to_have_value("Europe/Berlin (this browser)")
    ahead = newest(tab) - time.time() * 1000
    assert abs(ahead - 3600_000) < 60_000 or abs(ahead - 7200_000) < 60_000


def test_hidden_series_stay_hidden(demo: App, tab: Page) -> None:
    """A series that the viewer has hidden stays so while refreshes bring new points."""
    tab.goto(f"{demo.url}/explore?subjects=metrics.cpu.*")
    until(lambda: newest(tab) > 0, 30)
    chart = tab.locator(CHART).first
    hidden = "el => el._fullData.filter(trace => trace.visible === 'legendonly').map(trace => trace.name)"
    tab.locator(".lb-legend button").first.click()
    until(lambda: len(chart.evaluate(hidden)) == 1)
    name, before = chart.evaluate(hidden), newest(tab)
    until(lambda: newest(tab) > before + 3000)
    assert chart.evaluate(hidden) == name


def test_server_goes_and_comes(tmp_path: Path, tab: Page) -> None:
    """When the server is killed, the page says so and keeps its rows; when it is back, the page is live
    again."""
    with running_server(tmp_path / "nats") as server, app(tmp_path, NATS_URL=server.url) as running:
        server.add_stream("S", ["s.>"])
        server.publish("s.a", *(json.dumps({"value": i}).encode() for i in range(20)))
        tab.goto(f"{running.url}/explore")
        until(lambda: newest(tab) > 0, 30)
        server.kill()
        expect(tab.locator(".lb-word")).to_have_text("Disconnected", timeout=30_000)
        tab.wait_for_timeout(2000)
        assert newest(tab) > 0
        expect(tab.locator(".lb-status")).to_contain_text("20 rows")
        server.start()
        publish(server, 20)
        expect(tab.locator(".lb-word")).to_have_text("Live", timeout=30_000)
        expect(tab.locator(".lb-status")).to_contain_text("40 rows", timeout=30_000)
        tab.goto("about:blank")


def test_app_starts_before_its_server(tmp_path: Path, tab: Page) -> None:
    """A server that is not running yet is reported, and the page becomes live without a reload once it
    runs."""
    with running_server(tmp_path / "nats") as server:
        server.add_stream("S", ["s.>"])
        server.kill()
        with app(tmp_path, NATS_URL=server.url) as running:
            tab.goto(f"{running.url}/explore")
            expect(tab.locator("body")).to_contain_text(
                "Check 'url', and that the server is running", timeout=30_000
            )
            server.start()
            publish(server, 5)
            expect(tab.locator(".lb-status")).to_contain_text("5 rows", timeout=30_000)
            tab.goto("about:blank")


def publish(server: NatsServer, count: int) -> None:
    """Publish `count` numbers to the stream S."""
    server.publish("s.a", *(json.dumps({"value": i}).encode() for i in range(count)))


def test_edits_take_effect_and_leave_nothing(tmp_path: Path, tab: Page) -> None:
    """An edited page, a new page and an edited file of nats_client/ take effect without a restart. No second
    consumer and no extra threads are left behind."""
    root = tmp_path / "checkout"
    unwanted = shutil.ignore_patterns("__pycache__", "secrets.toml")
    for room in ("components", "nats_client", "services", "static", "pages", ".streamlit"):
        shutil.copytree(ROOT / room, root / room, ignore=unwanted)
    shutil.copy(ROOT / "app.py", root)
    page, module = root / "pages" / "mine.py", root / "nats_client" / "feeds" / "feed.py"
    source = (
        '"""Mine."""\nimport streamlit as st\nfrom components import live\n'
        "st.write(f\"{len(live('S'))} %s\")\n"
    )
    page.write_text(source % "first")
    with running_server(tmp_path / "nats") as server, app(tmp_path, root, NATS_URL=server.url) as running:
        server.add_stream("S", ["s.>"])
        publish(server, 3)
        tab.goto(f"{running.url}/mine")
        expect(tab.locator("body")).to_contain_text("3 first", timeout=30_000)
        process = psutil.Process(running.process.pid)
        threads = process.num_threads()
        for edit in ("second", "third"):
            page.write_text(source % edit)
            expect(tab.locator("body")).to_contain_text(f"3 {edit}", timeout=30_000)
        (root / "pages" / "new.py").write_text('"""Brand new."""')
        expect(tab.locator("body")).to_contain_text("Brand new", timeout=30_000)
        for count in range(4, 7):
            before = consumer_names(server)
            module.write_text(module.read_text() + "\n# edited\n")
            until(lambda: consumer_names(server).isdisjoint(before) and consumer_names(server))
            publish(server, 1)
            expect(tab.locator("body")).to_contain_text(f"{count} third", timeout=30_000)
        until(lambda: len(consumer_names(server)) == 1)
        # The web server's own pool of threads varies in size; one thread left by each edit would add six.
        until(lambda: process.num_threads() <= threads + 3)
        tab.goto("about:blank")


def consumer_names(server: NatsServer) -> set[str]:
    """The consumers of the stream S on the server."""
    return {info.name for info in server.run(lambda nc: nc.jetstream().consumers_info("S"))}
