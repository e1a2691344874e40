"""Write docs/measurements.md, its plots and the README's tables: `python -m bench.report`.

From bench/results.json and bench/growth.json; measures nothing.
"""

import asyncio
import hashlib
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from bench.browser import chromium, tab
from bench.growth import RESULTS as GROWTH
from bench.stage import ROOT
from bench.wire import PLOTLY

RESULTS = ROOT / "bench" / "results.json"
DOCS = ROOT / "docs"
README = ROOT / "README.md"
TEMPLATE = ROOT / "bench" / "measurements.md"
WHAT = {
    "viewer_bytes_10": "received by a live viewer, ten series at 1 Hz",
    "viewer_bytes_10_compressed": "the same, compressed",
    "viewer_bytes_10_1s": "received at a second between two updates, ten series at 1 Hz",
    "viewer_bytes_10_1s_compressed": "the same, compressed",
    "viewer_bytes_1000": "received by a live viewer, ten series at 100 Hz",
    "viewer_bytes_1000_compressed": "the same, compressed",
    "viewer_bytes_1000_1s": "received at a second between two updates, ten series at 100 Hz",
    "viewer_bytes_1000_1s_compressed": "the same, compressed",
    "latency_ms": "publish to pixel, median",
    "latency_p95_ms": "publish to pixel, p95",
    "open_bytes_6h": "received when six hours at 100 Hz are opened",
    "open_seconds_6h": "the same, seconds to the first picture",
    "sessions_held": "viewers held: live, p95 from publishing to the socket under 250 ms",
    "viewer_cpu_ms": "server CPU per viewer and second, 200 live ones at ten messages a second",
    "session_memory": "memory of each further live viewer",
    "replay_rate": "replay of a million messages",
    "replay_rate_node": "the same, beside the NATS client of Node",
    "where_replay_rate": "the same with a filter and a computed column, beside all rows",
    "replay_refresh_ms": "p95 from publishing to the socket during it, beside at rest",
    "burst_refresh_ms": "p95 from publishing to the sockets of sixty viewers, bursts of 50,000 messages/s",
    "burst_rate": "of such a burst, until the last message is at a viewer",
    "sql_refresh_ms": "server CPU per refresh, p95 per bucket and series of a million rows, one viewer",
    "sql_refresh_ms_200": "the same per viewer, 200 viewers",
    "sql_whole_refresh_ms": "the same by sql(), which works out all buckets, one viewer",
    "sql_whole_refresh_ms_200": "the same per viewer, 200 viewers",
    "bytes_per_refresh": "received per refresh, where charts come with it, before compression",
    "bytes_per_refresh_compressed": "received per refresh, compressed",
    "cpu_per_refresh": "server CPU per refresh",
    "refresh_latency_ms": "p95 of a refresh, five viewers",
}
MORE_IS_BETTER = {"messages/s", "sessions"}
ONLY_HERE = {"latency_p95_ms", "burst_rate", "sql_whole_refresh_ms", "sql_whole_refresh_ms_200"}
"""Not in the README."""
OURSELVES = {"at rest", "publisher", "all rows"}
"""Not rivals, but other figures of ours that a figure is compared with."""
VARIED = {
    "rate": "messages a second",
    "series": "series",
    "rows": "rows of the look-back",
    "sessions": "sessions",
}
COSTS = {"bytes": "bytes/s of a viewer", "cpu_ms": "CPU ms/s of a viewer", "memory_mib": "memory, MiB"}
MARKS = ("<!-- measured -->\n", "<!-- until here -->\n")
TICKS = [digit * 10**power for power in range(-1, 6) for digit in (1, 2, 5)]
TICK_TEXTS = [f"{tick:,g}" for tick in TICKS]
INKS = {"light": ("#1f2328", "#d1d9e0"), "dark": ("#f0f6fc", "#3d444d")}
"""Colours of text and rules, on GitHub's two backgrounds."""
BETTER, WORSE = "#0f8aa3", "#d9711f"
LINES = ("#0f8aa3", "#d9711f", "#7a5cc0", "#4b9e3f")


