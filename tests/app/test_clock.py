"""The clock above every page: a viewer chooses the time that all pages show, and a link keeps it.

Slow, because browsers open pages at several times.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from urllib.parse import urlencode

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect
from streamlit.testing.v1 import AppTest

from tests.browser import fresh_tab, pick
from tests.nats import NatsServer, running_server
from tests.running import ROOT, App, app
from tests.status_line import status_html
from tests.waiting import until

Open = Callable[..., AppTest]
PAGE = """
import time
import streamlit as st
from components import alerts, line_chart, live, metric, sql
rows = live("S", "s.*", look_back=f"PT{time.time() - MIDDLE:.1f}S")
if not rows:
    st.stop()
metric(rows, "n", over="PT1S", change="PT1S")
line_chart(rows, "n")
alerts(rows, "n", {"high": "> 7"})
st.text(f"rows {sorted(rows['n'].astype(int))}")
st.text(f"sum {int(sql('SELECT sum(n) AS n FROM rows', rows=rows)['n'].iloc[0])}")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with messages from three times, and a bucket with a history of one value per key."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.add_stream("S", ["s.>"])
        server.run(lambda nc: nc.jetstream().create_key_value(bucket="settings"))
        server.publish("$KV.settings.kept", b"1")
        server.publish("$KV.settings.cpu", b"1")
        server.began = iso_now()  # type: ignore[attr-defined]
        server.publish("s.a", *[json.dumps({"n": n}).encode() for n in range(5)])
        time.sleep(3)
        server.middle = time.time()  # type: ignore[attr-defined]
        time.sleep(3)
        server.publish("$KV.settings.cpu", b"2")
        server.publish("s.a", *[json.dumps({"n": n}).encode() for n in range(5, 10)])
        server.ended = iso_now(1)  # type: ignore[attr-defined]
        time.sleep(2)
        server.publish("s.a", *[json.dumps({"n": n}).encode() for n in range(10, 15)])
        yield server


def iso_now(more: float = 0, zone: str = "UTC") -> str:
    """Now, or some seconds later, in ISO 8601 with milliseconds, as in an address."""
    return pd.Timestamp(time.time() + more, unit="s", tz=zone).isoformat(timespec="milliseconds")


def at(server: NatsServer, which: str) -> str:
    """A time in ISO 8601: `began`, before any message; `middle`, after the first five; `ended`, after the
    first ten."""
    if which == "middle":
        return pd.Timestamp(server.middle, unit="s", tz="UTC").isoformat(timespec="milliseconds")  # type: ignore[attr-defined]
    return str(getattr(server, which))


def source(server: NatsServer) -> str:
    """The source of the page; its own look-back holds the last ten messages."""
    return PAGE.replace("MIDDLE", str(server.middle))  # type: ignore[attr-defined]


def said(page: AppTest) -> str:
    """The texts and warnings of the page."""
    return " ".join([each.value for each in page.text] + [each.value for each in page.warning])


def test_all_reads_obey(open_page: Open, server: NatsServer) -> None:
    """A length in the address replaces the look-back of each read of a page, and everything derived from the
    rows uses that length. If the page keeps its own length, the address has none."""
    page = open_page(source(server))
    assert "rows [5, 6, 7, 8, 9, 10, 11, 12, 13, 14] sum 95" in said(page)
    page = open_page(source(server), last="PT1H")
    assert "rows [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14] sum 105" in said(page)
    assert "rows in 1 hour" in status_html(page)
    assert page.query_params["last"] == "PT1H"
    assert not page.exception
    assert not page.error


def test_a_shorter_length_breaks_no_page(open_page: Open, server: NatsServer) -> None:
    """A length shorter than a page's code requires is no error: a metric uses what the length holds, and a
    comparison still reads the periods it needs."""
    page = open_page(source(server), last="PT1S")
    assert not page.error
    page = open_page(ROOT / "pages" / "compare.py", stream="S", last="PT1S")
    assert not page.error
    assert "rows in 2 hours" in status_html(page)


