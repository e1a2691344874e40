"""The same fifty lines, each in a small chart of its own."""

from components import line_chart, live

line_chart(live("PANELS", "panels.>", look_back="PT10M", time="t"), "value", facet="_subject")
