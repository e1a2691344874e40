"""Services."""

import streamlit as st

from components import (
    choose,
    endpoint_list,
    send_request,
    service_chart,
    service_list,
    service_metadata,
    services,
)

found = services()
name = None
with st.container():  # keeps the form below in place when services appear and disappear
    service_list(found)
    if found.names:
        name = choose("Service", found.names)
        service_chart(found, name)
        endpoint_list(found, name)
        service_metadata(found, name)

st.subheader("Send a request")
send_request(found, name)
