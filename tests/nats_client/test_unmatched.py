"""If a filter matches nothing, a hint explains it: what the stream stores, and what was probably meant."""

from typing import Any

import pytest

from nats_client import Client, Feed
from nats_client.streams.unmatched import stored_under
from nats_client.subjects import matches, overlap, within
from tests.jetstream import api, publish, stream
from tests.nats import NatsServer, numbered
from tests.waiting import until


def hint(client: Client, name: str, subject: str, look_back: str = "PT1H") -> str:
    """The hint of a feed that has no row."""
    feed = client.feed(name, subject, look_back=look_back)
    assert feed.wait(30)
    assert len(feed.snapshot()) == 0
    until(lambda: feed.health.hint)
    return feed.health.hint


def test_outside(server: NatsServer, client: Client) -> None:
    """For a subject that the stream does not take, the hint names the stream's subjects and the nearest of
    them."""
    stream(server, "SENSORS", "sensors.>", "alarms.*")
    text = hint(client, "SENSORS", "sensor.>")
    assert "'sensor.>' matches no subject of 'SENSORS'" in text
    assert "which stores 'sensors.>', 'alarms.*'. Did you mean 'sensors.>'?" in text


def test_mistyped(server: NatsServer, client: Client) -> None:
    """For a subject that the stream could hold, but does not, the hint names the nearest that it holds. A
    message that matches removes the hint."""
    for name in ("a", "b"):
        publish(server, f"s.{name}.temperature", *numbered(1))
    text = hint(client, "S", "s.a.temprature")
    assert "'S' has no message that matches 's.a.temprature'. Did you mean 's.a.temperature'?" in text
    feed = client.feed("S", "s.a.temprature", look_back="PT1H")
    publish(server, "s.a.temprature", *numbered(1))
    until(lambda: len(feed.snapshot()) == 1)
    until(lambda: not feed.health.hint)


def test_older(server: NatsServer, client: Client) -> None:
    """If the last message of a subject was stored before the look-back, the hint states when."""
    publish(server, "s.a", *numbered(1))
    last = api(server, "STREAM.INFO.S")["state"]["last_ts"]
    feed = client.feed("S", "s.a", look_back="PT1S")
    until(lambda: len(feed.snapshot()) == 0 and feed.health.hint)
    assert f"was stored at {last[:19].replace('T', ' ')} UTC" in feed.health.hint


def test_transformed(server: NatsServer, client: Client) -> None:
    """If a stream stores messages under other subjects than they were published to, the hint names the stored
    ones."""
    change = {"src": "t.*.*", "dest": "stored.{{wildcard(2)}}.{{wildcard(1)}}"}
    stream(server, "T", "t.*.*", "u.x", subject_transform=change)
    publish(server, "t.a.b", *numbered(1))
    text = hint(client, "T", "t.>")
    assert "its subject transform stores messages under 'u.x', 'stored.*.*'. Use these subjects" in text
    feed = client.feed("T", "stored.>", look_back="PT1H")
    assert feed.wait(30)
    assert len(feed.snapshot()) == 1
    assert not feed.health.hint


def test_empty(server: NatsServer, client: Client) -> None:
    """A stream without messages gives no hint for a subject that it takes."""
    feed = client.feed("S", "s.a", look_back="PT1H")
    assert isinstance(feed, Feed)
    assert feed.wait(30)
    until(lambda: feed._stream_check is not None and feed._stream_check.first is not None)
    assert not feed.health.hint


STORED: list[tuple[dict[str, Any], list[str] | None]] = [
    ({"subjects": ["a.>", "b"]}, ["a.>", "b"]),
    ({"subjects": ["a.>"], "subject_transform": {"src": "a.>", "dest": "b.>"}}, ["b.>"]),
    ({"subjects": ["a.>"], "subject_transform": {"src": "a.x", "dest": "y"}}, ["a.>", "y"]),
    ({"subjects": ["a.>"], "subject_transform": {"src": "", "dest": "b.>"}}, ["b.>"]),
    ({"subjects": ["a.*"], "subject_transform": {"src": "a.*", "dest": "b.{{split(1,-)}}.c"}}, ["b.>"]),
    ({"subjects": ["a.*"], "subject_transform": {"src": "a.*", "dest": "b.$1"}}, ["b.*"]),
    ({"subjects": ["a"], "subject_transform": {"src": "z", "dest": "y"}}, ["a"]),
    ({"mirror": {"name": "S"}}, None),
    ({"mirror": {"name": "S", "filter_subject": "a.b"}}, ["a.b"]),
    ({"sources": [{"name": "S", "filter_subject": "a.b"}], "subjects": ["c"]}, ["a.b", "c"]),
    ({"sources": [{"name": "S"}], "subjects": ["c"]}, None),
    (
        {"sources": [{"name": "S", "subject_transforms": [{"src": "a.*", "dest": "b.{{wildcard(1)}}"}]}]},
        ["b.*"],
    ),
]


@pytest.mark.parametrize(("config", "expected"), STORED)
def test_stored_under(config: dict[str, Any], expected: list[str] | None) -> None:
    """The subjects under which a stream can store messages, from its configuration; None if they cannot be
    known."""
    assert stored_under(config) == expected


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("a.b", "a.b", True),
        ("a.*", "*.b", True),
        ("a.>", "a", False),
        ("a.>", "*.b.c", True),
        (">", "a", True),
        ("a.b", "a.b.c", False),
        ("a.*", "b.*", False),
        ("a.*.c", "a.>", True),
    ],
)
def test_overlap(one: str, other: str, both: bool) -> None:
    """Whether two filters have a subject in common."""
    assert overlap(one, other) is overlap(other, one) is both


def test_matches() -> None:
    """A subject matches a filter, and a filter lies within another, as in the server."""
    assert matches("a.b", "a.*")
    assert matches("a.b.c", "a.>")
    assert not matches("a", "a.>")
    assert not matches("a.b.c", "a.*")
    assert within("a.*", "a.>")
    assert within("a.>", ">")
    assert not within("a.>", "a.*")
    assert not within("*.b", "a.b")
