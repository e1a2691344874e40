"""The charts of a page in a real Chromium: they share a crosshair and a zoom."""

import random
from functools import partial
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.chart_app import CHANNEL, CHART, COUNT, RANGE, refreshes
from tests.waiting import until

VIEWER = {"viewport": {"width": 1100, "height": 800}, "timezone_id": "Asia/Kolkata"}
LINES = f"""() => [...document.querySelectorAll('{CHART}')].map(plot => {{
  const line = plot.querySelector('.lb-crosshair')
  if (!line || line.hidden) return null
  const chart = plot.parentElement.lookback, axis = chart.timeAxis()
  return axis.time(line.getBoundingClientRect().left - plot.getBoundingClientRect().left - axis.left)
}})"""
"""By chart: the time of its crosshair, in ms since the epoch; null without one."""


def opened(tab: Page, url: str, show: str) -> Locator:
    """Open a page with these charts, and wait until each is drawn."""
    tab.goto(f"{url}/?show={show}")
    charts = tab.locator(CHART)
    count = len(show.split(","))
    expect(charts).to_have_count(count)
    until(lambda: all(charts.nth(i).evaluate(COUNT) > 0 for i in range(count)))
    until(lambda: all(lookback(charts.nth(i), "Boolean(chart.drawn)") for i in range(count)))
    return charts


def lookback(chart: Locator, expression: str) -> Any:
    """The value of a JavaScript expression about `chart`."""
    return chart.evaluate(f"el => {{ const chart = el.parentElement.lookback; return {expression} }}")


def point(tab: Page, chart: Locator, share: float) -> None:
    """Point at this share of the chart's width."""
    box = chart.locator(".nsewdrag").first.bounding_box()
    assert box is not None
    tab.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] / 2)


def drag(tab: Page, chart: Locator, start: float, end: float) -> None:
    """Draw a zoom box between these shares of the chart's width."""
    chart.scroll_into_view_if_needed()
    point(tab, chart, start)
    tab.mouse.down()
    box = chart.locator(".nsewdrag").first.bounding_box()
    assert box is not None
    tab.mouse.move(box["x"] + box["width"] * end, box["y"] + box["height"] / 2, steps=8)
    tab.mouse.up()


def ranges(charts: Locator) -> list[list[float]]:
    """The start and end of each chart's zoom, in whole ms since the epoch; empty if it is not zoomed."""
    found = [lookback(charts.nth(i), "chart.zoomedTimes()") for i in range(charts.count())]
    return [[round(time) for time in each or []] for each in found]


def test_one_crosshair(url: str, tab: Page) -> None:
    """Pointing at a time draws a line at that time in every chart on the screen, even with different bins; it
    disappears when the pointer leaves."""
    charts = opened(tab, url, "few,fast")
    for of in (0, 1):
        for share in (0.2, 0.9):
            point(tab, charts.nth(of), share)
            box = charts.nth(of).locator(".nsewdrag").first.bounding_box()
            assert box is not None
            wanted = "chart.timeAxis().time({})"

            def same(of: int = of, share: float = share, wanted: str = wanted, box: Any = box) -> bool:
                times = tab.evaluate(LINES)
                at = lookback(charts.nth(of), wanted.format(box["width"] * share))
                return None not in times and all(abs(time - at) < 600 for time in times)

            until(same)
    tab.mouse.move(5, 5)
    until(lambda: tab.evaluate(LINES) == [None, None])


def test_crosshair_costs_no_drawing(url: str, tab: Page) -> None:
    """While the pointer moves, Plotly redraws no other chart, and hover still works. A chart far below the
    screen has no line."""
    charts = opened(tab, url, "few,many,fast,folded")
    tab.evaluate(CHANNEL.format("channel.connect = () => {}, channel.leave()"))  # no news, no drawing
    point(tab, charts.first, 0.3)
    tab.evaluate(
        f"""() => {{
  const {{ library }} = document.querySelector('{CHART}').parentElement.lookback
  const react = library.react
  window.drawn = []
  library.react = (plot, ...more) => (window.drawn.push(plot), react(plot, ...more))
}}"""
    )
    for step in range(20):
        point(tab, charts.first, 0.3 + step / 40)
    until(lambda: tab.evaluate(LINES)[1] is not None)
    assert tab.evaluate(LINES)[3] is None
    others = f"[...document.querySelectorAll('{CHART}')].slice(1)"
    assert tab.evaluate(f"window.drawn.filter(plot => {others}.includes(plot)).length") <= 3
    expect(charts.first.locator(".hoverlayer")).to_contain_text("third")


