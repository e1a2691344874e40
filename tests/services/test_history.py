"""The history service over a real server: answers in chunks, credit, stop, limits, and faults.

Slow, because hostile queries run until their limit of time, and callers wait for turns.
"""

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import nats.errors
import psutil
import pytest

from nats_client import Client, Settings
from nats_client.requests.content_types import ARROW, JSON
from services.history.database import Database, QueryTooLarge
from services.history.duckdb_file import DuckDb
from services.history.postgresql import PostgreSql
from services.history.query_process import QueryProcess, query_processes
from services.history.service import CHUNK, Limits
from tests.archive import fill
from tests.asking import ask, asked, connected, relay, service_process, serving, tables
from tests.embedded import login
from tests.nats import NatsServer, running_server
from tests.node import node
from tests.postgres import PASSWORD, READER, PostgresServer
from tests.services.stand_ins import App
from tests.waiting import until

HEAVY = "SELECT count(*) AS n FROM history a, history b, history c WHERE (a.seq * b.seq + c.seq) % 7 = 3"
LARGE = "SELECT n, repeat('x', 1000) AS text FROM generate_series(1, 20000) AS t(n)"  # 20 MB


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One server for all tests that do not change it."""
    with running_server(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Database]:
    """An empty archive in one of the databases, for tests that do not depend on the database."""
    archive = DuckDb(tmp_path / "history.duckdb")
    yield archive
    archive.close()


def test_answer_in_json_and_arrow(database: Database, server: NatsServer) -> None:
    """In both formats, all rows come in order with the totals, in chunks of bounded size that can be read
    alone."""
    fill(database, 5000)
    sql = "SELECT * FROM history WHERE time > $after ORDER BY seq"

    async def main() -> None:
        async with serving(database, server.url) as client:
            for headers in (None, {"Accept": ARROW}):
                answer = await asked(client, sql, headers=headers, after="2026-01-01T00:10:00Z")
                assert [row["seq"] for row in answer.rows] == list(range(601, 5001))
                assert len(answer.chunks) > 1
                assert max(map(len, answer.chunks)) < 1.5 * CHUNK
                first, last = answer.messages[0].headers, answer.messages[-1].headers
                assert first["Lookback-Rows"] == last["Lookback-Rows-Sent"] == "4400"
                assert first["Lookback-Control"].startswith("history.query.")
            row = (await asked(client, "SELECT * FROM history WHERE seq = 601")).rows[0]
            assert row == {
                "stream": "S",
                "seq": 601,
                "time": "2026-01-01T00:10:01.000000Z",
                "subject": "s.1",
                "payload": {"n": 601},
            }

    asyncio.run(main())


def test_empty_answer_is_its_end(database: Database, server: NatsServer) -> None:
    """Without rows, the answer is one empty message, which is the end; before it there are only signs of
    life."""

    async def main() -> None:
        async with serving(database, server.url) as client:
            for headers in (None, {"Accept": ARROW}):
                answer = await asked(client, "SELECT * FROM history", headers=headers)
                assert [message.data for message in answer.messages if message.data != b"[]"] == [b""]
                assert answer.header("Lookback-Rows") == "0"

    asyncio.run(main())


def test_refusals(database: Database, server: NatsServer) -> None:
    """An invalid request is refused with code 400, and an error that names the reason."""
    requests: list[tuple[str | bytes, dict[str, str], dict[str, Any], str]] = [
        ("selec 1", {}, {}, 'syntax error at or near "selec"'),
        ("SELECT $a AS a", {}, {}, "a"),
        ("SELECT 1 AS n", {}, {"list": [1]}, "'list' is neither text, number, boolean nor null"),
        ("SELECT 1 AS n", {}, {"it's": 1}, 'name "it\'s"'),
        ("SELECT 1 AS n", {"Accept": "text/csv"}, {}, "'text/csv'"),
        ("SELECT 1 AS n", {"Lookback-Credit": "0"}, {}, "'0'"),
        (b"SELECT 1", {}, {}, "not JSON"),
        (b'{"query": "SELECT 1"}', {}, {}, '"sql"'),
        (b'{"sql": "SELECT 1", "params": {}}', {}, {}, "'params'"),
        (b'{"sql": "%s"}' % (b"x" * 70_000), {}, {}, "70,011 bytes"),
    ]

    async def main() -> None:
        async with serving(database, server.url) as client:
            for sql, headers, parameters, words in requests:
                answer = await asked(client, sql, headers=headers, **parameters)
                assert (answer.code, len(answer.messages)) == ("400", 1)
                assert words.lower() in answer.error.lower()

    asyncio.run(main())


def test_limits_are_named(database: Database, server: NatsServer) -> None:
    """Too many rows, bytes or seconds end the answer with an error that names the limit and its setting."""
    fill(database, 2000)

    async def main() -> None:
        async with serving(database, server.url, limits=Limits(rows=1500, bytes=300_000)) as client:
            answer = await asked(client, "SELECT * FROM history")
            assert (answer.code, answer.rows) == ("413", [])
            assert "2,000 rows" in answer.error
            assert "1,500 rows (LOOKBACK_HISTORY_ROWS" in answer.error

            answer = await asked(
                client, "SELECT seq, repeat('x', 1000) AS text FROM history WHERE seq < 1000"
            )
            assert answer.code == "413"
            assert "300,000 bytes (LOOKBACK_HISTORY_BYTES" in answer.error
            assert 100 < len(answer.rows) < 300  # the chunks before the error are complete

            answer = await asked(client, "SELECT repeat('x', 1200000) AS text", headers={"Accept": ARROW})
            assert answer.code == "413"
        async with serving(database, server.url, limits=Limits(seconds=0.5)) as client:
            answer = await asked(client, HEAVY)
            assert answer.code == "504"
            assert "0.5 seconds (LOOKBACK_HISTORY_SECONDS" in answer.error
        async with serving(database, server.url, limits=Limits(longest=0.5)) as client:
            answer = await ask(client, LARGE, headers={"Lookback-Credit": "2"})
            await answer.all()  # acknowledges nothing
            assert answer.code == "408"
            assert "took 0.5 s in all" in answer.error
        if isinstance(database, DuckDb):  # PostgreSQL has processes of its own for queries
            for limits in (Limits(), Limits(memory=64 << 20)):
                async with serving(database, server.url, limits=limits) as client:
                    answer = await asked(client, "SELECT len(range(20000000)) AS n")  # 160 MB
                    assert answer.code == (None if limits == Limits() else "413"), answer.error
            assert "memory" in answer.error.lower()

    asyncio.run(main())


def test_limits_are_settings() -> None:
    """Each limit has an environment variable, and its default is that of the setting."""
    assert Limits.load({}) == Limits()
    texts: dict[str, tuple[str, Any]] = {
        "rows": ("7", 7),
        "bytes": ("2 MiB", 2 << 20),
        "seconds": ("2.5", 2.5),
        "longest": ("60", 60.0),
        "at_once": ("2", 2),
        "memory": ("256 MiB", 256 << 20),
    }
    assert set(texts) == {each.name for each in fields(Limits)}
    for name, (text, value) in texts.items():
        assert Limits.load({f"LOOKBACK_HISTORY_{name.upper()}": text}) == replace(Limits(), **{name: value})


def test_row_larger_than_a_message(database: Database, server: NatsServer) -> None:
    """A row too large for a message is reported with its number and size."""

    async def main() -> None:
        async with serving(database, server.url) as client:
            for headers in (None, {"Accept": ARROW}):
                answer = await asked(client, "SELECT repeat('x', 1200000) AS text", headers=headers)
                assert answer.code == "413"
                assert "Row 1 has 1,200," in answer.error

    asyncio.run(main())


def test_stop_while_it_counts(database: Database, server: NatsServer, postgres: PostgresServer) -> None:
    """A long query sends a sign of life; when stopped, it ends in the database, too."""
    fill(database, 5000)

    async def main() -> None:
        async with serving(database, server.url, limits=Limits(at_once=1)) as client:
            for headers in (None, {"Accept": ARROW}):
                answer = await ask(client, HEAVY, headers=headers)
                await answer.next()
                assert (answer.rows, answer.is_over) == ([], False)
                assert answer.header("Lookback-Rows") is None
                await answer.tell("stop")
                await answer.all()
                assert answer.code == "499"
                # there is one turn, and the next query gets it only when the database has ended this one
                assert (await asked(client, "SELECT 1 AS n")).rows == [{"n": 1}]
            await asyncio.to_thread(until, lambda: postgres.running_queries() == 0)

    asyncio.run(main())


def test_stop_by_responding(database: Database, server: NatsServer) -> None:
    """A chunk's reply subject is the control subject: a response with stop ends the answer."""

    async def main() -> None:
        async with serving(database, server.url) as client:
            answer = await ask(client, LARGE, headers={"Lookback-Credit": "2"})
            message = await answer.next()
            await message.respond(b"stop")
            await answer.all()
            assert answer.code == "499"
            assert len(answer.chunks) <= 2

    asyncio.run(main())


