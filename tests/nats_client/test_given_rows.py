"""GivenRows: the chart of a table shows all its rows, whatever their times."""

import time

import pandas as pd
import pytest

from nats_client.results.given_rows import GivenRows

DAY_AGO = pd.Timestamp.now("UTC").floor("min") - pd.Timedelta(days=1)


def given(*times: pd.Timestamp) -> GivenRows:
    """Rows at these times."""
    rows = GivenRows("x")
    rows.put(pd.DataFrame({"n": range(len(times))}, index=pd.DatetimeIndex(times)))
    return rows


@pytest.mark.parametrize(
    "lengths", [[0], [0, 0], [0, 0.001], [0, 1], [0, 60], [0, 10, 3600], [0, 20 * 86_400]]
)
@pytest.mark.parametrize("start", [DAY_AGO, DAY_AGO + pd.Timedelta(days=30)], ids=["past", "ahead"])
def test_old_rows_are_all_shown(start: pd.Timestamp, lengths: list[float]) -> None:
    """Rows far in the past or the future lie within the time shown, with some margin on both sides. The
    chart's end does not move."""
    rows = given(*(start + pd.Timedelta(seconds=each) for each in lengths))
    now = rows.now()
    assert rows.key.end == now == rows.now()
    times = rows.snapshot().time
    room = rows.look_back.value // 100
    assert now - rows.look_back.value + room < times[0]
    assert times[-1] < now - room
    assert rows.look_back.value <= max(60e9, 1.05 * (times[-1] - times[0]))


def test_new_rows_are_shown_up_to_now() -> None:
    """Rows whose newest is less than a minute old are shown up to the present, and the chart begins with the
    oldest row."""
    clock = pd.Timestamp.now("UTC")
    rows = given(clock - pd.Timedelta(minutes=10), clock)
    assert rows.key.end is None
    assert abs(rows.now() - time.time_ns()) < 1e9
    assert rows.now() - rows.look_back.value < rows.snapshot().time[0]
    assert rows.health.history_start == rows.snapshot().time[0]


def test_a_length_holds_while_it_fits() -> None:
    """The chart's length stays the same while the table changes a little, and changes if the table gets much
    longer or shorter."""
    rows = given(DAY_AGO, DAY_AGO + pd.Timedelta(hours=1))
    length = rows.look_back
    for hours, same in ((0.99, True), (2, False), (1, False)):
        before = rows.look_back
        times = pd.DatetimeIndex([DAY_AGO, DAY_AGO + pd.Timedelta(hours=hours)])
        rows.put(pd.DataFrame({"n": [0, 1]}, index=times))
        assert (rows.look_back == before) is same
    assert rows.look_back == length
