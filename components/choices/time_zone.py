"""The time zone of all pages: the browser's, or a zone that the viewer chooses, kept in the URL as
`?tz=Europe/Berlin`."""

from functools import lru_cache
from zoneinfo import available_timezones

import pandas as pd
import streamlit as st

from ..words import CHOSEN_ZONE, chosen_zone, cut, own_zone
from .address import keep_lasting

TZ = "tz"
"""The URL parameter."""
OFFERED = (
    "UTC",
    "America/Los_Angeles",
    "America/New_York",
    "America/Sao_Paulo",
    "Europe/London",
    "Europe/Berlin",
    "Asia/Kolkata",
    "Asia/Shanghai",
    "Asia/Tokyo",
    "Australia/Sydney",
)
"""The zones that are offered; any other can be typed."""
_CHOICE, _READ, _WRONG = "_zone_choice", "_zone_read", "_zone_wrong"
_LONGEST_SHOWN = 40


def begin_zone() -> str:
    """Take the zone from the URL in the first run, and keep the viewer's zone in the URL. Returns a sentence
    if the URL or the viewer named an unknown zone; otherwise an empty text. The zone then stays as it was."""
    if _READ not in st.session_state:
        st.session_state[_READ] = True
        if asked := st.query_params.get(TZ):
            _set(asked)
    keep_lasting(TZ, chosen_zone())
    wrong: str = st.session_state.get(_WRONG, "")
    return wrong


def zone_label(at: pd.Timestamp | None) -> str:
    """The zone of the times on the page. If the viewer chose one, its name; otherwise the offset of the
    browser's zone from UTC at the time `at`, or now if that is None: "UTC", "UTC+5:30"."""
    if chosen := chosen_zone():
        return chosen
    return offset_text((at or pd.Timestamp.now("UTC")).tz_convert(own_zone()))


def offset_text(time: pd.Timestamp) -> str:
    """The offset from UTC of a time with a zone: "UTC", "UTC+5:30"."""
    offset = time.strftime("%z")
    sign, hours, minutes = offset[0], int(offset[1:3]), offset[3:5]
    if hours == int(minutes) == 0:
        return "UTC"
    return f"UTC{sign}{hours}" + (f":{minutes}" if minutes != "00" else "")


def choose_zone() -> None:
    """Let the viewer choose the zone."""
    own, now = _own(), chosen_zone()
    shown = own if now is None else now
    offered = [own, *OFFERED]
    if shown not in offered:
        offered.append(shown)
    if st.session_state.get(_CHOICE) != shown:
        st.session_state[_CHOICE] = shown
    st.selectbox(
        "Time zone",
        offered,
        key=_CHOICE,
        accept_new_options=True,
        on_change=_choose,
        help="Of all times on all pages. Type any name, such as Africa/Nairobi.",
    )


def _own() -> str:
    return f"{own_zone()} (this browser)"


def _choose() -> None:
    chosen = str(st.session_state.get(_CHOICE) or "")
    if chosen == _own():
        st.session_state.pop(CHOSEN_ZONE, None)
        st.session_state.pop(_WRONG, None)
    elif chosen:  # a browser that opens another page may report that nothing is chosen
        _set(chosen)


def _set(asked: str) -> None:
    """Set the zone with this name, ignoring case. If there is none, keep a sentence that says so."""
    st.session_state.pop(_WRONG, None)
    found = _names().get(asked.strip().lower())
    if found is not None:
        st.session_state[CHOSEN_ZONE] = found
        return
    st.session_state[_WRONG] = (
        f"{cut(asked, _LONGEST_SHOWN)!r} is not a time zone. Write a name such as Europe/Berlin, or UTC. "
        f"Times are in {chosen_zone() or own_zone()}."
    )


@lru_cache(1)
def _names() -> dict[str, str]:
    return {name.lower(): name for name in available_timezones()}