def test_credit(archive: Database, server: NatsServer) -> None:
    """The number of unacknowledged chunks never exceeds the credit, and a reader that pauses loses
    nothing."""
    credit = 3

    async def main() -> None:
        async with serving(archive, server.url) as client:
            answer = await ask(
                client, LARGE.replace("20000", "4000"), headers={"Lookback-Credit": str(credit)}
            )
            await answer.next()
            await asyncio.sleep(1.5)
            taken = 0
            while not answer.is_over:
                with contextlib.suppress(nats.errors.TimeoutError):
                    while not answer.is_over:
                        await answer.next(0.1)
                        assert len(answer.chunks) - taken <= credit
                taken = min(taken + 1 + taken % credit, len(answer.chunks))
                await answer.tell(f"ack {taken}")
            assert answer.code is None
            assert len(answer.chunks) > 4 * credit
            assert [row["n"] for row in answer.rows] == list(range(1, 4001))

    asyncio.run(main())


def test_no_credit_in_time(archive: Database, server: NatsServer) -> None:
    """A reader that stops acknowledging gets code 408 after its last chunk, and its turn is free again."""

    async def main() -> None:
        async with serving(archive, server.url, credit_timeout=0.5, limits=Limits(at_once=1)) as client:
            answer = await ask(client, LARGE, headers={"Lookback-Credit": "2"})
            await answer.next()
            await answer.next()
            for word in ("ack 1", "ack 1", "ack 99", "ack -1", "ack", "nonsense", ""):
                await answer.tell(word)
            await answer.all()
            assert answer.code == "408"
            assert "0.5 s" in answer.error
            assert len(answer.chunks) in (4, 5)  # "ack 99" counts only for the chunks already sent: 2 or 3
            assert (await asked(client, "SELECT 1 AS n")).rows == [{"n": 1}]

    asyncio.run(main())


