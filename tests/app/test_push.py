"""The tab's own websocket in the whole app: who may connect, what it costs, and when a page runs again.

Slow, because some tests wait to see that nothing is asked or sent.
"""

import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from socket import create_connection
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, WebSocketRoute, expect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from components.push.channel import (
    AHEAD,
    MOST_BYTES,
    MOST_MESSAGES,
    MOST_SHOWN,
    MOST_WAITING,
    NO_TICKET,
    NOT_UNDERSTOOD,
    REPLACED,
)
from tests.browser import fresh_context
from tests.nats import NatsServer, running_server
from tests.publisher import Publisher
from tests.running import App, app
from tests.stage import MARKER, Stage
from tests.waiting import until

CHEAP = '''"""Cheap."""
from components import line_chart, live

rows = live("S", "s.>", look_back="PT1M")
line_chart(rows, y="n", by="_subject")
'''
CODE = '''"""Code."""
import streamlit as st

from components import line_chart, live

rows = live("S", "s.>", look_back="PT1M")
line_chart(rows, y="n", by="_subject")
st.metric("Rows", len(rows))
'''
LATER = '''"""Later."""
import streamlit as st

from components import line_chart, live

rows = live("S", "later.>", look_back="PT1M")
if rows:
    st.write("columns " + " ".join(sorted(rows.columns)))
line_chart(rows, y="n")
'''
SWITCHED = '''"""Switched."""
import streamlit as st

from components import line_chart, live

rows = live("S", "s.>", look_back="PT1M")
if not st.checkbox("Without"):
    line_chart(rows, y="n", by="_subject")
'''
SLOW = '''"""Slow."""
import time

from components import line_chart, live

time.sleep(4)
line_chart(live("S", "s.>", look_back="PT1M"), y="n", title="Of the slow page")
'''
PARTS = '''"""Parts."""
import time

from components import line_chart, live

rows = live("S", "s.>", look_back="PT1M")
line_chart(rows, y="n", title="First")
time.sleep(4)
line_chart(rows, y="n", title="Second")
'''
PAGES = {"slow": SLOW, "parts": PARTS, "cheap": CHEAP, "code": CODE, "later": LATER, "switched": SWITCHED}
CHANNEL = """import(performance.getEntriesByType("resource").map(entry => entry.name)
  .find(name => name.includes("/lookback/channel.js"))).then(module => module.channel())"""
CHART = "document.querySelector('.js-plotly-plot')?.parentElement.lookback"
CLOCK = "iframe[title*=autorefresh]"


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server with a stream S."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.add_stream("S", ["s.>", "later.>"])
        yield server


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pages of this file."""
    folder = tmp_path_factory.mktemp("pages")
    for name, source in PAGES.items():
        (folder / f"{name}.py").write_text(source)
    return folder


@pytest.fixture(scope="module")
def running(nats: NatsServer, pages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with these pages."""
    with app(tmp_path_factory.mktemp("app"), NATS_URL=nats.url, LOOKBACK_PAGES=str(pages)) as running:
        yield running


@pytest.fixture
def published(nats: NatsServer) -> Iterator[None]:
    """Ten messages a second while the test runs."""
    with Publisher([nats.url], "s.a", rate=10):
        yield


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser context, whose tabs share cookies."""
    with fresh_context(browser, viewport={"width": 1100, "height": 800}) as context:
        yield context


class Sockets:
    """Counts the frames of a tab's websockets."""

    def __init__(self, tab: Page) -> None:
        self.received: dict[str, int] = {"push": 0, "stream": 0}
        self.asked = 0
        """Frames that the browser sent over Streamlit's websocket, such as requests for a rerun."""
        tab.on("websocket", self._open)

    def _open(self, socket: Any) -> None:
        name = socket.url.rpartition("/")[2]

        def count(_: object) -> None:
            self.received[name] += 1

        def ask(_: object) -> None:
            self.asked += name == "stream"

        socket.on("framereceived", count)
        socket.on("framesent", ask)


