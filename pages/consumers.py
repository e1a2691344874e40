"""Consumers."""

import streamlit as st

from components import choose_text, consumer_list, stream_limits

search = choose_text("Search", placeholder="Part of the name of a stream or consumer")
consumer_list(search)
st.subheader("Streams")
stream_limits(search)
