"""The NATS services that reply: a list, their statistics, and a form to send a request."""

import re
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import orjson
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from nats_client import Client, LookbackError, Reply, ServiceInstance, Services, environment
from nats_client.errors import NotPermitted, SubjectError

from ..data.connection import client
from ..data.states import mistake
from ..spent import timed
from ..words import bytes_text, clock_text, count_text, local, plain

MOST_SHOWN = 20_000
"""Characters of a reply to draw. Each refresh sends them again."""
MOST_ROWS = 500
"""Endpoints to draw."""
OLD = 10.0
"""Seconds after which a discovery is shown with its time. A discovery takes four seconds at most."""

_FILLED = re.compile(r"[A-Za-z0-9_-]+")
"""The texts that may replace a wildcard of an endpoint's subject."""


@timed
def services() -> Services:
    """The services that reply in the NATS service protocol (ADR-32). All viewers with the same rights share
    one discovery, every two seconds. Names and texts are untrusted: anybody may reply. Raises
    LookbackError."""
    return client().services()


def service_list(found: Services) -> None:
    """Draw a table with one row per service, and warnings about replies that were left out."""
    if found.refused:
        st.warning(plain(found.refused), icon=":material/lock:")
    if found.malformed:
        st.warning(
            f"{count_text(found.malformed, 'answer')} left out: not valid in the NATS service protocol.",
            icon=":material/report:",
        )
        with st.expander("Details"):
            st.dataframe(pd.DataFrame(found.samples), hide_index=True)
    is_old = client().state.error is not None or time.time() - found.time > OLD
    if is_old and (found.names or not found.refused):
        checked = clock_text(int(found.time * 1e9))
        what = "The list below is from then" if found.names else "No service answered then"
        st.warning(
            f"Services were last checked at {checked}. {what}; which ones answer now is unknown.",
            icon=":material/history:",
        )
    if not found.names:
        if not found.refused and not is_old:
            st.info(
                "No service answers. Programs that use the NATS service protocol will appear here.",
                icon=":material/hourglass_empty:",
            )
        return
    rows = [_row([each for each in found.instances if each.name == name]) for name in found.names]
    st.dataframe(
        local(pd.DataFrame(rows), "seen"),
        column_config={
            "service": "Service",
            "state": "State",
            "seen": st.column_config.DatetimeColumn("Last seen", format="HH:mm:ss"),
            "version": "Version",
            "instances": "Instances",
            "endpoints": "Endpoints",
            "rate": st.column_config.NumberColumn("Requests/s", format="%.1f"),
            "errors": st.column_config.NumberColumn("Errors", format="localized"),
            "average": st.column_config.NumberColumn("Mean time", format="%.3g ms"),
            "description": "Description",
        },
        hide_index=True,
        placeholder="n/a",
    )

    gone = [
        f"{row['service']} (last answer {clock_text(row['seen'].value)})"
        for row in rows
        if row["state"] == "gone"
    ]
    if gone:
        st.warning(
            plain(f"No longer answering: {', '.join(gone[:5])}{', …' * (len(gone) > 5)}."),
            icon=":material/link_off:",
        )


def _row(instances: list[ServiceInstance]) -> dict[str, Any]:
    alive = [each for each in instances if not each.gone]
    endpoints = [each for instance in alive or instances for each in instance.endpoints]
    rates = [each.requests_per_s for each in endpoints if each.requests_per_s is not None]
    handled = sum(each.requests or 0 for each in endpoints)
    busy = sum(each.processing_time or 0.0 for each in endpoints)
    gone = len(instances) - len(alive)
    return {
        "service": instances[0].name,
        "state": "gone" if not alive else f"running, {gone} gone" if gone else "running",
        "seen": pd.Timestamp(max(each.seen for each in instances), unit="s", tz="UTC"),
        "version": ", ".join(sorted({each.version for each in alive or instances})),
        "instances": len(alive),
        "endpoints": len({each.subject for each in endpoints}),
        "rate": sum(rates) if rates else None,
        "errors": sum(each.errors or 0 for each in endpoints),
        "average": busy / handled * 1e3 if handled else None,
        "description": instances[0].description,
    }


