"""The chart alone in a real Chromium: it grows, keeps the viewer's changes, and recovers from faults.

Slow, because charts are watched through several refreshes.
"""

import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.chart_app import (
    CELLS,
    CHANNEL,
    CHART,
    COUNT,
    NEWEST,
    RANGE,
    chart_app,
    lookback,
    opened,
    refreshes,
)
from tests.running import free_port
from tests.waiting import until

VIEWER = {"viewport": {"width": 1100, "height": 800}, "timezone_id": "Europe/Berlin"}
FULL = 3 * 250  # fewer than the cells of the chart "few" when its minute is full


def drag(tab: Page, start: float, end: float, *, release: bool = True) -> None:
    """Draw a zoom box between these shares of the chart's width."""
    box = tab.locator(f"{CHART} .nsewdrag").first.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    tab.mouse.move(box["x"] + box["width"] * start, middle)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * end, middle, steps=8)
    if release:
        tab.mouse.up()


def test_whole_picture_then_growth(url: str, tab: Page) -> None:
    """The first message has the whole look-back, and refreshes add to it."""
    opened(tab, url)
    assert tab.locator(CHART).evaluate(COUNT) > FULL
    before = tab.locator(CHART).evaluate(NEWEST)
    until(lambda: tab.locator(CHART).evaluate(NEWEST) > before)


def test_refresh_keeps_the_plot(url: str, tab: Page) -> None:
    """A refresh changes the lines without rebuilding the plot."""
    opened(tab, url)
    tab.evaluate(f"document.querySelector('{CHART} .nsewdrag').mark = 1")
    refreshes(tab, 5)
    assert tab.evaluate(f"document.querySelector('{CHART} .nsewdrag').mark") == 1


def test_zoom_survives_refreshes(url: str, tab: Page) -> None:
    """A zoomed range stays through refreshes, and a double click returns to following."""
    opened(tab, url)
    drag(tab, 0.3, 0.6)
    until(lambda: -1 < width(tab) - 18_000 < 1500 or width(tab) < 25_000)
    zoomed = tab.locator(CHART).evaluate(RANGE)
    refreshes(tab, 6)
    assert tab.locator(CHART).evaluate(RANGE) == zoomed
    tab.locator(f"{CHART} .nsewdrag").first.dblclick()
    until(lambda: width(tab) > 55_000)
    before = tab.locator(CHART).evaluate(RANGE)
    until(lambda: tab.locator(CHART).evaluate(RANGE)[1] > before[1])


def width(tab: Page) -> float:
    """The length of the x axis, in ms."""
    start, end = tab.locator(CHART).evaluate(RANGE)
    return float(end - start)


IN_VIEW = """(() => {
  const [start, end] = el._fullLayout.xaxis.range.map(x => +new Date(x))
  return el.data[0].x.filter(x => +new Date(String(x)) >= start && +new Date(String(x)) < end).length
})()"""


def test_a_line_is_the_same_without_plotly(url: str, tab: Page) -> None:
    """A line that has grown is drawn exactly as Plotly draws it; values beyond the axes are left to
    Plotly."""
    opened(tab, url)
    tab.mouse.move(0, 0)
    script = f"""() => {{
  const plot = document.querySelector('{CHART}'), chart = plot.parentElement.lookback
  const ends = () => [...plot.querySelectorAll('.scatterlayer .trace0 path.js-line')].map(path => {{
    const points = path.getAttribute('d').slice(1).split('L').map(point => Number(point.split(',')[1]))
    return [points[0], points.at(-1)]
  }})
  chart.draw()
  const before = ends()
  chart.longer.add(0)
  const extended = chart.extend()
  const after = ends()
  chart.extent.high = chart.extent.low
  chart.longer.add(0)
  return {{ before, extended, after, beyond: chart.extend() }}
}}"""
    ends: dict[str, Any] = {}

    def extended() -> bool:  # if the axis moved by a pixel in between, Plotly draws
        ends.update(tab.evaluate(script))
        return bool(ends["extended"])

    until(extended)
    assert not ends["beyond"]
    assert len(ends["before"]) == len(ends["after"]) == 1
    for before, after in zip(ends["before"][0], ends["after"][0], strict=True):
        assert abs(before - after) < 0.02


