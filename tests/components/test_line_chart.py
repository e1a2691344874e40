"""line_chart() in Streamlit's AppTest."""

from pathlib import Path

from streamlit.testing.v1 import AppTest

from bench.chart_end import Message, read
from nats_client.series.bins import MOST
from tests.components.chart_app.source import LOOK_BACK, view

SCRIPT = Path(__file__).parent / "chart_app" / "page.py"


def opened() -> AppTest:
    """The page of a viewer whose charts arrive with the page's elements."""
    app = AppTest.from_file(str(SCRIPT), default_timeout=30)
    app.query_params["way"] = "refresh"
    return app.run()


def message(app: AppTest) -> Message:
    """The message sent to the chart."""
    return read(next(chart.proto.bytes for chart in app.get("bidi_component") if chart.proto.bytes))


def test_first_run_sends_everything_and_the_next_what_changed() -> None:
    """A new viewer gets all cells and the settings; later runs send only changes."""
    app = opened()
    assert not app.exception
    first = message(app)
    assert first.builds_on == 0
    assert first.header["config"]["title"] == "Chart <i>few</i>"
    assert [name for _, name in first.header["names"]] == [
        "<b>bold</b> & <img src=x onerror=alert(1)>",
        "plain",
        "third",
    ]
    app.run()
    app.run()
    third = message(app)
    assert third.builds_on == third.number - 1 > first.number
    assert len(third.cells) < len(first.cells)
    assert not third.header


def test_two_viewers_share_the_bins() -> None:
    """A second viewer gets everything from the same bins."""
    first = message(opened())
    epoch = view("few").feed.bins(("value",), "_subject", LOOK_BACK, MOST).epoch
    second = message(opened())
    assert second.builds_on == 0
    assert second.header["names"] == first.header["names"]
    assert view("few").feed.bins(("value",), "_subject", LOOK_BACK, MOST).epoch == epoch


TWICE = """
import streamlit as st
from components.charts.line_chart import line_chart
from nats_client import LookbackError
from tests.components.chart_app.source import view

try:
    for _ in range(2):
        line_chart(view("few"), "value")
except LookbackError as error:
    st.error(str(error))
"""


def test_the_same_chart_twice_is_told_the_way_out() -> None:
    """A page that draws one chart twice gets an error that says what to do, instead of Streamlit's error
    about an internal key."""
    (error,) = AppTest.from_string(TWICE, default_timeout=30).run().error
    assert error.value == (
        "This page draws the same chart twice. Give one of them a different key, such as key='second'."
    )
