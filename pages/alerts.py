"""Alerts."""

import streamlit as st

from components import alerts, choose, choose_text, events, is_demo, line_chart, live, stream_names, subjects

ARCHIVED = ["workflow.archive.*.-.-.finished", "workflow.archive.*.-.-.failed"]
LIMITS = ["90", "< 10", "outside 10..90", "> 90 for 30s", "changed", "silent for 30s"]

names = stream_names()
with st.container(horizontal=True):
    stream = choose("Stream", names, default="METRICS", own=True)
    if not stream:
        st.stop()
    offered = [*(["metrics.cpu.*"] if is_demo() and stream == "METRICS" else []), ">", *subjects(stream)]
    subject = choose(
        "Subjects", offered, own=True, help="May contain the wildcards * and >. Spaces separate several."
    )
    expression = choose_text(
        "Expression",
        placeholder="used / total * 100",
        help="SQL over the fields, to watch in place of a field",
    )

feed = live(
    stream, subject.split(" "), look_back="PT15M", columns={"expression": expression} if expression else None
)
if not feed:
    st.stop()  # the frame says why

numbers = [name for name, kind in feed.columns.items() if kind == "number"]
texts = [name for name, kind in feed.columns.items() if kind == "text"]
if not numbers:
    st.info("These messages have no numeric fields to watch.")
    st.stop()

with st.container(horizontal=True):
    y = choose("Field", numbers, default="expression" if expression else "percent")
    by = choose("By", texts, default="_subject")
    when = choose(
        "Limit",
        LIMITS,
        default="90",
        own=True,
        help="What is marked and listed: values above it, or as offered",
    )
limit = {"limit": when}

line_chart(feed, y=y, by=by, thresholds=limit, key=f"{stream} {subject} {y} {by}")
if is_demo() and "WORKFLOWS" in names:
    events(live("WORKFLOWS", ARCHIVED, look_back="PT15M"), text="archive {status}")
alerts(feed, y, limit, by=by)
