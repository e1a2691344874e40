"""Two of Streamlit's functions as pages call them, changed once for the process.

They are Streamlit's own for all viewers, so the script that runs for each viewer must not change them.
Reloading edited code leaves this module alone, and with it what it has changed.
"""

from typing import Any, NoReturn

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from .web.streamlit_internals import StopException, replace_main

_plotly_chart = DeltaGenerator.plotly_chart


def stop() -> NoReturn:
    """End the page, and not the line above it and the refresh clock, as Streamlit's own would."""
    raise StopException


def plotly_chart(self: DeltaGenerator, figure_or_data: Any, *arguments: Any, **options: Any) -> Any:
    """As Streamlit's, in the page, the sidebar or any container, but for what the content security policy
    forbids (figures.py). Raises LookbackError on a figure that cannot be drawn."""
    from .charts.figures import drawable  # it may have been loaded anew

    return _plotly_chart(self, drawable(figure_or_data), *arguments, **options)


st.stop = stop
DeltaGenerator.plotly_chart = plotly_chart  # type: ignore[method-assign, assignment]
replace_main("plotly_chart")
