"""Payloads to columns."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nats_client import decoders
from nats_client.decoders import LONGEST_TEXT, Raw, decode
from nats_client.window import Window

NOW = 1_700_000_000_123_456_789


def frame(*payloads: bytes, decoder: str = "json", time: str | None = None) -> tuple[pd.DataFrame, int]:
    """The rows of `payloads`, and how many were malformed."""
    raw = Raw(
        list(range(1, len(payloads) + 1)),
        [NOW + i for i in range(len(payloads))],
        ["s"] * len(payloads),
        list(payloads),
    )
    batch, _, malformed = decode(raw, decoder, time)
    window = Window()
    window.append(batch)
    return window.snapshot().frame(), malformed


def test_objects() -> None:
    """A JSON object is a row, its keys are columns, integers stay integers."""
    rows, malformed = frame(
        b'{"a": 1, "b": 1.5, "c": "x", "d": true}', b'{"a": 2, "b": 2, "c": "y", "d": false}'
    )
    assert malformed == 0
    assert rows["a"].tolist() == [1, 2]
    assert rows["a"].dtype == np.int64
    assert rows["b"].tolist() == [1.5, 2.0]
    assert rows["c"].tolist() == ["x", "y"]
    assert rows["d"].tolist() == [1.0, 0.0]


def test_scalars_and_arrays() -> None:
    """A scalar is the column value, an array of objects is several rows of one sequence."""
    rows, _ = frame(b"7", b'[{"value": 8}, {"value": 9}, 10]')
    assert rows["value"].tolist() == [7, 8, 9, 10]
    assert rows["_seq"].tolist() == [1, 2, 2, 2]


def test_nested_objects() -> None:
    """Nested objects become dotted columns, arrays within stay JSON text."""
    rows, _ = frame(b'{"a": {"b": {"c": 1}, "d": [1, 2]}}')
    assert rows["a.b.c"].tolist() == [1]
    assert rows["a.d"].tolist() == ["[1,2]"]


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff\xfe", b'{"a": NaN', b"[" * 100_000, b"\x00"])
def test_malformed(payload: bytes) -> None:
    """What is no JSON is counted and left out, and the rest stays."""
    rows, malformed = frame(b'{"a": 1}', payload, b'{"a": 3}')
    assert malformed == 1
    assert rows["a"].tolist() == [1, 3]
    assert rows["_seq"].tolist() == [1, 3]


def test_missing_and_mixed() -> None:
    """A missing value is missing; a word in a column of numbers is missing; a number among words is text."""
    rows, _ = frame(b'{"a": 1, "t": "x"}', b'{"a": null}', b'{"a": "word", "t": 5}', b'{"a": 4, "t": "y"}')
    np.testing.assert_array_equal(rows["a"], [1, np.nan, np.nan, 4])
    assert rows["t"].tolist() == ["x", np.nan, "5", "y"] or rows["t"].isna().tolist() == [
        False,
        True,
        False,
        False,
    ]


def test_large_integers_stay_exact() -> None:
    """Integers that float64 cannot hold are kept to the digit, as text."""
    rows, _ = frame(b'{"id": 9007199254740993}')
    assert rows["id"].tolist() == ["9007199254740993"]


def test_envelope_names_are_kept_apart() -> None:
    """A payload cannot overwrite the envelope."""
    rows, _ = frame(b'{"_seq": 99, "_time": "x", "_subject": "y"}')
    assert rows["_seq"].tolist() == [1]
    assert rows["payload_seq"].tolist() == [99]
    assert rows["_subject"].tolist() == ["s"]


def test_long_text_is_cut() -> None:
    """A huge text keeps its beginning."""
    rows, _ = frame(json.dumps({"a": "x" * 1_000_000}).encode())
    assert len(rows["a"].iloc[0]) == LONGEST_TEXT


@pytest.mark.parametrize(
    "value",
    [
        1700000000,
        1700000000.0,
        1700000000000,
        1700000000000000,
        1700000000000000000,
        "2023-11-14T22:13:20Z",
        "2023-11-14T22:13:20",
        "2023-11-15T00:13:20+02:00",
    ],
)
def test_event_time(value: object) -> None:
    """Seconds, milliseconds, microseconds, nanoseconds and ISO 8601, with and without zone, are one time."""
    rows, malformed = frame(json.dumps({"t": value, "a": 1}).encode(), time="t")
    assert malformed == 0
    assert rows.index[0] == pd.Timestamp("2023-11-14T22:13:20Z")


def test_unreadable_event_time() -> None:
    """A row whose time cannot be read is malformed; the others stay."""
    rows, malformed = frame(b'{"t": "soon"}', b'{"a": 1}', b'{"t": 1700000000}', b'{"t": 1e300}', time="t")
    assert malformed == 3
    assert rows["_seq"].tolist() == [3]


def test_text_decoder() -> None:
    """Text is the column value; what is not UTF-8 is malformed."""
    rows, malformed = frame("grüße".encode(), b"\xff", decoder="text")
    assert rows["value"].tolist() == ["grüße"]
    assert malformed == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=150)
@given(st.lists(json_values.map(lambda v: json.dumps(v).encode()) | st.binary(max_size=40), max_size=8))
def test_whatever_comes(payloads: list[bytes]) -> None:
    """No payload stops anything: each message is rows, or is counted as malformed."""
    rows, malformed = frame(*payloads)
    empty_arrays = sum(_is_empty_array(payload) for payload in payloads)
    assert rows["_seq"].nunique() + malformed + empty_arrays == len(payloads)


def _is_empty_array(payload: bytes) -> bool:
    try:
        return json.loads(payload) == []
    except (ValueError, RecursionError):
        return False


WHOLE = ['{"a":1}', '{"a":{"b":2}}', "{}", "5", "", "[]", "null", ' {"c":[1]} ', '{"a":NaN}', '{"a":"},{"}']
PARTS = [
    '{"a":[{}',
    "{}]}",
    "{},{}",
    '{"a":1',
    '"b":2}',
    '{"a":"x}',
    '{","b":"y"}',
    '{"a":{}',
    '{"c":1}}',
    "},{",
]


@settings(max_examples=1000)
@given(st.lists(st.sampled_from(WHOLE + PARTS) | st.text('{}[]",:1a \n', max_size=8), min_size=1, max_size=6))
def test_read_in_one_go_as_one_by_one(texts: list[str]) -> None:
    """Payloads read together give the rows, and the malformed ones, that each gives by itself."""
    payloads = [text.encode() for text in texts]
    together, malformed = frame(*payloads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoders, "_objects", lambda _: None)
        alone, malformed_alone = frame(*payloads)
    assert malformed == malformed_alone
    pd.testing.assert_frame_equal(together, alone)