def opened(context: BrowserContext, url: str) -> tuple[Page, Sockets]:
    """Open a tab that shows a chart over its own websocket; return it with the counts of its websockets."""
    tab = context.new_page()
    sockets = Sockets(tab)
    tab.goto(url)
    until(lambda: tab.evaluate(f"Boolean({CHART}?.drawn) && {CHART}.frame > 0"))
    return tab, sockets


def shows(tab: Page, expression: str, seconds: float = 30) -> None:
    """Wait until a JavaScript expression is true. Playwright's own way needs eval, which the content security
    policy forbids."""
    until(lambda: tab.evaluate(expression), seconds)


def ticket(tab: Page) -> str:
    """The ticket of a tab."""
    found: str = tab.evaluate(f"{CHANNEL}.then(channel => channel.ticket)")
    return found


def socket(running: App, **more: Any) -> ClientConnection:
    """Open a websocket to the app's push endpoint."""
    url = running.url.replace("http", "ws", 1) + "/lookback/push"
    options: dict[str, Any] = {"origin": running.url, "max_size": None, **more}
    found: ClientConnection = connect(url, **options)
    return found


def code_of_end(ours: ClientConnection, seconds: float = 20) -> int | None:
    """The code with which the server closes the websocket."""
    try:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ours.recv(seconds)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None
    raise AssertionError("it was not ended")


@pytest.mark.usefixtures("published")
def test_a_page_of_live_elements_does_not_run_again(running: App, context: BrowserContext) -> None:
    """A page of live elements has a chart that grows, while nothing goes over Streamlit's websocket. A page
    whose code reads rows runs each second, in another tab of the same browser."""
    tab, sockets = opened(context, f"{running.url}/cheap")
    code, others = opened(context, f"{running.url}/code")
    assert tab.locator(CLOCK).count() == 0
    code.locator(CLOCK).wait_for(state="attached")
    tab.wait_for_timeout(2000)
    frame = int(tab.evaluate(f"{CHART}.frame"))
    asked, received, others_asked = sockets.asked, sockets.received["stream"], others.asked
    until(lambda: int(tab.evaluate(f"{CHART}.frame")) > frame + 30)
    assert (sockets.asked, sockets.received["stream"]) == (asked, received)
    code.evaluate("0")
    assert others.asked > others_asked
    shown = code.get_by_test_id("stMetricValue").inner_text()
    until(lambda: code.get_by_test_id("stMetricValue").inner_text() != shown)


def test_first_rows_and_a_new_column_make_it_run(
    running: App, nats: NatsServer, context: BrowserContext
) -> None:
    """A page of live elements runs again when its first rows arrive, and when a new column appears, for each
    of its viewers."""
    tabs = [context.new_page() for _ in range(2)]
    for tab in tabs:
        tab.goto(f"{running.url}/later")
        tab.get_by_text("No messages in the last").wait_for()
    nats.publish("later.a", b'{"n": 1}')
    for tab in tabs:
        tab.get_by_text("columns _subject n").wait_for()
        shows(tab, f"{CHART}?.series?.length === 1")
    nats.publish("later.a", b'{"n": 2, "another": 3}')
    for tab in tabs:
        tab.get_by_text("columns _subject another n").wait_for()
        assert tab.locator(CLOCK).count() == 0


@pytest.mark.usefixtures("published")
def test_an_edited_page_of_live_elements(running: App, context: BrowserContext, pages: Path) -> None:
    """An edit takes effect in each open tab of the page, although the page does not run otherwise. A new page
    appears in the menu."""
    (pages / "edited.py").write_text(CHEAP)
    tabs = [opened(context, f"{running.url}/edited")[0] for _ in range(2)]
    (pages / "edited.py").write_text(f'{CHEAP}import streamlit as st\nst.write("edited meanwhile")\n')
    for tab in tabs:
        tab.get_by_text("edited meanwhile").wait_for()
        assert tab.locator(CLOCK).count() == 0
    (pages / "added.py").write_text('"""Brand new."""\n')
    for tab in tabs:
        tab.get_by_role("link", name="Brand new").wait_for()


