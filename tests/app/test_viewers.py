"""More viewers than the usual limit of open files permits.

Slow, because sixty viewers connect to one app.
"""

import asyncio
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.viewer import Audience
from tests.nats import NatsServer
from tests.running import app

VIEWERS = 60
FILES = 200
"""The soft limit of open files; each viewer needs four."""
PAGE = '"""Page."""\nimport streamlit as st\n\nst.markdown("here")\n'


@pytest.fixture
def few_files() -> Iterator[None]:
    """Lower the soft limit of open files for processes started meanwhile; they may raise it themselves."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < 4 * VIEWERS + FILES:
        pytest.fail(f"this machine allows {before[1]} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("few_files")
def test_many_viewers(server: NatsServer, tmp_path: Path) -> None:
    """The app raises its own limit of open files, so sixty viewers get refreshes despite a low one."""
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "page.py").write_text(PAGE)
    settings = {"NATS_URL": server.url, "LOOKBACK_PAGES": str(tmp_path / "pages")}

    async def watch(url: str) -> None:
        async with Audience(url, VIEWERS) as audience:
            async with asyncio.timeout(120):
                while min(len(viewer.refreshes) for viewer in audience.viewers) < 2:
                    audience.check()
                    await asyncio.sleep(0.2)

    with app(tmp_path, **settings) as running:
        asyncio.run(watch(running.url))
        assert "Too many open files" not in running.log.read_text()
