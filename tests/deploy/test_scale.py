"""Several processes behind nginx, on a cluster: who is killed is replaced, and no viewer misses a row.

Slow, because a cluster and three apps start, and two of them are started again.
"""

import http.client
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from nats.js.api import AckPolicy, ConsumerConfig
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser import pick
from tests.nats import connected
from tests.running import ROOT, free_port
from tests.waiting import until

PAGE = '''"""Whole."""
import json

import streamlit as st

from components import choose, downloads, line_chart, live

cpu = live("METRICS", "metrics.cpu.*", look_back="PT5M")
choose("Kind", ["first", "second"])
st.code(json.dumps(cpu.frame()["_seq"].tolist()))
downloads(cpu, "cpu")
line_chart(cpu, y="percent", by="_subject", unit="%")
'''
PUSHED = '''"""Without code: nothing but live elements, so that no rerun brings data."""
from components import line_chart, live

cpu = live("METRICS", "metrics.cpu.*", look_back="PT5M")
line_chart(cpu, y="percent", by="_subject", unit="%")
'''
CHART = ".js-plotly-plot"
SHOWN = """el => el.data.filter(trace => trace.x).map(trace => trace.x.map(
    (x, i) => [Date.parse(x + 'Z'), trace.y[i]]).filter(([, y]) => y !== null))"""
RANGE = "el => el._fullLayout.xaxis.range.map(x => +new Date(x))"
FINER = """el => {
  const { finer } = el.parentElement.lookback;
  return finer ? [finer.from * finer.step, finer.to * finer.step] : [];
}"""
"""From when to when the chart has finer bins, ms."""
STEP = 500  # ms of a bin with five minutes of look-back


class Scale:
    """A running `python -m deploy.scale`."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process, self.url, self.log = process, url, log

    def parts(self) -> dict[str, tuple[str, int]]:
        """Name to where it listens and its newest process, as it has reported."""
        reported = re.findall(r"^(\w+(?: \d)?) +(\S*) +process (\d+)$", self.log.read_text(), re.MULTILINE)
        return {name: (where, int(process)) for name, where, process in reported}

    def kill(self, name: str) -> None:
        """kill -9."""
        os.kill(self.parts()[name][1], signal.SIGKILL)

    def get(self, path: str, cookie: str = "") -> tuple[int, str, str]:
        """Status, cookie that was set, and content of what nginx answers."""
        connection = http.client.HTTPConnection("127.0.0.1", int(self.url.rpartition(":")[2]), timeout=30)
        try:
            connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
            answer = connection.getresponse()
            return answer.status, answer.getheader("Set-Cookie") or "", answer.read().decode()
        finally:
            connection.close()

    def stored(self) -> list[tuple[int, str, int, float]]:
        """What the stream holds: sequence, subject, when it was stored (ms), and the value."""

        async def work(nc: Any) -> list[tuple[int, str, int, float]]:
            js = nc.jetstream(timeout=10)
            subscription = await js.pull_subscribe(
                "metrics.cpu.*",
                stream="METRICS",
                config=ConsumerConfig(ack_policy=AckPolicy.NONE, mem_storage=True),
            )
            found = []
            while True:
                for message in await subscription.fetch(500, timeout=5):
                    meta = message.metadata
                    value = json.loads(message.data)["percent"]
                    at = int(meta.timestamp.timestamp() * 1000)
                    found.append((meta.sequence.stream, message.subject, at, value))
                if not meta.num_pending:
                    return found

        alive = [where for name, (where, _) in self.parts().items() if name.startswith("nats")]
        deadline = time.monotonic() + 60
        while True:
            try:
                found: list[tuple[int, str, int, float]] = connected(alive, work)
                return found
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def leader(self) -> str:
        """The name of the node that leads the stream METRICS."""

        async def work(nc: Any) -> str:
            return str((await nc.jetstream(timeout=10).stream_info("METRICS")).cluster.leader)

        nodes = [where for name, (where, _) in self.parts().items() if name.startswith("nats")]
        return str(connected(nodes, work)).replace("-", " ")


@pytest.fixture(scope="module")
def scale(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scale]:
    """All of it, with one page."""
    folder = tmp_path_factory.mktemp("scale")
    (folder / "pages").mkdir()
    (folder / "pages" / "whole.py").write_text(PAGE)
    (folder / "pages" / "without_code.py").write_text(PUSHED)
    port, log = free_port(), folder / "out.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.scale", "--port", str(port)],
            cwd=ROOT,
            env={**os.environ, "LOOKBACK_PAGES": str(folder / "pages")},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: "\nopen " in log.read_text() or process.poll() is not None, 90)
        assert process.poll() is None, log.read_text()
        yield Scale(process, f"http://127.0.0.1:{port}", log)
    finally:
        process.terminate()
        process.wait(60)


def shown(chart: Locator) -> set[tuple[int, float]]:
    """Bins and values of all lines in the chart, as drawn."""
    lines = chart.evaluate(SHOWN)
    return {(int(at // STEP), float32(value)) for line in lines for at, value in line}


def float32(value: float) -> float:
    """As it is after the wire, where the rest of a number is left out: six digits distinguish percents."""
    return round(float(struct.unpack("f", struct.pack("f", value))[0]), 3)


def drawn(rows: list[tuple[int, str, int, float]]) -> set[tuple[int, float]]:
    """What a whole chart of `rows` shows: the least and the greatest value of each series and bin."""
    cells: dict[tuple[str, int], list[float]] = {}
    for _, subject, at, value in rows:
        cells.setdefault((subject, at // STEP), []).append(value)
    return {(place, float32(value)) for (_, place), cell in cells.items() for value in (min(cell), max(cell))}


def node_of(tab: Page) -> str:
    """The process that a browser is with, as its cookie says."""
    return next((str(c["value"]) for c in tab.context.cookies() if c["name"] == "lookback"), "")


def test_a_viewer_stays_with_one_process(scale: Scale) -> None:
    """Who comes with a cookie gets that process, and no new cookie; one for a process that is none is
    replaced; a script can't read it, and what caches keep for others has none."""
    first = scale.get("/")[1]
    assert "HttpOnly" in first
    assert "SameSite=Lax" in first
    mine = first.partition(";")[0]
    assert all(scale.get("/", mine)[1] == "" for _ in range(6))
    assert re.match(r"lookback=[123];", scale.get("/", "lookback=9")[1])
    asset = re.search(r"static/js/[\w.-]+\.js", scale.get("/")[2])
    assert asset
    status, cookie, _ = scale.get("/" + asset[0])
    assert (status, cookie) == (200, "")


