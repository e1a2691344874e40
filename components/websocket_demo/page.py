"""The Comparison page: one stream drawn twice, by this app and by the NATS websocket client in the browser,
with the cost of each. See docs/comparison.md.

The left half is this app's own page in a frame. It has its own session, so its websocket carries nothing
else. The right half is static/websocket_client.html.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote, urlsplit

import pandas as pd
import streamlit as st

from nats_client import LookbackError, iso_duration, parse_duration
from nats_client.errors import ConnectionFailed

from ..data.connection import client
from ..data.reads import rerun_on
from ..words import bytes_text, plain
from .run import HEIGHT, HISTORY, RECENT, WINDOW, ComparisonRun, Latency, Side, find_run, own_run

OURS, THEIRS = "This app", "NATS websocket client"
FEW = 12  # series whose names fit into two lines
LEAST, MOST = 1, 7  # range of the history's axis: powers of ten of bytes per second


def comparison(rate: int, series: int, look_back: str) -> ComparisonRun | None:
    """Publish `rate` messages per second over `series` series while this page is open, and compare both ways
    to draw the last `look_back`. None, with the reason on the page, if the service is missing."""
    run = own_run()
    run.look_back = parse_duration(look_back)
    settings = client().settings
    run.api_prefix = settings.api_prefix or (f"$JS.{settings.domain}.API" if settings.domain else "$JS.API")
    wish = (rate, series)
    if st.session_state.get("_comparison_wish") != wish:
        st.session_state["_comparison_wish"] = wish
        st.session_state["_comparison_changed"] = time.time()
    try:
        run.keep_token()
        run.ask(rate, series, st.session_state["_comparison_changed"])
    except ConnectionFailed:
        raise  # the status line shows it
    except LookbackError as error:
        st.info(
            "This page needs the service `comparison` and a NATS server with a websocket listener. The "
            "embedded demo has both; docs/comparison.md says how to set them up on another server.",
            icon=":material/compare_arrows:",
        )
        st.caption(plain(str(error)))
        return None
    if (run.rate, run.series) != wish:
        st.caption("Another viewer has changed what is published. Move a slider to take over again.")
    return run


def compared(key: str) -> str:
    """The look-back for live() in the left half `key`. The half runs again when the look-back changes."""
    if (run := find_run(key)) is None:
        return "PT1M"
    rerun_on(_LookBack(run))
    return iso_duration(run.look_back)


@dataclass(frozen=True)
class _LookBack:
    """Returns, when called, the look-back that the viewer chose on the outer page."""

    run: ComparisonRun

    def __call__(self) -> pd.Timedelta:
        return self.run.look_back


def compare_with(key: str) -> None:
    """Register this session as the left half of the comparison `key`."""
    if run := find_run(key):
        run.follow()


def compared_charts(run: ComparisonRun) -> None:
    """Draw both halves side by side, below a sentence that says which takes fewer bytes."""
    st.html(f'<p class="lb-headline">{_headline(run)}</p>')
    root = urlsplit(st.context.url or "/").path.rpartition("/")[0]
    halves = (
        ("ours", OURS, "Python reads the stream, the browser gets what changed", f"{root}/comparison"),
        ("theirs", THEIRS, "the browser reads the stream itself", f"{root}/lookback/comparison/{run.key}/"),
    )
    height = HEIGHT + (115 if run.series <= FEW else 160)  # the line above, the names below
    queries = (f"?embed=true&chart={run.key}", f"#{run.ticket()}")
    for column, (side, name, how, address), query in zip(st.columns(2), halves, queries, strict=True):
        with column:
            st.html(f'<div class="lb-side lb-{side}"><b>{name}</b> <small>{how}</small></div>')
            st.iframe(address + query, height=height)


def compared_figures(run: ComparisonRun) -> None:
    """Draw the cost of both sides as a table, and the last minutes as a chart. Bytes are measured at the
    sender."""
    rows = "".join(_row(*row) for row in _rows(run))
    st.html(
        '<div class="lb-compared"><table><thead><tr><th></th>'
        f'<th class="lb-ours" scope="col">{OURS}</th><th class="lb-theirs" scope="col">{THEIRS}</th>'
        "</tr></thead>"
        f"<tbody>{rows}</tbody></table>{_history(run)}</div>"
    )


def compared_notes(run: ComparisonRun) -> None:
    """Explain the figures, and what the websocket client does better."""
    arrives, payload = run.theirs.to_browser, run.theirs.payload.rate()
    here = f" Here it arrives {_milliseconds(arrives.median)} after it was published." if arrives else ""
    st.markdown(
        "**What the websocket client does better.** There is no app server in between: nats-server sends to "
        f"each browser itself, and each message as it is.{here} Both sides draw what has come as soon as the "
        "browser can.\n\n"
        "**What it needs.** A user and permissions for each browser, a websocket listener that all browsers "
        "can reach, and every message of the look-back each time a page is opened."
    )
    counted = "not known yet" if payload is None else f"{bytes_text(payload)}/s now"
    with st.expander("How it is measured"):
        st.markdown(
            "- **On the wire, this app:** what the web server writes to the sockets of the left chart's "
            "two websockets, Streamlit's and the one for live elements, which carry that chart's page and "
            "nothing else. **NATS:** what the kernel has "
            "sent on nats-server's socket to the right chart (Linux only).\n"
            "- **Before compression:** the left websockets' messages as the app sends them, and the right "
            "one's as the NATS client in the browser receives them, including protocol lines. "
            "nats-server's own report (`/connz`) counts payloads only, before compression: "
            f"{counted}.\n"
            "- **Times fewer bytes:** both counts over the same seconds, at most a minute. Counting starts "
            "once the rate is set and both replays are done. The page says measuring until both halves of "
            "that time agree.\n"
            f"- Rates cover the last {WINDOW:.0f} seconds. Files that a browser caches (Streamlit, Plotly, "
            "the NATS client) are not counted on either side.\n"
            "- **Publish to pixel:** each message carries its publish time, and counts as visible with the "
            "frame after the redraw. Round trips to the app synchronise the browser's clock.\n"
            "- **CPU:** the app's whole process, with this page, its feeds and all viewers; for NATS the "
            "server's own report (`/varz`), which includes feeding both sides and storing the messages."
        )


def _headline(run: ComparisonRun) -> str:
    noun = "message" if run.rate == 1 else "messages"
    rate = f"<b>{run.rate:,d}</b> {noun} a second in <b>{run.series:,d}</b> series"
    ratio = run.ratio.value()
    if ratio is None:
        return f"{rate}: measuring …"
    if 0.95 < ratio < 1.05:
        return f"{rate}: both take about the same bytes."
    fewer = f"<b>{_times(max(ratio, 1 / ratio))} fewer bytes</b>"
    if ratio > 1:
        return f"{rate}: this app takes {fewer} than the websocket client."
    return f"{rate}: the websocket client takes {fewer} than this app."


def _times(ratio: float) -> str:
    return f"{ratio:.1f} times" if ratio < 10 else f"{ratio:,.0f} times"


def _milliseconds(time: float) -> str:
    return "less than 1 ms" if time < 1 else f"{time:,.0f} ms"


@dataclass(frozen=True)
class Cell:
    """One figure of the table."""

    text: str
    value: float | None = None
    """Lower is better; None: not ranked."""
    note: str = ""


def _rows(run: ComparisonRun) -> list[tuple[str, str, Cell, Cell]]:
    published = run.published.rate()
    ours, theirs = st.get_option("server.enableWebsocketCompression"), run.compression
    words = {True: "compressed", False: "not compressed"}
    how = words[bool(ours)] if ours == theirs else f"the app's {words[bool(ours)]}, NATS {words[theirs]}"

    def both(
        of: Callable[[Side], float | None], text: Callable[[float], str], rank: bool = True
    ) -> list[Cell]:
        found = [of(side) for side in (run.ours, run.theirs)]
        return [Cell("not known") if one is None else Cell(text(one), one if rank else None) for one in found]

    def per_message(side: Side) -> float | None:
        return side.rate / published if side.rate is not None and published else None

    def latency(found: Latency | None, note: str = "") -> Cell:
        if found is None:
            return Cell("…")
        return Cell(f"{found.median:,.0f} / {found.p95:,.0f} ms", found.median, note)

    arrives = run.theirs.to_browser
    note = f"in the browser after {_milliseconds(arrives.median)}" if arrives else ""
    few: Callable[[float], str] = lambda count: f"{count:,.2f}" if count < 10 else f"{count:,.0f}"  # noqa: E731
    table = [
        ("Bytes a second", f"on the wire, {how}", both(lambda s: s.wire.rate(), _per_second)),
        ("", "before compression", both(lambda s: s.plain.rate(), _per_second)),
        ("Bytes per message", "of the stream, on the wire", both(per_message, few)),
        ("Received", "since opened, on the wire", both(lambda s: s.wire.total, bytes_text)),
        ("", "in messages", both(lambda s: s.messages.total, "{:,.0f}".format, False)),
        (
            "Publish to pixel",
            f"median / 95th percentile, {RECENT:.0f} s",
            [latency(run.ours.to_pixel), latency(run.theirs.to_pixel, note)],
        ),
        ("Server CPU", "the app / nats-server, of one core", both(lambda s: s.cpu, "{:.0f} %".format)),
    ]
    return [(name, of, left, right) for name, of, (left, right) in table]


def _per_second(rate: float) -> str:
    return f"{bytes_text(rate)}/s"


def _row(name: str, of: str, *cells: Cell) -> str:
    values = [cell.value for cell in cells]
    ranked = [value for value in values if value is not None]
    least = min(ranked) if len(ranked) == len(cells) and len(set(ranked)) > 1 else None
    drawn = "".join(
        f"<td{' class=lb-better' if least is not None and cell.value == least else ''}>{escape(cell.text)}"
        f"{f' <small>{escape(cell.note)}</small>' if cell.note else ''}</td>"
        for cell in cells
    )
    return f'<tr><th scope="row">{escape(name)} <small>{escape(of)}</small></th>{drawn}</tr>'


def _history(run: ComparisonRun) -> str:
    """Bytes per second of both over the last minutes, on a logarithmic scale, as an image: Streamlit strips
    SVG from HTML."""
    marks = list(run.history)
    now = marks[-1][0] if marks else 0.0
    lines, words = [], []
    for name, label, colour, column in (("ours", OURS, "#0f8aa3", 1), ("theirs", THEIRS, "#d9711f", 2)):
        points = [(1000 * (1 + (mark[0] - now) / HISTORY), _height(mark[column])) for mark in marks]
        held = [(x, y) for x, y in points if y is not None]
        path = " ".join(f"{x:.0f},{y:.2f}" for x, y in held)
        lines.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="3" '
            'stroke-linejoin="round" vector-effect="non-scaling-stroke"/>'
        )
        if held:
            words.append((held[-1][1], name, label))
    powers = {power: _height(10.0**power) or 0.0 for power in range(LEAST, MOST + 1)}
    rules = "".join(
        f'<path d="M0 {y}H1000" stroke="#888" stroke-opacity="0.3" vector-effect="non-scaling-stroke"/>'
        for y in powers.values()
    )
    picture = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 100" preserveAspectRatio="none">'
        f"{rules}{''.join(lines)}</svg>"
    )
    scale = "".join(
        f'<span style="top:{y:.1f}%">{bytes_text(10.0**power)}/s</span>' for power, y in powers.items()
    )
    ends = "".join(
        f'<b class="lb-{name}" style="top:{y:.1f}%">{label}</b>' for y, name, label in _apart(words)
    )
    caption = f"Bytes a second over the last {HISTORY / 60:.0f} minutes, logarithmic"
    return (
        f'<figure class="lb-crossing"><figcaption>{caption}</figcaption><div>'
        f'<img alt="{caption}" src="data:image/svg+xml,{quote(picture)}">{scale}{ends}</div></figure>'
    )


def _height(rate: float | None) -> float | None:
    """The position of a rate in the chart, in percent from the top; None without a rate."""
    if not rate:
        return None
    return 100 * (1 - min(1.0, max(0.0, (math.log10(rate) - LEAST) / (MOST - LEAST))))


def _apart(words: Sequence[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    """Positions of the labels at the lines' ends, moved so that none overlap."""
    placed: list[tuple[float, str, str]] = []
    for at, name, label in sorted(words):
        if placed:
            at = max(at, placed[-1][0] + 12)
        placed.append((at, name, label))
    return placed
