"""The page Comparison in a real browser: both halves draw, the figures are true, the token reads little."""

import asyncio
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

import nats
import pytest
from playwright.sync_api import Browser, BrowserContext, Frame, Page, Response, expect
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from components.websocket_demo.run import WINDOW
from nats_client.connection.credentials import claims_of
from services.accounts.roles import FILE as ROLES
from services.nats_server.server import last_ports
from tests.embedded import login
from tests.node import node
from tests.running import ROOT, App, app, free_port
from tests.waiting import until

PATIENCE = 90.0  # seconds: three pages load at once here
UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}
LINES = """el => Object.fromEntries(el.data.filter(trace => trace.name.includes("series-"))
  .map(trace => [trace.name, trace.line.color + trace.line.dash]))"""
NEWEST = "el => Math.max(...el.data.flatMap(trace => Array.from(trace.x, x => Date.parse(x + 'Z'))))"
WIDTH = "el => el._fullLayout.xaxis.range.map(x => +new Date(x)).reduce((a, b) => b - a)"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with its embedded demo."""
    with app(tmp_path_factory.mktemp("demo")) as running:
        yield running


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser nobody has used yet."""
    context = browser.new_context(viewport={"width": 1600, "height": 1200}, timezone_id="Europe/Berlin")
    yield context
    context.close()


class Comparison:
    """The page, and its halves."""

    def __init__(self, context: BrowserContext, url: str, query: str = "") -> None:
        self.page: Page = context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "console",
            lambda m: self.errors.append(m.text) if m.type == "error" else None,
        )
        self.page.goto(f"{url}/comparison{query}")
        until(lambda: self._frame("chart=") and self._frame("/lookback/comparison/"), PATIENCE)

    def _frame(self, part: str) -> Frame | None:
        self.page.wait_for_timeout(50)  # what the browser tells is heard meanwhile
        return next((frame for frame in self.page.frames if part in frame.url), None)

    @property
    def ours(self) -> Frame:
        """The left half."""
        frame = self._frame("chart=")
        assert frame is not None
        return frame

    @property
    def theirs(self) -> Frame:
        """The right half."""
        frame = self._frame("/lookback/comparison/")
        assert frame is not None
        return frame

    def of_chart(self, frame: Frame, what: str) -> Any:
        """What a chart says; None while there is none."""
        chart = frame.locator(".js-plotly-plot").first
        try:
            return chart.evaluate(what, timeout=10_000)
        except Exception:  # it is drawn anew, or was never
            return None

    def wait_until_live(self) -> None:
        """Wait until both draw what comes."""
        expect(self.theirs.locator("#status")).to_contain_text("Live", timeout=1000 * PATIENCE)
        for frame in (self.ours, self.theirs):
            until(lambda: (self.of_chart(frame, NEWEST) or 0) > 0, PATIENCE)

    def figures(self, row: str) -> tuple[float, float]:
        """Bytes in that row of the table, of both sides; nan where there are none."""
        found = self.page.locator(".lb-compared tr", has_text=row).first.locator("td").all_inner_texts()
        numbers = [re.match(r"([\d.]+) (B|kB|MB|GB)", text) for text in found]
        left, right = [float(n[1]) * UNITS[n[2]] if n else float("nan") for n in numbers]
        return left, right


def newest_advances(comparison: Comparison, frame: Frame) -> None:
    """Wait for newer points than there are."""
    before = comparison.of_chart(frame, NEWEST) or 0
    until(lambda: (comparison.of_chart(frame, NEWEST) or 0) > before, PATIENCE)


def rows(comparison: Comparison) -> tuple[int, int]:
    """How many rows each half shows."""
    left = re.search(r"([\d,]+) rows", comparison.ours.locator(".lb-status").inner_text())
    right = re.search(r"([\d,]+) rows", comparison.theirs.locator("#status").inner_text())
    numbers = [int(found[1].replace(",", "")) if found else 0 for found in (left, right)]
    return numbers[0], numbers[1]


