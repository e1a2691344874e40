"""The content that tail() sends, checked against pandas with a real nats-server."""

import json
import random
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pytest

from components.data.live import View, look_at
from components.tables.tail import LONGEST, _TailSource
from nats_client import Client, LookbackError
from nats_client.decoding.decoder import LONGEST_TEXT
from tests.nats import NatsServer
from tests.waiting import until

LOOK_BACK = pd.Timedelta("5min")
Entry = list[Any]


class Browser:
    """The content that a browser holds, as in static/live_tail.js."""

    def __init__(self, source: _TailSource) -> None:
        self.source = source
        self.held: Mapping[str, Any] | None = None
        self.content: dict[str, Any] = {}
        self.sent: list[str] = []
        """The names of the lines received, in all messages."""

    def take(self) -> dict[str, Any]:
        """Update the source, and apply the next message; return it."""
        self.source.update()
        found = self.source.step(self.held)
        if found is None:
            return {}
        self.held, message = found
        news: dict[str, Any] = json.loads(message)
        known = {} if news.pop("", False) else self.content
        self.sent += [name for name, value in news.items() if name[0] == "l" and value is not None]
        content = {name: value for name, value in {**known, **news}.items() if value is not None}
        self.content = {
            name: value for name, value in content.items() if name[0] != "l" or name >= content["from"]
        }
        return news

    @property
    def lines(self) -> list[Entry]:
        """The browser's lines, in order."""
        return [self.content[name] for name in sorted(self.content) if name[0] == "l"]


def view_of(client: Client, subject: str = "s.>", time: str | None = None) -> View:
    """A view of the stream S."""
    feed = client.feed("S", subject, look_back=LOOK_BACK, time=time)
    assert feed.wait(20)
    return look_at(feed, LOOK_BACK, steady=False, by_code=False)


def wait_for(server: NatsServer, view: View) -> None:
    """Wait until all messages are in the window."""
    last = server.run(lambda nc: nc.jetstream().stream_info("S")).state.last_seq
    until(lambda: len(view.feed.snapshot()) > 0 and int(view.feed.snapshot().seq[-1]) >= last)


def expected(view: View, most: int) -> list[tuple[int, str, str]]:
    """The newest lines, computed by pandas; of equal times, the later arrivals."""
    rows = view.again().frame(last=most)
    times = pd.DatetimeIndex(rows.index).as_unit("ns").asi8 // 1_000_000
    texts = [
        rows[name].astype(object).where(rows[name].notna(), "") if name in rows else [""] * len(rows)
        for name in ("level", "message")
    ]
    return [(int(time), str(a), str(b)) for time, a, b in zip(times, *texts, strict=True)]


@pytest.mark.parametrize("time", [None, "at"])
def test_each_line_is_sent_once(client: Client, server: NatsServer, time: str | None) -> None:
    """A browser has the newest lines with their exact texts, late lines in their place, and each line is sent
    once. A late line older than all of them is not sent, but all arrivals are counted."""
    chance = random.Random(7)
    now = view_of(client).now / 1e9

    def line() -> bytes:
        of: dict[str, Any] = {
            "at": now - chance.choice([0, chance.uniform(0, 200)]) + chance.random() / 1000,
            "level": chance.choice(["INFO", "err", "<i>", "4"]),
            "message": chance.choice(["  two\n lines ", "<b>x</b> & y", "ü 😀 \u202e", ""])
            + str(chance.random()),
        }
        return json.dumps({n: v for n, v in of.items() if n == "at" or chance.random() < 0.95}).encode()

    server.publish("s.a", *(line() for _ in range(300)))
    view = view_of(client, time=time)
    browser = Browser(_TailSource(view, "message", "level", 40))
    came = 0
    for count in (0, 1, 30, 5, 70, 3):
        server.publish("s.b", *(line() for _ in range(count)))
        wait_for(server, view)
        browser.take()
        came += count
        assert sorted(tuple(each) for each in browser.lines) == sorted(expected(view, 40))
        assert [each[0] for each in browser.lines] == sorted(each[0] for each in browser.lines)
        assert browser.content["came"] == came
    assert len(browser.sent) == len(set(browser.sent))
    if time is None:
        assert len(browser.sent) == 40 + 1 + 30 + 5 + 40 + 3
    assert browser.take() == {}


def test_what_is_deleted_leaves(client: Client, server: NatsServer) -> None:
    """A deleted message removes its line, and no other line is sent again. After a purge there are no
    lines."""
    server.publish("s.a", *(json.dumps({"message": f"line {n}"}).encode() for n in range(5)))
    view = view_of(client)
    browser = Browser(_TailSource(view, "message", "level", 40))
    browser.take()
    server.run(lambda nc: nc.jetstream().delete_msg("S", 3))
    server.publish("s.a", b'{"message": "last"}')
    wait_for(server, view)
    until(lambda: len(view.feed.snapshot()) == 5)
    browser.take()
    assert [each[2] for each in browser.lines] == [f"line {n}" for n in (0, 1, 3, 4)] + ["last"]
    assert len(browser.sent) == 6
    assert browser.content["came"] == 1
    server.run(lambda nc: nc.jetstream().purge_stream("S"))
    until(lambda: not len(view.feed.snapshot()))
    browser.take()
    assert browser.lines == []


def test_long_lines_are_read_whole_on_request(client: Client, server: NatsServer) -> None:
    """Of a long line, the beginning and the length are sent. On request a browser gets all that the row has,
    and the stream and sequence of the message if the row has only a part."""
    long, longer = "x\n" * 1000, "y" * (3 * LONGEST_TEXT)
    server.publish("s.a", *(json.dumps({"message": each}).encode() for each in (long, longer, "short")))
    browser = Browser(_TailSource(view_of(client), "message", "level", 40))
    browser.take()
    assert [each[2:] for each in browser.lines] == [
        [long[:LONGEST], len(long)],
        [longer[:LONGEST], LONGEST_TEXT],
        ["short"],
    ]
    names = sorted(name for name in browser.content if name[0] == "l")
    assert browser.source.answer({"line": names[0]}) == {"text": long}
    found = browser.source.answer({"line": names[1]})
    assert found == {"text": longer[: LONGEST_TEXT - 1] + "…", "stream": "S", "seq": "2"}
    unknown: list[object] = ["l", None, ["x"], {}]
    for each in unknown:
        with pytest.raises(LookbackError, match="has left"):
            browser.source.answer({"line": each})


def test_lines_of_any_kind_of_column(client: Client, server: NatsServer) -> None:
    """Lines may come from columns of numbers and times too, and levels may be numbers. A feed has only its
    own lines."""
    rows = [{"n": 2**60 + 1, "t": "2026-01-01T00:00:00Z", "p": 3}, {"n": 7, "p": 4.5}, {"p": None}]
    server.publish("s.a", *(json.dumps(row).encode() for row in rows))
    server.publish("s.b", b'{"n": 1}')
    view = view_of(client, "s.a")

    def lines(text: str, level: str) -> list[Entry]:
        browser = Browser(_TailSource(view, text, level, 40))
        browser.take()
        return [each[1:] for each in browser.lines]

    assert lines("n", "p") == [["3", str(2**60 + 1)], ["4.5", "7"], ["", ""]]
    assert lines("t", "none") == [["", "2026-01-01T00:00:00+00:00"], ["", ""], ["", ""]]
    assert lines("_subject", "n") == [[str(2**60 + 1), "s.a"], ["7", "s.a"], ["", "s.a"]]
