"""The points of a scatter chart, checked against pandas with a real nats-server."""

import json
import random
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pytest

from components.charts.scatter_chart import GROUPS, MOST, _PointsSource
from components.data.live import View
from components.words import rounded
from nats_client import Client
from tests.nats import NatsServer
from tests.waiting import until


class Browser:
    """The content that a browser holds, updated by messages as in static/live_scatter.js."""

    def __init__(self, source: _PointsSource) -> None:
        self.source = source
        self.held: Mapping[str, Any] | None = None
        self.content: dict[str, Any] = {}
        self.points = 0
        """The number of points received, in all messages."""

    def take(self) -> None:
        """Apply the next message, if there is one."""
        found = self.source.step(self.held)
        if found is None:
            return
        self.held, message = found
        news = json.loads(message)
        known = {} if news.pop("", False) else self.content
        content = {name: value for name, value in {**known, **news}.items() if value is not None}
        gone = content["first"] - known.get("first", content["first"])
        for column in ("x", "y", "of"):
            content[column] = known.get(column, [])[gone:] + news.get(column, [])
        self.points += len(news.get("x", []))
        self.content = content

    @property
    def rows(self) -> list[tuple[float, float, str | None]]:
        """The browser's points, with the names of their groups."""
        names = {group[0]: group[1] for group in self.content["groups"] if group}
        of = [names.get(code) for code in self.content["of"]]
        return list(zip(self.content["x"], self.content["y"], of, strict=True))


def expected(view: View, coloured: set[str]) -> list[tuple[float, float, str | None]]:
    """The same points, computed by pandas."""
    rows = view.again().frame(["x", "y", "by"]).dropna(subset=["x", "y"])
    rows = rows[(rows["x"].abs() < 3e38) & (rows["y"].abs() < 3e38)].tail(MOST)
    return [
        (rounded(x), rounded(y), by if by in coloured else None)
        for x, y, by in zip(rows["x"], rows["y"], rows["by"], strict=True)
    ]


def view_of(client: Client) -> View:
    """A view of the stream S."""
    feed = client.feed("S", "s.>", look_back="PT10M")
    assert feed.wait(20)
    now, look_back = feed.now(), pd.Timedelta("10min")
    return View(feed, feed.snapshot(), look_back, now, feed.health_of(look_back), by_code=False)


def row(chance: random.Random, groups: int) -> bytes:
    """A message, perhaps without a number or a group, or with numbers of all sizes."""
    of: dict[str, object] = {
        "x": chance.choice([chance.random(), chance.randrange(1000), 1.7e9 + chance.random(), 2**60, -0.0]),
        "y": chance.choice([chance.gauss(0, 1e-9), None, "no number", chance.gauss(0, 1e30)]),
        "by": f"g{int(groups * chance.random() ** 2)}",
    }
    return json.dumps({k: v for k, v in of.items() if chance.random() > 0.1}).encode()


@pytest.mark.parametrize("seed", range(3))
def test_points_equal_pandas(server: NatsServer, client: Client, seed: int) -> None:
    """After any number of updates, a browser holds the points that pandas selects, and the coloured groups
    are among the largest. A browser that joins later holds the same, and no point is sent twice."""
    chance = random.Random(seed)
    server.publish("s.a", b'{"x": 1, "y": 2, "by": "g0"}')
    view = view_of(client)
    source = _PointsSource(view, "x", "y", "by")
    first, count = Browser(source), 1
    for _ in range(12):
        messages = [row(chance, 30) for _ in range(chance.choice([1, 5, 40]))]
        server.publish("s.a", *messages)
        count += len(messages)
        until(lambda: len(view.again()) == count)
        source.update()
        if chance.random() < 0.7:
            first.take()
    source.update()
    first.take()
    late = Browser(source)
    late.take()
    assert first.content == late.content
    coloured = {group[1] for group in late.content["groups"] if group}
    assert late.rows == expected(view, coloured)
    assert first.points == len(late.rows)
    sizes = pd.Series([name for *_, name in expected(view, {f"g{i}" for i in range(30)})]).value_counts()
    if len(sizes) > GROUPS:
        left_out = sizes[~sizes.index.isin(coloured)].max()
        assert left_out <= 2 * sizes[sizes.index.isin(coloured)].min() + 5


def test_points_are_bounded(server: NatsServer, client: Client) -> None:
    """Only the newest MOST points are kept, however far behind a browser is. After a purge, only new points
    remain."""
    first, second = ([b'{"x": %d, "y": 1, "by": "a"}' % i for i in range(n)] for n in (MOST - 3, 2 * MOST))
    server.publish("s.a", *first)
    view = view_of(client)
    source = _PointsSource(view, "x", "y", "by")
    source.update()
    browser, behind = Browser(source), Browser(source)
    browser.take()
    behind.take()
    for step in (second[:10], second[10:]):
        server.publish("s.a", *step)
        newest = json.loads(step[-1])["x"]
        until(lambda: view.again().snapshot.numbers("x")[-1] == newest)
        source.update()
        browser.take()
        assert len(browser.content["x"]) == MOST
        assert browser.rows == expected(view, {"a"})
    behind.take()
    assert behind.content == browser.content
    server.run(lambda nc: nc.jetstream().purge_stream("S"))
    server.publish("s.a", b'{"x": 7, "y": 8, "by": "b"}')
    until(lambda: len(view.again()) == 1)
    source.update()
    browser.take()
    assert browser.rows == [(7.0, 8.0, "b")]


def test_one_message_for_all(server: NatsServer, client: Client) -> None:
    """Browsers with the same content get the same bytes, encoded once; without a new row they get none."""
    server.publish("s.a", b'{"x": 1, "y": 2, "by": "a"}')
    view = view_of(client)
    source = _PointsSource(view, "x", "y", "by")
    source.update()
    one, other = source.step(None), source.step(None)
    assert one is not None
    assert other is not None
    assert one[1] is other[1]
    server.publish("s.a", b'{"x": 3, "y": 4, "by": "a"}')
    until(lambda: len(view.again()) == 2)
    source.update()
    next_one, next_other = source.step(one[0]), source.step(other[0])
    assert next_one is not None
    assert next_other is not None
    assert next_one[1] is next_other[1]
    assert json.loads(next_one[1]) == {"x": [3.0], "y": [4.0], "of": [0]}
    source.update()
    assert source.step(next_one[0]) is None


def test_a_group_keeps_its_colour(server: NatsServer, client: Client) -> None:
    """A group keeps its colour until another group is more than twice as large."""
    for i in range(GROUPS):
        server.publish("s.a", *[b'{"x": 1, "y": 1, "by": "g%d"}' % i] * 10)
    view = view_of(client)
    source = _PointsSource(view, "x", "y", "by")
    source.update()
    before = source.now()["groups"]
    assert [group[1] for group in before] == [f"g{i}" for i in range(GROUPS)]
    server.publish("s.a", *[b'{"x": 1, "y": 1, "by": "new"}'] * 20)
    until(lambda: len(view.again()) == 10 * GROUPS + 20)
    assert source.now()["groups"] == before
    server.publish("s.a", *[b'{"x": 1, "y": 1, "by": "new"}'] * 10)
    until(lambda: len(view.again()) == 10 * GROUPS + 30)
    after = source.now()["groups"]
    assert "new" in {group[1] for group in after}
    assert sum(one != other for one, other in zip(before, after, strict=True)) == 1
