"""Overview."""

import streamlit as st

from components import bytes_text, is_demo, line_chart, live, newest_messages, stream_list, streams, values

if is_demo():
    st.caption("Live figures of this machine, published to NATS JetStream once a second.")
    cpu = live("METRICS", "metrics.cpu.*", look_back="PT5M")
    memory = live("METRICS", "metrics.memory.*", look_back="PT5M")
    network = live("METRICS", "metrics.network.*", look_back="PT5M")
    disk = live("METRICS", "metrics.disk.*", look_back="PT5M")
    limits = values("thresholds", optional=True)
    busy_above, full_above = {"busy": limits.get("cpu")}, {"full": limits.get("memory")}

    busy, ram = cpu.latest("percent"), memory.latest("used_bytes")
    with st.container(horizontal=True):
        total = busy.get("metrics.cpu.total")
        st.metric("CPU", "n/a" if total is None else f"{total:.0f} %")
        st.metric("Memory used", bytes_text(ram.get("metrics.memory.ram", float("nan"))))
        st.metric("Received", f"{bytes_text(network.latest('received_bytes_per_s').sum())}/s")
        st.metric("Written", f"{bytes_text(disk.latest('write_bytes_per_s').sum())}/s")

    left, right = st.columns(2)
    with left:
        line_chart(cpu, y="percent", color="_subject", title="CPU", unit="%", thresholds=busy_above)
        line_chart(network, y="received_bytes_per_s", color="_subject", title="Network in", unit="B/s")
    with right:
        line_chart(memory, y="percent", color="_subject", title="Memory", unit="%", thresholds=full_above)
        line_chart(disk, y="write_bytes_per_s", color="_subject", title="Disk writes", unit="B/s")
else:
    table = streams()
    st.metric("Streams", len(table))
    stream_list(table)
    st.subheader("Newest messages")
    newest_messages(list(table.sort_values("per_second", ascending=False).index[:8]))
