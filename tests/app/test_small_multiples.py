"""Small multiples in the whole app and a real browser: line_chart(..., facet=...).

Slow, because fifty charts are drawn, and drawn again.
"""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.nats import NatsServer, running_server
from tests.running import App, app
from tests.waiting import until

MARKUP = "<img/src=x/onerror=hacked()>"
VIEWER = {"viewport": {"width": 1920, "height": 1080}, "timezone_id": "Asia/Kolkata"}
PAGES = {
    "few": '''"""Few."""
from components import line_chart, live

rows = live("FEW", "few.{device}.{core}")
line_chart(rows, "n", facet="device", by="core", title="Devices", unit="ms", thresholds={"high": 9})
line_chart(rows, "n", title="All")
''',
    "many": '''"""Many."""
from components import line_chart, live

line_chart(live("MANY"), "n", facet="device", steps=True)
''',
    "marks": '''"""Marks."""
from components import events, line_chart, live

rows = live("EXACT", "exact.{device}")
line_chart(rows, "n", facet="device", title="<b>Exact</b>", thresholds={"high": 1234570})
line_chart(rows, "n", title="All")
events(live("MARKS"), text="{text}")
''',
}
PANELS = """() => {
  const chart = document.querySelector('.lb-panels')?.parentElement?.lookback
  if (!chart?.drawn) return {}
  const { shown } = chart.panels
  return Object.fromEntries(shown.map(panel => [panel.name, Object.fromEntries(panel.rows.map(row => {
    const { name, cells, held } = chart.series[row]
    const values = [...cells.entries()].sort((a, b) => a[0] - b[0]).map(([, cell]) => cell[1])
    return [name.split('\\x1f')[1], held ? [held.cell[1], ...values] : values]
  }))]))
}"""
"""By panel and line: the greatest value of each bin, in order."""
INK = """() => [...document.querySelectorAll('.lb-panel canvas')].map(canvas => {
  const seen = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data
  const colours = new Set()
  for (let at = 0; at < seen.length; at += 4)
    if (seen[at + 3] > 200) colours.add(seen.slice(at, at + 3).join())
  return colours.has('15,138,163')
})"""
"""By panel: true if it has a line of the first colour."""
TIMES = """() => [...document.querySelectorAll('.lb-panel-plot, .js-plotly-plot')].map(plot => {
  const line = plot.querySelector('.lb-crosshair')
  if (!line || line.hidden) return null
  const chart = plot.closest('.lb-panels')?.parentElement.lookback ?? plot.parentElement.lookback
  const axis = (chart.panels?.shown.find(panel => panel.plot === plot) ?? chart).timeAxis()
  return axis.time(line.getBoundingClientRect().left - plot.getBoundingClientRect().left - axis.left)
})"""
"""By panel, then for the other chart: the time of its crosshair, in ms since the epoch; null without one."""
WRITTEN = """act => {
  const { panels } = document.querySelector('.lb-panels').parentElement.lookback
  const written = [], write = CanvasRenderingContext2D.prototype.fillText
  CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
    const { e } = this.getTransform()
    if (!written.some(([one, , canvas]) => one === text && canvas === this.canvas))
      written.push([text, e + place[0], this.canvas, this.measureText(text).width])
    return write.call(this, text, ...place)
  }
  if (act === 'paint') for (const panel of panels.shown) panels.paint(panel)
  else document.querySelector('.lb-panels-picture').click()
  CanvasRenderingContext2D.prototype.fillText = write
  return written.map(([text, at, , width]) => [text, at, width])
}"""
"""The texts written on canvases when all panels are painted, or when the PNG button is clicked: text, left
end and width, in px."""
ZOOM_IN = """() => {
  const chart = document.querySelector('.lb-panels').parentElement.lookback
  const [first, last] = [...chart.series[0].cells.keys()].map(bin => bin * chart.step).sort()
  chart.zoomInto([first - 2000, last + 2000])
}"""
ZOOMS = """() => [...document.querySelectorAll('.lb-panels, .js-plotly-plot')]
  .map(({ parentElement }) => parentElement.lookback.zoomedTimes())"""


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server with a stream of three devices, one of fifty-three, one of exact values, and one of events."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.add_stream("FEW", ["few.>"])
        server.add_stream("MANY", ["many.>"])
        server.add_stream("EXACT", ["exact.>"])
        server.add_stream("MARKS", ["marks.>"])
        for number in (0, 1):
            for device in ("d1", "d2", "d10"):
                for core in ("a", "b"):
                    value = number + (10 if core == "b" else 0)
                    server.publish(f"few.{device}.{core}", json.dumps({"n": value}).encode())
            time.sleep(1.1)  # each value is in a bin of its own
        for exact in (1234567, 1234568.5):
            for i in range(5):
                server.publish(f"exact.p{i}", json.dumps({"n": exact + i}).encode())
            server.publish("marks.x", json.dumps({"text": f"{MARKUP} of {exact} {'x' * 80}"}).encode())
            time.sleep(1.1)
        names = [*(f"m{i}" for i in range(52)), MARKUP]
        server.publish(
            "many.x", *(json.dumps({"device": name, "n": 1}).encode() for name in names for _ in "12")
        )
        yield server


