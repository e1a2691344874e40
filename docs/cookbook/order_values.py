"""What orders were worth."""

from components import live, metric, newest_rows, sql

orders = live("ORDERS", "orders.{region}", look_back="PT15M", time="at")
prices = live("PRICES", "prices.{product}", look_back="PT30M", time="at")
valued = sql(
    "SELECT o._time, o.region, o.product, o.quantity, p.price, o.quantity * p.price AS value"
    " FROM orders o ASOF JOIN prices p ON o.product = p.product AND o._time >= p._time",
    orders=orders,
    prices=prices,
)
total = sql("SELECT sum(value) AS total FROM valued", valued=valued)
metric(total, "total", title="Value of all orders", unit="€")
newest_rows(valued, 10)
