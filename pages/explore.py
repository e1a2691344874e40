"""Explore."""

import streamlit as st

from components import (
    choose,
    choose_chart,
    chosen,
    downloads,
    empty_state,
    field_list,
    look,
    message_list,
    page_code,
    stream_line,
    streams,
    subject_list,
    subjects,
    time_fields,
)

LOOK_BACKS = ["PT1M", "PT5M", "PT15M", "PT1H", "PT6H", "P1D"]

table = streams()
if table.empty:
    st.info("This server has no streams yet. The page fills by itself when one is made.")
    st.stop()

choices = st.container(horizontal=True)
with choices:
    stream = choose("Stream", list(table.index))
    subject = choose("Subjects", [">", *subjects(stream)], own=True, help="Patterns may have * and >")
    look_back = choose("Look-back", LOOK_BACKS, default="PT5M", own=True, help="An ISO 8601 duration")
    decoder = choose("Payloads", ["json", "text"], help="How a message becomes rows")
stream_line(table, stream)

time = chosen("Time", "stored")
asked = {"look_back": look_back, "decoder": decoder, "time": None if time == "stored" else time}
rows = look(stream, subject, **asked)
with choices:
    choose("Time", ["stored", *time_fields(rows)], own=True, help="The field with a row's own time")

chart = None
if len(rows):
    chart = choose_chart(rows)
    if chart:
        chart.draw(rows)
else:
    empty_state(rows)

fields, messages, counts, code = st.tabs(
    ["Fields", "Messages", "Subjects", "Copy as page"], key="show", bind="query-params"
)
if fields.open:
    with fields:
        field_list(rows)
if messages.open:
    with messages:
        message_list(rows)
if counts.open:
    with counts:
        subject_list(rows)
if code.open:
    with code:
        st.caption("Save this as a file in pages/, and it is a page.")
        st.code(page_code(stream, subject, chart, **asked))
downloads(rows, stream)