def test_crosshair_through_a_drag_and_news(url: str, tab: Page) -> None:
    """The line stays at the pointer while data arrives and the axis moves. Drawing a zoom box still works."""
    charts = opened(tab, url, "few,fast")
    point(tab, charts.first, 0.5)
    until(lambda: tab.evaluate(LINES)[1] is not None)
    refreshes(tab, 3)
    box = charts.first.locator(".nsewdrag").first.bounding_box()
    assert box is not None
    until(
        lambda: (
            abs(
                charts.first.locator(".lb-crosshair").evaluate("line => line.getBoundingClientRect().left")
                - box["x"]
                - box["width"] / 2
            )
            < 2
        )
    )
    drag(tab, charts.first, 0.3, 0.6)
    until(lambda: ranges(charts)[0])
    expect(charts.first.locator("xpath=..").get_by_text("Zoom only this chart")).to_be_visible()


def test_one_zoom(url: str, tab: Page) -> None:
    """A zoom in one chart applies to all, with finer data for charts on the screen, and for the rest once
    they are. Data still arrives, and a double click in any chart resets all."""
    charts = opened(tab, url, "fast,few,many,folded,nulls")
    drag(tab, charts.first, 0.8, 0.95)
    until(lambda: len(ranges(charts)[0]) == 2)
    until(lambda: all(each == ranges(charts)[0] for each in ranges(charts)))
    for i in (0, 1):
        until(lambda i=i: lookback(charts.nth(i), "chart.finer !== null"))  # type: ignore[misc]
    assert lookback(charts.nth(4), "[chart.finer, chart.sentRange]") == [None, None]
    start, end = ranges(charts)[0]
    charts.nth(4).scroll_into_view_if_needed()
    until(lambda: lookback(charts.nth(4), "chart.finer !== null"))
    shift = lookback(charts.nth(4), "chart.offset")
    until(
        lambda: (
            [
                round(t + shift)
                for t in charts.nth(4).evaluate(RANGE.replace("+new Date(x)", "Date.parse(x+'Z')"))
            ]
            == [start, end]
        )
    )
    newest = "Math.max(...chart.series.map(series => Math.max(...series.cells.keys())))"
    before = lookback(charts.nth(4), newest)
    until(lambda: lookback(charts.nth(4), newest) > before)
    assert ranges(charts) == [[start, end]] * 5
    charts.nth(3).locator(".nsewdrag").first.dblclick()
    until(lambda: ranges(charts) == [[]] * 5)


def test_zoom_on_and_back(url: str, tab: Page) -> None:
    """A further zoom, in the same chart or another, and a pan apply to all charts. The button above a chart
    resets all, and the axes move again."""
    charts = opened(tab, url, "few,fast")
    for of, start, end in ((0, 0.1, 0.8), (0, 0.2, 0.7), (1, 0.2, 0.7), (0, 0.3, 0.6)):
        before = ranges(charts)
        drag(tab, charts.nth(of), start, end)
        until(partial(changed, charts, before))
    before = ranges(charts)
    tab.keyboard.down("Shift")
    drag(tab, charts.nth(1), 0.3, 0.5)
    tab.keyboard.up("Shift")
    until(partial(changed, charts, before))
    widths = [round(end - start) for start, end in (before[0], ranges(charts)[0])]
    assert abs(widths[0] - widths[1]) < 3
    point(tab, charts.nth(0), 0.5)
    charts.nth(0).locator(".modebar-btn").last.click()
    until(lambda: ranges(charts) == [[], []])
    for i in range(2):
        shown = charts.nth(i).evaluate(RANGE)
        until(partial(moves_on, charts.nth(i), shown))


def changed(charts: Locator, before: list[list[float]]) -> bool:
    """True if all charts have the same zoom, and not the one before."""
    now = ranges(charts)
    return all(each == now[0] for each in now) and now[0] != before[0] and now[0] != []


def moves_on(chart: Locator, shown: list[float]) -> bool:
    """True if the axis ends later than before."""
    return bool(chart.evaluate(RANGE)[1] > shown[1])


