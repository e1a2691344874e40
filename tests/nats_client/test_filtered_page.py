"""Pages of the stored messages for which an expression is true."""

import json
import time
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from nats_client import Client
from nats_client.errors import LookbackError, SqlError, StreamNotFound
from nats_client.messages import filtered_page as pages
from nats_client.messages import search as searching
from nats_client.messages.filtered_page import FilteredPage
from tests.jetstream import api, messages, publish, stream, worker
from tests.nats import NatsServer, numbered, running_server
from tests.waiting import until

COUNT = 6_000
GONE = [*range(1, 20), *range(2_000, 3_000)]
MALFORMED = {500, 501, 3_333, 5_999}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with a stream in which some messages are deleted and some are not JSON."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.add_stream("S", ["s.>"])
        server.run(fill)
        yield server


async def fill(nc: Any) -> None:
    """Numbered messages, each with its subject and a header."""
    js = nc.jetstream()
    for i in range(1, COUNT + 1):
        payload = b"{" if i in MALFORMED else json.dumps({"n": i, "ok": i % 7 == 0}).encode()
        send = nc.publish if i < COUNT else js.publish
        await send(f"s.{i % 3}.x", payload, headers={"trace": f"t{i % 5}"})
    for seq in GONE:
        await nc.request("$JS.API.STREAM.MSG.DELETE.S", json.dumps({"seq": seq, "no_erase": True}).encode())


HELD = [seq for seq in range(1, COUNT + 1) if seq not in {*GONE, *MALFORMED}]


def ended(page: FilteredPage) -> FilteredPage:
    """Wait until the page is read, and return it."""
    until(lambda: page.status != "under way", 60)
    assert page.error is None
    assert page.progress == 1.0
    return page


def seqs(page: FilteredPage) -> list[int]:
    """The sequences of a page."""
    return [message.seq for message in ended(page).found]


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ("n % 500 = 3", lambda seq: seq % 500 == 3),
        ("n IN (21, 1999, 5998)", lambda seq: seq in (21, 1999, 5998)),
        ("ok AND name = '1' AND trace = 't2'", lambda seq: not seq % 7 and seq % 3 == 1 and seq % 5 == 2),
        ("n < 0", lambda seq: False),
    ],
)
def test_pages_through_the_whole_stream(
    client: Client, monkeypatch: pytest.MonkeyPatch, where: str, wanted: Any
) -> None:
    """Pages back from the newest message, and forward from the first, have each matching message once. They
    cover each sequence once and count each malformed message once, whatever the lengths of the ranges."""
    monkeypatch.setattr(pages, "FIRST_RANGE", 64)
    monkeypatch.setattr(pages, "FEW", 300)
    monkeypatch.setattr(pages, "MANY", 700)
    options: Any = {"subject": "s.{name}.x", "most": 30, "headers": ("trace",)}
    every = [seq for seq in HELD if wanted(seq)]
    backward: list[int] = []
    page = ended(client.filtered_page("S", where, **options))
    malformed, high = page.malformed, page.high
    assert high == COUNT
    while True:
        assert len(page.found) == 30 or not page.older
        backward = seqs(page) + backward
        if not page.older:
            break
        low = page.low
        page = ended(client.filtered_page("S", where, upto=low - 1, **options))
        assert page.high == low - 1
        malformed += page.malformed
    assert (backward, malformed) == (every, len(MALFORMED))
    forward: list[int] = []
    malformed, start = 0, 1
    while True:
        page = ended(client.filtered_page("S", where, start=start, **options))
        assert page.low == max(start, 20)
        forward += seqs(page)
        malformed += page.malformed
        if not page.newer:
            break
        start = page.high + 1
    assert (forward, malformed) == (every, len(MALFORMED))


def test_the_same_rows_as_a_feed(server: NatsServer, client: Client) -> None:
    """A page has the messages of which a feed with the same options keeps a row. The options include a
    decoder with several rows per message, and a time of the rows' own."""
    server.add_stream("K", ["k.>"])
    rows = [{"ts": int(time.time()) - 9 + i, "v": i} for i in range(5)]
    payloads = [msgpack.packb(each) for each in (rows[:2], rows[2:4], rows[4], [], {"v": 3}, "text", b"\xff")]
    publish(server, "k.a", *payloads)
    choices: Any = {"decoder": "msgpack", "time": "ts", "where": "v >= 3 OR v IS NULL"}
    feed = client.feed("K", look_back="P2D", **choices)
    until(lambda: len(feed.frame()) == 2)
    page = client.filtered_page("K", subject=None, **choices)
    assert seqs(page) == sorted(set(feed.frame()["_seq"])) == [2, 3]
    assert page.malformed == feed.health.malformed == 3
    assert page.sample is not None
    assert page.sample.reason == "no valid time in the field 'ts'"