def test_caller_that_is_gone(database: Database, server: NatsServer, postgres: PostgresServer) -> None:
    """When nobody is subscribed to the inbox any more, the query ends without a stop."""

    async def main() -> None:
        async with serving(database, server.url, limits=Limits(at_once=1), wait_for_turn=20) as client:
            answer = await ask(client, LARGE.replace("20000", "300000"), headers={"Lookback-Credit": "5"})
            await answer.next()
            await answer.leave()
            await answer.tell("ack 1")
            assert (await asked(client, "SELECT 1 AS n")).rows == [{"n": 1}]
            async with asyncio.timeout(30):
                error = ""
                while "Nobody listens" not in error:
                    stats = json.loads((await client.request("$SRV.STATS.history", b"", timeout=10)).data)
                    error = stats["endpoints"][0]["last_error"]
            await asyncio.to_thread(until, lambda: postgres.running_queries() == 0)

    asyncio.run(main())


def test_several_at_once(database: Database, server: NatsServer) -> None:
    """Queries run at the same time. While long ones have all turns, small ones are answered, and another long
    one soon ends with the error that the service is busy. Meanwhile the service answers discovery
    requests."""
    fill(database, 5000)

    async def main() -> None:
        async with serving(database, server.url, limits=Limits(at_once=2), wait_for_turn=3) as client:
            heavy = [await ask(client, HEAVY, headers={"Lookback-Asker": name}) for name in ("one", "two")]
            assert (await asked(client, "SELECT 1 AS n")).rows == [{"n": 1}]
            busy = await asked(client, HEAVY)
            assert (busy.code, "2 queries" in busy.error) == ("503", True)
            assert (await asked(client, "SELECT 1 AS n")).rows == [{"n": 1}]
            await client.request("$SRV.PING.history", b"", timeout=10)
            for answer in heavy:
                await answer.next()
                await answer.tell("stop")
                await answer.all()
                assert answer.code == "499"
            stats = json.loads((await client.request("$SRV.STATS.history", b"", timeout=10)).data)
            query = next(endpoint for endpoint in stats["endpoints"] if endpoint["name"] == "query")
            assert (query["num_requests"], query["num_errors"]) == (5, 3)
            assert query["processing_time"] > 1e9  # time of the answers, not only of accepting the requests

    asyncio.run(main())


