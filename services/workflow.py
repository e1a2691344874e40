"""Reports what a program does: runs with jobs and steps, their log lines and progress.

    from services.workflow import Workflow

    with Workflow("archive", trigger="schedule") as workflow:
        with workflow.job("METRICS") as job:
            with job.step("load") as step:
                step.log("1,000 rows")
                step.progress(1, 10)

In asyncio, use `async with` for the run; jobs and steps stay `with`, since they never wait. An exception ends
its step, job and run as failed, and is re-raised. A separate thread sends everything and reconnects by
itself: a NATS server that is slow or down neither delays nor breaks the program.

The protocol, for programs in other languages
---------------------------------------------

Publish with JetStream to the stream WORKFLOWS (subjects `workflow.>` and `workflow-heartbeat.>`):

    workflow.{name}.{run}.-.-.{event}            event of a run
    workflow.{name}.{run}.{job}.-.{event}        event of a job
    workflow.{name}.{run}.{job}.{step}.{event}   event of a step; {job} is - for a step without a job
    workflow-heartbeat.{name}.{run}              every few seconds while it runs

Each part is one token of A-Z, a-z, 0-9, _ and -. {run} is unique within a workflow, {job} within a run,
{step} within a job. {event} is one of

    started    it began
    finished   it ended; `status` is "succeeded" or "cancelled"
    failed     it ended with an error; `status` is "failed"
    log        a line of text (steps only)
    progress   how far it is (steps only)

Payloads are JSON objects. All of them have

    n          1, 2, 3, … over all events of a run, so that a reader sees when one is missing
    time       when it happened, ISO 8601 in UTC
    workflow   the full name; events of a job or step also have `job` and `step`
    status     "running", "succeeded", "failed" or "cancelled"; not in log and progress
    unsent     events dropped so far because the queue was full; omitted if none

and in addition

    started, finished,    trigger (who or what started it), started (when, as `time`), program, host, pid,
    failed of a run       interval (seconds between two heartbeats, at most 60)
    finished, failed      seconds (duration, by a monotonic clock)
    failed                error (type and message)
    log                   text
    progress              done, and total if known: numbers in one unit

A heartbeat has everything that the run's `started` event has; its `n` is the number of the last event before
it. A run without an end counts as lost if no heartbeat was stored for three times its interval, by the
server's clock.
"""

import asyncio
import json
import logging
import os
import re
import secrets
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import nats.errors
from nats.js.errors import NoStreamResponseError
from nats.micro import add_service
from nats.micro.request import Request, ServiceError

from nats_client import LookbackError, Settings
from nats_client.connection.connection import Connection, end_tasks
from nats_client.connection.patched_nats import reply_subject

STREAM = {
    "name": "WORKFLOWS",
    "description": "What workflows report: runs, jobs, steps, log lines",
    "subjects": ["workflow.>", "workflow-heartbeat.>"],
    "storage": "file",
    "retention": "limits",
    "discard": "old",
    "max_age": 7 * 24 * 3600 * 10**9,
    "max_bytes": 1024**3,
    "num_replicas": 1,
    "allow_direct": True,
}
INTERVAL = 5.0  # seconds between two heartbeats
GATHER = 0.05  # seconds to collect events
AT_ONCE = 200  # unacknowledged events
ACK_TIMEOUT = 2.0  # seconds
RETRY_AFTER = 1.0  # seconds
GRACE = 5.0  # seconds that the end of a run waits for unsent events, at most
MOST_LINES = 10_000  # queued events above which log lines and progress are dropped
MOST_EVENTS = 20_000  # queued events above which starts and ends are dropped, too
LONGEST_TEXT = 4000  # characters
PROGRESS_EVERY = 0.5  # seconds between two reports of the progress of a step
NONE = "-"
BUSY = "409"  # error code of a start request during a run

log = logging.getLogger(__name__)

Fields = dict[str, Any]


