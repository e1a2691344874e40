"""Subject patterns, the types of each pattern's fields, and when they changed."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nats_client import Client
from nats_client.decoding.decode import decode
from nats_client.decoding.raw import Raw
from nats_client.series.field_types import (
    MOST_DISTINCT,
    MOST_FIELDS,
    TILES,
    Change,
    FieldCourses,
    FieldTypes,
    Report,
)
from nats_client.series.subject_patterns import MOST, SubjectPatterns
from nats_client.table.window import Window
from tests.nats import NatsServer
from tests.waiting import until

NOW = pd.Timestamp("2026-03-01T12:00:00Z").value
SECOND = 10**9
LOOK_BACK = pd.Timedelta("PT10M")

Message = tuple[str, Any]


def patterns(*subjects: str) -> list[str]:
    """The pattern of each subject."""
    found = SubjectPatterns()
    found.add(subjects, len(subjects))
    return [found.names[code] for code in found.codes.tolist()]


class Rows:
    """A window of messages a second apart."""

    def __init__(self, time: str | None = None) -> None:
        """`time`: the field with a row's own time."""
        self.window = Window()
        self.count = 0
        self.time = time

    def add(self, *messages: Message) -> "Rows":
        """Append messages in one batch."""
        numbers = range(self.count, self.count + len(messages))
        self.count += len(messages)
        raw = Raw(
            [i + 1 for i in numbers],
            [NOW + i * SECOND for i in numbers],
            [subject for subject, _ in messages],
            [json.dumps(payload).encode() for _, payload in messages],
        )
        self.window.append(decode(raw, "json", self.time)[0])
        return self

    def report(self, pattern: str | None = None) -> Report:
        """The report that a new reader gets."""
        return FieldCourses(LOOK_BACK).report(self.window.snapshot(), pattern)


def by_name(report: Report) -> dict[str, FieldTypes]:
    """The fields by their names."""
    return {field.name: field for field in report.fields}


@pytest.mark.parametrize(
    ("subjects", "expected"),
    [
        (["orders.eu", "orders.us"], ["orders.eu", "orders.us"]),
        (["line.7.temp"], ["line.*.temp"]),
        (["d.0f3a9b21.up", "d.6ba7b810-9dad-11d1-80b4-00c04fd430c8.up"], ["d.*.up"] * 2),
        (
            [f"devices.pump{i}.{what}" for i in range(20) for what in "ab"],
            ["devices.*.a", "devices.*.b"] * 20,
        ),
        (["a.x", "a", "a.x.y"], ["a.x", "a", "a.x.y"]),
        ([".".join("abcdefghijklmnopqrst")], [f"{'.'.join('abcdefghijklmnop')}.>"]),
    ],
)
def test_patterns(subjects: list[str], expected: list[str]) -> None:
    """Tokens that vary a lot become *, and tokens with few values stay."""
    assert patterns(*subjects) == expected


@given(
    st.lists(
        st.lists(st.sampled_from(["a", "b", "c", "eu", "7", "<b>", *"dfghijk"]), min_size=1, max_size=6)
    ),
    st.randoms(use_true_random=False),
)
@settings(max_examples=150, deadline=None)
def test_the_order_of_subjects_does_not_matter(tokens: list[list[str]], chance: random.Random) -> None:
    """Whatever the order and batches of subjects, each has the same pattern, and the pattern matches it."""
    subjects = list(dict.fromkeys(".".join(each) for each in tokens))
    expected = dict(zip(subjects, patterns(*subjects), strict=True))
    chance.shuffle(subjects)
    found = SubjectPatterns()
    for count in [*range(0, len(subjects), 3), len(subjects)]:
        before = [found.names[code] for code in found.codes.tolist()]
        changed = found.add(subjects, count)
        after = [found.names[code] for code in found.codes.tolist()]
        # Without a change, a code stands for the same pattern, or for a wider one with the same subjects.
        assert changed or len(set(zip(before, after, strict=False))) == len(set(before))
    assert {
        one: found.names[code] for one, code in zip(subjects, found.codes.tolist(), strict=True)
    } == expected
    for subject, pattern in expected.items():
        pairs = zip(pattern.split("."), subject.split("."), strict=True)
        assert all(one in ("*", token) for one, token in pairs)


def test_hostile_subjects_are_bounded() -> None:
    """Subjects that differ in every token, at any depth, make a bounded number of patterns."""
    chance = random.Random(7)
    subjects = [
        ".".join(f"{chance.choice('abcdefgh')}{chance.randrange(10)}" for _ in range(chance.randrange(1, 40)))
        for _ in range(20_000)
    ]
    found = SubjectPatterns()
    found.add(subjects, len(subjects))
    assert len(found.names) <= MOST
    assert set(found.codes.tolist()) == set(found.names)


