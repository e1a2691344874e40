"""Four charts, a text box and a menu."""

import streamlit as st

from components import line_chart, live

left, right = st.columns(2)
left.text_input("Note")
right.selectbox("Menu", ["one", "two", "three"])
for number, place in enumerate([*st.columns(2), *st.columns(2)]):
    with place:
        feed = live(f"DRAW{number}", f"draw{number}.>", look_back="PT10M", time="t")
        line_chart(feed, y="value", by="_subject", height=260)
