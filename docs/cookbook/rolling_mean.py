"""Mean of the last minute."""

from components import line_chart, live, rolling

servers = live("SERVERS", "servers.{host}", look_back="PT15M", time="at")
line_chart(rolling(servers, "cpu", "PT1M", how="mean", by="host"), "cpu", by="host", unit="%")
