"""Any message of a stream, by sequence, time or subject, and pages of them in both directions."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nats_client import Client, LookbackError, Settings
from nats_client.errors import MessageNotFound, NotPermitted, StreamNotFound
from nats_client.messages import stored
from nats_client.messages.stored import StoredPage
from nats_client.subjects import matches_any
from tests.jetstream import api, messages, publish, stream, work, worker
from tests.nats import NatsServer, numbered, running_server

COUNT = 3_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with a stream from which many messages are deleted: a long run of them, and others here
    and there."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.add_stream("S", ["s.>"])
        server.run(fill)
        yield server


async def fill(nc: Any) -> None:
    """3,000 messages on three subjects, one of them rare; most of the middle is deleted."""
    js = nc.jetstream()
    for i in range(COUNT):
        name = "s.rare.x" if i in RARE else f"s.often.{i % 3}"
        send = nc.publish if i < COUNT - 1 else js.publish  # once the last one is stored, so are the others
        await send(name, json.dumps({"n": i + 1}).encode())
    for seq in DELETED:
        await nc.request("$JS.API.STREAM.MSG.DELETE.S", json.dumps({"seq": seq, "no_erase": True}).encode())


RARE = {4, 5, 1500, 2990}
DELETED = [*range(700, 1300), *random.Random(5).sample(range(2000, 2900), 200)]
HELD = [seq for seq in range(1, COUNT + 1) if seq not in set(DELETED)]


def subject_of(seq: int) -> str:
    """The subject under which fill() published the message."""
    return "s.rare.x" if seq - 1 in RARE else f"s.often.{(seq - 1) % 3}"


def seqs(page: StoredPage) -> list[int]:
    """The sequences of a page, whose messages are checked for their payloads and subjects."""
    assert all(json.loads(each.payload)["n"] == each.seq for each in page.messages)
    assert all(each.subject == subject_of(each.seq) for each in page.messages)
    return [each.seq for each in page.messages]


@pytest.mark.parametrize("subject", [None, "s.rare.>", "s.*.1", ("s.rare.>", "s.often.2")])
def test_pages_through_the_whole_stream(client: Client, subject: Any) -> None:
    """Pages back from the newest, and forward from the first, have each message that matches once."""
    joined = " ".join(subject) if isinstance(subject, tuple) else subject or ">"
    wanted = [seq for seq in HELD if matches_any(subject_of(seq), joined)]
    back: list[int] = []
    page = client.stored_page("S", subject, most=200)
    while True:
        back = seqs(page) + back
        if not page.older:
            break
        page = client.stored_page("S", subject, upto=page.low - 1, most=200)
    assert back == wanted
    forward: list[int] = []
    page = client.stored_page("S", subject, start=1, most=200)
    while True:
        forward += seqs(page)
        if not page.newer:
            break
        page = client.stored_page("S", subject, start=page.high + 1, most=200)
    assert forward == wanted


@pytest.mark.parametrize("upto", [1, 699, 700, 1000, 1299, 1300, 1505, 2950, 3000, 10**12])
def test_a_page_from_anywhere(client: Client, upto: int) -> None:
    """A page holds the newest messages up to a sequence, or the first ones from it on, even if the message of
    that sequence is deleted."""
    page = client.stored_page("S", upto=upto, most=20)
    assert seqs(page) == [seq for seq in HELD if seq <= upto][-20:]
    page = client.stored_page("S", start=upto, most=20)
    assert seqs(page) == [seq for seq in HELD if seq >= upto][:20]


def test_deleted_messages_cost_few_requests(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page across six hundred deleted messages, or of a rare subject, needs far fewer requests than there
    are messages to skip."""
    with Client(Settings(url=server.url)) as client:
        client.wait(10)
        asked: list[str] = []
        ask = client._connection.api

        async def counted(subject: str, payload: Any = None) -> Any:
            asked.append(subject)
            return await ask(subject, payload)

        monkeypatch.setattr(client._connection, "api", counted)
        assert seqs(client.stored_page("S", upto=1320, most=50)) == [*range(671, 700), *range(1300, 1321)]
        assert len(asked) < 250
        asked.clear()
        assert seqs(client.stored_page("S", "s.rare.>", upto=2980, most=2)) == [6, 1501]
        assert len(asked) < 250


def test_by_time(server: NatsServer, client: Client) -> None:
    """The first message at or after a time is found, also between two messages and beyond the last."""
    page = client.stored_page("S", upto=1500, most=2)
    exact = pd.Timestamp(page.messages[1].stored, tz="UTC").ceil("ms")
    found = client.sequence_at("S", exact.to_pydatetime())
    assert client.stored_message("S", found).stored >= exact.value
    assert client.stored_message("S", found - 1).stored < exact.value
    assert client.sequence_at("S", pd.Timestamp("2001-01-01", tz="UTC").to_pydatetime()) == 1
    assert client.sequence_at("S", pd.Timestamp("2099-01-01", tz="UTC").to_pydatetime()) == COUNT + 1
    with pytest.raises(LookbackError, match="not a time with a time zone"):
        client.sequence_at("S", pd.Timestamp("2026-01-01").to_pydatetime())


def test_beside(client: Client) -> None:
    """The messages before and after one of the same subject are found, however far they are."""
    for seq, beside in {1501: (6, 2991), 5: (None, 6), 2991: (1501, None)}.items():
        assert client.beside("S", client.stored_message("S", seq)) == beside


