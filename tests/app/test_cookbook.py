"""Each page of the cookbook shows, in a browser, the same values as pandas computes from the published
messages."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, Page

from components.words import bytes_text
from tests.browser import fresh_tab
from tests.cookbook import FILE, MOST, PAGES, ROOMS, Data, cookbook, document
from tests.running import App
from tests.waiting import until

Numbers = dict[str, list[float]]
"""The numbers of each series, ordered by time."""

DRAWN = """() => [...document.querySelectorAll(".js-plotly-plot")].flatMap(chart =>
    (chart._fullData ?? []).filter(trace => trace.uid !== "marks" && trace.y?.length)
    .map(trace => [trace.name, [...trace.y]]))"""


class Viewer:
    """A browser tab that opens the pages one after another, with methods that read what it shows."""

    def __init__(self, tab: Page, app: App, data: Data) -> None:
        self.tab = tab
        self.data = data
        self._url = app.url
        self.faults: list[str] = []
        tab.on("pageerror", lambda error: self.faults.append(str(error)))

    def opens(self, page: str, **query: str) -> None:
        """Open a page, and wait for its status line."""
        self.tab.goto(f"{self._url}/{page.replace('_', '-')}?{urlencode(query)}")
        self.tab.locator(".lb-status").wait_for(timeout=60_000)

    def check(self) -> None:
        """Assert that the page shows no error and no warning."""
        assert self.tab.get_by_test_id("stAlert").all_inner_texts() == []
        assert self.tab.get_by_test_id("stException").count() == 0
        assert self.faults == []

    def charted(self) -> Numbers:
        """The numbers that the charts draw."""
        return dict(self.tab.evaluate(DRAWN))

    def cells(self, table: str) -> list[list[str]]:
        """The cells of a table, by row; `table` is `newest_rows`, `latest_values` or `alerts`."""
        found: list[list[str]] = self.tab.evaluate(
            "kind => [...document.querySelectorAll(`.lb-${kind} tbody tr`)]"
            ".map(row => [...row.cells].map(cell => cell.innerText.trim()))",
            table,
        )
        return found

    def values(self) -> Numbers:
        """The table of newest values."""
        return {name: [number(value)] for name, value in self.cells("latest_values")}

    def metric(self, title: str) -> str:
        """The number of a metric with its unit, as text; empty if there is no such metric."""
        words = self.tab.get_by_text(title, exact=True)
        found = self.tab.locator(".lb-metric", has=words).locator(".lb-metric-number")
        return found.inner_text() if found.count() else ""


@pytest.fixture(scope="module")
def viewer(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """A viewer in UTC, on the app with the cookbook's pages."""
    with (
        cookbook(tmp_path_factory.mktemp("cookbook")) as (running, data),
        fresh_tab(browser, viewport={"width": 1200, "height": 900}, timezone_id="UTC") as tab,
    ):
        yield Viewer(tab, running, data)


@pytest.fixture(autouse=True)
def without_faults(viewer: Viewer) -> Iterator[None]:
    """Assert that the page shows no error at the end of each test."""
    yield
    viewer.check()


def number(text: str) -> float:
    """The number that a text begins with; NaN if there is none."""
    found = re.match(r"-?[\d,.]+", text)
    return float(found[0].replace(",", "")) if found else float("nan")


def comes(found: Callable[[], Any], wanted: object) -> None:
    """Wait until `found()` equals `wanted`; show the difference if it never does."""
    with suppress(AssertionError):
        until(lambda: found() == wanted)
    assert found() == wanted


