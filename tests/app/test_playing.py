"""Playback of a stretch: pages show what they showed at each moment, and a bar controls it."""

import asyncio
import gc
import json
import re
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect
from streamlit.testing.v1 import AppTest

from components.play import bar as bar_module
from components.play.bar import _BarSource, _move
from nats_client import Playback
from tests.browser import fresh_tab
from tests.nats import NatsServer, running_server
from tests.running import ROOT, App, app
from tests.status_line import status_html
from tests.waiting import until

Open = Callable[..., AppTest]
COUNT = 120
MESSAGES = 0.1
"""The share of the browser's stretch that has messages; they are at its end."""
PAGE = """
import streamlit as st
from components import alerts, line_chart, live, metric, newest_rows, sql
rows = live("S", "s.{letter}", look_back="PT1H")
others = live("T", look_back="PT1H")
metric(rows, "n", how="greatest", by="letter")
line_chart(rows, "n")
newest_rows(rows, 3)
alerts(rows, "n", {"high": "> 50"})
st.text(f"{len(rows)} and {len(others)} rows")
st.text(f"now {rows.now} {others.now}")
st.text(f"last {rows.snapshot.received.max(initial=0)} {others.snapshot.received.max(initial=0)}")
st.text_input("Words")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with two streams that received messages for some seconds, and a bucket."""

    async def fill(nc: Any) -> tuple[str, str]:
        start = iso_now()
        for i in range(COUNT):
            await nc.jetstream().publish(f"s.{'ab'[i % 2]}", json.dumps({"n": i}).encode())
            if i % 4 == 0:
                await nc.jetstream().publish("t", json.dumps({"n": i}).encode())
            await asyncio.sleep(0.05)
        end = iso_now(0.01)
        await asyncio.sleep(1.1)  # an end after the last whole second is cut to it
        return start, end

    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.add_stream("S", ["s.>"])
        server.add_stream("T", ["t"])
        server.run(lambda nc: nc.jetstream().create_key_value(bucket="settings"))
        server.stretch = dict(zip(("from", "to"), server.run(fill), strict=True))  # type: ignore[attr-defined]
        yield server


def iso_now(more: float = 0) -> str:
    """Now, or some seconds later, in ISO 8601 with milliseconds, as in an address."""
    return pd.Timestamp(time.time() + more, unit="s", tz="UTC").isoformat(timespec="milliseconds")


def stretch(server: NatsServer, play: int | str, **others: str) -> dict[str, str]:
    """The query of a page that plays the whole stretch at this speed."""
    return {**server.stretch, "play": str(play), **others}  # type: ignore[attr-defined]


def said(page: AppTest) -> str:
    """The texts and warnings of the page."""
    return " ".join([each.value for each in page.text] + [each.value for each in page.warning])


def numbers(page: AppTest, which: str) -> list[int]:
    """A pair of numbers for both feeds, from the text of the page with this word: rows, now, or last."""
    found = [each.value for each in page.text if which in each.value]
    return [int(word) for word in found[0].split() if word.isdigit()]


def playback(page: AppTest) -> Playback:
    """The playback of a page."""
    found: Playback = page.session_state["_playback"].playback
    return found


