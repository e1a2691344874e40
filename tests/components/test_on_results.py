"""Elements that draw rows of a stream draw rows of a result too, with correct numbers."""

import json
import time
from collections.abc import Iterator, Sequence

import pandas as pd
import pytest

from components.charts.legend import bins_for
from components.charts.line_chart import draw
from components.charts.pushed import Varying
from components.charts.scatter_chart import _PointsSource
from components.data.live import View, look_at
from components.data.states import check_times
from components.metrics.metric import _MetricSource
from components.tables.alerts import _AlertsSource
from components.tables.download import Offer
from nats_client import Client
from nats_client.errors import ColumnError
from nats_client.results.inputs import Rows
from nats_client.results.result import Query, Result, Results
from nats_client.series.conditions import parse_condition
from nats_client.series.figure import Figure
from nats_client.series.periods import period_starts
from nats_client.series.seen_figure import SeenFigure
from nats_client.table.snapshot import Snapshot
from tests.nats import NatsServer
from tests.waiting import until

LOOK_BACK = pd.Timedelta("PT10M")
SECOND = 1_000_000_000
DOUBLED = "SELECT _time, name, n, 2 * n AS m FROM s"
TOTALS = "SELECT count(*) AS number, sum(n) AS total FROM s"


class Asked:
    """Results over the stream S, whose rows have their own times and are published by the test."""

    def __init__(self, server: NatsServer, client: Client, results: Results) -> None:
        self._server, self._results = server, results
        self.count = 0
        self._feed = client.feed("S", "s.{name}", look_back="PT10M", time="at")
        assert self._feed.wait(20)
        self.now = time.time_ns()

    def say(self, *rows: tuple[str, float, float]) -> None:
        """Publish rows: name, seconds before now, and number."""
        for name, ago, n in rows:
            at = pd.Timestamp(self.now - int(ago * SECOND), tz="UTC").isoformat()
            self._server.publish(f"s.{name}", json.dumps({"at": at, "n": n}).encode())
        self.count += len(rows)

    def sql(self, sql: str) -> Result:
        """The result, once it has all rows."""
        until(lambda: len(self._feed.snapshot()) == self.count)
        found = self._results.get("", Query(sql, ("s",), {}), {"s": Rows(self._feed, LOOK_BACK)})
        assert found.wait(30)
        assert found.error is None
        return found


@pytest.fixture
def asked(server: NatsServer, client: Client) -> Iterator[Asked]:
    """Results that are closed after the test."""
    results = Results()
    yield Asked(server, client, results)
    results.close()


def view_of(result: Result) -> View:
    """A view as sql() returns it."""
    return look_at(result, result.look_back, steady=False)


def wait_for(result: Result, column: str, values: Sequence[float]) -> Snapshot:
    """The rows of a result, once a column has these values."""
    until(lambda: result.snapshot().frame()[column].dropna().tolist() == list(values))
    return result.snapshot()


def test_points(asked: Asked) -> None:
    """A scatter chart has the points of the result, and is updated with the next result."""
    asked.say(("a", 30, 1), ("b", 20, 2))
    result = asked.sql(DOUBLED)
    wait_for(result, "n", [1, 2])
    source = _PointsSource(view_of(result), "n", "m", "name")
    content = source.look()
    assert (content["x"], content["y"]) == ([1, 2], [2, 4])
    assert [group[1] for group in content["groups"]] == ["a", "b"]
    asked.say(("b", 25, 5))  # a late row: rows before it keep their place, rows after it do not
    wait_for(result, "n", [1, 5, 2])
    content = source.look()
    assert (content["x"][-3:], content["y"][-3:]) == ([1, 5, 2], [2, 10, 4])


def test_a_metric_by_the_times_of_the_rows(asked: Asked) -> None:
    """`over` and `change` use the times in the result, whenever its rows arrived."""
    asked.say(("a", 200, 1), ("a", 100, 10), ("a", 40, 20), ("b", 10, 30))
    result = asked.sql(DOUBLED)
    rows = wait_for(result, "n", [1, 10, 20, 30])
    minute, two = pd.Timedelta("PT1M"), pd.Timedelta("PT2M")
    over = Figure("n", "sum", LOOK_BACK, over=minute, change=minute)
    over.update(rows, asked.now)
    assert (over.value, over.before) == (50, 10)
    newest = Figure("n", "sum", LOOK_BACK, by="name", change=two)
    newest.update(rows, asked.now)
    assert (newest.value, newest.before) == (50, 1)
    content = _MetricSource(view_of(result), newest, "", line=True).look()
    assert content["text"] == "50"
    assert sum(name.startswith("p") for name in content) > 2


