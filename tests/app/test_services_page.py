"""The Services page and request() on a page, against real services, with and without a browser."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from playwright.sync_api import Browser, Page, expect
from streamlit.testing.v1 import AppTest

from tests.answers import BAD, answer, answering
from tests.browser import fresh_context, pick
from tests.nats import NatsServer, running_server
from tests.node import node
from tests.running import ROOT, App, app
from tests.service import service
from tests.waiting import until

Open = Callable[..., AppTest]

SERVICES = ROOT / "pages" / "services.py"
SLOW_PAGE = """
import streamlit as st
from components import request

st.metric("Count", request("tester.count", every=60).value())
"""

STRICT = 'authorization { users: [{ user: me, password: x, permissions: { publish: "nothing" } }] }'


@pytest.fixture
def open_page(
    server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], AppTest]]:
    """Open the frame with a single page of the given source."""

    def open_page(source: str) -> AppTest:
        (tmp_path / "pages").mkdir(exist_ok=True)
        (tmp_path / "pages" / "page.py").write_text(source)
        monkeypatch.setattr("components.pages.FOLDER", tmp_path / "pages")
        return AppTest.from_file(str(ROOT / "components" / "frame.py"), default_timeout=30).run()

    monkeypatch.setenv("NATS_URL", server.url)
    yield open_page
    st.cache_data.clear()
    st.cache_resource.clear()


def texts(page: AppTest) -> str:
    """All sentences of the page, without Markdown's backslashes."""
    boxes = [*page.error, *page.warning, *page.info, *page.caption]
    return re.sub(r"\\(.)", r"\1", "\n".join(box.value for box in boxes))


def send(page: AppTest, subject: str, payload: str = "") -> AppTest:
    """Fill in the form and send it."""
    next(box for box in page.text_input if box.label == "Subject").set_value(subject)
    page.text_area(key="request-payload").set_value(payload)
    return next(button for button in page.button if button.label == "Send").click().run()


