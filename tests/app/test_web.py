"""The web server's headers and cookies, and the sites and host names that it refuses.

Slow, because every page is opened in a browser below the policy, and the app starts at other addresses too.
"""

import asyncio
import http.client
import re
import socket
import ssl
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import websockets.exceptions
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Browser, ConsoleMessage, Page, expect
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from websockets.sync.client import connect

from components.web.middleware import READ_BY_SCRIPTS, Web, app_page, guarded, policy
from tests.browser import fresh_tab
from tests.running import ROOT, App, app
from tests.waiting import until

EVERYWHERE = {
    "content-security-policy",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "permissions-policy",
    "referrer-policy",
    "x-content-type-options",
}
PAGES = sorted(file.stem for file in (ROOT / "pages").glob("*.py"))
WATCH = """document.addEventListener("securitypolicyviolation", event => console.error(
  "VIOLATION", event.violatedDirective, event.blockedURI, event.sourceFile, event.sample))"""
FIGURES = '''"""Figures."""
import numpy as np
import pandas as pd
import plotly.express as px
import plotly.graph_objects as go
import streamlit as st

rows = pd.DataFrame(np.random.default_rng(1).random((2000, 4)), columns=list("abcd"))
st.plotly_chart(px.scatter(rows, x="a", y="b"), key="points")
st.plotly_chart({"data": [{"type": "scattergl", "x": [1, 2], "y": [3, 4]}]}, key="dict")
st.plotly_chart(px.line(rows, y="a"), key="line")
st.plotly_chart(px.scatter_3d(rows, x="a", y="b", z="c"), key="in space")
st.plotly_chart(go.Figure(go.Heatmap(z=rows.to_numpy()[:20])), key="heat")
st.line_chart(rows)
st.dataframe(rows)
st.image(np.zeros((20, 20, 3), dtype="uint8"))
st.plotly_chart(px.parallel_coordinates(rows))
'''


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with its embedded demo."""
    with app(tmp_path_factory.mktemp("web")) as running:
        yield running


class Answer:
    """An HTTP response."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status = answer.status
        self.headers = {name.lower(): value for name, value in answer.getheaders()}
        self.cookies = answer.headers.get_all("Set-Cookie") or []
        self.body = answer.read()


