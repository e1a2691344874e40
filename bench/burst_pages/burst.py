"""A stream that comes in bursts, in event time. Its values are the times of publishing."""

from components import line_chart, live

feed = live("BURST", "burst.>", look_back="PT1M", time="t")
line_chart(feed, y="sent", by="_subject")
