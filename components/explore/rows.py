"""Rows that the viewer chooses: read here, or written as the code that reads them."""

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

from nats_client import iso_duration
from nats_client.decoding.decoders import offered_decoders
from nats_client.errors import SqlError

from ..choices.choose import choose, choose_text, chosen
from ..data.live import View, read_view
from ..data.reads import collect
from ..nats.history import SUBJECT
from ..nats.streams import stream_line, stream_names, subjects
from ..tables.fields import time_fields

LOOK_BACK = "PT5M"
"""The look-back, unless the viewer sets a length in the clock above the page."""
SOURCES = ["stream", "archive too"]
STORED = "stored"
"""The choice of no field: a row's time is the time at which the server stored the message."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The viewer's choices as arguments of `live`, and the resulting view."""

    stream: str
    subject: str | tuple[str, ...]
    """One filter, or several."""
    options: Mapping[str, str | tuple[str, ...] | Mapping[str, str]]
    view: View
    """May be empty."""


def choose_rows() -> Rows | None:
    """Let the viewer choose rows of a stream, listed or typed, and describe the stream. None while there is
    no stream to choose. Raises LookbackError if a name or a subject filter is not valid."""
    names = stream_names()
    with st.container(horizontal=True):
        stream = choose("Stream", names, default="METRICS", own=True)
        if not stream:
            return None
        offered = [">", *subjects(stream)]
        subject = choose(
            "Subjects",
            offered,
            default=">",
            own=True,
            help="May contain the wildcards * and >, and name tokens: metrics.{kind}.{name}. Spaces separate "
            "several.",
        )
        decoder = choose(
            "Payloads",
            offered_decoders(),
            default="json",
            own=True,
            help="How payloads are decoded; auto finds out the format of each message. "
            "json:data.readings has one row per element of that array.",
        )
        source = choose("Source", SOURCES, help="The archive has older messages than the stream")
    further = st.container(horizontal=True)
    with further:
        where = choose_text(
            "Filter",
            placeholder="ms > 100 AND level = 'error'",
            help="An SQL expression over the fields. Only rows for which it is true are kept.",
        ).strip()
        columns = computed(
            choose_text(
                "Computed",
                placeholder="kw = w / 1000; ok = status < 500",
                help="Columns computed by SQL: name = expression. Separate several with ;",
            )
        )
        named = choose_text("Headers", placeholder="traceparent", help="Headers to show as columns")
    stream_line(stream)
    time = chosen("Time", STORED)
    archive = SUBJECT if source != SOURCES[0] else None
    headers = tuple(name.strip() for name in named.split(",") if name.strip())
    wanted = one_or_several(subject)
    view = read_view(
        stream,
        wanted,
        look_back=LOOK_BACK,
        time=time if time != STORED else None,
        decoder=decoder,
        archive=archive,
        where=where or None,
        columns=columns or None,
        headers=headers,
    )
    options: dict[str, str | tuple[str, ...] | Mapping[str, str]] = {
        "look_back": iso_duration(view.look_back)
    }
    options |= {"time": time} if time != STORED else {}
    options |= {"decoder": decoder} if decoder != "json" else {}
    options |= {"headers": headers} if headers else {}
    options |= {"archive": archive} if archive else {}
    options |= {"where": where} if where else {}
    options |= {"columns": columns} if columns else {}
    collect(view)
    with further:
        times = [STORED, *time_fields(view.drawn)]
        choose("Time", times, default=STORED, own=True, help="The field that holds the row time")
    return Rows(stream, wanted, options, view)


def one_or_several(text: str) -> str | tuple[str, ...]:
    """The subject filter that a viewer typed, or several of them, separated by spaces."""
    found = tuple(filter(None, text.split(" ")))  # a line break is part of a wrong subject
    return found if len(found) > 1 else text.strip()


def computed(text: str) -> dict[str, str]:
    """Computed columns that a viewer typed as "name = expression", separated by semicolons. Raises SqlError
    if a part does not have this form."""
    columns = {}
    for part in filter(str.strip, text.split(";")):
        name, equals, expression = (each.strip() for each in part.partition("="))
        if not (name and equals and expression):
            raise SqlError(f"{part.strip()!r} computes no column. Write for example: kw = w / 1000.")
        columns[name] = expression
    return columns
