"""Live elements in the whole app, each with two viewers, against a real nats-server.

Slow, because each test has an app of its own, so that its stream begins anew.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect

from tests.browser import fresh_tab
from tests.nats import NatsServer, running_server
from tests.running import app
from tests.waiting import until

MARKUP = "<img/src=x/onerror=hacked()>"
ELEMENTS = '''"""Elements."""
from pathlib import Path
from components import alerts, latest_values, live, metric, newest_rows

with Path({runs!r}).open("a") as runs:
    runs.write("run\\n")
rows = live("S")
metric(rows, "n", how="sum", by="_subject", title="Sum <b>now</b>", unit="%", change="PT4S")
metric(rows, "n", by="_subject", only="s.a", title="Single", unit="B/s", line=False)
metric(rows, "n", how="greatest", over="PT4M", title="Highest")
metric(live("S", "s.none"), "n", title="Void")
latest_values(rows, "n")
newest_rows(rows, 5)
alerts(rows, "n", {{"hot": 50}}, by="_subject", unit="%")
'''
KEEP_CHANGES = """() => {
  const seen = self.changes = new Set()
  const look = () => {
    for (const each of document.querySelectorAll(".lb-metric-change")) seen.add(each.textContent)
  }
  new MutationObserver(look).observe(document.body, { childList: true, characterData: true, subtree: true })
}"""
"""Record every text that a metric's change has shown: a text that stands for a few seconds may be gone before
a test can read it."""
BARS = "els => els.map(el => parseFloat(el.style.width))"


class Two:
    """Two viewers of the page."""

    def __init__(self, server: NatsServer, tabs: list[Page], runs: Path) -> None:
        self.server = server
        self.tabs = tabs
        self._runs = runs

    def say(self, subject: str, *numbers: float) -> None:
        """Publish numbers."""
        self.server.publish(subject, *(json.dumps({"n": n}).encode() for n in numbers))

    @property
    def runs(self) -> int:
        """How often the page's code has run."""
        return len(self._runs.read_text().splitlines())


def metric(tab: Page, title: str) -> str:
    """The number of a metric, with its unit."""
    return tab.locator(".lb-metric", has_text=title).locator(".lb-metric-number").inner_text()


def column(tab: Page, kind: str, number: int) -> list[str]:
    """The texts of a table's column, from the top."""
    return tab.locator(f".lb-{kind} tbody tr td:nth-child({number})").all_inner_texts()


def names(tab: Page) -> list[str]:
    """The series in the table of newest values, from the top."""
    return column(tab, "latest_values", 1)


def rows(tab: Page) -> list[str]:
    """The numbers in the newest rows, from the top."""
    return column(tab, "newest_rows", 4)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@contextmanager
def opened(
    server: NatsServer, folder: Path, browser: Browser, query: str = "", *, blocked: bool = False
) -> Iterator[Two]:
    """Open the page for two viewers, on a stream S with a few numbers. `blocked`: the tab's own websocket is
    closed at once, as by a proxy."""
    server.run(lambda nc: nc.jetstream().add_stream(name="S", subjects=["s.>"]))
    runs = folder / "runs"
    bad: list[str] = []

    def refuse(dialog: Dialog) -> None:
        bad.append(dialog.message)
        dialog.dismiss()

    (folder / "pages").mkdir()
    (folder / "pages" / "overview.py").write_text(ELEMENTS.format(runs=str(runs)))
    size: Any = {"width": 1200, "height": 1600}
    try:
        with (
            app(folder, NATS_URL=server.url, LOOKBACK_PAGES=str(folder / "pages")) as running,
            fresh_tab(browser, viewport=size) as one,
            fresh_tab(browser, viewport=size) as other,
        ):
            tabs = [one, other]
            two = Two(server, tabs, runs)
            two.say("s.a", 10, 20)
            two.say("s.b", 30)
            two.say(f"s.{MARKUP}", 40)
            for tab in tabs:
                tab.add_init_script("window.hacked = () => alert('hacked')")
                tab.on("pageerror", lambda error: bad.append(str(error)))
                tab.on("dialog", refuse)
                if blocked:
                    tab.route_web_socket("**/lookback/push", lambda socket: socket.close())
                tab.goto(running.url + query)
            for tab in tabs:
                expect(tab.locator(".lb-newest_rows tbody tr").first).to_be_attached()
            yield two
        assert not bad
    finally:
        server.run(lambda nc: nc.jetstream().delete_stream("S"))


