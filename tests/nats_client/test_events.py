"""Events, in the log and for pages."""

import logging
import threading

import pytest

from nats_client import Client, Feed, NamedFeed, Settings, Watch
from nats_client.events import LONGEST, MOST_KEPT, Events
from tests.nats import NatsServer, running_server
from tests.waiting import until


def test_repeats_are_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """An event that repeats every second is kept once, with its count, and logged once."""
    events = Events("stream S")
    with caplog.at_level(logging.INFO, logger="nats_client"):
        for _ in range(50):
            events.note("stopped", "no such stream", logging.WARNING)
        events.note("following")
        events.note("stopped", "no such stream", logging.WARNING)
    assert [(event.what, event.times) for event in events.newest] == [
        ("stopped", 50),
        ("following", 1),
        ("stopped", 1),
    ]
    assert [record.getMessage() for record in caplog.records] == [
        "stream S: stopped (no such stream)",
        "stream S: following",
        "stream S: stopped (no such stream)",
    ]


def test_reason_is_one_bounded_line(caplog: pytest.LogCaptureFixture) -> None:
    """A reason from a server cannot start a new line of the log, and is cut to a fixed length."""
    events = Events("connection")
    with caplog.at_level(logging.INFO, logger="nats_client"):
        events.note("reconnecting", "x\n2026 CRITICAL all is lost\x1b[2J" + "y" * 9999)
    assert events.newest[0].why.startswith("x\\n2026 CRITICAL all is lost\\x1b[2J")
    assert len(events.newest[0].why) == LONGEST
    assert "\n" not in caplog.records[0].getMessage()


def test_the_newest_are_kept() -> None:
    """Only the newest events are kept, whichever threads note them."""
    events = Events("stream S")

    def note(who: int) -> None:
        for i in range(200):
            events.note(f"{who} {i}")

    threads = [threading.Thread(target=note, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(events.newest) == MOST_KEPT
    assert len({event.what for event in events.newest}) == MOST_KEPT


def test_two_feeds_and_a_lost_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A killed server is reported as one loss by the connection and by each feed, with a reason. A missing
    stream is reported only by its own feed."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.add_stream("S", ["s.>"])
        with Client(Settings(url=server.url)) as client:
            here, missing = client.feed("S"), client.feed("MISSING")
            assert here.wait(10)
            until(lambda: missing.health.phase == "stopped")
            whats = [event.what for event in here.events]
            assert whats[-1] == "following"
            assert "MISSING" in missing.events[-1].why
            _killed_and_back(server)
            until(
                lambda: (
                    [event.what for event in here.events][-1] == "following" and len(here.events) > len(whats)
                )
            )
            assert any(event.what == "reconnecting" and event.why for event in here.events)
            said = [event.what for event in client.events]
            assert said.count("connected") == 2
            assert "reconnecting" in said


def _killed_and_back(server: NatsServer) -> None:
    server.kill()
    server.start()


def test_ends_have_their_reason(server: NatsServer, caplog: pytest.LogCaptureFixture) -> None:
    """The reason passed to close() is the last event of the connection and of everything open on it, each
    logged once."""
    server.run(lambda nc: nc.jetstream().create_key_value(bucket="b"))
    with caplog.at_level(logging.INFO, logger="nats_client"):
        client = Client(Settings(url=server.url))
        feed, plain, watch = client.feed("S"), client.feed(None, "t.>"), client.values("b")
        for each in (feed, plain, watch):
            assert each.wait(30)
        client.close("the role 'viewer' was changed")
        client.close("too late")
    closed: list[Feed | NamedFeed | Watch | Client] = [feed, plain, watch, client]
    for one in closed:
        assert (one.events[-1].what, one.events[-1].why) == ("closed", "the role 'viewer' was changed")
        assert [event.what for event in one.events].count("closed") == 1
    lines = [record.getMessage() for record in caplog.records]
    ended = [
        line.removesuffix(": closed (the role 'viewer' was changed)") for line in lines if "closed" in line
    ]
    assert {"connection", "stream S", "subject t.>", "stream KV_b $KV.b.>"} <= set(ended)
    assert len(ended) == len(set(ended))
    assert not any("closed" in name for name in ended)


def test_a_client_that_is_left_says_so(server: NatsServer) -> None:
    """A client closed without a reason still reports one."""
    with Client(Settings(url=server.url)) as client:
        feed = client.feed("S")
        assert feed.wait(30)
    assert feed.events[-1].why == client.events[-1].why == "the client was closed"


def test_what_nobody_reads_says_so(server: NatsServer) -> None:
    """A feed or watch closed for lack of a reader reports that, and for how long it had none. The connection
    stays open."""
    server.run(lambda nc: nc.jetstream().create_key_value(bucket="b"))
    with Client(Settings(url=server.url, idle_after=0.5)) as client:
        feed, watch = client.feed("S"), client.values("b")
        for each in (feed, watch):
            until(lambda: each.events and each.events[-1].what == "closed")
            assert each.events[-1].why == "nobody read it for 0.5 s"
        assert client.events[-1].what != "closed"
