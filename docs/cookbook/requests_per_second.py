"""Requests per second."""

from components import line_chart, live, rate

servers = live("SERVERS", "servers.{host}", look_back="PT15M", time="at")
line_chart(rate(servers, "requests_total", by="host"), "rate", by="host", unit="1/s")
