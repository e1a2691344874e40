"""The fields of payloads and their types."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nats_client.decoding.decode import decode
from nats_client.decoding.raw import Raw
from nats_client.series.field_stats import ROWS, Field, fields, times_among
from nats_client.table.values import Batch
from nats_client.table.window import Window

NOW = pd.Timestamp("2026-03-01T12:00:00Z").value
SECOND = 10**9


def seen(payloads: list[dict[str, Any]]) -> dict[str, Field]:
    """The fields of rows with these payloads, a second apart."""
    window = Window()
    count = len(payloads)
    received = [NOW + i * SECOND for i in range(count)]
    raw = Raw(list(range(1, count + 1)), received, ["s"] * count, [json.dumps(p).encode() for p in payloads])
    window.append(decode(raw, "json", None)[0])
    return {field.name: field for field in fields(window.snapshot())}


def test_kinds() -> None:
    """A field has a type, the share of rows that have it, its newest value, its extremes and its number of
    distinct values."""
    found = seen([{"n": i / 2, "i": i, "s": "ab"[i % 2], "few": {"x": None if i else 7}} for i in range(8)])
    assert found == {
        "n": Field("n", "number", 1.0, 3.5, 0.0, 3.5, 8),
        "i": Field("i", "integer", 1.0, 7.0, 0.0, 7.0, 8),
        "s": Field("s", "text", 1.0, "b", None, None, 2),
        "few.x": Field("few.x", "integer", 1 / 8, 7.0, 7.0, 7.0, 1),
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x", lambda i: f"2020-01-01T00:00:{i:02d}Z"),
        ("x", lambda i: NOW / 1e9 + i - 3600),
        ("x", lambda i: NOW // 10**6 + i),
        ("x", lambda i: NOW // 10**3 + i),
        ("x", lambda i: NOW + i),
        ("measured_at", lambda i: 1_577_836_800 + i),
        ("eventTime", lambda i: 1_577_836_800_000 + i),
    ],
)
def test_times(name: str, value: Any) -> None:
    """ISO 8601 texts are times. Numbers are times if they stay close to when their rows were stored, or if
    the field's name says so."""
    field = seen([{name: value(i)} for i in range(20)])[name]
    assert field.kind == "time"
    assert isinstance(field.least, pd.Timestamp)
    assert isinstance(field.greatest, pd.Timestamp)
    assert (
        pd.Timestamp("2019-12-31", tz="UTC")
        < field.least
        < field.greatest
        < pd.Timestamp(NOW + 60 * SECOND, tz="UTC")
    )
    assert times_among([field]) == [name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("used_bytes", lambda i: 1_772_366_400 + i * 100_000),
        ("x", lambda i: 1_577_836_800 + i),
        ("time", lambda i: i),
        ("time", lambda i: "soon" if i else "2020-01-01T00:00:00Z"),
        ("number", lambda i: str(i) * 17),
        ("x", lambda i: "²" * 17),
        ("x", lambda i: "9" * 19),
        ("x", lambda i: float(i) * 1e300),
    ],
)
def test_no_times(name: str, value: Any) -> None:
    """Other numbers and texts are not times, however large."""
    assert seen([{name: value(i)} for i in range(10)])[name].kind != "time"


def test_only_names_that_can_be_asked_for() -> None:
    """A field of the payload, nested or not, can be the rows' own time; a renamed field cannot."""
    found = seen([{"t": NOW // 10**9, "a": {"t": NOW // 10**9}, "_time": NOW // 10**9}])
    assert {field.kind for field in found.values()} == {"time"}
    assert times_among(list(found.values())) == ["t", "a.t"]


def test_cost_does_not_grow() -> None:
    """Only the newest rows are read, whatever the size of the window."""
    window, count = Window(), ROWS + 500
    seq = np.arange(1, count + 1)
    window.append(Batch(seq, seq, seq, ["s"] * count, {"n": seq.astype(float)}))
    (field,) = fields(window.snapshot())
    assert (field.least, field.greatest, field.distinct) == (501.0, float(count), ROWS)


def test_nothing_there() -> None:
    """A window without rows has no fields."""
    assert fields(Window().snapshot()) == []
