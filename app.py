"""The launcher: `streamlit run app.py`.

Starts the embedded NATS server where no other is configured, and ends what it started. What a viewer sees
is components/frame.py; the frame is not here, since Streamlit would take the pages/ folder beside the
script that it runs for its own kind of pages, and run them without the frame.
"""

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import streamlit as st
from starlette.middleware import Middleware

from components import assets, comparison_routes, download
from components.connection import EMBEDDED, EMBEDDED_ERROR, nats_configured
from components.traffic import Count
from services.embedded import ServerError, embedded

# A replay decodes in a thread of its own; with Python's usual 5 ms between switches it would hold up
# every page for that long, again and again.
sys.setswitchinterval(0.0005)


@asynccontextmanager
async def lifespan(_: st.App) -> AsyncIterator[dict[str, Any]]:
    """What lives as long as the web server."""
    try:
        if nats_configured():
            yield {}
            return
        try:
            async with embedded(_origins()) as logins:
                os.environ[EMBEDDED] = json.dumps(logins)
                yield {}
        except ServerError as error:
            os.environ[EMBEDDED_ERROR] = str(error)
            yield {}
    finally:
        st.cache_resource.clear()  # closes the client


def _origins() -> list[str]:
    """Where the app's own pages come from. Only `streamlit run` tells its port."""
    if getattr(st.config, "_server_mode", None) not in ("starlette-app", "starlette-app-direct"):
        return []
    port = st.get_option("server.port")
    return [f"http://127.0.0.1:{port}", f"http://localhost:{port}"]


app = st.App(
    "components/frame.py",
    lifespan=lifespan,
    routes=[*download.routes, *comparison_routes.routes, *assets.routes],
    middleware=[Middleware(Count)],
)
