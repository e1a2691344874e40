"""The frame around every page: menu, refresh clock, status line. The only place that draws errors.

Streamlit runs this script for each viewer. The page is one fragment: a refresh reruns the page's body and the
status line above it, but not the menu or the rest of this script.
"""

from pathlib import Path

import streamlit as st
from streamlit_autorefresh import st_autorefresh

import components
from components import calls  # noqa: F401 - imported for its side effect: it replaces st.stop
from components.choices.address import begin, end
from components.choices.choose import choose_for_all_pages
from components.choices.clock import choose_clock, clock
from components.data.bucket import Bucket
from components.data.connection import client
from components.data.live import View
from components.data.loading import loading
from components.data.reads import NothingYet, Reads, collected, rerun_on, say
from components.data.states import empty_state, mistake
from components.inside.events import is_list_open, keep_reads, what_happened
from components.inside.page_runs import page_run
from components.mistakes import note, wrong_call
from components.nats.history import leave
from components.pages import FOLDER, code_of, find_pages, page_files, pages_version
from components.play.bar import play_bar
from components.push.tabs import own_tab
from components.reload import code_version, is_old, refresh_code
from components.status import status
from components.tables.download import withdraw
from components.web.sign_in import (
    draw_reload,
    draw_sign_in_page,
    draw_viewer,
    is_leaving,
    rerun_on_change,
    rights,
    viewer,
    wait_for_provider,
)
from components.web.streamlit_internals import StopException
from components.web.tab import blocked, ends, hidden, tab
from components.words import chosen_zone, plain
from nats_client import LookbackError
from nats_client.decoding.schema_files import folder_version
from nats_client.errors import ColumnError, ConnectionFailed, NotSignedIn

PACES = {"Live": 0.0, "1 s": 1.0, "2 s": 2.0, "5 s": 5.0, "15 s": 15.0, "Paused": None}
"""The paces that a viewer may choose, in seconds between two updates of live elements, and between two runs
of a page whose code takes rows. With Live, elements update at once and such a page runs each second."""
LIVE = "Live"

WANTING = (LookupError, ValueError, TypeError, ArithmeticError)
"""Exceptions that a page's code may raise because there are no rows yet. The page then shows the empty state
instead of an error."""

_REFRESH = "refresh"
_RERUNS = "_reruns"
"""The page drawn last, and whether it must run again to show new data."""

STATIC = Path(__file__).parent.parent / "static"


def draw_page(file: Path) -> None:
    """Draw the page in `file`, and redraw it at each tick of the viewer's refresh clock."""
    leave(file.stem)
    body(file, _frame())


def _frame() -> tuple[object, ...]:
    """The values that the frame is drawn for: the viewer's rights, the pages, and the choices for all
    pages."""
    choices = (st.session_state.get(_REFRESH), clock(), chosen_zone(), is_list_open(), ends())
    return rights(), page_files(), *choices


@st.fragment(key="body")
def body(file: Path, drawn_for: tuple[object, ...]) -> None:
    """The status line and the page below it. Reruns the whole script if the frame is out of date.

    That happens when the viewer signed out or changed role, and when a page was added or removed. It also
    happens when the viewer chose something in the frame at the same moment as something changed in the page:
    Streamlit's front end combines changes within one task into one request, which reruns the fragment only.
    """
    refresh_code()
    try:
        out_of_date = _frame() != drawn_for
    except NotSignedIn:
        out_of_date = True
    if out_of_date:
        st.rerun()
    tab = own_tab()
    tab.pace = pace = PACES[st.session_state.get(_REFRESH) or LIVE]
    tab.blocked = blocked()
    interval = pace if pace is None else pace or 1.0
    ticks = not hidden()
    # Whether this page's own code takes rows is known only after it has run, so assume the same as last time.
    reruns = st.session_state.get(_RERUNS, (file.stem, False)) == (file.stem, True) or tab.blocked
    ticker = None
    if reruns and ticks and interval is not None:
        _tick(interval)
    else:
        # The placeholder keeps the position of later elements, so that their state (zoom, input) survives.
        ticker = st.empty()
    reads = Reads()
    try:
        client(by_code=False)
        with page_run(file.stem):
            begin(file.stem)
            loading().begin()
            with tab.drawing():
                with collected() as reads:
                    rerun_on(pages_version)
                    rerun_on(folder_version)
                    rerun_on(code_version)
                    failed = _run(file, reads)
                    if clock().end_time is not None and not (reads or reads.then or failed):
                        say(_shows_now)
                moves = bool(reads) or reads.live
                needed = bool(reads.by_code or not moves or failed or tab.blocked)
                ticking = ticks and interval is not None
                play_bar(reads.marks)
                again = end(again=ticking)
                status(reads, interval, reruns=needed and ticking, again=again)
        keep_reads(file.stem, reads)
    except LookbackError as error:
        mistake(error)
        needed = True
    if needed and ticks and ticker is not None and interval is not None:
        with ticker:
            _tick(interval)
    st.session_state[_RERUNS] = file.stem, needed


