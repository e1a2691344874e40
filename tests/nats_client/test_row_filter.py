"""`where` and `columns` of a feed, on batches of messages: exact, however the messages are batched."""

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nats_client.decoding.decode import decode
from nats_client.decoding.raw import Raw
from nats_client.errors import SqlError
from nats_client.sql.row_filter import RowFilter, checked_expressions, unseen_text
from nats_client.table.iso_times import IsoTimes
from nats_client.table.snapshot import Snapshot
from nats_client.table.values import is_null
from nats_client.table.window import Window

START = 1_790_000_000_000_000_000
Payload = dict[str, Any]


def raw(payloads: list[Payload], first: int = 1, subjects: list[str] | None = None) -> Raw:
    """Messages with these payloads, a second apart."""
    seqs = list(range(first, first + len(payloads)))
    return Raw(
        seqs,
        [START + seq * 1_000_000_000 for seq in seqs],
        subjects or ["s.a"] * len(payloads),
        [json.dumps(payload).encode() for payload in payloads],
    )


def parts(messages: Raw, most: int) -> list[Raw]:
    """The messages, `most` at a time."""
    found, left = list[Raw](), messages
    while len(left):
        found.append(left.before(most))
        left = left.after(most)
    return found


def window(
    row_filter: RowFilter | None, messages: Raw, most: int = 5_000, time: str | None = None, **limits: Any
) -> Window:
    """The messages in a window, `most` at a time."""
    found = Window(**limits)
    for part in parts(messages, most):
        batch = decode(part, "json", time)[0]
        found.append(batch if row_filter is None else row_filter.apply(batch))
    return found


def kept(where: str, payloads: list[Payload], **named: Any) -> list[int]:
    """The sequences that `where` keeps."""
    found: list[int] = window(RowFilter(where, **named), raw(payloads)).snapshot().seq.tolist()
    return found


def values(snapshot: Snapshot, name: str) -> list[Any]:
    """A column as Python values: None where a row has none."""
    series = snapshot.frame([name])[name]
    return [None if pd.isna(value) else value for value in series.tolist()]


def computed(text: str, payloads: list[Payload]) -> list[Any]:
    """The values of one computed column."""
    return values(window(RowFilter(None, [("c", text)]), raw(payloads)).snapshot(), "c")


# -- against pandas ------------------------------------------------------------------------------------------

numbers = st.one_of(
    st.integers(-300, 300),
    st.floats(-300, 300, allow_nan=False).map(lambda value: round(value, 3)),
    st.just(math.nan),
    st.none(),
)
words = st.sampled_from(["error", "info", "", "2024-01-01T00:00:00Z", "12"])
plain_payloads = st.fixed_dictionaries({}, optional={"level": words, "ms": numbers, "w": numbers})
"""Fields that keep their types, or are missing."""
wild_payloads = st.fixed_dictionaries(
    {}, optional={"level": st.one_of(words, numbers), "ms": st.one_of(numbers, words), "w": numbers}
)
"""Fields of any type."""
sizes = st.integers(1, 30)


@settings(max_examples=40)
@given(st.lists(plain_payloads, min_size=1, max_size=60), sizes)
def test_equal_to_pandas_on_all_rows(payloads: list[Payload], most: int) -> None:
    """The rows kept and the computed columns are those that pandas finds in the window of all messages."""
    messages = raw(payloads)
    row_filter = RowFilter("level = 'error' AND ms > 100", [("kw", "w / 1000"), ("both", "ms + w")])
    found = window(row_filter, messages, most).snapshot()
    every = window(None, messages, most).snapshot().frame()
    for name in ("level", "ms", "w"):
        if name not in every:
            every[name] = np.nan
    right = every[(every["level"].astype(object) == "error") & (every["ms"] > 100)]
    assert found.seq.tolist() == right["_seq"].tolist()
    if len(right):
        own = found.frame()
        nothing = pd.Series(np.nan, index=own.index)
        for name, wanted in (
            ("kw", right["w"] / 1000),
            ("both", right["ms"] + right["w"]),
            ("ms", right["ms"]),
            ("w", right["w"]),
        ):
            held = own.get(name, nothing).astype(float).tolist()
            assert held == pytest.approx(wanted.astype(float).tolist(), nan_ok=True)


