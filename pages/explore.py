"""Explore."""

import streamlit as st

from components import (
    choose_chart,
    choose_rows,
    choose_tab,
    downloads,
    field_list,
    message_explorer,
    page_code,
    sql_panel,
    subject_tree,
)

rows = choose_rows()
if rows is None:
    st.stop()

chart = choose_chart(rows.view)
if chart:
    chart.draw(rows.view)

parts = ["Fields", "Messages", "Subjects", "SQL", "Copy as page"]
fields, messages, subjects, sql, code = choose_tab(parts, name="show")
if fields.open:
    with fields:
        field_list(rows.view)
if messages.open:
    with messages:
        message_explorer(rows)
if subjects.open:
    with subjects:
        subject_tree(rows.view, choice="Subjects")
if sql.open:
    with sql:
        sql_panel(rows)
if code.open:
    with code:
        page_code(rows, chart)
downloads(rows.view, rows.stream)
