"""Workflow runs, shown as a CI service shows them: past runs, current runs, and their log lines as they
arrive."""

import contextlib
import re
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from html import escape
from typing import TypeVar
from urllib.parse import parse_qs, urlencode

import orjson
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from nats_client import Duration, LookbackError, Reply, Snapshot, workflows
from nats_client.errors import StreamNotFound
from nats_client.workflows import Job, Log, Status, Step, WorkflowRun

from ..choices.address import keep
from ..choices.choose import choose
from ..choices.clock import Fixed
from ..data.connection import client
from ..data.live import View, read_view
from ..data.reads import collect
from ..data.states import mistake
from ..spent import timed
from ..words import age_text, clock_text, cut, plain, plotly_text, zone
from .services import allowed, services

T = TypeVar("T")

COLOURS: dict[Status, str] = {
    "running": "#2b7fd0",
    "succeeded": "#16a06a",
    "failed": "#d6453d",
    "cancelled": "#6b7280",
    "lost": "#d98a00",
}
ALL = "All"
MOST_RUNS = 100
"""Workflow runs to list."""
MOST_STEPS = 200
"""Steps of a run to draw."""
MOST_LINES = 500
"""Log lines to draw."""
TOGETHER = 100
"""Log lines per element. A full element never changes, so it is not sent again."""
START_TIMEOUT = 5.0  # seconds
ERROR_FOR = 20.0  # seconds for which the error of a failed start stays on the page
START = "workflow-start."
_RUN = "run"
"""The URL parameter, and its key in the session state."""
_STARTED = "_started"
"""The key in the session state of the start that the viewer has just requested."""
_START_FAILED = "_start_failed"
KEY = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")

# A click on a link reruns the page's body, because the browser would reload the whole app. Other clicks, such
# as those for a new tab, are left to the browser.
_JS = """export default (c) => {
const state = c.parentElement
state.go = c.setTriggerValue
if (!state.clicked) {
  state.clicked = (event) => {
    const link = event.target.closest?.(".lb-go")
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return
    event.preventDefault()
    state.go("to", link.search)
  }
  state.back = () => state.go("to", location.search)
  document.addEventListener("click", state.clicked)
  addEventListener("popstate", state.back)
}
return () => {
  document.removeEventListener("click", state.clicked)
  removeEventListener("popstate", state.back)
  state.clicked = undefined
}}"""
_links = st.components.v2.component("lookback_links", js=_JS, isolate_styles=False)


@dataclass(frozen=True)
class WorkflowRuns:
    """The workflow runs within a look-back, and their present state."""

    runs: tuple[WorkflowRun, ...] = field(repr=False)
    now: int
    """The server's clock, ns since the epoch, UTC."""
    stream: bool
    """True if the workflow stream exists."""

    @property
    def names(self) -> list[str]:
        """The names of the workflows; untrusted."""
        return sorted({run.name for run in self.runs})


@dataclass(frozen=True)
class WorkflowRunDetails:
    """One workflow run with its steps and log, and its present state."""

    run: WorkflowRun
    log: Log = field(repr=False)
    missing: int
    """Number of events known to be missing."""
    now: int
    """The server's clock, ns since the epoch, UTC."""


def asked_run() -> str | None:
    """The key of the workflow run that the viewer opened with the URL or a click; None for the list of all
    runs."""
    _take_started()
    run: str | None = st.session_state.setdefault(_RUN, st.query_params.get(_RUN))
    keep(_RUN, run)
    return run


@timed
def workflow_runs(look_back: Duration = "P1D") -> WorkflowRuns:
    """The workflow runs that began or ended within `look_back`, and all that are still running. Raises
    LookbackError."""
    view = _collected_view(workflows.OF_RUNS, look_back)
    beats = _view(workflows.HEARTBEATS, Fixed(workflows.HEARTBEATS_WITHIN))
    reported = _once(view, workflows.read_runs)
    now, listening = _clock(beats)
    runs = tuple(run.at(now, listening) for run in workflows.with_heartbeats(reported, beats.snapshot))
    return WorkflowRuns(runs, view.now, not isinstance(view.health.why, StreamNotFound))