def test_a_link_starts_it(open_page: Open, server: NatsServer) -> None:
    """A link with a speed plays the stretch from its start. Both feeds are always at the same moment and show
    nothing later; at the end they show the whole stretch."""
    page = open_page(PAGE, **stretch(server, 2))
    playback(page).pause()
    playback(page).jump(playback(page).start)
    page.run()
    assert numbers(page, "rows") == [0, 0]
    assert "Paused" in status_html(page)
    assert "No messages in the 1 hour before the playback's time" in page.info[0].value
    playback(page).play()
    counts = []
    while playback(page).playing:
        page.run()
        (one, other), last = numbers(page, "now"), numbers(page, "last")
        assert abs(one - other) < 1e9
        assert max(last) < playback(page).moment
        counts.append(numbers(page, "rows")[0])
    page.run()
    assert numbers(page, "now") == [playback(page).end] * 2
    assert counts == sorted(counts)
    assert any(0 < count < COUNT for count in counts)
    assert numbers(page, "rows") == [COUNT, COUNT // 4]
    assert "Past" in status_html(page)
    assert not page.error
    assert not page.exception
    assert page.query_params["play"] == "2"


def test_a_link_to_a_moment(open_page: Open, server: NatsServer) -> None:
    """The address of a paused playback shows another viewer exactly the same rows, and is paused for them
    too. Once it plays, the address has no moment."""
    page = open_page(PAGE, **stretch(server, 2))
    playback(page).pause()
    playback(page).jump((playback(page).start + playback(page).end) // 2)
    playback(page).step(3)
    page.run()
    query = {name: page.query_params[name] for name in ("from", "to", "play", "at")}
    colleague = open_page(PAGE, **query)
    assert playback(colleague).moment == playback(page).moment
    assert playback(colleague).playing is False
    assert 0 < numbers(page, "rows")[0] < COUNT
    for which in ("rows", "now", "last"):
        assert numbers(colleague, which) == numbers(page, which)
    assert "Paused" in status_html(colleague)
    playback(colleague).play()
    colleague.run()
    assert "at" not in colleague.query_params


def test_own_look_back(open_page: Open, server: NatsServer) -> None:
    """A page that is played uses its own look-back, also beyond the start of the stretch. When playback ends,
    it shows the stretch."""
    middle = pd.Timestamp(server.stretch["from"]) + pd.Timedelta(seconds=2)  # type: ignore[attr-defined]
    query = stretch(server, 1, **{"from": middle.isoformat(timespec="milliseconds")})
    page = open_page(PAGE, **query)
    playback(page).pause()
    playback(page).jump(playback(page).start)
    page.run()
    before = numbers(page, "rows")[0]
    assert 0 < before < COUNT
    assert "rows in 1 hour" in status_html(page)
    page.button(key="_clock_play").click().run()
    assert numbers(page, "rows")[0] == COUNT - before
    assert "play" not in page.query_params
    assert "_playback" not in page.session_state
    page.button(key="_clock_play").click().run()
    assert page.query_params["play"] == "1"
    assert numbers(page, "rows")[0] >= before
    page.button(key="_clock_live").click().run()
    assert {"from", "to", "last", "play", "at"}.isdisjoint(page.query_params)
    assert "_playback" not in page.session_state


def test_from_the_calendar(open_page: Open, server: NatsServer) -> None:
    """A live page can be played from the times chosen in the clock's popover."""
    page = open_page(PAGE)
    (button,) = [each for each in page.button if each.label == "Play it"]
    button.click().run()
    assert page.query_params["play"] == "1"
    start, end = (pd.Timestamp(page.query_params[name]) for name in ("from", "to"))
    assert playback(page).start == start.value
    assert playback(page).end == end.value
    assert not page.error


def test_without_an_end(open_page: Open, server: NatsServer) -> None:
    """A link without an end plays until now: from its start time, or from the start of its length."""
    for query in ({"from": server.stretch["from"]}, {"last": "1h"}):  # type: ignore[attr-defined]
        page = open_page(PAGE, play="60", **query)
        assert playback(page).speed == 60
        assert pd.Timestamp(page.query_params["to"]) <= pd.Timestamp.now("UTC")
        assert page.query_params["from"]
        assert "last" not in page.query_params
        assert not page.error


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"play": "3"}, "play='3' is not a speed. Write one of 1, 2, 5, 10, 60, 600"),
        ({"play": "<b>10</b>" * 999}, "is not a speed"),
        ({"play": "10", "from": "", "to": ""}, "needs a start"),
        ({"play": "10", "to": "2001-01-01"}, "ends before it starts"),
        ({"play": "10", "from": "2199-01-01", "to": ""}, "ends before it starts"),
        ({"play": "10", "from": "soon"}, "from='soon' is not a time"),
        ({"play": "10", "at": "soon"}, "at='soon' is not a time"),
        ({"play": "10", "at": "2001-01-01"}, "at='2001-01-01' is not in the stretch"),
    ],
)
def test_a_wrong_link(open_page: Open, server: NatsServer, query: dict[str, str], sentence: str) -> None:
    """A stretch that cannot be played is named in a sentence, and the page is live."""
    page = open_page(PAGE, **(stretch(server, 1) | query))
    assert sentence in said(page).replace("\\", "")
    assert len(said(page)) < 1000
    assert {"from", "to", "last", "play", "at"}.isdisjoint(page.query_params)
    assert "_playback" not in page.session_state
    assert not page.exception


@pytest.mark.parametrize("name", ["alerts", "compare", "explore", "history", "workflows"])
def test_pages_that_are_played(open_page: Open, server: NatsServer, name: str) -> None:
    """The built-in pages are played to the end of the stretch without an error."""
    page = open_page(ROOT / "pages" / f"{name}.py", **stretch(server, 600, stream="S"))
    assert not page.exception
    played = playback(page)
    while played.playing:
        page.run()
    page.run()
    assert not page.exception
    assert played.moment == played.end