@pytest.mark.parametrize(
    ("last", "kept"),
    [("1h 30m", "PT1H30M"), ("90 minutes", "PT1H30M"), ("last 2 hours", "PT2H"), ("P1D", "P1D")],
)
def test_as_people_write_it(open_page: Open, server: NatsServer, last: str, kept: str) -> None:
    """A length in an address may be written as people write it; the page rewrites it in ISO 8601."""
    page = open_page(source(server), last=last)
    assert page.query_params["last"] == kept
    assert "sum 105" in said(page)


@pytest.mark.parametrize("last", ["nonsense", "PT0S", "-5m", "400 days", "P1M", "5", "x" * 5000, "<b>1h</b>"])
def test_a_wrong_length(open_page: Open, server: NatsServer, last: str) -> None:
    """An invalid length is named in a sentence, and the page uses its own look-back."""
    page = open_page(source(server), last=last)
    sentence = said(page)
    assert "sum 95" in sentence
    assert "The page looks as far back from now as it says itself" in sentence
    assert len(sentence) < 1000
    assert "last" not in page.query_params
    assert not page.exception


@pytest.mark.parametrize(
    ("start", "end", "numbers"),
    [("began", "middle", range(5)), ("middle", "ended", range(5, 10)), ("began", "ended", range(10))],
)
def test_a_stretch(open_page: Open, server: NatsServer, start: str, end: str, numbers: range) -> None:
    """A page at a stretch has exactly the rows of the stretch, in code and in SQL. The status line says that
    it is in the past, and the address keeps the stretch."""
    query = {"from": at(server, start), "to": at(server, end)}
    page = open_page(source(server), **query)
    assert f"rows {list(numbers)} sum {sum(numbers)}" in said(page)
    assert "Past" in status_html(page)
    assert not page.error
    for name, time_ in query.items():
        assert pd.Timestamp(page.query_params[name]) == pd.Timestamp(time_).floor("ms")


def test_until(open_page: Open, server: NatsServer) -> None:
    """An end alone keeps the page's own look-back; a length and an end make a stretch."""
    page = open_page(source(server).replace('f"PT{', 'f"PT1{'), to=at(server, "middle"))
    assert "rows [0, 1, 2, 3, 4] sum 10" in said(page)
    assert page.query_params["to"]
    page = open_page(source(server), to=at(server, "ended"), last="2 hours")
    assert "sum 45" in said(page)
    assert page.query_params["from"]
    assert "last" not in page.query_params


def test_nothing_there(open_page: Open, server: NatsServer) -> None:
    """A stretch without messages is reported with its times, without a promise of new ones."""
    page = open_page(source(server), **{"from": "2026-01-01", "to": "2026-01-01T06:00:00Z"})
    (sentence,) = [each.value.replace("\\", "") for each in page.info]
    assert "No messages from 01 Jan 00:00:00 to 01 Jan 06:00:00 (stream S, subject s.*)." in sentence
    assert "New ones" not in sentence
    assert "Empty" in status_html(page)


def test_what_has_no_past(open_page: Open, server: NatsServer) -> None:
    """A page at a stretch says that plain subjects have no history."""
    query = {"from": at(server, "began"), "to": at(server, "ended")}
    page = open_page("from components import live\nlive(subject='t.>')", **query)
    assert "have no history" in page.error[0].value


def test_values_of_then(open_page: Open, server: NatsServer) -> None:
    """A bucket has the values of its stretch's end, and the page counts the keys whose value at that time is
    unknown: in code, as a table of SQL, and while a stretch is played."""
    source = "import streamlit as st\nfrom components import sql, values\nb = values('settings')\n"
    source += "st.text(dict(b))\nst.text(sql('SELECT key FROM b', b=b)['key'].tolist())"
    middle = {"from": at(server, "began"), "to": at(server, "middle")}
    page = open_page(source, **middle)
    assert [each.value for each in page.text] == ["{'kept': 1}", "['kept']"]
    assert "Past" in status_html(page)
    assert "1 key is not known as of then" in said(page)
    page = open_page(f"{source}\nb['cpu']", **middle)
    assert "The value of 'cpu' in the bucket 'settings' is not known as of then" in page.error[0].value
    page = open_page(source, **{**middle, "to": at(server, "ended")})
    assert page.text[0].value == "{'cpu': 2, 'kept': 1}"
    page = open_page(source, **{**middle, "to": at(server, "ended"), "play": "600"})
    until(lambda: page.run().text[0].value == "{'cpu': 2, 'kept': 1}")
    assert not page.exception


