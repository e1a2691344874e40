"""A viewer stops the loading of a stretch: the page says what is loaded, and other viewers are not
affected.

Slow, because stretches are large enough to be stopped in the middle.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect
from streamlit.testing.v1 import AppTest

from components.charts.counts import _CountsSource
from components.charts.pushed import Varying
from components.charts.states import _StatesSource
from components.charts.thresholds import checked
from components.data.live import View, look_at
from components.data.loading import Loading
from components.metrics.metric import _MetricSource
from components.tables.alerts import _AlertsSource
from components.words import clock_text, in_zone, span_text
from nats_client import Client, Settings
from nats_client.series.figure import Figure
from tests.browser import fresh_tab
from tests.nats import running_server
from tests.running import App, app
from tests.status_line import find, status_html
from tests.throttled import FAST, Wire, throttled
from tests.waiting import until

Open = Callable[..., AppTest]
COUNT = 12_000
SLOW = 5e6  # bytes per second: two feeds that share the wire load for a while
PAD = b"x" * 1500
PAGE = """
import streamlit as st
from components import alerts, counts, downloads, line_chart, live, metric, sql, states
rows = live("S", "s.a", look_back="PT1H")
others = live("S", "s.b", look_back="PT1H")
st.text(f"rows {len(rows)} and {len(others)}")
if rows:
    metric(rows, "n", change="PT0.1S")
    line_chart(rows, "n")
    counts(rows)
    states(rows, "odd")
    alerts(rows, "n", {"high": f"> 1e9", "quiet": "silent for 1s"})
    st.text(f"sum {int(sql('SELECT count(*) AS n FROM rows', rows=rows)['n'].iloc[0])}")
    downloads(rows, "rows")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """A slow connection to a server with messages that fill a stretch, which is in `stretch`."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.add_stream("S", ["s.>"])
        began = pd.Timestamp.now("UTC").floor("s")

        async def fill(nc: Any) -> None:
            for i in range(COUNT):
                await nc.publish(
                    f"s.{'ab'[i % 2]}", b'{"n": %d, "odd": "%d", "pad": "%s"}' % (i, i // 2 % 2, PAD)
                )
                if i % 100 == 99:
                    await nc.flush()
                    await asyncio.sleep(0.04)

        server.run(fill)
        until(lambda: server.run(lambda nc: nc.jetstream().stream_info("S")).state.messages == COUNT)
        ended = pd.Timestamp.now("UTC").ceil("s")
        time.sleep(2.2)  # a stretch that has just ended may still get messages
        with throttled(server.port, SLOW) as wire:
            wire.stretch = {"from": began.isoformat(), "to": ended.isoformat()}  # type: ignore[attr-defined]
            yield wire


@pytest.fixture(autouse=True)
def slow(server: Wire) -> None:
    """Make the connection slow again before each test."""
    server.rate = SLOW


def part(server: Wire, earlier: int) -> dict[str, str]:
    """The query of the stretch, ending `earlier` milliseconds earlier: each test has its own feeds."""
    start, end = (pd.Timestamp(server.stretch[name]) for name in ("from", "to"))  # type: ignore[attr-defined]
    ended = end - pd.Timedelta(milliseconds=earlier)
    return {"from": start.isoformat(), "to": ended.isoformat(timespec="milliseconds")}


def counted(page: AppTest) -> list[int]:
    """The number of rows of each feed, as the page shows it."""
    return [int(text) for text in page.text[0].value.split()[1::2]]


def line(page: AppTest) -> dict[str, Any]:
    """The content of the status line."""
    return find(each.proto.json for each in page.get("bidi_component"))


def loads(page: AppTest) -> Loading:
    """The page's loading."""
    found: Loading = page.session_state["_loading"]
    return found


def partly(page: AppTest) -> None:
    """Run the page until it has some of its rows."""
    until(lambda: min(counted(page.run())) > 100)
    assert line(page)["act"] == "stop"
    assert line(page)["word"] == "Replaying"


def stopped(page: AppTest) -> list[int]:
    """Stop loading, run the page until it says Stopped, and return the number of rows of each feed."""
    loads(page).stop()
    until(lambda: line(page.run())["word"] == "Stopped")
    time.sleep(0.5)
    return counted(page.run())


