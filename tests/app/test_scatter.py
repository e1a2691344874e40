"""The live scatter chart in the whole app, each time with two viewers, against a real nats-server."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect

from components.words import rounded
from tests.nats import NatsServer, running_server
from tests.running import app
from tests.waiting import until

MARKUP = "<img/src=x/onerror=hacked()>"
PAGE = '''"""Scatter."""
from pathlib import Path
from components import live, scatter_chart

with Path({runs!r}).open("a") as runs:
    runs.write("run\\n")
scatter_chart(live("S"), "x", "y <b>", by="by")
'''
SCATTER = "document.querySelector('.lb-scatter').lookback"
POINTS = f"""(() => {{
  const {{ x, y, of, groups }} = {SCATTER}.content;
  const names = new Map(groups.filter(group => group));
  return x.map((x, i) => [x, y[i], names.get(of[i]) ?? null]);
}})()"""
PAINTED = """canvas => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data
  .filter((value, i) => i % 4 === 3 && value > 0).length"""


class Two:
    """Two viewers of the page."""

    def __init__(self, server: NatsServer, tabs: list[Page], url: str, runs: Path) -> None:
        self.server = server
        self.tabs = tabs
        self.url = url
        self.said: list[list[object]] = []
        self._runs = runs

    def say(self, *points: tuple[float, float, str]) -> None:
        """Publish points."""
        rows = [{"x": x, "y <b>": y, "by": by} for x, y, by in points]
        self.server.publish("s.a", *(json.dumps(row).encode() for row in rows))
        self.said += [[rounded(x), rounded(y), by] for x, y, by in points]

    def shows(self, tab: Page) -> bool:
        """True if a tab has all published points, in order."""
        return bool(points(tab) == self.said)

    @property
    def runs(self) -> int:
        """How often the page's code has run."""
        return len(self._runs.read_text().splitlines())


def points(tab: Page) -> list[Any]:
    """The points in a tab, with the names of their groups."""
    found: list[Any] = tab.evaluate(POINTS)
    return found


def painted(tab: Page) -> int:
    """The number of pixels with points on the canvas."""
    return int(tab.locator(".lb-scatter canvas").evaluate(PAINTED))


def axes(tab: Page) -> Any:
    """The ranges of the axes."""
    layout = f"{SCATTER}.plot._fullLayout"
    return tab.evaluate(f"[{layout}.xaxis.range, {layout}.yaxis.range]")


def place(tab: Page, x: float, y: float) -> tuple[float, float]:
    """The position of a point on the screen, in px."""
    at = f"""({{ x, y }}) => {{
      const {{ plot }} = {SCATTER}, {{ xaxis, yaxis, _size }} = plot._fullLayout;
      const {{ left, top }} = plot.getBoundingClientRect();
      return [left + _size.l + xaxis.l2p(x), top + _size.t + yaxis.l2p(y)];
    }}"""
    left, top = tab.evaluate(at, {"x": x, "y": y})
    return left, top


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@contextmanager
def opened(
    server: NatsServer, folder: Path, browser: Browser, query: str = "", *, blocked: bool = False
) -> Iterator[Two]:
    """Open the page for two viewers, the second with a dark theme. `blocked`: the tab's own websocket is
    closed at once, as by a proxy."""
    server.run(lambda nc: nc.jetstream().add_stream(name="S", subjects=["s.>"]))
    bad: list[str] = []

    def refuse(dialog: Dialog) -> None:
        bad.append(dialog.message)
        dialog.dismiss()

    (folder / "pages").mkdir()
    (folder / "pages" / "overview.py").write_text(PAGE.format(runs=str(folder / "runs")))
    contexts = [browser.new_context(color_scheme=scheme) for scheme in ("light", "dark")]
    try:
        with app(folder, NATS_URL=server.url, LOOKBACK_PAGES=str(folder / "pages")) as running:
            tabs = [context.new_page() for context in contexts]
            two = Two(server, tabs, running.url + query, folder / "runs")
            two.say((0, 0, "a"), (10, 100, "b"), (5.25, 50, MARKUP))
            for tab in tabs:
                tab.add_init_script("window.hacked = () => alert('hacked')")
                tab.on("pageerror", lambda error: bad.append(str(error)))
                tab.on("dialog", refuse)
                if blocked:
                    tab.route_web_socket("**/lookback/push", lambda socket: socket.close())
                tab.goto(two.url)
            for tab in tabs:
                until(lambda: tab.evaluate("Boolean(document.querySelector('.lb-scatter')?.lookback.axes)"))
                until(lambda: two.shows(tab))
            yield two
            for tab in tabs:
                tab.goto("about:blank")
        assert not bad
    finally:
        for context in contexts:
            context.close()
        server.run(lambda nc: nc.jetstream().delete_stream("S"))


