"""The newest messages of a feed, as they came."""

from pathlib import Path

from nats_client import Client, Settings
from nats_client.feeds.feed import MOST_MESSAGES
from nats_client.feeds.health import LONGEST_PAYLOAD
from tests.nats import running_server
from tests.waiting import until


def test_newest_messages(tmp_path: Path) -> None:
    """A feed keeps its newest messages, newest first, also those that are no rows, long ones cut; and forgets
    those that the stream no longer holds."""
    with running_server(tmp_path) as server, Client(Settings(url=server.url)) as client:
        server.add_stream("S", ["s.>"])
        server.publish("s.a", *[b"%d" % i for i in range(MOST_MESSAGES)])
        server.publish("s.b", b"\x00\xff", b"x" * 9000)
        feed = client.feed("S")
        until(lambda: len(feed.snapshot()) == MOST_MESSAGES)
        newest = feed.newest()
        assert len(newest) == MOST_MESSAGES
        assert [message.seq for message in newest] == list(range(MOST_MESSAGES + 2, 2, -1))
        assert newest[0].payload == b"x" * LONGEST_PAYLOAD
        assert newest[0].size == 9000
        assert (newest[1].subject, newest[1].payload) == ("s.b", b"\x00\xff")
        server.run(lambda nc: nc.jetstream().purge_stream("S", subject="s.b"))
        server.run(lambda nc: nc.jetstream().delete_msg("S", MOST_MESSAGES))
        until(lambda: [m.payload for m in feed.newest()][:2] == [b"18", b"17"])
        server.run(lambda nc: nc.jetstream().purge_stream("S"))
        until(lambda: not feed.newest())
