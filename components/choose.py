"""Choices that live in the page's address, so that a link opens the same view."""

from collections.abc import Sequence

import streamlit as st

from .words import plain


def choose(
    label: str,
    options: Sequence[str],
    *,
    default: str | None = None,
    own: bool = False,
    help: str | None = None,  # noqa: A002 - Streamlit's own word
) -> str:
    """One of `options`, by default `default` or, where that is not among them, the first; with `own`, or a
    text of the viewer's own.

    The choice stands in the address as `?label=…` (in lower case, hyphens for spaces), but for a `default`.
    The first of options that come and go is no such default: it is in the address, so that a link keeps its
    meaning. An address that names something else gets it when `own` allows, and the default otherwise; the
    viewer is told.
    """
    key = _key(label)
    if default not in options:
        default = None
    start = options[0] if default is None else default
    offered = list(options)
    asked = chosen(label, start)
    if asked not in offered:
        if own:
            offered.append(asked)
        else:
            if key not in st.session_state:  # it came with the address, and is no leftover of a choice
                st.toast(f"{plain(label)}: there is no {plain(asked)} here. {plain(start)} is shown instead.")
                del st.query_params[key]
            st.session_state[key] = asked = start
    if default is None and st.query_params.get(key) != asked:
        st.session_state[key] = asked  # Streamlit writes this into the address, as it does no default
    found = st.selectbox(
        label,
        offered,
        index=None if default is None else offered.index(start),
        key=key,
        accept_new_options=own,
        bind="query-params",
        help=help,
    )
    return str(found or start)


def chosen(label: str, default: str) -> str:
    """What `choose` will give for `label`: for where its options depend on what is chosen."""
    key = _key(label)
    return str(st.session_state.get(key) or st.query_params.get(key) or default)


def choose_number(label: str, default: float, *, help: str | None = None) -> float:  # noqa: A002
    """A number, by default `default`. It stands in the address as with choose()."""
    number = st.number_input(
        label, value=float(default), format="%g", key=_key(label), bind="query-params", help=help
    )
    return float(default if number is None else number)


def _key(label: str) -> str:
    return label.lower().replace(" ", "-")
