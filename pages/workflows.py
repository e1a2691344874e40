"""Workflows."""

import streamlit as st

from components import (
    asked_run,
    choose,
    run_chart,
    run_header,
    run_list,
    run_log,
    run_steps,
    start_buttons,
    workflow_run,
    workflow_runs,
)

key = asked_run()
if key is None:
    with st.container(horizontal=True):
        runs = workflow_runs("P1D")
        workflow = choose("Workflow", ["All", *runs.names])
        status = choose("Status", ["All", "Running", "Succeeded", "Failed", "Cancelled", "Lost"])
    start_buttons(workflow)
    run_list(runs, workflow, status)
else:
    run = workflow_run(key)
    run_header(run)
    if run is not None:
        left, right = st.columns([2, 3])
        with left:
            run_steps(run)
        with right:
            run_log(run)
        run_chart(run)