@pytest.mark.usefixtures("published")
def test_the_viewer_chooses_the_pace(running: App, context: BrowserContext) -> None:
    """At 2 s, a frame with all new rows is sent every other second; when paused, none. Each tab has its own
    interval, which is in its link."""
    tab, sockets = opened(context, f"{running.url}/cheap?refresh=2+s")
    live, others = opened(context, f"{running.url}/cheap")
    tab.wait_for_timeout(1000)
    before, others_before = sockets.received["push"], others.received["push"]
    tab.wait_for_timeout(10_000)
    live.evaluate("0")
    came, others_came = sockets.received["push"] - before, others.received["push"] - others_before
    assert 2 <= came <= 7
    assert others_came > came  # on a busy machine the browser requests fewer frames than it could get
    tab.get_by_test_id("stSidebar").get_by_text("Paused").click()
    expect(tab.locator(".lb-word")).to_have_text("Paused")
    end = float(tab.evaluate(f"{CHART}.now"))
    tab.wait_for_timeout(3000)
    assert tab.evaluate(f"{CHART}.now") == end
    assert "refresh=Paused" in tab.evaluate("location.search")
    tab.get_by_test_id("stSidebar").get_by_text("Live", exact=True).click()
    expect(tab.locator(".lb-word")).to_have_text("Live")
    until(lambda: float(tab.evaluate(f"{CHART}.now")) > end)


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("first", ["slow", "parts"])
def test_another_run_begins_before_the_first_has_ended(
    running: App, context: BrowserContext, first: str
) -> None:
    """Two viewers leave a slow page, or choose another interval while it runs. The runs overlap, and
    everything on the page they see afterwards stays live."""
    tabs = [context.new_page() for _ in range(2)]
    for tab in tabs:
        tab.goto(f"{running.url}/{first}")
    for tab in tabs:
        tab.get_by_role("link", name="Parts").wait_for()
        tab.wait_for_timeout(500)  # the run has reached the page's code
        if first == "slow":
            tab.get_by_role("link", name="Parts").click()
        else:
            tab.get_by_test_id("stSidebar").get_by_text("1 s", exact=True).click()
    for tab in tabs:
        tab.get_by_text("Second", exact=True).wait_for()
        expect(tab.get_by_text("Of the slow page")).to_have_count(0)
        frames = (
            "[...document.querySelectorAll('.js-plotly-plot')].map(plot => plot.parentElement.lookback.frame)"
        )
        shows(tab, f"{frames}.length === 2 && {frames}.every(frame => frame > 0)")
        before = tab.evaluate(frames)
        rows = tab.locator(".lb-status").inner_text()
        shows(tab, f"{frames}.every((frame, at) => frame > {json.dumps(before)}[at])")
        expect(tab.locator(".lb-status")).not_to_have_text(rows)


@pytest.mark.usefixtures("published")
def test_an_element_that_a_run_left_out(running: App, context: BrowserContext) -> None:
    """A chart that is missing for one run, or that is drawn after the browser has announced it, continues.
    The browser keeps a removed chart for a while, and does not announce it again."""
    tab, _ = opened(context, f"{running.url}/switched")
    grows = f"{CHART}.frame > %d"
    for _ in range(2):
        tab.get_by_text("Without").click()
        until(lambda: tab.locator(".js-plotly-plot").count() == 0)
        tab.get_by_text("Without").click()
        shows(tab, f"Boolean({CHART}?.drawn)")
        shows(tab, grows % (int(tab.evaluate(f"{CHART}.frame")) + 5))
    number = int(tab.evaluate(f"{CHART}.plugged"))
    tab.get_by_text("Without").click()
    until(lambda: tab.locator(".js-plotly-plot").count() == 0)
    with socket(running) as ours:
        ours.send(json.dumps({"ticket": ticket(tab), "shown": {str(number): None}}))
        assert "next" in json.loads(ours.recv())
        tab.get_by_text("Without").click()
        until(lambda: _numbers(ours.recv(10)) == [number])


def _numbers(frame: str | bytes) -> list[int]:
    """The number of the first element that a frame has data for; empty if it has none."""
    return [frame[1] >> 1] if isinstance(frame, bytes) and len(frame) > 1 else []