def token(name: str) -> str:
    """`name` as one token of a subject: letters, digits, _ and -, at most 60 characters."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:60].strip("-") or "unnamed"


class _Part:
    """A run, a job or a step: something that starts and ends."""

    def __init__(self, run: "Workflow", job: str, step: str, names: Fields) -> None:
        self._run = run
        self._job = job
        self._step = step
        self._names = names
        self._began = 0.0
        self._taken: set[str] = set()

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._report("started", status="running", **self._facts())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = _outcome(error)
        seconds = round(time.monotonic() - self._began, 3)
        fields = {"status": status, "seconds": seconds, **self._facts()}
        if error is not None and status == "failed":
            fields["error"] = _safe(f"{type(error).__name__}: {error}")
        self._report("failed" if status == "failed" else "finished", **fields)

    def _facts(self) -> Fields:
        return {}

    def _report(self, event: str, **fields: Any) -> None:
        self._run._put(f"{self._job}.{self._step}.{event}", event, self._names | fields)

    def _new_token(self, name: str) -> str:
        """A token for a job or step of this part, different from all earlier ones."""
        with self._run._lock:
            first = wanted = token(name)
            count = 1
            while wanted in self._taken:
                count += 1
                wanted = f"{first}-{count}"
            self._taken.add(wanted)
            return wanted


class Step(_Part):
    """The smallest part of a run, with log lines and progress. Made by `job.step` or `workflow.step`."""

    _reported_at = 0.0
    _unreported: Fields | None = None

    def log(self, text: object) -> None:
        """Report a line of text, cut at 4,000 characters. Anything that looks like a login in a URL is
        removed."""
        self._report("log", text=_safe(str(text)))

    def progress(self, done: float, total: float | None = None) -> None:
        """Report that `done` of `total` is done, in any unit. Call it as often as you like: it is sent at
        most twice a second, and the last value is always sent."""
        self._unreported = {"done": done} if total is None else {"done": done, "total": total}
        if time.monotonic() - self._reported_at >= PROGRESS_EVERY:
            self._report_progress()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._report_progress()
        super().__exit__(kind, error, trace)

    def _report_progress(self) -> None:
        fields, self._unreported = self._unreported, None
        if fields is not None:
            self._reported_at = time.monotonic()
            self._report("progress", **fields)


class _WithSteps(_Part):
    def step(self, name: str) -> Step:
        """A step, to be entered with `with`. A repeated name makes another step."""
        own = self._new_token(name)
        return Step(self._run, self._job, own, self._names | {"step": _safe(name)})


class Job(_WithSteps):
    """A part of a run that has steps. Made by `workflow.job`."""


class Workflow(_WithSteps):
    """One run of a workflow, from entering `with` or `async with` until leaving it.

    Thread-safe. Leaving waits until everything is sent, at most five seconds if NATS is unreachable; `async
    with` does so without blocking the loop.
    """

    def __init__(
        self,
        name: str,
        *,
        trigger: str = "manual",
        url: str | None = None,
        interval: float = INTERVAL,
    ) -> None:
        """`url`: the NATS server, by default NATS_URL; the login comes from NATS_CREDS and so on. `interval`:
        seconds between two heartbeats. Raises SettingsError if the settings cannot be read."""
        self.name = name
        self.trigger = trigger
        self.run = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        """The run's id, unique within the workflow."""
        self.unsent = 0
        """Events dropped because the queue was full."""
        super().__init__(self, NONE, NONE, {"workflow": _safe(name)})
        self._taken.add(NONE)
        self._lock = threading.Lock()
        self._n = 0
        self._origin: Fields = {
            "trigger": _safe(trigger),
            "program": _safe(Path(sys.argv[0]).name or "python"),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "interval": min(interval, 60.0),
        }
        self._sender = _Sender(self, _settings(url, f"workflow {name}"))

    @property
    def key(self) -> str:
        """Workflow and run as they are in subjects: "archive.20261125T130501-8f3a2c"."""
        return f"{token(self.name)}.{self.run}"

    def job(self, name: str) -> Job:
        """A job, to be entered with `with`. A repeated name makes another job."""
        return Job(self, self._new_token(name), NONE, self._names | {"job": _safe(name)})

    def __enter__(self) -> Self:
        self._origin["started"] = _now()
        super().__enter__()
        self._sender.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._sender.end()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        await asyncio.to_thread(self._sender.end)

    def _facts(self) -> Fields:
        return self._origin

    def _put(self, place: str, event: str, fields: Fields) -> None:
        """Queue an event, or count it if the queue is full."""
        room = MOST_LINES if event in ("log", "progress") else MOST_EVENTS
        with self._lock:
            self._n += 1
            if len(self._sender.queue) >= room:
                self.unsent += 1
                return
            payload = {"n": self._n, "time": _now(), **fields}
            if self.unsent:
                payload["unsent"] = self.unsent
            self._sender.queue.append((self._n, f"workflow.{self.key}.{place}", payload))

    def _heartbeat(self, n: int) -> Fields:
        """The payload of a heartbeat after event `n`."""
        unsent = {"unsent": self.unsent} if self.unsent else {}
        return {"n": n, "time": _now(), "status": "running", **self._names, **self._origin, **unsent}