@pytest.fixture(scope="module")
def running(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with the pages of this file."""
    folder = tmp_path_factory.mktemp("pages")
    for name, source in PAGES.items():
        (folder / f"{name}.py").write_text(source)
    with app(tmp_path_factory.mktemp("app"), NATS_URL=nats.url, LOOKBACK_PAGES=str(folder)) as running:
        yield running


def panels(tab: Page) -> dict[str, dict[str, list[float]]]:
    """By panel and line, in order: the greatest value of each bin."""
    found: dict[str, dict[str, list[float]]] = tab.evaluate(PANELS)
    return found


def box_of(tab: Page, number: int) -> dict[str, float]:
    """The bounding box of a panel's plot."""
    box: Any = tab.locator(".lb-panel-plot").nth(number).bounding_box()
    assert box is not None
    return dict(box)


def test_panels(nats: NatsServer, running: App, tab: Page) -> None:
    """Each device has a panel, in natural order, with its own lines; all are drawn from one consumer in one
    element, and axes are labelled once. Crosshair and zoom are shared with the other chart, a click shows the
    message, and a new device gets a panel. At a stretch, and in a playback of it, the panels have the values
    of that time."""
    wanted = {"a": [0, 1], "b": [10, 11]}
    tab.goto(f"{running.url}/few")
    until(lambda: panels(tab) == {"d1": wanted, "d2": wanted, "d10": wanted})
    assert list(panels(tab)) == ["d1", "d2", "d10"]
    until(lambda: tab.evaluate(INK) == [True] * 3)
    assert nats.run(lambda nc: nc.jetstream().consumers_info("FEW")).__len__() == 1
    expect(tab.locator(".lb-panels")).to_have_count(1)
    texts = [tab.locator(".lb-panel").nth(i).locator(".lb-y span").all_inner_texts() for i in range(3)]
    assert texts[0]
    assert texts[1:] == [[], []]
    assert all(text.endswith("s") for text in texts[0])  # scaled from ms
    assert tab.locator(".lb-panel .lb-x").nth(2).locator("span").count() > 1
    assert tab.locator(".lb-keys button").all_inner_texts()[:2] == ["a", "b"]

    box = box_of(tab, 1)
    tab.mouse.move(box["x"] + box["width"] * 0.1, box["y"] + 30)

    def same() -> bool:
        times = tab.evaluate(TIMES)
        return len(times) == 4 and None not in times and max(times) - min(times) < 1000

    until(same)
    assert tab.locator(".lb-panel-tip:visible").count() == 1
    before = time.time()
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 60, steps=4)
    tab.mouse.up()
    until(lambda: None not in tab.evaluate(ZOOMS))
    one, other = tab.evaluate(ZOOMS)
    assert [round(time) for time in one] == [round(time) for time in other]
    assert before * 1000 - 300_000 < one[0] < one[1] < before * 1000 + 60_000
    until(lambda: tab.evaluate("Boolean(document.querySelector('.lb-panels').parentElement.lookback.finer)"))
    tab.locator(".lb-panel-plot").nth(2).dblclick()
    until(lambda: tab.evaluate(ZOOMS) == [None, None])

    at = """() => { const { panels, series } = document.querySelector('.lb-panels').parentElement.lookback
      const panel = panels.shown[1], row = panel.rows.find(row => series[row].name.endsWith('a'))
      const step = panels.chart.step, [bin, cell] = [...series[row].cells].find(([, cell]) => cell[1] === 1)
      return [panels.axes.x((bin + 0.5) * step), panels.axes.y(cell[1])] }"""

    def clicked() -> bool:
        left, top = tab.evaluate(at)  # the axis may have moved on before the click
        tab.mouse.click(box["x"] + left, box["y"] + top)
        tab.wait_for_timeout(500)
        return tab.locator(".lb-behind").is_visible()

    until(clicked)
    expect(tab.locator(".lb-behind")).to_contain_text("few.d2.a")
    tab.keyboard.press("Escape")

    nats.publish("few.d3.a", b'{"n": 5}')
    until(lambda: list(panels(tab)) == ["d1", "d2", "d3", "d10"])
    until(lambda: tab.evaluate(INK) == [True] * 4)

    end = datetime.fromtimestamp(before, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    start = datetime.fromtimestamp(before - 120, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    tab.goto(f"{running.url}/few?from={start}&to={end}")
    until(lambda: panels(tab) == {"d1": wanted, "d2": wanted, "d10": wanted})
    tab.goto(f"{running.url}/few?from={start}&to={end}&play=600")
    until(lambda: panels(tab) == {"d1": wanted, "d2": wanted, "d10": wanted})


def test_marks_keys_and_picture(running: App, tab: Page) -> None:
    """Each panel has the marks of events; the first panel has their texts, without overlaps. The crosshair
    shows exact values, also with the keyboard, and a zoom can be limited to one chart. The PNG has all
    panels, including those off-screen, with title, labels, marks and thresholds."""
    tab.add_init_script("window.hacked = () => { throw new Error('hacked') }")
    tab.goto(f"{running.url}/marks")
    until(lambda: [[len(line) for line in each.values()] for each in panels(tab).values()] == [[2]] * 5)
    tab.evaluate(ZOOM_IN)
    until(lambda: len(tab.evaluate(WRITTEN, "paint")) == 2)
    (one, at, width), (other, beside, _) = tab.evaluate(WRITTEN, "paint")
    assert one.startswith("<img")
    assert one != other
    assert at + width <= beside
    dashes = """() => [...document.querySelectorAll('.lb-panel canvas')].map(canvas => {
      const { data } = canvas.getContext('2d').getImageData(0, canvas.height / 2, canvas.width, 8)
      return data.some((alpha, i) => i % 4 === 3 && alpha === 255 && data[i - 3] === 11)
    })"""
    until(lambda: tab.evaluate(dashes) == [True] * 5)  # the theme's first colour is rgb(11, …)
    tab.locator(".lb-panel-plot").first.dblclick()
    until(lambda: tab.evaluate(ZOOMS) == [None, None])
    until(lambda: tab.evaluate("!document.querySelector('.lb-panels').parentElement.lookback.finer"))

    plots = tab.locator(".lb-panel-plot")
    tip = tab.locator(".lb-panel-tip:visible")
    plots.first.focus()
    tab.keyboard.press("End")
    expect(tip).to_contain_text("1,234,568.5")
    values = tab.locator(".lb-panel header span").all_inner_texts()
    assert values == [f"{1234568.5 + i:,}" for i in range(5)]
    tab.keyboard.press("ArrowLeft")
    expect(tip).to_contain_text("1,234,567")
    tab.keyboard.press("ArrowDown")
    expect(tip).to_contain_text("1,234,568")
    expect(plots.nth(1)).to_be_focused()
    assert None not in tab.evaluate(TIMES)
    tab.keyboard.press("Escape")
    expect(tip).to_have_count(0)
    assert tab.evaluate(TIMES) == [None] * 6

    box = box_of(tab, 0)
    tab.mouse.move(box["x"] + 5, box["y"] + 30)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] - 5, box["y"] + 30, steps=4)
    tab.mouse.up()
    until(lambda: None not in tab.evaluate(ZOOMS))
    tab.locator(".lb-alone input").first.check()
    until(lambda: [zoom is None for zoom in tab.evaluate(ZOOMS)] == [False, True])
    plots.first.dblclick()
    until(lambda: tab.evaluate(ZOOMS) == [None, None])

    tab.set_viewport_size({"width": 390, "height": 300})
    try:
        until(lambda: box_of(tab, 0)["x"] == box_of(tab, 1)["x"])
        plots.first.scroll_into_view_if_needed()
        tab.evaluate(ZOOM_IN)
        until(lambda: any(text.startswith("<img/src") for text, *_ in tab.evaluate(WRITTEN, "paint")))
        with tab.expect_download() as download:
            written = [text for text, *_ in tab.evaluate(WRITTEN, "picture")]
        assert {"<b>Exact</b>", "p0", "p1", "p2", "p3", "p4", "high 1,234,570"} < set(written)
        assert any(text.startswith("<img/src") for text in written)
        assert any(text.endswith(", GMT+5:30") for text in written), written
        assert download.value.suggested_filename == "chart.png"
        assert download.value.path().read_bytes()[:4] == b"\x89PNG"
    finally:
        tab.set_viewport_size({"width": 1920, "height": 1080})