def ask(url: str, path: str, method: str = "GET", *, source: str = "127.0.0.1", **headers: str) -> Answer:
    """Send a request and return the response. `headers` have underscores for hyphens; `source` is the address
    from which the request is sent."""
    parts = urlsplit(url)
    kind: Any = http.client.HTTPConnection
    options: dict[str, Any] = {"source_address": (source, 0)}
    if parts.scheme == "https":
        kind = http.client.HTTPSConnection
        options["context"] = ssl._create_unverified_context()
    connection = kind("127.0.0.1", parts.port, timeout=30, **options)
    try:
        connection.putrequest(method, parts.path + path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        return Answer(connection.getresponse())
    finally:
        connection.close()


def socket_opens(url: str, origin: str | None, host: str | None = None, **headers: str) -> bool:
    """True if the app's websocket opens for a page of `origin` with the host name `host`; False if it is
    refused with 403."""
    port = urlsplit(url).port
    try:
        with connect(
            f"ws://{host or '127.0.0.1'}:{port}{urlsplit(url).path}/_stcore/stream",
            origin=origin,  # type: ignore[arg-type]
            additional_headers={name.replace("_", "-"): value for name, value in headers.items()},
            sock=socket.create_connection(("127.0.0.1", port or 0)),
            proxy=None,
        ):
            return True
    except websockets.exceptions.InvalidStatus as refused:
        if refused.response.status_code != 403:
            raise
        return False


def listened(tab: Page) -> list[str]:
    """A list that collects the errors of a tab from now on."""
    bad: list[str] = []

    def said(message: ConsoleMessage) -> None:
        if message.type == "error":
            bad.append(f"{message.text} ({message.location.get('url')})")

    tab.add_init_script(WATCH)
    tab.on("console", said)
    tab.on("pageerror", lambda error: bad.append(str(error)))
    return bad


def settled(tab: Page) -> None:
    """Wait until the page is live."""
    expect(tab.locator(".lb-status")).to_contain_text("Live", timeout=60_000)


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """A tab of a browser context without cookies."""
    with fresh_tab(browser) as tab:
        yield tab


def test_policy_breaks_no_page(demo: App, tab: Page) -> None:
    """No built-in page violates the content security policy or logs an error, in light and dark mode: with
    charts, tables, a query and downloads."""
    bad = listened(tab)
    drawn = {
        "overview": ".js-plotly-plot .trace",
        "alerts": ".js-plotly-plot .trace",
        "compare": ".js-plotly-plot .trace",
        "comparison": "iframe >> nth=1",
        "consumers": ".lb-server_list td",
        "explore": ".lb-field_list td",
        "inside": "[data-testid=stDataFrame] canvas",
        "history": "[data-testid=stDataFrame] canvas",
        "services": "[data-testid=stDataFrame] canvas",
        "values": "[data-testid=stDataFrame] canvas",
        "workflows": ".lb-runs a",
    }
    assert set(drawn) == set(PAGES)
    colour = "getComputedStyle(document.querySelector('.stApp')).backgroundColor"
    schemes: list[Any] = ["light", "dark"]
    for page, what in drawn.items():
        tab.emulate_media(color_scheme=schemes[0])
        tab.goto(f"{demo.url}/{page if page != 'overview' else ''}")
        settled(tab)
        if page == "history":
            tab.get_by_role("button", name="Run").click()
        tab.locator(what).first.wait_for(timeout=60_000)
        before = tab.evaluate(colour)
        tab.emulate_media(color_scheme=schemes[1])
        until(lambda: tab.evaluate(colour) != before)
        tab.locator(what).first.wait_for(timeout=60_000)
        schemes.reverse()  # every other page starts in dark mode
    tab.goto(f"{demo.url}/explore?chart=scatter&show=Messages")
    until(lambda: tab.evaluate("Boolean(document.querySelector('.lb-scatter')?.lookback.axes)"))
    with tab.expect_download() as waiting:
        tab.locator(".lb-downloads a").first.click()
    assert waiting.value.suggested_filename.endswith(".csv")
    tab.locator(".lb-message_list pre:visible").first.wait_for()
    before = tab.locator(".lb-status").inner_html()
    until(lambda: tab.locator(".lb-status").inner_html() != before)  # the refresh timer runs its script
    assert bad == []


def test_policy_breaks_no_figure(tab: Page, tmp_path: Path) -> None:
    """Authors' own figures are drawn under the policy, scatter plots of a thousand points and more as SVG. A
    figure that cannot be drawn is reported in a sentence."""
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "figures.py").write_text(FIGURES)
    with app(tmp_path, LOOKBACK_PAGES=str(tmp_path / "pages")) as running:
        bad = listened(tab)
        tab.goto(running.url)
        expect(tab.locator("[data-testid=stAlert]")).to_contain_text("type 'parcoords'", timeout=60_000)
        until(lambda: tab.locator(".js-plotly-plot .points path").count() > 2000)
        tab.locator(".js-plotly-plot .gl-container canvas").first.wait_for(state="attached")
        tab.locator(
            "[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg"
        ).first.wait_for()
        assert "WebGL is not supported" not in tab.locator("body").inner_text()
        tab.goto("about:blank")
    assert bad == []


def test_policy_is_in_force(demo: App, tab: Page) -> None:
    """The browser blocks what an injected script would attempt: code, and connections, pictures, forms and
    frames to other hosts."""
    bad = listened(tab)
    tab.goto(demo.url)
    settled(tab)
    assert bad == []
    elsewhere = "http://localhost:9"  # another site: the page is at 127.0.0.1
    tries = {
        "script-src-elem": "document.head.append(Object.assign(document.createElement('script'),"
        "{textContent: 'window.ran = 1'}))",
        "script-src-attr": "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"ran = 1\">')",
        "script-src": "setTimeout('window.ran = 1')",
        "connect-src": f"fetch('{elsewhere}/').catch(() => 0)",
        "img-src": f"new Image().src = '{elsewhere}/x.png?secret'",
        "frame-src": "document.body.append(Object.assign(document.createElement('iframe'),"
        f"{{src: '{elsewhere}/'}}))",
        "base-uri": "document.head.append(Object.assign(document.createElement('base'),"
        f"{{href: '{elsewhere}/'}}))",
        "object-src": "document.body.append(Object.assign(document.createElement('object'),"
        f"{{data: '{elsewhere}/'}}))",
        "form-action": "document.body.append(Object.assign(document.createElement('form'),"
        f"{{action: '{elsewhere}/', id: 'f'}})); document.getElementById('f').submit()",
    }
    for attempt in tries.values():
        tab.evaluate(f"() => {{ {attempt} }}")

    def stopped() -> set[str]:
        tab.wait_for_timeout(100)  # Playwright dispatches events during its calls
        return {line.split(" ")[1] for line in bad if line.startswith("VIOLATION ")}

    until(lambda: stopped() >= set(tries))
    assert tab.evaluate("window.ran") is None


