"""The frame around every page: menu, refresh clock, state of the data; the one place errors are drawn.

This is the script that Streamlit runs for each viewer. The page itself is one fragment, so a refresh
reruns the page's body and the line above it, and neither the menu nor this frame.
"""

import logging
import traceback
from pathlib import Path
from typing import NoReturn

import streamlit as st
from streamlit_autorefresh import st_autorefresh

from components.address import begin, end
from components.connection import client
from components.download import withdraw
from components.figures import plotly_chart
from components.history import leave
from components.live import NothingYet, Read, collected
from components.pages import FOLDER, code_of, find_pages, page_files
from components.reload import refresh_code
from components.sign_in import (
    draw_entrance,
    draw_reload,
    draw_viewer,
    is_leaving,
    look_again,
    rights,
    viewer,
    wait_for_provider,
)
from components.status import draw_anew, empty_state, mistake, status
from components.tab import hidden, tab
from components.words import plain
from nats_client import LookbackError
from nats_client.errors import ConnectionFailed, NotSignedIn

INTERVALS = {"0.5 s": 500, "1 s": 1000, "2 s": 2000, "5 s": 5000, "15 s": 15000, "Paused": None}
"""What a viewer may choose, in milliseconds."""

STATIC = Path(__file__).parent.parent / "static"


class PageStopped(BaseException):
    """The page has called st.stop()."""


def _stop() -> NoReturn:
    raise PageStopped


# Streamlit's own ends everything that is drawn, the line above the page and the refresh clock among it.
st.stop = _stop
st.plotly_chart = plotly_chart  # type: ignore[assignment]


def draw_page(file: Path) -> None:
    """Draw the page of `file`, and again at each tick of the viewer's clock."""
    leave(file.stem)
    draw_anew()
    body(file, page_files(), rights())


@st.fragment(key="body")
def body(file: Path, shown: list[Path], drawn_for: str | None) -> None:
    """The page, under the line that says how it is doing."""
    refresh_code()
    try:
        out_of_date = rights() != drawn_for or page_files() != shown
    except NotSignedIn:
        out_of_date = True
    if out_of_date:
        st.rerun()  # the viewer has signed out or has another role, or a page was added or taken away
    interval = INTERVALS[st.session_state.get("refresh") or "1 s"]
    if interval is not None and not hidden():
        st_autorefresh(interval, debounce=False, key="clock")
    else:
        st.empty()  # what follows stays where it is, and keeps what the viewer did to it
    reads: list[Read] = []
    try:
        client()
        begin(file.stem)
        with collected() as reads:
            _run(file, reads)
        end()
        status(reads, paused=interval is None)
    except LookbackError as error:
        mistake(error)


def _run(file: Path, reads: list[Read]) -> None:
    try:
        page = {"__name__": "__page__", "__file__": str(file)}
        exec(code_of(file), page)  # noqa: S102 - a page is a file of the app
    except PageStopped:
        pass
    except NothingYet:
        empty_state(reads[-1])
    except ConnectionFailed:
        pass  # the line above the page says so
    except LookbackError as error:
        mistake(error)
    except Exception as error:
        _authors_mistake(file, error)


def _authors_mistake(file: Path, error: Exception) -> None:
    """Name the page's own mistake and its line; the traceback goes to the log."""
    logging.getLogger("lookback").error("The page %s failed", file.name, exc_info=error)
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)
    ]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    where = file.name + (f", line {line}" if line else "")
    st.error(
        f"This page has a mistake ({plain(where)}): {type(error).__name__}: {plain(str(error))}",
        icon=":material/code_off:",
    )


def starts_over(drawn_for: str | None) -> bool:
    """Whether this viewer's session is at its end, since it began with other rights than these. Nothing is
    left in it then; the browser is to begin a new one, with nothing in its memory and its address."""
    if st.session_state.get("_drawn_for") not in (None, drawn_for):
        leave(None)
        withdraw()
        st.session_state.clear()
        st.session_state["_over"] = not is_leaving()
    st.session_state["_drawn_for"] = drawn_for
    return bool(st.session_state.get("_over"))


def draw_app() -> None:
    """The menu, and the page that was chosen."""
    pages = find_pages(draw_page)
    if not pages:
        st.error(
            "Your role has no pages here."
            if viewer()
            else f"There are no pages in {plain(str(FOLDER))}. Drop a file there.",
        )
        draw_viewer()
        return
    chosen = st.navigation(pages)
    with st.sidebar:
        refresh = st.segmented_control(
            "Refresh",
            list(INTERVALS),
            default="1 s",
            required=True,
            key="refresh",
            bind="query-params",
            help="How often this page asks for what is new. Paused: it stays as it is.",
        )
        draw_viewer()
    st.title(plain(chosen.title))
    chosen.run()
    tab(lambda: st.rerun("body"))
    if INTERVALS[refresh or "1 s"] is None and rights():
        look_again(rights())


st.set_page_config(page_title="Lookback", page_icon=(STATIC / "icon.svg").read_text(), layout="wide")
st.html(STATIC / "frame.css")
if st.context.is_embedded:
    st.html(STATIC / "framed.css")
st.logo((STATIC / "logo.svg").read_text(), icon_image=(STATIC / "icon.svg").read_text(), size="large")
wait_for_provider()
if starts_over(rights()):
    draw_reload()
elif rights() is None:
    draw_entrance()
else:
    try:
        draw_app()
    except NotSignedIn:
        st.rerun()  # since a moment ago
