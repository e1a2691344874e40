"""Query results in chunks, whatever the service does."""

import asyncio
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from nats_client import Client, Query, Settings
from nats_client.errors import (
    AnswerBroken,
    AnswerTooLarge,
    ClosedError,
    LookbackError,
    NoResponders,
    PayloadError,
    RequestFailed,
    RequestRefused,
    RequestTimeout,
    ServiceError,
    SettingsError,
    SubjectError,
)
from tests.chunked import ARROW, JSON, SUBJECT, Answer, Asked, arrow, endless, endless_service, service
from tests.nats import NatsServer, running_server
from tests.waiting import until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server for all tests of this module."""
    with running_server(tmp_path_factory.mktemp("nats"), "# no jetstream") as server:
        yield server


@pytest.fixture(scope="module")
def client(server: NatsServer) -> Iterator[Client]:
    """A client of `server` for all tests of this module."""
    with Client(Settings(url=server.url)) as client:
        yield client


@pytest.fixture(autouse=True)
def no_thread_left() -> None:
    """Replace the check for threads after each test, because this module's client outlives a test."""


def ended(client: Client, url: str, answer: Answer, **options: Any) -> Query:
    """A query that has ended, after `answer` replied to it."""
    with service(url, answer):
        query = client.query(SUBJECT, {"sql": "SELECT 1"}, **options)
        assert query.wait(30)
    return query


def flowing(client: Client, **options: Any) -> Query:
    """A query that has received its first rows."""
    query = client.query(SUBJECT, b"", **options)
    until(lambda: query.rows or query.error)
    assert query.error is None
    return query


def test_arrow(server: NatsServer, client: Client) -> None:
    """Arrow chunks are joined and keep their types. The request's headers name the accepted format and the
    credit."""
    times = pd.date_range("2026-01-01", periods=6, freq="h", tz="UTC")
    whole = pa.table({"time": times, "host": ["a", "b"] * 3, "value": np.arange(6) / 2, "n": range(6)})

    async def answer(asked: Asked) -> None:
        assert json.loads(asked.payload) == {"sql": "SELECT 1"}
        assert (asked.headers["Accept"], asked.headers["Lookback-Credit"]) == (ARROW, "3")
        await asked.table(whole.slice(0, 4), Lookback_Rows="6")
        await asked.table(whole.slice(4))
        await asked.end()

    query = ended(client, server.url, answer, credit=3)
    assert (query.state, query.error, query.rows, query.total) == ("done", None, 6, 6)
    assert query.progress == 1
    assert query.bytes == len(arrow(whole.slice(0, 4))) + len(arrow(whole.slice(4)))
    frame = query.frame()
    assert frame["time"].tolist() == times.tolist()
    assert frame["value"].tolist() == [0, 0.5, 1, 1.5, 2, 2.5]
    assert [str(kind) for kind in frame.dtypes] == ["datetime64[us, UTC]", "str", "float64", "int64"]
    assert query.frame() is frame


def test_json_of_all_shapes(server: NatsServer, client: Client) -> None:
    """No value is lost if rows have different keys, a chunk is a single object, or a column's type changes
    from chunk to chunk."""

    async def answer(asked: Asked) -> None:
        assert asked.headers["Accept"] == JSON
        await asked.rows({"a": 1, "b": None}, {"a": 2, "c": "x"})
        await asked.send(b'{"a": 2.5, "b": true, "d": {"deep": [1]}}', Content_Type="Application/JSON; q=1")
        await asked.send(b'[{"a": NaN, "big": 123456789012345678901234567890}, 7]')
        await asked.rows({"b": "text", "c": 5, "a": 9007199254740993})
        await asked.end()

    query = ended(client, server.url, answer, accept="json")
    assert (query.state, query.error, query.total) == ("done", None, None)
    rows = [
        {key: value for key, value in row.items() if not pd.isna(value)}
        for row in query.frame().to_dict("records")
    ]
    assert rows == [
        {"a": "1"},
        {"a": "2", "c": "x"},
        {"a": "2.5", "b": "true", "d": '{"deep":[1]}'},
        {"a": "nan", "big": 1.2345678901234568e29},
        {"value": 7.0},
        {"a": "9007199254740993", "b": "text", "c": "5"},
    ]


