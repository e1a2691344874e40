"""Reports of programs as workflows, against a real nats-server."""

import asyncio
import json
import logging
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nats_client import Client, workflows
from nats_client.workflows import (
    HEARTBEATS,
    HEARTBEATS_WITHIN,
    KEPT,
    WorkflowRun,
    read_log,
    read_runs,
    with_heartbeats,
)
from services import workflow as library
from services.workflow import UnderWay, Workflow, serve, token
from tests.nats import NatsServer, running_server
from tests.waiting import until

ROOT = Path(__file__).parent.parent.parent
PROGRAM = Path(__file__).with_name("hashing.py")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """An empty nats-server."""
    with running_server(tmp_path / "nats") as server:
        yield server


def stored(server: NatsServer) -> list[tuple[str, dict[str, Any]]]:
    """The stream's subjects and payloads, in the stream's order."""

    async def work(nc: Any) -> list[tuple[str, dict[str, Any]]]:
        js = nc.jetstream()
        state = (await js.stream_info("WORKFLOWS")).state
        messages = [await js.get_msg("WORKFLOWS", seq) for seq in range(1, state.last_seq + 1)]
        return [(message.subject, json.loads(message.data)) for message in messages]

    found: list[tuple[str, dict[str, Any]]] = server.run(work)
    return found


def all_runs(client: Client, listening: int = 0) -> list[WorkflowRun]:
    """The runs, newest first, as a page would show them now."""
    events = client.feed("WORKFLOWS", "workflow.>", look_back=KEPT, time="time")
    beats = client.feed("WORKFLOWS", HEARTBEATS, look_back=HEARTBEATS_WITHIN, time="time")
    assert events.wait(30)
    assert beats.wait(30)
    return [
        run.at(beats.now(), listening)
        for run in with_heartbeats(read_runs(events.snapshot()), beats.snapshot())
    ]


def the_run(client: Client, listening: int = 0) -> WorkflowRun | None:
    """The newest run; None if there is none."""
    return next(iter(all_runs(client, listening)), None)


def test_events(server: NatsServer) -> None:
    """All events arrive in order, under the documented subjects, numbered from 1 without a gap."""
    with Workflow("my archive", trigger="schedule", url=server.url) as workflow:
        with workflow.job("A.B") as job, job.step("load") as step:
            step.log("first")
            step.progress(1, 2)
            step.progress(2, 2)
        with workflow.step("tidy > up"):
            time.sleep(0.3)  # long enough for a heartbeat
    events = [event for event in stored(server) if event[0].startswith("workflow.")]
    run = f"workflow.my-archive.{workflow.run}"
    assert [subject.removeprefix(run) for subject, _ in events] == [
        ".-.-.started",
        ".A-B.-.started",
        ".A-B.load.started",
        ".A-B.load.log",
        ".A-B.load.progress",
        ".A-B.load.progress",
        ".A-B.load.finished",
        ".A-B.-.finished",
        ".-.tidy-up.started",
        ".-.tidy-up.finished",
        ".-.-.finished",
    ]
    assert [payload["n"] for _, payload in events] == list(range(1, 12))
    assert {payload["workflow"] for _, payload in events} == {"my archive"}
    assert events[0][1]["trigger"] == "schedule"
    assert events[6][1] | {"job": "A.B", "step": "load", "status": "succeeded"} == events[6][1]
    assert events[8][1]["step"] == "tidy > up"
    beats = [payload for subject, payload in stored(server) if subject.startswith("workflow-heartbeat.")]
    assert beats
    assert beats[0]["started"] == events[0][1]["started"]


def test_same_name_twice(server: NatsServer, client: Client) -> None:
    """Steps and jobs of the same name are distinguished, and keep their name."""
    with Workflow("w", url=server.url) as workflow:
        for _ in range(2):
            with workflow.job("j") as job:
                for name in ("a b", "a.b", "a b"):
                    with job.step(name):
                        pass
    run = the_run(client)
    assert run is not None
    assert [job.token for job in run.jobs] == ["j", "j-2"]
    assert [step.token for step in run.jobs[1].steps] == ["j-2.a-b", "j-2.a-b-2", "j-2.a-b-3"]
    assert [step.name for step in run.jobs[1].steps] == ["a b", "a.b", "a b"]