@settings(max_examples=40)
@given(st.lists(wild_payloads, min_size=1, max_size=60), sizes, sizes)
def test_a_message_is_judged_by_itself(payloads: list[Payload], one: int, other: int) -> None:
    """The rows kept and the values computed do not depend on the other messages of a batch, whatever their
    types."""
    row_filter = RowFilter(
        "ms > 100 OR level != 'info'",
        [("twice", "ms * 2"), ("said", "upper(level)"), ("mix", "coalesce(ms, w)")],
    )
    messages = raw(payloads)
    found = [window(row_filter, messages, most).snapshot() for most in (one, other)]
    right = [
        seq
        for seq, payload in zip(messages.seq, payloads, strict=True)
        if _is_above(payload.get("ms")) or _differs(payload.get("level"))
    ]
    assert found[0].seq.tolist() == found[1].seq.tolist() == right
    # A column without a value may be there or not, with a filter or without one
    columns = [
        {name: kind for name, kind in each.columns.items() if any(v is not None for v in values(each, name))}
        for each in found
    ]
    assert columns[0] == columns[1]
    for name in columns[0]:
        assert _same(values(found[0], name), values(found[1], name))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not math.isnan(value)


def _is_above(value: Any) -> bool:
    return _is_number(value) and value > 100


def _differs(value: Any) -> bool:
    # A number or a time compared with a text is NULL.
    return isinstance(value, str) and value != "info" and not value.startswith("2024")


def _same(one: list[Any], other: list[Any]) -> bool:
    return (
        one == pytest.approx(other)
        if all(map(_is_number, one))
        else list(map(str, one)) == list(map(str, other))
    )


@settings(max_examples=40)
@given(
    st.lists(plain_payloads, min_size=1, max_size=40),
    sizes,
    st.lists(
        st.tuples(st.sampled_from(["purge", "delete", "late", "recreate", "narrow"]), sizes), max_size=6
    ),
)
def test_equal_to_pandas_after_what_happens_to_streams(
    payloads: list[Payload], most: int, happens: list[tuple[str, int]]
) -> None:
    """Rows and computed columns still equal those of pandas after purges, deletions, late rows, a recreated
    stream and evictions: a filtered window loses the same rows as an unfiltered one."""
    row_filter = RowFilter("ms > 100", [("kw", "w / 1000")])
    windows = Window(), Window()
    first = 1

    def come(some: list[Payload]) -> None:
        nonlocal first
        messages = raw(some, first)
        for part in parts(messages, most):
            batch = decode(part, "json", "at")[0]
            windows[0].append(batch)
            windows[1].append(row_filter.apply(batch))
        first += len(some)

    def at(some: list[Payload], late: int = 0) -> list[Payload]:
        return [{**payload, "at": 1_790_000_000 + first + i - late} for i, payload in enumerate(some)]

    come(at(payloads))
    for what, size in happens:
        for each in windows:
            if what == "purge":
                each.remove_before(size)
            elif what == "delete":
                each.remove(np.arange(size, 2 * size))
            elif what == "recreate":
                each.clear()
            elif what == "narrow":
                each.evict(START + size * 1_000_000_000)
        if what == "recreate":
            first = 1
        come(at(payloads[:size], 3_600 if what == "late" else 0))
    every, found = windows[0].snapshot().frame(), windows[1].snapshot().frame()
    right = every[every["ms"] > 100] if "ms" in every else every[:0]
    assert found["_seq"].tolist() == right["_seq"].tolist()
    assert found.index.equals(right.index)
    if len(right):
        kw = found["kw"] if "kw" in found else pd.Series(np.nan, index=found.index)
        wanted = right["w"] if "w" in right else pd.Series(np.nan, index=right.index)
        assert kw.tolist() == pytest.approx((wanted.astype(float) / 1000).tolist(), nan_ok=True)