def endpoint_list(found: Services, name: str) -> None:
    """Draw a table of the endpoints of the service `name`, per instance, times in the viewer's time zone."""
    table = found.frame().query("service == @name")
    if len(table) > MOST_ROWS:
        st.caption(f"The first {MOST_ROWS:,} of {len(table):,} endpoints.")
        table = table.iloc[:MOST_ROWS]
    table = local(local(table, "started"), "seen")
    shown = pd.DataFrame(
        {
            "instance": table["id"],
            "state": ["gone" if gone else "running" for gone in table["gone"]],
            **{part: table[part] for part in ("endpoint", "subject", "queue_group", "requests", "errors")},
            "rate": table["requests_per_s"],
            "average": table["average"].where(table["requests"] > 0) * 1e3,
            "last_error": table["last_error"],
            "started": table["started"],
            "seen": table["seen"],
        }
    )
    st.dataframe(
        shown,
        column_config={
            "instance": "Instance",
            "state": "State",
            "endpoint": "Endpoint",
            "subject": "Subject",
            "queue_group": "Queue group",
            "requests": st.column_config.NumberColumn("Requests", format="localized"),
            "errors": st.column_config.NumberColumn("Errors", format="localized"),
            "rate": st.column_config.NumberColumn("Requests/s", format="%.1f"),
            "average": st.column_config.NumberColumn("Mean time", format="%.3g ms"),
            "last_error": "Last error",
            "started": st.column_config.DatetimeColumn("Started", format="YYYY-MM-DD HH:mm:ss"),
            "seen": st.column_config.DatetimeColumn("Last seen", format="YYYY-MM-DD HH:mm:ss"),
        },
        hide_index=True,
        placeholder="n/a",
    )


def service_chart(found: Services, name: str) -> None:
    """Draw requests per second and time per request over the last ten minutes, for all instances of `name`
    together."""
    table = local(found.over_time(name).reset_index(), "_time")
    times = table["_time"].dt.tz_localize(None)
    left, right = st.columns(2)
    with left:
        _small_chart("Requests per second", times, table["requests_per_s"], "/s")
    with right:
        _small_chart("Time per request", times, table["latency"] * 1e3, "ms")


def _small_chart(title: str, times: pd.Series, values: pd.Series, unit: str) -> None:
    drawn = bool(values.notna().any())  # without data Plotly would show an axis from 0 to 6
    figure = go.Figure(
        go.Scatter(x=times, y=values, mode="lines+markers" if len(values) < 3 else "lines"),
        layout={
            "template": "none",
            "title": {"text": title, "font": {"size": 14}},
            "height": 190,
            "margin": {"l": 50, "r": 10, "t": 36, "b": 28},
            # No zoom: the next discovery redraws the chart and would reset it.
            "xaxis": {"fixedrange": True, "visible": drawn},
            "yaxis": {
                "fixedrange": True,
                "rangemode": "tozero",
                "ticksuffix": f" {unit}",
                "nticks": 5,
                "visible": drawn,
            },
            "annotations": [] if drawn else [{"text": "no request yet", "showarrow": False, "opacity": 0.7}],
        },
    )
    st.plotly_chart(figure, key=f"service {title}", config={"displayModeBar": False})


def service_metadata(found: Services, name: str) -> None:
    """Draw the metadata of the instances of `name` and of their endpoints, if there is any."""
    rows = [
        {"instance": instance.id, "of": of, "key": key, "value": value}
        for instance in found.instances
        if instance.name == name
        for of, metadata in [
            ("service", instance.metadata),
            *((f"endpoint {each.name}", each.metadata) for each in instance.endpoints),
        ]
        for key, value in metadata.items()
    ]
    if rows:
        with st.expander("Metadata"):
            st.dataframe(
                pd.DataFrame(rows[:MOST_ROWS]),
                column_config={"instance": "Instance", "of": "Of", "key": "Key", "value": "Value"},
                hide_index=True,
            )


@dataclass(frozen=True)
class SentRequest:
    """A request that a viewer sent, and its outcome."""

    subject: str
    when: int
    """ns since the epoch, UTC."""
    reply: Reply | None
    error: LookbackError | None


def send_request(found: Services, name: str | None = None) -> None:
    """Draw a form that sends a request to an endpoint of `found` (of its service `name`), once per click, and
    the reply to the last one. A subject that the viewer types must also be one of these endpoints."""
    instances = [each for each in found.instances if name in (None, each.name)]
    subjects = sorted({each.subject for instance in instances for each in instance.endpoints})
    # Two widgets: text typed into a select box is lost when the viewer clicks elsewhere, and the request
    # would go to the endpoint chosen before.
    endpoint = st.selectbox(
        "Endpoint",
        subjects[:MOST_ROWS],
        index=None,
        placeholder="Choose an endpoint, or type its subject below",
        key=f"endpoint {name}",
    )
    field = f"subject {endpoint}"
    with st.form("request"):
        st.text_input("Subject", endpoint or "", key=field)
        st.text_area("Payload", key="request-payload", placeholder="JSON or text; may be empty")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.number_input("Timeout (s)", 0.1, 30.0, 2.0, step=0.5, key="request-timeout", width=160)
            st.form_submit_button(
                "Send", icon=":material/send:", type="primary", on_click=_send, args=(field,)
            )
    sent: Future[SentRequest] | None = st.session_state.get("_sent")
    if sent is not None:
        _draw_reply(sent.result())


