"""Axes, lines and units of charts, in the whole app and a real browser."""

import json
import re
import time
from collections.abc import Iterator

import pandas as pd
import pytest
from nats.js.api import StreamConfig
from playwright.sync_api import BrowserContext, Page, expect

from components.charts.line_chart import drawing_options
from nats_client import LookbackError
from tests.nats import NatsServer, running_server
from tests.publisher import Publisher
from tests.running import App, app
from tests.waiting import until

YOUNG = '''"""Young."""
import streamlit as st

from components import line_chart, live, metric

rows = live(st.query_params["stream"], look_back=st.query_params["reach"])
line_chart(rows, "n", by="_subject")
metric(rows, "n", by="_subject")
'''
HELD = '''"""Held."""
from components import line_chart, live

line_chart(live("HELD", look_back="PT20S"), "v", by="_subject", steps=True)
'''
BEFORE = '''"""Before."""
from components import line_chart, live

line_chart(live("BEFORE", look_back="PT3S"), "n", by="_subject", steps=True)
'''
SCALES = '''"""Scales."""
from components import line_chart, live, scatter_chart

rows = live("SCALES")
line_chart(rows, "v", by="_subject", log_y=True, thresholds={"high": 500, "none": -1}, key="log")
line_chart(rows, "v", by="_subject", from_zero=True, key="zero")
scatter_chart(rows, "n", "v", log_y=True)
'''
UNITS = '''"""Units."""
from components import alerts, latest_values, line_chart, live, metric, newest_rows

rows = live("UNITS")
line_chart(rows, "size", unit="bytes", thresholds={"full": 1e9}, key="size")
line_chart(rows, "took", unit="ms", key="took", log_y=True)
line_chart(rows, "exact", key="exact")
metric(rows, "size", unit="bytes")
metric(rows, "took", unit="ms")
metric(rows, "big")
latest_values(rows, "size", unit="bytes")
latest_values(rows, "exact")
latest_values(rows, "big")
newest_rows(rows, units={"size": "bytes", "took": "ms"})
alerts(rows, "size", {"full": 1e9}, unit="bytes")
'''
VIEWER = {"viewport": {"width": 1100, "height": 800}}
PAGES = {"units": UNITS, "young": YOUNG, "held": HELD, "before": BEFORE, "scales": SCALES}
CHART = "document.querySelector('.js-plotly-plot')?.parentElement.lookback"
AXIS = f"{CHART}?.drawn && {CHART}.plot._fullLayout.xaxis.range.map({CHART}.utc, {CHART})"


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server without streams."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(scope="module")
def running(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with the pages of this file."""
    folder = tmp_path_factory.mktemp("pages")
    for name, source in PAGES.items():
        (folder / f"{name}.py").write_text(source)
    with app(tmp_path_factory.mktemp("app"), NATS_URL=nats.url, LOOKBACK_PAGES=str(folder)) as running:
        yield running


def shown(tab: Page) -> tuple[float, float]:
    """The start and end of the x axis, in seconds since the epoch."""
    until(lambda: tab.evaluate(f"Boolean({AXIS})"))
    start, end = tab.evaluate(AXIS)
    return start / 1000, end / 1000


def length(tab: Page) -> float:
    """The length of the x axis, in seconds."""
    start, end = shown(tab)
    return end - start


def young(running: App, stream: str, reach: str = "PT5M") -> str:
    """The URL of the page about a stream, with a look-back of `reach`."""
    return f"{running.url}/young?stream={stream}&reach={reach}"


def test_a_young_stream(nats: NatsServer, running: App, tab: Page, context: BrowserContext) -> None:
    """If a stream is younger than the look-back, the axis starts at its first row and keeps that start while
    the line grows; a metric's small line also starts at its left edge. This holds for each viewer, with and
    without the websocket, after a zoom, a purge and a restart of the server. A stretch has its own axis."""
    nats.add_stream("Y", ["y.>"])
    nats.publish("y.a", b'{"n": 1}')
    began = time.time()
    tab.goto(young(running, "Y"))
    start, end = shown(tab)
    assert began - 2.1 < start <= began
    assert end - start < 60
    nats.publish("y.a", b'{"n": 2}')
    until(lambda: tab.evaluate(f"{CHART}.series[0].cells.size") == 2)
    assert shown(tab)[0] == start
    small = "document.querySelector('.lb-metric svg')"
    left = f"Number({small}.getAttribute('viewBox').split(' ')[0])"
    first = f"Number({small}.lastChild.getAttribute('d').slice(1).split(' ')[0])"
    until(lambda: 0 <= tab.evaluate(f"{first} - {left}") <= 1)
    assert tab.evaluate(left) > 30

    other = context.new_page()
    other.route_web_socket(re.compile("/lookback/push$"), lambda route: route.close(code=1011))
    other.goto(young(running, "Y"))
    assert shown(other)[0] == start

    zoom = {f"xaxis.range[{i}]": start * 1000 + 500 + 1000 * i for i in (0, 1)}
    local = f"Object.fromEntries(Object.entries(zoom).map(([at, ms]) => [at, {CHART}.local(ms)]))"
    tab.evaluate(f"zoom => {CHART}.library.relayout({CHART}.plot, {local})", zoom)
    until(lambda: length(tab) == 1)
    nats.publish("y.a", b'{"n": 3}')
    until(lambda: tab.evaluate(f"{CHART}.series[0].cells.size") == 3)
    assert length(tab) == 1
    tab.locator(".js-plotly-plot .nsewdrag").first.dblclick()
    until(lambda: length(tab) > 1)
    assert shown(tab)[0] == start

    nats.run(lambda nc: nc.jetstream().purge_stream("Y", keep=1))
    until(lambda: tab.evaluate(f"{CHART}.series[0].cells.size") == 1)
    assert shown(tab)[0] == start
    nats.kill()
    expect(tab.locator(".lb-word")).to_have_text("Disconnected")
    nats.start()
    expect(tab.locator(".lb-word")).to_have_text("Live")
    nats.publish("y.a", b'{"n": 4}')
    until(lambda: tab.evaluate(f"{CHART}.series[0].cells.size") == 2)
    assert shown(tab)[0] == start
    assert shown(other)[0] == start
    other.close()

    ended = pd.Timestamp.now("UTC").floor("s").tz_localize(None)
    query = f"from={(ended - pd.Timedelta(minutes=10)).isoformat()}Z&to={ended.isoformat()}Z"
    tab.goto(f"{young(running, 'Y')}&{query}")
    until(lambda: length(tab) == 600)


def test_it_grows_until_the_look_back_is_full(nats: NatsServer, running: App, tab: Page) -> None:
    """The axis grows in few steps, never shrinks, and slides once it is as long as the look-back. After a
    reload it shows the whole look-back."""
    nats.add_stream("G", ["g.>"])
    nats.publish("g.b", b'{"m": 1}')
    with Publisher([nats.url], "g.a", rate=4):
        tab.goto(young(running, "G", "PT12S"))
        seen = [shown(tab)]
        until(lambda: seen.append(shown(tab)) or seen[-1][0] > seen[0][0] + 1, 60)
        tab.reload()
        assert round(length(tab), 3) == 12
    starts, lengths = zip(*((start, end - start) for start, end in seen), strict=True)
    assert list(lengths) == sorted(lengths)
    assert len({round(each, 3) for each in lengths}) < 15
    assert round(lengths[-1], 3) == 12
    growing = [start for start, each in zip(starts, lengths, strict=True) if each < 11.9]
    assert len(set(growing)) == 1


def line(tab: Page, series: str) -> list[tuple[float, float | None]]:
    """The points of a line as Plotly has them: seconds since the epoch, and values."""
    script = f"""name => {{
      const chart = {CHART}, trace = chart.plot.data.find(trace => trace.name === name);
      return trace ? trace.x.map((x, i) => [(+x + chart.offset) / 1000, trace.y[i]]) : [];
    }}"""
    return [(at, value) for at, value in tab.evaluate(script, series)]


def test_values_hold(nats: NatsServer, running: App, tab: Page) -> None:
    """With steps, the newest value of a bin holds until now, even after its message has left the look-back. A
    null ends the previous value. After a reload, values that have left the look-back are still drawn."""
    nats.add_stream("HELD", ["h.>"])
    nats.publish("h.valve", b'{"v": 0}', b'{"v": 1}', b'{"v": 0.5}')
    nats.publish("h.null", b'{"v": 3}')
    nats.publish("h.null", b'{"v": null}')
    changed = time.time()
    tab.goto(f"{running.url}/held")
    until(lambda: tab.evaluate(f"Boolean({CHART}?.drawn)"))
    until(lambda: line(tab, "valve")[-1][0] > changed + 2)
    points = line(tab, "valve")
    held = [value for _, value in points]  # in one bin, or in several
    assert held[0] == 0
    assert max(value for value in held if value is not None) == 1
    assert held[-2:] == [0.5, 0.5]
    assert abs(points[0][0] - changed) < 2
    now = tab.evaluate(f"{CHART}.shownAt") / 1000
    assert abs(points[-1][0] - now) < 0.1
    assert [value for _, value in line(tab, "null")][-1] is None
    with Publisher([nats.url], "h.other", rate=2):
        until(lambda: tab.evaluate(f"{CHART}.series.some(series => series.held)"), 60)
        for _ in range(2):
            until(lambda: [value for _, value in line(tab, "valve")] == [0.5, 0.5], 60)
            start, end = (at for at, _ in line(tab, "valve"))
            assert round(end - start) == 20
            until(lambda: not [value for _, value in line(tab, "null") if value is not None])
            tab.reload()
            until(lambda: tab.evaluate(f"Boolean({CHART}?.drawn)"))


def test_values_from_before(nats: NatsServer, running: App, tab: Page) -> None:
    """With steps, a line begins with the value that held before the look-back, if the stream allows direct
    gets."""
    config = StreamConfig(name="BEFORE", subjects=["before.>"], allow_direct=True)
    nats.run(lambda nc: nc.jetstream().add_stream(config))
    nats.publish("before.valve", b'{"n": 1}', b'{"n": 0.5}')
    time.sleep(3.1)  # longer than the look-back
    with Publisher([nats.url], "before.other", rate=2):
        tab.goto(f"{running.url}/before")
        until(lambda: tab.evaluate(f"Boolean({CHART}?.drawn)"))
        until(lambda: [value for _, value in line(tab, "valve")] == [0.5, 0.5])
        start, end = (at for at, _ in line(tab, "valve"))
        assert round(end - start) == 3


def test_scales(nats: NatsServer, running: App, tab: Page) -> None:
    """A logarithmic axis draws equal ratios at equal distances, has its thresholds in the right place, and
    reports values it cannot show. An axis from zero includes zero. Both can be zoomed, and a double click
    resets them."""
    nats.add_stream("SCALES", ["v.>"])
    for n, value in enumerate((0, 100, 1000, -5, 10_000)):  # in one bin they would be one range
        nats.publish(f"v.{n}", b'{"n": %d, "v": %d}' % (n, value))
    tab.goto(f"{running.url}/scales")
    charts = tab.locator(".js-plotly-plot")
    expect(charts).to_have_count(3)
    log, zero = charts.nth(0), charts.nth(1)
    for chart in (log, zero):
        until(lambda: chart.evaluate("el => el.data?.length >= 5"))
    assert log.evaluate("el => el._fullLayout.yaxis.type") == "log"
    bottom, top = log.evaluate("el => el._fullLayout.yaxis.range")
    assert 1 < bottom < 2 < 4 < top < 5
    words = log.evaluate("el => el._fullLayout.annotations.map(each => [each.text, each.y])")
    assert [text for text, _ in words] == ["high 500", "↓ none -1 below"]
    assert round(10 ** words[0][1]) == 500
    notes = tab.locator(".lb-note:visible")
    expect(notes.first).to_have_text("Zero and negative values are below the logarithmic axis")
    expect(notes.last).to_have_text("2 with zero or a negative number are off the logarithmic axis")
    low, high = zero.evaluate("el => el._fullLayout.yaxis.range")
    assert low <= -5 < 10_000 < high
    nats.publish("v.1", b'{"n": 9, "v": 50000}')
    until(lambda: log.evaluate("el => el._fullLayout.yaxis.range")[1] > 4.69)
    until(lambda: zero.evaluate("el => el._fullLayout.yaxis.range")[1] > 50_000)
    for chart in (log, zero):
        before = chart.evaluate("el => el._fullLayout.yaxis.range")
        box = chart.locator(".nsewdrag").bounding_box()
        assert box is not None
        chart.scroll_into_view_if_needed()
        box = chart.locator(".nsewdrag").bounding_box()
        assert box is not None
        middle = box["x"] + box["width"] / 2
        tab.mouse.move(middle, box["y"] + 60)
        tab.mouse.down()
        tab.mouse.move(middle, box["y"] + 140, steps=5)
        tab.mouse.up()
        until(lambda: chart.evaluate("el => el._fullLayout.yaxis.range")[1] < before[1])
        bottom, top = chart.evaluate("el => el._fullLayout.yaxis.range")
        assert before[0] < bottom < top < before[1]
        chart.locator(".nsewdrag").dblclick()
        until(lambda: chart.evaluate("el => el._fullLayout.yaxis.range") == before)


def test_a_logarithmic_axis_from_zero() -> None:
    """A chart with both `log_y` and `from_zero` is an error that says why."""
    with pytest.raises(LookbackError, match="A logarithmic axis has no zero"):
        drawing_options(log_y=True, from_zero=True, steps=False)


def test_units(nats: NatsServer, running: App, tab: Page) -> None:
    """A unit is scaled the same way in axes, hover, thresholds, metrics, tables and alerts. Whole numbers and
    numbers of eight digits are exact in all of them."""
    nats.add_stream("UNITS", ["u.>"])
    row = {"size": 1_234_567_891, "took": 93_250.5, "exact": 1234.5678, "big": 9_007_199_254_740_993}
    nats.publish("u.a", json.dumps(row).encode())
    tab.goto(f"{running.url}/units")
    charts = tab.locator(".js-plotly-plot")
    expect(charts).to_have_count(3)
    for i in range(3):
        until(lambda: charts.nth(i).evaluate("el => el.data?.length > 0"))
    texts = "el => el.data.filter(trace => trace.uid !== 'marks').flatMap(trace => trace.customdata)"
    hovers = [set(charts.nth(i).evaluate(texts)) for i in range(3)]
    assert hovers == [{"1.234567891 GB"}, {"1 min 33.2505 s"}, {"1,234.5678"}]
    ticks = [charts.nth(i).evaluate("el => el._fullLayout.yaxis.ticktext") for i in range(2)]
    assert all(text.endswith(" GB") for text in ticks[0])
    assert all(text.endswith(("s", "min")) for text in ticks[1])
    assert len(ticks[0]) > 2 < len(ticks[1])
    assert charts.nth(0).evaluate("el => el._fullLayout.annotations[0].text").endswith("full 1 GB")
    metrics = tab.locator(".lb-metric-number")
    expect(metrics).to_have_text(["1.23 GB", "1 min 33 s", "9,007,199,254,740,993"])
    assert metrics.first.get_attribute("title") == "1.234567891 GB"
    latest = tab.locator(".lb-latest_values td:last-child")
    expect(latest).to_have_text(["1.234567891 GB", "1234.5678", "9007199254740993"])
    cells = tab.locator(".lb-newest_rows tbody tr").first.locator("td")
    shown = set(cells.all_inner_texts())
    assert {"1.234567891 GB", "1 min 33.2505 s", "1234.5678", "9007199254740993"} <= shown
    expect(tab.locator(".lb-alerts")).to_contain_text("'full' (1 GB)")
    expect(tab.locator(".lb-alerts")).to_contain_text("1.234567891 GB")
