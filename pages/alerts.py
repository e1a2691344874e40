"""Alerts."""

import streamlit as st

from components import alerts, choose, choose_number, is_demo, line_chart, live, stream_names, subjects

LOOK_BACKS = ["PT1M", "PT5M", "PT15M", "PT1H", "PT6H", "P1D"]

names = stream_names()
with st.container(horizontal=True):
    stream = choose("Stream", names, default="METRICS", own=True)
    if not stream:
        st.stop()
    offered = [*(["metrics.cpu.*"] if is_demo() and stream == "METRICS" else []), ">", *subjects(stream)]
    subject = choose("Subjects", offered, own=True, help="May contain the wildcards * and >")
    look_back = choose(
        "Look-back", LOOK_BACKS, default="PT15M", own=True, help="For example 5m, 6 hours or PT5M"
    )

feed = live(stream, subject, look_back=look_back)
if not feed:
    st.stop()  # the frame says why

numbers = [name for name, kind in feed.columns.items() if kind == "number"]
texts = [name for name, kind in feed.columns.items() if kind == "text"]
if not numbers:
    st.info("These messages have no numeric fields to watch.")
    st.stop()

with st.container(horizontal=True):
    y = choose("Field", numbers, default="percent")
    by = choose("By", texts, default="_subject")
    limit = {"limit": choose_number("Limit", 90, help="Values that rise above it are marked and listed")}

line_chart(feed, y=y, color=by, thresholds=limit, key=f"{stream} {subject} {y} {by}")
alerts(feed, y, limit, color=by)
