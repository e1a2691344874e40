"""The script: a page with charts, which refresh twice a second, and a page without."""

import time
from contextlib import nullcontext

import streamlit as st

from components.charts.line_chart import line_chart
from components.push.tabs import own_tab
from components.web.tab import tab
from tests.components.chart_app.source import view


def charts() -> None:
    """One chart, or those named in the query: ?show=few,many,folded,empty. With &moves=1 the browser gets
    another element for it with every fourth refresh. With &way=refresh the data comes with the elements. With
    &slow=1 a run takes a second until it comes to the charts."""

    @st.fragment(run_every=0.5)
    def body() -> None:
        st.session_state["runs"] = runs = st.session_state.get("runs", 0) + 1
        own_tab().blocked = st.query_params.get("way") == "refresh"
        with own_tab().drawing():
            if "slow" in st.query_params:
                time.sleep(1)
            for name in st.query_params.get("show", "few").split(","):
                with st.container() if "moves" in st.query_params and runs // 4 % 2 else nullcontext():
                    line_chart(
                        view(name), "value", by="_subject", title=f"Chart <i>{name}</i>", unit="<u>°C</u>"
                    )

    body()


def nothing() -> None:
    """A page without charts."""
    st.write("Nothing here")


def others() -> None:
    """Another page with the same chart."""
    charts()


st.set_page_config(layout="wide")
tab(own_tab().ticket)
pages = [st.Page(charts, title="Charts", default=True), st.Page(others, title="Others")]
st.navigation([*pages, st.Page(nothing, title="Nothing")]).run()
