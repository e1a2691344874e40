"""Numbers with their units are the same text in Python and in the browser."""

import json
import random
import subprocess

import numpy as np
import pytest

from components.units import brief, number_text, with_unit
from tests.running import ROOT

SCRIPT = """
import { short, withUnit } from "./static/units.js";
let all = "";
for await (const part of process.stdin) all += part;
console.log(JSON.stringify(JSON.parse(all).map(([given, unit]) =>
  [short(given), withUnit(given, unit)])));
"""
UNITS = [
    "",
    "B",
    "bytes",
    "bytes/s",
    "percent",
    "%",
    "1/s",
    "ns",
    "µs",
    "us",
    "ms",
    "s",
    "min",
    "h",
    "d",
    "°C",
]


def in_node(pairs: list[tuple[float | int, str]]) -> list[list[str]]:
    """The texts that the browser's code makes of numbers; integers are passed as text."""
    given = [(str(value) if isinstance(value, int) else value, unit) for value, unit in pairs]
    text = json.dumps(given)
    command = ["node", "--input-type=module", "-e", SCRIPT]
    done = subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stdout)
    return found


def numbers(count: int) -> list[float | int]:
    """Numbers of all sizes: round ones, long ones, ties, and integers beyond the precision of a float."""
    chosen = random.Random(7)
    found: list[float | int] = [0.0, -0.0, 100_000.0625, 12_345.0625, 2.0**53, 1e300, 1e-300]
    while len(found) < count:
        power = chosen.choice([-20, -9, -7, -6, -3, 0, 0, 0, 1, 2, 3, 5, 8, 12, 15, 16, 20])
        value = chosen.uniform(-10, 10) * 10.0**power
        places = chosen.choice([0, 1, 3, 6, 17])
        found.append(chosen.choice([value, float(f"{value:.{places}e}"), chosen.randrange(-(2**64), 2**64)]))
        edge = chosen.choice([59.995, 60, 3599.6, 86399.9, 999.5, 0.9995])
        found.append(edge * 10.0 ** chosen.choice([0, 3, -3]))
    return found


def test_both_say_the_same() -> None:
    """For any number and unit, Python and the browser write the same text."""
    given = enumerate(numbers(4000))
    pairs = [(value, unit) for i, value in given for unit in (UNITS[i % len(UNITS)], "s", "B")]
    ours = [[number_text(value), with_unit(value, unit)] for value, unit in pairs]
    for pair, here, there in zip(pairs, ours, in_node(pairs), strict=True):
        assert here == there, pair


@pytest.mark.parametrize(
    ("value", "unit", "full", "short"),
    [
        (1_234_567_891, "bytes", "1.234567891 GB", "1.23 GB"),
        (1_234_567_891.0, "B", "1.234567891 GB", "1.23 GB"),
        (999.9, "bytes", "999.9 B", "1 kB"),
        (0, "bytes", "0 B", "0 B"),
        (-1500, "bytes/s", "-1.5 kB/s", "-1.5 kB/s"),
        (9_007_199_254_740_993, "bytes", "9.007199254740993 PB", "9.01 PB"),
        (38.6, "percent", "38.6 %", "38.6 %"),
        (0.0032, "s", "3.2 ms", "3.2 ms"),
        (1500.25, "ms", "1.50025 s", "1.50025 s"),
        (75.25, "s", "1 min 15.25 s", "1 min 15 s"),
        (3723.4, "s", "1 h 2 min 3.4 s", "1 h 2 min"),
        (3599.7, "s", "59 min 59.7 s", "1 h"),
        (90_000, "s", "1 d 1 h", "1 d 1 h"),
        (1.5, "h", "1 h 30 min", "1 h 30 min"),
        (2, "us", "2 µs", "2 µs"),
        (0.0, "ms", "0 ms", "0 ms"),
        (80, "1/s", "80 1/s", "80 1/s"),
        (9_007_199_254_740_993, "", "9,007,199,254,740,993", "9,007,199,254,740,993"),
        (2.0**60, "", "≈ 1.1529215e+18", "≈ 1.1529215e+18"),
        (12345.678, "°C", "12,345.678 °C", "12,345.678 °C"),
        (1234.56789, "", "1,234.5679", "1,234.5679"),
        (1_234_567.8912, "", "1,234,567.891", "1,234,567.891"),
        (1.5e-7, "", "1.5e-7", "1.5e-7"),
        (float("nan"), "s", "n/a", "n/a"),
    ],
)
def test_texts(value: float, unit: str, full: str, short: str) -> None:
    """Integers keep all digits, other numbers eight; units that scale get a suitable prefix. NumPy's numbers
    are treated the same."""
    assert with_unit(np.array([value])[0], unit) == full
    assert (with_unit(value, unit), brief(value, unit)) == (full, short)
