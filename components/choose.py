"""Choices that live in the page's address, so that a link opens the same view."""

from collections.abc import Sequence

import streamlit as st


def choose(
    label: str,
    options: Sequence[str],
    *,
    default: str | None = None,
    own: bool = False,
    help: str | None = None,  # noqa: A002 - Streamlit's own word
) -> str:
    """One of `options`, by default `default` or else the first; with `own`, or a text of the viewer's own.

    The choice stands in the address as `?label=…` (in lower case, hyphens for spaces). An address that
    names something else gets it when `own` allows, and the default otherwise.
    """
    key = label.lower().replace(" ", "-")
    start = default if default is not None and default in options else options[0]
    asked = st.query_params.get(key)
    offered = list(options)
    if asked is not None and asked not in offered:
        if own:
            offered.append(asked)
        else:
            del st.query_params[key]
            st.session_state.pop(key, None)
    chosen = st.selectbox(
        label,
        offered,
        index=offered.index(start),
        key=key,
        accept_new_options=own,
        bind="query-params",
        help=help,
    )
    return str(chosen or start)


def choose_number(label: str, default: float, *, help: str | None = None) -> float:  # noqa: A002
    """A number, by default `default`. It stands in the address as with choose()."""
    key = label.lower().replace(" ", "-")
    chosen = st.number_input(
        label, value=float(default), format="%g", key=key, bind="query-params", help=help
    )
    return float(default if chosen is None else chosen)
