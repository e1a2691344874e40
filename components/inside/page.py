"""The app's own state, for pages: memory, feeds with their readers, settings, and recent events."""

from collections.abc import Iterator
from dataclasses import fields

import pandas as pd
import psutil
import streamlit as st

from nats_client import Client, Event, Settings, format_duration
from nats_client.connection.settings import kind_of
from nats_client.environment import SETTINGS
from nats_client.memory import PROCESS

from ..data.connection import client, is_embedded
from ..pages import page_files
from ..web.traffic import open_tabs
from ..words import bytes_text
from .events import draw_events
from .health import readers, versions
from .page_runs import page_events

HIDDEN = "set, not shown"
"""Shown in place of a secret."""


def inside() -> None:
    """Draw the state of this process, as far as the viewer's role permits: figures of the whole process, and
    by name only the feeds of the viewer's own rights."""
    nats = client()
    _figures(nats)
    _feeds(nats)
    st.subheader("What happened")
    draw_events("Connection", nats.events)
    # Only pages that the viewer may open, because page names may be confidential.
    for page, events in page_events(file.stem for file in page_files()).items():
        draw_events(f"Page {page}", events)
    left, right = st.columns([2, 1])
    with left:
        st.subheader("Settings in force")
        st.dataframe(
            _settings(nats.settings),
            column_config={
                "Setting": st.column_config.Column(width=235),  # the longest name
                "Value": st.column_config.Column(width=200),
                "For": st.column_config.Column(width=70),
            },
            hide_index=True,
        )
        if not is_embedded():
            st.caption("A history service that runs elsewhere has its settings in its own environment.")
    with right:
        st.subheader("Versions")
        st.dataframe(pd.DataFrame(versions().items(), columns=["Package", "Version"]), hide_index=True)


def _figures(nats: Client) -> None:
    figures = {
        "Viewers": f"{open_tabs():,}",
        "Feeds of yours": f"{len(nats.feeds()):,}",
        f"Memory, of {bytes_text(PROCESS.ceiling)}": bytes_text(PROCESS.total),
        "Threads": f"{psutil.Process().num_threads():,}",
    }
    with st.container(horizontal=True):
        for name, value in figures.items():
            st.metric(name, value)


def _feeds(nats: Client) -> None:
    st.subheader("Feeds")
    rows, read_by = [], readers(nats)
    for feed in nats.feeds():
        health = feed.health
        age = None if health.newest is None else max(0.0, (feed.now() - health.newest) / 1e9)
        rows.append(
            {
                "Feed": health.name,
                "State": health.phase,
                "Look-back": format_duration(feed.look_back),
                "Rows": health.rows,
                "Memory": bytes_text(health.bytes),
                "Newest, s ago": age,
                "Readers": read_by[feed.key],
                "Restarts": health.restarts,
                "Last event": _line(feed.events[-1]) if feed.events else "",
            }
        )
    if not rows:
        st.caption("No feed is open with your rights.")
        return
    st.dataframe(
        pd.DataFrame(rows),
        column_config={
            "Rows": st.column_config.NumberColumn(format="localized"),
            "Newest, s ago": st.column_config.NumberColumn(format="%.1f"),
        },
        hide_index=True,
    )


def _line(event: Event) -> str:
    return event.what + (f": {event.why}" if event.why else "")


def _settings(settings: Settings) -> pd.DataFrame:
    """Each setting and its value, without secrets."""
    return pd.DataFrame([*_of_nats(settings), *_of_the_environment()], columns=["Setting", "Value", "For"])


def _of_nats(settings: Settings) -> Iterator[tuple[str, str, str]]:
    for each in fields(settings):
        value = getattr(settings, each.name)
        if each.name == "url":
            text = settings.shown
        elif value is None:
            text = "default"
        elif not each.repr:
            text = HIDDEN
        else:
            text = kind_of(each.name).shown(value)
        yield each.name, text, "NATS"


def _of_the_environment() -> Iterator[tuple[str, str, str]]:
    """The settings of the app, and of the embedded programs. Programs that run elsewhere have an environment
    of their own."""
    ours = {"app", "demo", "history"} if is_embedded() else {"app"}
    for each in SETTINGS:
        if each.whose in ours:
            value = each.read()
            hidden = each.secret and value is not None
            text = HIDDEN if hidden else each.otherwise if value is None else each.kind.shown(value)
            yield each.variable, text, each.whose
