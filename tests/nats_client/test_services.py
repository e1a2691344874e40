"""Service discovery: real services, services that disappear, and services with invalid replies."""

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nats_client import Client, Endpoint, Services, Settings
from nats_client.errors import LookbackError, RequestRefused
from nats_client.requests.discovery_answers import read_answer
from tests.answers import BAD, answer, answering, endpoint
from tests.nats import NatsServer, running_server
from tests.service import service
from tests.waiting import until

RIGHTS = """
authorization {{ users: [
  {{ user: admin, password: x }}
  {{ user: me, password: x, permissions: {{ publish: [{}], subscribe: "{}" }} }}
] }}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server."""
    with running_server(tmp_path) as server:
        yield server


@pytest.fixture
def client(server: NatsServer) -> Iterator[Client]:
    """A connected client."""
    with Client(Settings(url=server.url)) as client:
        assert client.wait(30)
        yield client


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One discovery is shared for a moment only, so that tests see changes soon."""
    monkeypatch.setattr("nats_client.requests.discovery.AGAIN_AFTER", 0.1)
    monkeypatch.setattr("nats_client.requests.discovery.TOO_OLD", 0.2)


def endpoints(found: Services, name: str = "tester") -> dict[str, Endpoint]:
    """The endpoints of a service's first instance, by name."""
    first = next(each for each in found.instances if each.name == name)
    return {each.name: each for each in first.endpoints}


def test_nobody_there(client: Client) -> None:
    """Without a service, none is listed."""
    found = client.services()
    assert (found.names, found.malformed, found.refused) == ([], 0, None)
    assert found.frame().empty
    assert found.over_time("tester").empty


@pytest.mark.usefixtures("quick")
def test_figures(server: NatsServer, client: Client) -> None:
    """Each instance is listed with its description, its statistics and their rates."""
    with service(server.url), service(server.url):
        until(lambda: len(client.services().instances) == 2)

        async def traffic(nc: Any) -> None:
            for _ in range(50):
                await nc.request("tester.echo", b"x", timeout=10)
                await nc.request("tester.fail", b"x", timeout=10)
                await asyncio.sleep(0.01)

        server.run(traffic)
        until(lambda: client.services().frame()["requests"].sum() == 100)
        found = client.services()
        instance = found.instances[0]
        assert (instance.name, instance.version, instance.gone) == ("tester", "1.0.0", False)
        assert (instance.description, instance.metadata) == ("Does as it is told", {"site": "north"})
        assert instance.started is not None
        assert str(instance.started.tz) == "UTC"
        fail = endpoints(found)["fail"]
        assert (fail.subject, fail.queue_group, fail.metadata) == ("tester.fail", "q", {"kind": "fail"})
        table: Any = found.frame().groupby("endpoint").sum(numeric_only=True)
        assert table.loc["echo", ["requests", "errors"]].tolist() == [50, 0]
        assert table.loc["fail", ["requests", "errors"]].tolist() == [50, 50]
        assert table.loc["fail", "errors_per_s"] == pytest.approx(table.loc["fail", "requests_per_s"])
        assert table.loc["fail", "errors_per_s"] > 0
        assert "422" in "".join(found.frame()["last_error"])
        assert found.frame()["average"].max() > 0
        over_time = found.over_time("tester")
        assert over_time["requests_per_s"].max() > over_time["errors_per_s"].max() > 0
        assert over_time["latency"].max() > 0
        assert over_time.index.is_monotonic_increasing


