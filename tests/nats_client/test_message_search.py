"""Text search over a stretch of a stream."""

import gzip
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pandas as pd
import pytest

from nats_client import Client, LookbackError, Settings
from nats_client.errors import NotPermitted, SqlError, StreamNotFound
from nats_client.messages import search as searching
from nats_client.messages.search import Search
from tests.jetstream import api, messages, publish, stream, worker
from tests.nats import NatsServer, numbered, running_server
from tests.waiting import until

COUNT = 20_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with a long stream S, and one of several formats."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.add_stream("S", ["s.>"])
        server.add_stream("F", ["f.>"])
        server.run(fill)
        publish(server, "f.json", '{"name": "Zoë"}'.encode(), json.dumps({"name": "Zoë"}).encode())
        publish(server, "f.msgpack", msgpack.packb({"name": "Zoë", "bin": b"\xff"}))
        publish(server, "f.gzip", gzip.compress('{"name": "ZOË"}'.encode()))
        publish(server, "f.header", b"{}", who="Zoë")
        publish(server, "f.zoë", b"{}")
        publish(server, "f.bytes", b"\xff\xfe Zo")
        publish(server, "f.other", b'{"name": "Zo"}')
        yield server


async def fill(nc: Any) -> None:
    """20,000 messages, of which every thousandth has the text."""
    js = nc.jetstream()
    for i in range(1, COUNT + 1):
        text = "a Needle in it" if i % 1000 == 0 else "hay"
        send = nc.publish if i < COUNT else js.publish
        await send(f"s.{i % 2}.x", json.dumps({"n": i, "text": text}).encode())


def ended(search: Search) -> list[int]:
    """Wait until a search has ended; return the sequences it has found."""
    until(lambda: search.status != "under way", 60)
    assert search.error is None
    return [message.seq for message in search.found]


def test_finds_each_once(client: Client) -> None:
    """Each message with the text is found once, in order, whatever the text's case, and all messages are
    scanned."""
    search = client.search("S", "nEEDLE")
    assert ended(search) == list(range(1000, COUNT + 1, 1000))
    assert (search.status, search.progress, search.scanned) == ("done", 1.0, COUNT)
    assert ended(client.search("S", "needle", "s.1.>")) == []
    assert ended(client.search("S", "needle", ["s.0.x", "s.1.x"])) == list(range(1000, COUNT + 1, 1000))


def test_a_stretch(client: Client) -> None:
    """A search from one time to another finds the messages of that stretch, without its end."""
    moments = {seq: pd.Timestamp(client.stored_message("S", seq).stored, tz="UTC") for seq in (4000, 9000)}
    start, end = (moment.floor("ms") for moment in moments.values())
    found = ended(client.search("S", "needle", start=start.to_pydatetime(), end=end.to_pydatetime()))
    assert found[0] == 4000
    assert found[-1] == 8000
    future = pd.Timestamp("2099-01-01", tz="UTC").to_pydatetime()
    assert ended(client.search("S", "needle", start=future)) == []


def test_with_a_filter(client: Client) -> None:
    """With an expression as in `where`, a message must match both the text and the expression. An expression
    alone is a search as well."""
    assert ended(client.search("S", "needle", where="n > 18000")) == [19000, 20000]
    assert ended(client.search("S", "", where="n BETWEEN 7 AND 9")) == [7, 8, 9]
    assert ended(client.search("S", "needle", "s.{a}.x", where="a = '1'")) == []
    with pytest.raises(SqlError):
        client.search("S", "x", where="n >")


@pytest.mark.parametrize("decoder", ["json", "auto"])
def test_formats(client: Client, decoder: str) -> None:
    """Text is found in subjects, in headers and in payloads of any format, even if they are compressed or
    escape the text."""
    found = {message.subject for message in search_of(client, decoder).found}
    assert found == {"f.json", "f.msgpack", "f.gzip", "f.header", "f.zoë"}
    assert len(search_of(client, decoder).found) == 6


def search_of(client: Client, decoder: str) -> Search:
    """A search in the stream of several formats, after it has ended."""
    search = client.search("F", "zoë", decoder=decoder)
    ended(search)
    return search