@settings(max_examples=40)
@given(st.lists(plain_payloads, min_size=10, max_size=60), sizes)
def test_ceiling_counts_rows_that_are_kept(payloads: list[Payload], most: int) -> None:
    """A ceiling counts only rows that match, and keeps the newest of them."""
    messages = raw(payloads)
    every = window(RowFilter("ms > 0"), messages, most).snapshot().seq.tolist()
    few = window(RowFilter("ms > 0"), messages, most, max_rows=5)
    assert few.snapshot().seq.tolist() == every[-5:]
    assert few.dropped == max(0, len(every) - 5)


# -- cases ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "right"),
    [
        ("ms > 100", [1, 3]),
        ("NOT ms > 100", [2]),
        ("ms IS NULL", [4, 6]),
        ("coalesce(ms, 0) = 0", [4, 6]),
        ("typeof(ms) = 'VARCHAR'", [5]),
        ("TRY_CAST(ms AS DOUBLE) > 5", [1, 2, 3, 5]),
        ("ms / 0 > 1", [1, 2, 3]),
        ("ms & 1 = 0", [1, 2]),
        ("_seq % 2 = 0 AND _subject = 's.a'", [2, 4, 6]),
        ("_time >= TIMESTAMPTZ '2026-09-21 14:13:24'", [4, 5, 6]),
        ("_time > _time - INTERVAL 10 s", [1, 2, 3, 4, 5, 6]),
        ("missing = 1", []),
        ("missing IS NULL", [1, 2, 3, 4, 5, 6]),
        ("a.b = 'x'", [3]),
        ("ok", [2]),
        ("ok = true", [2]),
        ("level LIKE '%rr%' -- a comment", [1]),
        ('"select" = 7', [4]),
        ("CASE WHEN ms > 100 THEN level = 'error' ELSE ok END", [1, 2]),
    ],
)
def test_where(where: str, right: list[int]) -> None:
    """A row is kept where the expression is true: not where it is false or NULL, and not where it fails."""
    payloads: list[Payload] = [
        {"ms": 150, "level": "error"},
        {"ms": 50, "ok": True},
        {"ms": 100.5, "a": {"b": "x"}},
        {"level": 5, "select": 7},
        {"ms": "12"},
        {"ms": None, "ok": False},
    ]
    assert kept(where, payloads) == right


def test_texts_that_are_times() -> None:
    """A text in ISO 8601 is a time, whatever other messages hold, and can still be searched as a text."""
    payloads: list[Payload] = [
        {"until": "2026-01-02T05:00:00Z"},
        {"until": "never"},
        {"until": "2025-01-01T05:00:00Z"},
        {"until": 5},
    ]
    assert kept("until > TIMESTAMPTZ '2025-06-01'", payloads) == [1]
    assert kept("hour(until) = 5", payloads) == [1, 3]
    assert kept("until LIKE '2025%'", payloads) == [3]
    assert kept("until = 'never'", payloads) == [2]
    found = window(RowFilter("until > TIMESTAMPTZ '2020-01-01'"), raw(payloads)).snapshot()
    assert found.columns["until"] == "time"


def test_large_integers_are_exact() -> None:
    """Integers beyond 2**53 are compared and computed digit by digit."""
    payloads: list[Payload] = [{"id": 2**53}, {"id": 2**53 + 1}, {"id": 2**64 - 1}, {"id": 4}]
    assert kept(f"id = {2**53 + 1}", payloads) == [2]
    assert computed("id - 1", payloads) == [2**53 - 1, 2**53, 2**64 - 2, 3]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("ms * 2", [300, 100.5, None, None]),
        ("upper(level)", ["ERROR", None, None, None]),
        ("ms > 100", [1, 0, None, None]),
        ("ms / 0", [None, None, None, None]),
        ("CASE WHEN ms > 100 THEN 'slow' END", ["slow", None, None, None]),
        ("_seq", [1, 2, 3, 4]),
        ("CAST(level AS INTEGER)", [None, None, None, None]),
        ("left(repeated, 2)", [None, None, None, "xx"]),
        ("date_trunc('hour', _time)", [pd.Timestamp("2026-09-21 14:00", tz="UTC")] * 4),
        ("level || ''", ["error", None, None, None]),
    ],
)
def test_computed_columns(text: str, right: list[Any]) -> None:
    """A computed column has a value where the expression has one."""
    payloads: list[Payload] = [
        {"ms": 150, "level": "error"},
        {"ms": 50.25},
        {"ms": None},
        {"repeated": "x" * 3000},
    ]
    assert computed(text, payloads) == right


