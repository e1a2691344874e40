"""Websocket comparison."""

import streamlit as st

from components import (
    choose,
    choose_step,
    compare_with,
    compared,
    compared_charts,
    compared_figures,
    compared_notes,
    comparison,
    line_chart,
    live,
)

half = st.query_params.get("chart")
if half is not None:
    # The left half is this page again, in an iframe. Its code is what an author would write.
    rows = live("COMPARISON", "simulated.*", look_back=compared(half))
    line_chart(rows, y="value", by="_subject", most=100, height=260, grow=False, key=half)
    compare_with(half)
else:
    st.caption("One stream, drawn twice. The data is simulated and published only while this page is open.")
    rates = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000]
    with st.container(horizontal=True, gap="large"):
        rate = choose_step("Messages a second", rates, 10, name="rate")
        series = choose_step("Series", [1, 2, 5, 10, 20, 50, 100], 10)
        look_back = choose("Look-back", ["30 s", "1 min", "2 min", "5 min"], default="1 min")
    run = comparison(rate, series, look_back)
    if run is not None:
        compared_charts(run)
        compared_figures(run)
        compared_notes(run)
