"""Messages that leave a stream as intended are no gap; messages without a payload are rows.

Slow, because messages have to expire, and the server checks for that every few seconds.
"""

import time
from datetime import UTC, datetime, timedelta

import pytest

from nats_client import Client, Feed, NamedFeed
from nats_client.feeds.reconcile import EVERY
from nats_client.feeds.removals import lives
from tests.jetstream import api, messages, publish, stream
from tests.nats import NatsServer, numbered
from tests.waiting import until


def opened(client: Client, name: str, subject: str | None = None) -> Feed:
    """A feed that has caught up."""
    feed = client.feed(name, subject, look_back="PT1H")
    assert isinstance(feed, Feed)
    assert feed.wait(30)
    return feed


def sequences(feed: Feed | NamedFeed) -> list[int]:
    """The stream sequences of the feed's rows."""
    found: list[int] = feed.snapshot().seq.tolist()
    return found


def removed(feed: Feed | NamedFeed) -> int:
    """How many messages the feed's gaps count."""
    return sum(gap.count or 0 for gap in feed.health.gaps)


def wait_for_two_checks(feed: Feed) -> None:
    """Wait until the feed has checked its stream twice, so that its health is current."""
    seen = []
    stream_check = feed._stream_check
    assert stream_check is not None
    find = stream_check._report_holes

    def noted() -> None:
        seen.append(feed.now())
        find()

    stream_check._report_holes = noted  # type: ignore[method-assign]
    until(lambda: len(seen) > 1)
    stream_check._report_holes = find  # type: ignore[method-assign]


def test_time_to_live(server: NatsServer, client: Client) -> None:
    """Messages whose time to live is over leave the window without a gap, with and without a filter, even if
    they expired before the feed was opened. A deleted message is a gap."""
    stream(server, "T", "t.>", allow_msg_ttl=True)

    def both(first: int) -> None:
        for i in range(first, first + 5):
            publish(server, "t.keep", *numbered(1, i))
            publish(server, "t.short", *numbered(1, i), Nats_TTL="2s")

    both(0)
    early, part = opened(client, "T"), opened(client, "T", "t.short")
    assert len(sequences(early)) == 10
    assert len(sequences(part)) == 5
    until(lambda: messages(server, "T") == 5)
    both(5)
    late = client.feed("T", "t.>", look_back="PT1H")
    assert isinstance(late, Feed)
    until(lambda: messages(server, "T") == 10)
    for feed in (early, late):
        until(lambda: sequences(feed) == list(range(1, 20, 2)))
    until(lambda: sequences(part) == [])
    for feed in (early, late, part):
        wait_for_two_checks(feed)
        assert not feed.health.gaps
        assert feed.health.begins is None
    api(server, "STREAM.MSG.DELETE.T", {"seq": 5})
    until(lambda: removed(early) == removed(late) == 1)


