"""The content of one message: a tree of its value, its differences from another, and its bytes in hex."""

import gzip
import json
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_client.messages.content import (
    MOST_CHILDREN,
    MOST_DIFFERENCES,
    MOST_NODES,
    Content,
    content_of,
    differences,
    hex_lines,
    tree,
)
from nats_client.messages.stored import StoredMessage


def content(payload: bytes, decoder: str = "json", *headers: tuple[str, str]) -> Content:
    """The content of a message with this payload."""
    return content_of(StoredMessage(1, 0, "s.a", payload, headers), decoder)


def test_taken_for() -> None:
    """A payload is read with the chosen decoder, or else as the format it looks like, and the content says
    why."""
    found = content(b'{"a": [1, 2.5, null]}')
    assert (found.taken_for, found.value, found.why) == ("json", {"a": [1, 2.5, None]}, "")
    found = content(msgpack.packb({"a": b"\x00"}))
    assert (found.taken_for, found.is_structured) == ("msgpack", True)
    assert "JSON" in found.why
    found = content(b"door 1 is open")
    assert (found.taken_for, found.is_structured) == ("text", False)
    found = content(b"1,2\n3,4", "auto", ("Content-Type", "text/csv"))
    assert found.taken_for == "csv"
    found = content(b"\x00\xff\xfe")
    assert (found.taken_for, found.is_structured) == ("", False)
    assert found.why
    assert content(b"").why == "the payload is empty"


def test_compressed() -> None:
    """A compressed payload is decoded, and the content has its bytes after decompression."""
    found = content(gzip.compress(b'{"a": 1}'))
    assert (found.taken_for, found.value, found.unpacked) == ("json", {"a": 1}, b'{"a": 1}')


def test_tree() -> None:
    """A tree lists each value after the value that contains it, with its level, name and type."""
    assert tree({"a": [1, {"b": None}], "c": True, "d": b"\x01\xff", "e": "x"}) == [
        (0, "", "object", "4"),
        (1, "a", "array", "2"),
        (2, "0", "number", "1"),
        (2, "1", "object", "1"),
        (3, "b", "nothing", "null"),
        (1, "c", "true or false", "true"),
        (1, "d", "bytes", "01 ff"),
        (1, "e", "text", "x"),
    ]


def test_a_tree_is_bounded() -> None:
    """The tree of a large value is cut, says how many values are left out, and still has the later fields."""
    nodes = tree({"many": list(range(5000)), "after": 1, "long": "x" * 100_000})
    assert (2, "", "more", f"{5000 - MOST_CHILDREN:,} more") in nodes
    assert (1, "after", "number", "1") in nodes
    assert nodes[-1][3].endswith("… (100,000 characters)")
    nodes = tree([[i, [i, i]] for i in range(1000)] + [[list(range(150))] * 150])
    assert len(nodes) <= MOST_NODES + 1
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    assert len(tree(deep)) < 100


def test_differences() -> None:
    """The differences between two values are the fields that changed, are gone or are new, by path."""
    before = {"n": 1, "same": [1, 2], "items": [{"sku": "A"}, {"sku": "B"}], "gone": None, "t": "1"}
    after = {"n": 2, "same": [1, 2], "items": [{"sku": "A"}, {"sku": "C"}], "new": {"x": 0}, "t": 1}
    found, more = differences(before, after)
    assert sorted(found) == [
        ("gone", "null", None),
        ("items[1].sku", '"B"', '"C"'),
        ("n", "1", "2"),
        ("new.x", None, "0"),
        ("t", '"1"', "1"),
    ]
    assert more == 0
    assert differences(before, before) == ([], 0)
    assert differences(1, "1") == ([("(value)", "1", '"1"')], 0)
    found, more = differences(list(range(1000)), list(range(1, 1001)))
    assert (len(found), more) == (MOST_DIFFERENCES, 1000 - MOST_DIFFERENCES)


def test_hex() -> None:
    """Each line has its offset, sixteen bytes in hex, and the same bytes in ASCII."""
    assert hex_lines(b"") == ""
    lines = hex_lines(bytes(range(60, 78))).split("\n")
    assert lines[0] == ("00000000  3c 3d 3e 3f 40 41 42 43  44 45 46 47 48 49 4a 4b  <=>?@ABCDEFGHIJK")
    assert lines[1].startswith("00000010  4c 4d ")
    assert lines[1].endswith("  LM")


TEXTS = st.text(st.characters(codec=None), max_size=5)
values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | TEXTS | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=40,
)


@given(values, values)
def test_any_value(one: Any, other: Any) -> None:
    """Any value has a tree, and any two values have differences, that can be sent to a browser. A value does
    not differ from itself."""
    assert json.dumps(tree(one), ensure_ascii=False).encode()
    assert json.dumps(differences(one, other)[0], ensure_ascii=False).encode()
    assert differences(one, one) == ([], 0)


@given(st.binary(max_size=200))
@pytest.mark.parametrize("decoder", ["json", "auto", "msgpack"])
def test_any_payload(decoder: str, payload: bytes) -> None:
    """Any bytes can be shown as a tree and in hex, whatever format was recognised."""
    json.dumps(tree(content(payload, decoder).value))
    assert len(hex_lines(payload).splitlines()) == -(-len(payload) // 16)
