"""The messages behind a point: the right rows, and their messages as stored in the stream, or the reason why
not."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from components.data.behind import LONGEST, MOST, Behind, _content
from nats_client import Client, Feed, LookbackError, NamedFeed, Settings, Snapshot
from nats_client.errors import NotPermitted
from nats_client.results.given_rows import GivenRows
from nats_client.series.point_rows import rows_at, rows_of_point
from tests.nats import NatsServer, running_server
from tests.waiting import until

LOGINS = """authorization { users: [
  { user: "all", password: "a" },
  { user: "some", password: "b", permissions: { publish: { deny: "$JS.API.STREAM.MSG.GET.>" } } }
] }
no_auth_user: "all"
"""
MARKUP = "<img src=x onerror=hacked()>"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with a login that may not read single messages."""
    with running_server(tmp_path_factory.mktemp("nats"), LOGINS) as server:
        yield server


@pytest.fixture
def client(server: NatsServer) -> Iterator[Client]:
    """A client with all permissions."""
    with Client(Settings(url=server.url)) as client:
        yield client


def read(client: Client, stream: str, rows: int, **how: Any) -> Feed | NamedFeed:
    """A feed with this many rows."""
    feed = client.feed(stream, look_back="PT5M", **how)
    until(lambda: len(feed.snapshot()) == rows)
    return feed


def point(
    feed: Feed | NamedFeed, fields: tuple[str, ...], color: str | None, series: str | None, most: int = 20
) -> tuple[Snapshot, Any]:
    """The rows of a series in the whole look-back."""
    rows = feed.snapshot()
    bins = feed.bins(fields, color, feed.look_back, most)
    bins.update(rows, feed.now())
    start = int(rows.time.min())
    return rows_of_point(rows, bins, series, start, int(rows.time.max()) + 1)


def test_the_rows_of_a_series(server: NatsServer, client: Client) -> None:
    """The rows of each series equal those that pandas selects, for one field and for several, and for the
    merged series. The end of the time range is excluded, and late rows count at their own time."""
    server.add_stream("ROWS", ["rows.>"])
    chance = np.random.default_rng(18)
    now = pd.Timestamp.now("UTC")
    said = [
        {"t": (now - timedelta(seconds=float(chance.uniform(0, 60)))).isoformat(), "n": i, "by": f"k{i % 7}"}
        | ({"m": -i} if i % 3 else {})
        for i in range(200)
    ]
    server.publish("rows.a", *(json.dumps(each).encode() for each in said))
    feed = read(client, "ROWS", 200, time="t")
    table = feed.frame()
    for k in range(7):
        rows, values = point(feed, ("n",), "by", f"k{k}")
        expected = table[table["by"] == f"k{k}"]
        assert sorted(rows.seq.tolist()) == sorted(expected["_seq"])
        assert sorted(values.tolist()) == sorted(expected["n"])
        rows, values = point(feed, ("n", "m"), "by", f"k{k} m")
        assert sorted(values.tolist()) == sorted(expected["m"].dropna())
    rows, _ = point(feed, ("n",), "by", None, most=3)
    bins = feed.bins(("n",), "by", feed.look_back, 3)
    assert sorted(rows.seq.tolist()) == sorted(table[~table["by"].isin(bins.names)]["_seq"])
    assert len(rows) > 100
    rows, _ = point(feed, ("n",), None, "n")
    assert len(rows) == 200
    assert len(point(feed, ("n",), "by", "unknown")[0]) == 0
    snapshot = feed.snapshot()
    bins = feed.bins(("n",), None, feed.look_back, 20)
    bins.update(snapshot, feed.now())
    start, end = np.sort(snapshot.time)[[50, 60]].tolist()
    rows, _ = rows_of_point(snapshot, bins, "n", start, end)
    assert sorted(rows.time.tolist()) == np.sort(snapshot.time)[50:60].tolist()
    assert len(rows_of_point(snapshot, bins, "n", 0, 1)[0]) == 0
    assert [len(rows_at(snapshot, "n", "by", k, int(snapshot.time[0]))) for k in ("k0", "k1")] == [1, 0]
    assert len(rows_at(snapshot, "m", "by", "k0", int(snapshot.time[0]))) == 0  # this row has no m


