"""The launcher: `streamlit run app.py`.

Starts the embedded NATS server if no other server is configured, and stops what it started. Viewers see
components/frame.py. The frame is not in this file, because Streamlit would treat a pages/ folder beside the
script as its own kind of pages and run them without the frame.
"""

import asyncio
import gc
import logging
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import streamlit as st
from starlette.middleware import Middleware
from streamlit.errors import StreamlitSecretNotFoundError

from nats_client import environment
from nats_client.errors import SettingsError

# Before the imports below, because they read some of the settings.
try:
    environment.check()
except SettingsError as error:
    sys.exit(str(error))

from components import launcher
from components.data.connection import nats_configured
from components.inside import health
from components.push import channel
from components.tables import download
from components.web import assets, sign_in
from components.web.middleware import Web
from components.web.streamlit_internals import is_started_by_streamlit, make_container_stack
from components.web.theme import keep_theme
from components.web.traffic import Count
from components.websocket_demo import routes as comparison_routes
from services.embedded import ServerError, embedded
from services.sign_ins import SignIns

MOST_FILES = 65536

# A replay decodes in its own thread. With Python's default switch interval of 5 ms it would delay every page
# by that long, again and again.
sys.setswitchinterval(0.0005)

# Each refresh leaves a few hundred objects. With Python's default threshold of 700 the garbage collector
# would run at nearly every refresh, often over all objects, and all viewers would wait.
gc.set_threshold(10_000, 20, 20)

make_container_stack()
keep_theme()

# Without a handler, Python logs warnings only. The level stays at WARNING for other libraries, because their
# INFO would be a line for each request.
logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
for name in ("nats_client", "lookback"):
    logging.getLogger(name).setLevel(logging.INFO)


def allow_connections() -> None:
    """Raise the limit of open files. A viewer takes four (the socket and Streamlit's event loop), so the
    usual limit of 1,024 would allow 250 viewers."""
    with suppress(ImportError, OSError, ValueError):  # Windows has no such limit; elsewhere it may be denied
        import resource

        limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 <= limit < MOST_FILES:
            wanted = MOST_FILES if most == resource.RLIM_INFINITY else min(MOST_FILES, most)
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


allow_connections()


@asynccontextmanager
async def lifespan(_: st.App) -> AsyncIterator[dict[str, Any]]:
    """Everything that lives as long as the web server."""
    gc.collect()
    gc.freeze()  # modules stay loaded, so the collector need not visit them again
    try:
        async with _sign_in():
            if nats_configured():
                yield {}
                return
            try:
                async with embedded(_origins(), _report_trouble) as logins:
                    launcher.embedded = logins
                    yield {}
            except ServerError as error:
                launcher.not_embedded = str(error)
                yield {}
    finally:
        launcher.load_components()
        from components.data.connection import close_all  # imported here: it may have been reloaded

        close_all("the app ends")


def _report_trouble(sentence: str | None) -> None:
    launcher.trouble = sentence


@asynccontextmanager
async def _sign_in() -> AsyncIterator[None]:
    """Turn sign-in on if the secrets have a section for it."""
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
        launcher.load_components()
        from components.data.connection import close_unused  # imported here: it may have been reloaded

        await asyncio.to_thread(close_unused, sign_ins.in_force())


def _origins() -> list[str]:
    """The origins of the app's own pages, also behind a proxy. The port is known only under `streamlit
    run`."""
    if not is_started_by_streamlit():
        return []
    port = st.get_option("server.port")
    # The NATS server does not start if an origin is not valid.
    found = [
        re.match(r"https?://[\w.-]+(:\d+)?$", each) for each in st.get_option("server.corsAllowedOrigins")
    ]
    others = [origin[0] for origin in found if origin]
    return [f"http://127.0.0.1:{port}", f"http://localhost:{port}", *others]


app = st.App(
    "components/frame.py",
    lifespan=lifespan,
    routes=[*channel.routes, *health.routes, *download.routes, *comparison_routes.routes, *assets.routes],
    middleware=[Middleware(Count), Middleware(Web), Middleware(sign_in.Middleware)],
)
