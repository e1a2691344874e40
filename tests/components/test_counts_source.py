"""The content that counts() and heatmap() send, checked against pandas with a real nats-server."""

import json
import random
import time
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pytest

from components.charts.counts import _CountsSource
from components.charts.heatmap import _HeatSource
from components.charts.intervals import interval_of
from components.data.live import View, look_at
from components.push.json_element import JsonSource
from nats_client import Client, Settings
from nats_client.errors import DurationError
from tests.nats import NatsServer
from tests.waiting import until

LOOK_BACK = pd.Timedelta("5min")
STEP = 5_000_000_000
NAMES = ["a", "__proto__", "constructor", "<b>x</b>", *(f"v{n}" for n in range(9))]


class Browser:
    """The content that a browser holds of a JSON element."""

    def __init__(self, source: JsonSource) -> None:
        self.source = source
        self.held: Mapping[str, Any] | None = None
        self.content: dict[str, Any] = {}
        self.bytes = 0

    def take(self) -> dict[str, Any]:
        """Update the source, and apply the next message if there is one; return the message."""
        self.source.update()
        found = self.source.step(self.held)
        if found is None:
            return {}
        self.held, message = found
        self.bytes += len(message)
        news: dict[str, Any] = json.loads(message)
        known = {} if news.pop("", False) else self.content
        self.content = {name: value for name, value in {**known, **news}.items() if value is not None}
        return news


def view_of(client: Client, subject: str = "s.>", at: str | None = "at") -> View:
    """A view of the stream S."""
    feed = client.feed("S", subject, look_back=LOOK_BACK, time=at)
    assert feed.wait(20)
    return look_at(feed, LOOK_BACK, steady=False, by_code=False)


def shown(content: Mapping[str, Any]) -> dict[tuple[str, int], int]:
    """The counts by series and interval."""
    names = {int(name[1:]): str(value[0]) for name, value in content.items() if name[0] == "s"}
    return {
        (names.get(place, "others"), int(name[1:])): count
        for name, column in content.items()
        if name[0] == "c"
        for place, count in enumerate(column)
        if count
    }


def expected(view: View, content: Mapping[str, Any], names: set[str]) -> dict[tuple[str, int], int]:
    """The same counts, computed by pandas."""
    rows = view.again().frame(["of"])
    at = pd.DatetimeIndex(rows.index).as_unit("ns").asi8 // STEP
    of = rows["of"].astype(object).where(rows["of"].notna(), "None")
    table = pd.DataFrame({"at": at, "of": [name if name in names else "others" for name in of]})
    table = table[(table["at"] >= content["first"]) & (table["at"] <= content["last"])]
    found = table.groupby(["of", "at"]).size().reset_index(name="count")
    listed = zip(found["of"], found["at"], found["count"], strict=True)
    return {(str(of), int(at)): int(count) for of, at, count in listed}


@pytest.mark.parametrize("seed", range(3))
def test_a_browser_has_the_counts_of_the_rows(client: Client, server: NatsServer, seed: int) -> None:
    """Late rows, rows of the future and rows without a value count in the right place. The busiest series are
    separate and the rest is merged. Later messages contain only changes. Another feed has its own counts."""
    chance = random.Random(seed)
    now = view_of(client).now / 1e9

    def row() -> bytes:
        name = NAMES[int(len(NAMES) * chance.random() ** 2)]
        at = now - chance.choice([0.0, chance.uniform(0, 400), -chance.uniform(0, 40), -1000.0])
        return json.dumps({"at": at} | ({"of": name} if chance.random() < 0.9 else {})).encode()

    server.publish("s.x", *(row() for _ in range(400)))
    view = view_of(client)
    browser, whole = Browser(_CountsSource(view, "of", STEP, 4)), Browser(_CountsSource(view, "of", STEP, 30))
    for _ in range(5):
        sent = browser.bytes
        server.publish("s.x", *(row() for _ in range(chance.randrange(1, 60))))
        server.publish("s.y", b'{"at": %f, "of": "other feed"}' % now)
        until(lambda: _settled(view, server))
        browser.take()
        whole.take()
        names = {str(value[0]) for name, value in browser.content.items() if name[0] == "s"}
        assert len(names) == 4
        assert shown(browser.content) == expected(view, browser.content, names)
        everything = shown(whole.content)
        totals: dict[str, int] = {}
        for (name, _), count in everything.items():
            totals[name] = totals.get(name, 0) + count
        assert whole.content["others"] == [0, 0]
        assert sorted(v[1] for name, v in whole.content.items() if name[0] == "s") == sorted(totals.values())
        fewest = min(count for name, count in totals.items() if name in names)
        assert all(count <= fewest for name, count in totals.items() if name not in names)
        assert browser.content["others"] == [
            len(totals) - 4,
            sum(n for t, n in totals.items() if t not in names),
        ]
    quiet = browser.bytes
    browser.take()
    assert browser.bytes - quiet < 120  # only the time
    assert browser.bytes > sent
    alone = Browser(_CountsSource(view_of(client, "s.y"), "of", STEP, 4))
    alone.take()
    assert [value for name, value in alone.content.items() if name[0] == "s"] == [["other feed", 5]]


