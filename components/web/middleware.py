"""ASGI middleware: sets the security headers of every response and refuses requests from other sites.

The headers follow OWASP's secure headers project. The policy is the strictest one under which Streamlit and
our components work. Streamlit's own checks (cross-site websockets and uploads) stay on behind it.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import FileResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .assets import asset_url
from .streamlit_internals import XSRF_COOKIE

# Streamlit's script reads this cookie and sends it back in a header, as proof that the page is its own.
READ_BY_SCRIPTS = XSRF_COOKIE

_INLINE = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_TELLS_ROOT = b'<script>window.__streamlit = {BACKEND_BASE_URL: new URL(".", location).href}</script>'
"""Streamlit's script would first look for the app below the page's own URL. That request fails, and the
browser logs it to its console. The root is the URL that the page's files are relative to."""
_FORWARDED = ("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded", "via")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_UNUSED = (
    "accelerometer camera display-capture geolocation gyroscope magnetometer microphone midi payment "
    "screen-wake-lock serial usb xr-spatial-tracking"
)

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # a URL may reveal what a viewer has open
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in _UNUSED.split()),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def policy(hashes: Iterable[str], connect: Iterable[str] = ()) -> str:
    """The content security policy. It allows inline scripts with one of `hashes`, and connections to the app
    itself (websockets too) and to `connect`, such as "ws://127.0.0.1:9222"."""
    parts = {
        "default-src": ["'none'"],
        # Streamlit loads a component's script from a blob: URL, our chart's stub among them.
        # Its protobuf library uses WebAssembly for 64-bit integers.
        "script-src": ["'self'", "blob:", "'wasm-unsafe-eval'", *hashes],
        # Streamlit, its tables and Plotly set inline styles.
        "style-src": ["'self'", "'unsafe-inline'"],
        "img-src": ["'self'", "data:", "blob:"],
        "font-src": ["'self'", "data:"],
        "media-src": ["'self'"],
        "connect-src": ["'self'", *connect],
        "frame-src": ["'self'"],
        "frame-ancestors": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "object-src": ["'none'"],
    }
    return "; ".join(f"{name} {' '.join(sources)}" for name, sources in parts.items())


def inline_hashes() -> list[str]:
    """The hash of each inline script in the HTML we serve: the app's page, and the frame of the refresh
    clock."""
    clock = _folder("streamlit_autorefresh") / "frontend" / "build" / "index.html"
    return [
        f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
        for page in (app_page(), clock.read_bytes())
        for script in _INLINE.findall(page)
    ]


def app_page() -> bytes:
    """Streamlit's HTML, the same for all pages, with a script that sets the app's root."""
    before, head, after = _streamlits_page().read_bytes().partition(b"<head>")
    assert head
    return before + head + _TELLS_ROOT + after


def _streamlits_page() -> Path:
    return _folder("streamlit") / "static" / "index.html"


def _folder(package: str) -> Path:
    spec = find_spec(package)  # not imported: a component registers itself on import, before the app exists
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


class Web:
    """Refuses requests from other sites or with unknown host names, sets headers and cookie attributes, and
    sends pages that know the app's root.

    connect: returns the other websocket listeners that pages may connect to; called for each response.
    """

    def __init__(self, app: ASGIApp, connect: Callable[[], Iterable[str]] = tuple) -> None:
        self._app = app
        self._connect = connect
        self._hashes = inline_hashes()
        self._page = app_page()
        page = _streamlits_page()
        self._streamlits_tag = FileResponse(page, stat_result=page.stat()).headers["etag"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or websocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope)
        tls = scope["scheme"] in ("https", "wss")  # uvicorn applies a trusted proxy's X-Forwarded-Proto

        replaced = False

        async def with_headers(message: Message) -> None:
            nonlocal replaced
            if replaced:
                return
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                self._add_headers(headers, tls, _name(asked.get("host", "")))
                # Streamlit sends its page for any unknown path, so only the ETag identifies it.
                replaced = message["status"] == 200 and headers.get("etag") == self._streamlits_tag
                if replaced:
                    self._announce_page(headers)
            await send(message)
            if replaced:
                await send({"type": "http.response.body", "body": self._page})

        refusal = _refusal(scope, asked)
        if refusal and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # the browser sees a 403
        elif refusal:
            await refusal(scope, receive, with_headers)
        elif scope["type"] == "websocket":
            await self._app(scope, receive, send)
        else:
            await self._answer(scope, receive, with_headers)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            if not started:  # Starlette's own 500 would bypass this middleware and lack the headers
                await PlainTextResponse("Internal Server Error", 500)(scope, receive, send)
            raise

    def _announce_page(self, headers: MutableHeaders) -> None:
        for name in ("etag", "last-modified", "accept-ranges", "content-encoding"):
            del headers[name]
        headers["Content-Length"] = str(len(self._page))
        headers["Link"] = early_files()

    def _add_headers(self, headers: MutableHeaders, tls: bool, host: str) -> None:
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        headers.setdefault("Content-Security-Policy", policy(self._hashes, self._connect()))
        if tls and host != "localhost":  # HSTS would apply to every other server on localhost, too
            headers.setdefault("Strict-Transport-Security", "max-age=31536000")
        if "set-cookie" in headers:
            cookies = [guarded(cookie, tls) for cookie in headers.getlist("set-cookie")]
            del headers["set-cookie"]
            for cookie in cookies:
                headers.append("set-cookie", cookie)