def test_the_page_key_value_then(open_page: Open, server: NatsServer) -> None:
    """The page Key-value shows the values at the end of the stretch, and names the keys whose value is
    unknown, also if such a key is chosen."""
    middle = {"from": at(server, "began"), "to": at(server, "middle")}
    page = open_page(ROOT / "pages" / "values.py", **middle, bucket="settings")
    assert page.dataframe[0].value["key"].tolist() == ["kept"]
    (caption,) = [each.value for each in page.caption if "Not known as of then" in each.value]
    assert "cpu: its history begins at" in caption.replace("\\", "")
    page = open_page(ROOT / "pages" / "values.py", **middle, bucket="settings", key="cpu")
    assert "is not known as of then" in said(page)
    assert not page.exception


def test_pages_in_the_past(open_page: Open, server: NatsServer) -> None:
    """The built-in pages show a stretch; the page Compare shows the periods before its end."""
    query = {"stream": "S", "from": at(server, "began"), "to": at(server, "ended")}
    for name in ("explore", "alerts", "compare"):
        page = open_page(ROOT / "pages" / f"{name}.py", **query)
        assert not page.exception, name
        assert not page.error, name
        assert "<b>10</b> rows" in status_html(page), name
        assert "Past" in status_html(page), name


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"from": "2026-11-29T15:00:00Z", "to": "2026-11-29T14:00:00Z"}, "ends before it starts"),
        ({"from": "2026-11-29T15:00:00Z", "to": "2026-11-29T15:00:00Z"}, "ends before it starts"),
        ({"from": "2199-01-01", "to": "2199-01-02"}, "is still to come"),
        ({"from": "2020-01-01", "to": "2026-01-01"}, "longer than 366 days"),
        ({"from": "yesterday", "to": "now"}, "from='yesterday' is not a time"),
        ({"from": "2026-13-01", "to": "2026-11-29"}, "from='2026-13-01' is not a time"),
        ({"to": "9999-01-01T00:00:00Z"}, "is not a time"),
        ({"to": "x" * 5000}, "is not a time"),
        ({"from": "2026-11-29T15:00:00Z"}, "needs an end"),
    ],
)
def test_a_wrong_stretch(open_page: Open, server: NatsServer, query: dict[str, str], sentence: str) -> None:
    """An invalid stretch is named in a sentence, and the page is live."""
    page = open_page(source(server), **query)
    assert sentence in said(page).replace("\\", "")
    assert len(said(page)) < 1000
    assert "sum 95" in said(page)
    assert not page.exception
    assert {"from", "to", "last"}.isdisjoint(page.query_params)


@pytest.mark.parametrize("label", ["Last", "From", "To", "Play"])
def test_a_name_that_is_taken(open_page: Open, server: NatsServer, label: str) -> None:
    """A page's own choice cannot have the name of a parameter that all pages share; the page says so."""
    page = open_page(f"from components import choose_text\nchoose_text('{label}')", last="PT1H")
    assert f"The address has '{label.lower()}' for all pages" in page.error[0].value.replace("\\", "")
    assert page.query_params["last"] == "PT1H"
    assert not page.exception


def test_an_end_still_to_come(open_page: Open, server: NatsServer) -> None:
    """A stretch whose end is in the future ends now."""
    page = open_page(source(server), **{"from": at(server, "middle"), "to": "2199-01-01"})
    assert "sum 95" in said(page)
    assert pd.Timestamp(page.query_params["to"]) <= pd.Timestamp.now("UTC")