def watch_websockets(comparison: Comparison) -> Callable[[], dict[str, int]]:
    """Bytes of websocket messages received since, by URL: as the browser's developer tools count them."""
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
    """The same series in the same colours over the same time, and both go on; the browser finds no error."""
    comparison = Comparison(context, demo.url, "?rate=20&series=5&look-back=PT30S")
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
    """Bytes before compression are what the browser's own tools count, within a few percent; on the wire they
    are not many more, and each message has a latency on both sides."""
    comparison = Comparison(context, demo.url, "?rate=100&series=10")
    comparison.wait_until_live()
    received = watch_websockets(comparison)
    until(lambda: comparison.ours and len(received()) >= 3, PATIENCE)  # of the page, and of both halves
    until(lambda: all(rate > 0 for rate in comparison.figures("before compression")), PATIENCE)
    comparison.page.wait_for_timeout(8000)  # what the replay brought is no longer in the rates
    told, began = [], time.monotonic()
    while (now := time.monotonic()) < began + WINDOW + 7:
        told.append((now, dict(received()), comparison.figures("before compression")))
        comparison.page.wait_for_timeout(500)  # events are dispatched meanwhile
    shown: list[tuple[float, float]] = []
    counted: dict[str, list[float]] = {}  # over the same seconds
    for at, then, figures in told:
        if earlier := [(since, before) for since, before, _ in told if since <= at - WINDOW]:
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
    """Moving the slider changes what is published; the sentence says so, and both halves show what comes."""
    comparison = Comparison(context, demo.url, "?rate=10&series=5&look-back=PT30S")
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
    """A longer look-back brings both halves what is older, a shorter one less; no page is loaded anew."""
    comparison = Comparison(context, demo.url, "?rate=50&series=3&look-back=PT30S")
    comparison.wait_until_live()
    ours, theirs = comparison.ours.url, comparison.theirs.url
    until(lambda: min(rows(comparison)) > 1400, PATIENCE)  # 30 s are full
    for look_back, enough in (("PT1M", 1700), ("PT30S", 0)):
        comparison.page.get_by_role("combobox", name="Look-back").click()
        comparison.page.get_by_role("option", name=look_back, exact=True).click()
        width = 60_000 if look_back == "PT1M" else 30_000
        for frame in (comparison.ours, comparison.theirs):
            until(lambda: abs((comparison.of_chart(frame, WIDTH) or 0) - width) < 5, PATIENCE)
        until(lambda: min(rows(comparison)) > enough, PATIENCE)
    until(lambda: max(rows(comparison)) < 1700, PATIENCE)
    assert (comparison.ours.url, comparison.theirs.url) == (ours, theirs)


def token_of(context: BrowserContext) -> dict[str, Any]:
    """The cookie with the token."""
    (cookie,) = [cookie for cookie in context.cookies() if cookie["name"] == "nats_jwt"]
    return dict(cookie)


def test_token_reads_one_stream(demo: App, context: BrowserContext) -> None:
    """The cookie is the NATS server's: no script sees it, and its token reads COMPARISON and nothing else."""
    comparison = Comparison(context, demo.url, "?rate=10")
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
    allowed = {what for what, told in found.items() if told == "allowed"}
    assert allowed == {"read COMPARISON", "follow COMPARISON"}, found
    for what, told in found.items():
        assert what in allowed or "ermission" in told, (what, told)


