"""docs/accounts.md matches the server's configuration, and its example of a single account works
unchanged."""

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from nats.aio.msg import Msg

from nats_client import Client, Settings
from nats_client.errors import RequestRefused
from services.accounts.layout import as_nsc, as_users, in_words
from services.accounts.roles import load_roles
from tests.nats import binary, connect_nats, connected, numbered
from tests.running import ROOT, free_port
from tests.waiting import until

DOCS = (ROOT / "docs" / "accounts.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text", [in_words(), as_nsc(load_roles()), as_users(load_roles())], ids=["words", "nsc", "users"]
)
def test_docs_have_it(text: str) -> None:
    """The docs have exactly the lists from which the server is configured, with the roles of the table."""
    assert f"```\n{text}\n```\n" in DOCS


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that runs with the docs' example, unchanged."""
    folder = tmp_path_factory.mktemp("single")
    config = next(block for block in DOCS.split("```\n") if block.startswith("jetstream"))
    (folder / "nats-server.conf").write_text(config)
    port = free_port()
    process = subprocess.Popen(
        [binary(), "-c", "nats-server.conf", "-a", "127.0.0.1", "-p", str(port)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"nats://127.0.0.1:{port}"

    async def fill(client: Any) -> None:
        js = client.jetstream()
        for stream in ("METRICS", "PRIVATE"):
            await js.add_stream(name=stream, subjects=[f"{stream.lower()}.>"])
            for payload in numbered(3):
                await js.publish(f"{stream.lower()}.a", payload)
        await (await js.create_key_value(bucket="thresholds", history=10)).put("cpu", b"90")

    try:
        with programs(url) as client:
            until(lambda: client.state.status == "connected")
        as_programs(url, fill)
        yield url
    finally:
        process.kill()
        process.wait()


def programs(url: str) -> Client:
    """A client of the user without limits."""
    return Client(Settings(url=url, user="programs", password="change-programs"))


def as_programs(url: str, work: Callable[[Any], Any]) -> Any:
    """The result of `work`, called with a connection of the user without limits."""
    return connected([url.replace("//", "//programs:change-programs@")], work)


def person(url: str, role: str) -> Client:
    """A client of a role."""
    inbox = f"_INBOX_app.{role}"
    return Client(Settings(url=url, user=role, password=f"change-{role}", inbox_prefix=inbox))


def test_single_account(url: str) -> None:
    """In the example, a viewer may read what the role permits, and nothing else."""
    with person(url, "viewer") as viewer:
        feed = viewer.feed("METRICS", look_back="PT1H")
        until(lambda: len(feed.frame()) == 3)
        thresholds = viewer.values("thresholds")
        until(lambda: "cpu" in thresholds.snapshot())
        private = viewer.feed("PRIVATE", look_back="PT1H")
        until(lambda: private.health.phase == "stopped")
        assert "is not permitted to send requests to '$JS.API.STREAM.INFO.PRIVATE'" in str(private.health.why)
        with pytest.raises(RequestRefused, match=r"requests to '\$KV\.thresholds\.cpu'"):
            viewer.request("$KV.thresholds.cpu", b"1")
    with person(url, "operator") as operator:
        assert {stream.name for stream in operator.streams()} == {"METRICS", "PRIVATE"}
        answer = operator.request("$KV.thresholds.cpu", b"91")
        assert json.loads(answer.data)["stream"] == "KV_thresholds"


def test_what_a_single_account_does_not_stop(url: str) -> None:
    """As documented for a single account, a viewer can direct a reply of the server to any subject, such as a
    service's."""

    async def hears(client: Any) -> bytes:
        received: asyncio.Queue[Msg] = asyncio.Queue()
        await client.subscribe("workflow-start.archive", cb=received.put)
        await client.flush()
        viewer = await connect_nats(url, user="viewer", password="change-viewer")
        await viewer.publish("$JS.API.STREAM.INFO.METRICS", reply="workflow-start.archive")
        await viewer.publish("$JS.API.STREAM.INFO.METRICS", reply="$KV.thresholds.cpu")
        await viewer.close()
        async with asyncio.timeout(30):
            first = await received.get()
        while (await client.jetstream().stream_info("KV_thresholds")).state.last_seq < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        return first.data

    assert b"stream_info_response" in as_programs(url, hears)
