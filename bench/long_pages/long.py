"""Six hours."""

from components.charts import line_chart
from components.data import live

feed = live("LONG", "long.>", look_back="PT6H", time="t")
line_chart(feed, y="value", color="_subject")
