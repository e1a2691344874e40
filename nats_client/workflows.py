"""Builds runs, jobs, steps and log lines from the events that workflows report.

The top of services/workflow.py describes subjects and payloads. Events may be late, duplicated, out of order,
missing, or from a program that breaks the protocol. Each run is built from whatever has arrived, and missing
events are counted. All feeds passed to this module must have `time="time"`.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from .table.iso_times import iso_texts
from .table.snapshot import Snapshot
from .table.values import Codes, Floats, Ints

STREAM = "WORKFLOWS"
OF_RUNS = "workflow.*.*.-.-.*"
"""Filter for the events of runs themselves, without those of their jobs and steps and without log lines."""
HEARTBEATS = "workflow-heartbeat.>"
KEPT = "P7D"
"""How long the stream keeps events."""
HEARTBEATS_WITHIN = "PT5M"
"""Look-back for heartbeats, to decide which runs are alive. More than MISSED * LONGEST_INTERVAL."""
LONGEST_INTERVAL = 60.0  # seconds
USUAL_INTERVAL = 5.0  # seconds
MISSED = 3  # heartbeats
WRONG_CLOCK = 5 * 10**9
"""ns by which a program's times may differ from the server's, delivery included, before they are
corrected."""
SETTLED = 3 * 10**9
"""ns after a heartbeat by which all earlier events should have arrived."""

Places = dict[tuple[str, str], dict[str, int]]
"""Rows of one run: (job, step) to event name to the row that counts for that event."""
P = TypeVar("P", bound="Part")
Status = Literal["running", "succeeded", "failed", "cancelled", "lost"]
"""A run is "lost" if its heartbeats stopped and its end was never reported. A job or step is "lost" if its
run is over and its own end was never reported."""


@dataclass(frozen=True)
class Part:
    """Base of runs, jobs and steps. Times are ns since the epoch, UTC, by the server's clock."""

    name: str
    """The name that the program reported; untrusted."""
    status: Status = "running"
    started: int | None = None
    """None if only its end is known."""
    ended: int | None = None
    seconds: float | None = None
    """Its duration in seconds; None until its end is known."""
    error: str = ""

    def took(self, now: int) -> float | None:
        """Seconds that it took, or has been running at `now` (ns since the epoch, UTC); None if unknown."""
        if self.status == "running" and self.started is not None:
            return max(0.0, (now - self.started) / 1e9)
        return self.seconds


@dataclass(frozen=True)
class Step(Part):
    """One step of a job."""

    token: str = ""
    """Its name in subjects: "job.step"."""
    done: float | None = None
    total: float | None = None

    @property
    def progress(self) -> float | None:
        """Its progress from 0 to 1; None if unknown."""
        if self.done is None or not self.total or not self.total > 0:
            return None
        return min(1.0, max(0.0, self.done / self.total))


