"""The tab Messages of the Explore page: the newest messages live, or a page of older messages of the stream;
and one message in full. The list has only messages that match the subjects and the filter of rows.

The place is in the URL: `seq` is the sequence of the open message. `upto` is the last sequence of the page
that is shown, or `after` its first. Without either, it is the page around `seq`; without `seq` as well, the
newest messages, live. With a filter of rows, the page around `seq` ends with it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from nats_client import Client, LookbackError
from nats_client.errors import MessageNotFound
from nats_client.messages.frame import messages_frame
from nats_client.messages.stored import Held, StoredMessage, StoredPage

from ..choices.address import asked, keep
from ..data.connection import client
from ..tables.download import downloads
from ..tables.messages import COLUMNS, cells_of, draw_messages, sequence_of
from ..web.assets import STUB
from ..words import count_text, cut, plain, zone
from .filtered_page import draw_filtered_page
from .kept import forget, kept
from .message import message_in_full
from .message_search import choose_search, draw_search, end_search
from .rows import Rows
from .sample import sample_of

ON_PAGE = 50
"""Messages of a page."""
NEWER = 15
"""Messages of a page that are newer than the message that a link opens."""
SEQ, UPTO, AFTER = "seq", "upto", "after"
"""The parameters of the URL, and the keys of the session state."""
_OF, _WRONG, _BOX = "_messages_of", "_messages_wrong", "_messages_go_to"
_CREATED = "_messages_created"
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)?[T ]?(\d\d?:\d\d(:\d\d(\.\d{1,9})?)?)?(Z|[+-]\d\d:?\d\d)?")

_page = st.components.v2.component("message_page", js=STUB.format("message_page"), isolate_styles=False)


@dataclass(frozen=True)
class _Place:
    """The viewer's place in the stream."""

    seq: int | None
    upto: int | None
    after: int | None

    @property
    def live(self) -> bool:
        """True if the newest messages are shown as they arrive."""
        return self == _Place(None, None, None)


@dataclass(frozen=True)
class _Shown:
    """A page of messages, as the rows of a table."""

    rows: list[list[str]]
    low: int
    high: int
    held: Held
    older: bool
    newer: bool


def message_explorer(rows: Rows) -> None:
    """Draw the newest messages of `rows`, live, or the page of the stream that the viewer has gone to, and
    the message that is open."""
    place = _place(rows)
    moves = st.container(horizontal=True, vertical_alignment="bottom", key="messages-moves")
    wrong = st.session_state.pop(_WRONG, "")
    if wrong:
        st.warning(plain(wrong), icon=":material/search_off:")
    with moves:
        text, whole = choose_search()
    shown: _Shown | None = None
    if text:
        draw_search(rows, text, whole, _open_alone)
    else:
        is_filtered = rows.view.feed.key.where is not None and not place.live
        if not is_filtered:
            end_search()
        if place.live:
            draw_messages(rows.view, _open_alone)
        else:
            shown = _draw_filtered(rows, place) if is_filtered else _draw_page(rows, place)
        with moves:
            _draw_moves(rows, place, shown)
    if place.seq is not None:
        message_in_full(rows, place.seq, lambda seq: _open(seq, place, shown), lambda: _close(place, shown))


def _place(rows: Rows) -> _Place:
    """The place in the URL. It belongs to one stream and subject filter, and is dropped when these change."""
    of = rows.stream, rows.subject
    if st.session_state.setdefault(_OF, of) != of:
        st.session_state[_OF] = of
        st.session_state.pop(_CREATED, None)
        for name in (SEQ, UPTO, AFTER):
            if name in st.session_state:  # otherwise the viewer has gone back, and the URL has the place
                st.session_state[name] = ""
    found = {}
    for name in (SEQ, UPTO, AFTER):
        if name not in st.session_state:
            st.session_state[name] = asked(name, "")
        found[name] = sequence_of(st.session_state[name])
        keep(name, None if found[name] is None else str(found[name]))
    return _Place(found[SEQ], found[UPTO], found[AFTER])


def _go(*, seq: int | None = None, upto: int | None = None, after: int | None = None) -> None:
    for name, value in ((SEQ, seq), (UPTO, upto), (AFTER, after)):
        st.session_state[name] = "" if value is None else str(value)


