"""Subjects as a tree: a level at a time, with messages and rates."""

import json
import random

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nats_client.decoding.decode import decode
from nats_client.decoding.raw import Raw
from nats_client.series.subject_tree import (
    DEEPEST,
    MOST_BRANCHES,
    MOST_CHILDREN,
    Branch,
    Branches,
    SubjectTree,
)
from nats_client.table.snapshot import Snapshot
from nats_client.table.window import Window

NOW = pd.Timestamp("2026-03-01T12:00:00Z").value
SECOND = 10**9


def rows(*subjects: str, rows_each: int = 1) -> Snapshot:
    """Rows with these subjects, the last one stored now and each a second before the next."""
    window, count = Window(), len(subjects)
    received = [NOW - (count - 1 - i) * SECOND for i in range(count)]
    payload = json.dumps([{"x": 1}] * rows_each).encode()
    raw = Raw(list(range(1, count + 1)), received, list(subjects), [payload] * count)
    window.append(decode(raw, "json", None)[0])
    return window.snapshot()


def lines(found: Branches) -> list[str]:
    """The branches as text: indented, with the subjects below and the messages."""
    return [
        f"{'  ' * each.depth}{each.token or '='} {each.subjects} {each.messages}{' …' * each.goes_on}"
        for each in found.found
    ]


def test_levels_open_one_by_one() -> None:
    """Each token is a level, and a branch has the sum of the messages below it. A subject that is also the
    start of others has a branch of its own among them."""
    tree, held = SubjectTree(), rows("a.x", "a.y", "a", "b.10.t", "b.9.t", "a.x")
    assert lines(tree.branches(held, NOW, None, [])) == ["a 3 4 …", "b 2 2 …"]
    opened = tree.branches(held, NOW, None, ["a", "b", "b.9", "nothing"])
    assert lines(opened) == [
        "a 3 4 …",
        "  = 1 1",
        "  x 1 2",
        "  y 1 1",
        "b 2 2 …",
        "  9 1 1 …",
        "    t 1 1",
        "  10 1 1 …",
    ]
    assert [each.path for each in opened.found if each.depth] == ["a", "a.x", "a.y", "b.9", "b.9.t", "b.10"]
    assert opened.subjects == 5


def test_rates_are_of_messages() -> None:
    """A rate is that of the last ten seconds. It counts messages, however many rows each has."""
    found = SubjectTree().branches(rows(*["old"] * 20, *["a.x"] * 4, "a.y", rows_each=3), NOW, None, ["a"])
    assert {each.path: each.per_second for each in found.found} == {
        "a": 0.5,
        "a.x": 0.4,
        "a.y": 0.1,
        "old": 0.5,
    }
    assert [each.messages for each in found.found] == [5, 4, 1, 20]


def test_counts_of_the_stream() -> None:
    """If a stream's counts are known, they are the numbers of messages, even for subjects without rows.
    Subjects that only rows have are listed too."""
    tree = SubjectTree()
    found = tree.branches(rows("a.new", "a.x"), NOW, {"a.x": 70, "b": 5}, ["a"])
    assert lines(found) == ["a 2 70 …", "  new 1 0", "  x 1 70", "b 1 5"]
    assert lines(tree.branches(rows("c"), NOW, {"a.x": 71}, [])) == ["a 1 71 …", "c 1 0"]


def test_a_search_opens_what_it_finds() -> None:
    """A search lists only subjects that contain the text in upper or lower case, and opens their levels if
    they are few."""
    held = rows("Orders.eu.new", "orders.us.new", "devices.eu")
    assert lines(SubjectTree("EU").branches(held, NOW, None, [])) == [
        "Orders 1 1 …",
        "  eu 1 1 …",
        "    new 1 1",
        "devices 1 1 …",
        "  eu 1 1",
    ]
    assert SubjectTree("nothing").branches(held, NOW, None, []) == Branches([], 0, 0)


def test_a_hundred_thousand_subjects_are_cut() -> None:
    """A level with many branches lists those with the most messages, and the number of the others. All levels
    together are limited, and so is the depth of a subject."""
    chance = random.Random(1)
    counts = {f"d.{i}.{'ab'[i % 2]}": chance.randrange(5) for i in range(100_000)} | {"d.77777.a": 10**6}
    tree, none = SubjectTree(), rows("d.1.b")
    found = tree.branches(none, NOW, counts, ["d", *(f"d.{i}" for i in range(0, 50_000, 1_000))])
    assert [each.path for each in found.found if each.is_open][:3] == ["d", "d.0", "d.1000"]
    assert len(found.found) <= MOST_BRANCHES
    assert (found.found[0].subjects, found.found[0].left_out) == (100_001, 99_900)
    assert "d.77777" in [each.path for each in found.found]
    wide = tree.branches(none, NOW, {f"t{i}": i for i in range(5_000)}, [])
    assert len(wide.found) == MOST_CHILDREN
    assert wide.left_out == 5_000 + 1 - MOST_CHILDREN
    deep = ".".join("x" * 400)
    opened = [".".join("x" * i) for i in range(1, 40)]
    assert [each.depth for each in tree.branches(none, NOW, {deep: 1}, opened).found if each.depth] == [
        *range(1, DEEPEST)
    ]


@pytest.mark.parametrize("known", [False, True])
@given(
    st.lists(
        st.lists(st.sampled_from(["a", "b", "<i>", "é", "7", "{x}"]), min_size=1, max_size=5),
        min_size=1,
        max_size=30,
    )
)
@settings(max_examples=60, deadline=None)
def test_the_parts_are_the_whole(known: bool, tokens: list[list[str]]) -> None:
    """With all levels open, the branches without others below are the subjects, each with its messages. Every
    other branch has the sum of those directly below it."""
    subjects = [".".join(each) for each in tokens]
    paths = {".".join(each[:i]) for each in tokens for i in range(1, len(each))}
    counts = {subject: subjects.count(subject) for subject in subjects}
    tree = SubjectTree()
    found = tree.branches(rows(*subjects), NOW, counts if known else None, sorted(paths)[:30]).found
    leaves = [each for each in found if not each.goes_on]
    if len(paths) <= 30:
        assert {each.path: each.messages for each in leaves} == counts
    for i, branch in enumerate(found):
        if branch.is_open:
            own: list[Branch] = []
            for each in found[i + 1 :]:
                if each.depth <= branch.depth:
                    break
                own += [each] if each.depth == branch.depth + 1 else []
            assert sum(each.messages for each in own) == branch.messages
            assert sum(each.subjects for each in own) == branch.subjects
