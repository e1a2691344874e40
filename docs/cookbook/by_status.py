"""Orders by status."""

from components import live, newest_rows, sql

orders = live("ORDERS", "orders.{region}", look_back="PT15M", time="at")
table = sql(
    "FROM (PIVOT (SELECT time_bucket(INTERVAL 1 minute, _time) AS time, status FROM orders)"
    " ON status IN ('paid', 'sent', 'failed') USING count(*) GROUP BY time)",
    orders=orders,
)
newest_rows(table, 10)
