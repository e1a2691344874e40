"""p95 by region."""

from components import every, line_chart, live

orders = live("ORDERS", "orders.{region}", look_back="PT15M", time="at")
p95 = every("PT1M", orders, by="region", p95="quantile_cont(ms, 0.95)")
line_chart(p95, "p95", by="region", unit="ms")
