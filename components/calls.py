"""Replaces two of Streamlit's functions for pages, once per process.

All viewers share these functions, so the script that runs for each viewer must not replace them. Reloading
edited code keeps this module and its replacements.
"""

from typing import Any, NoReturn

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from .launcher import load_components
from .web.streamlit_internals import StopException, replace_main

_plotly_chart = DeltaGenerator.plotly_chart


def stop() -> NoReturn:
    """End the page, but not the status line and the refresh clock, which Streamlit's own st.stop() would end
    too."""
    raise StopException


def plotly_chart(self: DeltaGenerator, figure_or_data: Any, *arguments: Any, **options: Any) -> Any:
    """Draw as Streamlit's plotly_chart does, in the page, the sidebar or any container, without what the
    content security policy forbids (see figures.py). Raises LookbackError if the figure cannot be drawn."""
    load_components()
    from .charts.figures import drawable  # imported here because the modules may have been reloaded
    from .spent import timed

    return timed(_plotly_chart)(self, drawable(figure_or_data), *arguments, **options)


st.stop = stop
DeltaGenerator.plotly_chart = plotly_chart  # type: ignore[method-assign, assignment]
replace_main("plotly_chart")
