"""Live."""

import streamlit as st

from components import choose, downloads, latest_values, line_chart, live, newest_rows, streams, subjects

LOOK_BACKS = ["PT1M", "PT5M", "PT15M", "PT1H", "PT6H", "P1D"]

names = list(streams().index)
if not names:
    st.info("This server has no streams yet. The page fills by itself when one is made.")
    st.stop()

with st.container(horizontal=True):
    stream = choose("Stream", names)
    subject = choose("Subjects", [">", *subjects(stream)], own=True, help="Patterns may have * and >")
    look_back = choose("Look-back", LOOK_BACKS, default="PT5M", own=True, help="An ISO 8601 duration")

feed = live(stream, subject, look_back=look_back)

numbers = [name for name, kind in feed.columns.items() if kind == "number"]
texts = [name for name, kind in feed.columns.items() if kind == "text"]
if numbers:
    with st.container(horizontal=True):
        y = choose("Field", numbers)
        color = choose("Colour", texts, default="_subject")
    line_chart(feed, y=y, color=color, height=380, key=f"{stream} {subject} {y} {color}")
    latest_values(feed, y, by=color)
else:
    st.info("These messages have no numbers to draw.")

st.subheader("Newest rows")
newest_rows(feed)
downloads(feed, stream)
