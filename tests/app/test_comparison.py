"""The page Comparison in a real browser: both halves draw, their figures are correct, and the token grants
little.

Slow, because each test waits for three pages in one, and two measure over seconds.
"""

import asyncio
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import mean
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from components.websocket_demo.run import WINDOW
from nats_client.connection.credentials import claims_of
from tests.browser import fresh_context, pick
from tests.comparison import PATIENCE, SIZE, SLOW, Comparison, newest_advances, token_of
from tests.embedded import login
from tests.nats import connect_nats
from tests.node import node
from tests.running import ROOT, App, app
from tests.waiting import until

LINES = """el => Object.fromEntries(el.data.filter(trace => trace.name.includes("series-"))
  .map(trace => [trace.name, trace.line.color + trace.line.dash]))"""
WIDTH = "el => el._fullLayout.xaxis.range.map(x => +new Date(x)).reduce((a, b) => b - a)"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with its embedded demo."""
    with app(tmp_path_factory.mktemp("demo")) as running:
        yield running


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser context without cookies."""
    with fresh_context(browser, viewport=SIZE, timezone_id="Europe/Berlin") as context:
        yield context


def rows(comparison: Comparison) -> tuple[int, int]:
    """How many rows each half shows: ours, theirs."""
    left = re.search(r"([\d,]+) rows", comparison.ours.locator(".lb-status").inner_text())
    right = re.search(r"([\d,]+) rows", comparison.theirs.locator("#status").inner_text())
    numbers = [int(found[1].replace(",", "")) if found else 0 for found in (left, right)]
    return numbers[0], numbers[1]