def markdown(results: Sequence[dict[str, Any]], growth: dict[str, Any]) -> str:
    """The text of docs/measurements.md."""
    head = "| | unit | Lookback | rival | theirs | ratio | goal | rounds |"
    return TEMPLATE.read_text(encoding="utf-8").format(
        verdict="\n".join(verdict(results)),
        ratios=picture("ratios", "How many times better than the rival each measure is"),
        table="\n".join([head, "|---|---|---|---|---|---|---|---|", *map(row, results)]),
        growth_plot=picture("growth", "Bytes, CPU and memory against what is varied"),
        growth="\n".join(growth_tables(growth)),
        machines=machines(results, growth),
    )


def tables(results: Sequence[dict[str, Any]]) -> str:
    """The README's tables: one beside the websocket client, one beside all other rivals."""
    parts = []
    for rival, in_browser in (("plain recipe", False), ("websocket client", True)):
        lines = [f"| beside the {rival} | Lookback | theirs | ratio |", "|---|---|---|---|"]
        for each in results:
            if each["measure"] not in ONLY_HERE and (each["rival"] == "websocket client") == in_browser:
                both = (f"{figure(each[side])} {each['unit']}" for side in ("ours", "theirs"))
                lines.append(f"| {what(each)} | {' | '.join(both)} | {ratio(each)} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def between_marks(readme: str, text: str) -> str:
    """The README with `text` between its two marks. Raises ValueError if it lacks them."""
    before, start, rest = readme.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not start or not end:
        raise ValueError(f"README.md lacks {MARKS[0]} and {MARKS[1]}")
    return f"{before}{start}\n{text}{end}{after}"


def machines(results: Sequence[dict[str, Any]], growth: dict[str, Any]) -> str:
    """The date and the machine of each measurement."""
    listed: dict[tuple[str, str], list[str]] = {}
    for each in [*results, growth]:
        where = each.get("date", "no date"), each.get("machine", "no machine noted")
        listed.setdefault(where, []).append(f"`{each.get('measure', 'growth')}`")
    if len(listed) == 1:
        return ", ".join(next(iter(listed)))
    return "\n".join(f"- {', '.join(where)}: {', '.join(names)}" for where, names in listed.items())


def verdict(results: Sequence[dict[str, Any]]) -> list[str]:
    """The goals that were missed, and the measures in which the rival is better."""
    missed = [
        f"{qualified(each)}, beside {each['rival']}: {reached(each)}, set out for {each['goal']}"
        for each in results
        if each.get("met") is False
    ]
    worse = [
        f"{qualified(each)}: {figure(each['ours'])} {each['unit']}, {each['rival']} {figure(each['theirs'])}"
        for each in results
        if each["rival"] not in OURSELVES and (factor(each) or 1) < 1
    ]
    parts = []
    for title, found in (("Missed", missed), ("Where the rival is better", worse)):
        listed = "".join(f"\n- {one}" for one in found) or " nothing."
        parts.append(f"**{title}:**{listed}\n")
    return parts


def reached(each: dict[str, Any]) -> str:
    """The value that is compared with the goal: our own figure if the goal has a unit, else the ratio."""
    if is_own(each):
        return f"{figure(each['ours'])} {each['unit']}"
    return f"a ratio of {ratio(each)}"


def is_own(each: dict[str, Any]) -> bool:
    """True if the goal is for our own figure and not for the ratio."""
    return bool(each.get("goal")) and each["goal"].endswith(f" {each['unit']}")


def row(each: dict[str, Any]) -> str:
    """One line of the table."""
    goal, met = each.get("goal"), each.get("met")
    verdict = f"{goal}: {'met' if met else '**missed**'}" if goal else ""
    count = each["rounds"]
    spread = (
        "one" if count == 1 else f"{count}: {span(each['ours_rounds'])} and {span(each['theirs_rounds'])}"
    )
    cells = [
        what(each),
        each["unit"],
        figure(each["ours"]),
        each["rival"],
        figure(each["theirs"]),
        ratio(each),
    ]
    return f"| {' | '.join([*cells, verdict, spread])} |"


def what(each: dict[str, Any]) -> str:
    """A measure in words."""
    name: str = each["measure"]
    return WHAT.get(name, name.replace("_", " "))


def growth_tables(growth: dict[str, Any]) -> list[str]:
    """A table for each cost."""
    parts = []
    for cost, words in COSTS.items():
        lines = [
            f"| {words}, with … | least | ten times | a hundred times | exponent |",
            "|---|---|---|---|---|",
        ]
        for name, line in growth["varied"].items():
            points = line["points"]
            at = " / ".join(f"{point[name]:,}" for point in points)
            values = " | ".join(figure(point[cost]) for point in points)
            lines.append(f"| {at} {VARIED[name]} | {values} | {line['exponents'][cost]:.2f} |")
        parts.append("\n".join(lines) + "\n")
    return parts


def picture(name: str, alt: str) -> str:
    """The HTML of a plot, with one file for each of GitHub's two backgrounds."""
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{file(name, "dark")}">'
        f'<img alt="{alt}" src="{file(name, "light")}"></picture>\n'
    )


