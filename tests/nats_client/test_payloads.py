"""Hostile payloads, through a real server: each becomes rows or is counted, and memory has a ceiling."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nats_client import Client, Feed, Settings
from nats_client.decoding.decode import decode
from nats_client.decoding.decoder import LONGEST_TEXT
from nats_client.decoding.raw import Raw
from nats_client.table.values import NULL
from nats_client.table.window import MAX_COLUMNS, Window
from tests.nats import NatsServer, running_server
from tests.waiting import until

MARKUP = '<img src=x onerror="alert(1)">'
DEEP = b"[" * 1000 + b"]" * 1000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server that takes messages of 16 MB, with a stream S."""
    with running_server(tmp_path, "max_payload: 16MB") as server:
        server.add_stream("S", ["s.>"])
        yield server


def feed_of(server: NatsServer, *payloads: bytes, rows: int, **asked: Any) -> tuple[Feed, Client]:
    """A feed that has read these payloads from a stream, between two valid ones."""
    server.publish("s.a", b'{"ok": 1}', *payloads, b'{"ok": 2}')
    client = Client(Settings(url=server.url))
    feed = client.feed("S", **asked)
    assert isinstance(feed, Feed)
    assert feed.wait(30)
    until(lambda: feed.health.pending == 0)
    assert len(feed.snapshot()) == rows + 2
    return feed, client


Check = Callable[[pd.DataFrame], bool | np.bool]
CORPUS: dict[str, tuple[bytes, int, Check | str]] = {
    # payload, number of rows, and a check of them; if there are none, the reason why it is malformed
    "nothing": (b"", 1, lambda t: t["ok"].isna().all()),
    "invalid UTF-8": (b'{"a": "\xff"}', 0, "not JSON: str is not valid UTF-8"),
    "half a surrogate": (b'{"a": "\\ud800"}', 0, "not JSON"),
    "a zero byte": (b"\x00", 0, "not JSON"),
    "cut off": (b'{"a": 1', 0, "not JSON"),
    "nested 100,000 times": (b"[" * 100_000, 0, "not JSON"),
    "nested 1,000 times": (b'{"a": ' + DEEP + b"}", 0, "nested too deeply"),
    "nested objects": (
        b'{"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}',
        1,
        lambda t: t["a.b.c.d.e"].tolist() == ['{"f":1}'],
    ),
    "8 MB of text": (
        json.dumps({"a": "x" * 8_000_000}).encode(),
        1,
        lambda t: len(t["a"].iloc[0]) == LONGEST_TEXT,
    ),
    "8 MB of numbers": (
        json.dumps([{"a": i} for i in range(700_000)]).encode(),
        700_000,
        lambda t: t["a"].sum() == 244_999_650_000,
    ),
    "duplicate keys": (b'{"a": 1, "a": 2}', 1, lambda t: t["a"].tolist() == [2]),
    "NaN": (b'{"a": NaN, "b": 3}', 1, lambda t: t["a"].isna().all() and t["b"].tolist() == [3]),
    "infinities": (b'{"a": [1], "b": -Infinity, "c": 1}', 1, lambda t: t["b"].isna().all()),
    "too large for a number": (b'{"a": 1e999}', 0, "not JSON: number is infinity"),
    "an integer of 60 digits": (b'{"a": %d}' % 10**60, 1, lambda t: t["a"].tolist() == [1e60]),
    "markup": (
        json.dumps({MARKUP: MARKUP}).encode(),
        1,
        lambda t: t[MARKUP].tolist() == [MARKUP],
    ),
    "an empty key": (b'{"": 1}', 1, lambda t: t[""].tolist() == [1]),
    "the envelope's names": (b'{"_seq": 99}', 1, lambda t: t["payload_seq"].tolist() == [99]),
    "an empty array": (b"[]", 0, ""),
    "an empty object": (b"{}", 1, lambda t: len(t) == 1),
    "null": (b"null", 1, lambda t: len(t) == 1),
}


@pytest.mark.parametrize("name", CORPUS)
def test_corpus(server: NatsServer, name: str) -> None:
    """Each payload becomes rows, or is counted as malformed with a reason; its neighbours are not
    affected."""
    payload, rows, expected = CORPUS[name]
    feed, client = feed_of(server, payload, rows=rows)
    with client:
        table = feed.frame()
        assert table["ok"].dropna().tolist() == [1, 2]
        health = feed.health
        if isinstance(expected, str):
            assert health.malformed == bool(expected)
            if expected:
                (sample,) = health.samples
                assert expected in sample.reason
                assert len(sample.payload) <= 210
        else:
            assert not health.malformed
            assert expected(table[table["_seq"] == 2])


def test_numbers_that_change_type(server: NatsServer) -> None:
    """In a column of numbers, a value that cannot be read as a finite number is missing, and is counted once.
    A null is missing too, and not counted."""
    values = [b"1", b'"2.5"', b'"high"', b"null", b"true", b"NaN", b"Infinity", b'"NaN"', b"[3]", b"4"]
    feed, client = feed_of(server, *(b'{"a": %s}' % value for value in values), rows=len(values))
    with client:
        held = feed.snapshot().numbers("a")[1:-1]
        np.testing.assert_array_equal(held, [1, 2.5, np.nan, np.nan, 1, np.nan, np.nan, np.nan, np.nan, 4])
        assert feed.health.mistyped == 5
        assert not feed.health.malformed