def test_no_asker_takes_all_turns(archive: Database, server: NatsServer) -> None:
    """One asker has at most half of the turns: another asker's long query starts and continues beside
    them."""
    fill(archive, 5000)

    async def main() -> None:
        async with serving(archive, server.url, limits=Limits(at_once=2), wait_for_turn=5) as client:
            mine = [await ask(client, HEAVY, headers={"Lookback-Asker": "one"}) for _ in range(6)]
            await mine[0].next()
            other = await ask(client, HEAVY, headers={"Lookback-Asker": "two"})
            for _ in range(2):  # at seconds 1 and 6: longer than a turn for small queries
                await other.next()
            assert other.code is None
            for answer in mine[1:]:
                await answer.all()
                assert answer.code == "503"
            for answer in (mine[0], other):
                await answer.tell("stop")

    asyncio.run(main())


HOSTILE = {
    "parsing": {
        "parts of a name": "SELECT " + "a." * 15_000 + "a",
        "depth": "SELECT " + "(" * 9_000 + "1" + ")" * 9_000 + " AS n",
        "views of views": f"SELECT * FROM {'(SELECT * FROM ' * 1500}history{') AS x' * 1500}",
        "one of many": f"SELECT seq FROM history WHERE seq IN ({','.join(map(str, range(10_000)))})",
    },
    "memory": {
        "one value": "SELECT len(range(1000000000)) AS n",
        "text": "SELECT repeat('x', 1000000000) AS text",
        "growth": "WITH RECURSIVE t(n) AS (SELECT 'x' UNION ALL SELECT n || n FROM t) SELECT n FROM t",
        "aggregate": "SELECT length(string_agg(repeat('x', 99999), '')) AS n"
        " FROM generate_series(1, 90000) t(n)",
    },
    "work": {
        "recursion": "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t)"
        " SELECT max(n) AS n FROM t",
        "cross join": "SELECT count(*) AS n FROM history a, history b, history c, history d",
        "sort": "SELECT n, repeat('x', 1000) AS t FROM generate_series(1, 9000000) t(n)"
        " ORDER BY md5(n::text)",
        "pattern": "SELECT regexp_replace(repeat('a', 50000000), '(a*)*b', 'c') AS n",
    },
    "rows": {
        "columns": "SELECT " + ",".join(f"{n} AS c{n}" for n in range(4500)),
        "many": "SELECT * FROM generate_series(1, 100000000000) AS t(n)",
        "large": "SELECT repeat('x', 50000000) AS t FROM generate_series(1, 512) AS t(n)",
        "larger": "SELECT repeat('x', 1000) AS t FROM generate_series(1, 100000000000) AS t(n)",
    },
}


