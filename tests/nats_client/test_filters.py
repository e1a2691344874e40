"""Feeds with `where` and `columns` against a real nats-server: the rows are those of the stream that
match."""

import contextlib
import json
import threading
import time
from functools import partial
from typing import Any

import nats.js.errors
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nats_client import Client, Feed, NamedFeed, Settings
from nats_client.errors import SqlError
from nats_client.feeds import intake
from tests.jetstream import publish, stream, worker
from tests.nats import NatsServer
from tests.publisher import Publisher
from tests.waiting import until

WHERE = "level = 'error' AND ms > 100"


def lines(count: int, first: int = 0) -> list[bytes]:
    """Log lines: every third is an error, and `ms` runs from 0 to 180 over every ten lines."""
    return [
        json.dumps({"level": ["error", "info", "debug"][i % 3], "ms": 20 * (i % 10), "w": i}).encode()
        for i in range(first, first + count)
    ]


def matching(count: int, first: int = 0) -> list[int]:
    """The `w` of the lines that match WHERE."""
    return [i for i in range(first, first + count) if i % 3 == 0 and 20 * (i % 10) > 100]


def written(feed: Feed | NamedFeed) -> list[int]:
    """The `w` of the feed's rows."""
    rows = feed.snapshot()
    return [int(w) for w in rows.numbers("w")] if "w" in rows.columns else []


def removed(feed: Feed | NamedFeed) -> list[int | None]:
    """The counts of the feed's gaps."""
    return [gap.count for gap in feed.health.gaps]


def test_replay_and_follow(server: NatsServer, client: Client) -> None:
    """The window has the matching rows of stored and new messages, with computed columns. Messages that do
    not match are counted as read, and are not a gap."""
    server.publish("s.a", *lines(300))
    feed = client.feed("S", look_back="PT1H", where=WHERE, columns={"kw": "w / 1000"})
    assert feed.wait(30)
    assert written(feed) == matching(300)
    server.publish("s.b", *lines(60, 300))
    until(lambda: written(feed) == matching(360))
    assert feed.snapshot().numbers("kw").tolist() == [w / 1000 for w in matching(360)]
    assert feed.frame().columns.tolist() == ["_subject", "_seq", "kw", "level", "ms", "w"]
    until(lambda: feed.health.read == 360)  # the last ones do not match
    health = feed.health
    assert (health.malformed, health.gaps, health.doubts) == (0, (), ())
    assert health.where == WHERE
    assert [json.loads(message.payload)["w"] for message in feed.newest()] == matching(360)[:-21:-1]


def test_two_filters_on_one_stream(server: NatsServer, client: Client) -> None:
    """Feeds of one stream with different expressions each have their own rows, beside a feed without one. The
    same expression gives the same feed."""
    server.publish("s.a", *lines(100))
    errors = client.feed("S", look_back="PT1H", where="level = 'error'")
    slow = client.feed("S", look_back="PT1H", where=" ms > 100 ")
    every = client.feed("S", look_back="PT1H")
    assert client.feed("S", where="ms > 100") is slow
    for feed in (errors, slow, every):
        assert feed.wait(30)
    server.publish("s.a", *lines(50, 100))
    until(lambda: len(written(every)) == 150)
    until(lambda: written(errors) == [i for i in range(150) if i % 3 == 0])
    until(lambda: written(slow) == [i for i in range(150) if 20 * (i % 10) > 100])
    assert errors.health.name == "S where level = 'error'"


def test_names_of_tokens(server: NatsServer, client: Client) -> None:
    """An expression may name tokens. Readers with other token names get another feed only if the expression
    uses one."""
    for host in "ab":
        server.publish(f"s.{host}", *lines(10))
    one = client.feed("S", "s.{host}", look_back="PT1H", where="host = 'a' AND w > 4")
    other = client.feed("S", "s.{name}", look_back="PT1H", where="w > 4")
    same = client.feed("S", "s.*", look_back="PT1H", where="w > 4")
    assert one.wait(30)
    assert other.wait(30)
    assert written(one) == [5, 6, 7, 8, 9]
    assert one.snapshot().frame()["host"].unique().tolist() == ["a"]
    assert len(written(other)) == 10
    assert isinstance(other, NamedFeed)
    assert other.window is same.window
    assert len(client.feeds()) == 2
    with pytest.raises(SqlError, match="token"):
        client.feed("S", "s.{host}", columns={"host": "w"})