def test_more_ended_than_are_listed(
    server: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If more messages are gone than are requested one by one, rows leave when their time to live is over by
    the server's clock."""
    monkeypatch.setattr("nats_client.feeds.reconcile.MOST_DELETED", 3)
    stream(server, "T", "t.>", allow_msg_ttl=True)
    publish(server, "t.keep", *numbered(1))
    publish(server, "t.short", *numbered(10, 1), Nats_TTL="1s")
    publish(server, "t.keep", *numbered(1, 11))
    feed = opened(client, "T")
    assert len(sequences(feed)) == 12
    until(lambda: sequences(feed) == [1, 12])
    assert not feed.health.gaps


def test_older_rows_end_too(server: NatsServer, client: Client) -> None:
    """Rows that a longer look-back fetched leave without a gap when their time to live is over. The end of a
    row that has left the window is forgotten."""
    stream(server, "T", "t.>", allow_msg_ttl=True)
    publish(server, "t.short", *numbered(10), Nats_TTL="7s")
    time.sleep(2.2)
    publish(server, "t.keep", *numbered(1, 10))
    feed = client.feed("T", look_back="PT2S")
    assert isinstance(feed, Feed)
    assert feed.wait(30)
    assert sequences(feed) == [11]
    client.feed("T", look_back="PT1H")
    until(lambda: sequences(feed) == list(range(1, 12)))
    until(lambda: sequences(feed) == [11])
    wait_for_two_checks(feed)
    assert not feed.health.gaps
    until(lambda: feed._stream_check and not feed._stream_check.ends)


def test_deleted_before_its_time(server: NatsServer, client: Client) -> None:
    """A message that is deleted long before its time to live is over is a gap."""
    stream(server, "T", "t.>", allow_msg_ttl=True)
    publish(server, "t.a", *numbered(3), Nats_TTL="1h")
    feed = opened(client, "T")
    api(server, "STREAM.MSG.DELETE.T", {"seq": 2})
    until(lambda: removed(feed) == 1)


def test_limits_beside_times_to_live(server: NatsServer, client: Client) -> None:
    """In a stream that permits times to live, messages that a limit removes before they are read are still
    counted."""
    stream(server, "T", "t.>", allow_msg_ttl=True, max_msgs=100)
    publish(server, "t.a", *numbered(10))
    feed = opened(client, "T")

    async def burst(nc) -> None:  # type: ignore[no-untyped-def]
        for i in range(50_000):
            await nc.publish("t.a", b'{"n": %d}' % i)
        await nc.flush(30)

    server.run(burst)
    until(lambda: sequences(feed) == list(range(49_911, 50_011)))
    until(lambda: removed(feed) == 49_910)


def test_markers(server: NatsServer, client: Client) -> None:
    """The server's delete markers, and a message without a payload, are rows without fields."""
    marked = {"subject_delete_marker_ttl": 1_000_000_000, "allow_rollup_hdrs": True}
    stream(server, "P", "p.>", allow_msg_ttl=True, max_msgs_per_subject=1, **marked)
    feed = opened(client, "P")
    publish(server, "p.a", b'{"on": 1}', Nats_TTL="1s")
    publish(server, "p.b", b"", X="only a header")
    until(lambda: len(sequences(feed)) == 3)
    rows = feed.snapshot().frame(["_subject", "on"])
    assert rows["_subject"].astype(str).tolist() == ["p.a", "p.b", "p.a"]
    assert rows["on"].isna().tolist() == [False, True, True]
    assert feed.health.malformed == 0
    assert not feed.health.gaps


def test_markers_in_time(server: NatsServer, client: Client) -> None:
    """If a feed takes its times from a field, a message without a payload has its storage time."""
    publish(server, "s.a", b'{"at": "2020-01-01T00:00:00Z"}', b"", b'{"at": 1}', b'{"no": 1}')
    feed = client.feed("S", look_back="PT1H", time="at")
    assert feed.wait(30)
    assert sequences(feed) == [1, 2, 3]
    assert feed.snapshot().time[1] == feed.snapshot().received[1]
    assert feed.health.malformed == 1


def test_roll_up(server: NatsServer, client: Client) -> None:
    """A message that rolls up its subject, or all subjects, replaces the earlier messages, which leave
    without a gap."""
    stream(server, "R", "r.>", allow_rollup_hdrs=True)
    publish(server, "r.a", *numbered(3))
    publish(server, "r.b", *numbered(2))
    feed = opened(client, "R")
    publish(server, "r.a", *numbered(1), Nats_Rollup="sub")
    until(lambda: sequences(feed) == [4, 5, 6])
    other = opened(client, "R", "r.>")
    assert sequences(other) == [4, 5, 6]
    publish(server, "r.b", *numbered(1), Nats_Rollup="all")
    for each in (feed, other):
        until(lambda: sequences(each) == [7])
        wait_for_two_checks(each)
        assert not each.health.gaps
        assert each.health.begins is None


def test_roll_up_that_arrives_after_a_check(
    server: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check of the stream between the storage of a roll-up and its arrival reports no gap."""
    stream(server, "R", "r.>", allow_rollup_hdrs=True)
    publish(server, "r.a", *numbered(3))
    publish(server, "r.b", *numbered(2))
    feeds = [opened(client, "R"), opened(client, "R", "r.a")]
    monkeypatch.setattr("nats_client.streams.ordered_consumer.GATHER", EVERY + 1)
    # From this message on, the reader pauses for longer than until the next check
    publish(server, "r.b", *numbered(1))
    time.sleep(0.5)
    publish(server, "r.a", *numbered(1), Nats_Rollup="all")
    for feed in feeds:
        until(lambda feed=feed: sequences(feed) == [7])  # type: ignore[misc]
        wait_for_two_checks(feed)
        assert not feed.health.gaps


def test_roll_up_that_arrives_after_two_checks(
    server: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even two checks of the stream between the storage of a roll-up and its arrival report no gap."""
    stream(server, "R", "r.>", allow_rollup_hdrs=True)
    publish(server, "r.a", *numbered(3))
    feeds = [opened(client, "R", "r.a"), opened(client, "R", "r.*")]
    monkeypatch.setattr("nats_client.streams.ordered_consumer.GATHER", 2 * EVERY)
    time.sleep((EVERY - 0.9 - time.monotonic()) % EVERY)  # so that the second check comes within the pause
    publish(server, "r.a", *numbered(1))
    time.sleep(0.5)
    publish(server, "r.a", *numbered(1), Nats_Rollup="all")
    for feed in feeds:
        until(lambda feed=feed: sequences(feed) == [5])  # type: ignore[misc]
        wait_for_two_checks(feed)
        assert not feed.health.gaps


def test_schedule(server: NatsServer, client: Client) -> None:
    """A scheduled message leaves the stream once it has been sent, which is no gap."""
    stream(server, "D", "d.>", allow_msg_schedules=True, allow_msg_ttl=True)
    feed = opened(client, "D")
    at = (datetime.now(UTC) + timedelta(seconds=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    publish(server, "d.plan", *numbered(1), Nats_Schedule=f"@at {at}", Nats_Schedule_Target="d.sent")
    until(lambda: sequences(feed) == [2])
    wait_for_two_checks(feed)
    assert not feed.health.gaps


def test_first_sequence(server: NatsServer, client: Client) -> None:
    """A stream created with the first sequence 1,000 lacks nothing before it. Messages purged later are
    counted from there."""
    stream(server, "F", "f.>", first_seq=1000)
    publish(server, "f.a", *numbered(5))
    feed = opened(client, "F")
    wait_for_two_checks(feed)
    assert sequences(feed) == list(range(1000, 1005))
    assert (feed.health.begins, feed.health.earlier) == (None, 0)
    assert not feed.health.gaps
    api(server, "STREAM.PURGE.F", {"seq": 1003})
    until(lambda: feed.health.earlier == 3)
    assert removed(feed) == 3


def test_mirrors(server: NatsServer, client: Client) -> None:
    """A mirror with a filter or a start sequence never held the other messages, so they are no gap."""
    for i in range(20):
        publish(server, f"s.{'ab'[i % 2]}", *numbered(1, i))
    stream(server, "SOME", mirror={"name": "S", "filter_subject": "s.b"})
    stream(server, "LATE", mirror={"name": "S", "opt_start_seq": 11})
    until(lambda: messages(server, "SOME") == messages(server, "LATE") == 10)
    some, late = opened(client, "SOME"), opened(client, "LATE")
    assert sequences(some) == list(range(2, 21, 2))
    assert sequences(late) == list(range(11, 21))
    publish(server, "s.b", *numbered(1, 20))
    until(lambda: len(sequences(some)) == len(sequences(late)) == 11)
    for feed in (some, late):
        wait_for_two_checks(feed)
        assert not feed.health.gaps
        assert feed.health.begins is None


def test_replaced_before_it_was_opened(server: NatsServer, client: Client) -> None:
    """If a stream's only limit is one message per subject, the feed reports no beginning of its history:
    older messages were replaced, not lost."""
    stream(server, "K", "k.>", max_msgs_per_subject=1)
    publish(server, "k.a", *numbered(5))
    feed = opened(client, "K")
    wait_for_two_checks(feed)
    assert sequences(feed) == [5]
    assert (feed.health.begins, feed.health.earlier) == (None, 0)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("5s", 5), ("1h30m", 5400), ("1.5s", 1.5), ("250ms", 0.25), ("30", 30), ("never", None), ("x", None)],
)
def test_times_to_live(written: str, seconds: float | None) -> None:
    """A time to live is read as Go writes durations. A text that is no duration means that the message never
    expires."""
    assert lives(written) == (2**62 if seconds is None else int(seconds * 1e9))
    assert time.time_ns() + lives(written) < 2**63
