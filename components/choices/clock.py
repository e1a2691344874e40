"""The clock above every page: when the page looks, for all that it reads.

Live, the page looks from now back; how far, its own code says, unless the viewer chose a length. The clock is
the viewer's, for all pages, and in the URL: `?last=PT1H`.
"""

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from nats_client import Duration, LookbackError, format_duration, iso_duration, parse_duration

from .address import keep_lasting

LENGTHS = {
    "Last 5 minutes": "PT5M",
    "Last 15 minutes": "PT15M",
    "Last hour": "PT1H",
    "Last 6 hours": "PT6H",
    "Last 24 hours": "PT24H",
}
"""The lengths that are offered."""
OWN = "As far as the page says"
"""The choice of no length."""
LAST = "last"
"""The parameter with the length, ISO 8601."""
_CLOCK, _WRONG, _LENGTH = "_clock", "_clock_wrong", "_clock_length"


@dataclass(frozen=True)
class Clock:
    """When a page looks."""

    length: pd.Timedelta | None = None
    """How far back; None if each read of the page says it."""

    def reach(self, own: Duration) -> pd.Timedelta:
        """How far back a read reaches whose own look-back is `own`. Raises DurationError."""
        length = parse_duration(own)
        return length if self.length is None or isinstance(own, Fixed) else self.length

    @property
    def words(self) -> str:
        """When it is, as a viewer reads it: "Live, last 15 minutes"."""
        return "Live" if self.length is None else f"Live, {_in_words(self.length).lower()}"


LIVE = Clock()


class Fixed(str):
    """A look-back that a read needs as it is, such as two periods to compare them, whatever length the clock
    has."""

    __slots__ = ()


def clock() -> Clock:
    """The clock of this viewer."""
    found: Clock = st.session_state.get(_CLOCK, LIVE)
    return found


def choose_clock() -> str:
    """Let the viewer choose when all pages look. Returns a sentence if the URL, or what the viewer wrote,
    cannot be read: pages then look as far as they say themselves; otherwise an empty text."""
    now = clock() if _CLOCK in st.session_state else _from_address()
    keep_lasting(LAST, None if now.length is None else iso_duration(now.length))
    wrong: str = st.session_state.get(_WRONG, "")
    if st.context.is_embedded:
        return wrong
    with st.popover(now.words, icon=":material/schedule:", key="page-clock"):
        shown = OWN if now.length is None else _in_words(now.length)
        offered = [OWN, *LENGTHS]
        if shown not in offered:
            offered.append(shown)
        if st.session_state.get(_LENGTH) != shown:
            st.session_state[_LENGTH] = shown
        st.selectbox(
            "Look back",
            offered,
            key=_LENGTH,
            accept_new_options=True,
            on_change=_choose_length,
            help="Or type another length, for example 90 minutes, 2d or PT45M.",
        )
    return wrong


def _from_address() -> Clock:
    found = LIVE
    if last := st.query_params.get(LAST):
        found = Clock(_length(last))
    st.session_state[_CLOCK] = found
    return found


def _choose_length() -> None:
    chosen = st.session_state.get(_LENGTH) or OWN
    if chosen == OWN:
        length = None
        st.session_state.pop(_WRONG, None)
    else:
        length = _length(LENGTHS.get(chosen, chosen))
    st.session_state[_CLOCK] = Clock(length)


def _length(text: str) -> pd.Timedelta | None:
    """The length that a viewer wrote; None, with a sentence for the page, if it is none."""
    st.session_state.pop(_WRONG, None)
    try:
        return parse_duration(text.strip().lower().removeprefix("last ") if text[:1] != "P" else text)
    except LookbackError as error:
        st.session_state[_WRONG] = f"{error} The page looks as far back as it says itself."
        return None


def _in_words(length: pd.Timedelta) -> str:
    """ "Last 90 minutes", as it is offered, or else with its units."""
    for words, text in LENGTHS.items():
        if parse_duration(text) == length:
            return words
    return f"Last {format_duration(length)}"
