"""Pages recorded live at three moments show the same when they are opened at those moments later.

Slow, because pages have to be live for a while before they can be recorded.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from components.data.live import look_at
from components.nats.workflows import _clock
from nats_client import Client, Settings, workflows
from tests.nats import NatsServer, running_server
from tests.running import ROOT
from tests.shown import charts, contents
from tests.waiting import until

Open = Callable[..., AppTest]
DIFFERS = re.compile(r'[\d.,]+ (ms|s|min|h)\b( \d+ (s|min)\b)?|href="[^"]*"|[^,]* stored')
"""Texts that may differ: durations and ages, which grow while a page is recorded; links, which contain the
clock; and the size of a bucket, which is always the current one."""
PAGES: dict[str, tuple[str, dict[str, str]]] = {
    "overview": ("overview", {}),
    "values": ("values", {"bucket": "settings", "deleted": "1"}),
    "one value": ("values", {"bucket": "settings", "key": "b"}),
    "runs": ("workflows", {}),
    "a run": ("workflows", {"run": "long.1"}),
}
METRICS = {
    "cpu.total": ("percent",),
    "cpu.core0": ("percent",),
    "memory.ram": ("percent", "used_bytes"),
    "network.eth0": ("received_bytes_per_s",),
    "network.lo": ("received_bytes_per_s",),
    "disk.sda": ("write_bytes_per_s",),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with the demo's streams and buckets, all empty."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        for bucket in ("settings", "thresholds"):
            server.run(lambda nc: nc.jetstream().create_key_value(bucket=bucket, history=5))
        server.add_stream("METRICS", ["metrics.>"])
        server.add_stream("WORKFLOWS", ["workflow.>", "workflow-heartbeat.>"])
        yield server


def measure(server: NatsServer, number: int) -> None:
    """Publish several figures of each kind."""

    async def work(nc: Any) -> None:
        for place in range(10):
            for of, fields in METRICS.items():
                content = {name: (number * 37 + place * 11 + len(of)) % 100 for name in fields}
                await nc.jetstream().publish(f"metrics.{of}", json.dumps(content).encode())

    server.run(work)


def keep(server: NatsServer, bucket: str, how: str, key: str, *value: bytes) -> None:
    """Put or delete a key of a bucket; `how` is the method."""

    async def work(nc: Any) -> None:
        await getattr(await nc.jetstream().key_value(bucket), how)(key, *value)

    server.run(work)


class ReportingProgram:
    """A program that reports a run of a workflow."""

    def __init__(self, server: NatsServer, name: str, interval: float) -> None:
        self._server = server
        self._name = name
        self._count = 0
        self._own = {"workflow": name, "trigger": "by hand", "started": now(), "interval": interval}

    def say(self, event: str, of: str = "-.-", **more: Any) -> None:
        """Publish an event of the run, or of a step of a job."""
        self._count += 1
        names = {} if of == "-.-" else dict(zip(("job", "step"), of.split("."), strict=True))
        content = {**self._own, "n": self._count, "time": now(), **names, **more}
        self._server.publish(f"workflow.{self._name}.1.{of}.{event}", json.dumps(content).encode())

    def beat(self) -> None:
        """Publish a heartbeat."""
        content = {**self._own, "n": self._count, "time": now()}
        self._server.publish(f"workflow-heartbeat.{self._name}.1", json.dumps(content).encode())


def now(more: float = 0) -> str:
    """The time, ISO 8601, UTC."""
    return pd.Timestamp(time.time() + more, unit="s", tz="UTC").isoformat(timespec="milliseconds")


def happen(server: NatsServer) -> Iterator[None]:
    """Change streams and buckets before each of three moments."""
    long, short = ReportingProgram(server, "long", 60), ReportingProgram(server, "short", 1)
    long.say("started")
    long.say("started", "fetch.load")
    long.say("log", "fetch.load", text="three of ten")
    long.say("progress", "fetch.load", done=3, total=10)
    long.beat()
    short.say("started")
    short.beat()
    keep(server, "settings", "put", "a", b"1")
    keep(server, "settings", "put", "b", b'{"x": 2}')
    keep(server, "thresholds", "put", "cpu", b"40")
    measure(server, 1)
    time.sleep(4)  # the run of "short" misses its heartbeats
    yield

    long.say("finished", "fetch.load", status="succeeded", seconds=3.5)
    long.say("started", "fetch.store")
    long.beat()
    short.beat()
    short.say("finished", status="succeeded", seconds=5.0)
    keep(server, "settings", "put", "a", b"3")
    keep(server, "settings", "delete", "b")
    keep(server, "settings", "put", "c", b"text")
    keep(server, "thresholds", "put", "cpu", b"70")
    keep(server, "thresholds", "put", "memory", b"50")
    measure(server, 2)
    yield

    long.say("failed", "fetch.store", status="failed", error="OSError: no disk", seconds=2.0)
    long.say("failed", status="failed", error="OSError: no disk", seconds=9.0)
    keep(server, "settings", "put", "b", b"again")
    keep(server, "settings", "delete", "c")
    keep(server, "thresholds", "delete", "cpu")
    measure(server, 3)
    yield


def shown(page: AppTest) -> dict[str, Any]:
    """What the page shows, without the texts of DIFFERS and ages."""
    assert not page.exception
    drawn, drawn_html = charts(page), [each.proto.body for each in page.get("html")]
    return {
        "cells": {title: chart.cells for title, chart in drawn.items()},
        "marks": {title: chart.config.get("marks") for title, chart in drawn.items()},
        "lines": {title: chart.config.get("thresholds") for title, chart in drawn.items()},
        "metrics": [
            [content.get(name) for name in ("text", "exact")] for content in contents(page, "metric")
        ],
        "tables": [
            each.value.drop(columns="age", errors="ignore").to_dict("list") for each in page.dataframe
        ],
        "html": [DIFFERS.sub("", html) for html in drawn_html if "<style" not in html],
        "code": [each.value for each in page.code],
        "said": [DIFFERS.sub("", each.value) for each in [*page.error, *page.warning, *page.caption]],
    }


def recorded(open_now: Callable[[], AppTest]) -> dict[str, Any]:
    """What a page shows when it is opened, once two runs show the same."""
    seen: list[dict[str, Any]] = []
    until(lambda: seen.append(shown(open_now())) or seen[-1:] == seen[-2:-1])
    return seen[-1]


def test_each_moment(open_page: Open, server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages Overview, Key-value and Workflows at three moments show what they showed live at those
    moments, in any order."""
    monkeypatch.setattr("components.launcher.embedded", {"dashboard": {"url": server.url}})
    monkeypatch.delenv("NATS_URL")  # as the demo

    def opened(name: str, **when: str) -> Callable[[], AppTest]:
        file, query = PAGES[name]
        return lambda: open_page(ROOT / "pages" / f"{file}.py", blocked=True, **query, **when)

    moments: list[tuple[str, dict[str, Any]]] = []
    for _ in happen(server):
        time.sleep(0.01)  # an address has milliseconds
        began = now()
        live = {name: recorded(opened(name)) for name in PAGES}
        moments.append((began, live))
    time.sleep(1)
    for name in PAGES:
        for number in (1, 2, 0):
            end, live = moments[number]
            assert recorded(opened(name, to=end)) == live[name], (name, number)


def test_a_stretch_that_was_read_twice(server: NatsServer) -> None:
    """At a stretch, a run without heartbeats is lost even if the feed was restarted; live, its program may be
    reconnecting, so it is still running."""
    run = ReportingProgram(server, "gone", 1)
    run.say("started")
    run.beat()
    with Client(Settings(url=server.url)) as client:
        time.sleep(4)
        for end, status in ((pd.Timestamp(now()), "lost"), (None, "running")):
            feed = client.feed(workflows.STREAM, workflows.HEARTBEATS, look_back="PT5M", time="time", end=end)
            assert feed.wait(30)
            view = look_at(feed, feed.look_back, steady=False)
            view.health = replace(view.health, restarts=1, since=time.time())
            found = workflows.with_heartbeats([], view.snapshot)
            assert [each.at(*_clock(view)).status for each in found if each.name == "gone"] == [status]
