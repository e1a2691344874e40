"""Pages on a stream that allows no further consumer, and on a subject that matches nothing, in a real
browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.jetstream import publish, stream, worker
from tests.nats import NatsServer, numbered
from tests.running import App, app

QUEUE = '''"""Queue."""
from components import line_chart, live

rows = live("JOBS")
line_chart(rows, y="n")
'''
MISTYPED = '''"""Mistyped."""
from components import line_chart, live

rows = live("JOBS", "job.[b](c)")
line_chart(rows, y="n")
'''


@pytest.fixture
def running(tmp_path: Path, server: NatsServer) -> Iterator[App]:
    """The app with one page on a work queue, and one with a mistyped subject."""
    stream(server, "JOBS", "jobs.>", retention="workqueue")
    worker(server, "JOBS", filter_subject="jobs.>")
    publish(server, "jobs.a", *numbered(20))
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "queue.py").write_text(QUEUE)
    (tmp_path / "pages" / "mistyped.py").write_text(MISTYPED)
    with app(tmp_path, NATS_URL=server.url, LOOKBACK_PAGES=str(tmp_path / "pages")) as running:
        yield running


def test_queue_and_mistyped(running: App, browser: Browser) -> None:
    """A work queue is drawn live, and the page says how it is read. A subject that matches nothing is
    reported with the subjects that the stream stores, as plain text."""
    tab = browser.new_page(viewport={"width": 1100, "height": 800})
    tab.goto(f"{running.url}/queue")
    expect(tab.locator(".lb-status")).to_contain_text("20 rows")
    expect(tab.locator(".lb-live")).to_be_visible()
    tab.get_by_role("button", name="1 warning").click()
    expect(tab.get_by_text("JOBS: read by sequence, every half second")).to_be_visible()
    expect(tab.get_by_text("read the plain subjects to see all that is published")).to_be_visible()
    tab.goto(running.url)  # the first page
    expect(tab.get_by_text("'job.[b](c)' matches no subject of 'JOBS'")).to_be_visible()
    expect(tab.get_by_text("which stores 'jobs.>'.")).to_be_visible()
    tab.close()