@pytest.mark.parametrize("name", ["", "  ", "...", "a b", "größe", "*>", "x" * 200, "\n"])
def test_tokens(name: str) -> None:
    """Any name becomes a token that NATS permits in a subject and in a service's name."""
    made = token(name)
    assert 0 < len(made) <= 60
    assert all(c.isascii() and (c.isalnum() or c in "_-") for c in made)


def test_exception(server: NatsServer, client: Client) -> None:
    """An exception ends step, job and run as failed, with type and message but no password, and is
    re-raised."""

    def work() -> None:
        with Workflow("w", url=server.url) as workflow, workflow.job("j") as job, job.step("s") as step:
            step.log("asking postgresql://me:secret-word@db/x")
            raise ValueError("no luck with postgresql://me:secret-word@db/x")

    with pytest.raises(ValueError, match="no luck"):
        work()
    run = the_run(client)
    assert run is not None
    assert run.jobs
    parts = [run, run.jobs[0], run.jobs[0].steps[0]]
    assert [part.status for part in parts] == ["failed"] * 3
    assert {part.error for part in parts} == {"ValueError: no luck with postgresql://db/x"}
    assert "secret-word" not in str(stored(server))


def test_interrupted(server: NatsServer, client: Client) -> None:
    """A cancelled run in asyncio has the status cancelled, neither failed nor succeeded."""

    async def work() -> None:
        async with Workflow("w", url=server.url) as workflow:
            with workflow.step("s"):
                await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    run = the_run(client)
    assert run is not None
    assert (run.status, run.steps[0].status) == ("cancelled", "cancelled")


def test_loop_is_never_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """In asyncio reporting never blocks the loop, even without a NATS server and with many lines."""
    monkeypatch.setattr(library, "GRACE", 2.0)
    slowest = 0.0

    async def tick() -> None:
        nonlocal slowest
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            slowest = max(slowest, time.monotonic() - began - 0.01)

    async def main() -> float:
        ticking = asyncio.create_task(tick())
        async with Workflow("w", url="nats://127.0.0.1:9") as workflow:
            with workflow.step("s") as step:
                for i in range(2000):
                    step.log(str(i))
                    await asyncio.sleep(0)
            began = time.monotonic()
        ticking.cancel()
        return time.monotonic() - began

    took = asyncio.run(main())
    assert took > 1.9  # it waited for unsent events
    assert slowest < took / 2


def test_server_away(server: NatsServer, client: Client) -> None:
    """While the server is down the program continues; once it is back, each report arrives once."""
    with Workflow("w", url=server.url, interval=0.5) as workflow, workflow.step("s") as step:
        step.log("before")
        until(lambda: the_run(client) is not None)
        server.kill()
        for i in range(500):
            step.log(f"meanwhile {i}")
        time.sleep(1)
        server.start()
        step.log("after")
    until(lambda: (run := the_run(client)) is not None and run.status == "succeeded")
    events = client.feed("WORKFLOWS", "workflow.>", look_back=KEPT, time="time").snapshot()
    lines, count = read_log(events).lines(last=1000)
    assert count == 502
    assert lines["text"].tolist() == ["before", *(f"meanwhile {i}" for i in range(500)), "after"]


