"""Payloads are decoded to columns."""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nats_client.decoding import json_columns as bulk_json
from nats_client.decoding.decode import decode
from nats_client.decoding.decoder import LONGEST_TEXT
from nats_client.decoding.decoders import DECODERS
from nats_client.decoding.json_payloads import JSON
from nats_client.decoding.raw import Raw
from nats_client.table.values import is_null
from nats_client.table.window import Window

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


def nulls(*payloads: bytes) -> dict[str, list[bool]]:
    """For each column of numbers, which rows have an explicit null."""
    count = len(payloads)
    batch, _, _ = decode(Raw(list(range(count)), [NOW] * count, ["s"] * count, list(payloads)), "json", None)
    window = Window()
    window.append(batch)
    rows = window.snapshot()
    return {
        name: is_null(rows.numbers(name)).tolist() for name, kind in rows.columns.items() if kind == "number"
    }


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
    """A scalar becomes the column `value`; an array of objects becomes several rows with one sequence."""
    rows, _ = frame(b"7", b'[{"value": 8}, {"value": 9}, 10]')
    assert rows["value"].tolist() == [7, 8, 9, 10]
    assert rows["_seq"].tolist() == [1, 2, 2, 2]


def test_nested_objects() -> None:
    """Nested objects become dotted columns, arrays within stay JSON text."""
    rows, _ = frame(b'{"a": {"b": {"c": 1}, "d": [1, 2]}}')
    assert rows["a.b.c"].tolist() == [1]
    assert rows["a.d"].tolist() == ["[1,2]"]


@pytest.mark.parametrize("payload", [b"{", b"\xff\xfe", b'{"a": NaN', b"[" * 100_000, b"\x00"])
def test_malformed(payload: bytes) -> None:
    """A payload that is not JSON is counted and left out; the other rows stay."""
    rows, malformed = frame(b'{"a": 1}', payload, b'{"a": 3}')
    assert malformed == 1
    assert rows["a"].tolist() == [1, 3]
    assert rows["_seq"].tolist() == [1, 3]


@pytest.mark.parametrize("decoder", ["json", "text"])
def test_no_payload(decoder: str) -> None:
    """A message without a payload is a row without fields, whatever the decoder."""
    raw = Raw([1, 2, 3], [10, 20, 30], ["s"] * 3, [b"", b"7", b""])
    batch, samples, malformed = decode(raw, decoder, None)
    assert (samples, malformed) == ([], 0)
    assert batch.seq.tolist() == [1, 2, 3]
    (values,) = batch.values.values()
    assert isinstance(values, np.ndarray | list)
    assert pd.Series(list(values)).isna().tolist() == [True, False, True]


def test_missing_and_mixed() -> None:
    """A null, and a word in a column of numbers, are missing values; a number in a column of words is
    text."""
    rows, _ = frame(b'{"a": 1, "t": "x"}', b'{"a": null}', b'{"a": "word", "t": 5}', b'{"a": 4, "t": "y"}')
    np.testing.assert_array_equal(rows["a"], [1, np.nan, np.nan, 4])
    assert rows["t"].tolist() == ["x", np.nan, "5", "y"] or rows["t"].isna().tolist() == [
        False,
        True,
        False,
        False,
    ]


def test_large_integers_stay_exact() -> None:
    """Integers that float64 cannot hold are numbers and keep every digit."""
    rows, _ = frame(b'{"id": 9007199254740993}')
    assert rows["id"].tolist() == [9007199254740993]


def test_envelope_names_are_kept_apart() -> None:
    """A payload cannot overwrite the envelope."""
    rows, _ = frame(b'{"_seq": 99, "_time": "x", "_subject": "y"}')
    assert rows["_seq"].tolist() == [1]
    assert rows["payload_seq"].tolist() == [99]
    assert rows["_subject"].tolist() == ["s"]


def test_long_text_is_cut() -> None:
    """A text longer than LONGEST_TEXT is cut to its beginning."""
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