def test_mistakes_open_nothing(server: NatsServer, client: Client) -> None:
    """Wrong SQL is reported, and no feed is opened."""
    for where, said in (
        ("level == = 'x'", "column"),
        ("count(*) > 1", "aggregate"),
        ("now() > _time", "now"),
    ):
        with pytest.raises(SqlError, match=said):
            client.feed("S", where=where)
    with pytest.raises(SqlError, match="column 'kw'"):
        client.feed("S", columns={"kw": "w /"})
    assert not client.feeds()


def test_fields_that_come_later(server: NatsServer, client: Client) -> None:
    """A field that no message has had is reported, with the most similar name. Once a message has the field,
    the filter uses it, and the report is gone."""
    server.publish("s.a", *lines(3))
    feed = client.feed("S", look_back="PT1H", where="levl = 'error'")
    assert feed.wait(30)
    assert not len(feed.snapshot())
    (doubt,) = feed.health.doubts
    assert doubt == "No message so far has the field 'levl'. Did you mean 'level'?"
    server.publish("s.a", b'{"levl": "error", "w": 7}')
    until(lambda: written(feed) == [7])
    assert feed.health.doubts == ()


def test_purge_and_deletion(server: NatsServer, client: Client) -> None:
    """Rows of purged and deleted messages leave the window and count as a gap; messages that did not match do
    not count."""
    server.publish("s.a", *lines(100))
    feed = client.feed("S", look_back="PT1H", where=WHERE)
    assert feed.wait(30)
    server.run(lambda nc: nc.jetstream().delete_msg("S", 2))  # not a row
    server.run(lambda nc: nc.jetstream().delete_msg("S", matching(100)[-1] + 1))
    until(lambda: written(feed) == matching(100)[:-1])
    assert removed(feed) == [1]
    server.run(lambda nc: nc.jetstream().purge_stream("S", keep=50))
    until(lambda: written(feed) == [w for w in matching(100)[:-1] if w >= 49])
    assert sum(count or 0 for count in removed(feed)) == 1 + len([w for w in matching(100)[:-1] if w < 49])
    assert feed.health.read <= 52
    server.publish("s.a", *lines(30, 100))
    until(lambda: written(feed)[-1] == matching(30, 100)[-1])


def test_recreated_stream(server: NatsServer, client: Client) -> None:
    """If the stream is recreated, the rows and the count of messages read start over."""
    server.publish("s.a", *lines(100))
    feed = client.feed("S", look_back="PT1H", where=WHERE)
    assert feed.wait(30)
    server.run(lambda nc: nc.jetstream().delete_stream("S"))
    server.add_stream("S", ["s.>"])
    server.publish("s.a", *lines(40))
    until(lambda: feed.health.recreated == 1 and written(feed) == matching(40))
    until(lambda: feed.health.read == 40)


def test_longer_look_back(server: NatsServer, client: Client) -> None:
    """A longer look-back fetches the older matching rows, even if the window held none, and counts each
    message once."""
    server.publish("s.a", *lines(90))
    time.sleep(2.2)
    server.publish("s.a", b'{"level": "info", "ms": 1, "w": -1}')
    feed = client.feed("S", look_back="PT2S", where=WHERE)
    assert feed.wait(30)
    assert written(feed) == []
    client.feed("S", look_back="PT1H", where=WHERE)
    server.publish("s.a", *lines(30, 90))
    until(lambda: written(feed) == matching(120))
    assert feed.wait(30)
    until(lambda: feed.health.read == 121)


