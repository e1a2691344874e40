"""The chart alone in an app: `streamlit run tests/components/chart_app/app.py`."""

import streamlit as st

from components.web.assets import routes

app = st.App("page.py", routes=routes)
