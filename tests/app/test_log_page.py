"""counts(), heatmap() and tail() in the whole app, against a real nats-server: they show exactly the
published messages."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect
from streamlit.testing.v1 import AppTest

from tests.browser import fresh_tab
from tests.nats import NatsServer, running_server
from tests.running import app
from tests.waiting import until

HOSTILE = "<img/src=x/onerror=hacked()>"
PAGE = '''"""Log."""

from components import counts, heatmap, live, tail

log = live("LOG", "log.{service}", look_back="PT10M")
counts(log, "level", title="Levels <b>of</b>", most=3)
heatmap(log, "ms", unit="ms", title="Latency")
tail(log, title="Lines")
empty = live("EMPTY", look_back="PT10M")
for draw in (counts, tail):
    draw(empty)
heatmap(empty, "ms")
'''
START = [
    ("INFO", 5.0, "started"),
    ("INFO", 7.0, "GET /"),
    ("3", None, "two\n  lines"),
    (HOSTILE, 900.0, HOSTILE),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with a log."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.add_stream("LOG", ["log.>"])
        server.add_stream("EMPTY", ["empty"])
        say(server, *START)
        yield server


@pytest.fixture(scope="module")
def url(server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an app with the page."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "pages").mkdir()
    (folder / "pages" / "overview.py").write_text(PAGE)
    with app(folder, NATS_URL=server.url, LOOKBACK_PAGES=str(folder / "pages")) as running:
        yield running.url


def say(server: NatsServer, *lines: tuple[str, float | None, str]) -> None:
    """Publish lines: level, milliseconds and message."""
    rows = [{"level": level, "ms": ms, "message": message} for level, ms, message in lines]
    server.publish("log.api", *(json.dumps(row).encode() for row in rows))


def content(tab: Page, kind: str) -> dict[str, Any]:
    """The content that the browser holds of an element."""
    found = tab.evaluate(f"() => document.querySelector('.lb-{kind}')?.lookback?.content ?? {{}}")
    assert isinstance(found, dict)
    return found


def legend(tab: Page) -> dict[str, str]:
    """The counts of the series, by name."""
    entries = tab.locator(".lb-counts .lb-canvas-legend > span")
    found = entries.evaluate_all("all => all.map(e => [e.children[1].textContent, e.lastChild.textContent])")
    return dict(found)


def lines(tab: Page) -> list[str]:
    """The texts of the visible lines."""
    return tab.locator(".lb-log-line:not([hidden]) .lb-log-text").all_text_contents()


def axes(tab: Page) -> list[list[float]]:
    """The time ranges of the two charts, as start and end in ms."""
    found = tab.evaluate(
        "() => ['counts', 'heatmap'].map(kind => document.querySelector(`.lb-${kind}`).lookback)"
        ".map(chart => [chart.from, chart.to])"
    )
    assert isinstance(found, list)
    return found


def test_two_viewers_see_each_message(server: NatsServer, url: str, browser: Browser) -> None:
    """Each message reaches both viewers in all three elements; markup in it is plain text. The pointer shows
    exact numbers and marks the same time in the other chart. Elements of an empty stream say that it has no
    messages."""
    with fresh_tab(browser) as one, fresh_tab(browser) as other:
        for tab in (one, other):
            tab.add_init_script("window.hacked = () => { window.bad = true }")
            tab.goto(url)
            until(lambda: lines(tab)[-4:] == [message for *_, message in START])
            until(lambda: legend(tab) == {"INFO": "2", "3": "1", HOSTILE: "1"})
        say(server, ("INFO", 6.0, "live"), ("3", 1.0, "next"), ("DEBUG", 2.0, "next"), ("DEBUG", 3.0, "next"))
        for tab in (one, other):
            until(lambda: lines(tab)[-3:] == ["next"] * 3)
            until(lambda: legend(tab) == {"INFO": "3", "DEBUG": "2", "3": "2", "1 other": "1"})
            assert tab.evaluate("window.bad") is None
            expect(tab.locator(".lb-counts .lb-canvas-title")).to_have_text("Levels <b>of</b>")
            assert [tab.locator(".lb-log-line b").nth(i).inner_text() for i in (0, 2, 3)] == [
                "INFO",
                "ERROR",
                HOSTILE,
            ]
            assert tab.locator(".lb-log-line").nth(2).get_attribute("data-level") == "error"
            expect(tab.get_by_text("No messages in the last 10 minutes")).to_have_count(3)
        held = content(one, "counts")
        column = max(int(name[1:]) for name in held if name[0] == "c")
        point(one, "counts", (column + 0.5) * 10_000, 60)
        expect(one.locator(".lb-counts .lb-tip")).to_contain_text(str(sum(held[f"c{column}"])))
        expect(one.locator(".lb-heatmap .lb-crosshair")).to_be_visible()
        point(one, "heatmap", (column + 0.5) * 10_000, 238)
        cells = content(one, "heatmap")[f"c{column}"]
        expect(one.locator(".lb-heatmap .lb-tip")).to_contain_text(f"{cells[1]} from 0 ms to below")


def point(tab: Page, kind: str, at: float, down: float) -> None:
    """Move the pointer in a chart to a time, in ms, and `down` px below the top."""
    place = tab.locator(f".lb-{kind} canvas")
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    assert box is not None
    across = tab.evaluate(
        "([kind, at]) => { const { left, at: x } = document.querySelector(`.lb-${kind}`).lookback.timeAxis();"
        " return left + x(at) }",
        [kind, at],
    )
    tab.mouse.move(box["x"] + across, box["y"] + down)


def test_a_log_can_be_held_searched_and_read(server: NatsServer, url: str, browser: Browser) -> None:
    """A held log stands still and counts new lines, as does a log that is scrolled up or has an open line. A
    search filters the lines, and the arrow keys and Enter open a line in full."""
    say(server, *(("INFO", 5.0, f"line {n}") for n in range(60)), ("warning", 1.0, "x" * 1500 + "end"))
    with fresh_tab(browser) as tab:
        tab.goto(url)
        until(lambda: len(lines(tab)) > 60 and lines(tab)[-1] == "x" * 1000 + "…")
        box, status = tab.locator(".lb-lines"), tab.locator(".lb-tail [role=status]")
        until(lambda: at_end(tab))
        tab.get_by_role("button", name="Hold").click()
        before = lines(tab)
        say(server, *(("INFO", 5.0, f"more {n}") for n in range(3)))
        expect(status).to_have_text("Held, 3 new")
        assert lines(tab) == before
        tab.get_by_role("button", name="Continue").click()
        until(lambda: lines(tab)[-1] == "more 2")
        until(lambda: at_end(tab))
        box.evaluate("box => { box.scrollTop = 0 }")
        expect(status).to_have_text("Held while you read above")
        say(server, ("INFO", 5.0, "unseen"))
        expect(status).to_have_text("Held while you read above, 1 new")
        box.evaluate("box => { box.scrollTop = box.scrollHeight }")
        until(lambda: lines(tab)[-1] == "unseen")
        until(lambda: at_end(tab))
        tab.get_by_label("Search these lines").fill("WARN")
        until(lambda: len(lines(tab)) == 1)
        expect(tab.locator(".lb-tail .lb-note")).to_contain_text("1 of ")
        box.focus()
        tab.keyboard.press("ArrowUp")
        tab.keyboard.press("Enter")
        until(lambda: lines(tab) == ["x" * 1500 + "end"])
        expect(status).to_have_text("Held while a line is open")
        tab.keyboard.press("Escape")
        expect(status).to_have_text("")
        tab.get_by_label("Search these lines").fill("no such line")
        expect(tab.locator(".lb-tail .lb-note")).to_contain_text("None of these")


def at_end(tab: Page) -> bool:
    """True if the newest line is in sight."""
    found = tab.evaluate(
        "() => { const box = document.querySelector('.lb-lines');"
        " return box.scrollHeight - box.scrollTop - box.clientHeight < 6 }"
    )
    return bool(found)


def test_one_zoom(url: str, browser: Browser) -> None:
    """A drag in one chart zooms both, a double click resets both, and a switch limits the zoom to one chart.
    The arrow keys show the numbers of each interval in turn."""
    with fresh_tab(browser) as tab:
        tab.goto(url)
        until(lambda: content(tab, "counts") and content(tab, "heatmap"))
        until(lambda: None not in axes(tab)[0] and axes(tab)[0] == axes(tab)[1])
        canvas = tab.locator(".lb-counts canvas")
        box = canvas.bounding_box()
        assert box is not None
        tab.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 50)
        tab.mouse.down()
        tab.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 60, steps=3)
        whole = axes(tab)[0]
        tab.mouse.up()
        until(lambda: axes(tab)[1] == axes(tab)[0] != whole)
        zoomed = axes(tab)[0]
        assert 0.2 < (zoomed[1] - zoomed[0]) / (whole[1] - whole[0]) < 0.4
        tab.locator(".lb-heatmap").get_by_label("Zoom only this chart").check()
        until(lambda: axes(tab)[1] != axes(tab)[0] == zoomed)
        tab.locator(".lb-counts canvas").dblclick()
        until(lambda: axes(tab)[0] == axes(tab)[1] != zoomed)
        expect(tab.locator(".lb-counts").get_by_label("Zoom only this chart")).to_have_count(0)
        tab.locator(".lb-heatmap").get_by_label("Zoom only this chart").click()  # the switch then disappears
        expect(tab.locator(".lb-heatmap").get_by_label("Zoom only this chart")).to_have_count(0)
        for kind in ("counts", "heatmap"):
            tip = tab.locator(f".lb-{kind} .lb-tip")
            tab.locator(f".lb-{kind} canvas").focus()
            tab.keyboard.press("Home")
            first = tip.inner_text()
            tab.keyboard.press("ArrowRight")
            until(lambda tip=tip, first=first: tip.inner_text() != first)  # type: ignore[misc]
            tab.keyboard.press("Escape")
            expect(tip).to_be_hidden()


def test_a_phone(url: str, browser: Browser) -> None:
    """On a phone nothing is wider than the screen, and a tap shows exact numbers until the next tap."""
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with fresh_tab(browser, **phone) as tab:
        tab.goto(url)
        until(lambda: content(tab, "counts") and lines(tab))
        until(lambda: tab.evaluate("document.documentElement.scrollWidth") <= 390)
        canvas, tip = tab.locator(".lb-counts canvas"), tab.locator(".lb-counts .lb-tip")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        assert box is not None
        tab.touchscreen.tap(box["x"] + 60, box["y"] + 100)
        expect(tip).to_contain_text(" to ")
        tab.get_by_text("Latency").tap()
        expect(tip).to_be_hidden()


def test_past_stretches(server: NatsServer, url: str, browser: Browser) -> None:
    """A page at a stretch counts its messages and no later ones. A playback of the stretch that has reached
    its end shows the same."""
    say(server, ("INFO", 5.0, "before"))
    time.sleep(1.1)
    start = pd.Timestamp.now("UTC")
    say(server, *(("INFO", 5.0 + n, f"within {n}") for n in range(9)))
    time.sleep(1.1)
    end = pd.Timestamp.now("UTC")
    say(server, ("INFO", 5.0, "after"))
    where = f"?from={start:%FT%T.%f}Z&to={end:%FT%T.%f}Z"
    with fresh_tab(browser) as tab:
        tab.goto(url + where)
        until(lambda: lines(tab) == [f"within {n}" for n in range(9)])
        tab.goto(f"{url}?to={end:%FT%T.%f}Z")
        until(lambda: lines(tab)[-10:] == ["before", *(f"within {n}" for n in range(9))])
        until(lambda: legend(tab))
        still = {kind: columns(tab, kind) for kind in ("counts", "heatmap")}
        shown = lines(tab)
        tab.goto(f"{url}{where}&play=10")
        until(lambda: lines(tab) == shown)
        until(lambda: {kind: columns(tab, kind) for kind in still} == still)


def columns(tab: Page, kind: str) -> dict[str, Any]:
    """The intervals that have rows, by name."""
    return {name: column for name, column in content(tab, kind).items() if name[0] == "c"}


def test_results_of_sql(server: NatsServer, open_page: Callable[..., AppTest]) -> None:
    """Rows of a result are drawn like rows of a stream; a result without times is refused in a sentence."""
    source = """
