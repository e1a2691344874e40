"""Rows of a query as charts and tables need them."""

import numpy as np
import pandas as pd

from components.nats.history import BINS, MOST_LINES, _lines_of, _with_times


def test_no_spike_is_lost() -> None:
    """Of a long line some hundred points are drawn, the one outlier, both ends and the order among them."""
    count = 200_000
    rows = pd.DataFrame(
        {
            "time": pd.date_range("2026-01-01", periods=count, freq="s", tz="UTC"),
            "v": np.sin(np.arange(count)),
        }
    )
    rows.loc[123_456, "v"] = 1000.0
    rows.loc[50_000:60_000, "v"] = np.nan
    shuffled = rows.sample(frac=1, random_state=1)
    ((name, line),), total = _lines_of(shuffled, "time", "v", None)
    assert (name, total) == ("v", 1)
    assert BINS < len(line) <= 2 * BINS + 2
    assert line["v"].max() == 1000.0
    assert line["time"].is_monotonic_increasing
    assert line["time"].iloc[0] - rows["time"].iloc[0] < pd.Timedelta(10, "min")
    assert rows["time"].iloc[-1] - line["time"].iloc[-1] < pd.Timedelta(10, "min")


def test_short_and_many_lines() -> None:
    """A short line is drawn as it is; of many lines those with the most rows, and their number is known."""
    time = pd.Timestamp("2026-01-01", tz="UTC")
    names = [f"s{n}" for n in range(30) for _ in range(n + 1)]
    rows = pd.DataFrame({"time": time, "v": 1.0, "who": [*names[:-1], None]})
    lines, total = _lines_of(rows, "time", "v", "who")
    assert total == 31
    assert {name for name, _ in lines} == {f"s{n}" for n in range(10, 30)}
    assert len(lines) == MOST_LINES
    assert {name: len(line) for name, line in lines}["s28"] == 29


def test_times_in_json() -> None:
    """A column of ISO 8601 texts is one of times; with a single text that is none it stays text."""
    rows = pd.DataFrame(
        {
            "a": ["2026-01-01T00:00:00Z", None, "2026-01-01T00:00:00.5+02:00"],
            "b": ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "soon"],
            "c": ["soon", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"],
            "d": ["2026", "2027", "2028"],
        },
        dtype="str",
    )
    found = _with_times(rows)
    assert [str(kind)[:10] for kind in found.dtypes] == ["datetime64", "str", "str", "str"]
    assert found["a"].iloc[2] == pd.Timestamp("2025-12-31T22:00:00.5Z")