def test_kinds_that_agree(server: NatsServer, client: Client) -> None:
    """A column stays numeric if integers come before fractions, or nulls before numbers."""

    async def answer(asked: Asked) -> None:
        await asked.rows({"n": 1, "m": None})
        await asked.rows({"n": 1.5, "m": 2})
        await asked.table(pa.table({"m": pa.array([3], pa.int32()), "n": pa.nulls(1)}))
        await asked.end()

    frame = ended(client, server.url, answer).frame()
    assert frame["n"].fillna(-1).tolist() == [1, 1.5, -1]
    assert frame["m"].fillna(-1).tolist() == [-1, 2, 3]
    assert [kind.kind for kind in frame.dtypes] == ["f", "f"]


def test_arrow_of_odd_kinds(server: NatsServer, client: Client) -> None:
    """Duplicate column names, dictionaries, decimals and time zones become types that pandas and charts can
    use."""
    odd = pa.table(
        [
            pa.array(["x", "x"]).dictionary_encode(),
            pa.array([1, 2], pa.decimal128(38, 0)),
            pa.array([0, 1], pa.timestamp("s", "Asia/Tokyo")),
            pa.array([0, 1], pa.date32()),
            pa.array(['{"b": 1}', None], pa.json_()),
        ],
        names=["a", "a", "t", "d", "j"],
    )

    async def answer(asked: Asked) -> None:
        await asked.table(odd)
        await asked.table(odd.slice(0, 0))
        await asked.end()

    frame = ended(client, server.url, answer).frame()
    assert list(frame) == ["a", "a_1", "t", "d", "j"]
    assert [str(kind) for kind in frame.dtypes[:3]] == ["str", "float64", "datetime64[s, UTC]"]
    assert frame["d"].dtype.kind == "M"
    assert frame["j"].iloc[0] == '{"b": 1}'


def test_empty(server: NatsServer, client: Client) -> None:
    """If the first message has zero bytes, the result is empty, with or without a total."""
    for headers in ({}, {"Lookback_Rows": "0"}):
        query = ended(client, server.url, lambda asked: asked.end(**headers))
        assert (query.state, query.rows, query.progress, len(query.frame())) == ("done", 0, 1, 0)


def test_while_it_comes(server: NatsServer, client: Client) -> None:
    """Rows, progress and the time left can be read while chunks arrive. A keep-alive message counts as no
    row."""
    begin, go = threading.Event(), threading.Event()

    async def answer(asked: Asked) -> None:
        await asyncio.to_thread(begin.wait, 30)
        await asked.rows(Lookback_Control=asked.control)
        await asked.until_command("ack 1")
        await asked.rows({"n": 1}, Lookback_Rows="4")
        await asyncio.to_thread(go.wait, 30)
        await asked.rows({"n": 2}, {"n": 3}, {"n": 4})
        await asked.end()

    with service(server.url, answer):
        query = client.query(SUBJECT, b"")
        assert query.state == "waiting"
        assert query.seconds_left is None
        begin.set()
        until(lambda: query.rows == 1)
        assert (query.state, query.progress, query.frame()["n"].tolist()) == ("receiving", 0.25, [1])
        until(lambda: query.seconds_left)
        go.set()
        assert query.wait(30)
        assert query.frame()["n"].tolist() == [1, 2, 3, 4]
        assert (query.state, query.seconds_left) == ("done", None)


def test_credit(server: NatsServer, client: Client) -> None:
    """Each chunk is acknowledged by its number, and only after its rows are stored. Without a control
    subject, nothing is acknowledged."""
    rows_when_acked: list[tuple[int, int]] = []
    queries: list[Query] = []

    async def answer(asked: Asked) -> None:
        await asyncio.to_thread(until, lambda: queries)
        for n in range(10):
            await asked.rows({"n": n}, Lookback_Rows="10", Lookback_Control=asked.control)
            await asked.until_command(f"ack {n + 1}")
            rows_when_acked.append((n + 1, queries[0].rows))
        await asked.end()

    with service(server.url, answer) as running:
        queries.append(client.query(SUBJECT, b"", credit=1))
        assert queries[0].wait(30)
        assert rows_when_acked == [(n, n) for n in range(1, 11)]
        assert running.commands() == [f"ack {n}" for n in range(1, 11)]


