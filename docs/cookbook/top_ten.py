"""The ten best sellers."""

from components import latest_values, live, sql

orders = live("ORDERS", "orders.{region}", look_back="PT15M", time="at")
best = sql(
    "SELECT product, sum(quantity) AS sold FROM orders GROUP BY product ORDER BY sold DESC, product LIMIT 10",
    orders=orders,
)
latest_values(best, "sold", by="product")
