"""Totals."""

import streamlit as st

from components import live, metric, sql

orders = live("ORDERS", "orders.{region}", look_back="PT15M", time="at")
totals = sql("SELECT count(*) AS orders, sum(quantity) AS items, avg(ms) AS mean FROM orders", orders=orders)
first, second, third = st.columns(3)
with first:
    metric(totals, "orders", title="Orders")
with second:
    metric(totals, "items", title="Items")
with third:
    metric(totals, "mean", title="Mean time", unit="ms")