def test_computed_column_of_the_name_of_a_field() -> None:
    """A computed column takes the name of a field, which becomes payload{name}. Expressions still refer to
    the fields of the message."""
    found = window(RowFilter("w > 1000", [("w", "w / 1000")]), raw([{"w": 2000}, {"w": 500}])).snapshot()
    assert values(found, "w") == [2]
    assert values(found, "payloadw") == [2000]


def test_null_and_missing() -> None:
    """If a field is null, a value computed from it is an explicit null, which breaks a line. If a message
    lacks the field, the value is missing."""
    found = window(RowFilter(None, [("kw", "w / 1000")]), raw([{"w": 1000}, {"w": None}, {}])).snapshot()
    assert is_null(found.numbers("kw")).tolist() == [False, True, False]


def test_long_texts_are_cut() -> None:
    """A computed text has at most as many characters as one of a payload."""
    (text,) = computed("concat(a, a, a)", [{"a": "x" * 4000}])
    assert len(text) == 4096


def test_times_of_a_result() -> None:
    """A computed time is a time; one that nanoseconds cannot hold is missing."""
    found = computed(
        "TIMESTAMPTZ '2026-01-01 00:00:00.5' + to_days(CAST(d AS INTEGER))", [{"d": 1}, {"d": 10**6}]
    )
    assert found == [pd.Timestamp("2026-01-02 00:00:00.5", tz="UTC"), None]


def test_arrays_of_a_message() -> None:
    """Each item of an array is filtered by itself."""
    messages = Raw(
        [1, 2], [START, START + 1], ["s.a"] * 2, [b'[{"n": 1}, {"n": 5}, {"n": 7}]', b'[{"n": 0}]']
    )
    found = RowFilter("n > 4").apply(decode(messages, "json", None)[0])
    assert found.seq.tolist() == [1, 1]


def test_named_tokens() -> None:
    """A named token takes precedence over a field of the same name, which becomes payload{name}. The names
    change what an expression means, so those that it uses are part of a feed's identity."""
    subjects = ["s.a", "s.b", "s.a"]
    messages = raw([{"host": "x"}, {"host": "x"}, {"host": "y"}], subjects=subjects)
    batch = decode(messages, "json", None)[0]
    row_filter = RowFilter("host = 'a' AND payloadhost = 'x'", [("up", "upper(host)")], ("", "host"))
    found = row_filter.apply(batch)
    assert found.seq.tolist() == [1]
    assert RowFilter("host = 'x'").apply(batch).seq.tolist() == [1, 2]
    assert checked_expressions("host = 'a'", {}, ("", "host", "x"))[2] == ("", "host", "")
    assert checked_expressions("payloadhost = 'a'", {}, ("", "host"))[2] == ("", "host")
    assert checked_expressions("ms > 5", {}, ("", "host"))[2] == ()
    with pytest.raises(SqlError, match="token of the subject"):
        checked_expressions(None, {"host": "ms"}, ("", "host"))


def test_a_field_that_no_message_had() -> None:
    """A field that no message has had is no error. It is reported with the nearest field, until a message has
    it."""
    row_filter = RowFilter("levle = 'error'")
    row_filter.apply(decode(raw([{"level": "error", "ms": 1}]), "json", None)[0])
    assert list(row_filter.seen.absent) == ["levle"]
    assert "Did you mean 'level'?" in unseen_text("levle", row_filter.seen)
    found = row_filter.apply(decode(raw([{"levle": "error"}], 2), "json", None)[0])
    assert found.seq.tolist() == [2]
    assert not row_filter.seen.absent


