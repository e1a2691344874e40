"""Errors per order."""

from components import every, line_chart, live, sql

orders = live("ORDERS", "orders.{region}", look_back="PT15M", time="at")
errors = live("LOGS", "logs.{service}", look_back="PT15M", time="at", where="level = 'error'")
ratio = sql(
    "SELECT _time, coalesce(errors.n, 0) / orders.n AS ratio FROM orders LEFT JOIN errors USING (_time)",
    orders=every("PT1M", orders, n="count(*)"),
    errors=every("PT1M", errors, n="count(*)"),
)
line_chart(ratio, "ratio")