@contextmanager
def page_elsewhere(html: str) -> Iterator[str]:
    """The URL of a web page of another site: localhost is another site than 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_hostile_page_in_the_same_browser(demo: App, tab: Page) -> None:
    """A page of another site cannot open the app's websocket, read or write over HTTP, load the app's
    scripts, or show the app in a frame."""
    html = f"""<iframe src="{demo.url}/"></iframe><script>
    const url = "{demo.url}", outcomes = window.outcomes = {{}}
    const socket = new WebSocket(url.replace("http", "ws") + "/_stcore/stream")
    socket.onopen = () => outcomes.socket = "open"
    socket.onerror = () => outcomes.socket = "refused"
    fetch(url + "/_stcore/host-config", {{credentials: "include"}})
      .then(() => outcomes.read = "read", () => outcomes.read = "refused")
    fetch(url + "/_stcore/upload_file/a/b", {{method: "PUT", credentials: "include"}})
      .then(() => outcomes.write = "written", () => outcomes.write = "refused")
    const script = Object.assign(document.createElement("script"), {{src: url + "/lookback/live_chart.js"}})
    script.onload = () => outcomes.script = "loaded"
    script.onerror = () => outcomes.script = "refused"
    document.head.append(script)
    </script>"""
    with page_elsewhere(html) as address:
        tab.goto(demo.url)  # to have the app's cookies
        settled(tab)
        tab.goto(address)
        until(lambda: len(tab.evaluate("outcomes")) == 4)
        assert tab.evaluate("outcomes") == dict.fromkeys(["socket", "read", "write", "script"], "refused")
        assert tab.frames[1].url.startswith("chrome-error:")


ODD = [
    ("/", 200),
    ("/explore", 200),
    ("/lookback/frame.css", 200),
    ("/lookback/plotly.min.js", 200),
    ("/lookback/nothing", 404),
    ("/lookback/rows/x/y.csv", 404),
    ("/media/nothing.png", 404),
    ("/component/nothing/index.html", 404),
    ("/static/js/nothing.js", 200),  # Streamlit sends the app's page for unknown paths
    ("/_stcore/health", 200),
    ("/_stcore/host-config", 200),
    ("/_stcore/agent/openapi.json", 200),
    ("//elsewhere.example/", 400),
]


@pytest.mark.parametrize(("path", "status"), ODD)
def test_headers_everywhere(demo: App, path: str, status: int) -> None:
    """Every response has the security headers: pages, files, refusals and 404s. Without TLS, none has
    Strict-Transport-Security."""
    answer = ask(demo.url, path)
    assert answer.status == status
    assert set(answer.headers) >= EVERYWHERE
    assert "'unsafe-eval'" not in answer.headers["content-security-policy"]
    assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
    assert "connect-src 'self';" in answer.headers["content-security-policy"]
    assert "strict-transport-security" not in answer.headers


@pytest.mark.parametrize("page", ["", "explore"])
def test_charts_files_come_early(demo: App, tab: Page, page: str) -> None:
    """A page's Link header names the files that charts need, before any script has run; each file is fetched
    once."""
    early = tab.goto(f"{demo.url}/{page}")
    assert early is not None
    names = re.findall(r"<(lookback/[^>]+)>", early.headers["link"])
    assert len(names) == 5
    tab.locator(".js-plotly-plot").first.wait_for(timeout=60_000)
    asked = tab.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
    first = asked[: len(names)]
    assert sorted(first) == sorted(f"{demo.url}/{name}" for name in names)
    assert not set(first) & set(asked[len(names) :])
    assert "link" not in ask(demo.url, "/lookback/frame.css").headers


@pytest.mark.parametrize("path", ["/", "/explore", "/nosuch"])
def test_pages_know_the_root(demo: App, path: str) -> None:
    """Each page is the same complete response, whatever the request headers, and includes the script with the
    app's root URL. Another HTML file is served unchanged."""
    for asked in ({}, {"Accept_Encoding": "gzip", "Accept": "text/html"}):
        answer = ask(demo.url, path, **asked)
        assert answer.body == app_page()
        assert answer.headers["content-length"] == str(len(answer.body))
        assert not {"etag", "last-modified", "content-encoding"} & set(answer.headers)
    assert answer.body.count(b"BACKEND_BASE_URL") == 1
    other = ask(demo.url, "/lookback/websocket_client.html")
    assert other.headers["content-type"].startswith("text/html")
    assert other.body == (ROOT / "static" / "websocket_client.html").read_bytes()