@pytest.mark.parametrize("queries", HOSTILE.values(), ids=HOSTILE)
def test_hostile_queries_stop_nobody(database: Database, server: NatsServer, queries: dict[str, str]) -> None:
    """Four queries that the database can neither interrupt nor limit run at once. Each ends with an answer or
    an error, small queries are answered meanwhile and afterwards, the service's memory does not grow, and no
    process is left."""
    fill(database, 5000)

    async def main() -> None:
        me = psutil.Process()
        async with serving(database, server.url, limits=Limits(seconds=4)) as client:
            assert (await asked(client, "SELECT 1 AS n")).rows == [{"n": 1}]
            before = me.memory_info().rss
            hostile = {name: await ask(client, sql) for name, sql in queries.items()}
            assert (await asked(client, "SELECT 1 AS n")).rows == [{"n": 1}]
            for name, answer in hostile.items():
                await answer.all()
                assert answer.code in (None, "400", "413", "500", "503", "504"), name
            assert (await asked(client, "SELECT 1 AS n")).rows == [{"n": 1}]
            assert me.memory_info().rss - before < 100e6

    asyncio.run(main())
    assert not [child for child in psutil.Process().children(recursive=True) if is_query(child)]


def is_query(process: psutil.Process) -> bool:
    """True if it is the process of a query, or their fork server."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return "services.history.query_process" in process.cmdline()
    return False


@pytest.mark.parametrize("mebibytes", range(30, 64, 3))
def test_memory_that_ends_anywhere(tmp_path: Path, mebibytes: int) -> None:
    """Wherever memory runs out, in DuckDB, in Python or at the start of a thread, the error names the
    memory."""
    database = DuckDb(tmp_path / "h.duckdb")
    fill(database, 1)
    processes = query_processes(database, mebibytes << 20)
    query = QueryProcess(
        processes, database, 30, "SELECT len(range(20000000)) AS n", kind=JSON, size=CHUNK, most=CHUNK
    )
    try:
        with pytest.raises(QueryTooLarge, match=r"(?i)memory"):
            query.open()
    finally:
        query.close()
        processes.close()
        database.close()


def test_query_processes_killed(tmp_path: Path, server: NatsServer) -> None:
    """kill -9 of a query's process is an error of that query; kill -9 of the fork server is an error of all
    running queries. The next query is answered, and no temporary file is left."""
    database = DuckDb(tmp_path / "h.duckdb")
    fill(database, 5000)

    async def main() -> None:
        async with serving(database, server.url, limits=Limits(at_once=1)) as client:
            for nth in (1, 0):
                answer = await ask(client, HEAVY)
                await answer.next()
                own = [one for one in psutil.Process().children(recursive=True) if is_query(one)]
                assert len(own) == 2
                own[nth].kill()
                await answer.all()
                assert (answer.code, "ended unexpectedly" in answer.error) == ("500", True)
                assert (await asked(client, "SELECT 1 AS n")).rows == [{"n": 1}]

    asyncio.run(main())
    assert [file.name for file in tmp_path.iterdir()] == ["h.duckdb"]


def test_a_hundred_askers(archive: Database, server: NatsServer) -> None:
    """A hundred queries at once are all answered; of a thousand, some get the error that the service is
    busy."""

    async def main() -> None:
        async with serving(archive, server.url, wait_for_turn=30) as client:
            for count in (100, 1000):
                many = [await ask(client, f"SELECT {n} AS n") for n in range(count)]
                answers = [await one.all() for one in many]
                errors = [answer.error for answer in answers if answer.code is not None]
                assert all("busy" in error for error in errors)
                assert (len(errors) > 0) == (count == 1000)
                assert all(a.rows == [{"n": n}] for n, a in enumerate(answers) if a.code is None)

    asyncio.run(main())


def test_list_of_tables_is_made_once(archive: Database, server: NatsServer) -> None:
    """For any number of simultaneous requests for the tables, the database is queried once or twice, and no
    query has to wait for a turn."""
    fill(archive, 3)
    asked_for = 0
    inner = archive.lent

    @contextlib.contextmanager
    def counting() -> Iterator[Any]:
        nonlocal asked_for
        asked_for += 1
        with inner() as lent:
            yield lent

    async def main() -> None:
        async with serving(archive, server.url) as client:
            answers = await asyncio.gather(
                *(client.request("history.tables", b"", timeout=30) for _ in range(200))
            )
            assert len({answer.data for answer in answers}) == 1
            assert 1 <= asked_for <= 2

    archive.lent = counting  # type: ignore[method-assign]
    asyncio.run(main())


def test_server_that_takes_nothing(tmp_path: Path) -> None:
    """While the server is frozen, the service waits with few chunks in memory; then the answer continues."""

    async def main(server: NatsServer) -> None:
        with service_process(server.url, tmp_path / "h.duckdb", tmp_path / "out") as process:
            async with connected(server.url) as client:
                await tables(client)
                await asked(client, LARGE)
                before = psutil.Process(process.pid).memory_info().rss
                answer = await ask(client, LARGE.replace("20000", "50000"))  # 50 MB
                await answer.next()
                server.signal(signal.SIGSTOP)
                await asyncio.sleep(3)
                highest = psutil.Process(process.pid).memory_info().rss
                server.signal(signal.SIGCONT)
                await answer.all()
                assert len(answer.rows) == 50000
                assert highest - before < 20e6

    with running_server(tmp_path / "nats") as server:
        asyncio.run(main(server))


def test_connection_lost_in_the_middle(tmp_path: Path, server: NatsServer) -> None:
    """When the service loses its connection, chunks may be lost. The caller gets the error once it has
    reconnected."""

    async def main() -> None:
        async with (
            relay(server.port) as way,
            serving(DuckDb(tmp_path / "h.duckdb"), server.url, through=way.url) as client,
        ):
            answer = await ask(client, LARGE, headers={"Lookback-Credit": "4"})
            await answer.next()
            way.cut()
            await answer.all()
            assert (answer.code, "lost its connection" in answer.error) == ("503", True)
            await tables(client)
            assert len((await asked(client, LARGE)).rows) == 20000

    asyncio.run(main())


def test_server_killed_and_back(tmp_path: Path) -> None:
    """An answer cut off by the server's end is not continued; the next one is complete."""

    async def main() -> None:
        with running_server(tmp_path / "nats") as server:
            async with serving(DuckDb(tmp_path / "h.duckdb"), server.url) as client:
                answer = await ask(client, LARGE, headers={"Lookback-Credit": "4"})
                await answer.next()
                server.kill()
                server.start()
                await tables(client)
                with contextlib.suppress(nats.errors.TimeoutError):
                    while not answer.is_over:
                        await answer.next(0.5)
                assert answer.code in (None, "503")
                assert len(answer.chunks) <= 4
                assert len((await asked(client, LARGE)).rows) == 20000

    asyncio.run(main())


