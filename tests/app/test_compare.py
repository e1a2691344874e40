"""Earlier periods drawn over the current one, in a real browser, from rows with known times."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import fresh_tab
from tests.nats import NatsServer, running_server
from tests.running import App, app
from tests.waiting import until

HOURS = '''"""Hours."""
from components import compare, live

rows = live("S", "s.{name}", look_back="PT3H", time="t")
compare(rows, "n", "PT1H", 2, by="name", most=2)
'''
SHORT = '''"""Short."""
from components import compare, live

compare(live("S", "t", look_back="PT30S"), "n", "PT10S", 2)
'''
CHART = ".js-plotly-plot"
LOOK = """el => {
    const chart = el.parentElement.lookback
    const utc = (x) => Date.parse(x + (x.endsWith("Z") ? "" : "Z"))
    return {
        starts: chart.config.compare.starts, now: chart.now, step: chart.step, offset: chart.offset,
        range: el.layout.xaxis.range.map(utc), shown: el._fullLayout.xaxis.range,
        line: el.layout.shapes.filter((shape) => shape.type === "line").map((shape) => utc(shape.x0)),
        missing: el.layout.shapes.filter((shape) => shape.type === "rect")
            .map((shape) => [utc(shape.x0), utc(shape.x1), shape.label.text]),
        traces: el.data.map((trace) => ({
            name: trace.name, visible: trace.visible, colour: trace.line.color, dash: trace.line.dash,
            opacity: trace.opacity, fill: trace.fill ?? "", y: trace.y, x: Array.from(trace.x, utc),
        })),
    }
}"""


@pytest.fixture(scope="module")
def last() -> int:
    """The time of the newest row, in seconds since the epoch."""
    return int(time.time())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, last: int) -> Iterator[NatsServer]:
    """A nats-server whose rows carry their own time: one a minute for three hours, with the time as the value
    too."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.add_stream("S", ["s.>", "t"])
        times = range(last - 3 * 3600 + 60, last + 1, 60)
        for name, every in (("a", 1), ("b", 1), ("rare", 10), ("rarer", 30)):
            rows = [{"t": t, "n": t - last} for t in times[::every]]
            server.publish(f"s.{name}", json.dumps(rows).encode())
        yield server


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, server: NatsServer) -> Iterator[App]:
    """The app with one page that compares hours and one that compares periods of ten seconds."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "pages").mkdir()
    (folder / "pages" / "hours.py").write_text(HOURS)
    (folder / "pages" / "short.py").write_text(SHORT)
    with app(folder, NATS_URL=server.url, LOOKBACK_PAGES=str(folder / "pages")) as running:
        yield running


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """A tab of a viewer in Berlin."""
    with fresh_tab(browser, viewport={"width": 1200, "height": 900}, timezone_id="Europe/Berlin") as tab:
        yield tab


def look(tab: Page) -> dict[str, Any]:
    """What the chart shows; all times in ms."""
    found: dict[str, Any] = tab.locator(CHART).first.evaluate(LOOK)
    return found


def opened(tab: Page, address: str) -> None:
    """Open a page, and wait for its chart."""
    tab.goto(address)
    expect(tab.locator(f"{CHART} .scatterlayer").first).to_be_visible(timeout=30_000)


def test_hours_lie_over_one_another(running: App, last: int, tab: Page) -> None:
    """Each earlier hour is drawn over the current one, in the colour of its series, with each row at its time
    within the hour. The current hour ends at a line that marks now, and the merged series are a band in each
    hour."""
    opened(tab, f"{running.url}/hours")
    until(lambda: sum(len(trace["x"]) for trace in look(tab)["traces"]) > 200)
    shown = look(tab)
    starts, traces = shown["starts"], {trace["name"]: trace for trace in shown["traces"]}
    assert starts == [starts[0], starts[0] - 3_600_000, starts[0] - 7_200_000]
    start = starts[0] - shown["offset"]  # local time in Berlin
    assert shown["range"] == [start, start + 3_600_000]
    assert start % 3_600_000 == 0
    assert start - starts[0] in (3_600_000, 7_200_000)
    assert time.strftime("%H:00", time.gmtime(start / 1000)) in shown["shown"][0]
    (line,) = shown["line"]
    assert 0 <= shown["now"] - shown["offset"] - line < 5000  # since it was drawn
    seen = set()
    for name in ("a", "b"):
        for k, period in enumerate(("current hour", "1 hour before", "2 hours before")):
            trace = traces[f"{name}, {period}"]
            for x, n in zip(trace["x"], trace["y"], strict=True):
                assert start <= x < start + 3_600_000
                assert abs((x - start) - ((last + n) * 1000 - starts[k])) <= shown["step"]
                assert k > 0 or x <= shown["line"][0]
                seen.add((name, n))
            assert trace["visible"] is True
            assert trace["colour"] == traces[f"{name}, current hour"]["colour"]
            assert trace["dash"] == ("dot" if k else "solid")
    drawn = range((starts[2] // 1000 - last) // 60 * 60 + 60, 1, 60)
    assert seen >= {(name, n) for name in ("a", "b") for n in drawn if last + n >= starts[2] // 1000}
    opacities = [
        traces[f"a, {period}"]["opacity"] for period in ("current hour", "1 hour before", "2 hours before")
    ]
    assert opacities == sorted(opacities, reverse=True)
    assert traces["2 others, 1 hour before"]["fill"] == "toself"
    expect(tab.locator(".lb-keys")).to_contain_text("current hour1 hour before2 hours beforeab2 others")
    tab.goto("about:blank")


def test_zoom_and_hidden_periods_go_along(server: NatsServer, running: App, tab: Page) -> None:
    """When the next period begins, a zoom keeps its place within the period, and hidden periods stay
    hidden."""
    server.publish("t", b'{"n": 1}')
    opened(tab, f"{running.url}/short")
    tab.locator(".lb-keys button", has_text="20 seconds before").click()
    box = tab.locator(f"{CHART} .nsewdrag").first.bounding_box()
    assert box is not None
    tab.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 50)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 50, steps=6)
    tab.mouse.up()
    until(lambda: look(tab)["range"][1] - look(tab)["range"][0] < 6000)
    before = look(tab)
    until(lambda: look(tab)["starts"][0] > before["starts"][0])
    after = look(tab)
    for old, new in zip(before["range"], after["range"], strict=True):
        assert new - old == pytest.approx(after["starts"][0] - before["starts"][0], abs=1)
    hidden = {trace["name"] for trace in after["traces"] if trace["visible"] == "legendonly"}
    assert hidden == {"20 seconds before"}
    tab.locator(f"{CHART} .nsewdrag").first.dblclick()
    until(lambda: look(tab)["range"][1] - look(tab)["range"][0] == 10_000)
    tab.goto("about:blank")


def test_what_is_missing_is_shaded_in_its_period(server: NatsServer, running: App, tab: Page) -> None:
    """A gap from one period into the next is shaded at the end of the first and at the start of the
    second."""
    opened(tab, f"{running.url}/hours")
    tab.locator(CHART).first.evaluate(
        """el => {
            const chart = el.parentElement.lookback
            const [start] = chart.config.compare.starts
            chart.receive = () => {}
            chart.config = { ...chart.config, gaps: [[start - 600000, start + 60000]] }
            chart.draw()
        }"""
    )
    shown = look(tab)
    start = shown["starts"][0] - shown["offset"]
    end = max(60_000, shown["step"])
    assert [band[:2] for band in shown["missing"]] == [
        [start, start + end],
        [start + 3_000_000, start + 3_600_000],
    ]
    assert shown["missing"][1][2] == "missing, 1 hour before"
    tab.goto("about:blank")
