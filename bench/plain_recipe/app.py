"""The plain recipe: the page that a Streamlit author writes first, written with care.

It has a consumer per session in a thread and a list of dicts. Each run makes a new DataFrame and `px.line`,
and the whole page reruns every second. It drops rows older than five minutes, and shows no more than the app
it is compared with.
"""

import asyncio
import json
import os
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import nats
import pandas as pd
import plotly.express as px
import streamlit as st
from nats.js.api import ConsumerConfig, DeliverPolicy
from streamlit_autorefresh import st_autorefresh

LOOK_BACK = timedelta(minutes=5)


async def follow(rows: list[dict[str, Any]]) -> None:
    """Append every message of the last five minutes, then each new one."""
    connection = await nats.connect(os.environ["NATS_URL"])
    start = datetime.now(UTC) - LOOK_BACK
    subscription = await connection.jetstream().subscribe(
        "bench.>",
        ordered_consumer=True,
        config=ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=start),
    )
    async for message in subscription.messages:
        rows.append({"subject": message.subject, **json.loads(message.data)})  # noqa: PERF401 (it never ends)


st.set_page_config(page_title="Ten series", layout="wide")
st_autorefresh(interval=1000, key="refresh")

if "rows" not in st.session_state:
    st.session_state.rows = []
    threading.Thread(target=asyncio.run, args=(follow(st.session_state.rows),), daemon=True).start()

st.title("Ten series")
rows = st.session_state.rows
# ISO 8601 in UTC sorts as text, so old rows leave the front of the list without being parsed.
oldest = (datetime.now(UTC) - LOOK_BACK).isoformat()
while rows and rows[0]["t"] < oldest:
    rows.pop(0)

if rows:
    frame = pd.DataFrame(list(rows))
    frame["t"] = pd.to_datetime(frame["t"])
    st.caption(f"{len(frame):,} rows")
    st.plotly_chart(px.line(frame, x="t", y="value", color="subject"))
else:
    st.info("Waiting for the first message.")