def test_zooming_in_brings_finer_bins(url: str, tab: Page) -> None:
    """A zoomed range shows more points than before, also after panning, refreshes and a change of theme; a
    double click returns to the whole."""
    opened(tab, f"{url}/?show=fast")
    tab.emulate_media(color_scheme="light")
    drag(tab, 0.5, 0.6)
    until(lambda: lookback(tab, "chart.finer && chart.finer.step < chart.step"))
    until(
        lambda: int(lookback(tab, IN_VIEW)) > 250
    )  # of 300 rows in six seconds; unzoomed, 60 bins have 120 ends
    zoomed = tab.locator(CHART).evaluate(RANGE)
    refreshes(tab, 3)
    tab.emulate_media(color_scheme="dark")
    refreshes(tab, 2)
    assert tab.locator(CHART).evaluate(RANGE) == zoomed
    assert int(lookback(tab, IN_VIEW)) > 250
    tab.keyboard.down("Shift")
    drag(tab, 0.2, 0.9)
    tab.keyboard.up("Shift")
    until(lambda: tab.locator(CHART).evaluate(RANGE)[0] < zoomed[0] - 3000)
    until(lambda: int(lookback(tab, IN_VIEW)) > 250)
    tab.locator(f"{CHART} .nsewdrag").first.dblclick()
    until(lambda: width(tab) > 55_000 and lookback(tab, "chart.finer === null"))
    assert lookback(tab, "chart.sentRange") is None


def test_a_zoomed_line_breaks_at_nulls(url: str, tab: Page) -> None:
    """A line without breaks, because each bin has values beside its null, breaks at each null in the zoomed
    range; no other line does."""
    opened(tab, f"{url}/?show=nulls")
    breaks = "[0, 1].map(i => el.data[i].y.filter(y => y === null).length)"
    assert lookback(tab, breaks) == [0, 0]
    drag(tab, 0.5, 0.6)
    until(lambda: lookback(tab, f"chart.finer && {breaks}[0] >= 5"), 30)
    refreshes(tab, 2)
    assert lookback(tab, f"[{breaks}[0] < 40, {breaks}[1]]") == [True, 0]
    tab.locator(f"{CHART} .nsewdrag").first.dblclick()
    until(lambda: lookback(tab, f"chart.finer === null && {breaks}[0] === 0"))


FAULTS = """faults => {
  const push = self.lookback_chart.push, held = []
  self.lookback_chart.push = ([component, done]) => {
    const fault = faults.shift()
    const draw = () => push([component, done])
    if (fault === "lose") return done(() => {})
    if (fault === "delay") return held.push(draw), done(() => {})
    draw()
    if (fault === "repeat") draw()
    while (held.length) held.shift()()
  }
  self.faults = faults
}"""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_lost_repeated_and_late_messages_heal(url: str, tab: Page, seed: int) -> None:
    """Whatever happens to messages on their way to the chart, it ends up with the same content as a new tab.
    Here they arrive with the page's elements; test_push_browser.py covers the tab's own websocket."""
    url += "/?way=refresh"
    opened(tab, url)
    faults = random.Random(seed).choices(["lose", "delay", "repeat", "none"], k=24)
    tab.evaluate(FAULTS, faults)
    until(lambda: tab.evaluate("self.faults.length") == 0, 60)
    number = int(lookback(tab, "chart.number"))
    until(lambda: int(lookback(tab, "chart.number")) > number + 1, 30)
    with tab.context.new_page() as other:
        opened(other, url)
        refreshes(tab, 2)
        held = [
            lookback(page, f"[{CELLS}, chart.oldest, Math.floor(chart.now / chart.step)]")
            for page in (other, tab)
        ]
    (new, *_), (healed, *_) = held
    oldest, now = max(oldest for _, oldest, _ in held), min(now for *_, now in held)
    assert oldest < now - 100
    for series, cells in new.items():
        for at in map(str, range(oldest, now - 20)):  # later bins are not complete yet
            assert healed[series].get(at) == cells.get(at)


def test_refresh_does_not_break_a_drag(url: str, tab: Page) -> None:
    """A zoom box that is held while refreshes arrive still zooms."""
    opened(tab, url)
    drag(tab, 0.3, 0.6, release=False)
    refreshes(tab, 4)
    tab.mouse.up()
    until(lambda: width(tab) < 25_000)


