"""Thresholds of charts and lists in Streamlit's AppTest, on rows that need no server."""

import json
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from bench.chart_end import Message, read
from components.charts.thresholds import MOST_MARKS, checked, crossed, drawn
from components.tables.alerts import headline
from nats_client.errors import ThresholdError
from nats_client.table.values import Batch
from tests.components.chart_app.source import SECOND, Source, seen

SCRIPT = """
import streamlit as st
from components import alerts, line_chart
from components.push.tabs import own_tab
from tests.components.chart_app.source import view

own_tab().blocked = True  # so that all that is drawn travels with the page
rows = view("few")
limits = {"*busy*": st.session_state.get("limit", 2.5), "none": None}
line_chart(rows, "value", by="_subject", unit="<u>%", thresholds=limits)
alerts(rows, "value", limits, by="_subject", unit="<u>%")
"""


def message(app: AppTest) -> Message:
    """The message sent to the chart."""
    return read(app.get("bidi_component")[0].proto.bytes)


def listed(app: AppTest) -> tuple[list[str], list[list[str]]]:
    """The headlines of the list of crossings, and its rows."""
    content = json.loads(app.get("bidi_component")[1].proto.json)["content"]
    said = [content[name][1] for name in sorted(content) if name.startswith("h")]
    return said, [content[name] for name in sorted(content, reverse=True) if name.startswith("r")]


@pytest.mark.parametrize("value", ["high", float("nan"), float("inf"), True, [90], {"n": 1}])
def test_what_is_no_condition_is_refused(value: object) -> None:
    """An invalid threshold is an error with its name, its value and an example."""
    with pytest.raises(ThresholdError, match="The condition 'busy' is") as raised:
        checked({"busy": value})
    assert repr(value) in str(raised.value)
    assert "for example 90" in str(raised.value)


def test_what_is_missing_is_left_out() -> None:
    """A threshold of None draws nothing, because a key of a bucket may be missing."""
    assert checked({"busy": 90, "full": None, "hot": 1.5}).keys() == {"busy", "hot"}


def test_chart_gets_thresholds_and_marks() -> None:
    """The chart gets the thresholds, and a mark for each rise above one, with its series, time and value."""
    app = AppTest.from_string(SCRIPT, default_timeout=30).run()
    assert not app.exception
    config = message(app).header["config"]
    assert config["thresholds"] == [["*busy*", 2.5, "above"]]
    marks = config["marks"]
    assert marks["names"] == ["third"]
    assert {(line, name) for line, name, _, _ in marks["at"]} == {(0, 0)}
    assert all(2.5 < value < 3.01 for _, _, _, value in marks["at"])
    assert marks["more"] == 0


def test_changed_threshold_resends_only_the_settings() -> None:
    """When a threshold moves, the settings are sent again, and only new data."""
    app = AppTest.from_string(SCRIPT, default_timeout=30).run()
    whole = message(app)
    app.run()
    app.run()
    assert "config" not in message(app).header
    app.session_state["limit"] = 2.75
    app.run()
    changed = message(app)
    assert changed.header["config"]["thresholds"] == [["*busy*", 2.75, "above"]]
    assert changed.builds_on > 0
    assert len(changed.cells) < len(whole.cells) / 10


def test_newest_crossings_are_marked_and_the_rest_counted() -> None:
    """Of many crossings the newest are marked, under the chart's names of their series, and the rest are
    counted."""
    noise, now = Source("noise", []), 1_700_000_000 * SECOND
    times = now - np.arange(3000, 0, -1) * SECOND // 100
    values = {"a": np.tile([1.0, 9.0], 1500), "b": np.zeros(3000)}
    noise.window.append(Batch(np.arange(3000), times, times, ["s"] * 3000, values))
    view = seen(noise, now)
    config = drawn(view, ["a", "b"], "_subject", checked({"low": 5, "high": ">= 9", "late": "silent for 1s"}))
    assert config["thresholds"] == [("low", 5.0, "above"), ("high", 9.0, "above")]
    marks: Any = config["marks"]
    assert marks["names"] == ["s a"]
    assert marks["more"] == 2 * 1500 - MOST_MARKS
    newest_first = [time for _, _, time, _ in marks["at"]]
    assert newest_first == sorted(newest_first, reverse=True)
    assert newest_first[0] == times[-1] // 1_000_000
    assert len(json.dumps(config)) < 40 * MOST_MARKS


def test_list_says_how_things_stand() -> None:
    """The list has threshold, series and values of each crossing, and its headline has how many series are
    above."""
    app = AppTest.from_string(SCRIPT, default_timeout=30).run()
    (line,), rows = listed(app)
    assert rows
    assert {row[0] for row in rows} == {"*busy*"}
    assert {row[1] for row in rows} == {"third"}
    assert all(float(peak) >= float(value) for _, _, _, _, value, peak in rows)
    assert sum(row[3] == "still above" for row in rows) <= 1
    assert "'*busy*' (2.5 <u>%)" in line
    app.session_state["limit"] = 99.0
    app.run()
    (line,), rows = listed(app)
    assert "Nothing crossed" in line
    assert "in the last 1 minute" in line
    assert not rows
    app.session_state["limit"] = -9
    app.run()
    (line,), rows = listed(app)
    assert "3 of 3 series are above" in line
    assert all(row[2].startswith("before ") for row in rows)


def test_list_of_other_conditions() -> None:
    """Values below a limit or outside a range, changes and silences each have their own sentence. A condition
    that did not hold long enough is not counted."""
    noise, now = Source("states", []), 1_700_000_000 * SECOND
    times = now - np.arange(30, 0, -1) * SECOND
    times[:10] -= 20 * SECOND
    numbers = np.array([5.0] * 10 + [1.0] * 3 + [9.0] * 17)
    states = ["idle"] * 15 + ["<b>run"] * 15
    noise.window.append(Batch(np.arange(30), times, times, ["s"] * 30, {"n": numbers, "state": states}))
    view = seen(noise, now)
    limits = {
        "cold": "< 2",
        "long": "< 2 for 5s",
        "band": "outside 4..8 for 1s",
        "pause": "silent for 10s",
        "turn": "changed",
    }
    said = {
        one.name: headline(one, view, "%", several=False)
        for one in crossed(view, ["n"], None, checked(limits))
    }
    assert said == {
        "cold": "Nothing is below 'cold' (2 %) now; it was crossed once in the last 1 minute.",
        "long": "Nothing was below 'long' (2 %) for 5 seconds or longer in the last 1 minute.",
        "band": "'n' is outside 'band' (4 to 8 %) for 1 second or longer now.",
        "pause": "Nothing is silent for more than 10 seconds ('pause') now; that was so once in the last 1 "
        "minute.",
        "turn": "'n' changed twice in the last 1 minute ('turn').",
    }
    (turn,) = crossed(view, ["state"], None, checked({"turn": "changed"}))
    assert [crossing.text for crossing in turn.found.crossings] == ["<b>run"]
