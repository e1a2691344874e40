"""One time line in the whole app: the real archiver, the real history service, a real browser.

Slow, because an archiver, a history service and the app start, and each part of the time line is drawn.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from tests.browser import chromium
from tests.nats import NatsServer, running_server
from tests.running import ROOT, app
from tests.waiting import until

POINTS = "el => el.data.flatMap(trace => trace.y).filter(y => y !== null)"


@contextmanager
def history(server: NatsServer, folder: Path) -> Iterator[None]:
    """The history service, moving the stream S into its archive."""
    command = [sys.executable, "-m", "services.history", server.url, str(folder / "history.duckdb"), "S"]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def archived(server: NatsServer) -> int:
    """The number of messages in the archive; 0 while the history service does not reply."""

    async def ask(nc: Any) -> int:
        answer = await nc.request("history.tables", b"", timeout=5)
        tables = {table["name"]: table["rows"] for table in json.loads(answer.data)["tables"]}
        return int(tables["messages"] or 0)

    try:
        return int(server.run(ask))
    except Exception:
        return 0


def test_one_time_line(tmp_path: Path) -> None:
    """A chart shows the messages that have left the stream beside those it still holds. While the archive
    does not reply, the page names the missing part."""
    with running_server(tmp_path / "nats") as server:
        server.add_stream("S", ["s.>"])
        server.publish("s.a", *(json.dumps({"n": n}).encode() for n in range(300)))
        with history(server, tmp_path):
            until(lambda: archived(server) == 300)
        server.run(lambda nc: nc.jetstream().purge_stream("S", keep=50))
        with app(tmp_path, NATS_URL=server.url) as running, chromium() as browser:
            tab = browser.new_page()
            tab.goto(f"{running.url}/explore?stream=S&source=archive+too&last=PT1H")
            expect(tab.locator(".lb-status")).to_contain_text("50 rows", timeout=30_000)
            tab.get_by_role("button", name="warning").click()
            alert = tab.locator("[data-testid=stAlert]").filter(has_text="cannot read the archive")
            expect(alert).to_contain_text("No responders for 'history.query'", timeout=30_000)
            with history(server, tmp_path):
                expect(tab.locator(".lb-status")).to_contain_text("300 rows", timeout=40_000)
                expect(alert).to_have_count(0)
                server.publish("s.a", json.dumps({"n": 300}).encode())
                expect(tab.locator(".lb-status")).to_contain_text("301 rows", timeout=30_000)
                chart = tab.locator(".js-plotly-plot").first
                until(lambda: {0, 300} <= set(chart.evaluate(POINTS)))
            tab.goto("about:blank")