class _Sender(threading.Thread):
    """Publishes a run's events in order, and its heartbeats, in its own thread and event loop."""

    def __init__(self, workflow: Workflow, settings: Settings) -> None:
        super().__init__(name=f"workflow {workflow.name}", daemon=True)
        self.queue: deque[tuple[int, str, Fields]] = deque()
        self._workflow = workflow
        self._settings = settings
        self._last = 0  # number of the last event sent
        self._ending = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._work: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._complained = False

    def end(self) -> None:
        """Send the remaining events, for some seconds at most, and end the thread."""
        self._ending = True
        self.join(GRACE)
        if self.is_alive() and self._loop is not None and self._work is not None:
            left = len(self.queue)
            log.warning(
                "%d events of the run %s could not be sent.%s", left, self._workflow.key, self._reason()
            )
            with suppress(RuntimeError):  # the loop has just ended
                self._loop.call_soon_threadsafe(self._work.cancel)
            self.join(RETRY_AFTER)

    def run(self) -> None:
        """The thread."""
        try:
            asyncio.run(self._main())
        except asyncio.CancelledError:
            pass
        except Exception:
            log.exception("Reporting the run %s has ended", self._workflow.key)

    async def _main(self) -> None:
        self._loop, self._work = asyncio.get_running_loop(), asyncio.current_task()
        self._connection = Connection(self._settings)
        tasks = [asyncio.create_task(self._connection.run()), asyncio.create_task(self._beat())]
        try:
            while self.queue or not self._ending:
                if self.queue:
                    await self._publish()
                else:
                    await asyncio.sleep(GATHER)
        finally:
            await end_tasks(tasks)
            await self._connection.close()

    async def _publish(self) -> None:
        """Send the oldest events. Unacknowledged ones go back to their place in the queue and are sent
        again."""
        assert self._connection is not None
        client = await self._connection.ready()
        js = client.jetstream(timeout=ACK_TIMEOUT)
        batch = [self.queue.popleft() for _ in range(min(AT_ONCE, len(self.queue)))]
        run = self._workflow.key
        answers = await asyncio.gather(
            *(
                js.publish(subject, _json(payload), headers={"Nats-Msg-Id": f"{run}.{n}"})
                for n, subject, payload in batch
            ),
            return_exceptions=True,
        )
        failed = [
            event for event, answer in zip(batch, answers, strict=True) if isinstance(answer, Exception)
        ]
        self._last = max([self._last, *(n for n, _, _ in batch if not failed or n < failed[0][0])])
        if not failed:
            self._complained = False
            return
        self.queue.extendleft(reversed(failed))
        if any(isinstance(answer, NoStreamResponseError) for answer in answers):
            with suppress(LookbackError, TimeoutError):
                await self._connection.api(f"STREAM.CREATE.{STREAM['name']}", STREAM)
                return
        if not self._complained:
            self._complained = True
            why = next(answer for answer in answers if isinstance(answer, Exception))
            log.warning("Events of the run %s cannot be sent; retrying.%s %r", run, self._reason(), why)
        await asyncio.sleep(RETRY_AFTER)

    async def _beat(self) -> None:
        """Publish a heartbeat at once and then every few seconds, while there is a connection."""
        assert self._connection is not None
        workflow = self._workflow
        subject = f"workflow-heartbeat.{workflow.key}"
        while True:
            client = await self._connection.ready()
            if self._last:
                with suppress(Exception):  # the next one may get through
                    await client.publish(subject, _json(workflow._heartbeat(self._last)))
            await asyncio.sleep(workflow._origin["interval"] if self._last else GATHER)

    def _reason(self) -> str:
        error = self._connection.state.error if self._connection else None
        return f" {error} " if error else ""