@pytest.mark.usefixtures("quick")
def test_killed_service_is_gone_then_dropped(
    server: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service killed with -9 is listed as gone, with the time at which it was last seen, and is dropped
    after a while."""
    with service(server.url, "lasting"), service(server.url, "mortal") as process:
        until(lambda: client.services().names == ["lasting", "mortal"])
        process.kill()
        until(lambda: client.services().instances[-1].gone)
        lasting, mortal = client.services().instances
        assert (mortal.name, mortal.gone, lasting.gone) == ("mortal", True, False)
        assert mortal.seen < lasting.seen
        assert endpoints(client.services(), "mortal")["echo"].requests_per_s is None
        monkeypatch.setattr("nats_client.requests.discovery.GONE_FOR", 0)
        until(lambda: client.services().names == ["lasting"])


@pytest.mark.usefixtures("quick")
def test_server_comes_back(server: NatsServer, client: Client) -> None:
    """While the server is down, the last result stays; once it is back, the services are found again."""
    with service(server.url) as first:
        until(lambda: client.services().names == ["tester"])
        server.kill()
        until(lambda: client.state.error is not None)
        assert [each.gone for each in client.services().instances] == [False]
        first.kill()
        server.start()
        with service(server.url):
            until(lambda: {each.gone for each in client.services().instances} == {False, True})


@pytest.mark.usefixtures("quick")
def test_lies_are_left_out(server: NatsServer, client: Client) -> None:
    """Replies that violate the service protocol are counted, with samples, and hide no other service."""
    with service(server.url), answering(server.url, BAD):
        until(lambda: client.services().malformed == sum(map(len, BAD.values())))
        found = client.services()
        assert found.names == ["tester"]
        assert found.samples[0].subject == "$SRV.PING"
        assert all(each.reason for each in found.samples)


@pytest.mark.usefixtures("quick")
def test_names_are_data(server: NatsServer, client: Client) -> None:
    """A service may choose any name and text; each is kept to the letter."""
    name = "<img src=x onerror=alert(1)> **b** \n$SRV"
    odd = {"name": name, "metadata": {"<b>": "`x`"}, "started": "0001-01-01T00:00:00Z"}
    with answering(server.url, {verb: [answer(verb, **odd)] for verb in BAD}):
        until(lambda: client.services().names == [name])
        (instance,) = client.services().instances
        assert (instance.metadata, instance.started) == ({"<b>": "`x`"}, None)


@pytest.mark.usefixtures("quick")
def test_flood_is_bounded(server: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most a fixed number of instances is listed; the others are counted."""
    monkeypatch.setattr("nats_client.requests.discovery.MOST_INSTANCES", 10)
    crowd = [answer("PING", id=f"I{n}") for n in range(50)]
    with answering(server.url, {"PING": crowd}):
        until(lambda: len(client.services().instances) == 10)
        assert client.services().malformed == 40


@pytest.mark.parametrize(
    ("publish", "inbox", "names", "said"),
    [
        ('"other"', "_INBOX.>", [], "requests to '$SRV.PING'"),
        ('"$SRV.PING", "$SRV.INFO"', "_INBOX.>", ["tester"], "requests to '$SRV.STATS'"),
    ],
    ids=["nothing", "no figures"],
)
def test_not_permitted(tmp_path: Path, publish: str, inbox: str, names: list[str], said: str) -> None:
    """A request that the login does not permit is reported, and the results of permitted ones are shown."""
    with running_server(tmp_path, RIGHTS.format(publish, inbox)) as server:
        url = server.url.replace("//", "//admin:x@")
        with service(url), Client(Settings(url=server.url, user="me", password="x")) as client:
            assert client.wait(30)
            found = client.services()
            assert found.names == names
            assert f"The login is not permitted to send {said}" in str(found.refused)
            assert found.frame()["requests"].isna().all()


def test_inbox_not_permitted(tmp_path: Path) -> None:
    """A login that may not subscribe to its inbox gets an error that says so."""
    with (
        running_server(tmp_path, RIGHTS.format('"$SRV.>"', "none")) as server,
        Client(Settings(url=server.url, user="me", password="x")) as client,
    ):
        assert client.wait(30)
        with pytest.raises(RequestRefused, match=r"to subscribe to '_INBOX\.>'"):
            client.services()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50)
@given(
    verb=st.sampled_from(sorted(BAD)),
    part=st.sampled_from(
        ["type", "name", "id", "version", "metadata", "description", "started", "endpoints"]
    ),
    inner=st.sampled_from(["name", "subject", "queue_group", "metadata", "num_requests", "last_error"]),
    value=JSON,
)
def test_any_answer_is_read_or_refused(verb: str, part: str, inner: str, value: Any) -> None:
    """Any reply is either read with the right types or refused with a ValueError."""
    for odd in (answer(verb, **{part: value}), answer(verb, endpoints=[endpoint(**{inner: value})])):
        try:
            read = read_answer(verb, orjson.dumps(odd))
        except ValueError:
            continue
        assert all(isinstance(read[name], str) for name in ("name", "id", "version"))
        for each in read.get("endpoints", []):
            assert isinstance(each["subject"], str)
            assert math.isfinite(each.get("processing_time", 0))


def test_look_that_fails(
    server: NatsServer, client: Client, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of our own in service discovery is reported, not hidden behind the previous result."""

    def failure() -> str:
        try:
            client.services()
        except LookbackError as error:
            return str(error)
        return ""

    with service(server.url):
        until(lambda: client.services().names == ["tester"])
        with monkeypatch.context() as broken:
            broken.setattr("nats_client.requests.discovery._order", lambda _: 1 // 0)
            until(lambda: "Service discovery failed: ZeroDivisionError" in failure())
        until(lambda: not failure())
        assert client.services().names == ["tester"]
