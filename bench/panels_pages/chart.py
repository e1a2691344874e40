"""Fifty lines in one chart."""

from components import line_chart, live

line_chart(live("PANELS", "panels.>", look_back="PT10M", time="t"), "value", by="_subject", most=50)
