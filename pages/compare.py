"""Compare periods."""

import streamlit as st

from components import choose, compare, compared_means, is_demo, live, look_back_for, stream_names, subjects

PERIODS = {"hour": "PT1H", "day": "P1D", "week": "P7D"}
NAMED = "May contain the wildcards * and >, and name tokens: metrics.{kind}.{host}"

names = stream_names()
with st.container(horizontal=True):
    stream = choose("Stream", names, default="METRICS", own=True)
    if not stream:
        st.stop()
    examples = ["metrics.cpu.{core}", "metrics.{kind}.{name}"] if is_demo() and stream == "METRICS" else []
    subject = choose("Subjects", [*examples, "{subject>}", *subjects(stream)], own=True, help=NAMED)
    chosen = choose("Period", list(PERIODS), own=True, help="Or another duration, such as 15m")
    earlier = int(choose("Earlier periods", ["1", "2", "3", "4", "6", "12"]))

period = PERIODS.get(chosen, chosen)
archive = "history.query" if is_demo() else None  # the stream keeps a day, but a comparison may need weeks
rows = live(stream, subject, look_back=look_back_for(period, earlier), archive=archive)
if not rows:
    st.stop()  # the frame says why
numbers = [name for name, kind in rows.columns.items() if kind == "number"]
texts = [name for name, kind in rows.columns.items() if kind == "text" and name != "_subject"]
if not numbers:
    st.info("These messages have no numeric fields to compare.")
    st.stop()

with st.container(horizontal=True):
    y = choose("Field", numbers)
    by = choose("Dimension", [*texts, "_subject"])

compare(rows, y, period, earlier, by=by, title=f"{y} by {by}")
compared_means(rows, y, period, by=by)
