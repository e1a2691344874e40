"""Widgets whose value is kept in the page's URL, so that a link opens the same view."""

import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import streamlit as st

from ..words import plain
from .address import asked, keep, keep_lasting, replace

if TYPE_CHECKING:
    # Streamlit does not export the type that st.tabs() returns.
    from streamlit.elements.lib.mutable_tab_container import TabContainer


def choose(
    label: str,
    options: Sequence[str],
    *,
    default: str | None = None,
    own: bool = False,
    help: str | None = None,  # noqa: A002 - the name Streamlit uses
) -> str:
    """Let the viewer choose one of `options`. The default is `default`, or the first option if `default` is
    not among them. `own` also accepts a text that the viewer types. Returns "" while there are no options and
    no such text.

    The choice is in the URL as `?label=…` (lower case, hyphens for spaces), unless it is `default`. The first
    option does not count as a default, because options may come and go: it is written to the URL, so that a
    link keeps its meaning. If the URL names an unknown value, `own` accepts it; otherwise the default is used
    and a notice says so.
    """
    key = _key(label)
    if default not in options:
        default = None
    start = (options[0] if options else "") if default is None else default
    offered = list(options)
    chosen_before = key in st.session_state
    wanted = chosen(label, start)
    if wanted and wanted not in offered and own:
        offered.append(wanted)
    elif wanted and wanted not in offered:
        if not chosen_before:  # the value is from the URL, not from an earlier choice
            st.toast(f"{plain(label)}: there is no {plain(wanted)} here. {plain(start)} is shown instead.")
        wanted = start
    if st.session_state.get(key) != (wanted or None):
        st.session_state[key] = wanted or None
    found = str(st.selectbox(label, offered, key=key, accept_new_options=own, help=help) or start)
    keep(key, None if found in (default, "") else found)
    return found


def chosen(label: str, default: str) -> str:
    """The value `choose` will return for `label`. Use it when the options depend on the choice."""
    return asked(_key(label), default)


def set_choice(label: str, value: str) -> None:
    """Make choose() return `value` for `label` from the next run on. Call it before a page runs, for a click
    of the viewer."""
    replace(_key(label), value)


def choice_of(name: str, of: Hashable) -> str:
    """A choice that no widget shows; "" if there is none. It is st.session_state[name], kept in the URL under
    `name`. It belongs to `of`, such as a stream, and is dropped when `of` changes."""
    held = f"_{name}_of"
    if st.session_state.setdefault(held, of) != of:
        st.session_state[held] = of
        if name in st.session_state:  # otherwise the viewer has gone back, and the URL has the choice
            st.session_state[name] = ""
    if name not in st.session_state:
        st.session_state[name] = asked(name, "")
    found = str(st.session_state[name])
    keep(name, found or None)
    return found


def choose_many(
    label: str,
    options: Sequence[str],
    *,
    default: Sequence[str] | None = None,
    help: str | None = None,  # noqa: A002
) -> list[str]:
    """Let the viewer choose some of `options`, by default `default`, or all. Returns them in the order of
    `options`, [] if none is chosen. They are kept in the URL as with choose(), with commas between them.
    Unknown options in the URL are ignored."""
    key = _key(label)
    start = list(options) if default is None else [each for each in options if each in default]
    if key not in st.session_state:
        # An empty text means that nothing was chosen yet; "," means that the viewer chose no option.
        asked_for = asked(key, "")
        st.session_state[key] = [unquote(each) for each in asked_for.split(",")] if asked_for else start
    st.session_state[key] = [each for each in options if each in st.session_state[key]]
    found = st.multiselect(label, options, key=key, help=help)
    many = [each for each in options if each in found]
    keep(key, None if many == start else ",".join(quote(each, safe="") for each in many) or ",")
    return many


