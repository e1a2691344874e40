"""Times in ISO 8601 as numbers, and back."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_client.table.iso_times import ISO_TIME, MISSING, iso_texts, parse_iso_times
from nats_client.table.values import Batch
from nats_client.table.window import Window

moments = st.datetimes(datetime(1700, 1, 1), datetime(2199, 12, 31))


@st.composite
def iso_times(draw: st.DrawFn) -> str:
    """A time in one of the ISO 8601 forms that are read."""
    digits = draw(st.integers(0, 9))
    fraction = f".{draw(st.integers(0, 10**digits - 1)):0{digits}d}" if digits else ""
    between, zone = draw(st.sampled_from("T ")), draw(st.sampled_from(["Z", "+00:00"]))
    return f"{draw(moments):%Y-%m-%d{between}%H:%M:%S}{fraction}{zone}"


@given(st.lists(iso_times(), min_size=1, max_size=20))
def test_written_again_letter_by_letter(texts: list[str]) -> None:
    """A text read as a time has that time's value, and is written back letter by letter."""
    found = parse_iso_times(texts)
    if found is None:  # two forms of one length
        lengths = [len(text) for text in texts]
        assert len(set(lengths)) < len({(text[10], len(text), text[-1]) for text in texts})
        return
    assert iso_texts(found) == texts
    assert found["ns"].tolist() == [pd.Timestamp(text).value for text in texts]


NO_TIMES = [
    "",
    "x",
    "2026",
    "2026-11-25",
    "2026-11-25T20:19:27",
    "2026-11-25T20:19:27+01:00",
    "2026-11-25T20:19:27-00:00",
    "2026-11-25t20:19:27Z",
    "2026-11-25T20:19:27z",
    "2026-13-25T20:19:27Z",
    "2026-02-30T20:19:27Z",
    "2026-11-25T24:19:27Z",
    "2026-11-25T20:19:60Z",
    "2026-11-25T20:19:27.Z",
    "2026-11-25T20:19:27.+00:00",
    "2026-11-25T20:19:27.0000000001Z",
    "2026-11-25T20:19:27Z\n",
    "\uff12026-11-25T20:19:27Z",
    "1699-12-31T23:59:59Z",
    "2200-01-01T00:00:00Z",
    "-026-11-25T20:19:27Z",
    "2026-11- 5T20:19:27Z",
]


@pytest.mark.parametrize("text", NO_TIMES)
def test_what_is_no_such_time_is_left_alone(text: str) -> None:
    """Any other text is not read as a time, neither alone nor beside a time."""
    assert parse_iso_times([text]) is None
    assert parse_iso_times(["2026-11-25T20:19:27Z", text]) is None


def batch(first: int, values: object) -> Batch:
    """Rows with one column, `at`."""
    seq = np.arange(first, first + len(values))  # type: ignore[arg-type]
    return Batch(seq, seq, seq, ["s"] * len(seq), {"at": values})  # type: ignore[dict-item]


def at(*texts: str) -> np.ndarray:
    """The array of times that the decoder makes from texts."""
    found = parse_iso_times(texts)
    assert found is not None
    return found


EARLY, LATE = "2026-11-25T20:19:27Z", "2026-11-25T20:19:28.5+00:00"


def test_a_column_of_times() -> None:
    """In a window the column has the type time, and missing values are missing."""
    window = Window()
    window.append(batch(1, at(EARLY, LATE)))
    window.append(Batch(np.array([3]), np.array([3]), np.array([3]), ["s"], {}))
    snapshot = window.snapshot()
    assert snapshot.columns["at"] == "time"
    assert snapshot.present("at").tolist() == [True, True, False]
    column = snapshot.frame()["at"]
    assert str(column.dtype) == "datetime64[ns, UTC]"
    assert column.iloc[:2].tolist() == [pd.Timestamp(EARLY), pd.Timestamp(LATE)]
    assert pd.isna(column.iloc[2])
    assert snapshot.latest("at")["s"] == pd.Timestamp(LATE)
    assert ISO_TIME.itemsize == 9


@pytest.mark.parametrize(
    ("other", "text"),
    [(["n/a"], "n/a"), (np.array([1.5]), "1.5")],
    ids=["text", "number"],
)
def test_becomes_text_when_another_comes(other: object, text: str) -> None:
    """A row with a value of another type turns the column into text, and no value is lost."""
    window = Window()
    window.append(batch(1, at(EARLY, LATE)))
    before = window.snapshot()
    window.append(batch(3, other))
    window.append(batch(4, at(LATE)))
    after = window.snapshot()
    assert after.generation != before.generation
    assert after.frame()["at"].tolist() == [EARLY, LATE, text, LATE]
    assert before.frame()["at"].tolist() == [pd.Timestamp(EARLY), pd.Timestamp(LATE)]


def test_among_numbers_a_time_is_none() -> None:
    """A time in a column of numbers is a missing value and counted as mistyped."""
    window = Window()
    window.append(batch(1, np.array([1.0, 2.0])))
    window.append(batch(3, at(EARLY)))
    assert window.snapshot().columns["at"] == "number"
    assert np.isnan(window.snapshot().numbers("at")[-1])
    assert window.mistyped == 1


@pytest.mark.parametrize("older", [["n/a"], np.array([1.5])], ids=["text", "number"])
def test_older_rows_of_another_kind(older: object) -> None:
    """Older rows of another type, put in front of the window, turn the column into text, and no value is
    lost."""
    window, before = Window(), Window()
    window.append(batch(2, at(EARLY, LATE)))
    before.append(batch(1, older))
    window.prepend(before)
    assert window.snapshot().frame()["at"].tolist() == [str(older[0]), EARLY, LATE]  # type: ignore[index]


def test_survives_growth_and_removal() -> None:
    """Times keep their values when the window grows and when rows are removed from its middle."""
    window = Window()
    texts = [datetime.fromtimestamp(1.7e9 + i, UTC).isoformat() for i in range(5000)]
    for start in range(0, 5000, 500):
        window.append(batch(start + 1, at(*texts[start : start + 500])))
    window.remove(np.array([2, 4000]))
    kept = [text for i, text in enumerate(texts) if i not in (1, 3999)]
    assert iso_texts(window.snapshot().iso_times("at")) == kept
    assert iso_texts(np.array([MISSING])) == [None]
