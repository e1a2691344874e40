"""One small page, refreshed once a second in one of several ways; `REFRESH` says which."""

import os
import time
from itertools import count

import plotly.graph_objects as go
import streamlit as st
from streamlit_autorefresh import st_autorefresh

WAY = os.environ["REFRESH"]
PAUSE = float(os.environ["PAUSE"])  # stands for a slow page


@st.cache_resource
def numbers() -> "count[int]":
    """Give figures that differ from run to run."""
    return count(1)


def body() -> None:
    """A status line, a tiny chart, and the clock at the end."""
    number = next(numbers())
    st.caption(f"Connected, run {number}")
    time.sleep(PAUSE)
    wave = [(number * step * 37 % 101) / 7 for step in range(20)]
    st.plotly_chart(go.Figure(go.Scatter(y=wave), layout={"template": "none"}), key="chart")
    st.button("Touch")
    if "autorefresh" in WAY:
        st_autorefresh(interval=1000, debounce="steady" not in WAY, key="refresh")


st.title("A page")
st.text_input("Filter", key="filter")
if WAY == "run_every":
    st.fragment(body, run_every=1)()
elif "fragment" in WAY:
    st.fragment(body)()
else:
    body()