@pytest.mark.parametrize("zone", ["", "@Asia/Tokyo"])
@pytest.mark.parametrize(
    "far",
    [
        "9999-12-31T00:00:00Z",
        "9999-12-31T23:59:59.999999-05:00",
        "0001-01-01",
        "1500-01-01 00:00",
        "2262-04-12",
    ],
)
def test_times_that_nanoseconds_cannot_hold(far: str, zone: str) -> None:
    """A message whose own time is beyond int64 ns is malformed, whatever its neighbours, which stay rows. In
    any other field such a time is a text."""
    payloads = [
        b'{"t":"%s","v":%d}' % (time.encode(), n) for n, time in enumerate((far, "2026-12-01T00:00Z"))
    ]
    rows, malformed = frame(*payloads, time=f"t{zone}")
    assert (rows["v"].tolist(), malformed) == ([1], 1)
    assert frame(payloads[0], time=f"t{zone}")[1] == 1
    rows, malformed = frame(*payloads)
    assert (rows["t"].tolist(), malformed) == ([far, "2026-12-01T00:00Z"], 0)


def test_text_decoder() -> None:
    """Text becomes the column `value`; a payload that is not UTF-8 is malformed."""
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
    """No payload raises an error: each message becomes rows or is counted as malformed, except for an empty
    array."""
    rows, malformed = frame(*payloads)
    empty_arrays = sum(_is_empty_array(payload) for payload in payloads)
    assert rows["_seq"].nunique() + malformed + empty_arrays == len(payloads)


def _is_empty_array(payload: bytes) -> bool:
    try:
        return bool(json.loads(payload) == [])
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


@settings(max_examples=300)
@given(st.lists(st.sampled_from(WHOLE + PARTS) | st.text('{}[]",:1a \n', max_size=8), min_size=1, max_size=6))
def test_read_in_one_go_as_one_by_one(texts: list[str]) -> None:
    """Payloads decoded together give the same rows and malformed count as each decoded alone."""
    payloads = [text.encode() for text in texts]
    together, malformed = frame(*payloads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DECODERS, "json", replace(JSON, rows=lambda _: None))
        alone, malformed_alone = frame(*payloads)
    assert malformed == malformed_alone
    pd.testing.assert_frame_equal(together, alone)


def unwanted(payloads: Sequence[bytes]) -> None:
    """Fail the test: a replacement for the row-by-row reader where payloads must be read by column."""
    pytest.fail(f"{len(payloads)} payloads were left to the reader of rows")


def test_what_looks_alike_is_read_by_column(monkeypatch: pytest.MonkeyPatch) -> None:
    """Payloads with the same fields and types are read by column, and not row by row."""
    payloads = [
        b'{"t": "2026-11-25T20:19:%02d.5Z", "value": %d.5, "n": %d, "unit": "\xc2\xb0C"%s}'
        % (i % 60, i, i, b', "ok": true' if i else b', "ok": false')
        for i in range(200)
    ]
    monkeypatch.setitem(DECODERS, "json", replace(JSON, rows=unwanted))
    rows, malformed = frame(*payloads, time="t")
    assert malformed == 0
    assert [str(rows[name].dtype) for name in ("t", "value", "n")] == [
        "datetime64[ns, UTC]",
        "float64",
        "int64",
    ]
    assert rows["unit"].tolist() == ["°C"] * 200
    assert rows["ok"].sum() == 199
    assert (rows.index == rows["t"]).all()


@pytest.mark.parametrize("text", ["null", "not null", "a\\null"])
def test_a_text_that_says_null_is_no_null(text: str) -> None:
    """If one row lacks a field, and a text in another row contains the word null, no row has an explicit
    null."""
    rows = [{"v": i, "text": "x"} for i in range(200)]
    rows[7]["text"] = text
    del rows[9]["v"]
    assert not any(nulls(*(json.dumps(row).encode() for row in rows))["v"])


def test_nulls_beside_texts_that_say_null_are_read_by_column(monkeypatch: pytest.MonkeyPatch) -> None:
    """Payloads with explicit nulls are read by column, even if texts beside them contain the word null."""
    rows = [{"v": i if i % 3 else None, "text": f"null and\nnull \\ {i}"} for i in range(200)]
    monkeypatch.setitem(DECODERS, "json", replace(JSON, rows=unwanted))
    assert nulls(*(json.dumps(row).encode() for row in rows))["v"] == [not i % 3 for i in range(200)]


