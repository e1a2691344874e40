"""HTTP routes of the Comparison page's right half: the page of the NATS websocket client, its token, its
reports."""

import json
import re
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from nats_client import environment

from ..launcher import load_components
from ..web.assets import PREFIX, asset_url, static_text
from .run import ComparisonRun

COOKIE = "nats_jwt"
"""The cookie that the NATS server reads (`jwt_cookie` of the embedded one)."""
MOST_BYTES = 16 * 1024  # the longest request body
FILES = ("websocket_client.js", "websocket_client.css", "plotly.min.js")


def websocket() -> str | None:
    """The websocket URL for browsers from the variable LOOKBACK_WEBSOCKET, such as
    wss://dashboards.example.com. None if it is not set: browsers then connect to the listener's own port on
    the app's host. Raises SettingsError if the variable is not such a URL."""
    return environment.WEBSOCKET.read()


def policy(host: str, port: int | None) -> str:
    """The content security policy of the client's page: its own files, and one NATS server."""
    host = f"[{host}]" if ":" in host else host
    known = port and re.fullmatch(r"[\w.\[\]:-]+", host, re.ASCII)  # untrusted: from the Host header
    sockets = f" ws://{host}:{port} wss://{host}:{port}" if known else ""
    if where := websocket():
        sockets = f" {where}"
    return (
        "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self' 'unsafe-inline'; "
        "font-src 'self'; "
        f"img-src 'self' data: blob:; connect-src 'self'{sockets}; frame-ancestors 'self'; base-uri 'none'; "
        "form-action 'none'"
    )


def is_same_origin(request: Request) -> bool:
    """True if a page of this app sent the request. On secure origins and localhost, browsers send that
    information themselves (Sec-Fetch-Site); elsewhere the Origin must match the Host."""
    if site := request.headers.get("sec-fetch-site"):
        return site == "same-origin"
    origin = request.headers.get("origin", "")
    return bool(origin) and urlsplit(origin).netloc == request.headers.get("host")


def _run(request: Request) -> ComparisonRun | None:
    """The run in the URL; None if it belongs to another sign-in."""
    load_components()
    from ..web.sign_in import key_of
    from .run import find_run  # imported here because these modules may have been reloaded

    return find_run(request.path_params["run"], lambda: key_of(request.cookies))


async def _page(request: Request) -> Response:
    run = _run(request)
    if run is None:
        return PlainTextResponse("This comparison is over. Open the page Websocket comparison.\n", 404)
    text = static_text("websocket_client.html")
    for name in FILES:
        text = text.replace(f"{{{name}}}", f"../../{asset_url(name).removeprefix(f'{PREFIX}/')}")
    return Response(text, media_type="text/html", headers=_headers(request, run))


async def _reader(request: Request) -> Response:
    """The page's worker script. Served below the run's URL, because a worker uses its own URL's policy and
    cookies."""
    run = _run(request)
    if run is None:
        return PlainTextResponse("This comparison is over.\n", 404)
    text = static_text("websocket_reader.js")
    return Response(text, media_type="text/javascript", headers=_headers(request, run))


def _headers(request: Request, run: ComparisonRun) -> dict[str, str]:
    return {
        "Content-Security-Policy": policy(request.url.hostname or "", run.port),
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


async def _session(request: Request) -> Response:
    """Give the client its token, in a cookie that no script can read and that is limited to this run's
    URLs."""
    found = await _asked(request)
    if isinstance(found, Response):
        return found
    run, asked = found
    ticket = asked.get("ticket")
    token = run.redeem_ticket(ticket if isinstance(ticket, str) else "", request.cookies.get(COOKIE, ""))
    if token is None:
        return PlainTextResponse("This ticket is used or expired. Open Websocket comparison again.\n", 403)
    answer = JSONResponse(
        {
            "port": token.port,
            "websocket": websocket(),
            "inbox_prefix": token.inbox_prefix,
            "api_prefix": run.api_prefix,
            "lives": token.lives,
            **run.settings(),
        },
        headers={"Cache-Control": "no-store"},
    )
    # Without a path the cookie applies to this URL's folder as the browser sees it, also behind a proxy.
    answer.set_cookie(
        COOKIE,
        token.jwt,
        max_age=int(token.lives),
        path=None,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


async def _report(request: Request) -> Response:
    found = await _asked(request)
    if isinstance(found, Response):
        return found
    run, report = found
    try:
        return JSONResponse(run.take_report(report), headers={"Cache-Control": "no-store"})
    except (LookupError, TypeError, ValueError, OverflowError):
        return PlainTextResponse("This is not a valid report.\n", 400)


async def _asked(request: Request) -> tuple[ComparisonRun, dict[str, Any]] | Response:
    """The run in the URL and the request's body; or an error response."""
    if not is_same_origin(request):
        return PlainTextResponse("This request came from a page of another site.\n", 403)
    if (run := _run(request)) is None:
        over = PlainTextResponse("This comparison is over. Open the page Websocket comparison.\n", 404)
        over.set_cookie(COOKIE, "", max_age=0, path=None)  # the token may still be valid
        return over
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            return PlainTextResponse("The request is too long.\n", 413)
    try:
        asked = json.loads(bytes(body))
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        return PlainTextResponse("The request is not a JSON object.\n", 400)
    return run, asked


_ADDRESS = f"/{PREFIX}/comparison/{{run}}/"
routes: list[BaseRoute] = [
    Route(f"{base}{_ADDRESS}{name}", endpoint, methods=methods)
    for base in ("", "/{base:path}")
    for name, endpoint, methods in (
        ("", _page, ["GET"]),
        ("reader.js", _reader, ["GET"]),
        ("session", _session, ["POST"]),
        ("report", _report, ["POST"]),
    )
]