class UnderWay(LookbackError):  # noqa: N818 - a state that passes
    """The workflow is already running, and only one run at a time is allowed."""


class Service:
    """Starts runs of one workflow in this program, one at a time. Made by `serve`."""

    def __init__(self, name: str, work: "Callable[[Workflow], Awaitable[None]]", url: str | None) -> None:
        self.name = name
        self.current: Workflow | None = None
        """The current run."""
        self._work = work
        self._url = url
        self._task: asyncio.Task[None] | None = None

    def start(self, trigger: str = "manual") -> str:
        """Start a run and return its id without waiting for its end. Raises UnderWay."""
        if self.current is not None:
            raise UnderWay(f"{self.name!r} is already running ({self.current.run}). Wait until it ends.")
        workflow = self.current = Workflow(self.name, trigger=trigger, url=self._url)
        self._task = asyncio.create_task(self._run(workflow), name=f"run {workflow.key}")
        return workflow.run

    async def end(self) -> None:
        """Cancel the current run and wait until it has ended."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, workflow: Workflow) -> None:
        try:
            async with workflow:
                await self._work(workflow)
        except Exception as error:
            log.warning("The run %s failed: %s", workflow.key, _safe(f"{type(error).__name__}: {error}"))
        finally:
            self.current = None

    async def _answer(self, request: Request) -> None:
        if not reply_subject(request):
            return  # not a request, but a reply to a client that uses this subject as its reply subject
        try:
            run = self.start("request")
        except UnderWay as error:
            raise ServiceError(BUSY, str(error)) from None
        key = f"{token(self.name)}.{run}"
        await request.respond(json.dumps({"workflow": self.name, "run": run, "key": key}).encode())

    async def _listen(self, connection: Connection) -> None:
        """Keep the NATS service registered, again after each reconnect."""
        while True:
            client = await connection.ready()
            with suppress(nats.errors.Error, OSError, TimeoutError):
                service = await add_service(
                    client,
                    name=f"workflow-{token(self.name)}",
                    version="1.0.0",
                    description=f"Starts runs of the workflow {self.name}",
                    metadata={"workflow": self.name},
                )
                await service.add_endpoint(
                    name="start",
                    subject=f"workflow-start.{token(self.name)}",
                    handler=self._answer,
                    metadata={"workflow": self.name},
                )
                while client.is_connected:  # noqa: ASYNC110 - nats-py has no event for the end
                    await asyncio.sleep(GATHER)
            await asyncio.sleep(GATHER)


@asynccontextmanager
async def serve(
    name: str, work: Callable[[Workflow], Awaitable[None]], *, url: str | None = None
) -> AsyncIterator[Service]:
    """Let NATS clients start runs of the workflow `name` in this program, until the context ends.

    `work` is a coroutine function that does one run, given the Workflow to report to. This registers a NATS
    service named `workflow-{name}`. A request with any payload to `workflow-start.{name}` starts a run; the
    reply is JSON: workflow, run, and key ("{name}.{run}", as in subjects). During a run the reply is the
    error 409. `service.start(trigger)` starts a run from within, for example by a schedule. Leaving the
    context cancels the current run. `url` as for Workflow. Raises SettingsError.
    https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-32.md
    """
    service = Service(name, work, url)
    connection = Connection(_settings(url, f"workflow {name}"))
    tasks = [asyncio.create_task(connection.run()), asyncio.create_task(service._listen(connection))]
    try:
        yield service
    finally:
        await service.end()
        await end_tasks(tasks)
        await connection.close()


def _settings(url: str | None, name: str) -> Settings:
    env = {**os.environ, "NATS_URL": url} if url else None
    return replace(Settings.load(env=env), name=name)


def _outcome(error: BaseException | None) -> str:
    if isinstance(error, asyncio.CancelledError | KeyboardInterrupt):
        return "cancelled"
    ended_well = isinstance(error, SystemExit) and error.code in (None, 0)
    return "succeeded" if error is None or ended_well else "failed"


def _safe(text: str) -> str:
    """`text` without logins in URLs, shortened, and encodable as JSON."""
    text = re.sub(r"(\w://)[^/\s@]*@", r"\1", text).encode("utf-8", "replace").decode()
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(payload: Fields) -> bytes:
    return json.dumps(payload, default=str).encode()
