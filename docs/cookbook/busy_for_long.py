"""Busy for 30 seconds."""

from components import alerts, line_chart, live

servers = live("SERVERS", "servers.{host}", look_back="PT15M", time="at")
busy = {"busy": "> 90 for 30s"}
line_chart(servers, "cpu", by="host", unit="%", thresholds=busy)
alerts(servers, "cpu", busy, by="host", unit="%")