def test_service_killed_in_the_middle(
    database: Database, server: NatsServer, postgres: PostgresServer, tmp_path: Path
) -> None:
    """After kill -9 in the middle of an answer, the query ends in the database, and the next service has all
    rows."""
    fill(database, 300)
    database.close()
    file, env = tmp_path / "history.duckdb", environment(database, postgres)

    async def main() -> None:
        async with connected(server.url) as client:
            with service_process(server.url, file, tmp_path / "out", **env) as process:
                await tables(client)
                answer = await ask(client, LARGE, headers={"Lookback-Credit": "2"})
                await answer.next()
                process.kill()
            until(lambda: postgres.running_queries() == 0)
            with service_process(server.url, file, tmp_path / "out", **env):
                await tables(client)
                assert len((await asked(client, "SELECT * FROM history")).rows) == 300

    asyncio.run(main())


def environment(database: Database, postgres: PostgresServer) -> dict[str, str]:
    """The environment with which a service uses that database."""
    if not isinstance(database, PostgreSql):
        return {}
    return {
        "LOOKBACK_HISTORY_DSN": postgres.dsn("archive"),
        "LOOKBACK_HISTORY_READER_DSN": postgres.dsn("archive", READER),
    }


def test_ended_in_order(
    database: Database, server: NatsServer, postgres: PostgresServer, tmp_path: Path
) -> None:
    """SIGTERM ends the service with status 0, and a running answer with an error that says so."""
    database.close()

    async def main() -> None:
        async with connected(server.url) as client:
            env = environment(database, postgres)
            with service_process(server.url, tmp_path / "history.duckdb", tmp_path / "out", **env) as process:
                await tables(client)
                answer = await ask(client, LARGE, headers={"Lookback-Credit": "2"})
                await answer.next()
                process.terminate()
                await answer.all()
                assert answer.code == "503"
                assert await asyncio.to_thread(process.wait, 30) == 0
                assert (tmp_path / "out").read_text() == ""

    asyncio.run(main())


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL that the test may kill."""
    server = PostgresServer()
    yield server
    server.stop()


def test_postgresql_killed_frozen_and_back(own_postgres: PostgresServer, server: NatsServer) -> None:
    """If PostgreSQL is killed in the middle of an answer, the answer ends with error 500; if frozen, with
    504. Once it is back, queries are answered again."""
    database = PostgreSql(own_postgres.empty_database(), own_postgres.dsn("archive", READER))
    fill(database, 100)

    async def main() -> None:
        async with serving(database, server.url, limits=Limits(seconds=2)) as client:
            answer = await ask(client, LARGE, headers={"Lookback-Credit": "2"})
            while not answer.rows:  # the first chunk may be only a sign of life
                await answer.next()
            own_postgres.kill()
            for _ in range(200):
                await answer.tell(f"ack {len(answer.chunks)}")
                await answer.next()
                if answer.is_over:
                    break
            assert answer.code == "500"
            assert answer.rows
            down = await asked(client, "SELECT * FROM history")
            assert (down.code, "PostgreSQL does not answer" in down.error) == ("500", True)
            own_postgres.start()
            assert len((await asked(client, "SELECT * FROM history")).rows) == 100

            answer = await ask(client, LARGE, headers={"Lookback-Credit": "2"})
            while not answer.rows:
                await answer.next()
            own_postgres.signal(signal.SIGSTOP)
            try:
                for _ in range(200):
                    await answer.tell(f"ack {len(answer.chunks)}")
                    await answer.next()
                    if answer.is_over:
                        break
            finally:
                own_postgres.signal(signal.SIGCONT)
            assert answer.code == "504"
            assert len((await asked(client, "SELECT * FROM history")).rows) == 100
            await asyncio.to_thread(until, lambda: own_postgres.running_queries() == 0)

    asyncio.run(main())


def test_file_in_use_is_told_and_passes(server: NatsServer, tmp_path: Path) -> None:
    """While another process has the file open, each answer is an error 500; later it has rows."""
    holder = DuckDb(tmp_path / "h.duckdb")
    fill(holder, 10)

    async def main() -> None:
        async with connected(server.url) as client:
            with service_process(server.url, tmp_path / "h.duckdb", tmp_path / "out"):
                headers = await tables(client)
                assert headers["Nats-Service-Error-Code"] == "500"
                assert "in use by another process" in headers["Nats-Service-Error"]
                assert (await asked(client, "SELECT 1 AS n")).code == "500"
                holder.close()
                assert len((await asked(client, "SELECT * FROM history")).rows) == 10

    asyncio.run(main())


def test_password_shows_nowhere(server: NatsServer, postgres: PostgresServer, tmp_path: Path) -> None:
    """The password is not on the command line, in an answer, in the service's description, or in its log."""
    env = {
        "LOOKBACK_HISTORY_DSN": postgres.empty_database(),
        "LOOKBACK_HISTORY_READER_DSN": postgres.dsn("archive", READER),
    }

    async def main() -> None:
        async with connected(server.url) as client:
            with service_process(server.url, tmp_path / "h", tmp_path / "out", **env) as process:
                shown = str(await tables(client))
                shown += str((await asked(client, "SELECT * FROM pg_stat_activity")).messages)
                shown += str((await client.request("$SRV.INFO.history", b"", timeout=10)).data)
                shown += " ".join(psutil.Process(process.pid).cmdline())
            shown += (tmp_path / "out").read_text()
            assert "pg_stat_activity" in shown
            assert PASSWORD not in shown

    asyncio.run(main())


