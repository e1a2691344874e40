"""What a viewer has chosen, kept in the page's address, so that a link opens the same view.

With Streamlit's own `bind="query-params"` the browser writes a choice into its address at once, and the
server sends its whole copy of the address when a box appears: of a choice made while such a copy is under
way the address never hears. So here one side writes. A refresh knows by its request what the address was;
where that is not what is chosen it sends what is, and so does the next one until the browser has it. The
browser keeps each address that it is sent for its Back button. How often a page refreshes is no such step, is
chosen outside of the page, and outlives it: that choice alone is bound.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import streamlit as st

from ..web.streamlit_internals import has_gone_back

UNDER_WAY = 1.0  # seconds that what a browser has sent before it hears of a change may take
_STATE = "_address"


@dataclass
class _Address:
    """What the address of a page is to hold."""

    page: str
    kept: dict[str, str | None] = field(default_factory=dict)
    """By parameter; None where it is to be left out."""
    heard: bool = True
    """Whether the browser is known to have it: what it has after that is the viewer's doing."""
    left: dict[str, object] = field(default_factory=dict)
    """By parameter what the viewer has just gone back from: a tick under way may bring it once more."""
    left_at: float = 0.0


def _address() -> _Address:
    address: _Address = st.session_state.setdefault(_STATE, _Address(""))
    return address


def begin(page: str) -> None:
    """Before `page` is drawn: forget the choices of another page, and those for which the viewer went back or
    forward to an address that says something else."""
    address = _address()
    if address.page != page:
        _forget(address.kept)
        st.session_state[_STATE] = _Address(page)
        return
    differing = _differing(address)
    # Streamlit's own word is lost where a tick of the clock overtakes it.
    if differing and (address.heard or has_gone_back()):
        address.left = {name: st.session_state.get(name) for name in differing}
        address.left_at = time.monotonic()
    elif time.monotonic() - address.left_at > UNDER_WAY:
        address.left.clear()
    _forget(name for name, value in address.left.items() if st.session_state.get(name) == value)
    address.heard = not differing


def asked(name: str, default: str) -> str:
    """The choice that the session's state has under the key `name`, or else the one that the address has."""
    return str(st.session_state.get(name) or st.query_params.get(name) or default)


def keep(name: str, value: str | None) -> None:
    """Have the address hold `value` for `name`, or with None nothing. The choice is in the session's state
    under that key; where it is not, it is to be taken from the address."""
    _address().kept[name] = value


def end() -> None:
    """After the page has been drawn: send what the address does not hold yet."""
    address = _address()
    differing = _differing(address)
    address.heard &= not differing
    added = {name: value for name, value in differing.items() if value is not None}
    for name in differing.keys() - added.keys():
        del st.query_params[name]
    if added:
        st.query_params.update(added)


def _differing(address: _Address) -> dict[str, str | None]:
    return {name: value for name, value in address.kept.items() if st.query_params.get(name) != value}


def _forget(names: Iterable[str]) -> None:
    for name in names:
        st.session_state.pop(name, None)
