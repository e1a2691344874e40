"""Events are read into runs, even if some are missing, doubled or out of order, or the stream holds other
messages."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_client.decoding.decode import decode
from nats_client.decoding.raw import Raw
from nats_client.table.snapshot import Snapshot
from nats_client.table.window import Window
from nats_client.workflows import WorkflowRun, count_missing, read_log, read_runs, with_heartbeats

SECOND = 10**9
START = 1_790_000_000 * SECOND
Event = tuple[str, dict[str, Any], float]
"""Subject, payload, and when the server stored it: seconds after the start."""


def at(seconds: float) -> str:
    """A time by the program's clock, as it is published, in ISO 8601."""
    return datetime.fromtimestamp(START / 1e9 + seconds, UTC).isoformat()


def event(place: str, n: int, when: float, run: str = "w.1", **fields: Any) -> Event:
    """One event as a program publishes it."""
    return f"workflow.{run}.{place}", {"n": n, "time": at(when), "workflow": "W", **fields}, when


def beat(n: int, when: float, run: str = "w.1", **fields: Any) -> Event:
    """One heartbeat."""
    return f"workflow-heartbeat.{run}", {"n": n, "time": at(when), "workflow": "W", **fields}, when


def snapshot(events: list[Event]) -> Snapshot:
    """The events as a feed's window has them."""
    window = Window()
    raw = Raw(
        list(range(1, len(events) + 1)),
        [START + int(stored * SECOND) for _, _, stored in events],
        [subject for subject, _, _ in events],
        [json.dumps(payload).encode() for _, payload, _ in events],
    )
    if events:
        window.append(decode(raw, "json", "time")[0])
    return window.snapshot()


NOTHING = snapshot([])
WHOLE = [
    event("-.-.started", 1, 0, trigger="schedule", host="h", pid=7, interval=5, status="running"),
    event("J.-.started", 2, 1, job="Job", status="running"),
    event("J.a.started", 3, 2, job="Job", step="A", status="running"),
    event("J.a.log", 4, 3, job="Job", step="A", text="one"),
    event("J.a.progress", 5, 3, job="Job", step="A", done=1, total=4),
    event("J.a.progress", 6, 4, job="Job", step="A", done=4, total=4),
    event("J.a.finished", 7, 5, job="Job", step="A", status="succeeded", seconds=3),
    event("J.b.started", 8, 5, job="Job", step="B", status="running"),
    event("J.b.log", 9, 6, job="Job", step="B", text="two"),
    event("J.b.failed", 10, 7, job="Job", step="B", status="failed", seconds=2, error="E: no"),
    event("J.-.failed", 11, 8, job="Job", status="failed", seconds=7, error="E: no"),
    event("-.-.failed", 12, 9, status="failed", seconds=9, error="E: no", trigger="schedule"),
]
BEATS = [beat(1, 0.5, interval=5, started=at(0)), beat(8, 5.5, interval=5, started=at(0))]


def the_run(events: list[Event], beats: list[Event] | None = None) -> WorkflowRun:
    """The only run there is."""
    (run,) = with_heartbeats(read_runs(snapshot(events)), snapshot(beats or []))
    return run


def test_whole_run() -> None:
    """A run that was reported to the end has all its jobs, steps, times, progress, lines and its error."""
    run = the_run(WHOLE, BEATS)
    assert (run.name, run.key, run.status, run.seconds, run.error) == ("W", "w.1", "failed", 9.0, "E: no")
    assert (run.trigger, run.host, run.pid, run.started) == ("schedule", "h", 7, START)
    (job,) = run.jobs
    assert (job.name, job.status, job.seconds) == ("Job", "failed", 7.0)
    a, b = job.steps
    assert (a.name, a.status, a.seconds, a.progress) == ("A", "succeeded", 3.0, 1.0)
    assert (b.name, b.status, b.seconds, b.progress, b.error) == ("B", "failed", 2.0, None, "E: no")
    lines, count = read_log(snapshot(WHOLE)).lines()
    assert (lines["text"].tolist(), lines["step"].tolist(), count) == (["one", "two"], ["J.a", "J.b"], 2)
    assert count_missing(snapshot(WHOLE), snapshot(BEATS), "w.1", START + 60 * SECOND) == 0
    assert run.at(START + 3600 * SECOND) == run


@given(st.permutations(WHOLE), st.lists(st.sampled_from(WHOLE), max_size=6))
def test_order_and_doubles_do_not_matter(order: list[Event], doubles: list[Event]) -> None:
    """Events in any order, each any number of times, give the same run and the same log lines."""
    given = snapshot([*order, *doubles])
    (run,), (known,) = read_runs(given), read_runs(snapshot(WHOLE))
    # These fields depend on when the server stored each event, which differs with the order.
    assert replace(run, beat=None, last_seen=None, delay=0) == replace(
        known, beat=None, last_seen=None, delay=0
    )
    assert read_log(given).lines()[0].equals(read_log(snapshot(WHOLE)).lines()[0])
    assert count_missing(given, NOTHING, "w.1", START) == 0