def test_moving(open_page: Open, server: NatsServer) -> None:
    """Earlier, later and wider move the stretch, never beyond now; Live leaves it."""
    query = {"from": "2026-11-01T10:00:00Z", "to": "2026-11-01T12:00:00Z"}
    page = open_page(source(server), **query)

    def stretch() -> tuple[str, str]:
        return page.query_params["from"], page.query_params["to"]

    for name, start, end in (
        ("earlier", "2026-11-01T09:00:00Z", "2026-11-01T11:00:00Z"),
        ("later", "2026-11-01T10:00:00Z", "2026-11-01T12:00:00Z"),
        ("wider", "2026-11-01T09:00:00Z", "2026-11-01T13:00:00Z"),
    ):
        page.button(key=f"_clock_{name}").click().run()
        assert stretch() == (start, end)
    page.button(key="_clock_live").click().run()
    assert "sum 95" in said(page)
    assert {"from", "to", "last"}.isdisjoint(page.query_params)


def test_a_time_that_comes_twice(open_page: Open, server: NatsServer) -> None:
    """Boxes whose times occur twice, when clocks are set back, keep the exact stretch if they are left alone.
    A time chosen in one means the first of the two."""
    query = {"from": "2026-10-25T00:30:00Z", "to": "2026-10-25T01:30:00Z"}
    page = open_page("import streamlit as st\nst.text('page')", tz="Europe/Berlin", **query)
    for changed in (None, datetime.fromisoformat("2026-10-25T02:10")):
        if changed:
            page.datetime_input(key="_clock_from").set_value(changed)
        (button,) = [each for each in page.button if each.label == "Show this stretch"]
        button.click().run()
        expected = "2026-10-25T00:10:00Z" if changed else query["from"]
        assert (page.query_params["from"], page.query_params["to"]) == (expected, query["to"])


def test_a_zone(open_page: Open, server: NatsServer) -> None:
    """The time zone in the address, in upper or lower case, applies to the clock, to times typed into it and
    to the times on pages. The viewer may choose another zone, or return to their own."""
    query = {"from": "2026-11-01T10:00:00Z", "to": "2026-11-01T12:00:00Z", "tz": "asia/tokyo"}
    source = "import streamlit as st\nfrom components.words import date_text, zone\nst.text(zone())\n"
    page = open_page(f"{source}st.text(date_text(0))", **query)
    assert [each.value for each in page.text] == ["Asia/Tokyo", "1970-01-01 09:00:00"]
    assert page.query_params["tz"] == "Asia/Tokyo"
    assert page.session_state["_clock_from"] == datetime(2026, 11, 1, 19)
    assert not page.warning
    page.selectbox(key="_zone_choice").select("America/New_York").run()
    assert [each.value for each in page.text] == ["America/New_York", "1969-12-31 19:00:00"]
    assert page.session_state["_clock_from"] == datetime(2026, 11, 1, 5)
    assert page.query_params["from"] == query["from"]
    page.selectbox(key="_zone_choice").select("UTC (this browser)").run()
    assert page.text[0].value == "UTC"
    assert "tz" not in page.query_params


@pytest.mark.parametrize(
    "wrong", ["Mars/Olympus", "../../etc/passwd", "Europe", "x" * 5000, "a\0b", "+02:00"]
)
def test_a_wrong_zone(open_page: Open, server: NatsServer, wrong: str) -> None:
    """An invalid time zone is named in a sentence, and times are in the viewer's own zone."""
    page = open_page("import streamlit as st\nfrom components.words import zone\nst.text(zone())", tz=wrong)
    assert page.text[0].value == "UTC"
    assert "is not a time zone. Write a name such as Europe/Berlin" in page.warning[0].value.replace("\\", "")
    assert len(page.warning[0].value) < 400
    assert not page.exception
    page.selectbox(key="_zone_choice").select("Asia/Tokyo").run()
    assert page.text[0].value == "Asia/Tokyo"
    assert not page.warning


