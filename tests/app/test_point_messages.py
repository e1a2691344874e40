"""A click on a point, a mark or a row shows the messages behind it, in the whole app with two viewers."""

import asyncio
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
from playwright.sync_api import Browser, Dialog, Locator, Page, expect

from tests.browser import fresh_tab
from tests.nats import NatsServer, running_server
from tests.running import App, app
from tests.waiting import until

MARKUP = "<img/src=x/onerror=hacked()>"
CHART = ".js-plotly-plot"
PANEL = ".lb-behind"
ASK = """async (el, said) => {
  const { channel } = await import(performance.getEntriesByType("resource").map(entry => entry.name)
    .find(name => name.includes("/lookback/channel.js")))
  return await channel().question(el.parentElement.lookback.plugged, said)
}"""
"""Sends a question about the chart to the server, and returns the reply."""
PAGES = {
    "overview": '''"""Points."""
from components import alerts, line_chart, live
rows = live("S", "s.*")
line_chart(rows, "n", by="_subject", thresholds={"high": 50})
alerts(rows, "n", {"high": 50, "pause": "silent for 1s"}, by="_subject")
''',
    "many": '''"""Many."""
from components import line_chart, live
line_chart(live("MANY", "many.*"), "n", by="_subject", most=1, tell_apart="name")
''',
    "scatter": '''"""Scatter."""
from components import live, scatter_chart
scatter_chart(live("S", "s.*"), "n", "m")
''',
    "result": '''"""Result."""
from components import line_chart, live, sql
rows = live("S", "s.*")
line_chart(sql("SELECT _time, n FROM rows", rows=rows), "n")
''',
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with a few messages; one of those in S is above the threshold."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.add_stream("S", ["s.>"])
        server.add_stream("MANY", ["many.>"])
        for name, n in (("#", 5), ("low", 0.125), (MARKUP, 12345678), ("b", 7)):
            server.publish(f"many.{name}", json.dumps({"n": n}).encode())

        async def say(nc: Any) -> None:
            for n in (10, 20, 90):
                payload = json.dumps({"n": n, "m": n * 2, "text": MARKUP}).encode()
                await nc.jetstream().publish(f"s.{MARKUP}", payload, headers={"by": MARKUP})
                await asyncio.sleep(1.2)

        server.run(say)
        yield server


@pytest.fixture(scope="module")
def running(server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app on that server."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "pages").mkdir()
    for name, source in PAGES.items():
        (folder / "pages" / f"{name}.py").write_text(source)
    with app(folder, NATS_URL=server.url, LOOKBACK_PAGES=str(folder / "pages")) as running:
        yield running


@contextmanager
def opened(browser: Browser, running: App, page: str) -> Iterator[tuple[Page, Page]]:
    """Open a page for two viewers in different time zones. No script in the data may run."""
    bad: list[str] = []

    def refuse(dialog: Dialog) -> None:
        bad.append(dialog.message)
        dialog.dismiss()

    with (
        fresh_tab(browser, timezone_id="Asia/Kolkata") as one,
        fresh_tab(browser, timezone_id="America/New_York") as other,
    ):
        for tab in (one, other):
            tab.on("dialog", refuse)
            tab.on("pageerror", lambda error: bad.append(str(error)))
            tab.add_init_script("window.hacked = () => alert('hacked')")
            tab.goto(f"{running.url}/{page}")
            expect(tab.locator(CHART)).to_be_visible()
            until(partial(tab.locator(CHART).evaluate, "el => Boolean(el._fullLayout)"))
        yield one, other
    assert not bad


def at(tab: Page, trace: str, place: int) -> tuple[float, float]:
    """The position of a drawn point on the screen, in px."""
    tab.locator(CHART).scroll_into_view_if_needed()
    found = f"""el => {{
  const trace = el.data.find(each => each.uid === {json.dumps(trace)}), {{ xaxis, yaxis }} = el._fullLayout
  const {{ left, top }} = el.getBoundingClientRect()
  const i = ({place} + trace.x.length) % trace.x.length
  return [left + xaxis._offset + xaxis.d2p(trace.x[i]), top + yaxis._offset + yaxis.d2p(trace.y[i])]
}}"""
    left, top = tab.locator(CHART).evaluate(found)
    return left, top


def click(tab: Page, trace: str, place: int) -> Locator:
    """Click a drawn point until the panel is open; return the panel."""
    until(
        lambda: tab.locator(CHART).evaluate(f"el => el.data.some(each => each.uid === {json.dumps(trace)})")
    )
    tab.mouse.move(5, 5)

    def shown() -> bool:
        tab.mouse.move(*at(tab, trace, place))
        tab.wait_for_timeout(100)  # the axis moves while the pointer stands still
        tab.mouse.click(*at(tab, trace, place))
        tab.wait_for_timeout(500)
        return tab.locator(PANEL).is_visible()

    until(shown, 60)
    panel = tab.locator(PANEL)
    expect(panel).not_to_contain_text("Reading")
    return panel


def says(panel: Locator) -> dict[str, str]:
    """The names and texts of the first message in the panel."""
    section = panel.locator("section").first
    return dict(
        zip(section.locator("dt").all_inner_texts(), section.locator("dd").all_inner_texts(), strict=True)
    )


def test_a_point_of_a_line(running: App, browser: Browser) -> None:
    """A click on a point shows its message as plain text, with the time in each viewer's zone and a link to
    Explore. Esc closes the panel. A double click shows no message."""
    with opened(browser, running, "") as tabs:
        hours = []
        for tab in tabs:
            panel = click(tab, "0", 0)
            found = says(panel)
            assert found["Subject"] == f"s.{MARKUP}"
            assert found["Sequence"] == "1 of S"
            assert found["by"] == MARKUP
            assert json.loads(panel.locator("pre").inner_text()) == {"n": 10, "m": 20, "text": MARKUP}
            assert panel.locator("img").count() == 0
            hours.append(found["Stored"])
            link = panel.get_by_role("link").get_attribute("href") or ""
            assert urlsplit(link).path == "/explore"
            assert parse_qs(urlsplit(link).query) == {"stream": ["S"], "show": ["Messages"], "seq": ["1"]}
            tab.keyboard.press("Escape")
            expect(panel).to_be_hidden()
        assert hours[0] != hours[1]
        tab = tabs[0]
        tab.mouse.dblclick(*at(tab, "0", 0))
        tab.wait_for_timeout(700)
        expect(tab.locator(PANEL)).to_be_hidden()


def test_the_way_to_explore(running: App, browser: Browser) -> None:
    """The link in the panel opens exactly that message in Explore."""
    with opened(browser, running, "") as (tab, _):
        click(tab, "0", 0).get_by_role("link").click()
        expect(tab.get_by_role("heading", name="Explore")).to_be_visible()
        expect(tab.locator(".lb-message").first).to_contain_text(MARKUP)
        assert parse_qs(urlsplit(tab.url).query)["seq"] == ["1"]


def test_a_finger(running: App, browser: Browser) -> None:
    """A tap on a point shows its message too, over the lower part of a phone's screen."""
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with fresh_tab(browser, **phone) as tab:
        tab.goto(running.url)
        chart = tab.locator(CHART)
        expect(chart).to_be_visible()
        until(partial(chart.evaluate, "el => el.data?.some(each => each.uid === '0')"))
        panel = tab.locator(PANEL)

        def shown() -> bool:
            tab.touchscreen.tap(*at(tab, "0", 0))
            tab.wait_for_timeout(600)
            return panel.is_visible()

        until(shown, 60)
        expect(panel.locator("pre")).to_be_visible()
        assert json.loads(panel.locator("pre").inner_text())["n"] == 10
        box = panel.bounding_box()
        assert box is not None
        assert (box["x"], box["width"]) == (0, 390)
        assert box["y"] > 300


def test_a_crossing(running: App, browser: Browser) -> None:
    """A click on a mark, or on a row of the list, shows the message with which the crossing began. For a
    silence it shows the last message before it."""
    with opened(browser, running, "") as (tab, other):
        assert json.loads(click(tab, "marks", 0).locator("pre").inner_text())["n"] == 90
        row = other.locator(".lb-alerts tr", has_text="high")
        row.first.click()
        panel = other.locator(PANEL)
        expect(panel.locator("pre")).to_be_visible()
        assert json.loads(panel.locator("pre").inner_text())["n"] == 90
        other.keyboard.press("Escape")
        silences = other.locator(".lb-alerts tr", has_text="pause")
        silences.last.focus()
        other.keyboard.press("Enter")
        expect(panel).to_contain_text("The last message before the silence")
        expect(panel.locator("pre")).to_be_visible()
        assert json.loads(panel.locator("pre").inner_text())["n"] == 10


def test_a_point_of_a_scatter_chart(running: App, browser: Browser) -> None:
    """A click on a point shows the message of its row."""
    with opened(browser, running, "scatter") as tabs:
        for tab, n in zip(tabs, (20, 90), strict=True):
            until(
                partial(
                    tab.evaluate, "document.querySelector('.lb-scatter').lookback.content?.x.length === 3"
                )
            )
            left, top = tab.evaluate(
                """n => {
  const { plot } = document.querySelector('.lb-scatter').lookback, { xaxis, yaxis, _size } = plot._fullLayout
  const { left, top } = plot.getBoundingClientRect()
  return [left + _size.l + xaxis.l2p(n), top + _size.t + yaxis.l2p(2 * n)]
}""",
                n,
            )
            tab.mouse.click(left, top)
            panel = tab.locator(PANEL)
            expect(panel.locator("pre")).to_be_visible()
            assert json.loads(panel.locator("pre").inner_text())["n"] == n


@pytest.mark.parametrize("play", ["", "&play=600"])
def test_a_stretch_of_the_past(running: App, browser: Browser, play: str) -> None:
    """A point of a stretch has its messages too, also while the stretch is played."""
    now = pd.Timestamp.now("UTC")
    start, end = (each.strftime("%Y-%m-%dT%H:%M:%SZ") for each in (now - pd.Timedelta("30min"), now))
    said = {"series": f"s.{MARKUP}", "from": 0, "to": 9e12}
    with fresh_tab(browser) as tab:
        tab.goto(f"{running.url}/?from={start}&to={end}{play}")
        chart = tab.locator(CHART)
        expect(chart).to_be_visible(timeout=60_000)
        until(lambda: chart.evaluate(ASK, said).get("count") == 3, 90)


def test_a_result_of_sql(running: App, browser: Browser) -> None:
    """A point of a result has no message, and the panel says so."""
    with opened(browser, running, "result") as (tab, _):
        panel = click(tab, "0", 0)
        expect(panel.locator(".lb-why")).to_contain_text("result of SQL")
        assert panel.locator("section").count() == 0


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"series": 1, "from": 0, "to": 1},
        {"series": "x", "from": 5, "to": 1},
        {"series": None},
        {"row": []},
        7,
    ],
)
def test_nonsense(running: App, browser: Browser, said: object) -> None:
    """A malformed question gets an error sentence, and the page stays usable."""
    with opened(browser, running, "") as (tab, _):
        answer = tab.locator(CHART).evaluate(ASK, said)
        assert set(answer) == {"error"}
        expect(tab.locator(".lb-status")).to_be_visible()


