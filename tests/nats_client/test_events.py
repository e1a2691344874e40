"""What happened, in the log and for pages."""

import logging
import threading

import pytest

from nats_client import Client, Settings
from nats_client.events import LONGEST, MOST_KEPT, Events
from tests.nats import NatsServer, running_server
from tests.waiting import until


def test_repeats_are_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """What fails each second is one event and one line of the log, with its count."""
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
    """A reason from a server can neither begin a line of the log nor fill it."""
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
    """A killed server is one loss for the connection and for each feed, with a reason; so is a stream that
    is not there, and only for its own feed."""
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
