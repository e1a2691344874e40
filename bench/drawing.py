"""What drawing costs the browser: `python -m bench.drawing [--beside FOLDER] [--rounds N]`.

A page with four line charts of ten series of 600 bins, each fed ten messages a second, in a window that
shows all four. Half of each round the page is left alone; in the other half the pointer moves over a chart,
drags in it and drags its axis, text is typed and a menu is opened and closed.

- busy: CPU time of the page's main thread for each second, in ms, and the parts of it that were script and
  layout. CPU time, not time on the clock, so that other programs count less.
- drawn: charts drawn a second.
- delay: from an input event to the end of the next frame, ms.
- long tasks: tasks of the main thread longer than 50 ms, a second.
- first picture: from the navigation to the first lines of a chart, ms, and the bytes of what was fetched,
  with an empty cache.

`--beside` names another checkout of the project. Both are measured in turn on the same streams, so that a
busy minute of the machine affects both.
"""

import argparse
import asyncio
import contextlib
import statistics
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bench.browser import Tab, chromium, tab
from bench.measures import percentile
from bench.publisher import publishing
from bench.stage import APP_CORES, LOAD_CORES, OURS, ROOT, SERIES, App, Side, nats_server, pin_load, streamlit
from bench.wire import reached

CHARTS = 4
RATE = 10
"""Messages a second of each chart."""
BINS = 600
"""Of each series; the look-back of the page holds as many seconds."""
PAGES = Path(__file__).parent / "drawing_pages"
# Counts drawn charts, long tasks, and for each input event how long until the end of the next frame.
WATCH = """
self.seen = { drawn: 0, long: 0, delays: [], first: null }
const after = (then) => requestAnimationFrame(() => {
  const { port1, port2 } = new MessageChannel()
  port1.onmessage = then
  port2.postMessage(0)
})
for (const type of ['pointerdown', 'pointermove', 'pointerup', 'keydown', 'click'])
  addEventListener(type, ({ timeStamp }) => after(() => seen.delays.push(performance.now() - timeStamp)),
    { capture: true })
new PerformanceObserver((list) => (seen.long += list.getEntries().length)).observe({ type: 'longtask' })
const look = () => {
  if (document.querySelector('.js-plotly-plot .scatterlayer path.js-line')) seen.first = performance.now()
  else requestAnimationFrame(look)
}
look()
self.watch = () => document.querySelectorAll('.js-plotly-plot').forEach((plot) =>
  new MutationObserver(() => seen.drawn++)
    .observe(plot.querySelector('.scatterlayer'),
      { subtree: true, attributes: true, attributeFilter: ['d'], childList: true }))
"""
DRAWN = (
    "[...document.querySelectorAll('.js-plotly-plot')].filter(p => p.querySelector('path.js-line')).length"
)


@contextlib.asynccontextmanager
async def page(app: App) -> AsyncIterator[Tab]:
    """Open the page in a browser of its own, with an empty cache."""
    async with (
        chromium(cores=APP_CORES | LOAD_CORES) as devtools,
        tab(devtools, app.url, window=True, script=WATCH) as one,
    ):
        size = {"width": 1400, "height": 1100, "deviceScaleFactor": 1, "mobile": False}
        await one.call("Emulation.setDeviceMetricsOverride", **size)
        await one.call("Performance.enable", timeDomain="threadTicks")
        yield one


async def spent(one: Tab) -> dict[str, float]:
    """CPU seconds of the main thread so far (all, script and layout), and the page's own counters."""
    found = (await one.call("Performance.getMetrics"))["metrics"]
    values = {metric["name"]: metric["value"] for metric in found}
    seen = await one.value("({ ...seen, delays: seen.delays.length, at: performance.now() })")
    assert isinstance(seen, dict)
    return {name: values[f"{name}Duration"] for name in ("Task", "Script", "Layout")} | seen


async def stretch(one: Tab, seconds: float, *, used: bool) -> dict[str, float]:
    """Measure for this long, while the page is used or left alone."""
    before = await spent(one)
    if used:
        await use(one, seconds)
    else:
        await asyncio.sleep(seconds)
    after = await spent(one)
    past = (after["at"] - before["at"]) / 1000
    each = {
        name: (after[name] - before[name]) / past for name in ("Task", "Script", "Layout", "drawn", "long")
    }
    found = {
        "busy ms/s": each["Task"] * 1000,
        "script ms/s": each["Script"] * 1000,
        "layout ms/s": each["Layout"] * 1000,
        "drawn /s": each["drawn"],
        "busy ms/drawing": each["Task"] * 1000 / each["drawn"] if each["drawn"] else float("nan"),
        "long tasks /s": each["long"],
    }
    if used:
        delays = await one.value(f"seen.delays.slice({before['delays']})")
        assert isinstance(delays, list)
        found |= {"delay median ms": statistics.median(delays), "delay p95 ms": percentile(delays, 0.95)}
    return {f"{'used' if used else 'alone'}: {name}": value for name, value in found.items()}


