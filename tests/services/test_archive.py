"""One time line: rows from the archive and from the stream, without a gap or a duplicate where they meet.

A feed, the history service and the archiver are tested together here, beside the tests of the databases.

Slow, because archivers are killed in the middle of their work, with each database.
"""

import asyncio
import gzip
import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nats_client import Client, Feed, NamedFeed, Settings
from nats_client.decoding import own_decoders, schema_files
from nats_client.decoding.raw import Raw
from nats_client.environment import HISTORY_DSN, HISTORY_READER_DSN
from nats_client.errors import SettingsError
from nats_client.feeds.archive import _ROWS, PART
from nats_client.requests.query import ENDED
from services.history import archiver as archiving
from services.history import duckdb_file, postgresql
from services.history.archiver import ArchiveError, Archiver, streams_to_copy
from services.history.database import Database, Message
from services.history.decoded import decoded
from services.history.service import History
from services.workflow import Workflow
from tests.archive import rows
from tests.jetstream import stream, work, worker
from tests.nats import NatsServer, numbered
from tests.postgres import READER, PostgresServer
from tests.publisher import Publisher
from tests.running import ROOT
from tests.waiting import until

ARCHIVE = "history.query"
one_database = pytest.mark.parametrize("database", ["DuckDB"], indirect=True)


def archived(
    server: NatsServer,
    database: Database,
    streams: tuple[str, ...] = ("S",),
    *,
    again: bool = False,
    archiver: Archiver | None = None,
) -> None:
    """Run the archiver once: the given one, or a new one."""
    settings = Settings(url=server.url)
    archiver = archiver or Archiver(database, settings, streams_to_copy(streams), again=again)

    async def run() -> None:
        async with Workflow("archive", url=server.url) as workflow:
            await archiver.run(workflow)

    asyncio.run(run())


@contextmanager
def history(server: NatsServer, database: Database) -> Iterator[None]:
    """The history service, in its own thread."""
    loop = asyncio.new_event_loop()
    serving = loop.create_task(History(database).serve(Settings(url=server.url)))
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.wait({serving})))
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(serving.cancel)
        thread.join()
        loop.close()


def purge(server: NatsServer, keep: int) -> None:
    """Purge all but the newest messages of the stream."""
    server.run(lambda nc: nc.jetstream().purge_stream("S", keep=keep))


def sequences(feed: Feed | NamedFeed) -> list[int]:
    """The stream sequences of the feed's rows."""
    found: list[int] = feed.snapshot().seq.tolist()
    return found


def missing(feed: Feed | NamedFeed) -> int:
    """The number of messages in the feed's gaps."""
    return sum(gap.count or 0 for gap in feed.health.gaps)


@one_database
def test_filter_and_archive(server: NatsServer, database: Database, client: Client) -> None:
    """A feed with a `where` has the rows that match, from the archive and from the stream, and no gap."""
    server.publish("s.a", *numbered(300))
    archived(server, database)
    purge(server, 100)
    with history(server, database):
        feed = client.feed("S", look_back="PT1H", archive=ARCHIVE, where="n % 7 = 0", columns={"m": "n / 7"})
        assert feed.wait(30)
        server.publish("s.a", *numbered(50, 300))
        until(lambda: feed.snapshot().numbers("m").tolist() == list(range(50)))
        until(lambda: feed.health.read == 350)
        assert feed.health.gaps == ()


def test_no_seam(server: NatsServer, database: Database, client: Client) -> None:
    """Rows that have left the stream come before those it still has, each once, while new messages arrive."""
    server.publish("s.a", *numbered(300))
    archived(server, database)
    purge(server, 100)
    with history(server, database), Publisher([server.url]) as publisher:
        feed = client.feed("S", look_back="PT1H", archive=ARCHIVE)
        assert feed.wait(30)
        until(lambda: publisher.count > 100)
        publisher.pause()
        total = 300 + publisher.count
        until(lambda: len(feed.snapshot()) == total)
        assert sequences(feed) == list(range(1, total + 1))
        assert feed.snapshot().numbers("n")[:300].tolist() == list(range(300))
        assert not feed.health.gaps
        assert feed.health.begins is None
        assert feed.health.archive is None
        publisher.resume()
    assert client.feed("S", look_back="PT1H") is not feed


