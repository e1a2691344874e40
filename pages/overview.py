"""Overview."""

import streamlit as st

from components import is_demo, line_chart, live, metric, newest_messages, stream_list, streams, values

HEIGHT = 220
"""Pixels of a chart: four of them fit on a screen of 1440 by 900."""

if is_demo():
    cpu = live("METRICS", "metrics.cpu.*", look_back="PT5M")
    memory = live("METRICS", "metrics.memory.*", look_back="PT5M")
    network = live("METRICS", "metrics.network.*", look_back="PT5M")
    disk = live("METRICS", "metrics.disk.*", look_back="PT5M")
    limits = values("thresholds", optional=True)
    busy_above, full_above = {"busy": limits.get("cpu")}, {"full": limits.get("memory")}

    with st.container(horizontal=True):
        metric(cpu, "percent", by="_subject", only="metrics.cpu.total", title="CPU", unit="%")
        metric(memory, "used_bytes", by="_subject", only="metrics.memory.ram", title="Memory used", unit="B")
        metric(network, "received_bytes_per_s", how="sum", by="_subject", title="Received", unit="B/s")
        metric(disk, "write_bytes_per_s", how="sum", by="_subject", title="Written", unit="B/s")

    left, right = st.columns(2)
    with left:
        line_chart(
            cpu, y="percent", by="_subject", title="CPU", unit="%", thresholds=busy_above, height=HEIGHT
        )
        line_chart(
            network, y="received_bytes_per_s", by="_subject", title="Network in", unit="B/s", height=HEIGHT
        )
    with right:
        line_chart(
            memory,
            y="percent",
            by="_subject",
            title="Memory",
            unit="%",
            thresholds=full_above,
            height=HEIGHT,
        )
        line_chart(disk, y="write_bytes_per_s", by="_subject", title="Disk writes", unit="B/s", height=HEIGHT)
    st.caption("Live figures of this machine, published to NATS JetStream once a second.")
else:
    table = streams()
    st.metric("Streams", len(table))
    stream_list(table)
    st.subheader("Newest messages")
    newest_messages(list(table.sort_values("per_second", ascending=False).index[:8]))
