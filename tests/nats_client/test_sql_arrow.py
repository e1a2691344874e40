"""Rows as Arrow tables, and results as snapshots."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from nats_client.sql.arrow import ResultRows, arrow_table, names_of
from nats_client.sql.engine import ask
from nats_client.table.iso_times import parse_iso_times
from nats_client.table.snapshot import Snapshot
from nats_client.table.values import Batch, Coded, Mixed, Values
from nats_client.table.window import Window

START = 1_750_000_000_000_000_000
SECOND = 1_000_000_000


def batch(
    values: Mapping[str, Values], times: Sequence[int], integral: Sequence[str] = (), first: int = 1
) -> Batch:
    """A batch whose rows have the times `times` in seconds after START."""
    ns = START + np.array(times, dtype=np.int64) * SECOND
    seq = np.arange(first, first + len(ns))
    return Batch(seq, ns, ns, [f"s.{i % 2}" for i in range(len(ns))], values, frozenset(integral))


def snapshot(values: Mapping[str, Values], times: Sequence[int], integral: Sequence[str] = ()) -> Snapshot:
    """The same as a window's snapshot."""
    window = Window()
    window.append(batch(values, times, integral))
    return window.snapshot()


def values() -> dict[str, Values]:
    """Columns of each kind, with missing values."""
    times = parse_iso_times(["2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z"])
    assert times is not None
    return {
        "ms": np.array([1.5, np.nan, 3.0]),
        "count": np.array([1.0, 2.0, 3.0]),
        "region": Coded(np.array([0, -1, 1], dtype=np.int32), ["eu", "us"]),
        "at": times,
        "mixed": Mixed(np.array([1.0, np.nan, 7.0]), [None, "off", None]),
        "large": Mixed(np.array([1.0, 2.0, float(2**60)]), [None, None, str(2**60 + 1)]),
        "note": ["a", None, "b"],
    }


def test_rows_keep_their_types_and_missing_values() -> None:
    """Numbers, exact integers, texts and times of a window or a batch keep their types in Arrow, and missing
    values are NULL."""
    rows = snapshot(values(), [0, 1, 2], ["count", "large"])
    for table in (arrow_table(rows), arrow_table(batch(values(), [0, 1, 2], ["count"]))):
        assert str(table.schema.field("_time").type) == "timestamp[us, tz=UTC]"
        assert table.column("ms").to_pylist() == [1.5, None, 3.0]
        assert table.column("count").to_pylist() == [1, 2, 3]
        assert pa.types.is_integer(table.schema.field("count").type)
        assert table.column("region").to_pylist() == ["eu", None, "us"]
        assert table.column("note").to_pylist() == ["a", None, "b"]
        assert table.column("mixed").to_pylist() == [1.0, None, 7.0]
        assert table.column("_subject").to_pylist() == ["s.0", "s.1", "s.0"]
        assert table.column("at").to_pylist()[2] == pd.Timestamp("2026-01-01T00:00:02Z")
    assert arrow_table(rows).column("large").to_pylist()[2] == 2**60 + 1


def test_only_the_asked_columns_are_converted() -> None:
    """Only the requested columns are converted. A requested field that no message of a batch has is NULL."""
    rows = snapshot(values(), [0, 1, 2])
    assert arrow_table(rows, ["ms"]).column_names == ["_time", "ms"]
    assert names_of(rows)[:3] == ["_time", "_seq", "_subject"]
    table = arrow_table(batch(values(), [0, 1, 2]), ["level"])
    assert table.column("level").to_pylist() == [None, None, None]
    found = ask("SELECT count(*) n FROM b WHERE level = 'error'", {"b": batch(values(), [0, 1, 2])})
    assert found.to_pylist() == [{"n": 0}]


def test_rows_are_not_copied() -> None:
    """A column of numbers without missing values is passed to DuckDB without a copy."""
    rows = snapshot({"ms": np.array([1.5, 2.5])}, [0, 1])
    table = arrow_table(rows)
    assert table.column("ms").chunk(0).buffers()[1].address == rows.numbers("ms").ctypes.data


def test_named_tokens_and_slices_are_columns() -> None:
    """Tokens of the subject can be queried by name, also in rows from the middle of a window."""
    rows = snapshot(values(), [0, 1, 2]).named(("", "host")).since(START + SECOND)
    found = ask("SELECT host, note, ms FROM r ORDER BY _time", {"r": rows}).to_pylist()
    assert found == [{"host": "1", "note": None, "ms": None}, {"host": "0", "note": "b", "ms": 3.0}]


def test_a_table_of_pandas_is_one_of_sql() -> None:
    """A DataFrame's index is a column if it has a name, and objects of several types are text."""
    frame = pd.DataFrame({"x": [1, "a"], "y": [1.0, np.nan]}, index=pd.Index(["k", "l"], name="key"))
    assert ask("SELECT key, x, y FROM t", {"t": frame}).to_pylist() == [
        {"key": "k", "x": "1", "y": 1.0},
        {"key": "l", "x": "a", "y": None},
    ]