def test_messages(server: NatsServer, client: Client) -> None:
    """The messages are those of the stream, ordered by time. Of many, the least, the greatest and the newest
    are returned. A long payload is cut."""
    server.add_stream("MESSAGES", ["messages.>"])

    async def say(nc: Any) -> None:
        js = nc.jetstream()
        for n in [5, 9, 1, 5, 5, 5, 5, 5]:
            await js.publish("messages.a", json.dumps({"n": n, "é": MARKUP}).encode(), headers={"h": MARKUP})
        await js.publish("messages.long", json.dumps({"n": 3, "s": "é" * 100_000}).encode())

    server.run(say)
    feed = read(client, "MESSAGES", 9)
    found = Behind(feed, client).messages(*point(feed, ("n",), "_subject", "messages.a"))
    assert found["count"] == 8
    messages = found["messages"]
    assert [int(each["seq"]) for each in messages] == [2, 3, 6, 7, 8]
    assert len(messages) == MOST
    assert json.loads(messages[0]["payload"]) == {"n": 9, "é": MARKUP}
    assert messages[0]["headers"] == [["h", MARKUP]]
    assert (messages[0]["kind"], messages[0]["cut"], messages[0]["size"]) == ("text", False, "50 B")
    rows, _ = point(feed, ("n",), "_subject", "messages.long")
    (long,) = Behind(feed, client).messages(rows)["messages"]
    assert long["payload"] == ('{"n": 3, "s": "' + "\\u00e9" * 100_000)[:LONGEST]
    assert (long["cut"], long["size"]) == (True, "600 kB")
    assert long["stored"] == int(rows.received[0]) // 1_000_000


@pytest.mark.parametrize(
    ("payload", "kind", "begins"),
    [
        (b"\xff\x00\xfe", "hex", "ff 00 fe"),
        (b"a" * 15_999 + "é".encode() * 9, "text", "aaa"),
        (b"\xff" * 50_000, "hex", "ff ff"),
        ("é".encode() * 50_000, "text", "éé"),
        (b"[" * 3000, "text", "[[["),
        (b"", "text", ""),
    ],
)
def test_any_payload(payload: bytes, kind: str, begins: str) -> None:
    """Any payload is shown, as text or in hex, and is cut at the limit."""
    found = _content(payload, ())
    assert found["kind"] == kind
    assert found["payload"].startswith(begins)
    assert len(found["payload"]) <= LONGEST
    assert found["cut"] == (len(payload) > LONGEST)


def test_what_the_stream_has_lost(server: NatsServer, client: Client) -> None:
    """A message that has left the stream, or whose sequence belongs to another message of a recreated stream,
    is reported as gone: its sequence stays, and there is no payload."""
    server.add_stream("LOST", ["lost.>"])
    server.publish("lost.a", b'{"n": 1}', b'{"n": 2}')
    feed = read(client, "LOST", 2)
    rows = feed.snapshot()
    server.run(lambda nc: nc.jetstream().delete_msg("LOST", 1))
    gone, there = Behind(feed, client).messages(rows)["messages"]
    assert gone["seq"] == "1"
    assert "payload" not in gone
    assert "1" in gone["gone"]
    assert json.loads(there["payload"]) == {"n": 2}
    server.run(lambda nc: nc.jetstream().delete_stream("LOST"))
    server.add_stream("LOST", ["lost.>"])
    server.publish("lost.a", b'{"n": "another"}', b'{"n": "another"}')
    for each in Behind(feed, client).messages(rows)["messages"]:
        assert "recreated" in each["gone"]
        assert "payload" not in each


def test_without_the_right(server: NatsServer, client: Client) -> None:
    """A login that may not read single messages gets an error and no message."""
    server.add_stream("RIGHTS", ["rights.>"])
    server.publish("rights.a", b'{"n": 1}')
    rows = read(client, "RIGHTS", 1).snapshot()
    with Client(Settings(url=server.url, user="some", password="b")) as other:
        feed = read(other, "RIGHTS", 1)
        with pytest.raises(NotPermitted, match="RIGHTS"):
            Behind(feed, other).messages(rows)


def test_rows_that_are_no_messages(client: Client) -> None:
    """Rows of a page's own table, of SQL and of plain subjects have no stored message; the error says why."""
    with pytest.raises(LookbackError, match="table of the page's own"):
        Behind(GivenRows("x"), None).check()
    feed = client.feed(None, "plain.>")
    with pytest.raises(LookbackError, match="not stored"):
        Behind(feed, client).check()
    with pytest.raises(LookbackError, match="SQL"):
        Behind(feed, None).check()