def _send(field: str) -> None:
    """Send the request. A callback: it runs before the page, once for each click, so no refresh can interrupt
    or repeat it. If another run of the script begins meanwhile, Streamlit stops this one at its next use of
    the session state, and the new run waits for the reply."""
    state, nats = st.session_state, client()
    payload, timeout, sent = state["request-payload"], state["request-timeout"], Future[SentRequest]()
    subject = state[field].strip()
    state["_sent"] = sent
    when = time.time_ns()
    try:
        reply = nats.request(allowed(nats, subject), payload, timeout=timeout)
        sent.set_result(SentRequest(subject, when, reply, None))
    except LookbackError as error:
        sent.set_result(SentRequest(subject, when, None, error))
    except BaseException as error:
        sent.set_exception(error)
        raise


def allowed(nats: Client, subject: str) -> str:
    """Return `subject` if a viewer may send a request to it with the app's login. It must be an endpoint of a
    service that answers now, must not belong to the server, and must not be captured by a stream. The last
    check is needed because anybody who may publish may announce an endpoint. Raises SubjectError, and what
    the lookups raise."""
    settings = nats.settings
    own = (
        "$",
        "_",
        f"{settings.inbox_prefix}.",
        *([f"{settings.api_prefix}."] if settings.api_prefix else []),
    )
    free = environment.ANY_SUBJECT.read()
    if subject.startswith(own) and not (free and subject.startswith("$SRV.")):
        raise SubjectError(f"{subject!r} belongs to the server, not to a service. Nothing was sent.")
    if free:
        return subject
    announced = {each.subject for one in nats.services().instances if not one.gone for each in one.endpoints}
    if not any(_stands_for(subject, each) for each in announced):
        raise SubjectError(
            f"{subject!r} is not an endpoint of a service that answers. Nothing was sent. The operator of "
            f"this app can permit other subjects with {environment.ANY_SUBJECT.variable}=true."
        )
    try:
        streams = nats.capturing(subject)
    except NotPermitted as error:
        if nats.rights.role is not None:
            return subject  # the role's permissions list what it may publish to, and the server enforces them
        raise SubjectError(
            f"Cannot check whether a stream captures {subject!r}. Nothing was sent. {error}"
        ) from None
    if streams:
        raise SubjectError(
            f"The stream {streams[0]!r} captures {subject!r} and would store the request. Nothing was sent. "
            f"The operator of this app can permit it with {environment.ANY_SUBJECT.variable}=true."
        )
    return subject


def _stands_for(subject: str, endpoint: str) -> bool:
    """True if `subject` matches the endpoint, with plain words in place of its wildcards. The first token
    must not be a wildcard: a service that announces ">" does not own all subjects."""
    if subject == endpoint:
        return True
    given, tokens = subject.split("."), endpoint.split(".")
    if tokens[0] in ("*", ">") or len(given) < len(tokens):
        return False
    if tokens[-1] == ">":
        tokens = [*tokens[:-1], *["*"] * (len(given) - len(tokens) + 1)]
    return len(given) == len(tokens) and all(
        bool(_FILLED.fullmatch(word)) if part == "*" else word == part
        for word, part in zip(given, tokens, strict=True)
    )


def _draw_reply(sent: SentRequest) -> None:
    at = clock_text(sent.when)
    if sent.reply is None:
        st.caption(plain(f"Request to {sent.subject}, sent {at}"))
        if sent.error is not None:
            mistake(sent.error)
        data = getattr(sent.error, "data", b"")
        if data:
            _payload(data)
        return
    reply = sent.reply
    took = f"{reply.seconds * 1e3:.3g} ms"
    st.caption(plain(f"Answer of {sent.subject}, sent {at}, took {took}, {bytes_text(len(reply.data))}"))
    _payload(reply.data)
    if reply.headers:
        st.dataframe(
            pd.DataFrame(reply.headers.items(), columns=["Header", "Value"]), hide_index=True, width="content"
        )


def _payload(data: bytes) -> None:
    forms = {"JSON": _json(data), "Text": _readable(data), "Hex": _hex(data)}
    possible = [name for name, text in forms.items() if text is not None]
    chosen = st.segmented_control(
        "Shown as",
        possible,
        default=possible[0],
        required=True,
        key=f"shown {possible}",
        label_visibility="collapsed",
        width="content",
    )
    text = forms[chosen or possible[0]] or ""
    st.code(text[:MOST_SHOWN], language="json" if chosen == "JSON" else None, wrap_lines=chosen != "Hex")
    if len(text) > MOST_SHOWN:
        st.caption(f"The first {MOST_SHOWN:,} of {len(text):,} characters.")


def _json(data: bytes) -> str | None:
    try:
        return orjson.dumps(orjson.loads(data), option=orjson.OPT_INDENT_2).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None


def _readable(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _hex(data: bytes) -> str:
    """A hex dump of the first MOST_SHOWN bytes, 16 bytes per line: offset, bytes, and the printable ASCII
    characters."""
    lines = []
    for start in range(0, min(len(data), MOST_SHOWN), 16):
        part = data[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):47}  {text}")
    return "\n".join(lines)
