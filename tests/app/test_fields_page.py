"""The tabs Fields and Subjects of Explore in a real browser, with two viewers."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from components.data.live import look_at
from components.tables.fields import _FieldsSource
from nats_client import Client, Settings
from tests.browser import fresh_tab
from tests.nats import NatsServer, running_server
from tests.running import app
from tests.waiting import until

FIELD = "m`s<b>"
HOSTILE = "<img/src=x/onerror=hacked()>"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server with orders and devices."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.add_stream("SHOP", ["orders.>", "devices.>"])
        for subject in ("orders.eu", "orders.us"):
            server.publish(subject, *(json.dumps({FIELD: i}).encode() for i in range(200)))
        for i in range(20):
            server.publish(f"devices.{i}.temp", json.dumps({"celsius": 20.5 + i}).encode())
        yield server


@pytest.fixture(scope="module")
def url(server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app."""
    with app(tmp_path_factory.mktemp("app"), NATS_URL=server.url) as running:
        yield running.url


@pytest.fixture(scope="module")
def tabs(url: str, browser: Browser) -> Iterator[list[Page]]:
    """Two viewers."""
    with fresh_tab(browser) as one, fresh_tab(browser) as other:
        for tab in (one, other):
            tab.add_init_script("window.hacked = () => { window.bad = true }")
        yield [one, other]


def test_fields_of_a_pattern(server: NatsServer, url: str, tabs: list[Page]) -> None:
    """Fields are listed by subject pattern. A click shows the fields of one pattern, and a link opens that
    choice. A change of a field's kind is reported to all viewers as it happens, with names and values as
    plain text."""
    one, other = tabs
    one.goto(f"{url}/explore?stream=SHOP")
    patterns = one.locator(".lb-patterns tbody tr")
    expect(patterns).to_contain_text(["All", "orders.eu", "orders.us", "devices.*.temp"], timeout=60_000)
    fields = ".lb-field_list .lb-rows:not(.lb-patterns) tbody tr"
    expect(one.locator(fields)).to_contain_text([FIELD, "celsius"])
    expect(one.locator(".lb-changes")).to_be_hidden()
    patterns.filter(has_text="devices").click()
    expect(one.locator(fields)).to_have_count(1)
    expect(one.locator(fields)).to_contain_text("100 %")
    until(lambda: "pattern=devices" in one.evaluate("location.search"))
    other.goto(f"{url}/explore{one.evaluate('location.search')}")
    expect(other.locator(fields)).to_contain_text(["celsius"], timeout=60_000)
    expect(other.locator(".lb-patterns [aria-current]")).to_contain_text("devices.*.temp")

    server.publish("orders.eu", *(json.dumps({FIELD: HOSTILE}).encode() for _ in range(50)))
    for tab in tabs:
        sentence = tab.locator(".lb-changes li")
        expect(sentence).to_contain_text(
            f"{FIELD} is text in 100 % of the rows of orders.eu, such as “<img/src"
        )
        expect(sentence.locator("code")).to_have_text(FIELD)
    one.locator(".lb-patterns tbody tr").first.click()
    expect(one.locator(fields)).to_contain_text([FIELD, "celsius"])
    expect(one.locator(fields).first).to_contain_text("integer 89 %, text 11 %")
    until(lambda: "pattern" not in one.evaluate("location.search"))
    assert [tab.evaluate("window.bad") for tab in tabs] == [None, None]


def test_no_rows(server: NatsServer) -> None:
    """Without rows the table says so, with the look-back. Rows without fields are another case."""
    server.add_stream("EMPTY", ["empty.>"])
    with Client(Settings(url=server.url)) as client:
        feed = client.feed("EMPTY", look_back="PT5M")
        assert feed.wait(30)
        source = _FieldsSource(look_at(feed, feed.look_back, True), "UTC", None)
        assert source.look()["note"] == "No rows in the last 5 minutes."
        server.publish("empty.a", b"{}")
        until(lambda: source.look()["note"] == "The rows have no fields.")


def test_subjects_are_a_tree(server: NatsServer, url: str, tabs: list[Page]) -> None:
    """Levels open with a click and are in the link. Numbers of messages and rates are updated for all
    viewers. A search finds subjects, and a click makes a subject the page's filter."""
    one, other = tabs
    one.goto(f"{url}/explore?stream=SHOP&show=Subjects")
    rows = ".lb-subject_tree tbody tr"
    expect(one.locator(rows)).to_contain_text(["devices", "orders"], timeout=60_000)
    one.get_by_role("button", name="Levels of orders").click()
    expect(one.locator(rows)).to_contain_text(["devices", "orders", "eu", "us"])
    until(lambda: "open=orders" in one.evaluate("location.search"))
    other.goto(f"{url}/explore{one.evaluate('location.search')}")
    expect(other.locator(rows)).to_contain_text(["devices", "orders", "eu", "us"], timeout=60_000)

    server.publish(f"orders.{HOSTILE}", *(json.dumps({FIELD: i}).encode() for i in range(50)))
    for tab in tabs:
        row = tab.locator(rows, has_text=HOSTILE)
        expect(row.locator("td").last).to_have_text("5")
    one.get_by_label("Find subjects").fill("7.te")
    one.get_by_label("Find subjects").press("Enter")
    expect(one.locator(rows)).to_contain_text(["devices", "7", "temp", "17", "temp"])
    one.get_by_role("button", name="temp").first.click()
    expect(one.locator('input[aria-label*="Subjects"]')).to_have_value("devices.7.temp")
    until(lambda: "subjects=devices.7.temp" in one.evaluate("location.search"))
    expect(one.locator(rows)).to_have_count(3)
    other.get_by_role("button", name="Levels of orders").click()
    other.get_by_role("button", name="orders", exact=True).click()
    expect(other.locator('input[aria-label*="Subjects"]')).to_have_value("orders.>")
    expect(other.locator(rows)).to_contain_text(["orders"])
    assert [tab.evaluate("window.bad") for tab in tabs] == [None, None]
