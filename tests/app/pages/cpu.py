"""CPU by core."""

import streamlit as st

from components import line_chart, live

cpu = live("METRICS", "metrics.cpu.*", look_back="PT15M")
st.metric("Busiest core", f"{cpu.latest('percent').max():.0f} %")
line_chart(cpu, y="percent", color="_subject", unit="%")