def draws(viewer: Viewer, wanted: Numbers, *, moves: bool = True) -> None:
    """Wait until the charts draw these numbers. If the chart moves on, the oldest third may have left it."""

    def near() -> dict[str, object]:
        return {name: pytest.approx(values, rel=1e-5, abs=1e-5) for name, values in kept.items()}

    def drawn() -> Numbers:
        found = viewer.charted()
        assert all(len(values) <= len(wanted.get(name, [])) for name, values in found.items()), found
        return {name: values[-len(kept[name]) :] for name, values in found.items()}

    kept = {name: values[len(values) // 3 :] if moves else values for name, values in wanted.items()}
    comes(drawn, near())


def by(frame: pd.DataFrame, column: str, name: str = "token") -> Numbers:
    """The numbers of a column, by the text in another column."""
    return {
        str(key): rows.sort_values("_time")[column].dropna().tolist() for key, rows in frame.groupby(name)
    }


def minutes(frame: pd.DataFrame, *names: str) -> Any:
    """The rows per minute, and per value of the columns `names`."""
    return frame.assign(_time=frame["_time"].dt.floor("min")).groupby(["_time", *names])


def table(rows: pd.DataFrame, *columns: str) -> list[list[str]]:
    """The cells of a table of the ten newest rows."""
    return [[shown(row[name]) for name in columns] for row in rows[::-1][:10].to_dict("records")]


def shown(value: Any) -> str:
    """A text, a number or a time as tables show it."""
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d %H:%M:%S}.{value.microsecond // 1000:03}"
    return value if isinstance(value, str) else f"{round(value, 3):.12g}"


def test_requests_per_second(viewer: Viewer) -> None:
    """The rate is the counter's increase per second; after a reset to 0, it is the counter's value per
    second."""
    viewer.opens("requests_per_second")
    servers = viewer.data.frame("SERVERS")
    steps = servers.groupby("token")["requests_total"].diff()
    assert (steps < 0).sum() == 1
    servers["rate"] = steps.where(~(steps < 0), servers["requests_total"]) / 5
    draws(viewer, by(servers, "rate"))


def test_p95_by_region(viewer: Viewer) -> None:
    """Each region has its 95th percentile of each minute."""
    viewer.opens("p95_by_region")
    draws(viewer, by(minutes(viewer.data.frame("ORDERS"), "token")["ms"].quantile(0.95).reset_index(), "ms"))


def test_only_errors(viewer: Viewer) -> None:
    """The table has the ten newest rows whose level is error."""
    viewer.opens("only_errors")
    logs = viewer.data.frame("LOGS")
    wanted = table(logs[logs["level"] == "error"], "_time", "token", "text", "ms")
    comes(lambda: viewer.cells("newest_rows"), wanted)


def test_order_values(viewer: Viewer) -> None:
    """Each order has the newest price before it, and the metric has the value of all orders."""
    viewer.opens("order_values")
    prices = viewer.data.frame("PRICES")[["_time", "token", "price"]].rename(columns={"token": "product"})
    orders = pd.merge_asof(viewer.data.frame("ORDERS"), prices, on="_time", by="product")
    orders["value"] = orders["quantity"] * orders["price"]
    comes(
        lambda: number(viewer.metric("Value of all orders")), pytest.approx(orders["value"].sum(), abs=0.001)
    )
    wanted = table(orders, "_time", "token", "product", "quantity", "price", "value")
    comes(lambda: viewer.cells("newest_rows"), wanted)


def test_rolling_mean(viewer: Viewer) -> None:
    """Each row has the mean of the minute before it, both ends included."""
    viewer.opens("rolling_mean")
    servers = viewer.data.frame("SERVERS").set_index("_time")
    means = servers.groupby("token")["cpu"].rolling("60s", closed="both").mean().reset_index()
    draws(viewer, by(means, "cpu"))


def test_top_ten(viewer: Viewer) -> None:
    """The table has the ten products with the most items sold, the largest first."""
    viewer.opens("top_ten")
    sold = viewer.data.frame("ORDERS").groupby("product")["quantity"].sum()
    comes(viewer.values, {name: [float(n)] for name, n in sold.nlargest(10).items()})
    assert [row[0] for row in viewer.cells("latest_values")] == list(sold.nlargest(10).index)


def test_totals(viewer: Viewer) -> None:
    """The metrics are the count, the sum and the mean of all orders."""
    viewer.opens("totals")
    orders = viewer.data.frame("ORDERS")
    comes(lambda: viewer.metric("Orders"), str(len(orders)))
    comes(lambda: number(viewer.metric("Items")), float(orders["quantity"].sum()))
    comes(lambda: number(viewer.metric("Mean time")), pytest.approx(orders["ms"].mean(), abs=0.001))


def test_log_search(viewer: Viewer) -> None:
    """The table has the newest lines that contain the viewer's words, in upper or lower case."""
    viewer.opens("log_search", words="SIGN")
    logs = viewer.data.frame("LOGS")
    wanted = table(logs[logs["text"].str.contains("sign")], "_time", "token", "level", "text")
    comes(lambda: viewer.cells("newest_rows"), wanted)


def test_share_of_errors(viewer: Viewer) -> None:
    """The chart has the percentage of failed orders of each region and minute."""
    viewer.opens("share_of_errors")
    orders = viewer.data.frame("ORDERS")
    orders["failed"] = 100.0 * (orders["status"] == "failed")
    draws(viewer, by(minutes(orders, "token")["failed"].mean().reset_index(), "failed"))


def test_silent_devices(viewer: Viewer) -> None:
    """The list has the two devices that stopped, and no other."""
    viewer.opens("silent_devices")
    comes(lambda: sorted(row[1] for row in viewer.cells("alerts")), ["sensor-03", "sensor-10"])
    assert {row[3] for row in viewer.cells("alerts")} == {"still silent"}


def test_newest_values(viewer: Viewer) -> None:
    """The table has the last number of each device."""
    viewer.opens("newest_values")
    comes(viewer.values, by(viewer.data.frame("SENSORS").groupby("token").tail(1), "celsius"))


def test_histogram(viewer: Viewer) -> None:
    """The chart counts the orders of each region in bins of 50 ms."""
    viewer.opens("histogram")
    orders = viewer.data.frame("ORDERS")
    orders["_time"] = 50 * np.floor(orders["ms"] / 50)
    counts = orders.groupby(["_time", "token"]).size().rename("n").reset_index()
    draws(viewer, by(counts, "n"), moves=False)


def test_orders_per_minute(viewer: Viewer) -> None:
    """The chart counts the orders of each region in each minute."""
    viewer.opens("orders_per_minute")
    draws(viewer, by(minutes(viewer.data.frame("ORDERS"), "token").size().rename("n").reset_index(), "n"))


def test_day_over_day(viewer: Viewer) -> None:
    """Today's hourly rolling means so far, and those of yesterday, are lines of their own."""
    viewer.opens("day_over_day")
    visits = viewer.data.frame("VISITS")
    visits = visits.set_index("_time")[["visits"]].rolling("1h", closed="both").mean().reset_index()
    days = (pd.Timestamp.now("UTC").normalize() - visits["_time"].dt.floor("D")).dt.days
    wanted = {
        name: visits.loc[days == n, "visits"].tolist()
        for n, name in enumerate(("current day", "1 day before"))
    }
    draws(viewer, {name: values for name, values in wanted.items() if values}, moves=False)


def test_errors_per_order(viewer: Viewer) -> None:
    """The chart has the errors per order of each minute, and 0 in a minute without errors."""
    viewer.opens("errors_per_order")
    logs = viewer.data.frame("LOGS")
    orders = minutes(viewer.data.frame("ORDERS")).size()
    errors = minutes(logs[logs["level"] == "error"]).size().reindex(orders.index, fill_value=0)
    draws(viewer, {"ratio": (errors / orders).tolist()})


def test_busy_for_long(viewer: Viewer) -> None:
    """The minute above 90 % is in the list, with its peak; the ten seconds above 90 % are not."""
    viewer.opens("busy_for_long")
    servers = viewer.data.frame("SERVERS").query("token == 'web-3'").reset_index(drop=True)
    busy = servers["cpu"] > 90
    stretches = servers[busy].groupby((~busy).cumsum())
    assert sorted(stretches.size()) == [2, 12]
    first = stretches.get_group(stretches.size().idxmax())
    begin, end = first["_time"].iloc[0], first["_time"].iloc[-1] + pd.Timedelta(seconds=5)
    times = [f"{time:%H:%M:%S}" for time in (begin, end)]
    wanted = ["busy", "web-3", *times, shown(first["cpu"].iloc[0]), shown(first["cpu"].max())]

    def without_day() -> list[list[str]]:  # times of another day start with the day
        return [[re.sub(r".* (?=\d\d:\d\d)", "", cell) for cell in row] for row in viewer.cells("alerts")]

    comes(without_day, [wanted])
    draws(viewer, by(viewer.data.frame("SERVERS"), "cpu"))


def test_memory(viewer: Viewer) -> None:
    """Memory, of all servers and of each, is shown in bytes with the prefix that suits its size."""
    viewer.opens("memory")
    servers = viewer.data.frame("SERVERS").assign(bytes=lambda rows: rows["memory_kib"] * 1024)
    newest = servers.groupby("token")["bytes"].last().sum()
    comes(lambda: viewer.metric("All servers"), bytes_text(newest))
    draws(viewer, by(servers, "bytes"))


def test_rooms(viewer: Viewer) -> None:
    """The table has how far the warmest device of each room is above the room's limit, which is in a
    bucket."""
    viewer.opens("rooms")
    warmest = viewer.data.frame("SENSORS").groupby("token")["celsius"].max()
    above: Numbers = {}
    for device, room in ROOMS.items():
        above[room] = [max(*above.get(room, [-99.0]), warmest[device] - MOST[room])]
    comes(viewer.values, {room: pytest.approx(values) for room, values in above.items()})


def test_last_week(viewer: Viewer) -> None:
    """The chart has by how many percent each minute's orders are slower than the archive's mean of their
    region."""
    viewer.opens("last_week")
    viewer.tab.get_by_role("button", name="Run", exact=True).click()
    usual = viewer.data.archive().groupby("token")["ms"].mean()
    orders = minutes(viewer.data.frame("ORDERS"), "token")["ms"].mean().reset_index()
    orders["slower"] = 100 * (orders["ms"] / orders["token"].map(usual) - 1)
    draws(viewer, by(orders, "slower"))


def test_by_status(viewer: Viewer) -> None:
    """The table has a row per minute with a column per status."""
    viewer.opens("by_status")
    counts = minutes(viewer.data.frame("ORDERS"), "status").size().unstack(fill_value=0).reset_index()
    comes(lambda: viewer.cells("newest_rows"), table(counts, "_time", "paid", "sent", "failed"))


def test_the_document() -> None:
    """docs/cookbook.md contains each page's source unchanged, with its picture and a heading, once; each page
    has a test in this file."""
    text = FILE.read_text()
    assert text == document()
    pictures = re.findall(r"^## .+\n\n(?:(?!## ).*\n)+?!\[.+\]\(cookbook/(\w+)\.png\)$", text, re.MULTILINE)
    pages = sorted(page.stem for page in PAGES.glob("*.py"))
    assert sorted(pictures) == pages == sorted(picture.stem for picture in PAGES.glob("*.png"))
    for page in pages:
        assert (PAGES / f"{page}.py").read_text() in text
        assert f"test_{page}" in globals()