@timed
def workflow_run(key: str) -> WorkflowRunDetails | None:
    """The run `key` ("archive.20261125T130501-8f3a2c") from its start; None if there is no such run. Raises
    LookbackError."""
    if not KEY.fullmatch(key):
        return None
    view = _collected_view(f"workflow.{key}.>", Fixed(workflows.KEPT))
    beats = _view(workflows.HEARTBEATS, Fixed(workflows.HEARTBEATS_WITHIN))
    reported = _once(view, workflows.read_runs)
    log = _once(view, workflows.read_log)
    now, listening = _clock(beats)
    run = _find(reported, beats, key)
    if run is None or run.at(now, listening).status == "lost":
        # Its last heartbeat may be older than the minutes read so far.
        beats = _view(f"workflow-heartbeat.{key}", Fixed(workflows.KEPT))
        run = _find(reported, beats, key)
    if run is None:
        return None
    missing = workflows.count_missing(view.snapshot, beats.snapshot, key, view.now)
    return WorkflowRunDetails(run.at(now, listening), log, missing, view.now)


def run_list(found: WorkflowRuns, workflow: str = ALL, status: str = ALL) -> None:
    """Draw the runs of `workflow` with that `status`, newest first. A click opens a run."""
    if not found.stream:
        st.info(
            "No workflow has reported to this server yet. Programs report runs with services/workflow.py, or "
            "in any other language as docs/workflows.md describes. Runs will appear here.",
            icon=":material/hourglass_empty:",
        )
        return
    runs = [
        run
        for run in found.runs
        if workflow in (ALL, run.name) and status.lower() in (ALL.lower(), run.status)
    ]
    if not runs:
        st.info("No matching run within the look-back.", icon=":material/hourglass_empty:")
        return
    head = '<div class="lb-head"><span>Status</span><span>Workflow</span><span>Started</span>'
    rows = "".join(_run_row(run, found.now) for run in runs[:MOST_RUNS])
    st.html(f'<div class="lb-runs">{head}<span>Duration</span><span>Trigger</span></div>{rows}</div>')
    _draw_links()
    if len(runs) > MOST_RUNS:
        st.caption(f"The newest {MOST_RUNS} of {len(runs):,} runs.")


def run_header(found: WorkflowRunDetails | None) -> None:
    """Draw a run's status, times, origin and error, and how many events are missing; or that there is no such
    run."""
    all_runs = _link(run=None, step=None)
    st.html(f'<div class="lb-downloads"><a class="lb-go" href="{all_runs}">All runs</a></div>')
    _draw_links()
    if found is None:
        st.info("The stream has no such run. It may have expired.", icon=":material/hourglass_empty:")
        return
    run = found.run
    facts = {
        "Started": _started(run, found.now),
        "Duration": _length(run.took(found.now)),
        "Trigger": run.trigger,
        "Program": run.program,
        "Host": run.host + (f", process {run.pid}" if run.pid else ""),
        "Run": run.key.partition(".")[2],
    }
    if run.status == "lost" and run.last_seen is not None:
        facts["Last seen"] = f"{clock_text(run.last_seen)}, {age_text((found.now - run.last_seen) / 1e9)} ago"
    shown = "".join(
        f"<div><small>{name}</small><span>{escape(value)}</span></div>"
        for name, value in facts.items()
        if value
    )
    st.html(f'<div class="lb-facts">{_state(run.status)}<b>{escape(run.name)}</b>{shown}</div>')
    if run.error:
        st.error(plain(run.error), icon=":material/error:")
    if run.status == "lost":
        st.warning(
            "Heartbeats stopped and no end was reported: the program was killed or has lost NATS.",
            icon=":material/help:",
        )
    if found.missing > 0:
        given_up = (
            f" The program dropped {run.unsent:,} because it could not reach NATS for too long."
            if run.unsent
            else ""
        )
        events = "event is" if found.missing == 1 else "events are"
        st.warning(
            plain(f"{found.missing:,} {events} missing from this run.{given_up}"), icon=":material/report:"
        )