@pytest.mark.parametrize(
    ("steps", "kind", "words", "rows"),
    [
        ([(b"", {"Nats-Service-Error": "no such table: x", "Nats-Service-Error-Code": "400"})], ServiceError,
         "no such table: x (code 400)", 0),
        ([(b'[{"n":1}]', {}), (b"late", {"Nats-Service-Error-Code": "504"})], ServiceError, "(code 504)", 1),
        ([(b'[{"n":1}]', {}), (b"<html>", {"Content-Type": "text/html"})], AnswerBroken, "'text/html'", 1),
        ([(b'[{"n":1}]', {}), (b'[{"n":', {"Content-Type": JSON})], AnswerBroken, "Chunk 2 from", 1),
        ([(b"\xff\xfe", {})], AnswerBroken, "not JSON (its Content-Type is missing)", 0),
        ([(arrow(pa.table({"n": [1]}))[:99], {"Content-Type": ARROW})], AnswerBroken, "not an Arrow", 0),
        ([(b"", {"Content-Type": ARROW, "Lookback-Rows": "3"})], AnswerBroken, "0 of 3 rows", 0),
        ([(b'[{"n":1}]', {"Lookback-Rows": "many"}), (b"", {"Lookback-Rows-Sent": "2"})], AnswerBroken,
         "1 of 2 rows", 1),
    ],
)  # fmt: skip
def test_errors(
    server: NatsServer,
    client: Client,
    steps: list[tuple[bytes, dict[str, str]]],
    kind: type[LookbackError],
    words: str,
    rows: int,
) -> None:
    """An error at the start or in the middle, an unreadable body and a result that is too short each have
    their own message. Rows received before are kept."""

    async def answer(asked: Asked) -> None:
        for body, headers in steps:
            await asked.send(body, **headers)

    query = ended(client, server.url, answer)
    assert query.state == "failed"
    assert type(query.error) is kind
    assert words in str(query.error)
    assert len(query.frame()) == query.rows == rows


def test_arrow_that_lies(server: NatsServer, client: Client) -> None:
    """An Arrow stream whose offsets point outside its data is refused before they are followed."""
    text = pa.array(["abc", "def"])
    wrong = np.array([0, 3, 1 << 30], dtype="<i4").tobytes()
    body = arrow(pa.table({"t": text})).replace(np.array([0, 3, 6], dtype="<i4").tobytes(), wrong)
    query = ended(client, server.url, lambda asked: asked.send(body, Content_Type=ARROW))
    assert isinstance(query.error, AnswerBroken)


def test_few_bytes_that_claim_much(server: NatsServer, client: Client) -> None:
    """Many rows with many different keys are refused, and do not become a table of all combinations."""
    body = json.dumps([{f"key {n}": n} for n in range(2000)]).encode()
    query = ended(client, server.url, lambda asked: asked.send(body))
    assert "2,000 rows with 2,000 different keys" in str(query.error)


def test_stop(server: NatsServer, client: Client) -> None:
    """stop() ends the query at the service, which confirms it. Rows received before are kept, and a second
    stop() is a no-op."""
    with service(server.url, endless) as running:
        query = client.query(SUBJECT, b"")
        until(lambda: query.rows >= 30)
        query.stop()
        assert query.wait(30)
        assert running.commands().count("stop") == 1
        assert (query.state, query.error) == ("stopped", None)
        assert query.frame()["n"].tolist() == list(range(query.rows))
        query.stop()
        assert query.state == "stopped"


def test_stop_before_the_first_row(server: NatsServer, client: Client) -> None:
    """A query that is stopped before its first row sends "stop" once it has a control subject."""
    go = threading.Event()

    async def answer(asked: Asked) -> None:
        await asyncio.to_thread(go.wait, 30)
        await asked.rows(Lookback_Control=asked.control)
        await asked.until_command("stop")
        await asked.error(499, "stopped")

    with service(server.url, answer) as running:
        query = client.query(SUBJECT, b"")
        until(lambda: running.asked)
        query.stop()
        until(lambda: query.stopping)
        go.set()
        assert query.wait(30)
        assert (query.state, query.error, query.stopping) == ("stopped", None, False)