def test_killed_processes_cost_no_row(scale: Scale, browser: Browser) -> None:
    """The app that a viewer is with and the node that leads the stream are killed at once: another app goes
    on, and what it shows is what the stream holds, row by row; zoom, hidden lines and choices are kept."""
    context = browser.new_context(viewport={"width": 1300, "height": 900}, timezone_id="UTC")
    tab = context.new_page()
    tab.goto(f"{scale.url}/?refresh=2+s")
    expect(tab.locator(".lb-word")).to_have_text("Live", timeout=60_000)
    chart = tab.locator(CHART).first
    rows = tab.locator("[data-testid=stCode] code")

    def seqs() -> list[int]:
        found: list[int] = json.loads(rows.inner_text() or "[]")
        return found

    until(lambda: len(set(seqs())) > 30, 90)
    pick(tab, "Kind", "second")
    until(lambda: "kind=second" in tab.evaluate("location.search"))
    tab.locator(".lb-keys button").first.click()
    until(lambda: chart.evaluate("el => el.data.some(trace => trace.visible === 'legendonly')"))
    box = chart.locator(".nsewdrag").first.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    tab.mouse.move(box["x"] + box["width"] * 0.5, middle)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 0.95, middle, steps=5)
    tab.mouse.up()
    zoomed = chart.evaluate(RANGE)
    link = tab.locator(".lb-downloads a").first.get_attribute("href")

    before, last = node_of(tab), seqs()[-1]
    leader = scale.leader()
    scale.kill(f"app {before}")
    scale.kill(leader)
    until(lambda: node_of(tab) not in ("", before), 60)
    expect(tab.locator(".lb-word")).to_have_text("Live", timeout=60_000)
    until(lambda: len([seq for seq in seqs() if seq > last]) > 30, 90)

    after, now = node_of(tab), seqs()
    stored = [row for row in scale.stored() if now[0] <= row[0] <= now[-1]]
    assert now == [seq for seq, *_ in stored]  # none missing, none twice
    end = stored[-1][2] // STEP  # its bin may get another value still
    edges = {int(edge // STEP) for edge in chart.evaluate(FINER)}  # a bin that is finer in part is not drawn
    whole = {cell for cell in drawn(stored) if cell[0] < end and cell[0] not in edges}
    until(lambda: whole <= shown(chart))
    start = min(place for place, _ in whole)
    cells = {cell for cell in shown(chart) if start <= cell[0] < end and cell[0] not in edges}
    assert cells == whole
    assert chart.evaluate(RANGE) == zoomed
    assert chart.evaluate("el => el.data.some(trace => trace.visible === 'legendonly')")
    assert "refresh=2+s" in tab.url
    assert tab.get_by_role("combobox", name="Kind").input_value() == "second"

    # The links of the old process are gone with it; the page has others by now.
    new = tab.locator(".lb-downloads a").first.get_attribute("href")
    assert new is not None
    assert link != new
    with tab.expect_download() as waiting:
        tab.locator(".lb-downloads a").first.click()
    assert len(Path(waiting.value.path()).read_text().splitlines()) > 30
    assert "Reload the page" in scale.get(f"/{link}", f"lookback={after}")[2]

    # Both come back, and the viewer stays where the session is.
    until(lambda: f"app {before}" in scale.log.read_text().rpartition("ended")[2], 60)
    until(lambda: psutil.pid_exists(scale.parts()[leader][1]), 60)
    until(lambda: f"lookback={before};" in [scale.get("/")[1].split(" ")[0] for _ in range(3)], 60)
    with tab.expect_download():
        tab.locator(".lb-downloads a").first.click()
    assert node_of(tab) == after
    context.close()


class Watched:
    """A tab of a browser of its own that shows the page without code, and the websockets that it opens."""

    def __init__(self, scale: Scale, browser: Browser, node: str = "") -> None:
        """`node`: the process that it comes to; any without."""
        self.context = browser.new_context(viewport={"width": 1300, "height": 900}, timezone_id="UTC")
        if node:
            self.context.add_cookies([{"name": "lookback", "value": node, "url": scale.url}])
        self.tab = self.context.new_page()
        self.opened: list[str] = []
        self.tab.on("websocket", lambda socket: self.opened.append(socket.url.rpartition("/")[2]))
        self.tab.goto(f"{scale.url}/without_code")
        until(lambda: self.newest() > 0, 90)

    def newest(self) -> int:
        """The newest bin that is drawn."""
        return max((at for at, _ in shown(self.tab.locator(CHART).first)), default=0)

    def between(self, start: int, end: int) -> set[tuple[int, float]]:
        """What is drawn of these bins."""
        return {cell for cell in shown(self.tab.locator(CHART).first) if start <= cell[0] < end}


def test_live_elements_go_on_in_another_process(scale: Scale, browser: Browser) -> None:
    """The process that two viewers of live elements are with is killed: both are moved to others, where their
    charts go on over a websocket of their own, equal to a new tab's, bin by bin. A third viewer, who is with
    another process, notices nothing."""
    first = Watched(scale, browser)
    node = node_of(first.tab)
    first.context.close()
    another = next(number for number in "123" if number != node)
    viewers = [Watched(scale, browser, node), Watched(scale, browser, node)]
    third = Watched(scale, browser, another)
    assert [node_of(each.tab) for each in (*viewers, third)] == [node, node, another]
    start, before = third.newest(), [len(each.opened) for each in (*viewers, third)]
    until(lambda: min(each.newest() for each in viewers) > start)

    scale.kill(f"app {node}")
    until(lambda: node not in [node_of(each.tab) for each in viewers], 60)
    moved = third.newest()
    until(lambda: min(each.newest() for each in (*viewers, third)) > moved + 20, 90)
    for each, count in zip(viewers, before, strict=False):
        assert "push" in each.opened[count:]
    assert len(third.opened) == before[-1]
    assert node_of(third.tab) == another

    fresh = Watched(scale, browser)
    end = third.newest()  # what comes is in another bin, except for what is late
    until(lambda: min(each.newest() for each in (*viewers, third, fresh)) > end + 2)
    expected = fresh.between(start, end)
    assert len({at for at, _ in expected}) > 10
    for each in (*viewers, third):
        assert each.between(start, end) == expected
    for each in (*viewers, third, fresh):
        each.context.close()
