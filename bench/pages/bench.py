"""Ten series."""

from components import line_chart, live

feed = live("BENCH", "bench.>", look_back="PT5M", time="t")
line_chart(feed, y="value", by="_subject")