def test_points_come_without_a_run(server: NatsServer, tmp_path: Path, browser: Browser) -> None:
    """New points reach both viewers while the page's code does not run again, and both have the same points
    as a fresh tab. Names are plain text. The legend has each coloured group, and one entry for the others."""
    with opened(server, tmp_path, browser) as two:
        mine, other = two.tabs
        keys = mine.locator(".lb-scatter .lb-legend button")
        assert sorted(keys.all_inner_texts()) == sorted(["a", "b", MARKUP])
        expect(mine.locator(".lb-scatter .ytitle")).to_have_text("y <b>")
        for tab in two.tabs:
            assert tab.locator("iframe[title*=autorefresh]").count() == 0
        runs, seen = two.runs, painted(mine)
        for i in range(5):
            two.say(*((i + n / 7, 10 * i + n, f"g{n}") for n in range(12)))
            until(lambda: len(points(mine)) == len(two.said))
        coloured = set(keys.all_inner_texts()) - {"others"}
        assert len(coloured) == 10
        expect(keys.last).to_have_text("others")
        two.said = [[x, y, by if by in coloured else None] for x, y, by in two.said]
        for tab in two.tabs:
            until(lambda: two.shows(tab))
        assert painted(mine) > seen
        assert two.runs == runs
        fresh = other.context.new_page()
        fresh.goto(two.url)
        until(lambda: fresh.evaluate(f"Boolean({SCATTER.replace('.lookback', '?.lookback?.axes')})"))
        until(lambda: two.shows(fresh))
        assert axes(fresh) == axes(mine)


def test_zoom_hover_and_hidden_groups_stay(server: NatsServer, tmp_path: Path, browser: Browser) -> None:
    """While points arrive, a viewer's zoom and hidden group stay, also after a visit to another page, and the
    pointer names the point below it. The other viewer's axes grow to fit the new points."""
    with opened(server, tmp_path, browser) as two:
        mine, other = two.tabs
        mine.locator(".lb-scatter button", has_text=MARKUP).click()
        (left, bottom), (right, top) = place(mine, 8, 80), place(mine, 11, 105)
        mine.mouse.move(left, top)
        mine.mouse.down()
        mine.mouse.move((left + right) / 2, (top + bottom) / 2)
        two.say((9, 90, "a"))
        until(lambda: two.shows(mine))
        mine.mouse.move(right, bottom)
        mine.mouse.up()
        until(lambda: axes(mine)[0][0] > 7)
        zoom = axes(mine)
        two.say((1000, -5, "b"))
        until(lambda: two.shows(mine) and two.shows(other))
        until(lambda: axes(other)[0][1] >= 1000)
        assert axes(mine) == zoom
        mine.mouse.move(*place(mine, 9, 90))
        tip = mine.locator(".lb-scatter .lb-tip")
        expect(tip).to_have_text(re.compile(r"9, 90\s*a"))
        two.say((9.1, 91, "b"))
        until(lambda: two.shows(mine))
        expect(tip).to_have_text(re.compile(r"9, 90\s*a"))
        mine.mouse.move(0, 0)
        expect(tip).to_be_hidden()
        mine.get_by_role("link", name="Explore").click()
        expect(mine.locator(".lb-scatter")).to_have_count(0)
        mine.wait_for_timeout(3000)
        mine.get_by_role("link", name="Scatter").click()
        until(lambda: mine.evaluate("Boolean(document.querySelector('.lb-scatter')?.lookback.axes)"))
        until(lambda: two.shows(mine))
        assert axes(mine) == zoom
        expect(mine.locator(".lb-scatter button", has_text=MARKUP)).to_have_attribute("aria-pressed", "false")
        mine.mouse.dblclick(*place(mine, *(sum(ends) / 2 for ends in zoom)))
        until(lambda: axes(mine)[0][1] >= 1000)
        (left, top), (right, bottom) = place(mine, 300, 60), place(mine, 600, 30)
        mine.mouse.move(left, top)
        mine.mouse.down()
        mine.mouse.move(right, bottom, steps=5)
        mine.mouse.up()
        until(lambda: axes(mine)[0][1] < 1000)
        mine.locator(".modebar-btn").last.click()
        until(lambda: axes(mine)[0][1] >= 1000)


def test_blocked_websocket(server: NatsServer, tmp_path: Path, browser: Browser) -> None:
    """If the tab's own websocket is blocked, points are updated by the page's refresh."""
    with opened(server, tmp_path, browser, blocked=True) as two:
        two.say((3, 4, "a"), (3, 5, "a"))
        for tab in two.tabs:
            until(lambda: two.shows(tab))


def test_paused(server: NatsServer, tmp_path: Path, browser: Browser) -> None:
    """A page that is opened paused keeps its first points. A page that goes live and is paused again has each
    point exactly once."""
    with opened(server, tmp_path, browser, "/?refresh=Paused") as two:
        mine, other = two.tabs
        other.get_by_role("radio", name="Live").click()
        two.say((3, 4, "a"))
        until(lambda: two.shows(other))
        assert len(points(mine)) == len(two.said) - 1
        other.get_by_role("radio", name="Paused").click()
        expect(other.locator(".lb-word")).to_have_text("Paused")
        two.say((3, 5, "a"))
        other.wait_for_timeout(2000)
        for tab in (other, mine):
            tab.get_by_role("radio", name="Live").click()
            until(lambda: two.shows(tab))
        two.say((3, 6, "a"))
        for tab in two.tabs:
            until(lambda: two.shows(tab))


def test_a_look_at_it(server: NatsServer, tmp_path: Path, browser: Browser) -> None:
    """The axes have the colours of the viewer's theme. A chart whose points have all left says that there are
    none."""
    with opened(server, tmp_path, browser) as two:
        colours = {
            tab.locator(".lb-scatter .xtick text").first.evaluate("el => getComputedStyle(el).fill")
            for tab in two.tabs
        }
        assert len(colours) == 2
        server.run(lambda nc: nc.jetstream().purge_stream("S"))
        server.publish("s.a", b'{"x": 1}')
        for tab in two.tabs:
            expect(tab.locator(".lb-scatter .lb-note")).to_have_text(
                "No row within the look-back has both numbers."
            )
            until(lambda: painted(tab) == 0)