def test_services_that_cannot_be_told(server: NatsServer, client: Client) -> None:
    """If a service names no control subject of its own, or does not confirm the stop, the query stops locally
    and reports that the service may go on. Nothing is published to a subject that is not the service's."""

    def going_on(control: str) -> Answer:
        async def answer(asked: Asked) -> None:
            for _ in range(1000):
                await asked.rows({"n": 1}, **({"Lookback_Control": control} if control else {}))
                await asyncio.sleep(0.02)

        return answer

    async def overhear(nc: Any) -> list[str]:
        received: list[str] = []

        async def receive(message: Any) -> None:
            received.append(message.subject)

        await nc.subscribe("*.>", cb=receive)
        await nc.flush()
        for control, words in {
            "": "has no control subject",
            "metrics.cpu": "has no control subject",
            f"{SUBJECT}.*": "has no control subject",
            f"{SUBJECT}.deaf": "has not confirmed the stop",
        }.items():
            query = await asyncio.to_thread(stopped, going_on(control))
            assert query.state == "stopped"
            assert words in str(query.error)
            assert query.rows
        return received

    def stopped(answer: Answer) -> Query:
        with service(server.url, answer):
            query = flowing(client)
            query.stop()
            assert query.wait(30)
        return query

    received = server.run(overhear)
    assert "metrics.cpu" not in received
    assert f"{SUBJECT}.deaf" in received


def test_ceilings(server: NatsServer) -> None:
    """A result above the ceiling in rows or bytes is stopped at the service. Its first rows are kept, and the
    error names the ceiling."""
    ceilings: tuple[tuple[dict[str, Any], str], ...] = (
        ({"feed_rows": 55}, "55 rows"),
        ({"feed_memory": 2000}, "2,000 bytes"),
    )
    for limits, words in ceilings:
        with Client(Settings(url=server.url, **limits)) as client, service(server.url, endless) as running:
            query = client.query(SUBJECT, b"")
            assert query.wait(30)
            assert query.state == "stopped"
            assert isinstance(query.error, AnswerTooLarge)
            assert words in str(query.error)
            assert query.frame()["n"].tolist() == list(range(query.rows))
            assert query.rows == 55 or query.rows * 16 <= 2000
            until(lambda: "stop" in running.commands())


def test_nobody_listens(client: Client) -> None:
    """Without a service, the query fails at once with an error that names the subject."""
    query = client.query("nobody.here", {"sql": "x"})
    assert query.wait(30)
    assert isinstance(query.error, NoResponders)
    assert "No responders for 'nobody.here'" in str(query.error)
    assert query.seconds < 5


def test_silence(server: NatsServer, client: Client) -> None:
    """If a service freezes or is killed in the middle, the query fails after its timeout. The error names the
    last row received."""
    for kill in (signal.SIGSTOP, signal.SIGKILL):
        with endless_service(server.url) as process:
            query = flowing(client, timeout=1)
            process.send_signal(kill)
            assert query.wait(30)
            assert query.state == "failed"
            assert isinstance(query.error, RequestTimeout)
            assert f"sent nothing for 1 s after row {query.rows:,}" in str(query.error)
            assert query.frame()["n"].tolist() == list(range(query.rows))


def test_no_answer(server: NatsServer, client: Client) -> None:
    """If a service receives the request and never replies, the query fails after its timeout."""
    query = ended(client, server.url, lambda asked: asyncio.sleep(0), timeout=0.5)
    assert isinstance(query.error, RequestTimeout)
    assert "No answer from 'history.query' within 0.5 s" in str(query.error)


def test_server_dies_in_the_middle(tmp_path: Path) -> None:
    """If the server is killed or freezes, the query fails and keeps its rows, and the next query works."""
    with running_server(tmp_path, "# no jetstream") as server, Client(Settings(url=server.url)) as client:
        for down, up in ((server.kill, server.start), (lambda: server.signal(signal.SIGSTOP), lambda: None)):
            with endless_service(server.url):
                query = flowing(client, timeout=1)
                down()
                assert query.wait(30)
                server.signal(signal.SIGCONT)
            up()
            assert query.state == "failed"
            assert f"The connection to NATS was lost after row {query.rows:,}." in str(query.error)
            assert query.frame()["n"].tolist() == list(range(query.rows))
            until(lambda: client.state.status == "connected")
            query = ended(client, server.url, lambda asked: asked.end())
            assert query.state == "done"


