"""Services, workflows and streams of the embedded layout, each used from another account."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nats.micro import add_service

from nats_client import Client, Settings
from nats_client.connection.settings import ENVIRONMENT
from nats_client.errors import LoginRefused, RequestRefused
from services.accounts import configuration as accounts
from services.history.databases import open_database
from services.history.service import History, Limits
from services.nats_server.server import Ports
from services.workflow import STREAM, Workflow
from tests.asking import ask, asked, connected, tables
from tests.embedded import login, server_with_accounts, settings
from tests.nats import connect_nats, numbered
from tests.waiting import until

LARGE = "SELECT i, repeat('x', 200) AS text FROM range({}) AS t(i)"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of this module's server."""
    return tmp_path_factory.mktemp("across") / "data"


@pytest.fixture(scope="module")
def ports(data_dir: Path) -> Iterator[Ports]:
    """The ports of that server."""
    with server_with_accounts(data_dir) as ports:
        yield ports


@pytest.fixture
def dashboard(ports: Ports, data_dir: Path) -> Iterator[Client]:
    """The client of the app."""
    with Client(settings(data_dir, "dashboard")) as client:
        yield client


@asynccontextmanager
async def in_app(data_dir: Path) -> AsyncIterator[Any]:
    """A connection of the app."""
    options = login(data_dir, "dashboard")
    async with connected(options.pop("servers"), **options) as client:
        yield client


@asynccontextmanager
async def serving(data_dir: Path, tmp_path: Path, **options: Any) -> AsyncIterator[Any]:
    """The history service in this loop; yields a connection of the app."""
    database = open_database(tmp_path / "history.duckdb", None)
    service = asyncio.create_task(History(database, **options).serve(settings(data_dir, "services")))
    try:
        async with in_app(data_dir) as client:
            await tables(client)
            yield client
    finally:
        service.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await service


def test_answer_in_many_chunks(data_dir: Path, dashboard: Client, tmp_path: Path) -> None:
    """An answer of many chunks is complete, with and without acknowledgements, and `stop` reaches the
    service."""

    async def main() -> None:
        async with serving(data_dir, tmp_path) as client:
            plain = await asked(client, LARGE.format(20_000))
            assert (len(plain.chunks) > 10, len(plain.rows)) == (True, 20_000)
            query = dashboard.query("history.query", {"sql": LARGE.format(100_000)})
            await asyncio.to_thread(query.wait, 30)
            assert (query.state, query.rows, query.error) == ("done", 100_000, None)
            long = dashboard.query("history.query", {"sql": LARGE.format(1_000_000)}, credit=1)
            await asyncio.to_thread(until, lambda: long.rows > 0)
            long.stop()
            await asyncio.to_thread(long.wait, 30)
            assert (long.state, long.error) == ("stopped", None)

    asyncio.run(main())


def test_caller_that_is_gone(data_dir: Path, ports: Ports, tmp_path: Path) -> None:
    """The server does not report to a service that a caller in another account is gone; missing credit shows
    it."""

    async def main() -> None:
        async with serving(
            data_dir, tmp_path, limits=Limits(at_once=1), wait_for_turn=20, credit_timeout=1
        ) as client:
            answer = await ask(client, LARGE.format(900_000), headers={"Lookback-Credit": "5"})
            await answer.next()
            await answer.leave()
            await answer.tell("ack 1")
            assert (await asked(client, "SELECT 1 AS n")).rows == [{"n": 1}]
            async with asyncio.timeout(30):
                error = ""
                while "No acknowledgement" not in error:
                    stats = json.loads((await client.request("$SRV.STATS.history", b"", timeout=10)).data)
                    error = stats["endpoints"][0]["last_error"]

    asyncio.run(main())


def test_services_are_found(data_dir: Path, dashboard: Client) -> None:
    """A search from APP finds all services of SERVICES, including several instances of one name."""

    async def main() -> None:
        clients = [await connect_nats(**login(data_dir, "services")) for _ in range(3)]
        try:
            for number, client in enumerate(clients):
                await add_service(client, name=f"tester-{number // 2}", version="1.0.0")
                await client.flush()
            found = await asyncio.to_thread(dashboard.services)
            assert [one.name for one in found.instances] == ["tester-0", "tester-0", "tester-1"]
            assert found.refused is None
        finally:
            for client in clients:
                await client.close()

    asyncio.run(main())


def test_workflow(data_dir: Path, dashboard: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program with the credentials of SERVICES creates the stream WORKFLOWS in DATA, and each event of its
    run is acknowledged; dashboards read it."""
    found = settings(data_dir, "services")
    for name, key in ENVIRONMENT.items():
        if value := getattr(found, key):
            monkeypatch.setenv(name, str(value))
    with Workflow("across", interval=0.2) as workflow, workflow.step("load") as step:
        step.log("one line")
        feed = dashboard.feed(str(STREAM["name"]), look_back="PT1H")
        until(lambda: any("heartbeat" in subject for subject in feed.frame()["_subject"]))
    assert workflow.unsent == 0
    until(lambda: f"workflow.{workflow.key}.-.-.finished" in set(feed.frame()["_subject"]))
    events = feed.frame()
    events = events[~events["_subject"].str.contains("heartbeat")]
    assert events["n"].tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("user", ["dashboard", "services"])
def test_replay(data_dir: Path, ports: Ports, user: Any) -> None:
    """A replay at full speed is complete and in order, with flow control: the consumer is created only
    once."""
    stream = f"BIG_{user}"

    async def fill() -> None:
        client = await connect_nats(**login(data_dir))
        try:
            js = client.jetstream()
            await js.add_stream(name=stream, subjects=[f"{stream}.>"])
            for number, payload in enumerate(numbered(50_000)):
                await client.publish(f"{stream}.a", payload)
                if number % 5000 == 0:
                    await client.flush()
            await client.flush()
        finally:
            await client.close()

    asyncio.run(fill())
    with Client(settings(data_dir, user)) as client:
        feed = client.feed(stream, look_back="PT1H")
        until(lambda: feed.health.rows == 50_000)
        assert feed.health.restarts == 0
        assert feed.frame()["n"].tolist() == list(range(50_000))


def test_logins_are_not_mixed_up(data_dir: Path, ports: Ports) -> None:
    """The server accepts no connection without credentials, and each user's settings suit its account."""
    with Client(Settings(url=ports.url)) as client:
        until(lambda: isinstance(client.state.error, LoginRefused))
    assert accounts.login(data_dir, "data", ports.url).keys() == {"url", "credentials"}
    assert accounts.login(data_dir, "broker", ports.url)["inbox_prefix"] == "_INBOX_app.broker"


def test_inbox_that_is_not_ones_own(data_dir: Path, ports: Ports) -> None:
    """If the inbox prefix is not the one that the login permits, the error names it."""
    with Client(replace(settings(data_dir, "dashboard"), inbox_prefix="_INBOX_app.other")) as client:
        until(lambda: client.state.status == "connected")
        with pytest.raises(RequestRefused, match=r"to subscribe to '_INBOX_app\.other\.>'"):
            client.request("history.tables", b"")
        feed = client.feed("METRICS", look_back="PT1M")
        until(lambda: "_INBOX_app.other.>" in str(feed.health.why))