def test_times_can_be_computed_with() -> None:
    """Times of rows, payloads, results and DataFrames can be subtracted from each other and from now(), and
    intervals added to them. An interval in a result becomes its seconds."""
    rows = snapshot(values(), [0, 1, 2])
    frame = rows.frame().reset_index()
    frame["at"] = pd.to_datetime(frame["at"], utc=True)
    result = ResultRows().snapshot(ask("SELECT * FROM r", {"r": rows}), START)
    for table in (rows, batch(values(), [0, 1, 2]), frame, result):
        found = ask(
            'SELECT _time, _time - lag(_time) OVER (ORDER BY _time) AS step, _time - "at" AS late,'
            " now() - _time > INTERVAL 1 day AS old, _time + INTERVAL 90 s - _time AS later,"
            " age(now(), _time) > INTERVAL 1 day AS aged, INTERVAL '1' month AS month FROM t",
            {"t": table},
        )
        made = ResultRows().snapshot(found, START).frame()
        late = (frame["_time"] - frame["at"]).dt.total_seconds()
        assert made["late"].tolist() == pytest.approx(late.tolist(), nan_ok=True)
        assert made["step"].tolist() == pytest.approx([np.nan, 1, 1], nan_ok=True)
        assert made["later"].tolist() == [90, 90, 90]
        assert made["month"].tolist() == [30 * 86_400] * 3
        assert made["old"].tolist() == made["aged"].tolist() == [1, 1, 1]


def test_a_result_is_a_snapshot() -> None:
    """The rows of a result are ordered by time. Numbers, texts and times keep their kind; other types become
    text."""
    found = ask(
        "SELECT TIMESTAMP '2026-01-01 00:00:10' - INTERVAL (i) seconds AS time, i AS n, i / 4 AS ratio,"
        " i::VARCHAR AS name, [i] AS list, DATE '2026-01-02' AS day, i > 1 AS flag, i::HUGEINT * 2 AS twice"
        " FROM range(3) r(i)",
        {},
    )
    rows = ResultRows().snapshot(found, START)
    assert rows.columns == {
        "n": "number",
        "ratio": "number",
        "name": "text",
        "list": "text",
        "day": "time",
        "flag": "number",
        "twice": "number",
    }
    frame = rows.frame()
    assert frame["n"].tolist() == [2, 1, 0]
    assert frame.index.is_monotonic_increasing
    assert frame["list"].tolist() == ["[2]", "[1]", "[0]"]
    assert frame["day"].iloc[0] == pd.Timestamp("2026-01-02", tz="UTC")
    assert frame["twice"].tolist() == [4.0, 2.0, 0.0]


def test_times_that_nanoseconds_cannot_hold() -> None:
    """A column with a time that nanoseconds cannot hold becomes text that shows each time as it is. A row
    whose own time is such a time is left out, and its neighbours keep theirs."""
    sql = (
        "SELECT * FROM (VALUES (TIMESTAMP '2026-01-01 00:00:00.25', DATE '9999-12-31', "
        "TIMESTAMPTZ '0001-01-01 00:00:00+00', 1), (NULL, '2026-01-01', '2026-01-01 00:00:00+00', 2)) "
        "v(moment, day, zoned, n)"
    )
    far = ResultRows().snapshot(ask(sql, {}), START)
    frame = far.frame()
    assert far.columns == {"moment": "time", "day": "text", "zoned": "text", "n": "number"}
    assert frame["day"].tolist() == ["9999-12-31T00:00:00Z", "2026-01-01T00:00:00Z"]
    assert frame["zoned"].tolist() == ["0001-01-01T00:00:00Z", "2026-01-01T00:00:00Z"]
    for written, shown in (
        ("TIMESTAMP 'infinity'", "infinity"),
        ("TIMESTAMPTZ '-infinity'", "-infinity"),
        ("DATE 'infinity'", "infinity"),
        ("DATE '-infinity'", "-infinity"),
        ("TIMESTAMP '294247-01-10'", "294247-01-10T00:00:00Z"),
    ):
        kind = written.partition(" ")[0]
        found = ask(f"SELECT * FROM (VALUES ({written}), ({kind} '2026-01-01'), (NULL)) v(x)", {})
        texts = ResultRows().snapshot(found, START).frame()["x"]
        assert texts[:2].tolist() == [shown, "2026-01-01T00:00:00Z"], written
        assert texts.isna().tolist() == [False, False, True]
    for edge in ("9999-12-31", "1500-01-01", "2262-04-12", "1677-09-21", "infinity"):
        found = ask(
            f"SELECT * FROM (VALUES (TIMESTAMP '{edge}', 1), (TIMESTAMP '2026-01-01', 2)) v(_time, n)", {}
        )
        rows = ResultRows().snapshot(found, START)
        assert rows.time.tolist() == [pd.Timestamp("2026-01-01").value], edge
        assert rows.numbers("n").tolist() == [2], edge
    long = pa.table({"d": pa.array([400 * 366 * 86_400_000_000, None], pa.duration("us"))})
    assert ResultRows().snapshot(long, START).numbers("d")[0] == 400 * 366 * 86_400


def test_ordinals_go_on_where_rows_are_added() -> None:
    """A result that gains rows at its end, or loses rows at its start, keeps its generation; one with a
    changed row does not. The codes of texts stay the same."""
    results = ResultRows()

    def table(rows: list[tuple[int, str, float]]) -> pa.Table:
        times = pa.array([START + second * SECOND for second, _, _ in rows]).cast(pa.timestamp("ns", "UTC"))
        return pa.table({"_time": times, "name": [n for _, n, _ in rows], "v": [v for _, _, v in rows]})

    first = results.snapshot(table([(0, "a", 1.0), (1, "b", 2.0)]), START)
    more = results.snapshot(table([(1, "b", 2.0), (2, "c", 3.0)]), START)
    assert (more.generation, more.first, more.end) == (first.generation, 1, 3)
    assert more.codes("name")[0].tolist() == [1, 2]
    other = results.snapshot(table([(1, "b", 2.5), (2, "c", 3.0)]), START)
    assert other.generation != more.generation
    assert other.codes("name")[0].tolist() == [1, 2]