def early_files() -> str:
    """The `Link` header: files that a chart needs, so that the browser fetches them while it still loads the
    app's own script. URLs are relative to the page's."""
    return ", ".join(
        f"<{asset_url(name)}>; rel={relation}"
        for name, relation in {
            "plotly.min.js": "preload; as=script; fetchpriority=low",  # after the app's own files
            "channel.js": "modulepreload",
            "live_chart.js": "modulepreload",
            "status.js": "modulepreload",
            "tab.js": "modulepreload",
        }.items()
    )


def guarded(cookie: str, tls: bool) -> str:
    """A Set-Cookie header with HttpOnly, SameSite and, over TLS, Secure added if missing."""
    name = cookie.partition("=")[0].strip()
    has = {part.partition("=")[0].strip().lower() for part in cookie.split(";")[1:]}
    if "httponly" not in has and name != READ_BY_SCRIPTS:
        cookie += "; HttpOnly"
    if "samesite" not in has:
        cookie += "; SameSite=Lax"
    if "secure" not in has and tls:
        cookie += "; Secure"
    return cookie


def _refusal(scope: Scope, asked: Headers) -> PlainTextResponse | None:
    host, origin = asked.get("host"), asked.get("origin")
    if host is not None and not _is_ours(host, asked):
        return PlainTextResponse(
            "This app does not answer to the host name in the URL. To allow it, add it to "
            "server.allowedHosts (or set browser.serverAddress) in .streamlit/config.toml.\n",
            421,
        )
    changes = scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS
    if changes and origin is not None and not _is_same_site(origin, host):
        return PlainTextResponse(
            "This request came from a page of another site. To allow it, add its origin to "
            "server.corsAllowedOrigins in .streamlit/config.toml.\n",
            403,
        )
    return None


def _is_ours(host: str, asked: Headers) -> bool:
    """True if the app may answer to this host name.

    With DNS rebinding, a web page points its own name at 127.0.0.1 after loading, and can then reach an app
    that listens on loopback only. Requests through a proxy are recognised by the headers it adds; a page
    cannot add headers to a websocket.
    """
    if not _is_loopback(str(st.get_option("server.address") or "")):
        return True
    name = _name(host)
    if _is_loopback(name) or _is_address(name) or any(header in asked for header in _FORWARDED):
        return True
    return any(_matches(name, known) for known in _known_names())


def _known_names() -> list[str]:
    origins = [_name(_after_scheme(origin)) for origin in st.get_option("server.corsAllowedOrigins")]
    return [str(st.get_option("browser.serverAddress")), *st.get_option("server.allowedHosts"), *origins]


def _matches(name: str, known: str) -> bool:
    known = known.strip().lower()
    return known == "*" or name == known or (known.startswith("*.") and name.endswith(known[1:]))


def _is_same_site(origin: str, host: str | None) -> bool:
    """True if a page of `origin` may write. Streamlit's own check would accept any port of this machine. It
    would also accept the machine's public address, for which it sends a request to an external server."""
    if _after_scheme(origin) == host or origin in st.get_option("server.corsAllowedOrigins"):
        return True
    proxied = str(st.get_option("browser.serverAddress"))  # a proxy may replace the Host header
    return _name(_after_scheme(origin)) == proxied != "localhost"


def _after_scheme(origin: str) -> str:
    return origin.partition("://")[2]


def _name(host: str) -> str:
    """The host in "host:port", in lower case; "" if it cannot be parsed."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_loopback(name: str) -> bool:
    return (
        name == "localhost"
        or name.endswith(".localhost")
        or (_is_address(name) and ip_address(name).is_loopback)
    )


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