def other_elements(tab: Page, count: int) -> None:
    """Wait until the chart has moved to another element `count` times."""
    element = f"document.querySelector('{CHART}')?.parentElement"
    for _ in range(count):
        until(lambda: tab.evaluate(f"Boolean(self.stood = {element})"))
        until(lambda: tab.evaluate(f"![undefined, self.stood].includes({element})"))


def test_another_element_keeps_what_the_viewer_did(url: str, tab: Page) -> None:
    """A chart for which Streamlit creates another element continues as it was: a drag under way, the zoom,
    hidden series, the text in the search, and the focus."""
    opened(tab, f"{url}/?show=many&moves=1")
    search, keys = tab.locator(".lb-search"), tab.locator(".lb-keys button:visible")
    other_elements(tab, 1)
    drag(tab, 0.3, 0.6, release=False)
    other_elements(tab, 2)
    tab.mouse.up()
    until(lambda: width(tab) < 25_000)
    zoomed = tab.locator(CHART).evaluate(RANGE)
    tab.locator(".lb-keys button").first.click()
    search.click()
    search.fill("Hall-1.")
    other_elements(tab, 2)
    expect(search).to_be_focused()
    expect(search).to_have_value("Hall-1.")
    expect(keys).to_have_count(5)
    assert tab.locator(CHART).evaluate(RANGE) == zoomed
    hidden = "el => el._fullData.filter(trace => trace.visible === 'legendonly').length"
    assert tab.locator(CHART).evaluate(hidden) == 1
    tab.locator(".lb-chart-title").click()
    other_elements(tab, 2)
    expect(search).not_to_be_focused()


def test_hidden_series_stay_hidden(url: str, tab: Page) -> None:
    """A series that was hidden in the legend stays hidden while others grow."""
    opened(tab, url)
    key = tab.locator(".lb-legend button").first
    key.click()
    hidden = "el => el._fullData.map(trace => trace.visible)"
    until(lambda: tab.locator(CHART).evaluate(hidden)[0] == "legendonly")
    refreshes(tab, 6)
    assert tab.locator(CHART).evaluate(hidden) == ["legendonly", True, True]
    expect(key).to_have_attribute("aria-pressed", "false")


def test_one_series_alone(url: str, tab: Page) -> None:
    """A double click in the legend leaves one series; another double click shows all again."""
    opened(tab, url)
    hidden = "el => el._fullData.map(trace => trace.visible)"
    tab.locator(".lb-legend button").nth(1).dblclick()
    until(lambda: tab.locator(CHART).evaluate(hidden) == ["legendonly", True, "legendonly"])
    tab.locator(".lb-legend button").nth(1).dblclick()
    until(lambda: tab.locator(CHART).evaluate(hidden) == [True, True, True])


def test_a_series_whose_rows_have_left_is_gone_from_the_legend(url: str, tab: Page) -> None:
    """When the last row of a series has left the look-back, the legend drops its key; the other keys stay,
    with their colours."""
    opened(tab, f"{url}/?show=leaving")
    keys = tab.locator(".lb-keys button")
    expect(keys).to_have_text(["goes", "stays", "too"])
    colours = "keys => keys.map(key => getComputedStyle(key.firstChild).borderTopColor)"
    before = keys.evaluate_all(colours)
    expect(keys).to_have_text(["stays", "too"])
    assert keys.evaluate_all(colours) == before[1:]


def test_legend_is_searched(url: str, tab: Page) -> None:
    """Among many series, only the found ones stay in the legend, also through refreshes. Enter draws only
    them, and Enter again draws all. A chart with few series has no search."""
    opened(tab, url)
    expect(tab.locator(".lb-search")).to_be_hidden()
    opened(tab, f"{url}/?show=many")
    search, keys = tab.locator(".lb-search"), tab.locator(".lb-keys button:visible")
    expect(keys).to_have_count(14)
    search.click()
    search.press_sequentially("Hall-1.", delay=20)
    expect(keys).to_have_count(5)
    refreshes(tab, 4)
    expect(keys).to_have_count(5)
    expect(search).to_be_focused()
    drawn = "el => el.data.filter(trace => trace.visible === true).length"
    search.press("Enter")
    until(lambda: tab.locator(CHART).evaluate(drawn) == 5)
    expect(keys).to_have_count(5)
    search.press("Enter")
    until(lambda: tab.locator(CHART).evaluate(drawn) == 14)
    keys.first.dblclick()
    until(lambda: tab.locator(CHART).evaluate(drawn) == 1)
    search.fill("nowhere")
    expect(tab.locator(".lb-keys")).to_contain_text("No series matches")
    expect(keys).to_have_count(0)
    search.fill("")
    expect(keys).to_have_count(14)