def test_questions_without_end(server: NatsServer, running: App, browser: Browser) -> None:
    """While NATS does not respond, a viewer may have two questions open; further ones are refused in a
    sentence. Other viewers do not wait, and the two are answered in the end."""
    with opened(browser, running, "") as (tab, other):
        said = {"series": f"s.{MARKUP}", "from": 0, "to": 9e12}
        server.signal(signal.SIGSTOP)
        try:
            many = f"(el, said) => {{ window.asked = [1, 2, 3, 4, 5].map(() => ({ASK})(el, said)) }}"
            tab.locator(CHART).evaluate(many, said)
            tab.evaluate("() => Promise.any(window.asked)")
            answer = other.locator(CHART).evaluate(ASK, {})
            assert answer == {"error": "This is no point of the chart."}
        finally:
            server.signal(signal.SIGCONT)
        answers = tab.evaluate("() => Promise.all(window.asked)")
        refused = [each for each in answers if "has no answer yet" in each.get("error", "")]
        assert len(refused) == 3
        assert [each["count"] for each in answers if "count" in each] == [3, 3]


def test_who_is_among_the_others(running: App, browser: Browser) -> None:
    """The least and the greatest value among the merged series have the names of their series, live and at a
    stretch. Times without such values have none, and invalid times are refused."""
    with opened(browser, running, "many") as (tab, other):
        until(lambda: tab.locator(CHART).evaluate("el => el.parentElement.lookback.others !== null"))
        now = int(tab.locator(CHART).evaluate("el => el.parentElement.lookback.now"))
        found = tab.locator(CHART).evaluate(ASK, {"others": [now - 600_000, now + 1000]})
        assert found["count"] == 3
        assert [each[:2] for each in found["extremes"]] == [["many.low", 0.125], [f"many.{MARKUP}", 12345678]]
        times = [time for *_, time in found["extremes"]]
        assert now - 600_000 < min(times) <= max(times) <= now
        assert tab.locator(CHART).evaluate(ASK, {"others": [now - 9e9, now - 8e9]}) == {
            "count": 0,
            "extremes": [],
        }
        for nonsense in ([], ["a", 1], [5, 1], [0, 1e300], {"a": 1}):
            assert "error" in tab.locator(CHART).evaluate(ASK, {"others": nonsense})
        assert tab.locator(CHART).evaluate(ASK, {"find": "ONERROR"}) == {
            "names": [f"many.{MARKUP}"],
            "count": 1,
        }
        stretch = [
            pd.Timestamp(round(time), unit="ms").isoformat() + "Z" for time in (min(times) - 60_000, now)
        ]
        other.goto(f"{running.url}/many?from={stretch[0]}&to={stretch[1]}")
        expect(other.locator(CHART)).to_be_visible()
        until(lambda: other.locator(CHART).evaluate("el => el.parentElement.lookback?.others > 0"))
        assert other.locator(CHART).evaluate("el => Boolean(el.parentElement.lookback.config.still)")
        past = other.locator(CHART).evaluate(ASK, {"others": [min(times) - 1, now]})
        assert past == found
        before = other.locator(CHART).evaluate(ASK, {"others": [min(times) - 50_000, min(times) - 1]})
        assert before == {"count": 0, "extremes": []}
        other.locator(".lb-menu select").first.select_option("greatest")
        until(
            lambda: (
                f"many.{MARKUP}"
                in other.locator(CHART).evaluate("el => el.parentElement.lookback.series.map(s => s.name)")
            )
        )
