"""Hostile addresses: the viewer gets a clear sentence, and nothing reaches NATS.

Slow, because some hundred addresses are opened, and each has to be answered.
"""

import asyncio
import contextlib
import json
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import connect

from tests.nats import NatsServer, running_server
from tests.running import App, app, free_port
from tests.status_line import as_html, find

AT_ONCE = 6
PARAMETERS = {
    "": ["stream", "refresh", "last", "from", "to"],
    "alerts": ["stream", "subjects", "field", "by", "limit"],
    "compare": ["stream", "subjects", "period", "earlier-periods", "field", "dimension"],
    "explore": [
        "stream",
        "subjects",
        "payloads",
        "last",
        "source",
        "time",
        "chart",
        "field",
        "against",
        "by",
        "show",
    ],
    "history": ["last"],
    "services": ["service"],
    "values": ["bucket", "key", "search", "deleted"],
    "workflows": ["run", "step", "workflow", "status"],
}
HOSTILE = [
    ">",
    "s.*.>.x",
    "$JS.API.STREAM.DELETE.S",
    "$SYS.>",
    "../../etc/passwd",
    "S\r\nPUB hacked.x 2\r\nhi\r\n",
    "s.a hacked.x 1\t\0",
    "x" * 5000,
    "s." + "\N{COLLISION SYMBOL}" * 1200,
    "<img/src=x/onerror=hacked()>",
    "'; DROP TABLE history; --",
    "{x}.{x>}.{",
    "nan",
    "-1e999",
    "P9999999999D",
    f"PT{'9' * 5000}S",
]


@pytest.fixture(scope="module")
def monitor() -> int:
    """The port of the nats-server's monitoring endpoint."""
    return free_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, monitor: int) -> Iterator[NatsServer]:
    """A nats-server with a stream, a bucket, runs, and a stream on whose subjects no page may publish."""
    with running_server(tmp_path_factory.mktemp("nats"), f"http: 127.0.0.1:{monitor}") as server:
        for name, subjects in {"S": "s.>", "WORKFLOWS": "workflow.>", "UNTOUCHED": "hacked.>"}.items():
            server.add_stream(name, [subjects])
        server.publish("s.a", *[json.dumps({"n": i, "m": -i, "word": "w"}).encode() for i in range(20)])
        server.run(fill)
        yield server


async def fill(nc: Any) -> None:
    """Make a bucket."""
    bucket = await nc.jetstream().create_key_value(bucket="settings")
    await bucket.put("cpu", b"90")


@pytest.fixture(scope="module")
def running(server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app on that server."""
    with app(tmp_path_factory.mktemp("app"), NATS_URL=server.url) as running:
        yield running


class Visit:
    """The elements of one run of a page, received over the websocket as a browser does."""

    def __init__(self) -> None:
        self.mistakes: list[str] = []
        self.alerts: list[str] = []
        self.status = ""

    def see(self, message: ForwardMsg) -> None:
        """Record one message."""
        if message.WhichOneof("type") != "delta" or message.delta.WhichOneof("type") != "new_element":
            return
        element = message.delta.new_element
        kind = element.WhichOneof("type")
        if kind == "exception":
            self.mistakes.append(f"{element.exception.type}: {element.exception.message}")
        elif kind == "alert":
            self.alerts.append(element.alert.body)
            if "This page failed" in element.alert.body:
                self.mistakes.append(element.alert.body)
        elif kind == "bidi_component":
            with contextlib.suppress(StopIteration):
                self.status = as_html(find([element.bidi_component.json]))


async def visit(url: str, page: str, **query: str) -> Visit:
    """Open a page of the app with a query in its address."""
    back = BackMsg()
    back.rerun_script.page_name = page
    back.rerun_script.query_string = urlencode(query)
    back.rerun_script.context_info.timezone = "UTC"
    back.rerun_script.context_info.url = f"{url}/{page}?{urlencode(query)}"
    seen = Visit()
    stream = url.replace("http", "ws", 1) + "/_stcore/stream"
    async with connect(stream, origin=url, subprotocols=["streamlit"], max_size=None) as socket:  # type: ignore
        await socket.send(back.SerializeToString())
        async with asyncio.timeout(90):
            while True:
                message = ForwardMsg.FromString(await socket.recv(decode=False))
                if message.WhichOneof("type") == "script_finished":
                    return seen
                seen.see(message)


def connections(monitor: int) -> set[int]:
    """The ids (`cid`) of the nats-server's connections."""
    with urllib.request.urlopen(f"http://127.0.0.1:{monitor}/connz", timeout=30) as answer:
        return {each["cid"] for each in json.load(answer)["connections"]}


def test_hostile_addresses(running: App, server: NatsServer, monitor: int) -> None:
    """Whatever the value of any parameter in an address, no page fails and the shared connection stays open.
    No message is published on a hostile subject, and nothing changes in the server."""

    async def state(nc: Any) -> dict[str, int]:
        streams = await nc.jetstream().streams_info()
        return {each.config.name: each.state.last_seq for each in streams}

    async def all_pages() -> dict[tuple[str, str, str], Visit]:
        door, seen = asyncio.Semaphore(AT_ONCE), {}

        async def one(page: str, parameter: str, text: str) -> None:
            async with door:
                seen[page, parameter, text] = await visit(running.url, page, **{parameter: text})

        async with asyncio.TaskGroup() as group:
            for page, parameters in PARAMETERS.items():
                for parameter in parameters:
                    for text in HOSTILE:
                        group.create_task(one(page, parameter, text))
        return seen

    seen = asyncio.run(visit(running.url, "explore"))
    assert "Live" in seen.status
    before, streams = connections(monitor), server.run(state)
    visits = asyncio.run(all_pages())
    assert {where: each.mistakes for where, each in visits.items() if each.mistakes} == {}
    assert connections(monitor) == before
    assert server.run(state) == streams
    assert streams["UNTOUCHED"] == 0
    assert "Traceback" not in running.log.read_text()
    for parameter, text, sentence in (
        ("subjects", "x" * 5000, "too long"),
        ("subjects", "s.*.>.x", "not valid"),
        ("subjects", "S\r\nPUB hacked.x 2\r\nhi\r\n", "not valid"),
        ("last", "P9999999999D", "366 days"),
        ("last", "nan", "not a duration"),
    ):
        alerts = " ".join(visits["explore", parameter, text].alerts).replace("\\", "")
        assert sentence in alerts, (parameter, text, alerts)
        assert len(alerts) < 1000
    for text in ("../../etc/passwd", "x" * 5000):
        alerts = " ".join(visits["values", "bucket", text].alerts).replace("\\", "")
        assert "is not a valid" in alerts, alerts
