"""Numbers and times as text."""

import re
from decimal import Decimal

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.words import age_text, date_text, exact_numbers, in_zone, zone

UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> float:
    """The duration, in seconds, in a text of `age_text`."""
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+) ([a-z]+)", text))


@given(st.floats(0, 1e9))
def test_ages_are_near_the_truth(age: float) -> None:
    """The text of a duration is within a twentieth of it, or within a twentieth of a second, and no part is
    as large as the next unit."""
    text = age_text(age)
    assert abs(seconds(text) - age) <= max(0.0501, 0.0501 * age), text
    assert re.fullmatch(r"\d+\.\d s|\d+ (s|min|h|d)|\d min \d+ s|\d h \d+ min|\d d \d+ h", text), text
    limits = {"s": 60, "min": 60, "h": 24}
    assert all(float(n) < limits.get(unit, 1e9) for n, unit in re.findall(r"([\d.]+) ([a-z]+)", text)), text


@given(st.floats(0, 1e7), st.floats(0, 1e7))
def test_ages_never_run_backwards(one: float, other: float) -> None:
    """A longer duration never has the text of a shorter one."""
    less, more = sorted((one, other))
    assert seconds(age_text(less)) <= seconds(age_text(more))


@pytest.mark.parametrize("name", ["Mars/Olympus", "../../etc/passwd", "Europe", "x" * 5000, "a\0b"])
def test_an_unknown_zone(name: str) -> None:
    """A browser with an unknown time zone gets times in UTC."""
    with in_zone(name):
        assert zone() == "UTC"
        assert date_text(0) == "1970-01-01 00:00:00"


def test_each_digit_in_a_table() -> None:
    """A table shows numbers exactly: a number that a number cell cannot hold becomes text, and a missing
    value stays missing."""
    table = pd.DataFrame(
        {
            "small": [0.00001234, 48.898283, float("nan"), float("inf")],
            "great": [1e300, 0.5, float("nan"), 45.0],
            "whole": [1, 2, 3, 4],
            "beyond": pd.array([2**60 + 1, None, -5, 0], dtype="Int64"),
            "decimal": [Decimal("12345678901234567890.123456789"), None, Decimal("0.00001"), Decimal(1)],
            "text": ["1", "2", "3", "4"],
            "flag": [True, False, True, False],
        }
    )
    before = table.copy()
    shown, configurations = exact_numbers(table)
    pd.testing.assert_frame_equal(table, before)
    assert shown["small"].equals(table["small"])
    assert configurations["small"]["type_config"]["format"] == "%.15g"
    texts = {name: [None if pd.isna(cell) else cell for cell in shown[name]] for name in shown}
    assert texts["great"] == ["1e+300", "0.5", None, "45"]
    assert texts["beyond"] == ["1152921504606846977", None, "-5", "0"]
    assert texts["decimal"] == ["12345678901234567890.123456789", None, "0.00001", "1"]
    assert list(configurations) == ["small", "great", "beyond", "decimal"]
