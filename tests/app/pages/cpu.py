"""CPU by core."""

from components import line_chart, live, metric

cpu = live("METRICS", "metrics.cpu.*", look_back="PT15M")
metric(cpu, "percent", how="greatest", by="_subject", title="Busiest core", unit="%")
line_chart(cpu, y="percent", by="_subject", unit="%")