def _open_alone(seq: int) -> None:
    _go(seq=seq)


def _open(seq: int, place: _Place, shown: _Shown | None) -> None:
    """Open a message. If it is on the page that is shown, the page stays."""
    if shown is None or not shown.low <= seq <= shown.high:
        _go(seq=seq)
    elif _is_around(place):
        _go(seq=seq, upto=shown.high)
    else:
        _go(seq=seq, upto=place.upto, after=place.after)


def _close(place: _Place, shown: _Shown | None) -> None:
    """Close the open message; the page stays."""
    if _is_around(place) and shown is not None:
        _go(upto=shown.high)
    else:
        _go(upto=place.upto, after=place.after)


def _draw_moves(rows: Rows, place: _Place, shown: _Shown | None) -> None:
    times = st.session_state.get(_BOX, 0)
    st.text_input(
        "Go to",
        # A new box after each use: the next requests may still carry the text, which would move the viewer
        # there once more.
        key=f"{_BOX}_{times}",
        placeholder="sequence or time",
        help="A sequence, or a time in your zone: 1204, 14:02, 14:02:30.5, 2026-11-29 14:02",
        on_change=_go_to,
        args=(rows, times),
        width=220,
    )
    low = high = 0
    if shown is not None:
        low, high = shown.low, shown.high
    elif messages := rows.view.feed.newest() if place.live else []:
        low = min(message.seq for message in messages)
    older = place.live or (shown is not None and shown.older)
    newer = shown is not None and shown.newer
    seq = place.seq  # the open message stays open
    moves: list[tuple[str, str, bool, Callable[[], None]]] = [
        ("Oldest", "first_page", older, lambda: _go(seq=seq, after=1)),
        (
            "Older",
            "chevron_left",
            older,
            lambda: _go(seq=seq, upto=low - 1) if low else _go_to_newest(rows.stream),
        ),
        ("Newer", "chevron_right", newer, lambda: _go(seq=seq, after=high + 1)),
        ("Live", "last_page", not place.live, _go),
    ]
    for label, icon, on, go in moves:
        key = f"_messages_{label.lower()}"
        st.button(label, key=key, icon=f":material/{icon}:", disabled=not on, on_click=go)


def _go_to_newest(stream: str) -> None:
    """Go to the newest page of the stream. Used when the look-back has no messages."""
    try:
        _go(upto=client(by_code=False).stored_page(stream, most=1).held.last)
    except LookbackError as error:
        st.session_state[_WRONG] = str(error)


def _go_to(rows: Rows, times: int) -> None:
    """Go to the sequence or the time that the viewer wrote."""
    written = str(st.session_state.get(f"{_BOX}_{times}") or "").strip()
    if not written or times != st.session_state.get(_BOX, 0):
        return
    try:
        seq = sequence_of(written.replace(",", ""))
        if seq is None:
            nats = client(by_code=False)
            start = nats.sequence_at(rows.stream, _time(written).to_pydatetime(warn=False))
            if rows.view.feed.key.where is not None:  # the first match can only be found by reading
                _go(after=start)
                st.session_state[_BOX] = times + 1
                return
            found = nats.stored_page(rows.stream, rows.subject, start=start, most=1).messages
            if not found:
                raise MessageNotFound(f"No message that matches was stored at {written!r} or later.")
            seq = found[0].seq
        _go(seq=seq)
        st.session_state[_BOX] = times + 1
    except LookbackError as error:
        st.session_state[_WRONG] = str(error)


def _time(written: str) -> pd.Timestamp:
    """A time that a viewer typed, in UTC. Without a zone it is in the viewer's; without a date it is today.
    Raises LookbackError."""
    found = _TIME.fullmatch(written)
    try:
        if found is None or not (found[1] or found[2]):
            raise ValueError
        day = found[1] or pd.Timestamp.now(zone()).date().isoformat()
        time = pd.Timestamp(f"{day}T{found[2] or '00:00'}{found[5] or ''}")
        if time.tz is None:
            time = time.tz_localize(zone(), ambiguous=True, nonexistent=pd.Timedelta(hours=1))
        return time.tz_convert("UTC")
    except (ValueError, OverflowError):
        raise LookbackError(
            f"{cut(written, 40)!r} is neither a sequence nor a time. Write for example 1204, 14:02 or "
            "2026-11-29 14:02:30."
        ) from None


