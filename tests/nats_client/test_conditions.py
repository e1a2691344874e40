"""Conditions of thresholds, parsed from text."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_client.errors import ThresholdError
from nats_client.series.conditions import Condition, parse_condition

SECOND = 10**9


@pytest.mark.parametrize(
    ("said", "condition"),
    [
        (90, Condition("above", high=90.0)),
        (1.5, Condition("above", high=1.5)),
        ("90", Condition("above", high=90.0)),
        ("> 90", Condition("above", high=90.0)),
        (">=90", Condition("above", high=90.0, reached=True)),
        ("< -1e3", Condition("below", low=-1000.0)),
        ("<= .5", Condition("below", low=0.5, reached=True)),
        ("outside 10..90", Condition("outside", 10.0, 90.0)),
        ("inside -5 .. 5.5", Condition("inside", -5.0, 5.5)),
        ("> 90 for 10s", Condition("above", high=90.0, lasting=10 * SECOND)),
        (" outside 1..2 for 1 minute ", Condition("outside", 1.0, 2.0, lasting=60 * SECOND)),
        ("changed", Condition("changed")),
        ("silent for PT30S", Condition("silent", lasting=30 * SECOND)),
    ],
)
def test_what_is_said(said: object, condition: Condition) -> None:
    """Numbers, comparisons, ranges, changes and silence are parsed, with how long they must last. Equal
    conditions compare and hash as equal, so that viewers share computed results."""
    read = parse_condition(said)
    assert repr(read) == repr(condition)
    assert parse_condition(said) == read
    assert hash(parse_condition(said)) == hash(read)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "> ",
        "> x",
        "> 1e999",
        "= 5",
        "> 90 for",
        "> 90 for ever",
        "> 90 for 0s",
        "outside 9..1",
        "outside 1..1e999",
        "inside 1",
        "silent",
        "silent for x",
        "changed for 5s",
        "> 9" + "0" * 5000,
        float("nan"),
        float("inf"),
        True,
        [90],
        {"n": 1},
    ],
)
def test_what_is_none(said: Any) -> None:
    """Anything else is refused in a short error that names the condition and gives the reason or examples."""
    with pytest.raises(ThresholdError, match="The condition 'busy' is") as raised:
        parse_condition(said, "busy")
    assert len(str(raised.value)) < 400


@given(st.text() | st.from_regex(r"(>|<|outside|inside|silent|changed) ?[\d.]{0,9}( for \d{0,5}[a-z]{0,3})?"))
def test_whatever_is_written(said: str) -> None:
    """Any text is either parsed as a condition or refused with ThresholdError."""
    try:
        condition = parse_condition(said)
    except ThresholdError:
        return
    assert condition.limits or condition.kind in ("changed", "silent")
