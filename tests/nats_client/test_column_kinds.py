"""A column's type depends on its values, not on which of them came first."""

from collections.abc import Sequence

import numpy as np
import pytest

from nats_client.decoding.decode import decode
from nats_client.decoding.raw import Raw
from nats_client.errors import ColumnError
from nats_client.table.window import Window

BIG = 9223372036854771712


def window_of(payloads: Sequence[bytes], size: int) -> Window:
    """A window of these payloads, appended in batches of `size`."""
    window = Window()
    for start in range(0, len(payloads), size):
        part = list(payloads[start : start + size])
        seqs = list(range(start + 1, start + 1 + len(part)))
        window.append(decode(Raw(seqs, seqs, ["s.a"] * len(part), part), "json", None)[0])
    return window


@pytest.mark.parametrize(
    ("payloads", "kind", "mistyped"),
    [
        ([b'{"v": "unavailable"}'] + [b'{"v": 21.5}'] * 100, "number", 1),
        ([b'{"v": %d}' % BIG] + [b'{"v": 1073741824}'] * 100, "number", 0),
        ([b'{"v": 1}'] + [b'{"v": "open"}'] * 100, "text", 0),
        ([b'{"v": "1.5"}', b'{"v": "n/a"}'] * 50, "text", 0),
        ([b'{"v": 1}', b'{"v": "x"}', b'{"v": null}', b'{"v": true}'], "number", 1),
    ],
    ids=["a word first", "a large integer first", "a number first", "texts", "few"],
)
def test_order_does_not_matter(payloads: list[bytes], kind: str, mistyped: int) -> None:
    """A viewer who has followed from the first value sees the same column as one who opens the page later,
    whatever the order and the batches of the values."""
    seen = []
    for order in (payloads, payloads[::-1]):
        for size in (1, 7, len(payloads)):
            window = window_of(order, size)
            snapshot = window.snapshot()
            assert snapshot.columns["v"] == kind
            assert window.mistyped == mistyped
            values = list(map(str, snapshot.frame()["v"].tolist()))
            seen.append(values if order is payloads else values[::-1])
    assert all(values == seen[0] for values in seen)


def test_large_integers_are_exact_beside_small_ones() -> None:
    """Integers too large for a float are rounded in charts, and shown with every digit in tables."""
    snapshot = window_of([b'{"v": %d}' % n for n in (BIG + 1, 5, BIG + 3)], 1).snapshot()
    assert snapshot.numbers("v").tolist() == [float(BIG), 5.0, float(BIG)]
    assert snapshot.frame()["v"].tolist() == [BIG + 1, 5, BIG + 3]
    assert snapshot.latest("v").tolist() == [BIG + 3]


def test_kind_changes_with_the_rows() -> None:
    """When the odd values have left the window, the column gets the type of the rest, and a new generation.
    Integers are integers again."""
    window = window_of([b'{"v": "a"}'] * 6 + [b'{"v": 1}'] * 5, 3)
    before = window.snapshot()
    assert before.columns["v"] == "text"
    window.evict(4)
    after = window.snapshot()
    assert after.columns["v"] == "number"
    assert after.generation != before.generation
    assert window.mistyped == 3
    window.evict(7)
    assert window.mistyped == 0
    assert window.snapshot().frame()["v"].dtype == "int64"
    assert before.frame()["v"].tolist() == ["a"] * 6 + ["1"] * 5


def test_times_are_times_again() -> None:
    """A column of times gets its type back when the row with another text has left the window."""
    window = window_of([b'{"v": "n/a"}'] + [b'{"v": "2026-11-25T20:19:27Z"}'] * 9, 1)
    assert window.snapshot().columns["v"] == "text"
    window.evict(2)
    assert window.snapshot().columns["v"] == "time"


def test_columns_that_nobody_has_any_more_make_room() -> None:
    """Fields that have left the window free their places for new fields."""
    window = Window()
    for i in range(400):
        fields = b'{"k%d": 1}' % i
        window.append(decode(Raw([i + 1], [i + 1], ["s.a"], [fields]), "json", None)[0])
        window.evict(i - 5)
    assert not window.surplus_fields
    assert "k399" in window.snapshot().columns


def test_texts_are_read_as_numbers_where_numbers_are_wanted() -> None:
    """A column of numbers written as text, or of "on" and "off", has the type text and can be read as
    numbers. Its other texts, such as a first "unavailable", are then missing values, and a column without any
    number raises ColumnError. Ids made of digits keep their text."""
    first = b'{"v": "unavailable", "on": "off", "w": "x", "id": "17"}'
    payloads = [first, b'{"v": "21.5", "on": "ON", "w": "y"}']
    rows = window_of(payloads, 1).snapshot()
    assert rows.columns["v"] == rows.columns["id"] == "text"
    np.testing.assert_array_equal(rows.numbers("v"), [np.nan, 21.5])
    np.testing.assert_array_equal(rows.numbers("on"), [0, 1])
    np.testing.assert_array_equal(rows.numbers("v", rows.end - 1), [21.5])
    assert rows.codes("id")[1] == ["17"]
    with pytest.raises(ColumnError, match="holds texts"):
        rows.numbers("w")
    assert rows.drawable() == ["on", "id"]
    more = window_of([*payloads, b'{"v": "22"}'], 1).snapshot()
    assert more.drawable() == ["v", "on", "id"]