from components import counts, heatmap, live, sql, tail
log = live("LOG")
rows = sql("SELECT _time, level, ms, message FROM log WHERE message = 'GET /'", log=log)
counts(rows, "level")
heatmap(rows, "ms")
tail(rows)
counts(sql("SELECT level FROM log", log=log))
"""
    say(server, ("INFO", 5.0, "GET /"))
    page = open_page(source, blocked=True)
    found: dict[str, Any] = {}

    def complete() -> bool:
        page.session_state["_blocked"] = True
        found.update(drawn(page.run()))
        return len(found) == 3

    until(complete)
    one, other, log = (found[name] for name in ("others", "rows", "came"))
    texts = [each[1:] for name, each in log.items() if name[0] == "l"]
    assert texts
    assert all(each == ["INFO", "GET /"] for each in texts)
    assert one["s0"] == ["INFO", len(texts)]
    assert sum(sum(each[1::2]) for name, each in other.items() if name[0] == "c") == len(texts)
    assert "Counts over time needs times" in " ".join(each.value for each in page.error)


def drawn(page: AppTest) -> dict[str, Any]:
    """The contents of the three elements, by the name of an entry that only this element has."""
    parsed = [json.loads(each.proto.json or "{}") for each in page.get("bidi_component")]
    held = [each["content"] for each in parsed if isinstance(each, dict) and "content" in each]
    return {name: each for each in held for name in ("others", "rows", "came") if name in each}


def test_wrong_arguments(server: NatsServer, open_page: Callable[..., AppTest]) -> None:
    """A wrong argument gets a sentence that says what is allowed."""
    source = "from components import counts, heatmap, live, tail\nlog = live('LOG')\n{}"
    for call, sentence in (
        ("counts(log, 'levl')", "There is no column 'levl'"),
        ("counts(log, 'ms')", "holds numbers, not texts"),
        ("counts(log, most=0)", "1 to 30 series"),
        ("counts(log, every='soon')", "The interval 'soon' is not a duration"),
        ("counts(log, bars=3)", "It is called as counts(view, by=None"),
        ("heatmap(log, 'message')", "holds texts, not numbers"),
        ("heatmap(log, 'ms', every='0.5 ms')", "whole milliseconds"),
        ("heatmap(log)", "It is called as heatmap(view, y"),
        ("tail(log, 'text')", "There is no column 'text'"),
        ("tail(log, most=10**6)", "1 to 2000 lines"),
    ):
        page = open_page(source.format(call))
        assert sentence in " ".join(each.value for each in page.error).replace("\\", ""), call