def test_many_panels(running: App, tab: Page) -> None:
    """Of fifty-three panels, fifty are drawn and the rest are counted. Names are plain text. Twelve panels
    fit on a full-HD page, and a phone has one column."""
    tab.add_init_script("window.hacked = () => { throw new Error('hacked') }")
    tab.goto(f"{running.url}/many")
    until(lambda: len(panels(tab)) == 50)
    expect(tab.locator(".lb-panel")).to_have_count(50)
    expect(tab.locator(".lb-note", has_text="3 more are not drawn")).to_be_visible()
    assert tab.locator(".lb-panels img").count() == 0
    twelfth = tab.locator(".lb-panel").nth(11).bounding_box()
    assert twelfth is not None
    assert twelfth["y"] + twelfth["height"] < 1080
    tab.set_viewport_size({"width": 390, "height": 844})
    until(lambda: box_of(tab, 0)["x"] == box_of(tab, 1)["x"])
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    for share in (0.05, 0.5, 0.95):
        tip = tab.locator(".lb-panel-tip:visible")

        def pointed(share: float = share, tip: Locator = tip) -> bool:
            box = box_of(tab, 0)
            tab.mouse.move(box["x"] + box["width"] * share, box["y"] + 30)
            return tip.count() == 1

        until(pointed)
        place = tip.bounding_box()
        assert place is not None
        assert 0 <= place["x"] < place["x"] + place["width"] <= 390
    tab.set_viewport_size({"width": 1920, "height": 1080})


def test_explore_offers_panels(running: App, tab: Page) -> None:
    """Explore draws small multiples from a link, and includes them in the copied page."""
    tab.goto(f"{running.url}/explore?stream=MANY&field=n&panels=device&show=Copy+as+page")
    until(lambda: len(panels(tab)) == 50, 60)
    expect(tab.locator("code", has_text='facet="device"')).to_be_visible()