def test_killed_server(server: NatsServer, client: Client) -> None:
    """If the server is killed, no row is lost, and no message is counted twice."""
    with Publisher([server.url]) as publisher:
        feed = client.feed("S", look_back="PT1H", where="n % 7 = 0")
        until(lambda: len(feed.window) > 10)
        server.kill()
        until(lambda: feed.health.phase == "reconnecting")
        server.start()
        count = publisher.count
        until(lambda: publisher.count > count + 50)
    right = [n for n in range(publisher.count) if n % 7 == 0]
    until(lambda: feed.snapshot().numbers("n").tolist() == right)
    until(lambda: feed.health.read == publisher.count)


def test_malformed_messages(server: NatsServer, client: Client) -> None:
    """A message that cannot be decoded is counted and sampled as without `where`, because it might have
    matched."""
    server.publish("s.a", b"{", *lines(30), b"nonsense")
    feed = client.feed("S", look_back="PT1H", where=WHERE)
    assert feed.wait(30)
    assert written(feed) == matching(30)
    assert feed.health.malformed == 2
    assert b"nonsense" in [message.payload for message in feed.newest()]


def test_expiry_by_a_header_is_no_gap(server: NatsServer, client: Client) -> None:
    """A row whose message expires by its Nats-TTL leaves the window without a gap. So does a row that a
    roll-up replaces, even if the roll-up itself does not match."""
    stream(server, "T", "t.>", allow_msg_ttl=True, allow_rollup_hdrs=True)
    publish(server, "t.a", *lines(9), Nats_TTL="2s")
    publish(server, "t.b", b'{"level": "error", "ms": 500, "w": 100}')
    feed = client.feed("T", look_back="PT1H", where="level = 'error'")
    assert feed.wait(30)
    until(lambda: written(feed) == [100])
    publish(server, "t.b", b'{"level": "info"}', Nats_Rollup="sub")
    until(lambda: written(feed) == [])
    assert feed.health.gaps == ()


def test_read_by_sequence(server: NatsServer, client: Client) -> None:
    """A feed of a work queue, which is read by sequence, has the rows that match."""
    stream(server, "W", "w.>", retention="workqueue")
    worker(server, "W")
    publish(server, "w.a", *lines(60))
    feed = client.feed("W", look_back="PT1H", where=WHERE)
    assert feed.wait(30)
    until(lambda: written(feed) == matching(60))
    publish(server, "w.a", *lines(30, 60))
    until(lambda: written(feed) == matching(90))
    assert feed.health.by_sequence is not None


def test_plain_subjects(server: NatsServer, client: Client) -> None:
    """A feed of plain subjects has the rows that match."""
    feed = client.feed(None, "plain.>", where=WHERE)
    until(lambda: feed.health.phase == "following")

    async def send(nc: Any) -> None:
        for line in lines(60):
            await nc.publish("plain.a", line)
        await nc.flush()

    server.run(send)
    until(lambda: written(feed) == matching(60))
    until(lambda: feed.health.read == 60)


def test_shared_consumer(server: NatsServer, client: Client) -> None:
    """Feeds that share a consumer have their own rows, by their own expressions."""
    names = "abcdefghij"
    feeds = {
        name: client.feed("S", f"s.{name}", look_back="PT1H", where=f"w % {i + 1} = 0")
        for i, name in enumerate(names)
    }
    for name in names:
        server.publish(f"s.{name}", *lines(20))
    shared = [feed for feed in feeds.values() if isinstance(feed, Feed)]
    until(lambda: all("shared" in str(feed.events) for feed in shared), 60)
    for name in names:
        server.publish(f"s.{name}", *lines(20, 20))
    right = [[w for w in range(40) if w % (i + 1) == 0] for i in range(len(names))]
    until(lambda: [written(feed) for feed in feeds.values()] == right)


HEAVY = "levenshtein(text, reverse(text)) >= 0"
"""An expression that takes milliseconds for each message with a long text."""


def heavy(count: int) -> list[bytes]:
    """Messages with long texts."""
    return [json.dumps({"text": f"{i} " + "abcdefgh" * 450, "w": i}).encode() for i in range(count)]