@given(
    st.sets(st.integers(0, len(WHOLE) - 1), min_size=1).flatmap(lambda kept: st.permutations(sorted(kept))),
    st.sampled_from([[], BEATS[:1], BEATS]),
)
def test_losses(kept: list[int], beats: list[Event]) -> None:
    """If events are lost, nothing raises: the status follows from the end of the run, and missing events are
    counted. Long after the last event, nothing is still running."""
    events = [WHOLE[i] for i in kept]
    run = the_run(events, beats)
    assert run.status == ("failed" if len(WHOLE) - 1 in kept else "running")
    reported = max([kept_n + 1 for kept_n in kept] + [payload["n"] for _, payload, _ in beats])
    now = START + 3600 * SECOND
    assert count_missing(snapshot(events), snapshot(beats), "w.1", now) == reported - len(kept)
    later = run.at(now)
    assert later.status == ("failed" if run.status == "failed" else "lost")
    parts = [later, *later.jobs, *later.steps]
    assert all(part.status != "running" for part in parts)
    assert all(part.seconds is None or part.seconds >= 0 for part in parts)
    assert all((part.took(now) or 0) >= 0 for part in [run, *run.jobs, *run.steps])


JSON = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from([[1], {"a": 1}]),
)
FIELDS = ["n", "workflow", "job", "step", "status", "seconds", "done", "total", "text", "started", "pid"]
TOKENS = st.sampled_from(["-", "w", "1", "started", "finished", "failed", "log", "progress", "first", "é"])


@given(
    st.lists(
        st.tuples(
            st.lists(TOKENS, min_size=1, max_size=6),
            st.dictionaries(st.sampled_from([*FIELDS, "interval", "unsent", "error"]), JSON, max_size=4),
            st.floats(-(10**9), 10**9),
            st.floats(-(10**9), 10**9),
        ),
        max_size=6,
    )
)
def test_anything_goes(events: list[tuple[list[str], dict[str, Any], float, float]]) -> None:
    """Whatever is published under these subjects, with any clock, reading it never raises."""
    made = [
        (".".join([prefix, *tokens]), {"time": at(clock), **fields}, stored)
        for tokens, fields, clock, stored in events
        for prefix in ("workflow", "workflow-heartbeat")
    ]
    all_of_it = snapshot(made)
    for run in with_heartbeats(read_runs(all_of_it), all_of_it):
        assert run.at(START).at(START) == run.at(START)
        assert (run.took(START) or 0) >= 0
    read_log(all_of_it).lines(search="x")
    count_missing(all_of_it, all_of_it, "w.1", START)


def test_heartbeats_decide() -> None:
    """A run counts as lost once three intervals have passed since its last heartbeat, by the server's
    clock."""
    run = the_run(WHOLE[:9], BEATS)
    last = START + int(5.5 * SECOND)
    assert run.at(last + 15 * SECOND).status == "running"
    lost = run.at(last + 15 * SECOND + 1)
    assert lost.status == "lost"
    assert [step.status for step in lost.steps] == ["succeeded", "lost"]
    assert run.at(last + 60 * SECOND, listening=last + 50 * SECOND).status == "running"


def test_run_from_before_the_look_back() -> None:
    """If only heartbeats lie within the look-back, the start and trigger of a run are still known; if only
    its end does, its start."""
    living = the_run([], [beat(900, 5000, interval=5, started=at(-86400), trigger="schedule")])
    assert (living.started, living.trigger, living.name) == (START - 86400 * SECOND, "schedule", "W")
    ended = the_run([event("-.-.finished", 9, 60, status="succeeded", seconds=7200, started=at(-7140))])
    assert (ended.started, ended.seconds) == (START - 7140 * SECOND, 7200)


@pytest.mark.parametrize("off", [-7200, 7200])
def test_wrong_clock(off: float) -> None:
    """If a program's clock is off by hours, its times are corrected by the server's clock, and durations stay
    the same."""
    wrong = [
        (subject, {**payload, "time": at(stored + off)}, stored + 0.125) for subject, payload, stored in WHOLE
    ]
    run = the_run(wrong)
    assert run.started == START + SECOND // 8
    assert run.seconds == 9


def test_late_events() -> None:
    """Events stored late, because the server was away, keep the times at which they happened."""
    late = [(subject, payload, 600.0) for subject, payload, _ in WHOLE]
    run = the_run(late, [beat(12, 600, interval=5)])
    assert (run.started, run.steps[0].started) == (START, START + 2 * SECOND)


def test_many_runs() -> None:
    """Runs of several workflows are kept apart, and the newest is first."""
    events = [event("-.-.started", 1, i, run=f"w{i % 2}.{i}") for i in range(6)]
    assert [run.key for run in with_heartbeats(read_runs(snapshot(events)), NOTHING)] == [
        "w1.5", "w0.4", "w1.3", "w0.2", "w1.1", "w0.0",
    ]  # fmt: skip


def test_log_search() -> None:
    """Lines are found by step, and by a part of their text in upper or lower case. `last` keeps only the
    newest."""
    events = [event(f"J.{'ab'[i % 2]}.log", i + 1, i, text=f"Line {i}") for i in range(100)]
    log = read_log(snapshot(events))
    lines, count = log.lines(last=2)
    assert (lines["text"].tolist(), count) == (["Line 98", "Line 99"], 100)
    assert log.lines("J.b", search="LINE 9")[0]["text"].tolist() == [
        "Line 9", "Line 91", "Line 93", "Line 95", "Line 97", "Line 99",
    ]  # fmt: skip
    assert log.lines("J.c")[1] == 0