@pytest.mark.usefixtures("published")
def test_a_proxy_that_blocks_it(running: App, context: BrowserContext) -> None:
    """If only Streamlit's websocket gets through, charts are updated by the refresh, and the page says so.
    Once the tab's own websocket gets through, charts use it."""
    tab = context.new_page()
    blocked = True

    def route(browser: WebSocketRoute) -> None:
        if blocked:
            browser.close(code=1011)
        else:
            browser.connect_to_server()

    tab.route_web_socket(re.compile("/lookback/push$"), route)
    tab.goto(f"{running.url}/cheap")
    expect(tab.locator(".lb-status")).to_contain_text("charts come with the refresh", timeout=60_000)
    until(lambda: tab.evaluate(f"Boolean({CHART}?.drawn)"))
    now = float(tab.evaluate(f"{CHART}.now"))
    until(lambda: float(tab.evaluate(f"{CHART}.now")) > now + 2000)
    tab.get_by_role("button", name="1 warning").click()
    tab.get_by_text("Live updates do not reach this browser").wait_for()
    blocked = False
    expect(tab.locator(".lb-status")).not_to_contain_text("charts come", timeout=60_000)
    until(lambda: tab.evaluate(f"{CHART}.frame > 0"))


@pytest.mark.usefixtures("published")
def test_strangers(running: App, context: BrowserContext) -> None:
    """A websocket without a ticket, with an unknown ticket or from another site is refused."""
    opened(context, f"{running.url}/cheap")
    openings: list[dict[str, object]] = [{"ticket": "x" * 24, "shown": {}}, {"ticket": None}, {"shown": {}}]
    for opening in openings:
        with socket(running) as ours:
            ours.send(json.dumps(opening))
            assert code_of_end(ours) == NO_TICKET
    with pytest.raises(InvalidStatus) as refused, socket(running, origin="https://evil.example"):
        pass
    assert refused.value.response.status_code == 403


@pytest.mark.usefixtures("published")
def test_many_that_say_nothing(running: App, context: BrowserContext) -> None:
    """If a client opens more websockets than may wait for their first message, the oldest are closed. New
    websockets with a ticket still connect, and connected ones are not affected."""
    tab, _ = opened(context, f"{running.url}/cheap")
    other, _ = opened(context, f"{running.url}/cheap")
    shown = ticket(other)
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(unspeaking(running)) for _ in range(MOST_WAITING + 20)]
        with socket(running) as ours:
            ours.send(json.dumps({"ticket": shown, "shown": {}}))
            assert "next" in json.loads(ours.recv(20))
        for each in silent[:10]:
            assert NOT_UNDERSTOOD.to_bytes(2, "big") in each.recv(100)
        shows(tab, f"{CHART}.frame > {int(tab.evaluate(f'{CHART}.frame'))}")


