"""The newest messages of a feed, as they were received."""

from pathlib import Path
from typing import Any

from nats_client import Client, Settings
from nats_client.feeds.feed import MOST_MESSAGES
from nats_client.feeds.health import LONGEST_PAYLOAD
from tests.jetstream import publish, stream
from tests.nats import NatsServer, running_server
from tests.waiting import until


def test_newest_messages(tmp_path: Path) -> None:
    """A feed keeps its newest messages, newest first, including malformed ones; long payloads are cut.
    Messages that the stream no longer holds are removed."""
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


REPEATED = (
    b"NATS/1.0\r\nvia: a\r\nOnce: x: y\r\nvia: b\r\nVia: c\r\n"
    b"Nats-Msg-Id: 1\r\nNats-Msg-Id: 2\r\nvia: a\r\n\r\n"
)


def test_repeated_headers(server: NatsServer, client: Client) -> None:
    """All values of a header that one message repeats are read in order, with a consumer and by sequence, in
    a column and in the messages. Of NATS's own headers the first value counts, as it does for the server."""
    stream(server, "Q", "q.>", retention="workqueue")

    async def send(nc: Any) -> None:
        for subject in (b"s.a", b"q.a"):
            sizes = b"%d %d" % (len(REPEATED), len(REPEATED) + 2)
            await nc._send_command(b"HPUB %s %s\r\n%s{}\r\n" % (subject, sizes, REPEATED))
        await nc.flush()

    server.run(send)
    publish(server, "s.a", b"{}", via="one")
    publish(server, "q.a", b"{}", via="one")
    for name in ("S", "Q"):
        feed = client.feed(name, look_back="PT1H", headers=("via", "once", "nats-msg-id"))
        until(lambda: len(feed.snapshot()) == 2)
        rows = feed.frame()
        assert rows["via"].astype(str).tolist() == ["a, b, a, c", "one"]
        assert rows["once"].iloc[0] == "x: y"
        assert rows["nats-msg-id"].iloc[0] == "1"
        assert feed.newest()[1].headers["via"] == "a, b, a"
