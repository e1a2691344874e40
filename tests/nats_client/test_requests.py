"""Requests to a real service: replies, every way to fail, and shared replies."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nats_client import Client, LookbackError, Settings
from nats_client.errors import (
    ConnectionFailed,
    NoResponders,
    PayloadError,
    RequestFailed,
    RequestRefused,
    RequestTimeout,
    ServiceError,
    SubjectError,
)
from tests.nats import NatsServer, running_server
from tests.service import service
from tests.waiting import until

RIGHTS = """
authorization {{ users: [
  {{ user: admin, password: x }}
  {{ user: me, password: x, permissions: {{ publish: "mine.>", subscribe: "{}" }} }}
] }}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with the service `tester`."""
    with running_server(tmp_path_factory.mktemp("nats")) as server, service(server.url):
        yield server


@pytest.fixture
def client(server: NatsServer) -> Iterator[Client]:
    """A connected client."""
    with Client(Settings(url=server.url)) as client:
        assert client.wait(30)
        yield client


def in_threads(count: int, work: Callable[[], Any]) -> list[Any]:
    """What `work` returns or raises in each of `count` threads at once."""

    def one(_: int) -> Any:
        try:
            return work()
        except LookbackError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_answers(client: Client) -> None:
    """Bytes and texts are sent as they are, everything else as JSON, with headers. The reply is decoded."""
    sent: dict[str, Any] = {"a": [1, None], "b": "ä"}
    assert client.request("tester.echo", sent).value() == sent
    assert client.request("tester.echo", "words").value() == "words"
    assert client.request("tester.echo", b"\xff\x00").data == b"\xff\x00"
    reply = client.request("tester.echo", headers={"X-Trace": "7"})
    assert (reply.data, reply.value(), reply.headers["X-Trace"]) == (b"", "", "7")
    assert reply.subject == "tester.echo"
    assert reply.seconds > 0


@pytest.mark.parametrize(
    ("subject", "payload", "kind", "said"),
    [
        ("tester.nobody", "", NoResponders, "No responders for 'tester.nobody'"),
        ("tester.fail", "", ServiceError, "'tester.fail' replied with an error: the pump is not"),
        ("tester.slow", "3", RequestTimeout, "No reply from 'tester.slow' within 0.5 s"),
        ("tester.*", "", SubjectError, "'tester.*' has a wildcard"),
        ("tester.>", "", SubjectError, "'tester.>' has a wildcard"),
        ("tester echo", "", SubjectError, "'tester echo' is not valid"),
        ("tester.echo\r\nPUB x 0\r\n", "", SubjectError, "all printable"),
        ("", "", SubjectError, "needs a subject"),
        ("x." * 3000 + "x", "", SubjectError, "at most 1000"),
        ("tester.echo", b"x" * 1_048_577, PayloadError, "at most 1,048,576 (max_payload)"),
        ("tester.echo", {1, 2}, PayloadError, "The payload for 'tester.echo' cannot be encoded as JSON"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else None,
)
def test_failures_are_told_apart(
    client: Client, subject: str, payload: Any, kind: type[LookbackError], said: str
) -> None:
    """Each kind of failure raises an error of its own that names the cause, and none closes the
    connection."""
    connected = client.state
    with pytest.raises(kind) as raised:
        client.request(subject, payload, timeout=0.5 if kind is RequestTimeout else 20)
    assert said in str(raised.value)
    assert client.request("tester.echo", "still here", timeout=20).value() == "still here"
    assert client.state == connected


def test_service_error_carries_what_the_service_said(client: Client) -> None:
    """Code and description of a service's error can be read from it."""
    with pytest.raises(ServiceError) as raised:
        client.request("tester.fail")
    assert (raised.value.code, raised.value.description) == ("422", "the pump is not primed")


@pytest.mark.parametrize("headers", [{"a b": "x"}, {"a": "x\r\ny"}, {"": "x"}, {"ä": "x"}, {"a": 1}])
def test_headers_that_cannot_be_sent(client: Client, headers: dict[str, Any]) -> None:
    """A header that could break the protocol is refused, and named."""
    with pytest.raises(PayloadError, match="The header"):
        client.request("tester.echo", headers=headers)


def test_headers_count_as_payload(client: Client) -> None:
    """Headers count against the server's max_payload: a message that is too large with them is refused, and
    the connection stays."""
    connected = client.state
    with pytest.raises(PayloadError, match="headers included"):
        client.request("tester.echo", b"x" * 1_048_570, headers={"a": "b"})
    assert client.state == connected


@pytest.mark.parametrize("timeout", [0, -1, 61, float("nan"), "2"])
def test_wait_is_bounded(client: Client, timeout: Any) -> None:
    """A timeout must be a number of seconds above 0 and at most 60."""
    with pytest.raises(RequestFailed, match="more than 0 and at most 60 seconds"):
        client.request("tester.echo", timeout=timeout)


