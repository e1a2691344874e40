"""Rows from an array inside a payload, by its path in the decoder's name."""

import json
from typing import Any

import cbor2
import msgpack
import orjson
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some

from nats_client import Client
from nats_client.decoding import elements
from nats_client.decoding.decode import decode, read_values
from nats_client.decoding.decoder import LONGEST_TEXT
from nats_client.decoding.decoders import check_decoder
from nats_client.decoding.elements import elements_at
from nats_client.decoding.raw import Raw
from nats_client.errors import SettingsError
from nats_client.messages.content import content_of
from nats_client.messages.stored import StoredMessage
from nats_client.table.window import Window
from tests.jetstream import publish
from tests.nats import NatsServer
from tests.waiting import until

READING: dict[str, Any] = {
    "gateway": "a",
    "site": {"name": "north", "floor": 3, "tags": ["x"]},
    "up": True,
    "other": [1, 2],
    "data": {"unit": "C", "readings": [{"name": "t", "v": 1.5}, {"name": "h", "v": 2, "at": {"x": 1}}]},
}


def raw_of(*payloads: bytes) -> Raw:
    """Messages with these payloads."""
    count = len(payloads)
    return Raw(list(range(1, count + 1)), [10**18] * count, ["s"] * count, list(payloads))


def frame(decoder: str, *values: Any) -> pd.DataFrame:
    """The rows of messages with these values."""
    batch, _, malformed = decode(raw_of(*map(orjson.dumps, values)), decoder, None)
    assert not malformed
    window = Window()
    window.append(batch)
    return window.snapshot().frame().drop(columns=["_subject"]).reset_index(drop=True)


def why(decoder: str, value: Any) -> str:
    """The reason why a message has no rows."""
    payload = value if isinstance(value, bytes) else orjson.dumps(value)
    batch, samples, malformed = decode(raw_of(payload), decoder, None)
    assert (len(batch), malformed) == (0, 1)
    return samples[0].reason


def test_as_pandas_has_it() -> None:
    """Rows and values equal those of pandas.json_normalize() with the fields around the array as metadata.
    The path may lead through objects and through other arrays."""
    inner: dict[str, Any] = {**READING, **READING["data"]}
    del inner["data"]
    whole = {name: value for name, value in READING.items() if name != "site"}
    meta: list[Any] = ["gateway", "up", ["data", "unit"]]
    check("json:data.readings", whole, ["data", "readings"], meta)
    check("json:readings", inner, "readings", ["gateway", "unit", ["site", "name"], ["site", "floor"], "up"])
    sites = {"run": 7, "sites": [{"id": n, "r": [{"v": n * 10 + i} for i in range(n)]} for n in range(4)]}
    check("json:sites.r", sites, ["sites", "r"], ["run", ["sites", "id"]])


def check(decoder: str, value: Any, path: Any, meta: list[Any]) -> None:
    """Check that the rows of a value equal those of pandas."""
    found, wanted = frame(decoder, value), pd.json_normalize([value], path, meta)
    assert set(found.pop("_seq")) == {1}
    assert set(found.columns) == set(wanted.columns)
    for name in wanted.columns:
        held, values = ([None if pd.isna(each) else each for each in of[name]] for of in (found, wanted))
        assert held == values, name


def test_what_elements_become() -> None:
    """Single values become the column `value`. An array within an array, or in an element, stays text. A
    field around the array that has the name of an element's field is numbered. An empty array has no row and
    is not malformed. A key may contain dots. Several values in one message have the rows of all."""
    assert frame("json:r", {"r": [1, 2], "value": 9}).to_dict("list") == {
        "_seq": [1, 1],
        "value": [1, 2],
        "value (2)": [9, 9],
    }
    assert frame("json:r", {"r": [[1, 2], [3]]})["value"].tolist() == ["[1,2]", "[3]"]
    assert frame("json:r", {"r": [{"a": [1]}]})["a"].tolist() == ["[1]"]
    found = frame("json:r", {"name": "parent", "r": [{"name": "own"}, {}]})
    assert found["name"].astype(object).fillna("").tolist() == ["own", ""]
    assert found["name (2)"].tolist() == ["parent"] * 2
    assert frame("json:r", {"r": []}, {"r": [5]})["_seq"].tolist() == [2]
    assert frame("json:a.b", {"a.b": [1], "a": {"b": [2]}})["value"].tolist() == [1]
    lines = b'{"g": 1, "r": [1]}\n{"g": 2, "r": [2, 3]}'
    batch, _, malformed = decode(raw_of(lines), "json:r", None)
    assert (batch.seq.tolist(), malformed) == ([1, 1, 1], 0)
    assert batch.values["g"].tolist() == [1, 2, 2]  # type: ignore[union-attr]
    batch, _, _ = decode(raw_of(b'{"ts": 1700000000, "r": [1, {"x": 2}]}'), "json:r", "ts")
    assert batch.time.tolist() == [1_700_000_000 * 10**9] * 2


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"data": {}}, "no array at 'data.readings': there is no field 'data.readings'"),
        ({}, "no array at 'data.readings': there is no field 'data'"),
        ({"data": 5}, "no array at 'data.readings': 'data' is a number"),
        ({"data": {"readings": {"a": 1}}}, "no array at 'data.readings': 'data.readings' is an object"),
        ({"data": {"readings": None}}, "no array at 'data.readings': 'data.readings' is null"),
        ("text", "no array at 'data.readings': the payload is a text"),
        ([{"data": {"readings": []}}, 3], "no array at 'data.readings': the payload is a number"),
        ({"data": [{"readings": []}, "x"]}, "no array at 'data.readings': 'data' is a text"),
        (b"{", "not JSON: unexpected end of data at byte 1"),
    ],
)
def test_no_array(value: Any, reason: str) -> None:
    """A message without an array at the path is counted as malformed, and the reason says where the path
    ended."""
    assert why("json:data.readings", value) == reason