def run_steps(found: WorkflowRunDetails) -> None:
    """Draw the jobs of a run and their steps, with state, duration, progress and error."""
    left = MOST_STEPS
    rows = []
    for job in found.run.jobs:
        if left <= 0:
            break
        if job.name or len(found.run.jobs) > 1:
            rows.append(_job_row(job, found.now))
        rows += [_step_row(step, found.now) for step in job.steps[:left]]
        left -= len(job.steps)
    if not rows:
        st.caption("No step has been reported yet.")
        return
    st.html(f'<div class="lb-runs lb-steps">{"".join(rows)}</div>')
    if left < 0:
        st.caption(f"The first {MOST_STEPS} of {len(found.run.steps):,} steps.")


def run_chart(found: WorkflowRunDetails) -> None:
    """Draw the steps of a run as bars over time, in the viewer's time zone. Running bars grow in steps of a
    hundredth of the run, since each new length redraws the whole chart."""
    grain = max(1, int((found.run.took(found.now) or 0) / 100)) * 10**9
    found = replace(found, now=found.now - found.now % grain)
    named = [(job, step) for job in found.run.jobs for step in job.steps if step.started is not None]
    named = named[:MOST_STEPS]
    if not named:
        return
    bars = []
    for status, colour in COLOURS.items():
        mine = [(i, *pair) for i, pair in enumerate(named) if pair[1].status == status]
        if not mine:
            continue
        begins = pd.to_datetime([step.started or 0 for _, _, step in mine], utc=True)
        lengths = [_drawn(step, found) for _, _, step in mine]
        bars.append(
            go.Bar(
                y=[i for i, _, _ in mine],
                base=begins.tz_convert(zone()).tz_localize(None).to_numpy("datetime64[ms]").astype(str),
                x=[seconds * 1000 for seconds in lengths],
                orientation="h",
                name=status.capitalize(),
                marker={"color": colour, "line": {"width": 0}},
                hovertext=[plotly_text(_step_text(job, step, found.now)) for _, job, step in mine],
                hoverinfo="text",
            )
        )
    labels = [plotly_text(cut(_title(job, step), 32)) for job, step in named]
    figure = go.Figure(
        bars,
        layout={
            "template": "none",
            "barmode": "overlay",
            "height": 104 + 24 * len(named),
            "margin": {"l": 10, "r": 10, "t": 10, "b": 44},
            "xaxis": {"type": "date", "fixedrange": True, "tickangle": 0, "nticks": 4},
            # No zoom: the next refresh redraws the chart and would reset it.
            "yaxis": {
                "autorange": "reversed",
                "fixedrange": True,
                "automargin": True,
                "tickmode": "array",
                "tickvals": list(range(len(named))),
                "ticktext": labels,
            },
            "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom"},
            "showlegend": True,
            "bargap": 0.35,
        },
    )
    st.plotly_chart(figure, key="steps in time", config={"displayModeBar": False})


@timed
def run_log(found: WorkflowRunDetails) -> None:
    """Draw the log lines of a run, or of one of its steps, with a search; the newest last."""
    names = {step.token: _title(job, step) for job in found.run.jobs for step in job.steps}
    twice = {name for name in names.values() if list(names.values()).count(name) > 1}
    names = {token: f"{name} ({token})" if name in twice else name for token, name in names.items()}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = choose("Step", [ALL, *names.values()])
        search = st.text_input("Search the log", key="log search", placeholder="Part of a line")
    step = next((token for token, name in names.items() if name == chosen), None)
    lines, count = found.log.lines(step, search or "", MOST_LINES)
    if not count:
        st.caption("No line matches." if search else "No line has been logged yet.")
        return
    if count > len(lines):
        st.caption(f"The newest {len(lines):,} of {count:,} lines.")
    times = lines["time"].dt.tz_convert(zone()).dt.strftime("%H:%M:%S.%f").str[:-3]
    drawn = [
        f"<div><time>{at}</time>{'' if step else f'<small>{escape(cut(names.get(of, of), 40))}</small>'}"
        f"{escape(text)}</div>"
        for at, of, text in zip(times, lines["step"], lines["text"], strict=True)
    ]
    with st.container(height=min(420, 48 + 21 * len(drawn)), autoscroll=True, key="log"):
        first = count - len(drawn)
        ends = [*range(TOGETHER - first % TOGETHER, len(drawn), TOGETHER), len(drawn)]
        for start, end in zip([0, *ends], ends, strict=False):
            st.html(f'<div class="lb-log">{"".join(drawn[start:end])}</div>')


