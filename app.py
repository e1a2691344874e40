"""The launcher: `streamlit run app.py`.

Starts the embedded NATS server where no other is configured, and ends what it started. What a viewer sees
is components/frame.py; the frame is not here, since Streamlit would take the pages/ folder beside the
script that it runs for its own kind of pages, and run them without the frame.
"""

import asyncio
import gc
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import streamlit as st
from starlette.middleware import Middleware
from streamlit.errors import StreamlitSecretNotFoundError

from components import launcher
from components.data.connection import nats_configured
from components.inside import health
from components.tables import download
from components.web import assets, sign_in
from components.web.middleware import Web
from components.web.streamlit_internals import is_started_by_streamlit
from components.web.theme import keep_theme
from components.web.traffic import Count
from components.websocket_demo import routes as comparison_routes
from services.embedded import ServerError, embedded
from services.sign_ins import SignIns

MOST_FILES = 65536

# A replay decodes in a thread of its own; with Python's usual 5 ms between switches it would hold up
# every page for that long, again and again.
sys.setswitchinterval(0.0005)

# Each refresh leaves some hundred objects; at the 700 of Python's default the collector would run at nearly
# every one of them, and all too often through everything that there is, with all viewers waiting.
gc.set_threshold(10_000, 20, 20)

keep_theme()


def allow_connections() -> None:
    """Raise the limit of open files: each viewer takes four, the socket and an event loop of Streamlit's, so
    the usual 1,024 would end at 250."""
    with suppress(ImportError, OSError, ValueError):  # no such limit on Windows, or the system says no
        import resource

        limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 <= limit < MOST_FILES:
            wanted = MOST_FILES if most == resource.RLIM_INFINITY else min(MOST_FILES, most)
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


allow_connections()


@asynccontextmanager
async def lifespan(_: st.App) -> AsyncIterator[dict[str, Any]]:
    """What lives as long as the web server."""
    gc.collect()
    gc.freeze()  # what is loaded by now stays: the collector need not look at it again
    try:
        async with _sign_in():
            if nats_configured():
                yield {}
                return
            try:
                async with embedded(_origins(), _tell_trouble) as logins:
                    launcher.embedded = logins
                    yield {}
            except ServerError as error:
                launcher.not_embedded = str(error)
                yield {}
    finally:
        st.cache_resource.clear()  # closes the clients


def _tell_trouble(sentence: str | None) -> None:
    launcher.trouble = sentence


@asynccontextmanager
async def _sign_in() -> AsyncIterator[None]:
    """Have people sign in, where the secrets have a section for it."""
    try:
        section = st.secrets.get("auth")
    except StreamlitSecretNotFoundError:
        section = None
    if section is None:
        yield
        return
    launcher.sign_ins = sign_ins = SignIns(section.get("server_metadata_url"))
    closing = asyncio.create_task(_close_unused(sign_ins))
    try:
        async with sign_ins.watched():
            yield
    finally:
        closing.cancel()
        with suppress(asyncio.CancelledError):
            await closing


async def _close_unused(sign_ins: SignIns) -> None:
    while True:
        await asyncio.sleep(1)
        from components.data.connection import close_unused  # it may have been loaded anew

        await asyncio.to_thread(close_unused, sign_ins.in_force())


def _origins() -> list[str]:
    """Where the app's own pages come from, also through a proxy. Only `streamlit run` tells its port."""
    if not is_started_by_streamlit():
        return []
    port = st.get_option("server.port")
    # The NATS server does not start on what is no origin
    found = [
        re.match(r"https?://[\w.-]+(:\d+)?$", each) for each in st.get_option("server.corsAllowedOrigins")
    ]
    others = [origin[0] for origin in found if origin]
    return [f"http://127.0.0.1:{port}", f"http://localhost:{port}", *others]


app = st.App(
    "components/frame.py",
    lifespan=lifespan,
    routes=[*health.routes, *download.routes, *comparison_routes.routes, *assets.routes],
    middleware=[Middleware(Count), Middleware(Web), Middleware(sign_in.Middleware)],
)
