"""Keeps what a viewer's page has read from the server, so that a rerun of the page does not read it again."""

from collections.abc import Callable, Hashable
from typing import TypeVar
from weakref import ref

import streamlit as st

from nats_client import Client

T = TypeVar("T")


def kept(name: str, nats: Client, key: Hashable, make: Callable[[], T]) -> T:
    """The kept result of `make` for this `name`, if it belongs to the same client and key; otherwise a new
    result. One result is kept for each name."""
    state = f"_kept_{name}"
    known = st.session_state.get(state)
    if known is None or known[0]() is not nats or known[1] != key:
        known = st.session_state[state] = ref(nats), key, make()
    found: T = known[2]
    return found


def forget(name: str) -> None:
    """Drop the result that is kept for this name."""
    st.session_state.pop(f"_kept_{name}", None)
