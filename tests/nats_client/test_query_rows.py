"""Rows of a query as charts and tables need them. The thinning of long lines is tested with bins."""

import pandas as pd

from nats_client.requests.result_table import with_times


def test_times_in_json() -> None:
    """A column of ISO 8601 texts becomes a column of times. A single text that is not a time keeps it a text
    column."""
    rows = pd.DataFrame(
        {
            "a": ["2026-01-01T00:00:00Z", None, "2026-01-01T00:00:00.5+02:00"],
            "b": ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "soon"],
            "c": ["soon", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"],
            "d": ["2026", "2027", "2028"],
        },
        dtype="str",
    )
    found = with_times(rows)
    assert [str(kind)[:10] for kind in found.dtypes] == ["datetime64", "str", "str", "str"]
    assert found["a"].iloc[2] == pd.Timestamp("2025-12-31T22:00:00.5Z")