@dataclass(frozen=True)
class Job(Part):
    """A job of a run, with its steps. Steps outside any job are in a job with an empty name."""

    token: str = ""
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class WorkflowRun(Part):
    """One workflow run; `name` is the workflow's name."""

    key: str = ""
    """Its workflow and run tokens in subjects: "archive.20261125T130501-8f3a2c"."""
    trigger: str = ""
    program: str = ""
    host: str = ""
    pid: int | None = None
    interval: float = USUAL_INTERVAL
    """Seconds between heartbeats."""
    beat: int | None = None
    """When the server stored its start or its last heartbeat, whichever is newer."""
    last_seen: int | None = None
    """When the server stored its newest event or heartbeat."""
    delay: int = 0
    """The smallest difference between the server's storage time and the program's time of an event, ns."""
    jobs: tuple[Job, ...] = ()
    unsent: int = 0
    """Events that the program dropped because its queue was full; it could not reach NATS for long."""

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of all jobs."""
        return tuple(step for job in self.jobs for step in job.steps)

    def at(self, now: int, listening: int = 0) -> "WorkflowRun":
        """The run at `now` (ns since the epoch, the server's clock): "lost" if it has missed more than MISSED
        heartbeats.

        Time before `listening` (ns since the epoch) does not count as missed: there was no connection, so no
        heartbeat could arrive.
        """
        status: Status = self.status
        if status == "running":
            quiet = now - max(self.beat or 0, listening)
            if quiet <= MISSED * self.interval * 1e9:
                return self
            status = "lost"
        jobs = tuple(
            replace(
                job,
                status="lost" if job.status == "running" else job.status,
                steps=tuple(
                    replace(step, status="lost") if step.status == "running" else step for step in job.steps
                ),
            )
            for job in self.jobs
        )
        return replace(self, status=status, jobs=jobs)


@dataclass(frozen=True, eq=False)
class Log:
    """The log lines of one run, in order and without duplicates. Each array has one entry per line."""

    time: Ints = field(repr=False)
    """When the line was written, ns since the epoch, UTC."""
    step: Codes = field(repr=False)
    """Indices into `steps`."""
    text: Codes = field(repr=False)
    """Indices into `texts`."""
    steps: tuple[str, ...] = ()
    """Step tokens, "job.step"."""
    texts: tuple[str, ...] = field(default=(), repr=False)

    def lines(self, step: str | None = None, search: str = "", last: int = 500) -> tuple[pd.DataFrame, int]:
        """The newest `last` matching lines, and the number of all matching lines. Lines match if they are of
        `step` (a token; None for all steps) and contain `search`, ignoring case. Columns: `time` (UTC),
        `step` (token), `text`."""
        wanted = np.ones(len(self.text), dtype=bool)
        if step is not None:
            wanted &= self.step == (self.steps.index(step) if step in self.steps else -1)
        if search:
            low = search.lower()
            found = np.fromiter((low in text.lower() for text in self.texts), bool, len(self.texts))
            wanted &= found[self.text]
        rows = np.flatnonzero(wanted)
        shown = rows[max(0, len(rows) - last) :]
        frame = pd.DataFrame(
            {
                "time": pd.to_datetime(self.time[shown], utc=True),
                "step": [self.steps[code] for code in self.step[shown]],
                "text": [self.texts[code] for code in self.text[shown]],
            }
        )
        return frame, len(rows)


def read_runs(events: Snapshot) -> list[WorkflowRun]:
    """Build the runs in `events`, in no particular order. `events` may be of one or many runs, with or
    without the events of jobs and steps. Only heartbeats show whether a run without an end is alive: see
    `with_heartbeats`."""
    rows = _Rows(events)
    parts: dict[str, Places] = defaultdict(lambda: defaultdict(dict))
    for subject, (first, last) in rows.each_subject().items():
        tokens = subject.split(".")
        if len(tokens) == 6 and tokens[0] == "workflow":
            _, name, run, job, step, event = tokens
            seen = parts[f"{name}.{run}"][job, step]
            seen[event] = first if event == "started" else last
            seen["first"] = min(seen.get("first", first), first, key=rows.rank)
            seen["last"] = max(seen.get("last", last), last, key=rows.rank)
    return [_run(key, places, rows) for key, places in parts.items()]


def with_heartbeats(runs: Iterable[WorkflowRun], beats: Snapshot) -> list[WorkflowRun]:
    """Merge heartbeats into `runs`, and add the runs known only from heartbeats. Newest first. No run is
    "lost" yet: see `WorkflowRun.at`."""
    rows = _Rows(beats)
    known = {run.key: run for run in runs}
    for subject, (_, last) in rows.each_subject().items():
        tokens = subject.split(".")
        if len(tokens) == 3 and tokens[0] == "workflow-heartbeat":
            key = f"{tokens[1]}.{tokens[2]}"
            beat = _run(key, {("-", "-"): {"heartbeat": last}}, rows)
            known[key] = _joined(known[key], beat) if key in known else beat
    return sorted(known.values(), key=lambda run: (run.started or run.ended or 0, run.key), reverse=True)


def read_log(events: Snapshot) -> Log:
    """Extract the log lines from the events of one run."""
    rows = _Rows(events)
    tokens = [subject.split(".") for subject in rows.subjects]
    is_log = np.array([len(each) == 6 and each[5] == "log" for each in tokens], dtype=bool)
    names = [".".join(each[3:5]) for each in tokens]
    steps = tuple(sorted({name for name, log in zip(names, is_log, strict=True) if log}))
    step_of = np.array([steps.index(n) if n in steps else -1 for n in names], dtype=np.int32)
    texts, labels = rows.texts("text")
    order = rows.once()
    order = order[is_log[rows.subject[order]] & (texts[order] >= 0)] if len(is_log) else order[:0]
    return Log(events.time[order], step_of[rows.subject[order]], texts[order], steps, tuple(labels))


def count_missing(events: Snapshot, beats: Snapshot, key: str, now: int) -> int:
    """The number of missing events of the run `key`: gaps in the numbering of `events`, which must all be of
    that run, and events that a heartbeat counts but that have not arrived. Heartbeats newer than SETTLED at
    `now` (ns since the epoch) are ignored."""
    numbers = _Rows(events).number("n")
    numbers = np.unique(numbers[(numbers >= 1) & (numbers < 2**53)])
    last = numbers[-1] if len(numbers) else 0
    heartbeats = _Rows(beats)
    of_run = np.array([s == f"workflow-heartbeat.{key}" for s in heartbeats.subjects], dtype=bool)
    if len(beats):
        counts = heartbeats.number("n")[of_run[heartbeats.subject] & (beats.received < now - SETTLED)]
        last = max([last, *counts[(counts >= 1) & (counts < 2**53)].tolist()])
    return int(last) - len(numbers)


class _Rows:
    """A snapshot, ordered by the numbers that the program gave its events."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.subject, labels = snapshot.codes("_subject")
        self.subjects = list(labels)
        self._columns: dict[str, tuple[npt.NDArray[Any], list[str] | None]] = {}
        self._numbers = self.number("n")
        self._order = np.lexsort((snapshot.received, snapshot.time, self._numbers))  # NaN comes last
        self._rank = np.empty(len(self._order), dtype=np.int64)
        self._rank[self._order] = np.arange(len(self._order))

    def rank(self, row: int) -> int:
        """The position of a row in that order."""
        return int(self._rank[row])

    def each_subject(self) -> dict[str, tuple[int, int]]:
        """The first and the last row of each subject, in that order."""
        ordered = self.subject[self._order]
        codes, first = np.unique(ordered, return_index=True)
        _, from_end = np.unique(ordered[::-1], return_index=True)
        last = len(ordered) - 1 - from_end
        return {
            self.subjects[code]: (int(self._order[lo]), int(self._order[hi]))
            for code, lo, hi in zip(codes.tolist(), first.tolist(), last.tolist(), strict=True)
            if code >= 0
        }

    def once(self) -> Ints:
        """The rows in that order, without duplicate numbers."""
        numbers = self._numbers[self._order]
        new = np.ones(len(numbers), dtype=bool)
        new[1:] = numbers[1:] != numbers[:-1]  # NaN != NaN, so rows without a number all stay
        return self._order[new]

    def number(self, name: str) -> Floats:
        """A column of any kind as numbers; NaN where a value is not a number."""
        values, labels = self._column(name)
        if labels is None:
            return values
        numbers = pd.to_numeric(pd.Series([*labels, None], dtype=object), errors="coerce")
        found: Floats = numbers.to_numpy(np.float64)[values]
        return found

    def texts(self, name: str) -> tuple[Codes, list[str]]:
        """A column of any kind as codes and labels; code -1 where there is no value."""
        values, labels = self._column(name)
        if labels is not None:
            return values, labels
        positions, found = pd.factorize(values)
        return positions.astype(np.int32), [f"{value:.15g}" for value in found]

    def text_at(self, name: str, *rows: int | None) -> str:
        """The text of a column in the first of `rows` that has a value; "" if none has."""
        values, labels = self._column(name)
        for row in rows:
            if row is None:
                continue
            value = values[row]
            if labels is None:
                if value == value:
                    return f"{value:.15g}"
            elif value >= 0:
                return str(labels[value])
        return ""

    def _column(self, name: str) -> tuple[npt.NDArray[Any], list[str] | None]:
        """A column's numbers and None, or its codes and their labels."""
        found = self._columns.get(name)
        if found is None:
            kind = self.snapshot.columns.get(name)
            if kind == "text":
                found = self.snapshot.codes(name)
            elif kind == "number":
                found = self.snapshot.numbers(name), None
            elif kind == "time":
                texts = np.array(iso_texts(self.snapshot.iso_times(name)), dtype=object)
                positions, labels = pd.factorize(texts)
                found = positions.astype(np.int32), list(labels)
            else:
                found = np.full(len(self.snapshot), np.nan), None
            self._columns[name] = found
        return found

    def number_at(self, name: str, *rows: int | None) -> float | None:
        """The number of a column in the first of `rows` that has one; None if none has."""
        values, labels = self._column(name)
        for row in rows:
            if row is not None:
                value = values[row]
                if labels is not None:
                    value = pd.to_numeric(labels[value], errors="coerce") if value >= 0 else np.nan
                if np.isfinite(value):
                    return float(value)
        return None

    def time_at(self, name: str, *rows: int | None) -> int | None:
        """The ISO 8601 time of a column in the first of `rows` that has one, in ns since the epoch, UTC; None
        if none has."""
        for row in rows:
            text = self.text_at(name, row) if row is not None else ""
            with contextlib.suppress(ValueError, OverflowError):
                if text:
                    return int(pd.to_datetime(text, utc=True, format="ISO8601").as_unit("ns").value)
        return None


def _run(key: str, parts: Places, rows: _Rows) -> WorkflowRun:
    own = parts.get(("-", "-"), {})
    own_rows = [own.get(event) for event in ("started", "failed", "finished", "heartbeat")]
    all_rows = [row for seen in parts.values() for row in seen.values()]
    delay = min(_delay(rows, row) for row in all_rows)
    shift = _shift(delay)
    name = rows.text_at("workflow", *own_rows, *all_rows) or key.partition(".")[0]
    run = (
        WorkflowRun(name, key=key)
        if "heartbeat" in own
        else _part(WorkflowRun(name, key=key), own, rows, shift)
    )
    if "started" not in own and (began := rows.time_at("started", *own_rows)) is not None:
        run = replace(run, started=began + shift)
    beats = [int(rows.snapshot.received[own[event]]) for event in ("started", "heartbeat") if event in own]
    pid = rows.number_at("pid", *own_rows) or 0
    interval = rows.number_at("interval", *own_rows) or 0.0
    unsent = [count for row in all_rows if (count := rows.number_at("unsent", row)) and 0 < count < 2**53]
    return replace(
        run,
        trigger=rows.text_at("trigger", *own_rows),
        program=rows.text_at("program", *own_rows),
        host=rows.text_at("host", *own_rows),
        pid=int(pid) if 0 < pid < 2**53 else None,
        interval=min(interval, LONGEST_INTERVAL) if interval > 0 else USUAL_INTERVAL,
        beat=max(beats, default=None),
        last_seen=max(int(rows.snapshot.received[row]) for row in all_rows),
        delay=delay,
        jobs=_jobs(parts, rows, shift),
        unsent=int(max(unsent, default=0)),
    )


def _joined(run: WorkflowRun, beat: WorkflowRun) -> WorkflowRun:
    """`run`, merged with what its last heartbeat (`beat`) reports."""
    delay = min(run.delay, beat.delay)
    by = _shift(delay) - _shift(run.delay)
    return replace(
        _moved(run, by),
        trigger=run.trigger or beat.trigger,
        program=run.program or beat.program,
        host=run.host or beat.host,
        pid=run.pid or beat.pid,
        interval=beat.interval,
        beat=max(run.beat or 0, beat.beat or 0),
        last_seen=max(run.last_seen or 0, beat.last_seen or 0),
        delay=delay,
        jobs=tuple(
            replace(_moved(job, by), steps=tuple(_moved(step, by) for step in job.steps)) for job in run.jobs
        ),
        unsent=max(run.unsent, beat.unsent),
    )


def _moved(part: P, by: int) -> P:
    """`part` with its times shifted by `by` ns."""
    return replace(
        part,
        started=None if part.started is None else part.started + by,
        ended=None if part.ended is None else part.ended + by,
    )


def _shift(delay: int) -> int:
    """The correction of a program's times in ns, given the smallest delay of its events."""
    return delay if abs(delay) > WRONG_CLOCK else 0


def _delay(rows: _Rows, row: int) -> int:
    """The server's storage time of an event minus the program's time of it, in ns."""
    return int(rows.snapshot.received[row]) - int(rows.snapshot.time[row])


def _jobs(parts: Places, rows: _Rows, shift: int) -> tuple[Job, ...]:
    tokens: dict[str, list[str]] = {}
    places = [place for place in parts if place != ("-", "-")]
    for job, step in sorted(places, key=lambda place: (rows.rank(parts[place]["first"]), place)):
        of_job = tokens.setdefault(job, [])
        if step != "-":
            of_job.append(step)
    jobs = []
    for job, of_job in tokens.items():
        seen = parts.get((job, "-"), {}) if job != "-" else {}
        steps = tuple(_step(job, step, parts[job, step], rows, shift) for step in of_job)
        inside = [row for step in of_job for row in parts[job, step].values()]
        name = "" if job == "-" else rows.text_at("job", *seen.values(), *inside) or job
        if not seen:
            jobs.append(_around(Job(name, token=job, steps=steps)))
        else:
            jobs.append(replace(_part(Job(name, token=job), seen, rows, shift), steps=steps))
    return tuple(jobs)


def _around(job: Job) -> Job:
    """A job without events of its own: times and status come from its steps."""
    started = [step.started for step in job.steps if step.started is not None]
    ended = [step.ended for step in job.steps if step.ended is not None]
    begin, end = min(started, default=None), max(ended, default=None)
    kinds = {step.status for step in job.steps}
    if "running" in kinds:
        return replace(job, started=begin)
    worst: Iterable[Status] = ("failed", "cancelled")
    status: Status = next((kind for kind in worst if kind in kinds), "succeeded")
    seconds = None if begin is None or end is None else (end - begin) / 1e9
    return replace(job, status=status, started=begin, ended=end, seconds=seconds)


def _step(job: str, step: str, seen: dict[str, int], rows: _Rows, shift: int) -> Step:
    name = rows.text_at("step", *seen.values()) or step
    known = _part(Step(name, token=f"{job}.{step}"), seen, rows, shift)
    progress = seen.get("progress")
    return replace(known, done=rows.number_at("done", progress), total=rows.number_at("total", progress))


def _part(part: P, seen: dict[str, int], rows: _Rows, shift: int) -> P:
    """`part`, with status and times from the rows of its events."""
    time = rows.snapshot.time
    ends = [seen[event] for event in ("finished", "failed") if event in seen]
    end = max(ends, key=rows.rank, default=None)
    start = seen.get("started", seen.get("first"))
    started = int(time[start]) + shift if start is not None and start != end else None
    if end is None:
        return replace(part, started=started)
    ended = int(time[end]) + shift
    seconds = rows.number_at("seconds", end)
    if seconds is not None and not 0 <= seconds < 1e9:
        seconds = None
    if "started" not in seen and seconds is not None:
        started = ended - int(seconds * 1e9)
    if seconds is None and started is not None:
        seconds = max(0.0, (ended - started) / 1e9)
    reported = rows.text_at("status", end)
    by_name: Status = "failed" if end == seen.get("failed") else "succeeded"
    status: Status = next((s for s in get_args(Status)[1:4] if s == reported), by_name)
    return replace(
        part, status=status, started=started, ended=ended, seconds=seconds, error=rows.text_at("error", end)
    )