def _draw_page(rows: Rows, place: _Place) -> _Shown | None:
    nats = client(by_code=False)
    key = (rows.stream, rows.subject, zone(), place.upto, place.after, place.seq if _is_around(place) else 0)
    try:
        shown: _Shown = kept("page", nats, key, lambda: _read(nats, rows, place))
    except LookbackError as error:
        st.warning(plain(str(error)), icon=":material/lock:")
        return None

    if st.session_state.get(_CREATED, shown.held.created) != shown.held.created:
        forget("message")
        st.info("The stream was recreated: its sequences have other messages now.", icon=":material/sync:")
    st.session_state[_CREATED] = shown.held.created

    def opened() -> None:
        seq = sequence_of(st.session_state["_message_page"].get("clicked"))
        if seq is not None:
            _open(seq, place, shown)

    _page(
        key="_message_page",
        data={"columns": COLUMNS, "rows": shown.rows, "open": str(place.seq or ""), "note": _note(shown)},
        on_clicked_change=opened,
    )
    if shown.rows:
        on_page = _OnPage(nats, rows.stream, rows.subject, shown.low, shown.high)
        downloads(on_page, f"{rows.stream}-messages", label="Download these messages")
    return shown


def _draw_filtered(rows: Rows, place: _Place) -> _Shown | None:
    """Draw the page of the messages that match the filter of rows."""
    shown: list[_Shown] = []

    def opened(seq: int) -> None:
        _open(seq, place, shown[0])

    try:
        page = draw_filtered_page(
            client(by_code=False),
            rows,
            opened,
            start=place.after,
            upto=place.seq if _is_around(place) else place.upto,
            seq=place.seq,
            most=ON_PAGE,
        )
    except LookbackError as error:
        st.warning(plain(str(error)), icon=":material/lock:")
        return None
    if (held := page.held) is None:
        return None
    # While the page is being read, one of its ends is unknown.
    older = page.older and (page.is_over or place.after is not None)
    newer = page.newer and (page.is_over or place.after is None)
    shown.append(_Shown([], page.low, page.high, held, older, newer))
    return shown[0]


@dataclass(frozen=True)
class _OnPage:
    """The messages of a page, for downloads: they are read when the viewer clicks a link."""

    nats: Client
    stream: str
    subject: str | tuple[str, ...]
    low: int
    high: int

    def frame(self) -> pd.DataFrame:
        """The complete messages, as far as the stream still has them. Raises LookbackError."""
        found: list[StoredMessage] = []
        at = self.low
        while at <= self.high:
            page = self.nats.stored_page(self.stream, self.subject, start=at, most=ON_PAGE)
            found += [message for message in page.messages if message.seq <= self.high]
            at = max(at, page.high) + 1
        return messages_frame(found)


def _is_around(place: _Place) -> bool:
    return place.upto is None and place.after is None


def _read(nats: Client, rows: Rows, place: _Place) -> _Shown:
    of = rows.stream, rows.subject
    if place.after is not None:
        page = nats.stored_page(*of, start=place.after, most=ON_PAGE)
    elif place.upto is not None:
        page = nats.stored_page(*of, upto=place.upto, most=ON_PAGE)
    else:
        assert place.seq is not None
        newer = nats.stored_page(*of, start=place.seq + 1, most=NEWER)
        page = nats.stored_page(*of, upto=max(place.seq, newer.high), most=ON_PAGE)
    return _shown(page)


def _shown(page: StoredPage) -> _Shown:
    rows = [cells_of(sample_of(message)) for message in reversed(page.messages)]
    return _Shown(rows, page.low, page.high, page.held, page.older, page.newer)


def _note(shown: _Shown) -> str:
    held = shown.held
    if not held.messages:
        return "The stream is empty."
    of = f"The stream holds {count_text(held.messages, 'message')}, {held.first:,} to {held.last:,}."
    if not shown.rows:
        between = f" from {shown.low:,} to {shown.high:,}" if shown.low <= shown.high else " here"
        return f"No message that matches{between}. {of}"
    return f"{count_text(len(shown.rows), 'message')} from {shown.low:,} to {shown.high:,}. {of}"