def test_tables_that_there_are(database: Database, server: NatsServer) -> None:
    """history.tables lists tables with columns, rows, first and last time."""
    fill(database, 3)

    async def main() -> None:
        async with serving(database, server.url) as client:
            found = {table["name"]: table for table in (await tables(client))["tables"]}
            assert found["history"]["rows"] == 3
            assert found["history"]["columns"][0] == {
                "name": "stream",
                "type": found["history"]["columns"][0]["type"],
            }
            assert (found["history"]["first"], found["history"]["last"]) == (
                "2026-01-01T00:00:01Z",
                "2026-01-01T00:00:03Z",
            )

    asyncio.run(main())


def test_caller_of_npm_with_a_sentinel(database: Database, server: NatsServer) -> None:
    """The npm client's request-many gets all rows, and needs to know only that an empty message is the
    end."""
    fill(database, 3000)

    async def main() -> None:
        async with serving(database, server.url):
            with node(
                "request_many.mjs", server.url, "SELECT seq, payload FROM history ORDER BY seq"
            ) as script:
                got = json.loads(await asyncio.to_thread(script.line))
            assert got["rows"] == 3000
            assert got["first"] == {"seq": 1, "payload": {"n": 1}}
            assert got["last"] == {"seq": 3000, "payload": {"n": 3000}}
            assert got["messages"] > 1

    asyncio.run(main())