@pytest.mark.parametrize("path", ["", ".", "a.", "a..b", "$.a", "a[0]", "a[*].b", "a#b"])
def test_bad_paths(path: str) -> None:
    """An invalid path is refused at once, with an example of a valid one."""
    for name in ("json", "msgpack", "cbor"):
        with pytest.raises(SettingsError, match=f"'{name}:data.readings', and not"):
            check_decoder(f"{name}:{path}")
    assert check_decoder("json:$values") == "json:$values"
    with pytest.raises(SettingsError, match="takes no options"):
        check_decoder("auto:readings")


def test_other_formats_and_the_archive() -> None:
    """MessagePack and CBOR have the same rows as JSON, for feeds and for the archiver. The content of a
    message still holds the whole payload."""
    packed = {"msgpack": msgpack.packb(READING), "cbor": cbor2.dumps(READING), "json": orjson.dumps(READING)}
    rows = [read_values(raw_of(payload), f"{name}:data.readings")[0] for name, payload in packed.items()]
    assert rows[0] == rows[1] == rows[2]
    assert rows[0][0]
    assert [row["v"] for row in rows[0][1]] == [1.5, 2]
    message = StoredMessage(1, 0, "s", packed["cbor"])
    assert content_of(message, "cbor:data.readings").value == READING


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """An array with too many elements, or with fields repeated too often, is counted as one malformed
    message. A long text around the array is cut once and shared by all rows."""
    text = "x" * 10_000
    found = elements_at({"t": text, "r": [1, 2]}, ["r"])
    assert len(found[0]["t"]) == LONGEST_TEXT
    assert found[0]["t"] is found[1]["t"]
    monkeypatch.setattr(elements, "MOST_ELEMENTS", 100)
    assert why("json:r", {"r": list(range(101))}) == "more than 100 elements at 'r'"
    assert len(frame("json:r", {"r": list(range(100))})) == 100
    monkeypatch.setattr(elements, "MOST_REPEATED", 200)
    fields = {f"f{i}": i for i in range(3)}
    assert "too many fields around them" in why("json:r", {**fields, "r": list(range(70))})
    assert "too many fields around them" in why("json:d.r", {**fields, "d": [{"r": [1]}] * 70})
    assert frame("json:d.r", {**fields, "d": [{"r": []}] * 900 + [{"r": [1]}]})["value"].tolist() == [1]


def test_many_different_fields(server: NatsServer, client: Client) -> None:
    """Decoding rows that share no fields does not take time quadratic in their number. Such a message is
    malformed, and the other messages of its batch are not."""
    wide = orjson.dumps([{f"k{i}": i} for i in range(30_000)])
    batch, _, malformed = decode(raw_of(orjson.dumps([{f"k{i}": i} for i in range(1_000)])), "json", None)
    assert (len(batch), malformed) == (1_000, 0)
    for payloads in ([wide], [wide, b'{"a": 1}']):  # the caller decodes several one at a time
        with pytest.raises(ValueError, match=r"30,0.. different fields in 30,0.. rows"):
            decode(raw_of(*payloads), "json", None)
    server.add_stream("WIDE", ["w.>"])
    publish(server, "w.a", wide, b'{"a": 1}')
    feed = client.feed("WIDE")
    until(lambda: len(feed.frame()) == 1)
    assert feed.health.malformed == 1


def test_live(server: NatsServer, client: Client) -> None:
    """On a real server, a feed has each row once, counts messages without the array, and filters rows by
    `where`."""
    server.add_stream("G", ["g.>"])
    payloads = [orjson.dumps({"gateway": n, "r": [{"v": n * 10 + i} for i in range(3)]}) for n in range(100)]
    publish(server, "g.a", *payloads, b'{"r": 1}')
    feed = client.feed("G", decoder="json:r")
    until(lambda: len(feed.frame()) == 300)
    assert feed.frame()["v"].tolist() == [n * 10 + i for n in range(100) for i in range(3)]
    until(lambda: feed.health.malformed == 1)
    assert feed.health.samples[-1].reason == "no array at 'r': 'r' is a number"
    filtered = client.feed("G", decoder="json:r", where="v % 10 = 2 AND gateway > 97")
    until(lambda: len(filtered.frame()) == 2)
    assert filtered.frame()["v"].tolist() == [982, 992]


values = some.recursive(
    some.none() | some.booleans() | some.integers(-(2**70), 2**70) | some.floats() | some.text(max_size=5),
    lambda inner: (
        some.lists(inner, max_size=4)
        | some.dictionaries(some.sampled_from(["a", "b", "a.b", "value", "a (2)", "_seq"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(values, some.sampled_from(["a", "b", "a.b", "a.a.b", "value"]))
def test_anything_in(value: Any, path: str) -> None:
    """Any payload either becomes valid rows or is counted once, with a reason."""
    payload = json.dumps(value).encode()
    batch, samples, malformed = decode(raw_of(payload), f"json:{path}", None)
    assert malformed in (0, 1)
    if malformed:
        assert len(batch) == 0
        assert samples[0].reason.startswith(f"no array at {path!r}: ")
    window = Window()
    window.append(batch)
    assert len(window.snapshot()) == len(batch)