@pytest.fixture(scope="module")
def running(server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with that page."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "pages").mkdir()
    (folder / "pages" / "clocked.py").write_text(source(server))
    with app(folder, NATS_URL=server.url, LOOKBACK_PAGES=str(folder / "pages")) as running:
        yield running


def addressed(tab: Page) -> str:
    """The query of the browser's current address, decoded."""
    return str(tab.evaluate("decodeURIComponent(location.search)")).removeprefix("?")


def test_choosing(running: App, browser: Browser) -> None:
    """A viewer chooses a length from the list or types one. The address has it, the next page keeps it,
    Back keeps it, and another viewer who opens the link sees the same. An invalid length is reported and
    removed."""
    with fresh_tab(browser) as tab:
        tab.goto(f"{running.url}/clocked")
        clock = tab.locator(".st-key-page-clock").get_by_role("button").first
        expect(clock).to_contain_text("Live", timeout=30_000)
        clock.click()
        tab.get_by_role("radio", name="Last 6 hours").click()
        expect(clock).to_contain_text("Live, last 6 hours")
        until(lambda: addressed(tab) == "last=PT6H")
        expect(tab.get_by_text("sum 105")).to_be_visible()
        box = tab.get_by_role("textbox", name="Another length")
        box.fill("3 hours")
        box.press("Enter")
        expect(clock).to_contain_text("Live, last 3 hours")
        until(lambda: addressed(tab) == "last=PT3H")
        tab.keyboard.press("Escape")
        tab.get_by_role("link", name="Inside").click()
        expect(tab.locator("h1")).to_have_text("Inside")
        until(lambda: addressed(tab) == "last=PT3H")
        expect(clock).to_contain_text("Live, last 3 hours")
        with fresh_tab(browser) as other:
            other.goto(tab.url)
            expect(other.locator(".st-key-page-clock")).to_contain_text("Live, last 3 hours", timeout=30_000)
        tab.go_back()
        expect(tab.locator("h1")).to_have_text("Clocked")
        until(lambda: addressed(tab) == "last=PT3H")
        clock.click()
        box.fill("soon")
        box.press("Enter")
        expect(tab.get_by_text("The look-back 'soon' is not a duration")).to_be_visible()
        until(lambda: addressed(tab) == "")


def test_choosing_a_zone(running: App, browser: Browser) -> None:
    """A chosen zone applies to charts at once, and a zoom keeps its place in time. The clock names the
    zone, the address has it and the next page keeps it; an invalid zone is reported. Charts do not repeat
    the zone."""
    chart = "document.querySelector('.js-plotly-plot')?.parentElement.lookback"
    with fresh_tab(browser, timezone_id="Europe/Madrid") as tab:
        tab.goto(f"{running.url}/clocked?last=PT1H&tz=UTC")
        until(lambda: tab.evaluate(f"Boolean({chart}?.drawn)"))
        clock = tab.locator(".st-key-page-clock").get_by_role("button").first
        expect(clock).to_contain_text("Live, last hour, UTC")
        assert tab.evaluate(f"{chart}.offset") == 0
        tab.evaluate(f"{chart}.zoomInto([Date.now() - 60_000, Date.now()])")
        zoom = tab.evaluate(f"{chart}.zoomedTimes()")
        clock.click()
        pick(tab, "Time zone", "Asia/Tokyo")
        expect(clock).to_contain_text("Live, last hour, Asia/Tokyo")
        until(lambda: tab.evaluate(f"{chart}.offset") == -9 * 3_600_000)
        assert tab.evaluate(f"{chart}.zoomedTimes()") == zoom
        axis = f"{chart}.plot._fullLayout.xaxis.range.map({chart}.utc, {chart})"
        until(lambda: [round(time) for time in tab.evaluate(axis)] == [round(time) for time in zoom])
        until(lambda: addressed(tab) == "last=PT1H&tz=Asia/Tokyo")
        tab.keyboard.press("Escape")
        assert tab.locator(".lb-legend", has_text="Tokyo").count() == 0
        tab.get_by_role("link", name="Inside").click()
        expect(tab.locator("h1")).to_have_text("Inside")
        until(lambda: addressed(tab) == "last=PT1H&tz=Asia/Tokyo")
        clock.click()
        pick(tab, "Time zone", "Europe/Madrid (this browser)")
        expect(clock).not_to_contain_text("Asia")
        until(lambda: addressed(tab) == "last=PT1H")
        box = tab.get_by_role("combobox", name="Time zone")
        box.fill("Mars/Olympus")
        box.press("Enter")
        expect(tab.get_by_text("'Mars/Olympus' is not a time zone")).to_be_visible()


def look_at_a_part(tab: Page) -> None:
    """Drag over a quarter of a chart, and choose that part as the stretch of the whole page."""
    plot = tab.locator(".js-plotly-plot .nsewdrag").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    first, last = tab.locator(".js-plotly-plot").first.evaluate("el => el._fullLayout.xaxis.range")
    shown = pd.Timestamp(last) - pd.Timestamp(first)
    tab.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2, steps=5)
    tab.mouse.up()
    tab.get_by_role("link", name="Look at this stretch").click()
    until(lambda: "from=" in addressed(tab))
    chosen = dict(part.split("=") for part in addressed(tab).split("&"))
    start, end = (pd.Timestamp(chosen[name]) for name in ("from", "to"))
    assert 0.23 * shown < end - start < 0.27 * shown
    expect(tab.locator(".lb-word")).to_have_text(re.compile("Past|Empty"), timeout=30_000)