def test_a_type_with_which_it_has_no_value() -> None:
    """If an expression has no value for a field's type, the reason is reported once."""
    row_filter = RowFilter("ms > 100")
    row_filter.apply(decode(raw([{"ms": "fast"}, {"ms": 200}, {"ms": "slow"}]), "json", None)[0])
    (note,) = row_filter.seen.notes
    assert note.startswith("where has no value where ms is text: Cannot compare")


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("ms >", "Syntax error"),
        ("ms > 100 AND", "Syntax error"),
        ("count(*) > 1", "aggregate"),
        ("ms > (SELECT 1)", "column 6: A subquery"),
        ("row_number() OVER () = 1", "window function"),
        ("ms IN (SELECT 1)", "subquery"),
        ("*", "star"),
        ("ms, w", "one expression"),
        ("getenv('HOME') = ''", "getenv"),
        ("random() > 0.5", "'random'"),
        ("_time > now()", "'now'"),
        ("current_setting('x') = 'a'", "current_setting"),
        ("repeat('x', 1000000000) = 'a'", "repeat"),
        ("len(range(1000000000)) > 1", "range"),
        ("list_sum(list_transform([1, 2], x -> x)) > 1", "list_"),
        ("flor(ms) = 1", "Did you mean 'floor'?"),
        ("ms = $limit", "parameter"),
        ("a = 1; DROP TABLE t", "SELECT"),
        ("round(1, 2, 3, 4) = 1", "round"),
        ("ms\n > 100\n AND foo(ms)", "Line 3, column 6"),
        ("main.lower(level) = 'a'", "lower"),
        ("(" * 80 + "ms" + ")" * 80 + " > " + "-".join("1" * 200), "nested"),
        (" OR ".join(["ms > 1"] * 300), "characters"),
        (5, "no text"),
    ],
)
def test_mistakes(where: Any, said: str) -> None:
    """A mistake is reported with its place before a feed is opened. An expression may use only scalar
    functions of one row's fields."""
    with pytest.raises(SqlError, match=r"^where: ") as caught:
        checked_expressions(where, {}, ())
    assert said in str(caught.value)
    with pytest.raises(SqlError, match=r"^column 'c': "):
        checked_expressions(None, {"c": where}, ())


@pytest.mark.parametrize("name", ["", "_time", "a\nb", "x" * 300])
def test_names_of_computed_columns(name: str) -> None:
    """An invalid name of a computed column is refused."""
    with pytest.raises(SqlError):
        checked_expressions(None, {name: "ms"}, ())


def test_no_more_than_it_holds() -> None:
    """Texts that no row of the window uses are not kept: messages that do not match take no memory."""
    payloads: list[Payload] = [{"id": f"text {i}", "ok": i == 7} for i in range(1000)]
    found = window(RowFilter("ok"), raw(payloads)).snapshot()
    assert found.codes("id")[1] == ["text 7"]


def test_columns_without_rows_are_none() -> None:
    """A field that only messages without a match have is not a column."""
    payloads: list[Payload] = [{"n": 1, "stack": "x"}, {"n": 2, "ms": 5}, {"n": 1, "deep": {"er": None}}]
    found = window(RowFilter("n = 2"), raw(payloads)).snapshot()
    assert list(found.columns) == ["_subject", "n", "ms"]


def test_times_survive() -> None:
    """A filter keeps the times of its rows exactly, to the nanosecond."""
    payloads: list[Payload] = [{"at_": f"2026-01-01T00:00:0{i}.123456789Z", "n": i} for i in range(5)]
    found = window(RowFilter("n >= 3"), raw(payloads)).snapshot()
    times: IsoTimes = found.iso_times("at_")
    assert times["ns"].tolist() == [pd.Timestamp(payload["at_"]).value for payload in payloads[3:]]