def test_service_is_killed_at_work(server: NatsServer, client: Client) -> None:
    """If a service dies while it handles a request, the request times out, and later requests have no
    responders."""
    with service(server.url, "mortal") as process, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.request, "mortal.slow", "60", timeout=3)
        until(lambda: stats(server, "mortal")["slow"]["num_requests"] == 1)
        process.kill()
        assert isinstance(waiting.exception(), RequestTimeout)
        with pytest.raises(NoResponders):
            client.request("mortal.echo")


def test_server_is_killed_meanwhile(tmp_path: Path) -> None:
    """A connection lost during a request is reported as such; the next request reports that there is no
    connection. Both do so within their timeout."""
    with (
        running_server(tmp_path) as server,
        Client(Settings(url=server.url)) as client,
        ThreadPoolExecutor(1) as pool,
        service(server.url) as process,
    ):
        assert client.wait(30)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        waiting = pool.submit(client.request, "tester.echo", timeout=3)
        time.sleep(0.5)
        server.kill()
        assert "Whether the request was handled is unknown" in str(waiting.exception())
        with pytest.raises(ConnectionFailed, match="Cannot reach the NATS server"):
            client.request("tester.echo", timeout=0.5)


@pytest.mark.parametrize(
    ("inbox", "subject", "said"),
    [
        ("_INBOX.>", "other.x", "to send requests to 'other.x'"),
        ("none", "mine.x", "to subscribe to '_INBOX.>'"),
    ],
)
def test_not_permitted(tmp_path: Path, inbox: str, subject: str, said: str) -> None:
    """A missing permission is reported at once, whether for the request or for its reply."""
    with (
        running_server(tmp_path, RIGHTS.format(inbox)) as server,
        Client(Settings(url=server.url, user="me", password="x")) as client,
    ):
        assert client.wait(30)
        with pytest.raises(RequestRefused, match="The login is not permitted " + said):
            client.request(subject, timeout=60)


def stats(server: NatsServer, name: str) -> dict[str, dict[str, Any]]:
    """A service's own statistics, by endpoint."""
    answer = server.run(lambda nc: nc.request(f"$SRV.STATS.{name}", timeout=10))
    return {each["name"]: each for each in json.loads(answer.data)["endpoints"]}


def test_answer_is_shared(client: Client) -> None:
    """Equal requests within the interval share one reply; other headers make another request."""
    answers = in_threads(8, lambda: client.shared_request("tester.count", every=60).value())
    assert len(set(answers)) == 1
    assert client.shared_request("tester.count", every=60).value() == answers[0]
    assert client.shared_request("tester.count", every=60, headers={"a": "b"}).value() == answers[0] + 1


def test_failure_is_shared(server: NatsServer, client: Client) -> None:
    """A failure is raised for all equal requests within the interval, and the service gets only the first."""
    before = stats(server, "tester")["fail"]["num_requests"]
    for error in in_threads(8, lambda: client.shared_request("tester.fail", every=60)):
        assert isinstance(error, ServiceError)
        assert error.code == "422"
    assert stats(server, "tester")["fail"]["num_requests"] == before + 1


def test_asked_anew(client: Client) -> None:
    """A reply older than the interval is requested again."""
    first = client.shared_request("tester.count", every=0.2).value()
    time.sleep(0.3)
    assert client.shared_request("tester.count", every=0.2).value() == first + 1


def test_never_two_at_once(client: Client) -> None:
    """Equal requests with every=0 at the same time are all sent, one after the other."""
    assert in_threads(6, lambda: client.shared_request("tester.most", every=0, timeout=20).value()) == [1] * 6


def test_last_answer_stays(tmp_path: Path) -> None:
    """Without a connection, the last reply is still returned; a request with every=0 raises
    ConnectionFailed."""
    with running_server(tmp_path) as server, Client(Settings(url=server.url)) as client:
        with service(server.url):
            assert client.shared_request("tester.count", every=0.1, timeout=20).value() == 1
        server.kill()
        until(lambda: client.state.error is not None)
        time.sleep(0.2)
        assert client.shared_request("tester.count", every=0.1).value() == 1
        with pytest.raises(ConnectionFailed):
            client.shared_request("tester.count", every=0)


def test_answers_are_bounded(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a limited number of replies is kept: those requested last."""
    monkeypatch.setattr("nats_client.requests.requests.MOST_KEPT", 3)
    first = client.shared_request("tester.count", "0", every=60).value()
    for n in range(1, 4):
        client.shared_request("tester.count", str(n), every=60)
    assert client.shared_request("tester.count", "3", every=60).value() == first + 3
    assert client.shared_request("tester.count", "0", every=60).value() == first + 4
