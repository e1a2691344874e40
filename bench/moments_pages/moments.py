"""Ten series, whose values are the times of their messages' publishing."""

from components import line_chart, live

line_chart(live("CLOCK", "clock.>", look_back="PT20S"), y="sent", by="_subject")