def _tick(interval: float) -> None:
    """Make the page run again every `interval` seconds."""
    st_autorefresh(round(1000 * interval), debounce=False, key="clock")


def _run(file: Path, reads: Reads) -> bool:
    """Run the page. True if it failed."""
    failed = False
    try:
        page = {"__name__": "__page__", "__file__": str(file)}
        exec(code_of(file), page)  # noqa: S102 - a page is a file of the app
    except StopException:
        pass  # if the session itself is ending, Streamlit raises this again at the next element
    except NothingYet as nothing:
        empty_state(nothing.read)
    except ConnectionFailed:
        pass  # the status line shows it
    except LookbackError as error:
        if isinstance(error, ColumnError) and _empty(reads):
            note(file, error)  # log only: the column may appear with the first message
        else:
            mistake(error)
            failed = True
    except Exception as error:
        if is_old():
            st.rerun()  # the code was reloaded: the error's class may be unknown to this frame
        empty = _empty(reads)
        failed = True
        _authors_mistake(file, error, shown=not (empty and isinstance(error, WANTING)))
    for read in reads:
        waiting = read.waiting if isinstance(read, Bucket) else not read
        if waiting and not read.shown_empty:
            empty_state(read)
    return failed


def _shows_now() -> str:
    return "this page has no past: it shows what is there now"


def _empty(reads: Reads) -> list[View]:
    return [read for read in reads if isinstance(read, View) and not read]


def _authors_mistake(file: Path, error: Exception, *, shown: bool) -> None:
    """Show the page's name and a reference. The exception's text goes only to the log, because it may contain
    a secret. A wrong call of one of our functions is the exception: its text has no data, so it is shown."""
    reference = note(file, error)
    wrong = wrong_call(error, components)
    if shown or wrong:
        sentences = [
            f"This page failed: there is an error in {plain(file.name)}.",
            plain(wrong),
            f"Its author finds the traceback in the app's log as {reference}.",
        ]
        st.error(
            " ".join(filter(None, sentences)),
            icon=":material/code_off:",
        )


def starts_over(drawn_for: str | None) -> bool:
    """True if the viewer's rights changed since this session was first drawn. The session is then emptied,
    and the browser must load the page again, with nothing kept in memory or in the URL."""
    if st.session_state.get("_drawn_for") not in (None, drawn_for):
        leave(None)
        withdraw()
        st.session_state.clear()
        st.session_state["_over"] = not is_leaving()
    st.session_state["_drawn_for"] = drawn_for
    return bool(st.session_state.get("_over"))


def draw_app() -> None:
    """Draw the menu and the chosen page."""
    pages = find_pages(draw_page)
    if not pages:
        st.error(
            "Your role does not include any pages of this app. Ask its administrator."
            if viewer()
            else f"There are no pages in {plain(str(FOLDER))}. Add a Python file there.",
        )
        draw_viewer()
        return
    chosen = st.navigation(pages)
    with st.sidebar:
        refresh = choose_for_all_pages(
            "Refresh",
            list(PACES),
            LIVE,
            help="How often this page shows new data. Live: as it comes. Paused: it does not change.",
        )
        draw_viewer()
    with st.container(horizontal=True, vertical_alignment="center", key="heading"):
        st.title(plain(chosen.title), width="content")
        wrong = choose_clock()
        what_happened()
    if wrong:
        st.warning(plain(wrong), icon=":material/schedule:")
    chosen.run()
    tab(own_tab().ticket, lambda: st.rerun("body"), zone=chosen_zone() or "")
    if rights() and blocked() and PACES[refresh] is None:
        rerun_on_change(rights())  # otherwise the refresh clock or the end of the tab's websocket does


st.set_page_config(page_title="Lookback", page_icon=(STATIC / "icon.svg").read_text(), layout="wide")
st.html(STATIC / "frame.css")
if st.context.is_embedded:
    st.html(STATIC / "framed.css")
st.logo((STATIC / "logo.svg").read_text(), icon_image=(STATIC / "icon.svg").read_text(), size="large")
wait_for_provider()
if starts_over(rights()):
    draw_reload()
elif rights() is None:
    draw_sign_in_page()
else:
    try:
        draw_app()
    except NotSignedIn:
        st.rerun()  # the viewer signed out while this run was drawing