def test_headers_of_downloads(demo: App, tab: Page) -> None:
    """A download has the headers too, and its file name cannot inject a header."""
    tab.goto(f"{demo.url}/explore")
    link = tab.locator(".lb-downloads a").first
    link.wait_for(timeout=60_000)
    token = re.findall(r"/rows/([^/]+)/", link.evaluate("link => link.href"))[0]
    for name in ("METRICS.csv", "a%0d%0aSet-Cookie:%20a=1%0d%0a.csv", "%22;x=%22.csv", "%E2%82%AC.parquet"):
        answer = ask(demo.url, f"/lookback/rows/{token}/{name}")
        assert answer.status == 200
        assert set(answer.headers) >= EVERYWHERE
        assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")
        assert not set(answer.headers["content-disposition"]) & set('\r\n"')
        assert not answer.cookies
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "name",
    [
        "..%2fapp.py",
        "%2e%2e%2fapp.py",
        "../app.py",
        "..\\app.py",
        "%00",
        "frame.css%00.js",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "plotly.min.js%2f..%2f..%2fapp.py",
        "%ff",
    ],
)
@pytest.mark.parametrize("place", ["/lookback/", "/explore/lookback/", "/static/", "/component/", "/media/"])
def test_no_file_outside(demo: App, place: str, name: str) -> None:
    """No path leads to a file that is not meant to be served."""
    answer = ask(demo.url, place + name)
    assert b"st.App" not in answer.body
    assert b"root:" not in answer.body
    assert answer.status in (400, 404) or b"<title>Streamlit</title>" in answer.body


def test_other_sites_are_refused(demo: App) -> None:
    """The websocket opens only for the app's own pages, not for other sites or other ports of this machine.
    Requests that could change something are refused likewise, and the app's own without Streamlit's XSRF
    token too."""
    own = demo.url
    assert socket_opens(own, own)
    assert socket_opens(own, None)  # not a browser, which would send its origin
    for origin in (
        "http://evil.example",
        "null",
        f"http://localhost:{urlsplit(own).port}",
        "http://127.0.0.1:1",
        "http://localhost:1",
        "http://[::1",
        f"http://127.0.0.1:{urlsplit(own).port}.evil.example",
    ):
        assert not socket_opens(own, origin), origin
        for method in ("POST", "PUT", "DELETE"):
            refused = ask(own, "/_stcore/upload_file/a/b", method, Origin=origin, Content_Length="0")
            assert refused.status == 403
            assert b"another site" in refused.body
            assert set(refused.headers) >= EVERYWHERE
        assert "access-control-allow-origin" not in ask(own, "/_stcore/host-config", Origin=origin).headers
    refused = ask(own, "/_stcore/upload_file/a/b", "PUT", Origin=own, Content_Length="0")
    assert refused.status == 403
    assert b"XSRF" in refused.body


def test_protections_are_not_switched_off() -> None:
    """The shipped settings keep Streamlit's own protections, and listen on loopback only."""
    settings = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())
    server = settings["server"]
    assert server.get("enableXsrfProtection", True) is True
    assert server.get("enableCORS", True) is True
    assert not {"corsAllowedOrigins", "trustedUserHeaders", "enableAgentApi"} & set(server)
    assert server["address"] == "127.0.0.1"
    assert settings["client"]["showErrorDetails"] == "none"


def test_unknown_names_are_refused(demo: App) -> None:
    """A host name that someone has pointed at this machine is refused, over HTTP and websocket. IP addresses,
    localhost and requests forwarded by a proxy are accepted."""
    port = urlsplit(demo.url).port
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "a@b",
    ):
        refused = ask(demo.url, "/", Host=host)
        assert refused.status == 421
        assert b"server.allowedHosts" in refused.body
        assert set(refused.headers) >= EVERYWHERE
    assert not socket_opens(demo.url, f"http://evil.example:{port}", "evil.example")
    for host in (
        "localhost",
        f"localhost:{port}",
        f"[::1]:{port}",
        "app.localhost:1",
        "LOCALHOST",
        "192.0.2.1",
    ):
        assert ask(demo.url, "/", Host=host).status == 200
    for headers in ({"X_Forwarded_For": "192.0.2.1"}, {"Forwarded": "for=192.0.2.1"}, {"Via": "1.1 proxy"}):
        assert ask(demo.url, "/", Host="dash.example.com", **headers).status == 200
    assert socket_opens(
        demo.url, f"https://dash.example.com:{port}", "dash.example.com", X_Forwarded_For="192.0.2.1"
    )


