"""Each moment of the past looks as it did live: a page is recorded at ten moments, and each is opened
again.

Slow, because a page is recorded at ten moments, minutes apart in its messages, and each is opened again.
"""

import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.app.test_archive_page import archived, history
from tests.browser import fresh_tab
from tests.nats import NatsServer, running_server
from tests.running import App, app
from tests.waiting import until

EVERYTHING = '''"""Everything."""
import streamlit as st
from components import alerts, latest_values, line_chart, live, metric, newest_rows, sql, states

rows = live("S", "s.{line}", look_back="PT1H", archive="history.query")
for how in ("sum", "greatest", "mean"):
    metric(rows, "n", how=how, by="line", title=how)
line_chart(rows, "n", by="line")
line_chart(rows, "n", steps=True, from_zero=True, key="steps")
latest_values(rows, "n", by="line")
newest_rows(rows, 50)
alerts(rows, "n", {"high": "> 80", "low": "< 10"}, by="line")
alerts(rows, "state", {"new": "changed"}, by="line")
states(rows, "state", by="line")
if rows:
    found = sql("SELECT line, state, count(*) AS c, sum(n) AS s, max(_seq) AS last FROM rows "
                "GROUP BY ALL ORDER BY ALL", rows=rows)
    st.text(found.frame().to_csv(index=False))
    st.text(rows.frame().to_csv(date_format="%H:%M:%S.%f"))
st.text(f"{len(rows)} in all")
'''
RECORD = """() => {
  const texts = (selector) => [...document.querySelectorAll(selector)].map((each) => each.innerText);
  const charts = [...document.querySelectorAll('.js-plotly-plot')].map((plot) => plot.parentElement.lookback);
  return {
    metrics: texts('.lb-metric-number'),
    values: texts('.lb-latest_values tbody tr'),
    rows: texts('.lb-newest_rows tbody tr'),
    alerts: texts('.lb-alerts tbody tr'),
    texts: texts('[data-testid=stText]'),
    charts: charts.map(({ step, series }) => [step, Object.fromEntries(series.map(({ name, cells }) => [name,
      Object.fromEntries([...cells].map(([bin, ends]) => [bin, ends.map((end) => +end.toPrecision(8))]))]))]),
  };
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with a stream; each test publishes its messages in bursts."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.add_stream("S", ["s.>"])
        yield server


@pytest.fixture(scope="module")
def running(server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with a page that has every kind of element."""
    folder: Path = tmp_path_factory.mktemp("app")
    (folder / "pages").mkdir()
    (folder / "pages" / "everything.py").write_text(EVERYTHING)
    with app(folder, NATS_URL=server.url, LOOKBACK_PAGES=str(folder / "pages")) as running:
        yield running


def burst(server: NatsServer, chance: random.Random) -> int:
    """Publish a random number of messages; return the number."""
    count = chance.randrange(5, 30)
    for _ in range(count):
        content: dict[str, Any] = {"n": chance.randrange(100)}
        if chance.random() < 0.7:
            content["state"] = chance.choice(["RUN", "IDLE", "FAULT"])
        server.publish(f"s.{chance.choice(['one', 'two', 'three'])}", json.dumps(content).encode())
    return count


def recorded(tab: Page, count: int) -> dict[str, Any]:
    """The content of the page once it has `count` rows and has stopped changing."""
    expect(tab.get_by_text(f"{count} in all", exact=True)).to_be_visible(timeout=60_000)
    seen: list[Any] = [None, None]

    def same() -> bool:
        time.sleep(0.7)  # each element is pushed separately
        seen.append(tab.evaluate(RECORD))
        return bool(seen[-1]["charts"]) and seen[-1] == seen[-2] == seen[-3]

    until(same)
    return dict(seen[-1])


def archives(server: NatsServer) -> int:
    """Request a run of the archiver, which refuses if it is running; return the number of archived
    messages."""
    server.run(lambda nc: nc.request("workflow-start.archive", b"", timeout=5))
    return archived(server)


def test_ten_moments(server: NatsServer, running: App, browser: Browser, tmp_path: Path) -> None:
    """At each of ten moments, a page has, row by row and cell by cell, the content that it showed live.
    Meanwhile the server was killed and restarted, and most messages left the stream for the archive."""
    chance = random.Random(18)
    moments: list[tuple[str, dict[str, Any]]] = []
    count = 1
    with history(server, tmp_path), fresh_tab(browser) as tab:
        server.publish("s.one", b'{"n": 0}')
        until(lambda: archived(server) == 1)
        tab.goto(f"{running.url}/everything")
        for number in range(10):
            count += burst(server, chance)
            seen = recorded(tab, count)
            ended = pd.Timestamp(time.time(), unit="s", tz="UTC").isoformat(timespec="milliseconds")
            moments.append((ended, seen))
            if number == 3:
                server.kill()
                expect(tab.locator(".lb-word")).to_have_text("Disconnected")
                server.start()
            elif number == 5:
                until(lambda: archives(server) == count)
                server.run(lambda nc: nc.jetstream().purge_stream("S", keep=10))
            expect(tab.locator(".lb-word")).to_have_text(re.compile("Live|Stale"), timeout=30_000)
        time.sleep(1.1)  # the last moment is over
        differing = {}
        for number, (ended, live) in enumerate(moments):
            tab.goto(f"{running.url}/everything?{urlencode({'to': ended})}")
            total = live["texts"][-1].split()[0]
            then = recorded(tab, int(total))
            expect(tab.locator(".lb-word")).to_have_text("Past")
            for what, shown in live.items():
                if then[what] != shown:
                    differing[number, what] = shown, then[what]
        assert differing == {}
