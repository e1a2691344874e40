"""Buckets and queries as tables of SQL, against a real nats-server and the real history service."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nats_client import Client, Settings, Watch
from nats_client.results.inputs import AnswerRows, BucketValues, Input, Moment, Rows
from nats_client.results.result import Query, Result, Results
from services.history.database import Message
from tests.archive import history
from tests.nats import NatsServer
from tests.waiting import until

NOW = datetime.now(UTC).replace(microsecond=0)
ARCHIVED = [
    Message("S", NOW, seq, NOW - timedelta(minutes=seq), f"s.{'ab'[seq % 2]}", b'{"n": %d}' % seq)
    for seq in range(1, 11)
]


@pytest.fixture
def results() -> Iterator[Results]:
    """Results that end with the test."""
    results = Results()
    yield results
    results.close()


def put(server: NatsServer, **values: object) -> None:
    """Write keys of the bucket `limits`; None deletes one."""

    async def work(nc: Any) -> None:
        bucket = await nc.jetstream().create_key_value(bucket="limits")
        for key, value in values.items():
            if value is None:
                await bucket.delete(key)
            else:
                await bucket.put(key, value if isinstance(value, bytes) else json.dumps(value).encode())

    server.run(work)


def bucket(client: Client, keys: int) -> Watch:
    """The bucket `limits`, once it has `keys` keys."""
    watch = client.values("limits")
    assert watch.wait(20)
    until(lambda: watch.snapshot().held == keys)
    return watch


def asked(results: Results, sql: str, **tables: Input) -> Result:
    """A result, once it is computed."""
    found = results.get("", Query(sql, tuple(tables), {}), tables)
    assert found.wait(30)
    return found


def shown(result: Result) -> list[dict[str, Any]]:
    """The rows of a result without their times, missing values as None."""
    rows = result.snapshot()
    frame = rows.frame().reset_index(drop=True).astype(object)
    found: list[Any] = frame.where(frame.notna(), None).to_dict("records")
    return found


def test_rows_joined_with_a_bucket(server: NatsServer, client: Client, results: Results) -> None:
    """Each row is joined with the values of its key, also after a key was written or deleted. A field named
    like a column of the table gets another name, and the fields of nested objects can be read."""
    put(
        server,
        a={"most": 10, "room": {"name": "attic"}, "key": "A"},
        b={"most": 20, "room": {"name": "hall"}, "key": "B"},
    )
    server.publish("s.a", b'{"n": 7}', b'{"n": 11}')
    server.publish("s.b", b'{"n": 11}')
    feed = client.feed("S", "s.{name}", look_back="PT5M")
    assert feed.wait(20)
    found = asked(
        results,
        "SELECT s.name, limits.room.name AS room, payloadkey, max(n) - any_value(most) AS above"
        " FROM s LEFT JOIN limits ON s.name = limits.key GROUP BY ALL ORDER BY ALL",
        s=Rows(feed, pd.Timedelta("PT5M")),
        limits=BucketValues(bucket(client, 2)),
    )
    attic = {"name": "a", "room": "attic", "payloadkey": "A", "above": 1}
    assert shown(found) == [attic, {"name": "b", "room": "hall", "payloadkey": "B", "above": -9}]
    put(server, b=None, a={"most": 5, "room": {"name": "attic"}, "key": "A"})
    wanted = [attic | {"above": 6}, {"name": "b", "room": None, "payloadkey": None, "above": None}]
    until(lambda: shown(found) == wanted)


def test_values_that_are_no_objects(server: NatsServer, client: Client, results: Results) -> None:
    """If all values are numbers, they stay numbers; otherwise all become text, objects and arrays as JSON.
    Each row has the time of its revision."""
    put(server, a=1, b=2.5)
    limits = BucketValues(bucket(client, 2))
    found = asked(results, "SELECT key, value, _time FROM b", b=limits)
    until(lambda: shown(found) == [{"key": "a", "value": 1}, {"key": "b", "value": 2.5}])
    times = [entry.updated // 1000 * 1000 for entry in limits.bucket.snapshot().entries()]
    assert found.snapshot().time.tolist() == times
    put(server, b={"x": [1, None]}, c=[1, 2], d="text", e=b"\xff")
    texts = asked(results, "SELECT key, value FROM b ORDER BY key", b=limits)
    wanted = {"a": "1", "b": '{"x":[1,null]}', "c": "[1,2]", "d": "text", "e": "1 bytes: ff"}
    until(lambda: {row["key"]: row["value"] for row in shown(texts)} == wanted)


def test_arrays_and_objects_are_json(server: NatsServer, client: Client, results: Results) -> None:
    """Values other than numbers, texts and times become text: arrays and objects as JSON."""
    put(server, a={"cores": [3, 7], "spot": {"x": 1, "y": None}})
    found = asked(results, "SELECT cores, spot FROM b", b=BucketValues(bucket(client, 1)))
    until(lambda: shown(found) == [{"cores": "[3,7]", "spot": '{"x":1,"y":null}'}])


def test_a_bucket_that_is_not_held_whole(server: NatsServer, results: Results) -> None:
    """A bucket with more keys than are held gives an error, and no partial result."""
    put(server, **{f"k{n}": n for n in range(5)})
    with Client(Settings(url=server.url, bucket_keys=3)) as client:
        watch = client.values("limits")
        assert watch.wait(20)
        until(lambda: not watch.snapshot().complete)
        found = asked(results, "SELECT count(*) AS n FROM b", b=BucketValues(watch))
        assert "has more keys than the 3 held here" in str(found.error)


def test_a_table_is_made_once_per_version(server: NatsServer, client: Client) -> None:
    """Reading a bucket that has not changed decodes no value again."""
    put(server, a=1)
    limits = BucketValues(bucket(client, 1))
    (_, first), (_, again) = limits.take(Moment()), limits.take(Moment())
    assert first is again
    put(server, a=2)
    until(lambda: limits.take(Moment())[1] is not first)


@pytest.mark.parametrize("accept", ["arrow", "json"])
def test_rows_joined_with_a_query(
    server: NatsServer, client: Client, results: Results, tmp_path: Path, accept: str
) -> None:
    """The rows of a query are a table, and its times are times in both formats. New live rows update the join
    of both."""
    server.publish("s.a", b'{"n": 100}')
    feed = client.feed("S", "s.{name}", look_back="PT5M")
    assert feed.wait(20)
    sql = (
        "SELECT split_part(subject, '.', 2) AS name, time, CAST(payload->>'n' AS double precision) AS n"
        " FROM history"
    )
    with history(server, tmp_path, ARCHIVED):
        asked_for = client.query("history.query", {"sql": sql}, accept=accept)
        until(lambda: asked_for.state == "done")
    tables: dict[str, Input] = {
        "old": AnswerRows(asked_for),
        "live": Rows(feed, pd.Timedelta("PT5M")),
    }
    archived = asked(results, "SELECT time, name, n FROM old", old=tables["old"])
    wanted = sorted((pd.Timestamp(each.time).value, json.loads(each.payload)["n"]) for each in ARCHIVED)
    rows = archived.snapshot()
    assert list(zip(rows.time.tolist(), rows.numbers("n").tolist(), strict=True)) == wanted
    both = asked(
        results,
        "SELECT name, max(live.n) / avg(old.n) AS times FROM live JOIN old USING (name) GROUP BY name",
        **tables,
    )
    assert shown(both) == [{"name": "a", "times": pytest.approx(100 / 6)}]
    server.publish("s.b", b'{"n": 10}')
    server.publish("s.a", b'{"n": 300}')
    until(lambda: {row["name"]: row["times"] for row in shown(both)} == {"a": 50, "b": 2})