def test_names_that_are_set(tmp_path: Path) -> None:
    """The name in browser.serverAddress is the app's own, also behind a proxy with another name. So are the
    names in server.allowedHosts and the origins in server.corsAllowedOrigins."""
    settings = {
        "STREAMLIT_BROWSER_SERVER_ADDRESS": "dash.example.com",
        "STREAMLIT_SERVER_ALLOWED_HOSTS": "*.example.org dash.example.com 127.0.0.1",
        "STREAMLIT_SERVER_CORS_ALLOWED_ORIGINS": "https://portal.example.net",
    }
    with app(tmp_path, **settings) as running:
        for host, status in {
            "dash.example.com": 200,
            "a.example.org": 200,
            "portal.example.net": 200,
            "example.com": 421,
            "evilexample.org": 421,
        }.items():
            assert ask(running.url, "/", Host=host).status == status
        assert socket_opens(running.url, "https://dash.example.com")
        assert socket_opens(running.url, "https://portal.example.net")
        assert not socket_opens(running.url, "https://evil.example.com")


def test_proxy_in_front_that_speaks_tls(demo: App) -> None:
    """Behind a proxy on this machine that reports TLS, cookies are Secure and the browser is told to stay
    with TLS. The same header from another address is ignored."""
    path = "/_stcore/health"
    plain, proxied = ask(demo.url, path), ask(demo.url, path, X_Forwarded_Proto="https")
    stranger = ask(demo.url, path, source="127.0.0.2", X_Forwarded_Proto="https")
    for answer, tls in ((plain, False), (proxied, True), (stranger, False)):
        assert answer.cookies
        assert all(("Secure" in cookie) is tls for cookie in answer.cookies)
        assert all("SameSite=" in cookie for cookie in answer.cookies)
        assert ("strict-transport-security" in answer.headers) is tls
    at_home = ask(demo.url, path, X_Forwarded_Proto="https", Host="localhost")
    assert "strict-transport-security" not in at_home.headers  # it would apply to every app on localhost


def test_tls(browser: Browser, tmp_path: Path) -> None:
    """With Streamlit's own TLS, pages work under the policy, every cookie is Secure, and scripts can read
    only the cookie meant for them."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=127.0.0.1"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *request.split(), *names], check=True, capture_output=True)
    files = {"STREAMLIT_SERVER_SSL_CERT_FILE": str(certificate), "STREAMLIT_SERVER_SSL_KEY_FILE": str(key)}
    with app(tmp_path, **files) as running:
        answer = ask(running.url, "/_stcore/health")
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        assert set(answer.headers) >= EVERYWHERE
        context = browser.new_context(ignore_https_errors=True)
        tab = context.new_page()
        bad = listened(tab)
        tab.goto(running.url)
        settled(tab)
        tab.locator(".js-plotly-plot .trace").first.wait_for(timeout=60_000)
        cookies = context.cookies()
        assert cookies
        assert all(cookie["secure"] and cookie["sameSite"] in ("Lax", "Strict") for cookie in cookies)
        assert {c["name"] for c in cookies if not c["httpOnly"]} <= {READ_BY_SCRIPTS}
        context.close()
    assert bad == []


def test_below_a_path(tab: Page, tmp_path: Path) -> None:
    """Below a base path, pages, charts and downloads work under the policy, and other sites are refused the
    same way."""
    with app(tmp_path, STREAMLIT_SERVER_BASE_URL_PATH="dash/board") as running:
        bad = listened(tab)
        tab.goto(f"{running.url}/explore")
        settled(tab)
        tab.locator(".js-plotly-plot .trace").first.wait_for(timeout=60_000)
        with tab.expect_download() as waiting:
            tab.locator(".lb-downloads a").first.click()
        assert waiting.value.suggested_filename.endswith(".csv")
        tab.goto("about:blank")
        for path in ("/", "/lookback/frame.css", "/lookback/rows/x/y.csv", "/_stcore/health"):
            assert set(ask(running.url, path).headers) >= EVERYWHERE
        assert socket_opens(running.url, running.url.removesuffix("/dash/board"))
        assert not socket_opens(running.url, "http://evil.example")
    assert bad == []


NAMES = st.text("abcdefghijklmnopqrstuvwxyz_-", min_size=1, max_size=12)
ATTRIBUTES = st.lists(
    st.sampled_from(
        ["Path=/", "HttpOnly", "httponly", "SameSite=Strict", "samesite=None", "Secure", "Max-Age=5"]
    ),
    unique_by=lambda attribute: attribute.partition("=")[0].lower(),
)


@given(NAMES | st.just(READ_BY_SCRIPTS), NAMES, ATTRIBUTES, st.booleans())
def test_cookies_are_guarded(name: str, value: str, attributes: list[str], tls: bool) -> None:
    """Any cookie leaves with each attribute once, and is otherwise unchanged."""
    cookie = "; ".join([f"{name}={value}", *attributes])
    sent = guarded(cookie, tls)
    has = [part.partition("=")[0].strip().lower() for part in sent.split(";")[1:]]
    assert sent.startswith(cookie)
    assert len(has) == len(set(has))
    assert "samesite" in has
    assert ("httponly" in has) or name == READ_BY_SCRIPTS
    assert ("secure" in has) or not tls


def answered(web: Web, path: str, scheme: str = "http") -> list[dict[str, Any]]:
    """The messages that the ASGI app sends for a GET; a last `raised` if it raised the test's exception."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "scheme": scheme,
        "query_string": b"",
        "headers": [],
    }
    with ThreadPoolExecutor(1) as pool:  # Playwright's event loop runs in this thread
        try:
            pool.submit(lambda: asyncio.run(web(scope, receive, send))).result()
        except ZeroDivisionError:
            sent.append({"raised": True})
    return sent


