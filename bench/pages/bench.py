"""Ten series."""

from components.charts import line_chart
from components.data import live

feed = live("BENCH", "bench.>", look_back="PT5M", time="t")
line_chart(feed, y="value", color="_subject")
