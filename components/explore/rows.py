"""Rows of a viewer's choice: looked at here, or written down as the code that gets them."""

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

from nats_client.decoding.decoders import DECODERS

from ..choices.choose import choose, chosen
from ..data.live import View, collect, look
from ..nats.history import SUBJECT
from ..nats.streams import stream_line, stream_names, subjects
from ..tables.fields import time_fields

LOOK_BACKS = ["PT1M", "PT5M", "PT15M", "PT1H", "PT6H", "P1D", "P7D"]
SOURCES = ["stream", "archive too"]
STORED = "stored"
"""In place of a field: a row's time is when the server stored it."""


@dataclass(frozen=True, eq=False)
class Rows:
    """What a viewer has chosen, as the arguments of `live`, and what it gives."""

    stream: str
    subject: str
    options: Mapping[str, str]
    view: View
    """It may be empty."""


def choose_rows() -> Rows | None:
    """Let the viewer choose rows of one of the streams, or of one whose name the viewer types, and say what
    this stream is; None while there is none to choose. Raises LookbackError on a name, a subject pattern or a
    look-back that cannot be read."""
    names = stream_names()
    row = st.container(horizontal=True)
    with row:
        stream = choose("Stream", names, default="METRICS", own=True)
        if not stream:
            return None
        offered = [">", *subjects(stream)]
        subject = choose(
            "Subjects",
            offered,
            default=">",
            own=True,
            help="Patterns may have * and >, and name tokens: metrics.{kind}.{name}",
        )
        look_back = choose("Look-back", LOOK_BACKS, default="PT5M", own=True, help="An ISO 8601 duration")
        decoder = choose("Payloads", list(DECODERS), default="json", help="How a message is read")
        source = choose("From", SOURCES, help="The archive holds what the stream no longer does")
    stream_line(stream)
    time = chosen("Time", STORED)
    options = {"look_back": look_back}
    options |= {"time": time} if time != STORED else {}
    options |= {"decoder": decoder} if decoder != "json" else {}
    options |= {"archive": SUBJECT} if source != SOURCES[0] else {}
    view = look(
        stream,
        subject,
        look_back=look_back,
        time=options.get("time"),
        decoder=decoder,
        archive=options.get("archive"),
    )
    collect(view)
    with row:
        times = [STORED, *time_fields(view)]
        choose("Time", times, default=STORED, own=True, help="The field with a row's own time")
    return Rows(stream, subject, options, view)