def test_the_rest_is_one_band(url: str, tab: Page) -> None:
    """The merged series are a band below the lines, last in the legend, and stay hidden once hidden."""
    opened(tab, f"{url}/?show=folded")
    bands = "el => el._fullData.map(trace => [trace.name, trace.fill, trace.visible])"
    shown = tab.locator(CHART).evaluate(bands)
    assert [fill for _, fill, _ in shown] == ["toself", *["none"] * 20]
    assert shown[0][0] == "17 others"
    key = tab.locator(".lb-keys button").last
    expect(key).to_have_text("17 others")
    key.click()
    until(lambda: tab.locator(CHART).evaluate(bands)[0][2] == "legendonly")
    refreshes(tab, 3)
    assert [visible for *_, visible in tab.locator(CHART).evaluate(bands)] == ["legendonly", *[True] * 20]


def test_axis_shows_the_viewers_clock(url: str, tab: Page) -> None:
    """The end of the axis is the viewer's local time, also outside of UTC."""
    opened(tab, url)
    end = datetime.fromisoformat(tab.locator(CHART).evaluate("el => el._fullLayout.xaxis.range[1]"))
    there = datetime.now(ZoneInfo("Europe/Berlin")).replace(tzinfo=None)
    assert abs(end - there) < timedelta(minutes=5)


def test_picture_downloads(url: str, tab: Page) -> None:
    """The chart can be saved as a PNG."""
    opened(tab, url)
    tab.locator(CHART).hover()
    with tab.expect_download() as waiting:
        tab.locator(".modebar-btn").first.click()
    assert Path(waiting.value.path()).read_bytes().startswith(b"\x89PNG")


def test_reload_shows_everything(url: str, tab: Page) -> None:
    """After a reload the chart has the whole look-back again."""
    opened(tab, url)
    refreshes(tab, 2)
    opened(tab, url)
    assert tab.locator(CHART).evaluate(COUNT) > FULL


def test_other_page_and_back_shows_everything(url: str, tab: Page) -> None:
    """A viewer who returns from another page sees the whole look-back at once."""
    opened(tab, url)
    refreshes(tab, 2)
    tab.get_by_role("link", name="Nothing").click()
    expect(tab.get_by_text("Nothing here")).to_be_visible()
    tab.get_by_role("link", name="Charts").click()
    expect(tab.locator(CHART)).to_be_visible(timeout=30_000)
    until(lambda: tab.locator(CHART).evaluate(COUNT) > FULL)
    asked = tab.locator(CHART).evaluate("el => el.parentElement.lookback.asked")
    assert asked is None or asked < 0  # -Infinity: nothing had to be requested


def test_other_page_and_back_keeps_what_the_viewer_did(url: str, tab: Page) -> None:
    """A viewer who returns after the chart itself was removed finds the zoom, the hidden series and the text
    of the search."""
    opened(tab, f"{url}/?show=many")
    search, keys = tab.locator(".lb-search"), tab.locator(".lb-keys button:visible")
    drag(tab, 0.3, 0.6)
    until(lambda: width(tab) < 25_000)
    zoomed = tab.locator(CHART).evaluate(RANGE)
    keys.first.click()
    search.fill("hall-1.")
    left = tab.locator(CHART).evaluate_handle("el => el.parentElement.lookback")
    tab.get_by_role("link", name="Nothing").click()
    expect(tab.get_by_text("Nothing here")).to_be_visible()
    until(lambda: left.evaluate("chart => chart.ended"))
    tab.go_back()
    expect(keys).to_have_count(5)
    expect(search).to_have_value("hall-1.")
    expect(search).not_to_be_focused()
    assert tab.locator(CHART).evaluate(RANGE) == zoomed
    hidden = "el => el._fullData.filter(trace => trace.visible === 'legendonly').length"
    assert tab.locator(CHART).evaluate(hidden) == 1


def test_gap_heals(url: str, tab: Page) -> None:
    """If a message builds on one that the chart does not hold, the chart requests everything anew."""
    opened(tab, f"{url}/?way=refresh")
    tab.evaluate(
        f"""() => {{
            const chart = document.querySelector('{CHART}').parentElement.lookback
            chart.number = 0
            for (const series of chart.series) series.cells.clear()
        }}"""
    )
    until(lambda: tab.locator(CHART).evaluate(COUNT) > FULL)