def test_reads_little_more_than_it_must(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page reads little beyond its oldest message, even across a long range of deleted messages. It counts
    malformed messages only from its oldest message on."""
    monkeypatch.setattr(pages, "FIRST_RANGE", 10)
    monkeypatch.setattr(pages, "FEW", 20)
    monkeypatch.setattr(pages, "MANY", 80)
    monkeypatch.setattr(searching, "SLICE", 0.0)
    page = client.filtered_page("S", "n <= 1990", upto=2_999, most=1)
    assert seqs(page) == [1990]
    assert page.scanned < 600
    monkeypatch.setattr(pages, "FIRST_RANGE", 1_000)
    monkeypatch.setattr(pages, "MANY", 1_000)
    page = client.filtered_page("S", "n > 0", upto=600, most=10)
    assert seqs(page) == list(range(591, 601))
    assert (page.malformed, page.sample) == (0, None)


def test_why_nothing_matches(client: Client) -> None:
    """A field that no message has is named, and malformed messages are counted with a sample. An invalid
    expression and a missing stream are errors."""
    page = ended(client.filtered_page("S", "m = 3", upto=600))
    assert page.found == ()
    assert page.notes == ("No message so far has the field 'm'.",)
    assert (page.malformed, page.low, page.high) == (2, 20, 600)
    assert page.sample is not None
    assert page.sample.seq in (500, 501)
    with pytest.raises(SqlError):
        client.filtered_page("S", "n >")
    with pytest.raises(SqlError, match="needs an expression"):
        client.filtered_page("S", " ")
    gone = client.filtered_page("NONE", "n > 1")
    until(lambda: gone.status == "failed")
    assert isinstance(gone.error, StreamNotFound)


def test_stop(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped page keeps its messages and reports the range it covers, and the next page continues there.
    Another viewer's page goes on meanwhile."""
    monkeypatch.setattr(searching, "SLICE", 0.0)
    monkeypatch.setattr(pages, "FIRST_RANGE", 100)
    page, other = (client.filtered_page("S", f"n % 900 = {n}") for n in (1, 2))
    until(lambda: page.status and page.found)
    page.stop()
    until(lambda: page.status == "stopped")
    found = [message.seq for message in page.found]
    assert found
    assert found == [seq for seq in HELD if seq % 900 == 1 and page.low <= seq]
    assert page.older
    rest = client.filtered_page("S", "n % 900 = 1", upto=page.low - 1)
    assert [*seqs(rest), *found] == [seq for seq in HELD if seq % 900 == 1]
    assert seqs(other) == [seq for seq in HELD if seq % 900 == 2]


def test_large_messages(server: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page ends at the limit of bytes in both directions, but has at least one message."""
    server.add_stream("L", ["l.>"])
    publish(server, "l.a", *(json.dumps({"n": n, "text": "x" * 900}).encode() for n in range(1, 31)))
    monkeypatch.setattr(pages, "MOST_BYTES", 4_000)
    page = client.filtered_page("L", "n > 0")
    assert seqs(page) == [27, 28, 29, 30]
    assert (page.low, page.high, page.older, page.newer) == (27, 30, True, False)
    page = client.filtered_page("L", "n > 0", start=3)
    assert seqs(page) == [3, 4, 5, 6]
    assert (page.low, page.high) == (3, 6)
    monkeypatch.setattr(pages, "MOST_BYTES", 10)
    assert seqs(client.filtered_page("L", "n > 0", upto=9)) == [9]
    assert seqs(client.filtered_page("L", "n > 0", start=9)) == [9]


def test_ends_of_a_stream(server: NatsServer, client: Client) -> None:
    """An empty stream, a position after the end and one before the beginning each have an empty page."""
    server.add_stream("E", ["e.>"])
    page = client.filtered_page("E", "n > 0")
    assert seqs(page) == []
    assert not page.older
    assert not page.newer
    assert seqs(client.filtered_page("S", "n > 0", start=COUNT + 10)) == []
    page = client.filtered_page("S", "n > 0", upto=5)
    assert seqs(page) == []
    assert (page.older, page.newer) == (False, True)


def test_a_work_queue_loses_nothing(server: NatsServer, client: Client) -> None:
    """Reading a page of a work queue removes no message from it."""
    stream(server, "W", "w.>", retention="workqueue")
    worker(server, "W")
    publish(server, "w.a", *numbered(30, 1))
    assert seqs(client.filtered_page("W", "n >= 20", most=5)) == [26, 27, 28, 29, 30]
    assert seqs(client.filtered_page("W", "n >= 20", start=1, most=5)) == [20, 21, 22, 23, 24]
    assert messages(server, "W") == 30


def test_recreated_meanwhile(server: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the stream is recreated while a page is read, the page fails and has no messages."""
    monkeypatch.setattr(searching, "SLICE", 0.0)
    monkeypatch.setattr(searching, "AT_ONCE", 1)
    monkeypatch.setattr(searching, "MOST_AT_ONCE", 1)
    monkeypatch.setattr(pages, "FIRST_RANGE", 200)
    monkeypatch.setattr(pages, "FEW", 0)
    server.add_stream("R", ["r.>"])
    publish(server, "r.a", *numbered(3000, 1))
    page = client.filtered_page("R", "n < 0")
    until(lambda: page.status and page.scanned > 300)
    api(server, "STREAM.DELETE.R")
    server.add_stream("R", ["r.>"])
    publish(server, "r.a", *numbered(10, 1))
    until(lambda: page.status == "failed")
    assert isinstance(page.error, LookbackError)
    assert page.found == ()