def test_fields_of_each_pattern() -> None:
    """Each pattern has its own fields, with the count of each type, the share of rows, the extremes, the
    number of distinct values, and the newest value of each type."""
    rows = Rows()
    for i in range(50):
        text = {"state": "up"} if i % 2 else {}
        rows.add((f"devices.{i}.temp", {"c": i / 2, **text}))
        rows.add(("orders.eu", {"ms": "late" if i == 40 else i, "at": f"2026-01-01T00:00:{i:02d}Z"}))
    report = rows.report("devices.*.temp")
    assert dict(report.patterns) == {"devices.*.temp": 0.5, "orders.eu": 0.5}
    assert by_name(report) == {
        "c": FieldTypes("c", 50, 1.0, {"number": 50}, False, {"number": 24.5}, 0.0, 24.5, 50, False),
        "state": FieldTypes("state", 25, 0.5, {"text": 25}, True, {"text": "up"}, None, None, 1, False),
    }
    orders = by_name(rows.report("orders.eu"))
    assert orders["ms"] == FieldTypes(
        "ms", 50, 1.0, {"number": 49, "text": 1}, True, {"number": 49.0, "text": "late"}, 0.0, 49.0, 50, False
    )
    at = orders["at"]
    assert (at.types, at.least) == ({"time": 50}, pd.Timestamp("2026-01-01T00:00:00Z"))
    assert by_name(rows.report())["ms"].share == 0.5
    assert rows.report("no.such").fields == []