def test_what_is_given_up_is_told(
    server: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full queue drops log lines, never starts and ends; their number is reported and shown."""
    monkeypatch.setattr(library, "MOST_LINES", 100)
    server.kill()
    with Workflow("w", url=server.url) as workflow, workflow.step("s") as step:
        for i in range(300):
            step.log(str(i))
        server.start()
    assert workflow.unsent == 300 - 98
    until(lambda: (run := the_run(client)) is not None and run.status == "succeeded")
    run = the_run(client)
    assert run is not None
    assert run.unsent == 202
    events = client.feed("WORKFLOWS", "workflow.>", look_back=KEPT, time="time")
    beats = client.feed("WORKFLOWS", HEARTBEATS, look_back=HEARTBEATS_WITHIN, time="time")
    assert workflows.count_missing(events.snapshot(), beats.snapshot(), run.key, events.now()) == 202


def test_no_server_at_all(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a NATS server the program does its work, ends soon after, and logs how many events were not
    sent."""
    monkeypatch.setattr(library, "GRACE", 1.0)
    with caplog.at_level(logging.WARNING), Workflow("w", url="nats://127.0.0.1:9") as workflow:
        threads = [threading.Thread(target=workflow.step(str(i)).log, args=("x",)) for i in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert "22 events of the run" in caplog.text
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("workflow")]


def test_killed(server: NatsServer, client: Client) -> None:
    """A killed program leaves a lost run with lost steps."""
    program = subprocess.Popen(
        [sys.executable, str(PROGRAM), server.url, "--slowly"], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        until(lambda: (run := the_run(client)) is not None and bool(run.steps))
        run = the_run(client)
        assert run is not None
        assert run.status == "running"
        assert run.pid == program.pid
    finally:
        program.send_signal(signal.SIGKILL)
        program.wait()
    until(lambda: (run := the_run(client)) is not None and run.status == "lost")
    run = the_run(client)
    assert run is not None
    assert run.steps[-1].status == run.jobs[-1].status == "lost"
    since = client.feed("WORKFLOWS", HEARTBEATS, look_back=HEARTBEATS_WITHIN, time="time").now()
    again = the_run(client, listening=since)
    assert again is not None
    assert again.status == "running"  # before that moment, heartbeats could not be received


def test_real_program(server: NatsServer, client: Client) -> None:
    """A real program that reports: each file of this project hashed, one job per folder."""
    subprocess.run([sys.executable, str(PROGRAM), server.url], cwd=ROOT, check=True, capture_output=True)
    run = the_run(client)
    assert run is not None
    assert run.status == "succeeded"
    assert {"services", "nats_client"} <= {job.name for job in run.jobs}
    events = client.feed("WORKFLOWS", "workflow.>", look_back=KEPT, time="time").snapshot()
    lines, _ = read_log(events).lines(search="WORKFLOW.PY")
    assert any(line.endswith("services/workflow.py") for line in lines["text"])


def test_started_by_request(server: NatsServer, client: Client) -> None:
    """A request starts a run of the program; a second one during it gets the error 409. A restart of the
    server ends neither the service nor the run."""
    go = asyncio.Event()

    async def work(workflow: Workflow) -> None:
        with workflow.step("wait"):
            await go.wait()

    async def ask(nc: Any) -> Any:
        return await nc.request("workflow-start.w-1", b"", timeout=5)

    async def main() -> None:
        async with serve("w 1", work, url=server.url) as service:

            async def answer() -> Any:
                for _ in range(100):
                    try:
                        return await asyncio.to_thread(server.run, ask)
                    except Exception:
                        await asyncio.sleep(0.1)
                raise AssertionError("nobody answers")

            first = json.loads((await answer()).data)
            assert first["workflow"] == "w 1"
            assert service.current is not None
            assert first["key"] == service.current.key
            second = await answer()
            assert second.headers["Nats-Service-Error-Code"] == "409"
            assert first["run"] in second.headers["Nats-Service-Error"]
            with pytest.raises(UnderWay):
                service.start("schedule")
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            assert (await answer()).headers["Nats-Service-Error-Code"] == "409"
            go.set()
            await asyncio.to_thread(until, lambda: service.current is None)
            assert (await answer()).headers is None

    asyncio.run(main())
    until(lambda: (run := the_run(client)) is not None and run.status == "succeeded")
    run = the_run(client)
    assert run is not None
    assert (run.name, run.trigger) == ("w 1", "request")


def test_one_contract() -> None:
    """Library and reader name the same stream, and the reader looks back as far as the stream keeps."""
    assert library.STREAM["name"] == workflows.STREAM
    assert library.STREAM["max_age"] == 7 * 86400 * 10**9
    assert KEPT == "P7D"
    assert library.INTERVAL == workflows.USUAL_INTERVAL


def test_documented_programs(server: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples in docs/workflows.md work unchanged: the program, and the messages for other languages."""
    monkeypatch.setenv("NATS_URL", server.url)
    text = (ROOT / "docs" / "workflows.md").read_text()
    program = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "with" in block)
    exec(program, {"rows": [1, 2, 3], "load": lambda row: None})
    run = the_run(client)
    assert run is not None
    assert (run.name, run.status, run.steps[0].progress) == ("import", "succeeded", 1.0)
    for subject, payload in re.findall(r"(?m)^(workflow\S+) +(\{.*\})$", text):
        assert json.loads(payload)["workflow"] == "backup"
        server.publish(subject, payload.encode())
    until(lambda: ("backup", "failed") in [(run.name, run.status) for run in all_runs(client)])
    (backup,) = [run for run in all_runs(client) if run.name == "backup"]
    assert [(step.name, step.status, step.progress) for step in backup.steps] == [("copy", "failed", 0.4)]
    assert (backup.trigger, backup.host, backup.seconds) == ("cron", "db1", 4.2)