def test_all_move_without_a_run(server: NatsServer, tmp_path: Path, browser: Browser) -> None:
    """Each published message reaches every element of both viewers while the page's code does not run again.
    The page has no refresh timer."""
    with opened(server, tmp_path, browser) as two:
        for tab in two.tabs:
            until(lambda: metric(tab, "Sum") == "90 %")
            assert metric(tab, "Void") == "n/a"
            assert metric(tab, "Single") == "20 B/s"
            assert tab.locator("iframe[title*=autorefresh]").count() == 0
            expect(tab.get_by_text("has no message that matches")).to_be_visible()  # by a rerun
        runs = two.runs
        two.say("s.a", 1234567)
        two.say("s.b", 60)
        for tab in two.tabs:
            until(lambda: metric(tab, "Sum") == "1,234,667 %")
            until(lambda: metric(tab, "Single") == "1.23 MB/s")
            until(lambda: metric(tab, "Highest") == "1,234,567")
            until(lambda: column(tab, "latest_values", 1)[0] == "s.a")
            until(lambda: column(tab, "newest_rows", 2)[:2] == ["s.b", "s.a"])
            until(lambda: column(tab, "alerts", 2) == ["s.b", "s.a"])
            expect(tab.locator(".lb-alerts p")).to_have_text("2 of 3 series are above 'hot' (50 %) now.")
            assert tab.locator("iframe[title*=autorefresh]").count() == 0
        assert two.runs == runs


def test_metric(server: NatsServer, tmp_path: Path, browser: Browser) -> None:
    """A metric shows a change with an arrow, and later that nothing has changed. Its tooltip has the exact
    value, its title is plain text, and its line ends at the newest value."""
    with opened(server, tmp_path, browser) as two:
        tab = two.tabs[0]
        shown = tab.locator(".lb-metric", has_text="Sum <b>now</b>")
        change = shown.locator(".lb-metric-change")
        expect(change).to_have_text("→ 0 % in 4 seconds")
        tab.evaluate(KEEP_CHANGES)
        two.say("s.b", 33.5)
        until(lambda: "↑ 3.5 % in 4 seconds" in tab.evaluate("[...changes]"))
        assert shown.locator(".lb-metric-number").get_attribute("title") == "93.5 %"
        expect(change).to_have_text("→ 0 % in 4 seconds")
        two.say("s.b", 1)
        until(lambda: "↓ 32.5 % in 4 seconds" in tab.evaluate("[...changes]"))
        # The newest value is the lowest, so the line ends at its greatest y coordinate.
        heights = "el => el.getAttribute('d').match(/ [0-9.]+/g).map(Number)"
        until(lambda: (found := shown.locator("path").nth(1).evaluate(heights))[-1] == max(found))
        assert tab.locator(".lb-metric", has_text="Single").locator("svg").is_hidden()


def test_table_keeps_its_order(server: NatsServer, tmp_path: Path, browser: Browser) -> None:
    """A click on a column's name sorts the table for that viewer alone, and values that change keep it
    sorted. Bars are proportional to the values, names are plain text, and rows do not move while the pointer
    is over them."""
    with opened(server, tmp_path, browser) as two:
        mine, other = two.tabs
        until(lambda: names(mine) == [f"s.{MARKUP}", "s.b", "s.a"])
        assert mine.locator(".lb-latest_values b").evaluate_all(BARS) == [100, 75, 50]
        mine.get_by_role("button", name="Subject", exact=True).click()
        until(lambda: names(mine) == [f"s.{MARKUP}", "s.a", "s.b"])
        mine.mouse.move(0, 0)
        two.say("s.a", 80)
        two.say("s.c", 1)
        until(lambda: names(other) == ["s.a", f"s.{MARKUP}", "s.b", "s.c"])
        until(lambda: names(mine) == [f"s.{MARKUP}", "s.a", "s.b", "s.c"])
        expect(mine.locator(".lb-latest_values th").first).to_have_attribute("aria-sort", "ascending")

        other.locator(".lb-latest_values tbody tr").first.hover()
        two.say("s.b", 200)
        until(lambda: "200" in column(other, "latest_values", 2))
        assert names(other) == ["s.a", f"s.{MARKUP}", "s.b", "s.c"]
        other.mouse.move(0, 0)
        until(lambda: names(other)[0] == "s.b")


