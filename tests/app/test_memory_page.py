"""A page's warning when the memory shared by all feeds is used up."""

import json
import re
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.test_pages import texts
from tests.nats import NatsServer
from tests.waiting import until


def test_a_full_window_says_that_memory_is_shared(
    server: NatsServer, open_page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window that dropped rows because the process reached its memory limit says so above the page, with
    its own size, the shared limit, and the setting that raises it."""
    monkeypatch.setenv("LOOKBACK_MEMORY", "16 MiB")
    rows = json.dumps([{"v": i} for i in range(20_000)]).encode()
    server.publish("s.a", *[rows] * 40)
    page = open_page('"""A page."""\nfrom components import live, newest_rows\n\nnewest_rows(live("S"))\n')
    until(lambda: "the window is full" in texts(page.run()))
    assert re.search(
        r"S: the window is full \([\d,]+ rows, [\d.]+ MB, its share of the app's 16\.8 MB\)\. "
        r"The [\d,]+ oldest rows, up to .*, were dropped\. "
        r"Choose a shorter look-back, or raise the setting 'memory'\.",
        texts(page),
    ), texts(page)
    assert not page.exception