def test_no_services(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a service the page says so, and no request is sent unless LOOKBACK_ANY_SUBJECT permits it."""
    page = open_page(SERVICES.read_text())
    assert "No service answers." in texts(page)
    assert "'a.b' is not an endpoint of a service that answers. Nothing was sent." in texts(send(page, "a.b"))
    monkeypatch.setenv("LOOKBACK_ANY_SUBJECT", "true")
    assert "No responders for 'a.b'" in texts(send(page, "a.b"))
    assert not page.exception


def test_list_and_request_by_hand(server: NatsServer, open_page: Open) -> None:
    """Services are listed. A click sends one request, refreshes send none, and the answer stays."""
    with service(server.url):
        page = open_page(SERVICES.read_text())
        row = page.dataframe[0].value.iloc[0]
        assert row[["service", "state", "instances", "endpoints"]].tolist() == ["tester", "running", 1, 6]
        assert set(page.dataframe[1].value["endpoint"]) == {"echo", "count", "fail", "slow", "most", "start"}
        assert send(page, "tester.count").code[0].value == "1"
        for _ in range(3):
            assert page.run().code[0].value == "1"
        assert "Answer of tester.count" in texts(page)
        assert send(page, "tester.count").code[0].value == "2"


def test_answers_are_shown_as_what_they_are(server: NatsServer, open_page: Open) -> None:
    """JSON is indented and text is shown as text; an error of the service and a timeout are reported in plain
    words."""
    with service(server.url):
        page = open_page(SERVICES.read_text())
        assert send(page, "tester.echo", '{"a":[1]}').code[0].value == '{\n  "a": [\n    1\n  ]\n}'
        assert send(page, "tester.echo", "**words**").code[0].value == "**words**"
        assert "the pump is not primed (code 422)" in texts(send(page, "tester.fail"))
        page.number_input(key="request-timeout").set_value(0.1)
        assert "No reply from 'tester.slow' within 0.1 s" in texts(send(page, "tester.slow", "1"))
        assert not page.exception


ANNOUNCED = ("s.>", "s.a", "$JS.API.>", "$KV.b.*", ">", "*.a", "lamp.*.set", "lamp.log.>")


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        ("s.a", "The stream 'S' captures 's.a'"),
        ("s.b.c", "The stream 'S' captures 's.b.c'"),
        ("$JS.API.STREAM.DELETE.S", "belongs to the server"),
        ("$KV.b.key", "belongs to the server"),
        ("orders.new", "is not an endpoint"),
        ("x.a", "is not an endpoint"),
        ("lamp.>.set", "is not an endpoint"),
        ("lamp.a b.set", "is not an endpoint"),
        ("lamp.log", "is not an endpoint"),
        ("lamp.north.set", "No responders for 'lamp.north.set'"),
        ("lamp.log.a.b", "No responders for 'lamp.log.a.b'"),
    ],
)
def test_hostile_service_opens_no_subject(
    server: NatsServer, open_page: Open, subject: str, said: str
) -> None:
    """A service that announces subjects of streams, of the server or too wide wildcards does not let viewers
    send to them; nothing is stored."""
    endpoints = [{"name": f"e{i}", "subject": each} for i, each in enumerate(ANNOUNCED)]
    info = answer("INFO", endpoints=endpoints)
    with answering(server.url, {"PING": [answer("PING")], "INFO": [info]}):
        page = open_page(SERVICES.read_text())
        assert said in texts(send(page, subject))
    assert server.run(lambda nc: nc.jetstream().stream_info("S")).state.messages == 0


@pytest.mark.parametrize("subject", ["$JS.API.STREAM.DELETE.S", "$KV.b.key", "_INBOX.x"])
def test_server_is_no_service(server: NatsServer, open_page: Open, subject: str) -> None:
    """A viewer cannot reach the server's own API through the page, whatever the app's login permits."""
    page = send(open_page(SERVICES.read_text()), subject)
    assert "belongs to the server, not to a service. Nothing was sent." in texts(page)
    assert server.run(lambda nc: nc.jetstream().stream_info("S")).config.name == "S"


def test_lies_are_counted(server: NatsServer, open_page: Open) -> None:
    """Answers that violate the service protocol are counted on the page, and the valid services are still
    listed."""
    with service(server.url), answering(server.url, BAD):
        page = open_page(SERVICES.read_text())
        assert f"{sum(map(len, BAD.values()))} answers left out" in texts(page)
        assert page.selectbox(key="service").options == ["tester"]


def test_nobody_can_be_asked(open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While NATS is away, the page keeps its list and says that it is from an earlier check."""
    with running_server(tmp_path / "ending") as ending:
        monkeypatch.setenv("NATS_URL", ending.url)
        page = open_page(SERVICES.read_text())
        assert "No service answers." in texts(page)
        with service(ending.url):
            until(lambda: page.run().dataframe)
            assert "last checked" not in texts(page)
            ending.kill()
        until(lambda: "The list below is from then" in texts(page.run()))
        assert page.dataframe
        assert not page.exception


def test_not_permitted(open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login that may not send requests to services gets a sentence that names the missing permission."""
    monkeypatch.setenv("NATS_USER", "me")
    monkeypatch.setenv("NATS_PASSWORD", "x")
    with running_server(tmp_path / "strict", STRICT) as strict:
        monkeypatch.setenv("NATS_URL", strict.url)
        page = open_page(SERVICES.read_text())
        assert "is not permitted to send requests to '$SRV.PING'" in texts(page)
        assert "No service answers" not in texts(page)
        assert "is not permitted to send requests to '$SRV.PING'" in texts(send(page, "a.b"))
        monkeypatch.setenv("LOOKBACK_ANY_SUBJECT", "true")
        assert "is not permitted to send requests to 'a.b'" in texts(send(page, "a.b"))
        assert not page.exception


def test_request_on_a_page(server: NatsServer, open_page: Open) -> None:
    """A page that calls a service gets one answer for all viewers, however often it runs."""
    with service(server.url):
        pages = [open_page(SLOW_PAGE) for _ in range(2)]
        assert [page.run().metric[0].value for page in pages * 2] == ["1"] * 4


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ('request("tester.nobody")', "No responders for 'tester.nobody'"),
        ('request("tester.fail")', "the pump is not primed (code 422)"),
        ('request("tester.*")', "'tester.*' has a wildcard"),
        ('request("tester.echo", {1})', "cannot be encoded as JSON"),
        ('request("tester.echo", timeout=600)', "The timeout 600 is not valid"),
    ],
)
def test_failures_are_drawn(server: NatsServer, open_page: Open, call: str, said: str) -> None:
    """A page whose request fails says why, without a traceback."""
    with service(server.url):
        page = open_page(f"from components import request\n{call}\n")
        assert said in texts(page)
        assert not page.exception


@pytest.fixture
def running(tmp_path: Path, server: NatsServer) -> Iterator[App]:
    """The app with the Services page."""
    (tmp_path / "shown").mkdir()
    shutil.copy(SERVICES, tmp_path / "shown")
    with app(tmp_path, NATS_URL=server.url, LOOKBACK_PAGES=str(tmp_path / "shown")) as running:
        yield running


def offers(tab: Page, subject: str) -> None:
    """Wait until the form has this subject."""
    # While a run ends, the old box may still be beside the new one.
    expect(tab.get_by_label("Subject").first).to_have_value(subject)
    expect(tab.get_by_label("Subject")).to_have_count(1)


def send_by_hand(tab: Page, subject: str, payload: str) -> None:
    """Fill in the form and send it, as a viewer does."""
    tab.get_by_label("Subject").fill(subject)
    tab.get_by_label("Payload").fill(payload)
    tab.get_by_test_id("stFormSubmitButton").get_by_role("button").click()


def stats(server: NatsServer) -> list[dict[str, Any]]:
    """The statistics of the endpoints of `tester`, from its own STATS reply."""
    answer = server.run(lambda nc: nc.request("$SRV.STATS.tester", timeout=10))
    found: list[dict[str, Any]] = json.loads(answer.data)["endpoints"]
    return found


def test_in_a_browser(server: NatsServer, running: App, browser: Browser) -> None:
    """A service of another client (Node) is listed and called, once per click while the page refreshes. After
    it is killed, the page says that it no longer answers, and that there are no responders. Markup in names
    is plain text."""
    tab = browser.new_page()
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(running.url)
    expect(tab.get_by_test_id("stAlert")).to_contain_text("No service answers.", timeout=30_000)
    odd = {"name": "<img src=http://127.0.0.1:9/x>", "metadata": {"![x](http://127.0.0.1:9/y)": "**z**"}}
    with (
        service(server.url),
        answering(server.url, {verb: [answer(verb, **odd)] for verb in BAD}),
        node("service.mjs", server.url) as script,
    ):
        script.line()
        pick(tab, "Service", str(odd["name"]))
        pick(tab, "Service", "mirror")
        pick(tab, "Endpoint", "mirror.reverse")
        offers(tab, "mirror.reverse")
        send_by_hand(tab, "mirror.reverse", "stressed")
        expect(tab.get_by_test_id("stCode")).to_have_text("desserts", timeout=30_000)
        for n in range(1, 6):
            send_by_hand(tab, "tester.count", "")
            expect(tab.get_by_test_id("stCode")).to_have_text(str(n), timeout=30_000)
        send_by_hand(tab, "tester.slow", "1.5")
        expect(tab.get_by_test_id("stCode")).to_have_text("at last", timeout=30_000)
        assert [each["num_requests"] for each in stats(server) if each["name"] == "slow"] == [1]
        script.kill()
        send_by_hand(tab, "mirror.reverse", "stressed")
        expect(tab.get_by_text("No responders for 'mirror.reverse'")).to_be_visible(timeout=30_000)
        expect(tab.get_by_text("No longer answering: mirror (last answer ")).to_be_visible(timeout=30_000)
    assert not [url for url in asked if ":9/" in url]
    tab.goto("about:blank")


def test_an_answer_outlives_another_run(server: NatsServer, running: App, browser: Browser) -> None:
    """Two viewers send a request and choose another interval before the answer arrives, so Streamlit stops
    the run that waits for it. Each request is sent once, and its answer is drawn."""
    with service(server.url), fresh_context(browser) as context:
        tabs = [context.new_page() for _ in range(2)]
        for tab in tabs:
            tab.goto(running.url)
        for tab in tabs:
            pick(tab, "Endpoint", "tester.slow")
            offers(tab, "tester.slow")
            send_by_hand(tab, "tester.slow", "1.5")
            tab.wait_for_timeout(500)
            tab.get_by_test_id("stSidebar").get_by_text("5 s", exact=True).click()
            expect(tab.get_by_test_id("stCode")).to_have_text("at last", timeout=30_000)
        assert [each["num_requests"] for each in stats(server) if each["name"] == "slow"] == [2]