def test_zoomed_while_the_websocket_is_down(url: str, tab: Page) -> None:
    """A range zoomed while the websocket is down gets its finer bins once the websocket is back."""
    opened(tab, f"{url}/?show=fast")
    tab.evaluate(CHANNEL.format("channel.connect = () => {}, channel.leave()"))
    drag(tab, 0.8, 0.95)
    until(lambda: lookback(tab, "chart.zoom.x && chart.wanted === undefined"))
    tab.evaluate(CHANNEL.format("delete channel.connect, channel.connect()"))
    until(lambda: lookback(tab, "chart.finer !== null"))


@pytest.mark.parametrize("more", ["", "&slow=1"])
def test_a_restart_of_the_server_heals(browser: Browser, tmp_path: Path, more: str) -> None:
    """After a restart of the server, an open chart continues with its zoom and its finer bins, also if the
    tab's websocket opens before the script has reached the chart."""
    port, context = free_port(), browser.new_context(viewport={"width": 1100, "height": 800})
    tab = context.new_page()
    with chart_app(tmp_path / "first", port=port) as url:
        opened(tab, f"{url}/?show=fast{more}")
        drag(tab, 0.8, 0.95)  # recent enough to be in the second server's look-back
        until(lambda: lookback(tab, "chart.finer !== null"))
        zoomed = tab.locator(CHART).evaluate(RANGE)
        lookback(tab, "chart.series.before = true")
    with chart_app(tmp_path / "second", port=port):
        until(lambda: lookback(tab, "!chart.series.before"), 60)
        until(lambda: lookback(tab, "chart.finer !== null && chart.series[0].cells.size > 300"))
        assert tab.locator(CHART).evaluate(RANGE) == zoomed
        context.close()


def test_markup_in_names_is_text(url: str, tab: Page) -> None:
    """Names, titles and units that look like HTML are plain text in legend and hover."""
    opened(tab, url)
    expect(tab.get_by_text("Chart <i>few</i>")).to_be_visible()
    assert "<b>bold</b> & <img src=x onerror=alert(1)>" in tab.locator(".lb-legend").inner_text()
    tab.locator(CHART).hover(position={"x": 400, "y": 120})
    expect(tab.locator(f"{CHART} .hoverlayer")).to_contain_text("<b>bold</b>", timeout=30_000)
    assert "<u>°C</u>" in (tab.locator(f"{CHART} .hoverlayer").text_content() or "")
    assert tab.locator(f"{CHART} :is(b, i, u, img, [style*=bold]), .lb-legend b").count() == 0


def test_below_a_base_path(browser: Browser, tab: Page, tmp_path: Path) -> None:
    """The chart finds its files when the app is served below a path."""
    with chart_app(tmp_path / "log", base="some/where") as url:
        opened(tab, url)
        tab.goto("about:blank")


def test_files_are_fetched_once(url: str, browser: Browser) -> None:
    """The chart's files have their content's hash in the URL, so a browser can cache them for good."""
    context = browser.new_context()
    tab = context.new_page()
    seen: list[tuple[str, str]] = []
    tab.on("response", lambda r: seen.append((r.url, r.headers.get("cache-control", ""))))
    opened(tab, url)
    context.close()
    ours = [(address, cache) for address, cache in seen if "/lookback/" in address]
    names = {address.rpartition("/")[2].partition("?")[0] for address, _ in ours}
    assert names >= {"tab.js", "channel.js", "status.js", "live_chart.js", "plotly.min.js"}
    assert len(ours) == len(names)
    assert all("?v=" in address and "immutable" in cache for address, cache in ours)


def test_narrow(url: str, browser: Browser) -> None:
    """At 360 pixels, a chart with many series fits the width and keeps enough room for its lines."""
    context = browser.new_context(viewport={"width": 360, "height": 800})
    tab = context.new_page()
    opened(tab, f"{url}/?show=many")
    box = tab.locator(CHART).bounding_box()
    lines = tab.locator(f"{CHART} .nsewdrag").first.bounding_box()
    assert box is not None
    assert lines is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    assert lines["height"] > 240
    legend = tab.locator(".lb-legend").bounding_box()
    assert legend is not None
    assert legend["height"] < 100
    assert legend["x"] + legend["width"] <= 360
    context.close()