def test_an_expression_that_takes_too_long(
    server: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An expression that takes too long stops its feed, which reports the reason and retries later. Another
    feed of the stream is not affected."""
    monkeypatch.setattr(intake, "LONGEST_WORK", 0.1)
    server.publish("s.a", *heavy(400))
    feed = client.feed("S", look_back="PT1H", where=HEAVY)
    until(lambda: feed.health.phase == "stopped")
    assert "were stopped: they took more than 0.1 s" in str(feed.health.why)
    assert written(feed) == []
    other = client.feed("S", look_back="PT1H", where="w < 10")
    assert other.wait(30)
    assert written(other) == list(range(10))


def test_a_busy_neighbour(server: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one feed computes an expensive expression, other feeds are replayed and catch up first."""
    monkeypatch.setattr(intake, "LONGEST_WORK", 600)
    server.add_stream("BUSY", ["busy.>"])
    server.add_stream("HEAVY", ["heavy.>"])

    async def send(nc: Any) -> None:
        for line in lines(20_000):
            await nc.publish("busy.a", line)
        await nc.flush()

    server.run(send)
    server.publish("heavy.a", *heavy(1000))
    slow = client.feed("HEAVY", look_back="PT1H", where=HEAVY)
    until(lambda: slow.health.phase == "replaying")
    feed = client.feed("BUSY", look_back="PT1H")
    other = client.feed("BUSY", look_back="PT1H", where="w % 2 = 0")
    until(lambda: len(feed.window) == 20_000 and len(other.window) == 10_000, 120)
    assert slow.health.phase == "replaying"
    assert slow.health.rows < 1000


def test_closed_while_it_works(server: NatsServer) -> None:
    """A client can be closed while an expression is computed, and leaves no thread."""
    server.publish("s.a", *heavy(300))
    with Client(Settings(url=server.url)) as client:
        feed = client.feed("S", look_back="PT1H", where=" AND ".join([HEAVY] * 3))
        until(lambda: feed.health.phase == "replaying")
    until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("filter")])


payloads = st.fixed_dictionaries(
    {}, optional={"ms": st.one_of(st.integers(0, 200), st.none(), st.just("fast")), "w": st.integers(0, 9)}
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.lists(payloads, min_size=1, max_size=8)),
        st.tuples(st.just("purge"), st.integers(0, 10)),
        st.tuples(st.just("delete"), st.integers(1, 20)),
        st.tuples(st.just("recreate"), st.none()),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_equal_to_the_other_feed(server: NatsServer, client: Client, happens: list[tuple[str, Any]]) -> None:
    """Whatever happens to the stream, the feed with a `where` has the rows that pandas selects from the feed
    without."""
    server.run(lambda nc: nc.jetstream().purge_stream("S"))
    every = client.feed("S", look_back="PT1H")
    feed = client.feed("S", look_back="PT1H", where="TRY_CAST(ms AS DOUBLE) > 100", columns={"kw": "w / 10"})
    for what, with_it in happens:
        if what == "publish":
            server.publish("s.a", *(json.dumps(payload).encode() for payload in with_it))
        elif what == "purge":
            server.run(partial(_purge, keep=with_it))
        elif what == "recreate":
            server.run(lambda nc: nc.jetstream().delete_stream("S"))
            server.add_stream("S", ["s.>"])
        else:
            held = every.snapshot().seq.tolist()
            if held:
                seq = held[with_it % len(held)]
                server.run(partial(_delete, seq=seq))
    server.publish("s.a", b'{"ms": 150, "w": 99}')

    def equal() -> bool:
        rows = every.snapshot().frame()
        if not len(rows) or "w" not in rows or rows["w"].iloc[-1] != 99:
            return False
        # Where most values are texts, the column holds the numbers as texts, too.
        right = rows[pd.to_numeric(rows["ms"].astype("object"), errors="coerce") > 100]
        mine = feed.snapshot().frame()
        if mine["_seq"].tolist() != right["_seq"].tolist():
            return False
        return bool((mine["kw"].fillna(-1) == right["w"].astype(float).div(10).fillna(-1)).all())

    until(equal)


async def _purge(nc: Any, keep: int) -> None:
    await nc.jetstream().purge_stream("S", keep=keep)


async def _delete(nc: Any, seq: int) -> None:
    with contextlib.suppress(nats.js.errors.APIError):  # it may be gone already
        await nc.jetstream().delete_msg("S", seq)