def start_buttons(workflow: str = ALL) -> None:
    """Draw a button for each workflow that can be started on request: `workflow`, or all of them."""
    _take_started()
    found: dict[str, str] = {}
    refused: str | None = None
    with contextlib.suppress(LookbackError):
        known = services()
        refused = known.refused
        for instance in known.instances:
            for endpoint in instance.endpoints:
                if not instance.gone and re.fullmatch(rf"{re.escape(START)}[A-Za-z0-9_-]+", endpoint.subject):
                    token = endpoint.subject.removeprefix(START)
                    found[endpoint.subject] = str(instance.metadata.get("workflow") or token)
    with st.container(horizontal=True):
        for subject, name in sorted(found.items(), key=lambda item: item[1]):
            if workflow in (ALL, name):
                st.button(
                    f"Start a run of {plain(cut(name, 40))}",
                    icon=":material/play_arrow:",
                    key=subject,
                    on_click=_start,
                    args=(subject,),
                )
    if refused:
        st.caption(plain(f"Cannot find out which workflows can be started. {refused}"))
    error, when = st.session_state.get(_START_FAILED, (None, 0.0))
    if error is not None and time.monotonic() - when < ERROR_FOR:
        mistake(error)


def _start(subject: str) -> None:
    """Start a workflow run. A callback: it runs before the page, once for each click, so no refresh can
    interrupt or repeat it. If another run of the script begins meanwhile, Streamlit stops this one at its
    next use of the session state, and the new run waits for the outcome."""
    st.session_state.pop(_START_FAILED, None)
    nats, started = client(), Future[str | LookbackError | None]()
    st.session_state[_STARTED] = started
    try:
        reply = nats.shared_request(allowed(nats, subject), None, timeout=START_TIMEOUT, every=0)
        started.set_result(_key_in(reply))
    except LookbackError as error:
        started.set_result(error)
    except BaseException as error:
        started.set_exception(error)
        raise


def _key_in(reply: Reply) -> str | None:
    """The key of the run that was started; None if the reply, which is untrusted, has none."""
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        key = orjson.loads(reply.data).get("key")
        if KEY.fullmatch(key):
            return str(key)
    return None


def _take_started() -> None:
    """Open the run that the viewer has started, or keep the error if the start failed."""
    started: Future[str | LookbackError | None] | None = st.session_state.get(_STARTED)
    if started is None:
        return
    try:
        outcome = started.result()
    except Exception:
        del st.session_state[_STARTED]  # otherwise the next run of the page would fail as well
        raise
    if isinstance(outcome, LookbackError):
        st.session_state[_START_FAILED] = outcome, time.monotonic()
    elif outcome is not None:
        st.session_state[_RUN] = outcome
    del st.session_state[_STARTED]


def _view(subject: str, look_back: Duration) -> View:
    return read_view(workflows.STREAM, subject, look_back=look_back, time="time", steady=False)


def _collected_view(subject: str, look_back: Duration) -> View:
    view = _view(subject, look_back)
    if not isinstance(view.health.why, StreamNotFound):  # no error: the page itself says it
        collect(view)
    return view