async def use(one: Tab, seconds: float) -> None:
    """Send a viewer's input for this many seconds, some 30 events a second."""
    clock = asyncio.get_running_loop().time
    until = clock() + seconds
    places = await one.value(
        "({ plot: document.querySelector('.js-plotly-plot .nsewdrag').getBoundingClientRect().toJSON(),"
        " note: document.querySelector('input[type=text]').getBoundingClientRect().toJSON(),"
        " menu: document.querySelector('[data-testid=stSelectbox] input').getBoundingClientRect().toJSON() })"
    )
    assert isinstance(places, dict)
    plot, note, menu = places["plot"], places["note"], places["menu"]

    async def mouse(kind: str, x: float, y: float, **more: object) -> None:
        await one.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)
        await asyncio.sleep(0.03)

    async def press(x: float, y: float, to: tuple[float, float] | None = None) -> None:
        held: dict[str, Any] = {"button": "left", "clickCount": 1}
        await mouse("mouseMoved", x, y)
        await mouse("mousePressed", x, y, **held)
        end = to or (x, y)
        for step in range(1, 11) if to else ():
            at = x + (end[0] - x) * step / 10, y + (end[1] - y) * step / 10
            await mouse("mouseMoved", *at, buttons=1, **held)
        await mouse("mouseReleased", *end, **held)

    def middle(place: dict[str, float]) -> tuple[float, float]:
        return place["x"] + place["width"] / 2, place["y"] + place["height"] / 2

    left, top = plot["x"], plot["y"]
    while clock() < until:
        for step in range(20):
            await mouse("mouseMoved", left + plot["width"] * step / 20, top + plot["height"] / 2)
        await press(left + 100, top + 50, (left + 300, top + 50))  # zooms
        await asyncio.sleep(0.4)
        await press(
            left + 100, top + plot["height"] + 12, (left + 160, top + plot["height"] + 12)
        )  # moves the axis
        for _ in range(2):  # shows everything again
            await press(left + 120, top + 60)
        await press(*middle(note))
        for letter in "drawing while typing":
            key = {"text": letter, "key": letter}
            await one.call("Input.dispatchKeyEvent", type="keyDown", **key)
            await one.call("Input.dispatchKeyEvent", type="keyUp", key=letter)
            await asyncio.sleep(0.05)
        for _ in range(2):
            await press(*middle(menu))
            await asyncio.sleep(0.3)


async def measure(app: App, seconds: float) -> dict[str, float]:
    """One round of one side."""
    async with page(app) as one:
        await reached(one, f"{DRAWN} === {CHARTS}", 60)
        first = float(await one.value("seen.first"))
        fetched = await one.value(
            "performance.getEntriesByType('resource').map(({ name, encodedBodySize: size }) => [name, size])"
        )
        assert isinstance(fetched, list)
        found = {"first picture ms": first, "fetched KiB": sum(size for _, size in fetched) / 1024}
        found["Plotly KiB"] = sum(size for name, size in fetched if "/lookback/plotly" in name) / 1024
        await one.value("watch()")
        await asyncio.sleep(4)
        for used in (False, True):
            found |= await stretch(one, seconds, used=used)
        points = await one.value("document.querySelector('.js-plotly-plot').data.map(t => t.y.length)")
        assert isinstance(points, list)
        if len(points) != SERIES or min(points) < 0.95 * BINS:
            raise RuntimeError(f"charts of {points} points")
        return found


async def run(folders: list[Path], rounds: int, seconds: float) -> dict[str, list[list[float]]]:
    """Figures by name: of each folder, by round."""
    found: dict[str, list[list[float]]] = defaultdict(lambda: [[] for _ in folders])
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(nats_server())
        publishers = [
            await stack.enter_async_context(
                publishing(url, f"DRAW{number}", series=SERIES, rate=RATE, rows=BINS * RATE)
            )
            for number in range(CHARTS)
        ]
        environment = OURS.environment | {"LOOKBACK_PAGES": str(PAGES)}
        apps = [
            await stack.enter_async_context(
                streamlit(Side(folder.name, folder / "app.py", folder, environment), url)
            )
            for folder in folders
        ]
        for number in range(rounds):
            for which in range(len(apps))[:: -1 if number % 2 else 1]:
                for name, value in (await measure(apps[which], seconds)).items():
                    found[name][which].append(value)
                for publisher in publishers:
                    await publisher.pace(strict=False)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.drawing", description=__doc__.partition("\n")[0])
    parser.add_argument("--beside", type=Path, help="another checkout, measured in turn with this one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12, help="of each half of a round")
    options = parser.parse_args()
    pin_load()
    folders = [ROOT, *([options.beside.resolve()] if options.beside else [])]
    found = asyncio.run(run(folders, options.rounds, options.seconds))
    print(f"{'':<28}" + "".join(f"{folder.name:>14}" for folder in folders))
    for name, sides in found.items():
        medians = [statistics.median(values) for values in sides]
        ratio = f"{medians[0] / medians[1]:>9.2f}" if len(medians) > 1 and medians[1] else ""
        print(f"{name:<28}" + "".join(f"{value:>14.1f}" for value in medians) + ratio)


if __name__ == "__main__":
    main()