def test_filter(server: NatsServer, database: Database, client: Client) -> None:
    """Only rows that match the feed's filters come from the archive; characters of regular expressions have
    no special meaning in a filter."""
    for i, subject in enumerate(["s.a+b.x", "s.aab.x", "s.a+b.y.z", "s.a+b", "s.a%.x"] * 3):
        server.publish(subject, *numbered(1, i))
    archived(server, database)
    purge(server, 1)
    wanted = {
        "s.a+b.*": ["s.a+b.x"],
        "s.a+b.>": ["s.a+b.x", "s.a+b.y.z"],
        "s.*.x": ["s.a%.x", "s.a+b.x", "s.aab.x"],
        ("s.a+b", "s.aab.*"): ["s.a+b", "s.aab.x"],
    }
    with history(server, database):
        for pattern, subjects in wanted.items():
            feed = client.feed("S", pattern, look_back="PT1H", archive=ARCHIVE)
            assert feed.wait(30)
            assert sorted(feed.frame()["_subject"].astype(str)) == sorted(subjects * 3)


@one_database
def test_stretches(server: NatsServer, database: Database, client: Client) -> None:
    """A stretch in the past has each of its rows once, from the archive, from the stream or from both.
    Messages of the stretch that neither has are a gap."""
    for i in range(6):
        server.publish("s.a", *numbered(20, 20 * i))
        if i == 2:
            archived(server, database)
        time.sleep(0.3)
    stored = client.feed("S", look_back="PT1H")
    assert stored.wait(30)
    times = pd.Series(stored.snapshot().received, index=stored.snapshot().seq)
    purge(server, 40)  # 1 to 60 are archived, 81 to 120 are left
    with history(server, database):
        for first, last in ((1, 20), (21, 60), (41, 120), (90, 110), (61, 80), (1, 120)):
            start, end = pd.Timestamp(times[first], tz="UTC"), pd.Timestamp(times[last], tz="UTC")
            start, end = start.floor("ms"), end.ceil("ms") + pd.Timedelta(milliseconds=1)
            feed = client.feed("S", look_back=end - start, end=end, archive=ARCHIVE)
            assert feed.wait(30)
            until(lambda feed=feed: feed.health.ended)  # type: ignore[misc]
            inside = times[(times >= start.value) & (times < end.value)].index
            held = [seq for seq in inside if seq <= 60 or seq > 80]
            # A busy archive is queried again
            until(lambda feed=feed, held=held: sequences(feed) == held)  # type: ignore[misc]
            if held and held[0] <= 60 < 80 < held[-1]:
                assert missing(feed) == 20
            elif held:
                assert not missing(feed)


@one_database
def test_rows_that_leave_the_stream_stay(server: NatsServer, database: Database, client: Client) -> None:
    """While live, a row leaves the window only if neither the stream nor the archive has its message."""
    server.publish("s.a", *numbered(50))
    archived(server, database)
    server.publish("s.a", *numbered(50, 50))
    with history(server, database):
        feed = client.feed("S", look_back="PT1H", archive=ARCHIVE)
        assert feed.wait(30)
        assert sequences(feed) == list(range(1, 101))
        server.run(lambda nc: nc.jetstream().delete_msg("S", 40))
        server.run(lambda nc: nc.jetstream().delete_msg("S", 90))
        purge(server, 20)
        kept = [*range(1, 51), *(seq for seq in range(80, 101) if seq != 90)]
        until(lambda: sequences(feed) == kept)
        assert missing(feed) == 100 - len(kept)