def _once(view: View, read: Callable[[Snapshot], T]) -> T:
    """The result of `read` for a view, shared by all viewers until the rows change."""
    snapshot = view.snapshot
    rows = snapshot.version, snapshot.first, len(snapshot)
    return view.feed.memo.once((read, view.look_back), rows, lambda: read(snapshot))


def _clock(beats: View) -> tuple[int, int]:
    """The server's clock, and the time since which silence counts, both ns since the epoch, UTC. Silence does
    not count while there is no connection, nor while programs may still be reconnecting after a server
    restart. For a stretch in the past it always counts, because all heartbeats are stored."""
    health = beats.health
    if health.phase != "following":
        return 0, 0
    return beats.now, int(health.since * 1e9) if health.restarts and not beats.past else 0


def _find(runs: list[WorkflowRun], beats: View, key: str) -> WorkflowRun | None:
    return next((run for run in workflows.with_heartbeats(runs, beats.snapshot) if run.key == key), None)


def _run_row(run: WorkflowRun, now: int) -> str:
    return (
        f'<a class="lb-go" href="{_link(run=run.key)}">{_state(run.status)}<b>{escape(run.name)}</b>'
        f"<span>{escape(_started(run, now))}</span><span>{_length(run.took(now))}</span>"
        f"<small>{escape(run.trigger)}</small></a>"
    )


def _job_row(job: Job, now: int) -> str:
    return (
        f'<div class="lb-job">{_state(job.status)}<span>{escape(job.name or "Steps in no job")}</span>'
        f"<span>{_length(job.took(now))}</span></div>"
    )


def _step_row(step: Step, now: int) -> str:
    wide = ""
    if step.status == "running" and step.progress is not None:
        wide = f'<span class="lb-bar lb-wide"><span style="width:{step.progress:.1%}"></span></span>'
    if step.error:
        wide += f'<span class="lb-error lb-wide">{escape(step.error)}</span>'
    how_far = ""
    if step.done is not None and step.status != "succeeded":
        how_far = f"<small> {step.done:,g}{f' of {step.total:,g}' if step.total else ''}</small>"
    return (
        f'<div class="lb-step">{_state(step.status)}<span>{escape(step.name)}{how_far}</span>'
        f"<span>{_length(step.took(now))}</span>{wide}</div>"
    )


def _state(status: Status) -> str:
    return f'<span class="lb-state lb-state-{status}">{status.capitalize()}</span>'


def _started(run: WorkflowRun, now: int) -> str:
    if run.started is None:
        return "before the look-back"
    return f"{clock_text(run.started)}, {age_text((now - run.started) / 1e9)} ago"


def _length(seconds: float | None) -> str:
    """A duration, precise enough to watch it grow: "40 ms", "2.4 s", "3 min 20 s", "2 h 5 min"."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def _drawn(step: Step, found: WorkflowRunDetails) -> float:
    """Length of a step's bar in seconds. If the step's end is unknown, the bar ends when the run ended or was
    last seen."""
    took = step.took(found.now)
    if took is None and step.started is not None:
        took = ((found.run.ended or found.run.last_seen or step.started) - step.started) / 1e9
    return max(took or 0.0, 0.001)


def _step_text(job: Job, step: Step, now: int) -> str:
    return f"{_title(job, step)}: {step.status}, {_length(step.took(now)) or 'duration unknown'}"


def _title(job: Job, step: Step) -> str:
    return f"{job.name} / {step.name}" if job.name else step.name


def _draw_links() -> None:
    """Handle clicks on this page's links without reloading the app."""
    _links(key="links", on_to_change=_go)


def _go() -> None:
    st.session_state.pop(_STARTED, None)  # the viewer has gone to another run, or to the list
    key = parse_qs(str(st.session_state["links"].to or "").removeprefix("?")).get("run")
    st.session_state[_RUN] = key[0] if key else None


def _link(**changed: str | None) -> str:
    """The URL of this page with `changed` parameters; None removes a parameter."""
    wanted = {**st.query_params.to_dict(), **changed}
    return escape("?" + urlencode({name: value for name, value in wanted.items() if value is not None}))