def whole(page: AppTest) -> None:
    """Run the page until everything is loaded, and check its rows."""
    until(lambda: line(page.run())["word"] == "Past")
    assert counted(page) == [COUNT // 2, COUNT // 2]
    assert line(page)["act"] == ""
    assert not page.exception


def test_one_viewer(open_page: Open, server: Wire) -> None:
    """One stop halts all feeds of a page, which then sends no requests. The status line says which part is
    loaded, SQL uses exactly these rows, and downloads are labelled as partial. The rest is loaded when the
    viewer requests it."""
    page = open_page(PAGE, **part(server, 0))
    partly(page)
    held = stopped(page)
    assert max(held) < COUNT // 2
    said = line(page)
    assert (said["act"], said["bar"], said["mood"]) == ("rest", None, "stale")
    start, end = (pd.Timestamp(server.stretch[name]) for name in ("from", "to"))  # type: ignore[attr-defined]
    assert f"<b>{span_text(start.value, start.value)[:8]}" in status_html(page)
    assert " loaded in S s." in status_html(page)
    warnings = [each.value for each in page.warning]
    whole_of_it = f" of {span_text(start.value, end.value)} loaded."
    assert sorted(text[:5] for text in warnings) == ["S s\\.", "S s\\."]
    assert all(text.replace("\\", "").endswith(whole_of_it) for text in warnings)
    assert f"sum {held[0]}" in [each.value for each in page.text]
    (links,) = [each.proto.body for each in page.get("html") if 'class="lb-downloads"' in each.proto.body]
    assert "the part that was loaded:" in links
    sent = len(server.sent)
    for _ in range(4):
        time.sleep(0.7)
        assert counted(page.run()) == held
    assert server.sent[sent:] == []
    server.rate = FAST
    loads(page).go_on()
    whole(page)


def test_two_viewers(open_page: Open, server: Wire) -> None:
    """One viewer's stop does not affect another viewer's loading; the viewer who stopped sees that it
    continues for another, with its rows. Once both have stopped, loading halts, and a third viewer resumes
    it."""
    one, other = (open_page(PAGE, **part(server, 1)) for _ in range(2))
    partly(one)
    loads(one).stop()
    before = counted(other.run())
    until(lambda: min(counted(other.run())) > before[1] + 20)
    assert line(other)["act"] == "stop"
    assert line(one.run())["act"] == "rest"
    assert "to come for another viewer" in status_html(one)
    assert sum(counted(one)) > sum(before)
    held = stopped(other)
    assert counted(one.run()) == held
    assert line(one)["word"] == "Stopped"
    server.rate = FAST
    whole(open_page(PAGE, **part(server, 1)))
    whole(one)
    whole(other)


def test_another_stretch(open_page: Open, server: Wire) -> None:
    """A viewer who leaves a stopped stretch for Live and returns has requested it anew, so the rest is
    loaded."""
    page = open_page(PAGE, **part(server, 2))
    partly(page)
    held = stopped(page)
    page.button(key="_clock_live").click().run()
    assert line(page)["act"] is None
    server.rate = FAST
    again = part(server, 2)
    start, end = (pd.Timestamp(again[name]) for name in ("from", "to"))
    page.session_state["_clock"] = type(page.session_state["_clock"])(end - start, end.value)
    assert min(counted(page.run())) >= held[1]
    whole(page)


def test_played(open_page: Open, server: Wire) -> None:
    """A playback does not wait for rows whose loading its viewer has stopped: it plays to the end with the
    loaded rows, and says which those are. Ending the playback does not resume the loading."""
    page = open_page(PAGE, **part(server, 3), play="600")
    played = page.session_state["_playback"].playback
    until(lambda: page.run() and played.is_loading)
    time.sleep(1)
    assert played.moment == played.start
    held = stopped_while_played(page)
    until(lambda: not page.run() or not played.playing)
    assert played.moment == played.end
    assert counted(page.run()) == held
    assert line(page)["act"] == "rest"
    assert " loaded" in status_html(page)
    page.button(key="_clock_play").click().run()
    assert counted(page.run()) == held
    assert line(page)["word"] == "Stopped"
    server.rate = FAST
    loads(page).go_on()
    whole(page)


def stopped_while_played(page: AppTest) -> list[int]:
    """Stop loading, wait until all feeds have halted, and return the number of rows of each feed."""
    loads(page).stop()
    feeds = [feed.stretch for feed in loads(page)._feeds.values()]  # type: ignore[union-attr]
    until(lambda: all(feed is not None and feed.health.phase == "halted" for feed in feeds))
    time.sleep(0.5)
    return [len(feed.snapshot()) for feed in feeds if feed is not None]


def test_what_a_browser_may_say(open_page: Open, server: Wire) -> None:
    """Any value from a browser other than the line's own actions is ignored."""
    page = open_page(PAGE, **part(server, 4))
    partly(page)
    for wrong in (None, "", "go", 1, ["stop"], {"act": "stop"}):
        assert loads(page).obey(wrong) is False
    assert line(page.run())["act"] == "stop"
    server.rate = FAST
    whole(page)


def test_elements(server: Wire) -> None:
    """Elements of a stopped stretch only describe its loaded part: charts and bands have a gap after it, and
    alerts do not count the gap as silence. A metric drawn during loading ends up equal to one drawn
    afterwards."""
    of = part(server, 5)
    start, end = pd.Timestamp(of["from"]), pd.Timestamp(of["to"])
    length = end - start
    with Client(Settings(url=server.url)) as client, in_zone("UTC"):
        feed = client.feed("S", "s.a", look_back=length, end=end)
        until(lambda: len(feed.snapshot()) > 100)

        def view() -> View:
            return look_at(feed, length, False, by_code=False)

        def metric() -> _MetricSource:
            return _MetricSource(view(), Figure("n", "newest", length), "", line=True)

        conditions = checked({"high": "> 1e9", "quiet": "silent for 1s"})
        first, alerts = metric(), _AlertsSource(view(), ("n",), None, conditions, "", "UTC")
        first.look()
        alerts.look()
        feed.stop("one")
        until(lambda: feed.health.phase == "halted")
        known_to = feed.health.known_to(end.value)
        gap = [known_to // 1_000_000, end.value // 1_000_000]
        partial, said = first.look(), alerts.look()
        step = Figure("n", "newest", length).step
        assert max(int(name[1:]) for name in partial if name[1:] and name[0] == "p") * step <= known_to
        assert "p" not in partial
        span = f"from {clock_text(start.value)} to {clock_text(known_to)}, the part that was loaded."
        assert view().span == span[:-1]
        assert span in said["h0"][1]
        assert said["h1"][0] is False
        assert Varying(None, lambda _: {}).of(view()) == {"gaps": [[*gap, "not loaded"]]}
        assert _CountsSource(view(), None, 100_000_000, 5).look()["gaps"] == [gap]
        bands = _StatesSource(view(), "odd", None, 5).look()
        assert bands["gaps"] == [gap]
        assert max(band[3] for name, band in bands.items() if name[0] == "b") == gap[0]
        server.rate = FAST
        feed.want("one")
        while not feed.health.ended:
            first.look()
            time.sleep(0.1)
        assert first.look() == metric().look()
        assert "gaps" not in _CountsSource(view(), None, 100_000_000, 5).look()
        assert view().loaded is None


@pytest.fixture(scope="module")
def running(server: Wire, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with the page of this file."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "pages").mkdir()
    (folder / "pages" / "stopped.py").write_text(PAGE)
    with app(folder, NATS_URL=server.url, LOOKBACK_PAGES=str(folder / "pages")) as running:
        yield running


def places(tab: Page) -> list[Any]:
    """The positions of elements that a button could move when it appears or disappears."""
    return [
        tab.locator(name).first.bounding_box() for name in (".lb-newest", ".lb-status-facts", ".lb-metric")
    ]


def test_in_browsers(running: App, browser: Browser, server: Wire) -> None:
    """A viewer stops with the keyboard; the button keeps its place and the focus, and nothing moves. Another
    viewer's page continues to load until they stop too, and one resume completes both, also on a phone."""
    address = f"{running.url}/stopped?{urlencode(part(server, 6))}"
    with fresh_tab(browser) as mine, fresh_tab(browser, viewport={"width": 390, "height": 844}) as theirs:
        for tab in (mine, theirs):
            tab.goto(address)
        stop = mine.get_by_role("button", name="Stop", exact=True)
        expect(stop).to_be_visible(timeout=60_000)
        expect(theirs.get_by_role("button", name="Stop", exact=True)).to_be_visible(timeout=60_000)
        for tab in (mine, theirs):
            expect(tab.locator(".lb-metric-change")).not_to_be_empty()
        before, small = places(mine), places(theirs)
        stop.focus()
        mine.keyboard.press("Enter")
        rest = mine.get_by_role("button", name="Load the rest")
        expect(rest).to_be_focused()
        expect(mine.locator(".lb-newest")).to_contain_text("for another viewer")
        assert places(mine) == before
        expect(theirs.locator(".lb-word")).to_have_text("Replaying")
        theirs.get_by_role("button", name="Stop", exact=True).click()
        for tab in (mine, theirs):
            expect(tab.locator(".lb-word")).to_have_text("Stopped")
            expect(tab.locator(".lb-newest")).to_contain_text("loaded")
        assert places(mine) == before
        assert places(theirs) == small
        server.rate = FAST
        mine.keyboard.press("Enter")
        for tab in (mine, theirs):
            expect(tab.locator(".lb-word")).to_have_text("Past", timeout=30_000)
            half = COUNT // 2
            until(lambda tab=tab, half=half: f"rows {half} and {half}" in tab.inner_text("body"))  # type: ignore[misc]
        assert places(mine) == before
        assert places(theirs) == small