def test_what_is_not_there(server: NatsServer, client: Client) -> None:
    """The error for a missing message states why it is missing. A missing stream and an invalid sequence are
    errors too."""
    server.add_stream("E", ["e.>"])
    publish(server, "e.a", *numbered(5))
    api(server, "STREAM.PURGE.E", {"seq": 3})
    cases = [
        ("S", 5000, "no message 5,000 yet: its last one is 3,000"),
        ("S", 800, "was deleted or acknowledged"),
        ("E", 1, "it begins at 3"),
    ]
    for name, seq, why in cases:
        with pytest.raises(MessageNotFound, match=why):
            client.stored_message(name, seq)
    api(server, "STREAM.PURGE.E")
    with pytest.raises(MessageNotFound, match="it is empty"):
        client.stored_message("E", 4)
    page = client.stored_page("E")
    assert (page.messages, page.older, page.newer) == ((), False, False)
    with pytest.raises(StreamNotFound):
        client.stored_page("NONE")
    for wrong in (-1, 2**64, True, "5"):
        with pytest.raises(LookbackError, match="is not a sequence"):
            client.stored_message("S", wrong)  # type: ignore[arg-type]


def test_headers(server: NatsServer, client: Client) -> None:
    """Headers keep their order and repeated names, and a payload is as it was sent."""
    server.add_stream("H", ["h.>"])

    async def send(nc: Any) -> None:
        block = b"NATS/1.0\r\nB: 2\r\nA: 1\r\nB: 3\r\nUrl: http://x:1\r\n\r\n"
        nc._transport.write(b"HPUB h.a %d %d\r\n%s\x00\xff\r\n" % (len(block), len(block) + 2, block))
        await nc.flush()

    server.run(send)
    found = client.stored_message("H", 1)
    assert found.headers == (("B", "2"), ("A", "1"), ("B", "3"), ("Url", "http://x:1"))
    assert found.payload == b"\x00\xff"


def test_a_work_queue_loses_nothing(server: NatsServer, client: Client) -> None:
    """Reading pages of a work queue takes no message from its workers. Messages that they have acknowledged
    are no longer there."""
    stream(server, "W", "w.>", retention="workqueue")
    worker(server, "W")
    publish(server, "w.a", *numbered(20, 1))
    assert len(client.stored_page("W").messages) == 20
    assert [json.loads(each)["n"] for each in work(server, "W", 5)] == [1, 2, 3, 4, 5]
    assert messages(server, "W") == 15
    assert [each.seq for each in client.stored_page("W", upto=8).messages] == [6, 7, 8]
    assert len(work(server, "W", 15)) == 15


def test_purged_and_recreated_meanwhile(server: NatsServer, client: Client) -> None:
    """A page of messages that were purged is empty, and reports that there are newer ones. A recreated stream
    is recognised by its time of creation."""
    server.add_stream("P", ["p.>"])
    publish(server, "p.a", *numbered(30, 1))
    page = client.stored_page("P", most=10)
    api(server, "STREAM.PURGE.P", {"seq": 25})
    after = client.stored_page("P", upto=page.low - 1, most=10)
    assert (after.messages, after.older, after.newer) == ((), False, True)
    assert after.held.created == page.held.created
    api(server, "STREAM.DELETE.P")
    server.add_stream("P", ["p.>"])
    assert client.stored_page("P", upto=20).held.created != page.held.created


def test_large_messages_end_a_page(
    server: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page ends early once it has some megabytes. The next one continues there, and all pages together have
    every message once."""
    monkeypatch.setattr(stored, "MOST_BYTES", 100_000)
    server.add_stream("L", ["l.>"])
    for i in range(40):
        publish(server, "l.a", b"x" * (30_000 if i % 10 == 3 else 10))
    found: list[int] = []
    page = client.stored_page("L", most=40)
    while True:
        assert sum(len(each.payload) for each in page.messages) < 300_000
        found = [each.seq for each in page.messages] + found
        if not page.older:
            break
        page = client.stored_page("L", upto=page.low - 1, most=40)
    assert found == list(range(1, 41))


def test_eight_megabytes(tmp_path: Path) -> None:
    """A message of 8 MB is read whole, and paging continues beyond it."""
    with running_server(tmp_path, "max_payload: 8MB\nmax_pending: 64MB") as server:
        server.add_stream("S", ["s.>"])
        for payload in (b"a", b"x" * 8_000_000, b"b", b"y" * 8_000_000, b"c"):
            publish(server, "s.a", payload)
        with Client(Settings(url=server.url)) as client:
            assert len(client.stored_message("S", 2).payload) == 8_000_000
            page = client.stored_page("S", most=50)
            found = [each.seq for each in page.messages]
            while page.older:
                page = client.stored_page("S", upto=page.low - 1)
                found = [each.seq for each in page.messages] + found
            assert found == [1, 2, 3, 4, 5]


def test_not_permitted(tmp_path: Path) -> None:
    """A login that may not read by sequence gets an error that names the stream and the subject."""
    store = f'jetstream {{ store_dir: "{tmp_path}" }}\n'
    users = """
    accounts { A: { jetstream: enabled, users: [
      {user: all, password: all},
      {user: some, password: some, permissions: {publish: {deny: "$JS.API.STREAM.MSG.GET.>"}}}
    ] } }
    """
    with running_server(tmp_path, f"{store}{users}no_auth_user: all") as server:
        server.add_stream("S", ["s.>"])
        publish(server, "s.a", b"{}")
        with Client(Settings(url=server.url, user="some", password="some")) as client:
            for read in (lambda: client.stored_page("S"), lambda: client.stored_message("S", 1)):
                with pytest.raises(NotPermitted, match=r"'S' can only be read by sequence.*MSG\.GET"):
                    read()