KEYS = ["a", "b", "_seq", 'c"\\', "ü", "null"]
TEXTS = [
    "",
    "x",
    "2026-11-25T20:19:27Z",
    "2026-11-25T20:19:27.125Z",
    "2026-11-25 20:19",
    "NaN",
    "null",
    ":null,null",
    "\null",
    "\u0000",
    "é\n",
]
NUMBERS = [0, -1, 5, 1.5, -0.0, 1e300, 2**53 - 1, 2**53, -(2**53), 2**63, 2**64, 1e-320, 1700000000, 1.7e9]
like = {
    "text": st.sampled_from(TEXTS) | st.text(max_size=5),
    "integer": st.integers(-1000, 1000) | st.just(1700000000123),
    "number": st.sampled_from(NUMBERS) | st.floats(allow_nan=False, allow_infinity=False),
    "truth": st.booleans(),
}


@st.composite
def alike(draw: st.DrawFn) -> list[bytes]:
    """Objects with the same fields, of which some may be missing, null, or of another kind."""
    kinds = draw(st.dictionaries(st.sampled_from(KEYS), st.sampled_from(sorted(like)), min_size=1))
    found = []
    for _ in range(draw(st.integers(1, 6))):
        row = {key: draw(like[kind]) for key, kind in kinds.items()}
        odd = draw(st.sampled_from(["no"] * 6 + ["null", "missing", "other", "more", "shuffled"]))
        key = draw(st.sampled_from(sorted(kinds)))
        if odd in ("null", "other", "more"):
            value = draw(st.sampled_from(["q", 1, True, [1], {"b": 1}])) if odd != "null" else None
            row["more" if odd == "more" else key] = value
        elif odd == "missing":
            del row[key]
        elif odd == "shuffled":
            row = dict(reversed(row.items()))
        found.append(json.dumps(row, ensure_ascii=draw(st.booleans())).encode())
    return found


ODD = [
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":-Infinity}',
    b'{"a":1}{"a":2}',
    b'{"a":1} {"a":2}',
    b'{"a":01}',
    b'{"a":1.}',
    b'{"a":.5}',
    b'{"a":+1}',
    b'{"a":1,}',
    b'{"a":1,"a":2}',
    b'{"a":null,"a":2}',
    b'{"a":1,"a":null}',
    b'{"a":"null"}',
    b'{"a":"\\null"}',
    b'{"a":"\\u006eull"}',
    b'{"a":"\xff"}',
    b'{"a":"\\ud800"}',
    b'{"a":"\t"}',
    b'{"a":"\\x"}',
    b'{"a":1}x}',
    b'{"a":/*c*/1}',
    b"{'a':1}",
    b'{"a":1e999}',
    b'{"a":-0}',
    b'{"a":1E5}',
    b'{"a":\n1}',
    b'{"a":"x\n"}',
    b'{"a":null}',
    b'{"a":tru}',
    b'{"a":"' + b"x" * 5000 + b'"}',
    b'\xef\xbb\xbf{"a":1}',
    b"{}",
    b"",
]


@settings(max_examples=300)
@given(
    alike() | st.lists(st.sampled_from(ODD), max_size=2).map(lambda odd: [b'{"a":1}', *odd, b'{"a":2}']),
    st.sampled_from([None, "a"]),
)
def test_by_column_as_by_row(payloads: list[bytes], time: str | None) -> None:
    """Payloads read by column have exactly the same rows, nulls and malformed count as those read row by
    row."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk_json, "FEWEST", 1)
        by_column, malformed = frame(*payloads, time=time)
        nulls_by_column = nulls(*payloads)
        patch.setattr(bulk_json, "FEWEST", 1000)
        by_row, malformed_by_row = frame(*payloads, time=time)
        nulls_by_row = nulls(*payloads)
    assert nulls_by_column == nulls_by_row
    assert malformed == malformed_by_row
    pd.testing.assert_frame_equal(by_column, by_row, check_exact=True, check_categorical=False)