def test_tail_is_held_and_searched(server: NatsServer, tmp_path: Path, browser: Browser) -> None:
    """A held table of newest rows stands still and counts new rows, also while the viewer points at it. The
    other viewer's table continues, with at most the requested number of rows. A search keeps the rows that
    contain the text."""
    with opened(server, tmp_path, browser) as two:
        mine, other = two.tabs
        until(lambda: rows(mine) == ["40", "30", "20", "10"])
        tools = mine.locator(".lb-tools")
        mine.get_by_role("button", name="Hold").click()
        two.say("s.c", 1, 2)
        until(lambda: rows(other) == ["2", "1", "40", "30", "20"])
        expect(tools).to_contain_text("Held, 2 new")
        assert rows(mine) == ["40", "30", "20", "10"]
        mine.get_by_role("button", name="Continue").click()
        until(lambda: rows(mine) == ["2", "1", "40", "30", "20"])

        mine.locator(".lb-newest_rows tbody tr").first.hover()
        two.say("s.c", 3)
        until(lambda: rows(other)[0] == "3")
        expect(tools).to_contain_text("Held while you point at it, 1 new")
        assert rows(mine)[0] == "2"
        mine.mouse.move(0, 0)
        until(lambda: rows(mine)[0] == "3")

        mine.get_by_label("Search these rows").fill("S.C")
        until(lambda: rows(mine) == ["3", "2", "1"])
        two.say("s.c", 4)
        until(lambda: rows(mine) == ["4", "3", "2", "1"])
        mine.get_by_label("Search these rows").fill("nowhere")
        expect(mine.locator(".lb-newest_rows")).to_contain_text("None of these 5 rows contains “nowhere”.")
        assert len(rows(other)) == 5


def test_blocked_websocket(server: NatsServer, tmp_path: Path, browser: Browser) -> None:
    """If the tab's own websocket is blocked, every element is updated by the page's refresh."""
    with opened(server, tmp_path, browser, blocked=True) as two:
        two.say("s.a", 70)
        for tab in two.tabs:
            until(lambda: metric(tab, "Sum") == "140 %")
            until(lambda: column(tab, "latest_values", 1)[0] == "s.a")
            until(lambda: rows(tab)[0] == "70")
            until(lambda: column(tab, "alerts", 2) == ["s.a"])


def test_paused(server: NatsServer, tmp_path: Path, browser: Browser) -> None:
    """A page that is opened paused shows the current values and keeps them; another viewer who goes live gets
    updates."""
    with opened(server, tmp_path, browser, "/?refresh=Paused") as two:
        mine, other = two.tabs
        until(lambda: metric(mine, "Sum") == "90 %")
        other.get_by_role("radio", name="Live").click()
        two.say("s.a", 70)
        until(lambda: metric(other, "Sum") == "140 %")
        until(lambda: rows(other)[0] == "70")
        assert metric(mine, "Sum") == "90 %"
        assert rows(mine)[0] == "40"


def test_lost_server(server: NatsServer, tmp_path: Path, browser: Browser) -> None:
    """While the nats-server is away, every element keeps its last values; once it is back, they are updated
    again."""
    with opened(server, tmp_path, browser) as two:
        tab = two.tabs[0]
        until(lambda: metric(tab, "Sum") == "90 %")
        server.kill()
        expect(tab.locator(".lb-status")).to_contain_text("connect", ignore_case=True)
        until(lambda: "lb-lost" in (tab.locator(".lb-status").get_attribute("class") or ""))
        assert metric(tab, "Sum") == "90 %"
        assert rows(tab) == ["40", "30", "20", "10"]
        server.start()
        two.say("s.a", 70)
        until(lambda: metric(tab, "Sum") == "140 %")
        until(lambda: rows(tab)[0] == "70")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ('metric(rows, "n", how="median")', "A metric shows the newest, least, greatest, mean, sum, so how="),
        ('metric(rows, "n", only="m.a")', "only='m.a' names one series, so it needs the column"),
        ('metric(rows, "n", over="5")', "The over '5' is not a duration."),
        ('metric(rows, "n", change="PT1H")', "A look-back of 5 minutes does not hold the 1 hour"),
        ('metric(rows, ["n"])', "y=['n'] is not valid. A metric shows one column: give its name."),
        ('metric(rows, "nn")', "Did you mean 'n'?"),
        ('metric(rows, "host")', "holds texts, not numbers"),
        ('metric(rows, "n", by="n")', "holds numbers, not texts"),
        ('metric(rows, "n")\nmetric(rows, "n")', "This page draws the same element twice."),
        ("newest_rows(rows, 0)", "rows=0 is not valid. A table shows 1 to 1000 of the newest rows."),
        ('latest_values(rows, "nn")', "Did you mean 'n'?"),
        ('alerts(rows, "n", {"hot": "x"})', "The condition 'hot' is 'x'"),
    ],
)
def test_mistakes_are_told(server: NatsServer, open_page: Callable[..., Any], source: str, said: str) -> None:
    """A wrong argument gets a message that names it, and no traceback."""
    server.run(lambda nc: nc.jetstream().add_stream(name="M", subjects=["m.>"]))
    server.publish("m.a", b'{"n": 1, "host": "h"}')
    imports = "from components import alerts, latest_values, live, metric, newest_rows"
    page = open_page(f'"""A page."""\n{imports}\nrows = live("M")\n{source}\n')
    assert said in re.sub(r"\\(.)", r"\1", "\n".join(box.value for box in page.error))
    assert not page.exception