def watch_websockets(comparison: Comparison) -> Callable[[], dict[str, int]]:
    """Start counting the bytes of websocket messages received, as the browser's developer tools do. Call the
    result for the counts by websocket."""
    received: dict[str, int] = {}
    urls: dict[str, str] = {}
    session = comparison.page.context.new_cdp_session(comparison.page)

    def take(method: str, params: dict[str, Any]) -> None:
        if method == "Network.webSocketCreated":
            urls[params["requestId"]] = params["url"]
        elif method == "Network.webSocketFrameReceived":
            data, opcode = params["response"]["payloadData"], params["response"]["opcode"]
            size = len(data) * 3 // 4 - data[-2:].count("=") if opcode == 2 else len(data.encode())
            key = params["requestId"]
            received[key] = received.get(key, 0) + size

    def from_worker(event: dict[str, Any]) -> None:
        message = json.loads(event["message"])
        if "method" in message:
            take(message["method"], message["params"])

    def attached(event: dict[str, Any]) -> None:
        enable = json.dumps({"id": 1, "method": "Network.enable"})
        session.send("Target.sendMessageToTarget", {"sessionId": event["sessionId"], "message": enable})

    for method in ("Network.webSocketCreated", "Network.webSocketFrameReceived"):
        session.on(method, lambda params, method=method: take(method, params))
    session.on("Target.attachedToTarget", attached)
    session.on("Target.receivedMessageFromTarget", from_worker)
    session.send("Network.enable")
    session.send(
        "Target.setAutoAttach", {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": False}
    )
    return lambda: received


def test_both_draw_the_same(demo: App, context: BrowserContext) -> None:
    """Both halves draw the same series in the same colours over the same time, and both keep receiving
    points. The browser reports no error."""
    comparison = Comparison(context, demo.url, "?rate=20&series=5&look-back=30+s")
    comparison.wait_until_live()
    for frame in (comparison.ours, comparison.theirs):
        newest_advances(comparison, frame)
    until(lambda: len(comparison.of_chart(comparison.ours, LINES) or {}) == 5, PATIENCE)
    assert comparison.of_chart(comparison.ours, LINES) == comparison.of_chart(comparison.theirs, LINES)
    for frame in (comparison.ours, comparison.theirs):
        assert comparison.of_chart(frame, WIDTH) == pytest.approx(30_000, abs=2)
    expect(comparison.page.locator(".lb-headline")).to_contain_text("bytes", timeout=1000 * PATIENCE)
    assert not comparison.errors


def test_figures_agree_with_the_browser(demo: App, context: BrowserContext) -> None:
    """The bytes before compression are within ten percent of those that the browser's developer tools count.
    On the wire there are at most a fifth more, and both halves have a latency."""
    comparison = Comparison(context, demo.url, "?rate=50&series=5")
    comparison.wait_until_live()
    received = watch_websockets(comparison)
    until(lambda: comparison.ours and len(received()) >= 3, PATIENCE)  # the page's, and both halves'
    until(lambda: all(rate > 0 for rate in comparison.figures("before compression")), PATIENCE)
    comparison.page.wait_for_timeout(8000)  # until the replay is no longer part of the rates
    samples, began = [], time.monotonic()
    while (now := time.monotonic()) < began + WINDOW + 7:
        samples.append((now, dict(received()), comparison.figures("before compression")))
        comparison.page.wait_for_timeout(500)  # events are dispatched meanwhile
    shown: list[tuple[float, float]] = []
    counted: dict[str, list[float]] = {}  # over the same seconds
    for at, then, figures in samples:
        if earlier := [(since, before) for since, before, _ in samples if since <= at - WINDOW]:
            since, before = earlier[-1]
            shown.append(figures)
            for key, size in then.items():
                counted.setdefault(key, []).append((size - before.get(key, 0)) / (at - since))
    for side in (0, 1):
        rate = mean(each[side] for each in shown)
        rates = [mean(each) for each in counted.values()]
        assert min(abs(rate - other) / other for other in rates) < 0.1, (rate, rates)
        assert 0 < comparison.figures("on the wire")[side] < 1.2 * rate  # small frames are not compressed
    latency = comparison.page.locator(".lb-compared tr", has_text="Publish to pixel").locator("td")
    until(lambda: all("ms" in text for text in latency.all_inner_texts()), PATIENCE)


def test_slider_changes_the_rate_and_both_follow(demo: App, context: BrowserContext) -> None:
    """Moving the slider changes the rate of publishing. The headline states the new rate, and both halves
    show about the same number of rows."""
    comparison = Comparison(context, demo.url, "?rate=10&series=5&look-back=30+s")
    comparison.wait_until_live()
    slider = comparison.page.get_by_role("slider").first
    slider.focus()
    for _ in range(5):  # 10, 20, 50, 100, 200, 500
        slider.press("ArrowRight")
    expect(comparison.page.locator(".lb-headline")).to_contain_text("500 messages", timeout=1000 * PATIENCE)
    until(lambda: min(rows(comparison)) > 3000, PATIENCE)
    left, right = rows(comparison)
    assert left == pytest.approx(right, rel=0.3)
    assert "rate=500" in comparison.page.url


def test_look_back_is_followed(demo: App, context: BrowserContext) -> None:
    """A longer look-back brings older rows into both halves, and a shorter one removes them; neither half is
    reloaded."""
    comparison = Comparison(context, demo.url, "?rate=50&series=3&look-back=30+s")
    comparison.wait_until_live()
    ours, theirs = comparison.ours.url, comparison.theirs.url
    until(lambda: min(rows(comparison)) > 1400, PATIENCE)  # 30 s are full
    for look_back, enough in (("1 min", 1700), ("30 s", 0)):
        pick(comparison.page, "Look-back", look_back)
        width = 60_000 if look_back == "1 min" else 30_000
        for frame in (comparison.ours, comparison.theirs):
            until(lambda: abs((comparison.of_chart(frame, WIDTH) or 0) - width) < 5, PATIENCE)
        until(lambda: min(rows(comparison)) > enough, PATIENCE)
    until(lambda: max(rows(comparison)) < 1700, PATIENCE)
    assert (comparison.ours.url, comparison.theirs.url) == (ours, theirs)


def test_token_reads_one_stream(demo: App, context: BrowserContext) -> None:
    """The cookie belongs to the NATS server: no script can read it, and its token can read the stream
    COMPARISON and nothing else."""
    comparison = Comparison(context, demo.url, SLOW)
    comparison.wait_until_live()
    cookie = token_of(context)
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert re.fullmatch(r"/lookback/comparison/[\w-]{24}", cookie["path"])
    for frame in comparison.page.frames:
        assert "nats_jwt" not in frame.evaluate("document.cookie")
    seen = [frame.content() for frame in comparison.page.frames]
    assert not any(cookie["value"] in text for text in seen)
    claims = claims_of(cookie["value"])
    assert 0 < claims["exp"] - time.time() <= 301
    assert "pub" not in claims["nats"]
    url = "ws://" + comparison.theirs.locator("#status").inner_text().split("ws://")[1].split()[0]
    inbox = f"_INBOX_app.{claims['name']}"
    with node("page_token.mjs", url, cookie["value"], inbox, options=["--experimental-websocket"]) as script:
        found = json.loads(script.line(120))
    allowed = {what for what, outcome in found.items() if outcome == "allowed"}
    assert allowed == {"read COMPARISON", "follow COMPARISON"}, found
    for what, outcome in found.items():
        assert what in allowed or "ermission" in outcome, (what, outcome)


def answer(url: str, body: bytes, **headers: str) -> int:
    """Send a POST and return its status."""
    request = urllib.request.Request(url, body, {name.replace("_", "-"): v for name, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_other_origins_are_refused(demo: App, context: BrowserContext) -> None:
    """A page of another site gets no token, even with the ticket, and no websocket, even with the token. A
    ticket can be used only once."""
    comparison = Comparison(context, demo.url, SLOW)
    comparison.wait_until_live()
    address, ticket = comparison.theirs.url.split("#")
    body = json.dumps({"ticket": ticket}).encode()
    evil = "http://evil.example"
    cookie = f"nats_jwt={token_of(context)['value']}"
    for where in ("session", "report"):
        assert answer(address + where, body, Origin=evil) == 403
        assert answer(address + where, body, Origin=evil, Sec_Fetch_Site="cross-site", Cookie=cookie) == 403
        assert answer(address + where, body, Origin=evil, Sec_Fetch_Site="same-site", Cookie=cookie) == 403
        assert answer(address + where, body) == 403  # not sent by a browser
    own = {"Origin": demo.url, "Sec_Fetch_Site": "same-origin"}
    assert answer(address + "session", body, **own) == 403  # the page has used it
    assert answer(address + "session", b'{"ticket": ""}', **own) == 403
    assert answer(address + "session", b"[", **own) == 400
    assert answer(address + "session", b" " * 20_000, **own) == 413
    assert answer(address + "session", b"{}", **own, Cookie=cookie) == 200  # as it renews its token
    unknown = address.replace("/lookback/comparison/", "/lookback/comparison/x")
    assert answer(unknown + "session", body, **own) == 404

    url = "ws://" + comparison.theirs.locator("#status").inner_text().split("ws://")[1].split()[0]

    async def dial(origin: str) -> str:
        async with connect(url, origin=Origin(origin), additional_headers={"Cookie": cookie}) as socket:
            return str(await socket.recv())

    with ThreadPoolExecutor(1) as pool:  # the browser's loop runs in this thread
        assert "INFO" in pool.submit(lambda: asyncio.run(dial(demo.url))).result()
        with pytest.raises(InvalidStatus):
            pool.submit(lambda: asyncio.run(dial(evil))).result()


def test_publishes_only_while_it_is_looked_at(demo: App, context: BrowserContext) -> None:
    """When the viewer leaves the page, the publisher stops."""
    comparison = Comparison(context, demo.url, SLOW)
    comparison.wait_until_live()
    data_dir = demo.log.parent / "data"

    def stored() -> int:
        async def main() -> int:
            nc = await connect_nats(**login(data_dir))
            try:
                return int((await nc.jetstream().stream_info("COMPARISON")).state.last_seq)
            finally:
                await nc.close()

        return asyncio.run(main())

    def grows() -> bool:
        before = stored()
        time.sleep(2)
        return stored() > before

    with ThreadPoolExecutor(1) as pool:  # the browser's loop runs in this thread
        assert pool.submit(grows).result()
        comparison.page.goto(demo.url)
        until(lambda: not pool.submit(grows).result(), PATIENCE)


def test_elsewhere_the_page_says_what_it_needs(open_page: Callable[..., Any]) -> None:
    """On a server without the service, the page says that it needs it, and shows no error."""
    page = open_page(ROOT / "pages" / "comparison.py")
    assert not page.exception
    assert not page.error
    assert "needs the service" in page.info[0].value
