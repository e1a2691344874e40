"""An app that only has charts, for tests in a browser, and functions that read a chart's state."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from tests.running import ROOT, free_port
from tests.waiting import until

CHART = ".js-plotly-plot"
NEWEST = "el => Math.max(...el.data.flatMap(trace => Array.from(trace.x, x => +new Date(x))))"
COUNT = "el => (el.data ?? []).reduce((sum, trace) => sum + trace.x.length, 0)"
RANGE = "el => el._fullLayout.xaxis.range.map(x => +new Date(x))"
CHANNEL = """import(performance.getEntriesByType("resource").map(entry => entry.name)
  .find(name => name.includes("/lookback/channel.js"))).then(module => {{
    const channel = module.channel()
    {}
  }})"""
CELLS = """Object.fromEntries(chart.series.map(({ name, cells }) => [name,
  Object.fromEntries([...cells].map(([bin, ends]) => [bin, ends.map(end => +end.toPrecision(8))]))]))"""
"""The cells of each series, rounded to the digits that are shown: how many more digits a number has depends
on the other values in its message."""


@contextmanager
def chart_app(log: Path, base: str = "", port: int | None = None) -> Iterator[str]:
    """The address of a running chart_app, below the path `base`."""
    port = port or free_port()
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("STREAMLIT_")},
        "PYTHONPATH": str(ROOT),
        "STREAMLIT_SERVER_PORT": str(port),
        "STREAMLIT_SERVER_HEADLESS": "true",
        "STREAMLIT_SERVER_BASE_URL_PATH": base,
    }
    with log.open("wb") as out:
        script = ROOT / "tests" / "components" / "chart_app" / "app.py"
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", str(script)],
            cwd=ROOT,
            env=env,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}" + (f"/{base}" if base else "")
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                with urllib.request.urlopen(f"{url}/_stcore/health", timeout=1):
                    break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def opened(tab: Page, url: str) -> None:
    """Open the chart, and wait for its first picture."""
    tab.goto(url)
    expect(tab.locator(CHART).first).to_be_visible(timeout=30_000)
    until(lambda: tab.locator(CHART).first.evaluate(COUNT) > 0)


def lookback(tab: Page, expression: str) -> Any:
    """The value of a JavaScript expression, in which `chart` is the chart."""
    return tab.locator(CHART).first.evaluate(
        f"el => {{ const chart = el.parentElement.lookback; return {expression} }}"
    )


def refreshes(tab: Page, count: int) -> None:
    """Wait until the server has sent the chart `count` messages."""
    # On a busy machine Streamlit may create the page's elements twice in its first seconds.
    chart = f"document.querySelector('{CHART}')?.parentElement.lookback"
    version = f"({chart}?.number ?? 0) + ({chart}?.frame ?? 0)"
    for _ in range(count):
        before = tab.evaluate(version)
        until(lambda: tab.evaluate(version) > before)