def test_one_chart_to_itself(url: str, tab: Page) -> None:
    """A chart with "Zoom only this chart" keeps its own zoom: zooms of other charts do not change it. Once
    unchecked, it takes the zoom of the others."""
    charts = opened(tab, url, "few,many,fast")
    first = charts.nth(0).locator("xpath=..").get_by_label("Zoom only this chart")
    second = charts.nth(1).locator("xpath=..").get_by_label("Zoom only this chart")
    expect(first).to_have_count(0)
    drag(tab, charts.nth(0), 0.4, 0.7)
    until(lambda: all(ranges(charts)))
    mine = ranges(charts)[0]
    first.check()
    until(lambda: ranges(charts) == [mine, [], []])
    drag(tab, charts.nth(2), 0.2, 0.6)
    until(lambda: ranges(charts)[1] == ranges(charts)[2] != [])
    theirs = ranges(charts)[2]
    assert ranges(charts)[0] == mine
    second.check()
    until(lambda: ranges(charts) == [mine, [], theirs])
    first.uncheck()
    until(lambda: ranges(charts) == [theirs, [], theirs])
    second.uncheck()
    until(lambda: ranges(charts) == [theirs] * 3)
    charts.nth(1).locator(".nsewdrag").first.dblclick()
    until(lambda: ranges(charts) == [[]] * 3)
    for i in range(3):
        charts.nth(i).scroll_into_view_if_needed()
        expect(charts.nth(i).locator("xpath=..").get_by_label("Zoom only this chart")).to_have_count(0)


def test_zooms_in_any_order_settle(url: str, tab: Page) -> None:
    """After any sequence of zooms in two charts, all charts end at the same zoom and stay there."""
    charts = opened(tab, url, "few,fast,many")
    chance = random.Random(18)
    zooms = [(chance.randrange(2), chance.uniform(0, 0.4), chance.uniform(0.5, 1)) for _ in range(25)]
    tab.evaluate(
        f"""async zooms => {{
  const charts = [...document.querySelectorAll('{CHART}')].map(plot => plot.parentElement.lookback)
  window.zooms = 0
  for (const chart of charts) {{
    const zoomTo = chart.zoomTo.bind(chart)
    chart.zoomTo = range => (window.zooms++, zoomTo(range))
  }}
  for (const [of, from, to] of zooms) {{
    const axis = charts[of].timeAxis(), text = px => charts[of].local(axis.time(px))
    charts[of].library.relayout(charts[of].plot,
      {{ 'xaxis.range[0]': text(axis.width * from), 'xaxis.range[1]': text(axis.width * to) }})
    if (to > 0.8) await new Promise(requestAnimationFrame)
  }}
}}""",
        zooms,
    )
    until(lambda: len({str(each) for each in ranges(charts)}) == 1)
    settled = ranges(charts)
    assert settled[0]
    count = tab.evaluate("window.zooms")
    assert count <= 2 * len(zooms)
    refreshes(tab, 4)
    assert ranges(charts) == settled
    assert tab.evaluate("window.zooms") == count


def test_another_page_has_no_zoom(url: str, tab: Page) -> None:
    """On another page no chart is zoomed, not even the same chart; back on the first page, the zoom is still
    there."""
    charts = opened(tab, url, "few,many")
    drag(tab, charts.nth(0), 0.4, 0.7)
    until(lambda: all(ranges(charts)))
    mine = ranges(charts)[0]
    left = charts.first.evaluate_handle("el => el.parentElement.lookback")
    tab.get_by_role("link", name="Others").click()
    until(lambda: left.evaluate("chart => chart.ended"))
    until(lambda: charts.count() == 1 and lookback(charts.first, "Boolean(chart.drawn)"))
    assert ranges(charts) == [[]]
    tab.go_back()
    until(lambda: charts.count() == 2 and all(ranges(charts)))
    assert ranges(charts) == [mine, mine]
    charts.nth(1).locator(".nsewdrag").first.dblclick()
    until(lambda: ranges(charts) == [[], []])


def test_a_chart_that_comes_later(url: str, tab: Page) -> None:
    """A chart that is drawn on a page that is already zoomed has the same zoom."""
    charts = opened(tab, url, "few,many")
    drag(tab, charts.nth(0), 0.4, 0.7)
    until(lambda: all(ranges(charts)))
    mine = ranges(charts)[0]
    lookback(charts.nth(1), "(chart.zoom = { x: null, y: null }, chart.drawn = false, chart.draw())")
    assert ranges(charts) == [mine, mine]
