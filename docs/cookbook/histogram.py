"""How long orders take."""

import plotly.express as px
import streamlit as st

from components import live, sql

orders = live("ORDERS", "orders.{region}", look_back="PT15M", time="at")
counts = sql(
    "SELECT 50 * floor(ms / 50) AS ms, region, count(*) AS orders FROM orders GROUP BY ALL ORDER BY ALL",
    orders=orders,
)
st.plotly_chart(px.bar(counts.frame(), x="ms", y="orders", color="region"))