def test_no_server(tmp_path: Path) -> None:
    """Without a connection, the query ends with the reason, and a query that is stopped ends at once."""
    with Client(Settings(url="nats://127.0.0.1:1")) as client:
        client.wait(30)
        query, stopped = client.query(SUBJECT, b"", timeout=1), client.query(SUBJECT, b"")
        stopped.stop()
        assert stopped.wait(30)
        assert (stopped.state, stopped.error) == ("stopped", None)
        assert query.wait(30)
        assert "Cannot reach the NATS server at nats://127.0.0.1:1" in str(query.error)


def test_rights(tmp_path: Path) -> None:
    """A login that may not publish the request, or the acknowledgements, gets an error with the missing
    permission."""
    for allowed, words in ((">", None), ("x", f"to publish to '{SUBJECT}'"), (SUBJECT, ".control.0'")):
        config = (
            "authorization { users: [ {user: s, password: s}, {user: c, password: c, permissions: "
            f'{{ publish: "{allowed}" }} }} ] }}'
        )
        folder = tmp_path / allowed.replace(">", "all")
        with (
            running_server(folder, f"# no jetstream\n{config}") as server,
            Client(Settings(url=server.url, user="c", password="c")) as client,
        ):
            query = ended(client, server.url.replace("//", "//s:s@"), endless_if_allowed)
            if words is None:
                assert query.state == "done"
            else:
                assert isinstance(query.error, RequestRefused)
                assert words in str(query.error)
                assert query.rows == (allowed == SUBJECT)


async def endless_if_allowed(asked: Asked) -> None:
    """Send one row, and end the result once the row is acknowledged."""
    await asked.rows({"n": 1}, Lookback_Control=asked.control)
    await asked.until_command("ack 1")
    await asked.end()


def test_inbox_denied(tmp_path: Path) -> None:
    """A login that may not subscribe to its inbox gets an error that names the inbox."""
    config = 'authorization { users: [ {user: c, password: c, permissions: { subscribe: "x" } } ] }'
    with (
        running_server(tmp_path, f"# no jetstream\n{config}") as server,
        Client(Settings(url=server.url, user="c", password="c")) as client,
    ):
        query = client.query(SUBJECT, b"")
        assert query.wait(30)
        assert isinstance(query.error, RequestRefused)
        assert "to subscribe to '_INBOX." in str(query.error)


def test_what_cannot_be_asked(client: Client) -> None:
    """A subject with a wildcard, an invalid payload, and a wrong format, credit or timeout are refused at
    once."""
    with pytest.raises(SubjectError, match="has a wildcard"):
        client.query("history.*", {})
    with pytest.raises(PayloadError, match="cannot be encoded as JSON"):
        client.query(SUBJECT, {"sql": object()})
    with pytest.raises(SettingsError, match=r"accept='arow'.*Did you mean 'arrow'"):
        client.query(SUBJECT, {}, accept="arow")
    with pytest.raises(SettingsError, match="credit=0 is not valid"):
        client.query(SUBJECT, {}, credit=0)
    with pytest.raises(RequestFailed, match="The timeout 0 is not valid"):
        client.query(SUBJECT, {}, timeout=0)
    query = client.query(SUBJECT, b"x" * 2_000_000)
    assert query.wait(30)
    assert isinstance(query.error, PayloadError)


def test_idle(server: NatsServer) -> None:
    """A query without a reader is stopped at the service after `idle_after`, and its rows are dropped."""
    with (
        Client(Settings(url=server.url, idle_after=1)) as client,
        service(server.url, endless) as running,
    ):
        query = client.query(SUBJECT, b"")
        assert not query.wait(2)  # a caller that waits is a reader
        assert "stop" not in running.commands()
        until(lambda: "stop" in running.commands())
        with pytest.raises(ClosedError, match="nobody read it for 1 s"):
            query.frame()


def test_closing(server: NatsServer) -> None:
    """Closing the client stops its queries at the service."""
    with service(server.url, endless) as running:
        with Client(Settings(url=server.url)) as client:
            query = flowing(client)
        assert query.state == "stopped"
        until(lambda: "stop" in running.commands())
        query.stop()
        with pytest.raises(ClosedError):
            client.query(SUBJECT, b"")
