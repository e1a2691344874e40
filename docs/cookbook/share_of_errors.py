"""Share of failed orders."""

from components import every, line_chart, live

orders = live("ORDERS", "orders.{region}", look_back="PT15M", time="at")
share = every("PT1M", orders, by="region", failed="100 * count_if(status = 'failed') / count(*)")
line_chart(share, "failed", by="region", unit="%")