@one_database
@pytest.mark.parametrize("retention", ["workqueue", "interest", "limits"])
def test_without_a_consumer(server: NatsServer, database: Database, client: Client, retention: str) -> None:
    """The archiver copies streams that accept no consumer of ours, and takes nothing from their workers.
    Processed messages are on the time line, and are no gap."""
    stream(server, "JOBS", "jobs.>", retention=retention, max_consumers=1)
    worker(server, "JOBS", filter_subject="jobs.>")
    server.publish("jobs.a", *numbered(30))
    archived(server, database, ("JOBS",))
    server.publish("jobs.a", *numbered(10, 30))
    assert len(work(server, "JOBS", 35)) == 35
    with history(server, database):
        feed = client.feed("JOBS", look_back="PT1H", archive=ARCHIVE)
        assert feed.wait(30)
        held = list(range(1, 41)) if retention == "limits" else [*range(1, 31), *range(36, 41)]
        assert sequences(feed) == held
        assert not feed.health.gaps
        assert feed.health.begins is None
    assert len(work(server, "JOBS", 5)) == 5


@one_database
def test_archiver_was_late(server: NatsServer, database: Database, client: Client) -> None:
    """Messages that left the stream before they were archived are a gap with their number."""
    server.publish("s.a", *numbered(50))
    archived(server, database)
    server.publish("s.a", *numbered(50, 50))
    purge(server, 20)
    with history(server, database):
        feed = client.feed("S", look_back="PT1H", archive=ARCHIVE)
        assert feed.wait(30)
        assert sequences(feed) == [*range(1, 51), *range(81, 101)]
        assert missing(feed) == 30
        archived(server, database)
        later = client.feed("S", look_back="PT2H", archive=ARCHIVE)
        assert later is feed
        assert missing(feed) == 30


@one_database
def test_no_archive_answers(server: NatsServer, database: Database, client: Client) -> None:
    """Without an archive the feed has the stream's rows, reports the reason, and retries."""
    server.publish("s.a", *numbered(30))
    archived(server, database)
    purge(server, 10)
    feed = client.feed("S", look_back="PT1H", archive=ARCHIVE)
    assert feed.wait(30)
    assert sequences(feed) == list(range(21, 31))
    assert "No responders for 'history.query'" in str(feed.health.archive)
    with history(server, database):
        until(lambda: sequences(feed) == list(range(1, 31)))
        assert feed.health.archive is None


@one_database
def test_longer_look_back(server: NatsServer, database: Database, client: Client) -> None:
    """A longer look-back fetches the missing rows from the archive, and no row twice."""
    server.publish("s.a", *numbered(20))
    threading.Event().wait(3)
    server.publish("s.a", *numbered(20, 20))
    archived(server, database)
    purge(server, 10)
    with history(server, database):
        feed = client.feed("S", look_back="PT3S", archive=ARCHIVE)
        assert feed.wait(30)
        assert min(sequences(feed) or [31]) > 30 or sequences(feed)[0] >= 21
        client.feed("S", look_back="PT1H", archive=ARCHIVE)
        until(lambda: sequences(feed) == list(range(1, 41)))


@one_database
def test_other_stream_of_the_same_name(server: NatsServer, database: Database, client: Client) -> None:
    """The archive of a deleted stream has no effect on a new stream of the same name."""
    server.publish("s.a", *numbered(20))
    archived(server, database)
    server.run(lambda nc: nc.jetstream().delete_stream("S"))
    server.add_stream("S", ["s.>"])
    server.publish("s.a", *numbered(20, 100))
    archived(server, database)
    purge(server, 5)
    with history(server, database):
        feed = client.feed("S", look_back="PT1H", archive=ARCHIVE)
        assert feed.wait(30)
        assert feed.snapshot().numbers("n").tolist() == list(range(100, 120))


