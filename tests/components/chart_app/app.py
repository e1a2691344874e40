"""The chart alone in an app: `streamlit run tests/components/chart_app/app.py`."""

import streamlit as st

from components.push import channel
from components.web import assets

app = st.App("page.py", routes=[*channel.routes, *assets.routes])