def test_keys_that_change_from_message_to_message(server: NatsServer) -> None:
    """With thousands of different keys, the first become columns, the others are only counted, and memory has
    a ceiling."""
    payloads = [json.dumps({f"key {i} {j}": j for j in range(100)}).encode() for i in range(30)]
    payloads.append(json.dumps({f"wide {i}": i for i in range(5000)}).encode())
    feed, client = feed_of(server, *payloads, rows=len(payloads))
    with client:
        assert len(feed.snapshot().columns) == MAX_COLUMNS + 1
        assert feed.health.surplus_fields == 1000
        assert feed.health.bytes < 16_000_000


def test_times_of_all_kinds(server: NatsServer) -> None:
    """Seconds, milliseconds, and ISO 8601 with and without a zone all give the same time. Messages with any
    other value are counted as malformed."""
    good = [
        1700000000,
        1700000000000,
        "2023-11-14T22:13:20Z",
        "2023-11-14T22:13:20",
        "2023-11-15T03:43:20+05:30",
    ]
    bad: list[object] = ["soon", None, True, [], {}, 1e300, "", "2023-13-45"]
    payloads = [json.dumps({"t": value}).encode() for value in [*good, *bad]] + [b'{"t": NaN}']
    server.publish("s.a", *payloads)
    with Client(Settings(url=server.url)) as client:
        feed = client.feed("S", time="t")
        assert feed.wait(30)
        assert (feed.frame().index == pd.Timestamp("2023-11-14T22:13:20Z")).tolist() == [True] * len(good)
        assert feed.health.malformed == len(bad) + 1
        assert "no valid time in the field 't'" in feed.health.samples[-1].reason


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)
payloads = json_values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40)


@settings(max_examples=200)
@given(st.lists(st.lists(payloads, max_size=6), max_size=5), st.sampled_from(["json", "text"]))
def test_whatever_comes(batches: list[list[bytes]], decoder: str) -> None:
    """For any payloads, in any batches: the window stays within its ceilings, and no column disappears. Its
    numbers are finite or missing, and each message becomes rows or is counted."""
    window = Window(max_rows=8, max_bytes=200_000)
    kinds: dict[str, str] = {}
    seq = 0
    for batch in batches:
        count = len(batch)
        times = [10**18 + i for i in range(count)]
        raw = Raw(list(range(seq + 1, seq + count + 1)), times, ["s"] * count, batch)
        seq += count
        for one in raw.split():
            rows, samples, malformed = decode(one, decoder, None)
            assert malformed == len(samples)
            assert malformed == 0 or not len(rows)
            window.append(rows)
        snapshot = window.snapshot()
        assert len(snapshot) <= 8
        assert snapshot.columns.keys() >= kinds.keys()
        kinds = dict(snapshot.columns)
        for name, kind in kinds.items():
            if kind == "number":
                assert not np.isinf(snapshot.numbers(name)).any()
        snapshot.frame()


def test_truths_are_known() -> None:
    """A snapshot's `truths` are the number columns that hold only true and false. It makes no difference
    whether messages were decoded together or one by one, beside texts or missing values, or whether older
    rows were put in front. Once other numbers have left the window, the column is listed again."""
    window = Window()

    def add(seq: int, *payloads: Any, to: Window = window) -> None:
        numbers = list(range(seq, seq + len(payloads)))
        written = [json.dumps(each).encode() for each in payloads]
        to.append(decode(Raw(numbers, numbers, ["s.x"] * len(payloads), written), "json", None)[0])

    add(101, *[{"on": i % 2 == 0, "n": i, "m": 1} for i in range(100)])
    assert window.snapshot().truths == {"on"}
    add(201, {"on": None, "late": True}, {"n": 1, "m": True}, {"on": "n/a"})
    assert window.snapshot().truths == {"on", "late"}
    assert window.snapshot().named(("", "on")).truths == {"payloadon", "late"}
    assert window.snapshot().between(150, 190).truths == {"on", "late"}
    older = Window()
    add(1, *[{"on": 0.5}] * 3, to=older)
    add(4, *[{"late": False}] * 3, to=older)
    window.prepend(older)
    assert window.snapshot().truths == {"late"}
    window.evict(4)
    assert window.snapshot().truths == {"late", "on"}
    add(300, {"on": 1})
    assert window.snapshot().truths == {"late"}


def test_a_filter_keeps_truths(client: Client, server: NatsServer) -> None:
    """Rows that went through SQL keep their `truths`, including a field that a computed column renames."""
    server.add_stream("T", ["t"])
    server.publish("t", *(json.dumps({"on": i % 2 == 0, "n": i}).encode() for i in range(20)))
    feed = client.feed("T", where="n >= 5", columns={"on": "n"})
    until(lambda: len(feed.snapshot()) == 15)
    assert feed.snapshot().truths == {"payloadon"}


def test_an_object_is_no_null() -> None:
    """A field that is an object in some rows and missing in others yields only the columns of the object's
    fields. If it is null in other rows, it also has a column of its own: null where it is null, missing where
    it is an object."""
    payload = b'[{"a": 1}, {"a": 2, "at": {"x": 1}}]'
    batch, _, _ = decode(Raw([1], [1], ["s"], [payload]), "json", None)
    assert set(batch.values) == {"a", "at.x"}
    payload = b'[{"at": null}, {"at": {"x": 1}}]'
    batch, _, _ = decode(Raw([1], [1], ["s"], [payload]), "json", None)
    column = np.asarray(batch.values["at"], dtype=np.float64)
    assert column.tobytes() == np.array([NULL, np.nan]).tobytes()
