"""Keeps a viewer's choices in the page's URL, so that a link opens the same view.

With Streamlit's own `bind="query-params"` both sides write: the browser puts a choice into its URL at once,
and the server sends its copy of all parameters when a widget appears. A choice made while such a copy is
under way never reaches the URL. So only the server writes, and only here. Each rerun carries the browser's
URL. If it differs from the viewer's choices, the server sends the right parameters on every rerun until they
match.

Each URL that the browser receives becomes an entry of its history, for the Back button. A choice for all
pages, such as the refresh interval, must not become an entry: viewers do not press Back to change an
interval, and on each new page Back would first stop at that second entry. So static/tab.js carries such a
choice to the next page, and replaces the entry if nothing else differs. It also replaces the entry if the
viewer did nothing, as when the server completes the URL of a new page. Back does not change a choice for all
pages; the URL that Back leads to is corrected.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import streamlit as st

from nats_client import LookbackError

from ..web.streamlit_internals import has_gone_back

UNDER_WAY = 1.0  # seconds that a rerun request sent before a change may still be under way
_STATE = "_address"


@dataclass
class _Address:
    """The parameters that a page's URL should have."""

    page: str
    kept: dict[str, str | None] = field(default_factory=dict)
    """By parameter; None removes it."""
    received: bool = True
    """True if the browser is known to have these parameters. A difference after that is the viewer's action.
    False from the moment that a parameter changes, since a run may be interrupted before it sends it."""
    left: dict[str, object] = field(default_factory=dict)
    """By parameter, the value that the viewer just navigated back from. A tick sent before that may carry it
    once more."""
    left_at: float = 0.0
    replaced: dict[str, tuple[object, str, float]] = field(default_factory=dict)
    """By parameter, the value that replace() removed, the new value, and the time of the change."""
    lasting: dict[str, str | None] = field(default_factory=dict)
    """Like `kept`, for choices that outlive the page."""
    switched: bool = False
    """True in the first run of a page that the viewer has switched to."""


def _address() -> _Address:
    address: _Address = st.session_state.setdefault(_STATE, _Address(""))
    return address


def begin(page: str) -> None:
    """Call before `page` is drawn. Drops the choices of another page, and those the viewer undid by going
    back or forward in the browser."""
    address = _address()
    if address.page != page:
        _forget(address.kept)
        switched = bool(address.page) and not has_gone_back()
        st.session_state[_STATE] = _Address(page, lasting=address.lasting, switched=switched)
        return
    address.switched = False
    differing = _differing(address.kept)
    # Not only has_gone_back(): a tick of the refresh clock may overtake that rerun.
    if differing and (address.received or has_gone_back()):
        address.left = {name: st.session_state.get(name) for name in differing}
        address.left_at = time.monotonic()
    elif time.monotonic() - address.left_at > UNDER_WAY:
        address.left.clear()
    _forget(name for name, value in address.left.items() if st.session_state.get(name) == value)
    for name, (old, new, at) in list(address.replaced.items()):
        if time.monotonic() - at > UNDER_WAY:
            del address.replaced[name]
        elif st.session_state.get(name) == old:
            st.session_state[name] = new
    address.received = not differing


def asked(name: str, default: str) -> str:
    """The choice in the session state under the key `name`, or else the one in the URL."""
    return str(st.session_state.get(name) or st.query_params.get(name) or default)


def replace(name: str, value: str) -> None:
    """Make `value` the choice in the session state under the key `name`, after a click of the viewer. A rerun
    request under way that still carries the earlier choice does not restore it."""
    _address().replaced[name] = st.session_state.get(name), value, time.monotonic()
    st.session_state[name] = value


def keep(name: str, value: str | None) -> None:
    """Make the URL have `value` for `name`; None removes the parameter. The session state holds the choice
    under the same key; if it does not, the choice is read from the URL. Raises LookbackError if a choice for
    all pages has that name."""
    address = _address()
    if name in address.lasting:
        raise LookbackError(
            f"The address has {name!r} for all pages, so a choice of one page needs another label or name."
        )
    address.received &= address.kept.get(name) == value
    address.kept[name] = value


def keep_lasting(name: str, value: str | None) -> None:
    """Like keep(), for a choice for all pages. It may be called before begin()."""
    _address().lasting[name] = value


def end(*, again: bool) -> bool:
    """Call after the page is drawn. Sends the parameters that the browser's URL does not have yet. again: the
    page can be drawn again. Returns True if it must be drawn again, so that the URL becomes right."""
    address = _address()
    differing = _differing(address.kept)
    address.received &= not differing
    # While the viewer switches pages, the browser would put these parameters into the URL of the page before,
    # so they wait for the next run. The browser itself carries choices for all pages along.
    if address.switched and (again or not differing):
        return bool(differing)
    differing |= _differing(address.lasting)
    if differing:
        # One message, because each message becomes an entry of the browser's history.
        others = {name: st.query_params.get_all(name) for name in st.query_params if name not in differing}
        added = {name: value for name, value in differing.items() if value is not None}
        st.query_params.from_dict({**others, **added})
    return bool(differing)


def _differing(kept: dict[str, str | None]) -> dict[str, str | None]:
    return {name: value for name, value in kept.items() if st.query_params.get(name) != value}


def _forget(names: Iterable[str]) -> None:
    for name in names:
        st.session_state.pop(name, None)
