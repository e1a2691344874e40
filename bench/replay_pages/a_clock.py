"""Ten series, whose values are the times of their messages' publishing."""

from components import line_chart, live

feed = live("CLOCK", "clock.>", look_back="PT5M", time="t")
line_chart(feed, y="sent", by="_subject")