def unspeaking(running: App) -> Any:
    """A raw websocket that is open and sends nothing."""
    address = urlsplit(running.url)
    raw = create_connection((address.hostname or "", address.port or 0), timeout=20)
    raw.sendall(
        f"GET /lookback/push HTTP/1.1\r\nHost: {address.netloc}\r\nOrigin: {running.url}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    assert raw.recv(2000).startswith(b"HTTP/1.1 101")
    return raw


NOT_SAID = (
    "",
    "{",
    "[]",
    "[" * 5000,
    '{"show": "1"}x',
    '{"show": -1}',
    '{"show": 1.5}',
    '{"show": true}',
    '{"show": {}}',
    '{"hide": null}',
    '{"got": "many"}',
    '{"got": 1, "pace": -5}',
    '{"lost": null}',
    '{"to": [], "said": {}}',
    '{"show": 1, "at": "x"}',
    json.dumps({"to": 1, "said": {"range": "x" * MOST_BYTES}}),
)
TOO_MANY_SHOWN = {str(number): None for number in range(MOST_SHOWN + 1)}


@pytest.mark.usefixtures("published")
def test_what_is_not_understood_ends_it(running: App, context: BrowserContext) -> None:
    """An invalid message ends its connection, also as the first message. Other connections continue."""
    tab, _ = opened(context, f"{running.url}/cheap")
    other, _ = opened(context, f"{running.url}/cheap")
    shown = ticket(other)
    for said in NOT_SAID:
        with socket(running) as ours:
            ours.send(said)
            assert code_of_end(ours) in (NOT_UNDERSTOOD, NO_TICKET), said
        with socket(running) as ours:
            ours.send(json.dumps({"ticket": shown, "shown": {}}))
            assert "next" in json.loads(ours.recv())
            ours.send(said)
            assert code_of_end(ours) == NOT_UNDERSTOOD, said
    with socket(running) as ours:
        ours.send(json.dumps({"ticket": shown, "shown": TOO_MANY_SHOWN}))
        assert code_of_end(ours) == NOT_UNDERSTOOD
    frame = int(tab.evaluate(f"{CHART}.frame"))
    until(lambda: int(tab.evaluate(f"{CHART}.frame")) > frame)
    assert "Traceback" not in running.log.read_text()


@pytest.mark.usefixtures("published")
def test_a_range_that_is_none(running: App, context: BrowserContext) -> None:
    """An invalid zoom range from a browser is ignored, and the chart continues."""
    tab, _ = opened(context, f"{running.url}/cheap")
    number = tab.evaluate(f"{CHART}.plugged")
    ranges: list[object] = [["a", "b"], [1], [float("nan"), 5], [1e308, 1e309], {}, [[], []], "x", [5, 1]]
    for said in ranges:
        tab.evaluate(f"([range]) => {CHANNEL}.then(channel => channel.say({number}, {{range}}))", [said])
        frame = int(tab.evaluate(f"{CHART}.frame"))
        shows(tab, f"{CHART}.frame > {frame} + 3")
        assert tab.evaluate(f"{CHART}.finer") is None
    assert "stands still" not in running.log.read_text()


@pytest.mark.usefixtures("published")
def test_a_flood_ends_it(running: App, context: BrowserContext) -> None:
    """A client that sends messages without pause is disconnected."""
    tab, _ = opened(context, f"{running.url}/cheap")
    with socket(running) as ours:
        ours.send(json.dumps({"ticket": ticket(tab), "shown": {}}))
        with contextlib.suppress(ConnectionClosed):
            for _ in range(100 * MOST_MESSAGES):
                ours.send('{"got": 0}')
        assert code_of_end(ours) == NOT_UNDERSTOOD


@pytest.mark.usefixtures("published")
def test_one_ticket_one_socket(running: App, context: BrowserContext) -> None:
    """A second websocket with the same ticket closes the first."""
    tab, _ = opened(context, f"{running.url}/cheap")
    opening = json.dumps({"ticket": ticket(tab), "shown": {}})
    with socket(running) as first, socket(running) as second:
        first.send(opening)
        assert "next" in json.loads(first.recv())
        second.send(opening)
        assert "next" in json.loads(second.recv())
        assert code_of_end(first) == REPLACED


@pytest.mark.usefixtures("published")
def test_a_reader_that_stalls_has_no_queue(running: App, context: BrowserContext) -> None:
    """A client that acknowledges no frame gets a bounded number of them. After an acknowledgement, the next
    frame has everything from the meantime."""
    tab, _ = opened(context, f"{running.url}/cheap")
    number = int(tab.evaluate(f"{CHART}.plugged"))
    shown = ticket(tab)
    tab.close()
    with socket(running) as ours:
        ours.send(json.dumps({"ticket": shown, "shown": {number: None}}))
        start = json.loads(ours.recv())["next"]
        frames: list[bytes] = []
        while True:
            try:
                frames.append(bytes(ours.recv(4, decode=False)))
            except TimeoutError:
                break
        assert AHEAD - 1 <= len(frames) <= AHEAD
        ours.send(json.dumps({"got": start + len(frames) - 1}))
        later = bytes(ours.recv(10, decode=False))
        assert later[0] == (start + len(frames)) & 255
        assert len(later) > len(frames[-1])  # several cells


def test_ticket_of_another_person(stage: Stage) -> None:
    """A ticket is valid only with the cookies of the sign-in that it was issued to."""
    one, other = (stage.person(name, "operators", page="/") for name in ("owner", "thief"))
    for person in (one, other):
        shows(person.tab, f"Boolean({CHART}?.drawn)")
    stolen = ticket(one.tab)
    cookies = {
        person: "; ".join(f"{c['name']}={c['value']}" for c in person.context.cookies())
        for person in (one, other)
    }
    for header in ({}, {"Cookie": cookies[other]}):
        with socket(stage.app, additional_headers=header) as ours:
            ours.send(json.dumps({"ticket": stolen, "shown": {}}))
            assert code_of_end(ours) == NO_TICKET
    with socket(stage.app, additional_headers={"Cookie": cookies[one]}) as ours:
        ours.send(json.dumps({"ticket": stolen, "shown": {}}))
        assert "next" in json.loads(ours.recv())


def test_sign_out_ends_it(stage: Stage) -> None:
    """A sign-out closes the websockets of all tabs of that sign-in at once, and no others."""
    one, other = (stage.person(name, "operators", page="/") for name in ("leaver", "stayer"))
    for person in (one, other):
        shows(person.tab, f"Boolean({CHART}?.drawn)")
    shown = ticket(one.tab)
    cookies = "; ".join(f"{c['name']}={c['value']}" for c in one.context.cookies())
    second = one.open()
    second.goto(one.url)
    until(lambda: second.evaluate(f"Boolean({CHART}?.drawn)"))
    with socket(stage.app, additional_headers={"Cookie": cookies}) as ours:
        ours.send(json.dumps({"ticket": shown, "shown": {}}))
        assert "next" in json.loads(ours.recv())
        second.get_by_role("button", name="Sign out").click()
        assert code_of_end(ours) == NO_TICKET
    one.sees("signed out in another tab")
    frame = int(other.tab.evaluate(f"{CHART}.frame"))
    until(lambda: int(other.tab.evaluate(f"{CHART}.frame")) > frame)


@pytest.mark.parametrize("refresh", ["Live", "Paused"])
def test_nobody_asks_whether_rights_have_changed(stage: Stage, refresh: str) -> None:
    """The page of a signed-in user requests no reruns. It still ends when the user's role changes, also while
    paused; the pages of other users do not."""
    one, other = stage.person("mover", "operators"), stage.person("rester", "operators")
    tab = one.open()
    sockets = Sockets(tab)
    tab.goto(f"{one.url}/?refresh={refresh}")
    tab.get_by_text("Role: operator").wait_for(timeout=60_000)
    asked = -1
    while sockets.asked != asked:
        asked = sockets.asked
        tab.wait_for_timeout(7000)
    stage.provider.person("mover", "guests")
    tab.get_by_text("none of your groups").wait_for(timeout=60_000)
    assert other.tab.get_by_text("Role: operator").count()


def test_another_process_takes_over(stage: Stage) -> None:
    """The app is killed and another process takes its place. Two users with different roles keep their tabs:
    each continues with a chart of their own rows, and receives nothing that their role may not read."""
    one, other = stage.person("keeper", "operators", page="/"), stage.person("guest", "viewers", page="/")
    for person in (one, other):
        shows(person.tab, f"Boolean({CHART}?.drawn)")
        person.tab.evaluate(f"void Object.assign({CHART}.series, {{before: true}}), self.before = true")
    stage.kill_and_restart()
    for person, role in ((one, "operator"), (other, "viewer")):
        again = f"{CHART}?.drawn && !{CHART}.series.before && {CHART}.frame > 0"
        shows(person.tab, again, 120)  # an app and its server start
        frame = int(person.tab.evaluate(f"{CHART}.frame"))
        shows(person.tab, f"{CHART}.frame > {frame} + 2")
        assert person.tab.evaluate("self.before")  # the tab was not reloaded
        person.sees(f"Role: {role}")
    assert not other.has(MARKER)
