"""Orders per minute."""

from components import every, line_chart, live

orders = live("ORDERS", "orders.{region}", look_back="PT15M", time="at")
line_chart(every("PT1M", orders, by="region", orders="count(*)"), "orders", by="region")