@one_database
def test_made_anew_while_live(server: NatsServer, database: Database, client: Client) -> None:
    """If the stream is recreated while live, the old stream's archive does not keep rows of the new one in
    the window."""
    server.publish("s.a", *numbered(20))
    archived(server, database)
    purge(server, 5)
    with history(server, database):
        feed = client.feed("S", look_back="PT1H", archive=ARCHIVE)
        assert feed.wait(30)
        assert sequences(feed) == list(range(1, 21))
        server.run(lambda nc: nc.jetstream().delete_stream("S"))
        server.add_stream("S", ["s.>"])
        server.publish("s.a", *numbered(10, 100))
        until(lambda: feed.health.recreated == 1 and sequences(feed) == list(range(1, 11)))
        purge(server, 4)
        until(lambda: sequences(feed) == list(range(7, 11)))
        assert missing(feed) == 6


@one_database
def test_gap_between_parts(
    server: NatsServer, database: Database, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages missing in the archive are counted, even where two fetched parts meet."""
    monkeypatch.setattr("nats_client.feeds.archive._ROWS", _ROWS.replace(f"LIMIT {PART}", "LIMIT 10"))
    server.publish("s.a", *numbered(50))
    server.run(lambda nc: nc.jetstream().delete_msg("S", 39))
    server.run(lambda nc: nc.jetstream().delete_msg("S", 33))
    archived(server, database)
    purge(server, 1)
    with history(server, database):
        feed = client.feed("S", look_back="PT1H", archive=ARCHIVE)
        assert feed.wait(30)
        assert sequences(feed) == [seq for seq in range(1, 51) if seq not in (33, 39)]
        assert missing(feed) == 2


def test_payloads_of_all_kinds(server: NatsServer, database: Database, client: Client) -> None:
    """Payloads from the archive are decoded like those from the stream, to the same rows and counts."""
    payloads = [b'{"a": 1, "b": "x"}', b"not JSON", b"[1, 2]", b'{"a": NaN}', b"\xff\x00", b'"\\u0000"', b"7"]
    server.publish("s.a", *payloads)
    whole = client.feed("S", look_back="PT1H")
    assert whole.wait(30)
    expected, malformed = whole.frame(), whole.health.malformed
    archived(server, database)
    server.publish("s.a", b'{"a": 5}')
    purge(server, 1)
    with history(server, database):
        feed = client.feed("S", look_back="PT1H", archive=ARCHIVE)
        assert feed.wait(30)
        found = feed.frame().iloc[: len(expected)]
        assert found["_seq"].tolist() == expected["_seq"].tolist()
        assert found["value"].astype(str).tolist() == expected["value"].astype(str).tolist()
        assert (found.index - expected.index).max().total_seconds() < 1e-6
        assert feed.health.malformed == malformed


PUMP = """
import struct

def decode(payload, subject, headers):
    pressure, count = struct.unpack(">fI", payload)
    return {"pressure": pressure, "count": count, "site": subject.split(".")[1], "unit": headers.get("unit")}
"""


def test_a_decoder_of_ones_own(
    server: NatsServer,
    database: Database,
    client: Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The archiver finds a decoder in the folder, as pages do. SQL reads its result for each message, with
    headers, and a feed has the same rows from the archive as from the stream. A message that it cannot decode
    is archived, too."""
    monkeypatch.setattr(schema_files, "FOLDER", tmp_path)
    (tmp_path / "pump.py").write_text(PUMP)
    packed = [struct.pack(">fI", i / 2, i) for i in range(20)]

    async def publish(nc: Any) -> None:
        for payload in packed:
            await nc.jetstream().publish("s.north", payload, headers={"unit": "bar"})
        await nc.jetstream().publish("s.north", b"no pump")

    server.run(publish)
    feed = client.feed("S", look_back="PT1H", decoder="pump", archive=ARCHIVE)
    until(lambda: len(feed.snapshot()) == 20)
    live = feed.frame()
    archived(server, database, ("S=pump",))
    sql = "SELECT payload->>'count' AS n, payload->>'site' AS site, payload->>'unit' AS unit FROM history"
    with history(server, database):
        purge(server, 1)
        again = client.feed("S", "s.>", look_back="PT1H", decoder="pump", archive=ARCHIVE)
        until(lambda: len(again.snapshot()) == 20)
        names = ["pressure", "count", "site"]  # rows from the archive have no headers
        assert again.frame()[names].values.tolist() == live[names].values.tolist()
        query = client.query(ARCHIVE, {"sql": f"{sql} WHERE payload IS NOT NULL ORDER BY seq"})
        until(lambda: query.state in ENDED)
        assert query.state == "done", query.error
        found = query.frame()
        assert found["n"].astype(int).tolist() == list(range(20))
        assert (set(found["site"]), set(found["unit"])) == ({"north"}, {"bar"})
    kept = rows(database, "SELECT raw, payload FROM messages ORDER BY seq")
    assert [each["raw"] for each in kept] == [*packed, b"no pump"]
    assert [each["payload"] is None for each in kept] == [False] * 20 + [True]
    own_decoders.close_all()


def test_decoded_again(
    server: NatsServer, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages archived with another decoder, or with none, are decoded again on request, in parts over
    several runs. Each row is decoded once, and JSON that the decoder can read, too. A message that cannot be
    decoded keeps its row, other streams keep theirs, and a repeat changes nothing. Without a decoder, rows
    become as if archived without one."""
    monkeypatch.setattr(schema_files, "FOLDER", tmp_path)
    (tmp_path / "pump.py").write_text(PUMP)
    packed = [struct.pack(">fI", i / 2, i) for i in range(20)]
    eight = [b'{"n":%d}' % i for i in range(20, 22)]  # as many bytes as the decoder reads
    server.publish("s.north", *packed, *eight, b'{"other": 1}', b"no pump")
    server.add_stream("OTHER", ["o.>"])
    server.publish("o.a", *packed)
    archived(server, database, ("S", "OTHER"))
    sql = "SELECT stream, seq, subject, payload, raw FROM messages ORDER BY stream, seq"
    before = rows(database, sql)
    assert [each["payload"] is None for each in before] == [True] * 20 + [True] * 20 + [False] * 3 + [True]
    for module in (duckdb_file, postgresql):
        monkeypatch.setattr(module, "MOST_STORED", 9)
    monkeypatch.setattr(archiving, "AGAIN_FOR", 0.0)
    archiver = Archiver(database, Settings(url=server.url), streams_to_copy(("S=pump",)), again=True)
    for done in (9, 18, 22):
        archived(server, database, archiver=archiver)
        found = [each for each in rows(database, sql) if each["stream"] == "S"]
        assert sum("pressure" in (each["payload"] or "") for each in found) == done
    server.publish("s.north", packed[0])
    archived(server, database, archiver=archiver)
    after = rows(database, sql)
    assert [each for each in after if each["stream"] == "OTHER"] == before[:20]
    found = [each for each in after if each["stream"] == "S"]
    assert [each["seq"] for each in found] == list(range(1, 26))
    assert [json.loads(each["payload"])["count"] for each in found[:20]] == list(range(20))
    assert [each["raw"] for each in found] == [*packed, *eight, None, b"no pump", packed[0]]
    assert [each["payload"] for each in found[22:24]] == ['{"other": 1}', None]
    assert json.loads(found[24]["payload"])["site"] == "north"
    monkeypatch.setattr(archiving, "AGAIN_FOR", 60.0)
    archived(server, database, ("S=pump",), again=True)
    assert rows(database, sql) == after
    (tmp_path / "none.py").write_text("def decode(payload):\n    raise ValueError('no')")
    archived(server, database, ("S=none",), again=True)
    assert rows(database, sql) == after
    archived(server, database, ("S",), again=True)
    assert rows(database, sql)[:44] == before
    own_decoders.close_all()


RESTARTED = """
import sys
from services.history import duckdb_file, postgresql
from services.history.service import main

duckdb_file.MOST_STORED = postgresql.MOST_STORED = 20
main()
"""
SLOW = """
import time

def decode(payload):
    time.sleep(0.01)
    return {"bytes": len(payload)}
"""


def test_decoding_again_is_killed(
    server: NatsServer, database: Database, client: Client, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """After a kill and a restart, decoding again goes through all messages: each is there once, and decoded.
    Meanwhile queries are answered, and new messages archived."""
    (tmp_path / "slow.py").write_text(SLOW)
    server.publish("s.a", *(b"\xff" * (i + 1) for i in range(400)))
    archived(server, database)
    database.close()
    dsn: dict[str, str] = {}
    if isinstance(database, postgresql.PostgreSql):
        postgres: PostgresServer = request.getfixturevalue("postgres")
        dsn = {
            HISTORY_DSN.variable: postgres.dsn("archive"),
            HISTORY_READER_DSN.variable: postgres.dsn("archive", READER),
        }
    command = [
        sys.executable,
        "-c",
        RESTARTED,
        server.url,
        str(tmp_path / "history.duckdb"),
        "--again",
        "S=slow",
    ]
    environment = {**os.environ, **dsn, "LOOKBACK_DECODERS": str(tmp_path), "PYTHONPATH": str(ROOT)}

    def decoded_so_far() -> int:
        query = client.query(ARCHIVE, {"sql": "SELECT count(*) AS n FROM history WHERE payload IS NOT NULL"})
        until(lambda: query.state in ENDED)
        return int(query.frame()["n"][0]) if query.state == "done" else 0

    for most in (200, 401):
        with subprocess.Popen(command, env=environment, cwd=ROOT) as process:
            try:
                until(lambda most=most: decoded_so_far() >= min(most, 60 if most < 400 else most), 60)  # type: ignore[misc]
                if most == 200:
                    assert decoded_so_far() < 400
                    server.publish("s.a", b"\xff")
            finally:
                process.kill()
    found = rows(database, "SELECT seq, payload, raw FROM messages ORDER BY seq")
    assert [each["seq"] for each in found] == list(range(1, 402))
    assert [json.loads(each["payload"])["bytes"] for each in found] == [*range(1, 401), 1]
    assert all(each["raw"] for each in found)


@one_database
def test_interval_and_age_are_settings(
    server: NatsServer, database: Database, client: Client, tmp_path: Path
) -> None:
    """An operator sets how often the archiver runs, and the days after which it deletes a message."""
    old = datetime.now(UTC) - timedelta(days=3)
    at_first = [Message("S", old, n, old + timedelta(days=n), "s.a", b"1") for n in (0, 2)]
    database.insert(at_first)
    database.close()
    server.publish("s.a", b"2")
    command = [sys.executable, "-m", "services.history", server.url, str(tmp_path / "history.duckdb"), "S"]
    settings = {"LOOKBACK_ARCHIVE_EVERY": "0.2", "LOOKBACK_ARCHIVE_DAYS": "2"}

    def payloads() -> list[str]:
        query = client.query(ARCHIVE, {"sql": "SELECT payload::VARCHAR AS p FROM history ORDER BY 1"})
        until(lambda: query.state in ENDED)
        return list(query.frame()["p"]) if query.state == "done" else []

    with subprocess.Popen(command, env=os.environ | settings, cwd=ROOT) as process:
        try:
            until(lambda: payloads() == ["1", "2"], 30)
            server.publish("s.a", b"3")
            until(lambda: payloads() == ["1", "2", "3"], 30)
        finally:
            process.kill()


def test_again_needs_streams(tmp_path: Path) -> None:
    """--again without a stream is an error that says what is missing."""
    command = [sys.executable, "-m", "services.history", "nats://127.0.0.1:1", str(tmp_path / "h"), "--again"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        done.stderr.strip() == "--again needs the streams whose archive is decoded again, such as PUMPS=pump."
    )


@one_database
def test_decoders_and_what_is_no_json(
    server: NatsServer, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON equal to the decoder's result is stored once, and compressed JSON is decoded. A payload that is
    too large, or whose decoder is gone, is archived as raw bytes alone."""
    monkeypatch.setattr(schema_files, "FOLDER", tmp_path)
    (tmp_path / "gone.py").write_text("def decode(payload):\n    return {}")
    large = json.dumps({"x": "y" * 2_000_000}).encode()
    server.publish("s.a", b'{"n": 1}', gzip.compress(b'{"n": 2}'), gzip.compress(large), b"\xc1")
    archived(server, database, ("S=json",))
    assert [each["payload"] for each in rows(database, "SELECT payload FROM messages ORDER BY seq")] == [
        '{"n": 1}',
        '{"n":2}',
        None,
        None,
    ]
    assert [each["raw"] is None for each in rows(database, "SELECT raw FROM messages ORDER BY seq")] == [
        True,
        False,
        False,
        False,
    ]
    copied = streams_to_copy(("S=gone", "OTHER"))
    assert copied == {"S": "gone", "OTHER": None}
    (tmp_path / "gone.py").unlink()
    values, failed, why = decoded(Raw([1], [0], ["s"], [b"x"]), "gone")
    assert (values, failed) == ([None], [0])
    assert "There is no decoder 'gone'" in why
    with pytest.raises(SettingsError, match="no decoder 'pmup'"):
        streams_to_copy(("S=pmup",))


def test_archiver_goes_on(server: NatsServer, database: Database) -> None:
    """Each run copies new messages once, and is reported as a run of the workflow `archive`."""
    server.publish("s.a", *numbered(10))
    archived(server, database)
    archived(server, database)
    server.publish("s.b", *numbered(10, 10))
    archived(server, database)
    stored = rows(database, "SELECT seq, subject, payload FROM history ORDER BY seq")
    assert [row["seq"] for row in stored] == list(range(1, 21))
    assert json.loads(stored[-1]["payload"]) == {"n": 19}

    async def reported(nc: Any) -> list[str]:
        js = nc.jetstream()
        info = await js.stream_info("WORKFLOWS", subjects_filter="workflow.archive.>")
        return sorted(".".join(subject.split(".")[3:]) for subject in info.state.subjects)

    events = server.run(reported)
    assert events.count("S.copy.finished") == 3
    assert events.count("-.-.finished") == 3


@one_database
def test_archiver_passes_over_what_is_gone(
    server: NatsServer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copying continues after more missing messages than are copied at once: at the start, between two runs,
    and in the middle."""
    monkeypatch.setattr("services.history.archiver.PART", 10)

    async def delete(nc: Any) -> None:
        for seq in range(80, 105):
            await nc.jetstream().delete_msg("S", seq)

    server.publish("s.a", *numbered(60))
    purge(server, 10)
    archived(server, database)
    server.publish("s.a", *numbered(60, 60))
    purge(server, 45)
    server.run(delete)
    archived(server, database)
    stored = rows(database, "SELECT seq FROM messages ORDER BY seq")
    assert [row["seq"] for row in stored] == [*range(51, 61), *range(76, 80), *range(105, 121)]


@one_database
def test_stream_that_is_not_there(server: NatsServer, database: Database) -> None:
    """A stream that cannot be archived fails its job and the run, and does not delay the other streams."""
    server.publish("s.a", *numbered(10))
    with pytest.raises(ArchiveError, match="NONE: stream not found"):
        archived(server, database, ("NONE", "S"))
    assert len(rows(database, "SELECT seq FROM history")) == 10