def test_own_caller(database: Database, server: NatsServer) -> None:
    """Client.query has the same rows in Arrow and in JSON, and its stop ends the query."""
    fill(database, 5000)

    async def main() -> None:
        async with serving(database, server.url):
            await asyncio.to_thread(call)

    def call() -> None:
        with Client(Settings(url=server.url)) as client:
            for accept in ("arrow", "json"):
                query = client.query(
                    "history.query", {"sql": "SELECT * FROM history ORDER BY seq"}, accept=accept, credit=2
                )
                assert query.wait(30)
                assert (query.state, query.error, query.total) == ("done", None, 5000)
                assert query.frame()["seq"].tolist() == list(range(1, 5001))
            query = client.query("history.query", {"sql": HEAVY})
            time.sleep(1.5)
            query.stop()
            assert query.wait(30)
            assert (query.state, query.error) == ("stopped", None)

    asyncio.run(main())


def test_beside_the_embedded_server(run_app: Callable[[], App], data_dir: Path) -> None:
    """The embedded server comes with a history service, which is queried from another account and whose
    archive fills."""
    run_app().url()
    servers = login(data_dir, "dashboard")

    async def main() -> None:
        async with connected(servers.pop("servers"), **servers) as client:
            assert {table["name"] for table in (await tables(client))["tables"]} == {"history", "messages"}
            async with asyncio.timeout(30):
                found = [{"n": 0}]
                while found == [{"n": 0}]:
                    found = (await asked(client, "SELECT count(*) AS n FROM history")).rows

    asyncio.run(main())