def test_viewers_at_different_times(running: App, browser: Browser, server: NatsServer) -> None:
    """Two viewers at different stretches and a live one each see their own rows. A viewer in another zone
    than the server's sees times in that zone, and one click returns to now."""
    zone = "Asia/Kolkata"
    start, end = (pd.Timestamp(at(server, name)) for name in ("began", "middle"))

    def link(start: str, end: str) -> str:
        times = {"from": at(server, start), "to": at(server, end)}
        return f"{running.url}/clocked?{urlencode(times)}"

    with (
        fresh_tab(browser, timezone_id=zone) as first,
        fresh_tab(browser) as second,
        fresh_tab(browser) as live,
    ):
        first.goto(link("began", "middle"))
        second.goto(link("middle", "ended"))
        live.goto(f"{running.url}/clocked?last=PT1H")
        for tab, total in ((first, 10), (second, 35), (live, 105)):
            expect(tab.get_by_text(f"sum {total}", exact=False)).to_be_visible(timeout=30_000)
        expect(first.locator(".lb-word")).to_have_text("Past")
        expect(live.locator(".lb-word")).to_have_text("Live")
        clock = first.locator(".st-key-page-clock").get_by_role("button").first
        words = [
            time.tz_convert(zone).floor("s").strftime("%H:%M:%S").removesuffix(":00") for time in (start, end)
        ]
        expect(clock).to_contain_text(f"{words[0]} to {words[1]}")
        shown = first.locator(".lb-alerts, .js-plotly-plot").first
        expect(shown).to_be_visible()
        clock.click()
        box = first.get_by_test_id("stDateTimeInput").first
        expect(box).to_contain_text(start.tz_convert(zone).strftime("%M"))
        first.keyboard.press("Escape")
        first.get_by_role("button", name="Live", exact=True).click()
        expect(first.get_by_text("sum 95")).to_be_visible()
        expect(first.locator(".lb-word")).to_have_text("Live")
        until(lambda: addressed(first) == "")
        look_at_a_part(live)
        clock.click()
        first.get_by_role("button", name="Show this stretch").click()
        expect(first.locator(".lb-word")).to_have_text("Past")
        until(lambda: "to=" in addressed(first))
        chosen = dict(part.split("=") for part in addressed(first).split("&"))
        hour = pd.Timestamp(chosen["to"]) - pd.Timestamp(chosen["from"])
        assert pd.Timedelta(minutes=59) <= hour <= pd.Timedelta(hours=1)  # until now, from a whole minute on
        assert (
            pd.Timedelta(0) <= pd.Timestamp.now("UTC") - pd.Timestamp(chosen["to"]) < pd.Timedelta(minutes=5)
        )
