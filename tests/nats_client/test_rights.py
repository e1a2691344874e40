"""Rights that are taken away and given back, logins that end and are renewed, while a feed is live."""

import time
from pathlib import Path

import pytest

from nats_client import Client, Settings
from tests.logins import operator
from tests.nats import numbered, running_server
from tests.waiting import until

USERS = """
authorization {{ users: [
  {{ user: admin, password: x }}
  {{ user: me, password: x, permissions: {{ publish: {}, subscribe: {} }} }}
] }}
"""
API = '["$JS.API.>", "$JS.FC.>"]'
TAKEN = [
    (USERS.format('["$JS.FC.>"]', '"_INBOX.>"'), "'$JS.API.STREAM.INFO.S'"),
    (
        USERS.format('["$JS.FC.>", "$JS.API.STREAM.INFO.S", "$JS.API.STREAM.NAMES"]', '"_INBOX.>"'),
        "'$JS.API.CONSUMER.CREATE.S.",
    ),
    (USERS.format(API, '"other"'), "to subscribe to '_INBOX"),
]


@pytest.mark.parametrize(("taken", "told"), TAKEN, ids=["stream info", "consumer", "inbox"])
def test_permission_is_taken_away(tmp_path: Path, taken: str, told: str) -> None:
    """The feed names the permission that was taken away, and with it given back misses nothing."""
    given = USERS.format(API, '"_INBOX.>"')
    with running_server(tmp_path, given) as server:
        url, server.url = server.url, server.url.replace("//", "//admin:x@")
        server.add_stream("S", ["s.>"])
        server.publish("s.a", *numbered(5))
        with Client(Settings(url=url, user="me", password="x")) as client:
            feed = client.feed("S", look_back="PT1H")
            until(lambda: len(feed.snapshot()) == 5)
            server.configure(taken)
            if "CONSUMER" in told:  # a consumer that stands needs no permission; only its successor does
                for info in server.run(lambda nc: nc.jetstream().consumers_info("S")):
                    server.run(lambda nc, name=info.name: nc.jetstream().delete_consumer("S", name))
            until(lambda: told in str(feed.health.why))
            assert "does not permit" in str(feed.health.why)
            assert feed.health.phase == "stopped"
            server.publish("s.a", *numbered(5, 5))
            time.sleep(3)
            server.configure(given)
            until(lambda: feed.health.phase == "following" and len(feed.snapshot()) == 10)
            assert feed.snapshot().seq.tolist() == list(range(1, 11))


def test_login_ends_and_is_renewed(tmp_path: Path) -> None:
    """A user JWT that ends while live is told; with the file renewed the feed goes on and misses nothing."""
    login = operator(tmp_path)
    with running_server(tmp_path / "nats", login.config) as server:
        file = login.write(None)
        server.credentials = str(file)
        server.add_stream("S", ["s.>"])
        server.publish("s.a", *numbered(5))
        mine = login.write(int(time.time()) + 4, "mine.creds")
        with Client(Settings(url=server.url, credentials=str(mine))) as client:
            feed = client.feed("S", look_back="PT1H")
            until(lambda: len(feed.snapshot()) == 5)
            until(lambda: client.state.status == "reconnecting")
            until(lambda: "expired" in str(client.state.error) or "refused" in str(client.state.error))
            server.publish("s.a", *numbered(5, 5))
            login.write(None, "mine.creds")
            until(lambda: feed.health.phase == "following" and len(feed.snapshot()) == 10)
            assert feed.snapshot().seq.tolist() == list(range(1, 11))
            assert not feed.health.gaps