def file(name: str, ground: str) -> str:
    """The name of a plot's file for one background."""
    return f"measured-{name}-{ground}.svg"


def figure(value: float) -> str:
    """A number as text: two significant digits below 99.5, a whole number from there on."""
    if 0 < value < 1:
        return f"{value:.{1 - math.floor(math.log10(value))}f}".rstrip("0").rstrip(".")
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.2g}"


def ratio(each: dict[str, Any]) -> str:
    """The ratio ours/theirs as text; "-" if there is none."""
    return (
        "-"
        if each["ratio"] is None
        else f"{each['ratio']:,.2g}"
        if each["ratio"] < 100
        else f"{each['ratio']:,.0f}"
    )


def span(values: Sequence[float]) -> str:
    """The least and the greatest value as text."""
    return f"{figure(min(values))} to {figure(max(values))}"


def factor(each: dict[str, Any]) -> float | None:
    """How many times better our figure is; None without a ratio."""
    if not each["ratio"]:
        return None
    found: float = each["ratio"] if each["unit"] in MORE_IS_BETTER else 1 / each["ratio"]
    return found


def ratios_plot(results: Sequence[dict[str, Any]], ground: str) -> dict[str, Any]:
    """Bars to the right of 1 where ours is better, to the left where the rival is; a mark at the goal."""
    shown = [each for each in reversed(results) if factor(each)]
    names = [f"{qualified(each)} <i>{each['rival']}</i>" for each in shown]
    factors = [factor(each) or 1 for each in shown]
    goals = []
    for each in shown:
        goal = float(each["goal"].split()[-1]) if each.get("goal") and not is_own(each) else None
        goals.append(goal and (goal if each["unit"] in MORE_IS_BETTER else 1 / goal))
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": names,
        # On a logarithmic axis a bar begins at 1.
        "x": [factor - 1 for factor in factors],
        "base": [1] * len(shown),
        "text": [times(factor) for factor in factors],
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": [BETTER if factor >= 1 else WORSE for factor in factors]},
    }
    marks = {
        "type": "scatter",
        "mode": "markers",
        "y": names,
        "x": goals,
        "marker": {"symbol": "line-ns", "size": 16, "line": {"width": 2, "color": INKS[ground][0]}},
    }
    title = "How many times better than the rival (mark: what was set out for)"
    axis = {"type": "log", "range": [-2.4, 5.2], "tickvals": [0.01, 0.1, 1, 10, 100, 1000, 10000]}
    axis["ticktext"] = ["0.01", "0.1", "1", "10", "100", "1,000", "10,000"]
    layout = {
        "height": 110 + 27 * len(shown),
        "margin": {"l": 520, "r": 30, "t": 50, "b": 40},
        "barmode": "overlay",
    }
    return {"data": [bars, marks], "layout": dressed({**layout, "xaxis": axis, "yaxis": {}}, title, ground)}


def qualified(each: dict[str, Any]) -> str:
    """A measure in words that can be understood without the row above."""
    if each["measure"].startswith("viewer_bytes") and each["measure"].endswith("compressed"):
        return WHAT[each["measure"].removesuffix("_compressed")] + ", compressed"
    alone = {
        "burst_refresh_ms": "p95 from publishing to the socket during bursts",
        "replay_rate_node": WHAT["replay_rate"],
        "where_replay_rate": "replay with a filter and a computed column",
        "replay_refresh_ms": "p95 from publishing to the socket during a replay",
        "open_seconds_6h": "seconds until six hours at 100 Hz are seen",
    }
    return alone.get(each["measure"]) or what(each)


def times(value: float) -> str:
    """A factor in words."""
    return f"{value:,.0f} times" if value >= 10 else f"{value:.2g} times"


