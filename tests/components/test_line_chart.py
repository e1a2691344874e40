"""line_chart() in Streamlit's own app testing."""

import json
import struct
from pathlib import Path

from streamlit.testing.v1 import AppTest

SCRIPT = Path(__file__).parent / "chart_app" / "page.py"


def header(app: AppTest) -> dict[str, object]:
    """What the message to the first chart says of itself."""
    (chart,) = app.get("bidi_component")
    data = chart.proto.bytes
    (size,) = struct.unpack_from("<I", data)
    head: dict[str, object] = json.loads(data[4 : 4 + size])
    return head


def test_first_run_sends_everything_and_the_next_what_changed() -> None:
    """A new viewer gets all cells and the settings; the next runs send only changes."""
    app = AppTest.from_file(str(SCRIPT), default_timeout=20).run()
    assert not app.exception
    first = header(app)
    assert first["a"] == 0
    assert first["config"]["title"] == "Chart <i>few</i>"
    assert [name for _, name in first["n"]] == [
        "<b>bold</b> & <img src=x onerror=alert(1)>",
        "plain",
        "third",
    ]
    app.run()
    app.run()
    third = header(app)
    assert third["a"] >= first["v"]
    assert third["c"] < first["c"]
    assert "config" not in third
    assert third["n"] == []


def test_two_viewers_share_the_bins() -> None:
    """A second viewer gets the same epoch, and everything."""
    first = header(AppTest.from_file(str(SCRIPT), default_timeout=20).run())
    second = header(AppTest.from_file(str(SCRIPT), default_timeout=20).run())
    assert first["e"] == second["e"]
    assert second["a"] == 0


def test_an_empty_feed_says_so() -> None:
    """Without rows there is a chart with the sentence that it shows then."""
    app = AppTest.from_file(str(SCRIPT), default_timeout=20)
    app.query_params["show"] = "empty"
    head = header(app.run())
    assert head["c"] == 0
    assert head["config"]["empty"] == "No numbers in the last 1 minute"


TWICE = """
import streamlit as st
from components.line_chart import line_chart
from nats_client import LookbackError
from tests.components.chart_app.source import view

try:
    for _ in range(2):
        line_chart(view("few"), "value")
except LookbackError as error:
    st.error(str(error))
"""


def test_the_same_chart_twice_is_told_the_way_out() -> None:
    """A page that draws one chart twice reads what to do, and not Streamlit's words on an internal key."""
    (error,) = AppTest.from_string(TWICE, default_timeout=20).run().error
    assert error.value == (
        "This page draws the same chart twice. Give one of them a key of its own, such as key='second'."
    )
