"""The frame around every page: menu, refresh clock, state of the data; the one place errors are drawn.

This is the script that Streamlit runs for each viewer. The page itself is one fragment, so a refresh
reruns the page's body and the line above it, and neither the menu nor this frame.
"""

from pathlib import Path

import streamlit as st
from streamlit_autorefresh import st_autorefresh

from components import calls  # noqa: F401 - changes what pages call
from components.choices.address import begin, end
from components.data.bucket import Bucket
from components.data.connection import client
from components.data.live import NothingYet, Read, View, collected
from components.data.states import empty_state, mistake
from components.inside.events import keep_reads, what_happened
from components.mistakes import note
from components.nats.history import leave
from components.pages import FOLDER, code_of, find_pages, page_files
from components.reload import is_old, refresh_code
from components.status import draw_anew, status
from components.tables.download import withdraw
from components.web.sign_in import (
    draw_entrance,
    draw_reload,
    draw_viewer,
    is_leaving,
    look_again,
    rights,
    viewer,
    wait_for_provider,
)
from components.web.streamlit_internals import StopException
from components.web.tab import hidden, tab
from components.words import plain
from nats_client import LookbackError
from nats_client.errors import ColumnError, ConnectionFailed, NotSignedIn

INTERVALS = {"0.5 s": 500, "1 s": 1000, "2 s": 2000, "5 s": 5000, "15 s": 15000, "Paused": None}
"""What a viewer may choose, in milliseconds."""

WANTING = (LookupError, ValueError, TypeError, ArithmeticError)
"""What a page's code may raise for want of rows: in its place stands what says that there are none."""

STATIC = Path(__file__).parent.parent / "static"


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
        status(reads, interval / 1000 if interval else None)
        keep_reads(reads)
    except LookbackError as error:
        mistake(error)


def _run(file: Path, reads: list[Read]) -> None:
    try:
        page = {"__name__": "__page__", "__file__": str(file)}
        exec(code_of(file), page)  # noqa: S102 - a page is a file of the app
    except StopException:
        pass  # where the session itself is to end, Streamlit says so again at the next element
    except NothingYet as nothing:
        empty_state(nothing.read)
    except ConnectionFailed:
        pass  # the line above the page says so
    except LookbackError as error:
        if isinstance(error, ColumnError) and _empty(reads):
            note(file, error)  # for the log: the column may come with the first message
        else:
            mistake(error)
    except Exception as error:
        if is_old():
            st.rerun()  # the error may be of a class that this frame does not know
        empty = _empty(reads)
        _authors_mistake(file, error, shown=not (empty and isinstance(error, WANTING)))
    for read in reads:
        waiting = read.waiting if isinstance(read, Bucket) else not len(read)
        if waiting and not read.told:
            empty_state(read)


def _empty(reads: list[Read]) -> list[View]:
    return [read for read in reads if isinstance(read, View) and not len(read)]


def _authors_mistake(file: Path, error: Exception, *, shown: bool) -> None:
    """Name the page and a reference; what the error says is for the log, since it may hold a secret."""
    reference = note(file, error)
    if shown:
        st.error(
            f"This page has a mistake ({plain(file.name)}). Whoever looks after it finds it in the app's log "
            f"as {reference}.",
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
            bind="query-params",  # choices/address.py would make each of these a step of the Back button
            help="How often this page asks for what is new. Paused: it stays as it is.",
        )
        what_happened()
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