def test_cookies_and_mistakes_of_our_own() -> None:
    """Cookies of the app's own routes are guarded too. An exception in a route gives a 500 without its text,
    with the headers, and is raised on to the server's log."""

    def cookies(_: Any) -> PlainTextResponse:
        answer = PlainTextResponse("")
        answer.set_cookie("a", "1", samesite="strict")
        answer.headers.append("Set-Cookie", "b=2")
        return answer

    def mistake(_: Any) -> PlainTextResponse:
        raise ZeroDivisionError("secret")

    web = Web(Starlette(routes=[Route("/cookies", cookies), Route("/mistake", mistake)]).router)
    start = answered(web, "/cookies", "https")[0]
    found = [value.decode() for name, value in start["headers"] if name == b"set-cookie"]
    assert found == [
        "a=1; Path=/; SameSite=strict; HttpOnly; Secure",
        "b=2; HttpOnly; SameSite=Lax; Secure",
    ]
    start, body, raised = answered(web, "/mistake")
    assert start["status"] == 500
    assert {name.decode() for name, _ in start["headers"]} >= EVERYWHERE
    assert body["body"] == b"Internal Server Error"
    assert raised == {"raised": True}


def test_listener_elsewhere() -> None:
    """The policy can allow a websocket listener of the embedded server, and nothing else. A response with its
    own policy keeps it."""
    assert "connect-src 'self' ws://127.0.0.1:9222;" in policy([], ["ws://127.0.0.1:9222"])

    def own(_: Any) -> PlainTextResponse:
        return PlainTextResponse("", headers={"Content-Security-Policy": "default-src 'none'"})

    routes = [Route("/", lambda _: PlainTextResponse("")), Route("/own", own)]
    web = Web(Starlette(routes=routes).router, connect=lambda: ["ws://127.0.0.1:9222"])
    for path, expected in (
        ("/", policy(web._hashes, ["ws://127.0.0.1:9222"])),
        ("/own", "default-src 'none'"),
    ):
        headers = dict(answered(web, path)[0]["headers"])
        assert headers[b"content-security-policy"].decode() == expected


def test_loopback_only(demo: App) -> None:
    """The app, its embedded server and all programs that it starts listen only on loopback."""
    ask(demo.url, "/")
    process = psutil.Process(demo.process.pid)
    family = [process, *process.children(recursive=True)]
    sockets = {}
    for member in family:
        for each in member.net_connections(kind="inet"):
            if each.status == psutil.CONN_LISTEN or (each.type == socket.SOCK_DGRAM and not each.raddr):
                sockets[each.laddr] = member.name()
    assert urlsplit(demo.url).port in {address.port for address in sockets}
    assert any("nats" in name for name in sockets.values())
    assert {address.ip for address in sockets} <= {"127.0.0.1", "::1"}
