"""Memory."""

from components import line_chart, live, metric

bytes_used = {"bytes": "memory_kib * 1024"}
servers = live("SERVERS", "servers.{host}", look_back="PT15M", time="at", columns=bytes_used)
metric(servers, "bytes", how="sum", by="host", title="All servers", unit="B", line=False)
line_chart(servers, "bytes", by="host", unit="B")