def test_a_browser_has_the_distribution(client: Client, server: NatsServer) -> None:
    """Each value, even a late one, is in the range that the browser holds; later messages contain only
    changed intervals. A value far off changes the ranges, and the counts are right again."""
    chance = random.Random(3)
    now = view_of(client).now / 1e9

    def rows(count: int, most: float) -> list[bytes]:
        found = []
        for _ in range(count):
            of = {
                "at": now - chance.uniform(0, 200),
                "n": chance.choice([chance.uniform(0, most), None, 0, -1]),
            }
            found.append(json.dumps(of).encode())
        return found

    server.publish("s.x", *rows(500, 90))
    view = view_of(client)
    until(lambda: _settled(view, server))
    for log in (False, True):
        browser = Browser(_HeatSource(view, "n", STEP, log=log))
        browser.take()
        for most in (90, 1e5):
            server.publish("s.x", *rows(3, most))
            until(lambda: _settled(view, server))
            news = browser.take()
            content = browser.content
            if most == 90 and not log:
                assert sum(name[0] == "c" for name in news) <= 3
            frame = view.again().frame(["n"]).dropna()
            frame = frame.assign(at=pd.DatetimeIndex(frame.index).as_unit("ns").asi8 // STEP)
            lowest, edges = content["rows"]
            assert len(edges) <= 42
            fit = frame[frame["n"] > 0] if log else frame
            assert content["unfit"] == len(frame) - len(fit)
            place = pd.cut(fit["n"], edges, right=False, labels=False) + lowest
            found = fit.assign(place=place).groupby(["at", "place"]).size().reset_index(name="count")
            listed = zip(found["at"], found["place"], found["count"], strict=True)
            assert {(int(at), int(p)): int(count) for at, p, count in listed} == {
                (int(name[1:]), place): count
                for name, column in content.items()
                if name[0] == "c"
                for place, count in zip(column[::2], column[1::2], strict=True)
            }


def test_what_was_dropped_at_a_ceiling_looks_like_no_drop(server: NatsServer) -> None:
    """Intervals that lost rows at a ceiling are not shown."""
    with Client(Settings(url=server.url, feed_rows=1000)) as client:
        view = view_of(client, at=None)
        for _ in range(3):
            server.publish("s.x", *[b"{}"] * 600)
            time.sleep(0.3)
        until(lambda: _settled(view, server))
        step = 20_000_000
        browser = Browser(_CountsSource(view, None, step, 4))
        browser.take()
        health = view.feed.health
        assert health.dropped == 800
        assert browser.content["first"] * step > health.dropped_until
        rows = view.feed.snapshot().time
        expected = int((rows >= browser.content["first"] * step).sum())
        assert sum(sum(each) for name, each in browser.content.items() if name[0] == "c") == expected


def _settled(view: View, server: NatsServer) -> bool:
    state = server.run(lambda nc: nc.jetstream().stream_info("S")).state
    snapshot = view.feed.snapshot()
    return len(snapshot) > 0 and int(snapshot.seq[-1]) == state.last_seq


def test_intervals_are_round_and_bounded() -> None:
    """An interval is round unless the page sets it, and there are never more than a thousand."""
    for text, seconds in (
        ("5m", 5),
        ("10m", 10),
        ("1h", 60),
        ("1D", 900),
        ("7D", 7200),
        ("366D", 345600),
    ):
        assert interval_of(None, pd.Timedelta(text)) == seconds * 10**9
    assert interval_of("1m", pd.Timedelta("1h")) == 60 * 10**9
    assert interval_of("1s", pd.Timedelta("1D")) == 87 * 10**9
    for wrong in ("soon", "0s", ""):
        with pytest.raises(DurationError, match="interval"):
            interval_of(wrong, pd.Timedelta("1h"))