def growth_plot(growth: dict[str, Any], ground: str) -> dict[str, Any]:
    """One panel per cost, with a line per thing varied, against its multiple of the least value."""
    data = []
    margin = {"l": 50, "r": 20, "t": 70, "b": 60}
    layout: dict[str, Any] = {"height": 330, "margin": margin, "annotations": []}
    for panel, (cost, words) in enumerate(COSTS.items()):
        end = "" if panel == 0 else str(panel + 1)
        values = [point[cost] for line in growth["varied"].values() for point in line["points"]]
        for name, colour in zip(VARIED, LINES, strict=True):
            points = growth["varied"][name]["points"]
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": VARIED[name],
                    "legendgroup": name,
                    "showlegend": panel == 0,
                    "line": {"color": colour, "width": 2},
                    "x": [point[name] / points[0][name] for point in points],
                    "y": [point[cost] for point in points],
                    "xaxis": f"x{end}",
                    "yaxis": f"y{end}",
                }
            )
        start = panel * 0.355
        layout[f"xaxis{end}"] = {"type": "log", "domain": [start, start + 0.29], "tickvals": [1, 10, 100]}
        layout[f"yaxis{end}"] = {
            "type": "log",
            "anchor": f"x{end}",
            "tickvals": TICKS,
            "ticktext": TICK_TEXTS,
        }
        low, high = min(values) / 2, max(values) * 2
        layout[f"yaxis{end}"]["range"] = [math.log10(low), math.log10(high)]
        layout["annotations"].append(
            {
                "text": words,
                "x": start + 0.145,
                "y": 1.06,
                "xref": "paper",
                "yref": "paper",
                "showarrow": False,
            }
        )
    layout |= {"legend": {"orientation": "h", "y": -0.14, "x": 0}, "showlegend": True}
    return {
        "data": data,
        "layout": dressed(layout, "Cost, when one thing is 10 and 100 times as much", ground),
    }


def dressed(layout: dict[str, Any], title: str, ground: str) -> dict[str, Any]:
    """A layout in the colours for one background, which shows through."""
    ink, rule = INKS[ground]
    for name in [name for name in layout if name[1:].startswith("axis")]:
        layout[name] = {"gridcolor": rule, "linecolor": rule, "zeroline": False, **layout[name]}
    return {
        "width": 1150,
        "showlegend": False,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "sans-serif", "size": 13, "color": ink},
        "title": {"text": title, "font": {"size": 15}, "x": 0.01},
        **layout,
    }


def plots(results: Sequence[dict[str, Any]], growth: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """All plots of the page, by the names of their files."""
    figures = {}
    for ground in INKS:
        figures[file("ratios", ground)] = ratios_plot(results, ground)
        figures[file("growth", ground)] = growth_plot(growth, ground)
    return figures


def mark(figure: dict[str, Any]) -> str:
    """The last line of a plot's file: a hash of the figure that it was drawn from."""
    return f"<!-- {hashlib.sha256(json.dumps(figure).encode()).hexdigest()} -->\n"


async def draw(figures: dict[str, dict[str, Any]], folder: Path) -> None:
    """Draw figures as SVG, with the app's own Plotly in Chromium. Raises RuntimeError if one cannot be
    drawn."""
    async with chromium() as devtools, tab(devtools, "about:blank") as page:
        await page.value(PLOTLY.read_text(encoding="utf-8") + ";0")
        for name, figure in figures.items():
            size = f"width: {figure['layout']['width']}, height: {figure['layout']['height']}"
            made = await page.value(f"Plotly.toImage({json.dumps(figure)}, {{ format: 'svg', {size} }})")
            if not isinstance(made, str):
                raise RuntimeError(f"{name} could not be drawn")
            drawn = unquote(made.partition(",")[2])
            (folder / name).write_text(f"{drawn}\n{mark(figure)}", encoding="utf-8")


async def write() -> None:
    """Write the page, its plots and the README's tables."""
    results, growth = json.loads(RESULTS.read_text()), json.loads(GROWTH.read_text())
    await draw(plots(results, growth), DOCS)
    (DOCS / "measurements.md").write_text(markdown(results, growth), encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    README.write_text(between_marks(readme, tables(results)), encoding="utf-8")


if __name__ == "__main__":
    try:
        asyncio.run(write())
    except KeyboardInterrupt:
        sys.exit("stopped")
