"""events(): marks in all charts of a page, in the whole app with two viewers."""

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pandas as pd
import pytest
from playwright.sync_api import Browser, Dialog, Page, expect
from streamlit.testing.v1 import AppTest

from components.charts.events import LONGEST, MOST, _EventsSource
from components.data.live import View, look_at
from nats_client import Client, Settings
from tests.browser import fresh_tab
from tests.nats import NatsServer, running_server
from tests.running import app
from tests.status_line import status_html
from tests.waiting import until

Open = Callable[..., AppTest]
MARKUP = "<img/src=x/onerror=hacked()>"
PAGE = '''"""Marks."""
from components import events, line_chart, live
rows = live("S", "s.*")
line_chart(rows, "n", by="_subject", title="One", height=260)
line_chart(rows, "n", title="Two", height=260)
events(live("EVENTS"), text="deploy {version} {version")
'''
BANDS = '''"""Bands."""
from components import events, line_chart, live, states
rows = live("BANDS", "bands.*")
line_chart(rows, "n", height=260)
states(rows, "n")
events(live("EVENTS"), text="deploy {version}")
'''
LINES = """() => {
  const time = (chart) => {
    const line = chart?.plot.querySelector('.lb-crosshair'), axis = chart?.timeAxis()
    if (!axis || line.hidden) return null
    return axis.time(line.getBoundingClientRect().left - chart.plot.getBoundingClientRect().left - axis.left)
  }
  return ['.js-plotly-plot', '.lb-states'].map(name => document.querySelector(name))
    .map(found => time(found?.lookback ?? found?.parentElement.lookback))
}"""
"""The times of the chart's crosshair and of that of the bands, in ms since the epoch; null without one."""
ZOOMS = """() => {
  const [chart, bands] = ['.js-plotly-plot', '.lb-states'].map(name => document.querySelector(name))
    .map(found => found.lookback ?? found.parentElement.lookback)
  return [chart.zoomedTimes(), bands.zoomedTimes(), [bands.from, bands.to]]
}"""
"""The zoomed times of the chart, those of the bands, and the times that the bands show, in ms since the
epoch; null without a zoom."""
MARKS = """() => [...document.querySelectorAll('.js-plotly-plot')].map(plot => {
  const axis = plot.parentElement.lookback.timeAxis()
  const found = [...plot.querySelectorAll('.lb-marks > i')]
  return found.map(mark => [mark.firstChild.textContent, axis?.time(mark.at)])
})"""
"""By chart: the text and the time of each mark, in ms since the epoch."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with a stream of rows, and an empty stream of events."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.add_stream("S", ["s.>"])
        server.add_stream("EVENTS", ["events.>"])
        server.publish("s.a", *[json.dumps({"n": n}).encode() for n in range(5)])
        yield server


def deploy(server: NatsServer, **fields: Any) -> None:
    """Publish an event."""
    server.publish("events.deploy", json.dumps(fields).encode())


def marks(tab: Page) -> list[list[tuple[str, float]]]:
    """The marks of each chart."""
    return [[(text, time) for text, time in chart] for chart in tab.evaluate(MARKS)]


def texts(tab: Page) -> list[list[str]]:
    """The texts of the marks of each chart."""
    return [[text for text, _ in chart] for chart in marks(tab)]


def shows(tab: Page, wanted: list[list[str]]) -> bool:
    """True if the charts have these marks."""
    return texts(tab) == wanted


def test_in_all_charts(server: NatsServer, tmp_path: Any, browser: Browser) -> None:
    """An event is marked at its time in all charts of both viewers as it arrives; its text is plain and
    shortened. At a stretch, the charts have that stretch's marks. On a page without events(), they have
    none."""
    bad: list[str] = []

    def refuse(dialog: Dialog) -> None:
        bad.append(dialog.message)
        dialog.dismiss()

    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "overview.py").write_text(PAGE)
    (tmp_path / "pages" / "plain.py").write_text(PAGE[: PAGE.index("events(")].replace("Marks", "Plain"))
    with (
        app(tmp_path, NATS_URL=server.url, LOOKBACK_PAGES=str(tmp_path / "pages")) as running,
        fresh_tab(browser, color_scheme="light", timezone_id="Asia/Kolkata") as one,
        fresh_tab(browser, color_scheme="dark") as other,
    ):
        for tab in (one, other):
            tab.on("dialog", refuse)
            tab.add_init_script("window.hacked = () => alert('hacked')")
            tab.goto(running.url)
            expect(tab.locator(".js-plotly-plot")).to_have_count(2)
            until(partial(tab.evaluate, "document.querySelectorAll('.lb-marks').length === 2"))
        server.publish("s.a", b'{"n": 1}')
        deploy(server, version=MARKUP)
        when = time.time() * 1000
        wanted = f"deploy {MARKUP} {{version"
        for tab in (one, other):
            until(partial(shows, tab, [[wanted]] * 2))
            assert all(abs(at - when) < 5000 for chart in marks(tab) for _, at in chart)
        deploy(server, version="x" * 500)
        until(lambda: [len(chart) for chart in texts(one)] == [2, 2])
        assert [len(text) for text in texts(one)[0]] == [len(wanted), LONGEST]
        first, second = marks(one)[0]
        middle = (first[1] + second[1]) / 2
        zoom = """(el, [from, to]) => {
  const chart = el.parentElement.lookback
  chart.library.relayout(el, { 'xaxis.range[0]': chart.local(from), 'xaxis.range[1]': chart.local(to) })
}"""
        one.locator(".js-plotly-plot").first.evaluate(zoom, [middle, middle + 60_000])
        until(partial(shows, one, [[second[0]]] * 2))
        assert all(abs(chart[0][1] - second[1]) < 2 for chart in marks(one))
        one.locator(".nsewdrag").first.dblclick()
        until(lambda: [len(chart) for chart in texts(one)] == [2, 2])
        assert one.locator(".lb-marks img, .lb-marks b").count() == 0
        assert not one.locator(".lb-more").is_visible()
        end = pd.Timestamp((when - 60_000) / 1000, unit="s", tz="UTC").isoformat(timespec="milliseconds")
        other.goto(f"{running.url}/?last=PT1H&to={end.replace('+', '%2B')}")
        until(partial(other.evaluate, "document.querySelectorAll('.lb-marks').length === 0"))
        picture = """el => new Promise(resolve => {
  const { library } = el.parentElement.lookback
  library.downloadImage = ({ layout }) => resolve(layout.shapes.map(shape => shape.label.text))
  el.querySelector('.modebar-btn').dispatchEvent(new MouseEvent('click', { bubbles: true }))
})"""
        drawn = one.locator(".js-plotly-plot").first.evaluate(picture)
        assert drawn[0] == wanted.replace("<", "&lt;").replace(">", "&gt;")
        assert len(drawn) == 2
        end = pd.Timestamp(time.time(), unit="s", tz="UTC").isoformat(timespec="milliseconds")
        other.goto(f"{running.url}/?last=PT5M&to={end.replace('+', '%2B')}")
        until(lambda: [len(chart) for chart in texts(other)] == [2, 2])
        one.get_by_role("link", name="Plain").click()
        expect(one.get_by_role("heading", name="Plain")).to_be_visible()
        until(lambda: texts(one) == [[], []])
    assert not bad


def test_bands(server: NatsServer, tmp_path: Any, browser: Browser) -> None:
    """Bands of states have the same marks as the charts. The crosshair of a chart also shows in the bands and
    vice versa, and both share one zoom. When zoomed, the legend has the shares of the visible time."""
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "overview.py").write_text(BANDS)
    server.add_stream("BANDS", ["bands.>"])  # its states, except the last, are short
    server.publish("bands.a", *[json.dumps({"n": n}).encode() for n in range(5)])
    deploy(server, version="1")
    with (
        app(tmp_path, NATS_URL=server.url, LOOKBACK_PAGES=str(tmp_path / "pages")) as running,
        fresh_tab(browser) as tab,
    ):
        tab.goto(running.url)
        expect(tab.locator(".lb-states .lb-marks > i").first).to_be_attached()
        for place in (".js-plotly-plot .nsewdrag", ".lb-states canvas"):
            target = tab.locator(place).first
            box = target.bounding_box()
            assert box is not None
            tab.mouse.move(box["x"] + box["width"] * 0.97, box["y"] + 12)
            until(partial(together, tab))
            tab.mouse.move(2, 2)
            until(lambda: tab.evaluate(LINES) == [None, None])
        assert tab.evaluate(ZOOMS)[:2] == [None, None]
        legend = tab.locator(".lb-states .lb-canvas-legend > span")
        assert legend.count() == 5
        box = tab.locator(".lb-states canvas").bounding_box()
        assert box is not None
        tab.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 12)
        tab.mouse.down()
        tab.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 12, steps=3)
        tab.mouse.up()
        until(partial(zoomed, tab))
        expect(legend).to_have_text(["4100.0 %"])
        tab.locator(".js-plotly-plot .nsewdrag").first.dblclick()
        until(lambda: tab.evaluate(ZOOMS)[:2] == [None, None])
        expect(legend).to_have_count(5)


def together(tab: Page) -> bool:
    """True if chart and bands have a crosshair at the same time, within 1.5 s, about a pixel."""
    chart, bands = tab.evaluate(LINES)
    return chart is not None and bands is not None and abs(chart - bands) < 1500


def zoomed(tab: Page) -> bool:
    """True if chart and bands share one zoom, within a millisecond, and the bands show exactly the zoomed
    times."""
    chart, bands, axis = tab.evaluate(ZOOMS)
    return chart is not None and chart == pytest.approx(bands, rel=0, abs=1) and bands == axis


def test_what_is_marked(server: NatsServer) -> None:
    """Of many rows, the newest are marked at their own times, and the page says so. The text has values of
    any kind as tables show them, and nothing for a missing value."""
    server.add_stream("MANY", ["many.>"])
    now = pd.Timestamp.now("UTC").floor("s")
    rows = [
        {"t": (now - pd.Timedelta(seconds=150 - i)).isoformat(), "n": i, "w": i / 4, "s": f"a\nb {i}"}
        | ({"only": "here"} if i == 149 else {})
        for i in range(150)
    ]
    server.publish("many.a", *(json.dumps(row).encode() for row in rows))
    with Client(Settings(url=server.url)) as client:
        feed = client.feed("MANY", look_back="PT5M", time="t")
        until(lambda: len(feed.snapshot()) == 150)
        view = look_at(feed, feed.look_back, True)
        names = ("n", "w", "s", "only", "_seq", "nothing")
        content = dict(_EventsSource(view, "{n}|{w}|{s}|{only}|{_seq}|{nothing}|{", names).look())
        assert content.pop("more") == f"The newest {MOST} of 150 events are marked."
        found = [content[name] for name in sorted(content)]
        assert len(found) == MOST
        assert [time for time, _ in found] == [
            int(pd.Timestamp(str(row["t"])).value) // 10**6 for row in rows[50:]
        ]
        assert found[0][1] == "50|12.5|a b 50||51||{"
        assert found[-1][1] == "149|37.25|a b 149|here|150||{"


def test_on_a_page(open_page: Open, server: NatsServer) -> None:
    """Without events, the page does not mention them, and its state is that of its other rows. An unknown
    column and an argument that is not a view are reported."""
    server.add_stream("NONE", ["none.>"])
    server.publish("s.a", b'{"n": 1}')
    page = open_page(PAGE.replace('"EVENTS"', '"NONE"'))
    assert not page.info
    assert not page.error
    assert "none in" not in status_html(page)
    server.publish("none.a", b'{"v": 1}')
    wrong = PAGE.replace('"EVENTS"', '"NONE"')
    page = open_page(wrong)
    assert "'version'" in page.error[0].value
    page = open_page(PAGE.replace('live("EVENTS")', "[1]"))
    assert "not a list" in page.error[0].value


def test_a_view_that_is_also_drawn_may_be_stale(server: NatsServer) -> None:
    """Rows that are only marked arrive at no regular intervals, so their view is never stale. It can be stale
    if the page also draws the view or its code reads the rows, in either order."""
    with Client(Settings(url=server.url)) as client:
        feed = client.feed("S", look_back="PT5M")
        feed.wait(10)

        def seen(*uses: Callable[[View], object]) -> bool:
            view = look_at(feed, pd.Timedelta("PT5M"), True)
            for use in uses:
                use(view)
            return view.watched.steady

        assert seen()
        assert not seen(lambda view: view.marked)
        assert seen(lambda view: view.marked, lambda view: view.drawn)
        assert seen(lambda view: view.drawn, lambda view: view.marked)
        assert seen(lambda view: view.marked, lambda view: view.snapshot)
        assert not look_at(feed, pd.Timedelta("PT5M"), False).steady
