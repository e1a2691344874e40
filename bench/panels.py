"""What small multiples cost the browser: `python -m bench.panels [--rounds N]`.

Fifty series of 600 bins, each with a message a second: as fifty small charts, and as one chart of fifty
lines. Each round opens both pages one after the other, in a window that shows all of the page, and leaves
them alone. Prints medians: the CPU time of the page's main thread per second, in ms, with its parts for
script and layout; and tasks longer than 50 ms per second.
"""

import argparse
import asyncio
import statistics
from collections import defaultdict
from pathlib import Path

from bench.browser import chromium, tab
from bench.drawing import WATCH, spent
from bench.publisher import publishing
from bench.stage import APP_CORES, LOAD_CORES, OURS, Side, nats_server, pin_load, streamlit
from bench.wire import reached

SERIES, BINS = 50, 600
PAGES = Path(__file__).parent / "panels_pages"
DRAWN = {
    "small": f"document.querySelectorAll('.lb-panel').length === {SERIES}",
    "chart": f"document.querySelectorAll('.scatterlayer .js-line').length === {SERIES}",
}
"""By page: JavaScript that is true once all lines are drawn."""


async def measure(url: str, page: str, seconds: float) -> dict[str, float]:
    """Measure one page in a browser of its own."""
    async with (
        chromium(cores=APP_CORES | LOAD_CORES) as devtools,
        tab(devtools, f"{url}/{page}", window=True, script=WATCH) as one,
    ):
        size = {"width": 1900, "height": 1400, "deviceScaleFactor": 1, "mobile": False}
        await one.call("Emulation.setDeviceMetricsOverride", **size)
        await one.call("Performance.enable", timeDomain="threadTicks")
        await reached(one, DRAWN[page], 60)
        await asyncio.sleep(3)
        before = await spent(one)
        await asyncio.sleep(seconds)
        after = await spent(one)
    past = (after["at"] - before["at"]) / 1000
    names = {"Task": "busy ms/s", "Script": "script ms/s", "Layout": "layout ms/s"}
    found = {shown: 1000 * (after[name] - before[name]) / past for name, shown in names.items()}
    return found | {"long tasks /s": (after["long"] - before["long"]) / past}


async def run(rounds: int, seconds: float) -> dict[str, dict[str, list[float]]]:
    """Figures by name and page, one for each round."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    side = Side("panels", OURS.script, OURS.folder, OURS.environment | {"LOOKBACK_PAGES": str(PAGES)})
    async with (
        nats_server() as nats,
        publishing(nats, "PANELS", series=SERIES, rate=SERIES, rows=SERIES * BINS),
        streamlit(side, nats) as app,
    ):
        for number in range(rounds):
            for page in list(DRAWN)[:: -1 if number % 2 else 1]:
                for name, value in (await measure(app.url, page, seconds)).items():
                    found[name][page].append(value)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.panels", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10, help="of each page in a round")
    options = parser.parse_args()
    pin_load()
    found = asyncio.run(run(options.rounds, options.seconds))
    print(f"{'':<16}" + "".join(f"{page:>12}" for page in DRAWN) + f"{'ratio':>9}")
    for name, pages in found.items():
        small, chart = (statistics.median(pages[page]) for page in DRAWN)
        print(f"{name:<16}{small:>12.1f}{chart:>12.1f}" + (f"{small / chart:>9.2f}" if chart else ""))


if __name__ == "__main__":
    main()