def test_a_metric_of_totals(asked: Asked) -> None:
    """Totals have no times, so a metric only has past values it has seen, and its course begins with the
    first update."""
    asked.say(("a", 30, 1), ("b", 20, 2))
    result = asked.sql(TOTALS)
    rows = wait_for(result, "total", [3])
    assert view_of(result).timeless
    seen = SeenFigure(Figure("total", "newest", LOOK_BACK), LOOK_BACK, pd.Timedelta("PT1M"))
    seen.update(rows, asked.now)
    assert (seen.value, seen.before, seen.course) == (3, None, {})
    asked.say(("a", 0, 10))
    seen.update(wait_for(result, "total", [13]), asked.now + 50 * SECOND)
    assert (seen.value, seen.before) == (13, None)
    assert set(seen.course.values()) == {3}
    seen.update(result.snapshot(), asked.now + 61 * SECOND)
    assert (seen.value, seen.before) == (13, 3)
    seen.update(result.snapshot(), asked.now + 111 * SECOND)
    assert (seen.value, seen.before) == (13, 13)
    assert sorted(seen.course) == list(range(min(seen.course), max(seen.course) + 1))
    ordered = [seen.course[step] for step in sorted(seen.course)]
    assert ordered == [3] * ordered.count(3) + [13] * ordered.count(13)
    seen.update(result.snapshot(), asked.now + 900 * SECOND)
    assert set(seen.course.values()) == {13}


def test_what_needs_times_says_so(asked: Asked) -> None:
    """A chart over time of totals is an error that names the missing times."""
    asked.say(("a", 30, 1))
    result = asked.sql(TOTALS)
    wait_for(result, "total", [1])
    view = view_of(result)
    bins_of = bins_for(result, ("total",), None, LOOK_BACK)
    with pytest.raises(ColumnError, match="needs times, and this result has none"):
        draw(view, bins_of, "busiest", 20, {}, Varying((), lambda _: {}), "chart", "series-1")
    with pytest.raises(ColumnError, match="over='PT1M' needs times"):
        check_times(view, "over='PT1M'")
    check_times(view_of(asked.sql(DOUBLED)), "A chart over time")


def test_crossings(asked: Asked) -> None:
    """Alerts of a result begin, end and peak at the times of its rows, and are updated with the next
    result."""
    asked.say(("a", 60, 1), ("a", 50, 9), ("a", 40, 7), ("a", 30, 2), ("b", 20, 3))
    result = asked.sql(DOUBLED)
    wait_for(result, "n", [1, 9, 7, 2, 3])
    source = _AlertsSource(view_of(result), ("m",), "name", {"high": parse_condition("> 10")}, "", "UTC")

    def listed() -> list[list[str]]:
        return [row[1:] for name, row in sorted(source.look().items()) if name.startswith("r")]

    def clock(ago: float) -> str:
        return f"{pd.Timestamp(asked.now - int(ago * SECOND)):%H:%M:%S}"

    assert listed() == [["a", clock(50), clock(30), "18", "18"]]
    asked.say(("b", 10, 20))
    wait_for(result, "n", [1, 9, 7, 2, 3, 20])
    wanted = [["a", clock(50), clock(30), "18", "18"], ["b", clock(10), "still above", "40", "40"]]
    assert listed() == wanted


def test_means_of_periods(asked: Asked) -> None:
    """The means of the current period and of the one before are computed from the result's rows."""
    hour = pd.Timedelta("PT2M")
    starts = period_starts(hour, 1, asked.now, "UTC")
    ago = (asked.now - starts[1]) / SECOND
    asked.say(("a", ago / 2, 4), ("a", ago / 4, 8), ("a", ago + 120 - ago / 2, 3))
    result = asked.sql(DOUBLED)
    rows = wait_for(result, "m", [6, 8, 16])
    means = result.means.table(rows, "m", "name", starts, asked.now)
    assert [means["current"].iloc[0], means["before"].iloc[0]] == [12, 6]


def test_a_download(asked: Asked) -> None:
    """A file has all rows of the result, with its columns."""
    asked.say(("a", 30, 1), ("b", 20, 2))
    result = asked.sql(DOUBLED)
    wait_for(result, "n", [1, 2])
    frame = Offer(result, LOOK_BACK.value, None, None).frame().reset_index()
    assert list(frame) == ["_time", "name", "n", "m"]
    assert frame[["name", "n", "m"]].to_numpy().tolist() == [["a", 1, 2], ["b", 2, 4]]
