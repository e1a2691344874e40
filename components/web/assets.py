"""Static files for the browser, served by the app under /lookback/."""

import gzip
import hashlib
import mimetypes
import re
from functools import cache, lru_cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

PREFIX = "lookback"
STUB = "export default c=>\nnew Promise(r=>(self.lookback_{}??=[]).push([c,r]))"
"""The script of a live element, with its kind's name. Streamlit sends it at each refresh, so it is short. It
queues the element for the file of that kind. The tab loads that file once, and it also draws the elements
that were queued before."""
_IMPORT = re.compile(rb'\bfrom "\./([\w.]+\.js)"')
_STATIC = Path(__file__).parents[2] / "static"


def live_files() -> list[str]:
    """The files of static/ that draw live elements, except for the status line."""
    return sorted(file.name for file in _STATIC.glob("live_*.js"))


@lru_cache(maxsize=32)
def _path(name: str) -> Path:
    return _STATIC / name


def asset_url(name: str) -> str:
    """The URL of a file, relative to the app's root. It changes with the file's content."""
    return f"{PREFIX}/{name}?v={_load(name, _modified(name))[1]}"


@cache
def plotly_url() -> str:
    """The URL of plotly.min.js. Cached, because that file is never edited."""
    return asset_url("plotly.min.js")


def static_text(name: str) -> str:
    """A file of static/ as text."""
    return _path(name).read_text(encoding="utf-8")


def _modified(name: str) -> int:
    """Modification time of the file, in ns; of a script, the newest one of all scripts, since it may import
    others."""
    files = _STATIC.glob("*.js") if name.endswith(".js") and _path(name).parent == _STATIC else [_path(name)]
    return max(file.stat().st_mtime_ns for file in files)


@lru_cache(maxsize=32)
def _load(name: str, modified: int) -> tuple[bytes, str]:
    """The content, and a short hash of it. Scripts import each other by URLs with such a hash, so that a
    browser may keep each file and all scripts get the same one."""
    content = _path(name).read_bytes()
    if _path(name).parent == _STATIC:
        content = _IMPORT.sub(
            lambda found: found[0][:-1] + f"?v={_load(found[1].decode(), modified)[1]}".encode() + b'"',
            content,
        )
    return content, hashlib.sha256(content).hexdigest()[:12]


@lru_cache(maxsize=32)
def _packed(name: str, modified: int) -> bytes:
    """The content, gzipped. Done on request, because plotly.js takes a while."""
    return gzip.compress(_load(name, modified)[0], 6, mtime=0)


def _serve(request: Request) -> Response:
    name = request.path_params["name"]
    # Only names of existing files are accepted, so no path can leave the folder.
    if name not in {file.name for file in _STATIC.iterdir()}:
        return PlainTextResponse("Not found", status_code=404)
    modified = _modified(name)
    content, version = _load(name, modified)
    known = request.query_params.get("v") == version
    packed = "gzip" in request.headers.get("accept-encoding", "")
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable" if known else "no-cache",
        "ETag": f'"{version}{"-gzip" if packed else ""}"',
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    if packed:
        headers["Content-Encoding"] = "gzip"
        content = _packed(name, modified)
    return Response(content, media_type=kind, headers=headers)


# The second route is for an app below a base path (server.baseUrlPath).
routes: list[BaseRoute] = [
    Route(f"/{PREFIX}/{{name}}", _serve),
    Route(f"/{{base:path}}/{PREFIX}/{{name}}", _serve),
]
