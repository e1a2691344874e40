"""Where should the refresh clock tick? Three places compared in a real Chromium: `python -m bench.refresh`.

The page is the same each time. Bytes are those of the websocket's messages as Chromium counts them; CPU is
the Streamlit server's. A slow page and a viewer who keeps clicking show whether the clock waits for them. A
hidden tab shows whether the clock ticks without a reader. Prints a table and writes `bench/refresh.json`.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from bench.browser import Tab, chromium, tab
from bench.stage import ROOT, App, Side, pin_load, streamlit

FOLDER = ROOT / "bench" / "refresh_pages"
WAYS = {
    "page autorefresh": "whole page, st_autorefresh()",
    "page steady autorefresh": "whole page, st_autorefresh(debounce=False)",
    "fragment autorefresh": "fragment, st_autorefresh()",
    "fragment steady autorefresh": "fragment, st_autorefresh(debounce=False)",
    "run_every": "st.fragment(run_every=1)",
}
WARM_UP, STEADY, HIDDEN = 5.0, 15.0, 10.0
ROUNDS = 3
PAUSE = 0.3
"""Seconds that a run of the slow page takes."""
CLICKS, CLICK_EVERY = 14, 0.7
# The garbage collection after each run and the file watcher would hide the difference that is measured here.
SETTINGS = ("--runner.postScriptGC", "false", "--server.fileWatcherType", "none")
COLUMNS = {
    "way": "the clock",
    "bytes_down": "down",
    "bytes_up": "up",
    "cpu_ms": "CPU ms",
    "period_s": "period s",
    "slow_period_s": "slow page",
    "hidden_ticks": "hidden",
    "ticks_while_clicking": "clicking",
}


async def measure(way: str) -> dict[str, Any]:
    """All figures of one way to refresh."""
    row: dict[str, Any] = {"way": WAYS[way]}
    async with served(way, pause=0) as app, chromium() as devtools, tab(devtools, app.url) as page:
        await asyncio.sleep(WARM_UP)
        row |= await per_refresh(app, page)
        row["ticks_while_clicking"] = await ticks_while_clicking(page)
        async with tab(devtools, "about:blank"):
            if await page.value("document.visibilityState") == "hidden":
                before = len(page.sent)
                await asyncio.sleep(HIDDEN)
                row["hidden_ticks"] = len(page.sent) - before
    async with served(way, pause=PAUSE) as app, chromium() as devtools, tab(devtools, app.url) as page:
        await asyncio.sleep(WARM_UP + STEADY / 2)
        row["slow_period_s"] = period(page)
    return row


def served(way: str, pause: float) -> contextlib.AbstractAsyncContextManager[App]:
    """Serve the page with this way to refresh; a run takes `pause` seconds longer."""
    environment = {"REFRESH": way, "PAUSE": str(pause)}
    return streamlit(Side(way, FOLDER / "app.py", FOLDER, environment), nats_url="", settings=SETTINGS)


async def per_refresh(app: App, page: Tab) -> dict[str, float]:
    """Bytes and CPU of one refresh at rest."""
    received, sent, cpu = len(page.received), len(page.sent), app.cpu_seconds()
    await asyncio.sleep(STEADY)
    ticks = len(page.sent) - sent
    return {
        "bytes_down": round(sum(size for _, size in page.received[received:]) / ticks),
        "bytes_up": round(sum(size for _, size in page.sent[sent:]) / ticks),
        "cpu_ms": round(1000 * (app.cpu_seconds() - cpu) / ticks, 2),
        "period_s": period(page),
    }


def period(page: Tab) -> float:
    """The mean seconds between two ticks, over the last five."""
    times = [at for at, _ in page.sent][-6:]
    return round((times[-1] - times[0]) / (len(times) - 1), 3)


async def ticks_while_clicking(page: Tab) -> int:
    """Ticks in about ten seconds, while a viewer clicks more often than the clock ticks."""
    button = "[...document.querySelectorAll('button')].find(b => b.innerText.includes('Touch'))"
    before = len(page.sent)
    for _ in range(CLICKS):
        await page.value(f"{button}.click()")
        await asyncio.sleep(CLICK_EVERY)
    return len(page.sent) - before - CLICKS


def line(cells: Mapping[str, object]) -> str:
    """One line of the table."""
    return f"{cells['way']:<44}" + "".join(f"{cells.get(key, '?'):>10}" for key in list(COLUMNS)[1:])


async def main() -> None:
    """Measure all ways, print the table and write it to `bench/refresh.json`."""
    pin_load()
    rows = {way: await measure(way) for way in WAYS}
    # CPU is the figure that a shared machine disturbs most: more rounds, in turn, and their median.
    rounds = {way: [row["cpu_ms"]] for way, row in rows.items()}
    for _ in range(ROUNDS - 1):
        for way in WAYS:
            async with served(way, pause=0) as app, chromium() as devtools, tab(devtools, app.url) as page:
                await asyncio.sleep(WARM_UP)
                rounds[way].append((await per_refresh(app, page))["cpu_ms"])
    print(line(COLUMNS))
    for way, row in rows.items():
        row |= {"cpu_ms": median(rounds[way]), "cpu_ms_rounds": rounds[way]}
        print(line(row))
    print(f"hidden: ticks in {HIDDEN:g} s; clicking: ticks in {CLICKS * CLICK_EVERY:g} s beside the clicks")
    (Path(__file__).parent / "refresh.json").write_text(json.dumps(list(rows.values()), indent=2) + "\n")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit("stopped")