def test_the_newest_value_has_the_latest_time() -> None:
    """The newest value is that of the row with the latest time, in whatever order rows arrive. Of equal
    times, the last row's value counts."""
    rows, stays = Rows("t"), FieldCourses(LOOK_BACK)
    for second, value, newest in ((5, 1, 1), (3, 2, 1), (8, 3, 3), (8, 4, 4), (0, 5, 4)):
        rows.add(("s.a", {"n": value, "t": NOW // SECOND + second}))
        for report in (stays.report(rows.window.snapshot()), rows.report()):
            assert by_name(report)["n"].newest == {"number": newest}
    rows.add(("s.b", {"n": 6, "t": NOW // SECOND + 7}))
    assert by_name(rows.report())["n"].newest == {"number": 4}


def test_what_a_column_hides_is_seen() -> None:
    """Times among texts, large integers and texts among numbers are reported with their own types and all
    digits, whatever the column's type."""
    rows = Rows().add(*[("s", {"t": "2026-01-01T00:00:00Z", "n": 2**60 + i, "x": str(i)}) for i in range(20)])
    rows.add(*[("s", {"t": "soon", "n": 3, "x": i}) for i in range(5)])
    rows.add(*[("s", {"t": "2026-01-01 10:00:00+02:00"})])
    found = by_name(rows.report())
    assert found["t"].types == {"time": 21, "text": 5}
    assert found["t"].greatest == pd.Timestamp("2026-01-01T08:00:00Z")
    assert found["n"].types == {"number": 25}
    assert (found["n"].least, found["n"].greatest, found["n"].distinct) == (3.0, 2**60 + 19, 21)
    assert found["x"].types == {"text": 20, "number": 5}


def test_a_type_that_appears() -> None:
    """The report says when values of another type began, for which pattern, and their share of the rows
    since."""
    rows = Rows()
    for i in range(400):
        rows.add(("orders.eu", {"ms": "n/a" if i >= 300 and i % 20 == 0 else i}), ("orders.us", {"ms": i}))
    (change,) = rows.report().changes
    assert change == Change("type", "orders.eu", "ms", "text", NOW + 600 * SECOND, None, 0.05, "n/a")


def test_a_type_that_was_there_for_a_while() -> None:
    """If values of another type have ended, the report has both their first and their last time."""
    rows = Rows().add(*[("s", {"ms": "n/a" if 200 <= i < 260 else i}) for i in range(500)])
    (change,) = rows.report().changes
    assert (change.type, change.since, change.until) == ("text", NOW + 200 * SECOND, NOW + 259 * SECOND)
    assert change.share == 1.0


def test_fields_that_appear_and_vanish() -> None:
    """A field that appears and a field that vanishes are reported; a renamed field is reported as both."""
    rows = Rows().add(*[("s", {"n": 1, "old" if i < 100 else "new": i}) for i in range(200)])
    appeared, vanished = sorted(rows.report().changes, key=lambda change: change.kind)
    assert appeared == Change("appears", "s", "new", None, NOW + 100 * SECOND, None, 1.0, 199.0)
    assert vanished == Change("vanishes", "s", "old", None, NOW + 99 * SECOND, None, 1.0, None)


@pytest.mark.parametrize("every", [2, 7, 60])
def test_what_is_always_rare_is_no_change(every: int) -> None:
    """A field or a type that always occurs now and then is not a change. Floats among integers are
    numbers."""
    chance = random.Random(every)

    def payload(i: int) -> dict[str, Any]:
        rare = {"rare": 1} if chance.randrange(every) == 0 else {}
        return {"n": "n/a" if chance.randrange(every) == 0 else i, "x": i / 2 if i > 300 else i, **rare}

    assert Rows().add(*[("s", payload(i)) for i in range(600)]).report().changes == []


def test_a_young_stream_changes_nothing() -> None:
    """The first messages of a stream are no change, whatever fields they have."""
    assert Rows().add(("s", {"a": 1}), ("s", {"b": "x"}), ("s", {"a": "x", "c": 1})).report().changes == []


def _order(change: Change) -> tuple[str, ...]:
    return change.pattern, change.field, change.kind


def same(one: Report, other: Report) -> bool:
    """True if two readers reported the same."""
    return (
        dict(one.patterns) == dict(other.patterns)
        and list(one.fields) == list(other.fields)
        and sorted(one.changes, key=_order) == sorted(other.changes, key=_order)
    )


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_reader_who_stays_is_told_what_one_who_comes_is_told(data: st.DataObject) -> None:
    """Whatever rows arrive and leave, a reader who updates step by step gets the same report as one who reads
    all rows at once."""
    rows, stays = Rows(), FieldCourses(LOOK_BACK)
    values: Sequence[Any] = [1, 2.5, "x", "7", "2026-01-01T00:00:00Z", 2**60, None]
    for _ in range(data.draw(st.integers(1, 8))):
        size = data.draw(st.integers(1, 40))
        subject = data.draw(st.sampled_from(["a.x", "a.y", "b.1", "b.2", *[f"c.t{i}" for i in range(12)]]))
        pick = data.draw(st.sampled_from(values))
        field = data.draw(st.sampled_from(["n", "m"]))
        rows.add(*[(subject, {field: pick}) for _ in range(size)])
        if data.draw(st.booleans()):
            tile = LOOK_BACK.value // TILES
            oldest = (NOW + data.draw(st.integers(0, rows.count)) * SECOND) // tile * tile
            rows.window.evict(oldest)
        stays.report(rows.window.snapshot())
    assert same(stays.report(rows.window.snapshot()), rows.report())


def test_a_playback_that_goes_back() -> None:
    """A snapshot that ends earlier than the last one is reported with its own rows only. An older snapshot
    from another thread changes nothing."""
    rows = Rows().add(*[("s", {"n": i}) for i in range(100)])
    courses, whole = FieldCourses(LOOK_BACK), rows.window.snapshot()
    assert by_name(courses.report(whole))["n"].rows == 100
    earlier = whole.between(0, 40)
    assert by_name(courses.report(replace(earlier, version=whole.version + 1)))["n"].rows == 40
    assert by_name(courses.report(replace(whole, version=whole.version + 2)))["n"].rows == 100
    assert by_name(courses.report(earlier))["n"].rows == 100


def test_many_fields_and_values_are_bounded() -> None:
    """Fields and distinct values are counted up to a limit, and the report says if there are more."""
    rows = Rows()
    for i in range(60):
        fields = {f"f{j}": f"{i} {j} {'x' * 100}" for j in range(100)}
        rows.add(*[(f"{'abcdefgh'[i % 8]}.{'stuvwxyz'[i // 8]}", fields) for _ in range(3)])
    courses = FieldCourses(LOOK_BACK)
    report = courses.report(rows.window.snapshot())
    assert report.left_out
    assert courses.nbytes < 400 * MOST_FIELDS * TILES
    many = Rows().add(*[("s", {"id": f"{i:06}", "few": i % 3}) for i in range(2 * MOST_DISTINCT)])
    found = by_name(many.report())
    assert (found["id"].distinct, found["id"].more) == (MOST_DISTINCT, True)
    assert (found["few"].distinct, found["few"].more) == (3, False)


def test_a_live_stream(client: Client, server: NatsServer) -> None:
    """On a live feed, a text among numbers is reported as it arrives, and the size of the courses is
    counted."""
    server.add_stream("ORDERS", ["orders.>"])
    server.publish("orders.eu", *(json.dumps({"ms": i}).encode() for i in range(300)))
    feed = client.feed("ORDERS", look_back=LOOK_BACK)
    courses = FieldCourses(LOOK_BACK)
    until(lambda: len(feed.snapshot()) == 300)
    assert courses.report(feed.snapshot()).changes == []
    server.publish("orders.eu", *(json.dumps({"ms": "n/a"}).encode() for _ in range(20)))
    until(lambda: len(feed.snapshot()) == 320)
    (change,) = courses.report(feed.snapshot()).changes
    assert (change.kind, change.pattern, change.field, change.type) == ("type", "orders.eu", "ms", "text")
    assert courses.nbytes > 0