def choose_number(
    label: str,
    default: float,
    *,
    least: float | None = None,
    greatest: float | None = None,
    help: str | None = None,  # noqa: A002
) -> float:
    """Let the viewer enter a number, by default `default`, from `least` to `greatest` where given. It is kept
    in the URL as with choose(). If the URL has no number in that range, the default is used."""
    key = _key(label)
    if key not in st.session_state:
        wanted = _number(chosen(label, ""), float(default))
        fits = (least is None or wanted >= least) and (greatest is None or wanted <= greatest)
        st.session_state[key] = wanted if fits else float(default)
    low, high = (None if end is None else float(end) for end in (least, greatest))
    number = st.number_input(label, low, high, format="%g", key=key, help=help)
    keep(key, None if number == default else f"{number:.15g}")
    return float(number)


def choose_text(
    label: str,
    *,
    name: str | None = None,
    placeholder: str | None = None,
    help: str | None = None,  # noqa: A002
) -> str:
    """Let the viewer enter a text, "" if none. It is kept in the URL as with choose(), or under `name`."""
    key = name or _key(label)
    if key not in st.session_state:
        st.session_state[key] = asked(key, "")
    text = st.text_input(label, key=key, placeholder=placeholder, help=help) or ""
    keep(key, text or None)
    return text


def choose_flag(
    label: str,
    *,
    name: str | None = None,
    default: bool = False,
    help: str | None = None,  # noqa: A002
) -> bool:
    """Let the viewer turn a switch on or off, by default `default`. It is kept in the URL as with choose(),
    or under `name`, as true or false."""
    key = name or _key(label)
    if key not in st.session_state:
        st.session_state[key] = {"true": True, "false": False}.get(asked(key, "").lower(), default)
    flag = st.toggle(label, key=key, help=help)
    keep(key, None if flag == default else str(flag).lower())
    return flag


def choose_step(
    label: str,
    steps: Sequence[int],
    default: int,
    *,
    name: str | None = None,
    help: str | None = None,  # noqa: A002
) -> int:
    """Let the viewer choose one of `steps`, integers in ascending order, on a slider; by default `default`.
    It is kept in the URL as with choose(), or under `name`. If the URL names no step, the default is used."""
    key = name or _key(label)
    if key not in st.session_state:
        st.session_state[key] = {str(step): step for step in steps}.get(asked(key, ""), default)
    step: int = st.select_slider(label, steps, key=key, help=help)
    keep(key, None if step == default else str(step))
    return step


def choose_tab(labels: Sequence[str], *, name: str) -> "Sequence[TabContainer]":
    """Draw tabs, of which one is open, by default the first. Each has an attribute `open`, True or False, so
    that a page can draw only the open tab. The open tab is kept in the URL under `name`."""
    if name not in st.session_state:
        wanted = asked(name, "")
        st.session_state[name] = wanted if wanted in labels else labels[0]
    tabs = st.tabs(labels, key=name, on_change="rerun")
    shown = next((label for label, tab in zip(labels, tabs, strict=True) if tab.open), labels[0])
    keep(name, None if shown == labels[0] else shown)
    return tabs


def choose_for_all_pages(
    label: str,
    options: Sequence[str],
    default: str,
    *,
    help: str | None = None,  # noqa: A002
) -> str:
    """Let the viewer choose one of `options`, by default `default`, for all pages. It is kept in the URL as
    with choose(), but outlives a change of page, and Back does not undo it. If the URL names no option, the
    default is used."""
    key = _key(label)
    if key not in st.session_state:
        wanted = asked(key, default)
        st.session_state[key] = wanted if wanted in options else default
    chosen = str(st.segmented_control(label, options, required=True, key=key, help=help) or default)
    keep_lasting(key, None if chosen == default else chosen)
    return chosen


def _number(text: str, default: float) -> float:
    try:
        number = float(text)
    except ValueError:
        return default
    return number if math.isfinite(number) else default


def _key(label: str) -> str:
    return label.lower().replace(" ", "-")
