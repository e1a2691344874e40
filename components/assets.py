"""Files for the browser, served under /lookback/ by the app itself."""

import gzip
import hashlib
import mimetypes
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

PREFIX = "lookback"
_STATIC = Path(__file__).parent.parent / "static"


def _path(name: str) -> Path:
    if name == "plotly.min.js":
        return Path(str(files("plotly"))) / "package_data" / name
    return _STATIC / name


def asset_url(name: str) -> str:
    """The address of a file, relative to the app's root; it changes with the file's content."""
    return f"{PREFIX}/{name}?v={_load(name, _path(name).stat().st_mtime_ns)[2]}"


@lru_cache(maxsize=32)
def _load(name: str, _stamp: int) -> tuple[bytes, bytes, str]:
    """Content, content in gzip, and a short hash."""
    content = _path(name).read_bytes()
    return content, gzip.compress(content, 6, mtime=0), hashlib.sha256(content).hexdigest()[:12]


def _serve(request: Request) -> Response:
    name = request.path_params["name"]
    # Only names that are there count, so a path can never lead out of the folder.
    if name not in {file.name for file in _STATIC.iterdir()} | {"plotly.min.js"}:
        return PlainTextResponse("Not found", status_code=404)
    content, packed, version = _load(name, _path(name).stat().st_mtime_ns)
    known = request.query_params.get("v") == version
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable" if known else "no-cache",
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(packed, media_type=kind, headers={**headers, "Content-Encoding": "gzip"})
    return Response(content, media_type=kind, headers=headers)


routes: list[BaseRoute] = [Route(f"/{PREFIX}/{{name}}", _serve)]