def test_stop(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped search ends and keeps the messages it has found; another search goes on meanwhile."""
    monkeypatch.setattr(searching, "SLICE", 0.0)
    search, other = client.search("S", "needle"), client.search("S", "needle")
    until(lambda: search.status and len(search.found) >= 2)
    search.stop()
    found = ended(search)
    assert search.status == "stopped"
    assert search.scanned < COUNT
    assert found == list(range(1000, COUNT + 1, 1000))[: len(found)]
    assert ended(other) == list(range(1000, COUNT + 1, 1000))
    assert api_consumers(client) == 0


def api_consumers(client: Client) -> int:
    """The number of consumers once those of the searches are gone."""
    until(lambda: not client._searches)
    until(lambda: not client.consumers().consumers)
    return len(client.consumers().consumers)


def test_wait(client: Client) -> None:
    """wait() returns at the end of the search, or after its timeout."""
    search = client.search("S", "needle")
    assert search.wait(60)
    assert search.status == "done"
    assert not Search(client._connection, search.wanted).wait(0.01)


def test_left(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search without a reader ends by itself."""
    monkeypatch.setattr(searching, "SLICE", 0.0)
    monkeypatch.setattr(searching, "UNWATCHED", 0.0)
    search = client.search("S", "needle")
    until(lambda: not client._searches)
    assert search.status == "left"
    assert search.scanned < COUNT


def test_full(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search ends once it has found enough, in messages or bytes, and reports the sequence up to which it
    has scanned."""
    monkeypatch.setattr(searching, "MOST_FOUND", 5)
    search = client.search("S", "needle")
    assert ended(search) == [1000, 2000, 3000, 4000, 5000]
    assert (search.status, search.scanned_to) == ("full", 5999)
    monkeypatch.setattr(searching, "MOST_BYTES", 100)
    search = client.search("S", "needle")
    assert len(ended(search)) == 2
    assert search.status == "full"


def test_a_work_queue_loses_nothing(server: NatsServer, client: Client) -> None:
    """Searching a work queue removes no message from it."""
    stream(server, "W", "w.>", retention="workqueue")
    worker(server, "W")
    publish(server, "w.a", *numbered(30, 1))
    assert ended(client.search("W", '"n": 2')) == [2, *range(20, 30)]
    assert messages(server, "W") == 30


def test_what_cannot_be_searched(server: NatsServer, client: Client) -> None:
    """An empty or overlong text and a stream that does not exist are errors. A search in an empty stream
    finds nothing."""
    for wrong in ("", "x" * 2000):
        with pytest.raises(LookbackError, match="Search for a text of 1 to 1,000"):
            client.search("S", wrong)
    search = client.search("NONE", "x")
    until(lambda: search.status == "failed")
    assert isinstance(search.error, StreamNotFound)
    server.add_stream("E", ["e.>"])
    assert ended(client.search("E", "x")) == []


def test_too_many_searches(server: NatsServer, client: Client) -> None:
    """While 20 searches wait for a frozen server, another is an error. They all end once the server is back,
    and then there may be more."""
    server.signal(signal.SIGSTOP)
    try:
        searches = [client.search("S", "needle") for _ in range(20)]
        with pytest.raises(LookbackError, match="20 searches are under way"):
            client.search("S", "needle")
    finally:
        server.signal(signal.SIGCONT)
    until(lambda: {search.status for search in searches} == {"done"}, 60)
    found = [ended(search) for search in [*searches, client.search("S", "needle")]]
    assert found == [[*range(1000, COUNT + 1, 1000)]] * 21


def test_not_permitted(tmp_path: Path) -> None:
    """If the login may not create a consumer, the search fails with NotPermitted."""
    store = f'jetstream {{ store_dir: "{tmp_path}" }}\n'
    users = """
    accounts { A: { jetstream: enabled, users: [
      {user: all, password: all},
      {user: some, password: some, permissions: {publish: {deny: "$JS.API.CONSUMER.CREATE.>"}}}
    ] } }
    """
    with running_server(tmp_path, f"{store}{users}no_auth_user: all") as server:
        server.add_stream("S", ["s.>"])
        publish(server, "s.a", b"{}")
        with Client(Settings(url=server.url, user="some", password="some")) as client:
            search = client.search("S", "x")
            until(lambda: search.status == "failed")
            assert isinstance(search.error, NotPermitted)


def test_recreated_meanwhile(server: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search of a stream that is recreated meanwhile has messages of only one of the two streams."""
    monkeypatch.setattr(searching, "SLICE", 0.0)
    monkeypatch.setattr(searching, "AT_ONCE", 1)
    server.add_stream("R", ["r.>"])

    async def send(nc: Any) -> None:
        for i in range(5000):
            await (nc.publish if i < 4999 else nc.jetstream().publish)("r.a", b"old" if i % 100 == 0 else b"")

    server.run(send)
    search = client.search("R", "o")
    until(lambda: search.status and len(search.found) > 2)
    api(server, "STREAM.DELETE.R")
    server.add_stream("R", ["r.>"])
    publish(server, "r.a", *[b"not so much"] * 10)
    ended(search)
    assert {message.payload for message in search.found} in ({b"old"}, {b"not so much"})