def test_what_cannot_be_played(open_page: Open, server: NatsServer) -> None:
    """Plain subjects have no history, and the page says so."""
    page = open_page("from components import live\nlive(subject='x.>')", **stretch(server, 1))
    assert "have no history" in page.error[0].value


def test_the_bar_keeps_its_counts(
    open_page: Open, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a jump back, the bar keeps its counts of messages until the page has requested its feeds again,
    however long that takes."""
    monkeypatch.setattr(bar_module, "COUNT_EVERY", 0.0)
    page = open_page(PAGE, **stretch(server, 60))
    played = playback(page)
    bar = _BarSource(played, "UTC", [])
    both = COUNT + COUNT // 4
    until(lambda: sum(bar.look()["density"]) == both)
    played.pause()
    played.jump(played.end)
    played.jump(played.start)
    assert sum(bar.look()["density"]) == both
    page.run()
    assert sum(bar.look()["density"]) == both


def test_what_the_bar_says(open_page: Open, server: NatsServer) -> None:
    """The bar shows times in the viewer's zone, with the day if the stretch has several. If a feed is not
    read in time, the bar shows the lower effective speed. Invalid commands from a browser are ignored."""
    earlier = (pd.Timestamp.now("UTC") - pd.Timedelta(days=2)).isoformat(timespec="seconds")
    played = playback(open_page(PAGE, **stretch(server, 60, **{"from": earlier})))
    bar = _BarSource(played, "Asia/Kolkata", [])
    said = bar.look()
    shown = pd.Timestamp(played.start, tz="UTC").tz_convert("Asia/Kolkata")
    assert said["time"].startswith(shown.strftime("%d %b %H:"))
    assert said["playing"] is True
    assert len(said["density"]) == 200
    end = played.feed("S", look_back="PT1H").watch(lambda: None)
    until(lambda: "held" in bar.look())
    assert float(bar.look()["held"]) < 60
    end()
    played.pause()
    at = played.moment
    for wrong in (
        None,
        "play",
        {"do": "fly"},
        {"do": "speed", "value": True},
        {"do": "speed", "value": 3},
        {"do": "step", "value": 10**9},
        {"do": "step", "value": 0},
        {"do": "step", "value": "1"},
        {"do": "jump", "value": float("nan")},
        {"do": "jump", "value": [1]},
    ):
        _move(played, wrong)
        assert (played.moment, played.speed, played.playing) == (at, 60, False)
    for far, there in ((10**400, played.end), (-1e300, played.start)):
        _move(played, {"do": "jump", "value": far})
        assert abs(played.moment - there) < 1e6


def test_nothing_else_holds_it(open_page: Open, server: NatsServer) -> None:
    """When the viewer leaves the playback or the session ends, the playback and all that was drawn of it are
    freed."""
    page = open_page(PAGE, **stretch(server, 1))
    left = weakref.ref(playback(page))
    page.button(key="_clock_live").click().run()
    until(lambda: gc.collect() >= 0 and left() is None)
    assert "Live" in status_html(page)  # the session is still there
    other = open_page(PAGE, **stretch(server, 1))
    ended = weakref.ref(playback(other))
    assert ended() is not None
    del other
    until(lambda: gc.collect() >= 0 and ended() is None)


@pytest.fixture(scope="module")
def running(server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with that page."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "pages").mkdir()
    (folder / "pages" / "played.py").write_text(PAGE)
    with app(folder, NATS_URL=server.url, LOOKBACK_PAGES=str(folder / "pages")) as running:
        yield running


def opened(tab: Page, running: App, server: NatsServer) -> None:
    """Open the page as a playback; the first part of its stretch has no messages."""
    start, end = (pd.Timestamp(server.stretch[name]) for name in ("from", "to"))  # type: ignore[attr-defined]
    earlier = (end - (end - start) / MESSAGES).isoformat(timespec="milliseconds")
    tab.goto(f"{running.url}/played?{urlencode(stretch(server, 1, **{'from': earlier}))}")
    expect(tab.locator(".lb-when")).not_to_be_empty(timeout=30_000)


def moment(tab: Page) -> pd.Timestamp:
    """The playback's moment, as the bar shows it."""
    return pd.Timestamp(f"2001-01-01 {tab.locator('.lb-when').inner_text()}")


def count(tab: Page, *, both: bool = False) -> int:
    """The number of rows of the first stream, or of both, that the page shows."""
    first, _, second, _ = tab.get_by_test_id("stText").filter(has_text=" and ").inner_text().split()
    return int(first) + int(second) if both else int(first)


def address(tab: Page) -> str:
    """The query of the browser's current address."""
    return str(tab.evaluate("location.search"))


def is_paused(tab: Page) -> None:
    """The bar and the status line show that the playback is paused."""
    expect(tab.get_by_role("button", name="Play (space)")).to_be_visible()
    expect(tab.locator(".lb-word")).to_have_text("Paused")


def jump(tab: Page, share: float) -> None:
    """Click on the bar at this share of the part that has messages."""
    box = tab.locator(".lb-track").bounding_box()
    assert box is not None
    tab.mouse.click(box["x"] + box["width"] * (1 - (1 - share) * MESSAGES), box["y"] + box["height"] / 2)


def test_the_bar(running: App, browser: Browser, server: NatsServer) -> None:
    """The bar plays and pauses, changes the speed, steps and jumps, with the mouse and with keys; text boxes
    keep their own keys. The chart and the metric follow. The address has the speed and, while paused, the
    moment. The bar marks the only alert of the stretch."""
    with fresh_tab(browser) as tab:
        opened(tab, running, server)
        expect(tab.locator(".lb-word")).to_have_text("Playing")
        tab.get_by_role("button", name="Pause (space)").click()
        is_paused(tab)
        at = moment(tab)
        until(lambda: "at=" in address(tab))
        tab.keyboard.press("Space")
        expect(tab.locator(".lb-word")).to_have_text("Playing")
        until(lambda: "at=" not in address(tab))
        until(lambda: moment(tab) > at)
        tab.keyboard.press("Space")
        is_paused(tab)
        jump(tab, 0.5)
        until(lambda: COUNT * 0.3 < count(tab) < COUNT * 0.7)
        held = count(tab, both=True)
        for key, expected in (("ArrowRight", held + 1), ("ArrowLeft", held), ("ArrowLeft", held - 1)):
            tab.keyboard.press(key)
            until(lambda expected=expected: count(tab, both=True) == expected)  # type: ignore[misc]
        later = count(tab)
        jump(tab, 0.2)
        until(lambda: 0 < count(tab) < later)
        before = count(tab)
        until(lambda: tab.locator(".lb-metric-number").inner_text() == str(before - 1))
        box = tab.get_by_role("textbox", name="Words")
        box.focus()
        tab.keyboard.type("a b")
        tab.keyboard.press("ArrowLeft")
        tab.keyboard.press("Enter")
        expect(box).to_have_value("a b")
        is_paused(tab)
        assert count(tab) == before
        tab.locator(".lb-play_bar select").select_option("600")
        until(lambda: "play=600" in address(tab))
        tab.get_by_role("button", name="Play (space)").click()
        until(lambda: count(tab) == COUNT)
        expect(tab.locator(".lb-word")).to_have_text("Past")
        until(lambda: tab.locator(".lb-metric-number").inner_text() == str(COUNT - 1))
        assert tab.locator(".lb-track .lb-density").get_attribute("d")
        marks = tab.locator(".lb-track .lb-marks")
        until(lambda: re.findall(r"M(\d+)", marks.get_attribute("d") or ""))
        (marked,) = re.findall(r"M(\d+)", marks.get_attribute("d") or "")
        assert 200 * (1 - MESSAGES) < int(marked) < 200
        tab.get_by_role("button", name="Live", exact=True).click()
        expect(tab.locator(".lb-play_bar")).to_have_count(0)
        until(lambda: "play" not in address(tab))
        tab.keyboard.press("Space")
        expect(tab.locator(".lb-word")).to_have_text("Live")


def test_two_viewers(running: App, browser: Browser, server: NatsServer) -> None:
    """Two viewers play the same stretch, each at their own moment, while a third views the stretch without
    playing it. On a phone the bar is no wider than the screen."""
    with fresh_tab(browser) as first, fresh_tab(browser) as second, fresh_tab(browser) as still:
        second.set_viewport_size({"width": 390, "height": 844})
        opened(first, running, server)
        opened(second, running, server)
        for tab, share in ((first, 0.3), (second, 0.8)):
            tab.get_by_role("button", name="Pause (space)").click()
            is_paused(tab)
            jump(tab, share)
        still.goto(f"{running.url}/played?{urlencode(server.stretch)}")  # type: ignore[attr-defined]
        until(lambda: COUNT * 0.1 < count(first) < COUNT * 0.5)
        until(lambda: COUNT * 0.6 < count(second) < COUNT)
        until(lambda: still.get_by_text(f"{COUNT} and").count() == 1)
        expect(still.locator(".lb-word")).to_have_text("Past")
        expect(still.locator(".lb-play_bar")).to_have_count(0)
        box = second.locator(".lb-play_bar").bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        assert second.evaluate("document.documentElement.scrollWidth") <= 390