def answer(url: str, body: bytes, **headers: str) -> int:
    """The status of a POST."""
    request = urllib.request.Request(url, body, {name.replace("_", "-"): v for name, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_other_origins_are_refused(demo: App, context: BrowserContext) -> None:
    """A page of another site gets no token, not even with the ticket, and no websocket, not even with the
    token; a ticket is good for one use."""
    comparison = Comparison(context, demo.url, "?rate=10")
    comparison.wait_until_live()
    address, ticket = comparison.theirs.url.split("#")
    body = json.dumps({"ticket": ticket}).encode()
    evil = "http://evil.example"
    cookie = f"nats_jwt={token_of(context)['value']}"
    for where in ("session", "report"):
        assert answer(address + where, body, Origin=evil) == 403
        assert answer(address + where, body, Origin=evil, Sec_Fetch_Site="cross-site", Cookie=cookie) == 403
        assert answer(address + where, body, Origin=evil, Sec_Fetch_Site="same-site", Cookie=cookie) == 403
        assert answer(address + where, body) == 403  # no browser
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


def test_edited_code_leaves_the_page_working(context: BrowserContext, tmp_path: Path) -> None:
    """After a file of components/ was edited both halves are live again by themselves, and are measured."""
    for name in ("app.py", ".streamlit", "pages", "components", "nats_client", "services", "static"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    with app(tmp_path, tmp_path) as running:
        comparison = Comparison(context, running.url, "?rate=20&series=5")
        comparison.wait_until_live()
        before = comparison.theirs.url
        with (tmp_path / "components" / "words.py").open("a") as file:
            file.write("\nEDITED = True\n")
        until(lambda: (comparison._frame("/lookback/comparison/") or comparison.ours).url != before, PATIENCE)
        comparison.wait_until_live()
        until(lambda: all(rate > 0 for rate in comparison.figures("on the wire")), PATIENCE)
        newest_advances(comparison, comparison.theirs)


@contextmanager
def proxied(folder: Path, port: int, to: int, nats: int | None = None) -> Iterator[None]:
    """nginx at `port`, in front of the app at `to` and of the NATS server's websocket listener at `nats`."""
    upgraded = """proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $upgrading;"""
    listener = f"""location ~ ^/lookback/comparison/[^/]+/nats$ {{
      proxy_pass http://127.0.0.1:{nats};
      {upgraded}
    }}"""
    (folder / "nginx.conf").write_text(
        f"""pid {folder}/nginx.pid; daemon off; events {{}}
http {{
  access_log off;
  map $http_upgrade $upgrading {{ "" close; default upgrade; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{to};
      {upgraded}
    }}
    {listener if nats else ""}
  }}
}}
"""
    )
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    command = [program, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("known", [True, False])
def test_behind_a_proxy_on_another_port(context: BrowserContext, tmp_path: Path, known: bool) -> None:
    """Behind a proxy whose origin is set both halves are live; where it is not, the right one says what to
    set and tries again."""
    port, own = free_port(), free_port()
    origins = f"http://127.0.0.1:{port}" if known else "no-origin"
    with (
        app(tmp_path, STREAMLIT_SERVER_PORT=str(own), STREAMLIT_SERVER_CORS_ALLOWED_ORIGINS=origins),
        proxied(tmp_path, port, own),
    ):
        comparison = Comparison(context, f"http://127.0.0.1:{port}", "?rate=20&series=5")
        if known:
            comparison.wait_until_live()
            return
        status = comparison.theirs.locator("#status")
        expect(status).to_contain_text("docs/comparison.md", timeout=1000 * PATIENCE)
        expect(status).to_contain_text(f"http://127.0.0.1:{port}")
        with comparison.page.expect_response(lambda answer: answer.url.endswith("/session"), timeout=60_000):
            pass


def test_websocket_through_the_proxy(context: BrowserContext, tmp_path: Path) -> None:
    """With LOOKBACK_WEBSOCKET the right half reads the stream through the proxy, and its policy lets it
    connect to nothing but that."""
    port, own = free_port(), free_port()
    origin, where = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}"
    with app(
        tmp_path,
        STREAMLIT_SERVER_PORT=str(own),
        STREAMLIT_SERVER_CORS_ALLOWED_ORIGINS=origin,
        LOOKBACK_WEBSOCKET=f"{where}/",
    ):
        ports = last_ports(tmp_path / "data")
        assert ports is not None
        with proxied(tmp_path, port, own, ports.websocket):
            policies: list[str] = []

            def note(answer: Response) -> None:
                if "/reader.js" in answer.url:
                    policies.append(answer.headers["content-security-policy"])

            context.on("response", note)
            comparison = Comparison(context, origin, "?rate=20&series=5")
            comparison.wait_until_live()
            expect(comparison.theirs.locator("#status")).to_contain_text(where)
            assert f"connect-src 'self' {where};" in policies[0]
            newest_advances(comparison, comparison.theirs)


def test_token_is_renewed(browser: Browser, tmp_path: Path) -> None:
    """After its first token has ended the right half still draws, with another one, and was never without."""
    (tmp_path / "roles.toml").write_text(ROLES.read_text().replace("minutes = 5", "minutes = 0.5"))
    with app(tmp_path, LOOKBACK_ROLES=str(tmp_path / "roles.toml")) as running:
        context = browser.new_context(viewport={"width": 1600, "height": 1200})
        comparison = Comparison(context, running.url, "?rate=10&series=2")
        comparison.wait_until_live()
        words = comparison.theirs.evaluate_handle(
            """() => { const words = new Set();
              new MutationObserver(() => words.add(document.querySelector("#status b").textContent))
                .observe(document.querySelector("#status"), { childList: true });
              return words; }"""
        )
        first = claims_of(token_of(context)["value"])
        until(lambda: time.time() > first["exp"] + 3, PATIENCE)
        newest_advances(comparison, comparison.theirs)
        assert claims_of(token_of(context)["value"])["exp"] > first["exp"]
        assert words.evaluate("words => [...words]") == ["Live"]
        context.close()


def test_publishes_only_while_it_is_looked_at(demo: App, context: BrowserContext) -> None:
    """When the page is left the publisher stops, and nothing of the demo runs on."""
    comparison = Comparison(context, demo.url, "?rate=100")
    comparison.wait_until_live()
    data_dir = demo.log.parent / "data"

    def stored() -> int:
        async def main() -> int:
            nc = await nats.connect(**login(data_dir))
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
    """On a server without the service the page says so, and has no error."""
    page = open_page(ROOT / "pages" / "comparison.py")
    assert not page.exception
    assert not page.error
    assert "needs the service" in page.info[0].value
