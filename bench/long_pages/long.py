"""Six hours."""

from components import line_chart, live

feed = live("LONG", "long.>", look_back="PT6H", time="t")
line_chart(feed, y="value", by="_subject")
