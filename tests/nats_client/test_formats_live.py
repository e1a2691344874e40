"""Each format through a real server: a stream with its messages, read by feeds with different decoders."""

import gzip
import json
from pathlib import Path
from typing import Any

import cbor2
import msgpack
import pyarrow as pa
import pytest

from nats_client import Client, Settings
from nats_client.decoding import schema_files
from tests.nats import NatsServer, running_server
from tests.nats_client.test_formats import HEADERS, container, ipc
from tests.samples import ORDER, SHOP, order_bytes, write_schemas
from tests.waiting import until

pytestmark = pytest.mark.real
JSON = [json.dumps({"ms": i, "name": f"n{i}"}).encode() for i in range(3)]
SENT: dict[str, tuple[list[bytes], dict[str, str]]] = {
    # format, payloads with three rows, headers
    "json": (JSON, {}),
    "msgpack": ([msgpack.packb({"ms": i}) for i in range(3)], {}),
    "cbor": ([cbor2.dumps({"ms": i}) for i in range(3)], {"Content-Type": "application/cbor"}),
    "arrow": ([ipc(pa.table({"ms": [0, 1, 2]}))], {}),
    "csv": ([b"ms,name\n0,a\n1,b\n2,c\n"], {"Content-Type": "text/csv"}),
    "influx": ([b"x ms=0\nx ms=1\n", b"x ms=2"], {}),
    "cloudevents": ([b'{"ms": 0}', b'{"ms": 1}', b'{"ms": 2}'], {**HEADERS}),
    "avro": (
        [container({"type": "record", "name": "r", "fields": [{"name": "ms", "type": "int"}]}, b"\0\2\4", 3)],
        {},
    ),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A nats-server with a stream for each format, and one with Protobuf."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:

        async def fill(nc: Any) -> None:
            jetstream = nc.jetstream()
            for name, (payloads, headers) in SENT.items():
                await jetstream.add_stream(name=name, subjects=[f"{name}.>"])
                for payload in payloads:
                    await jetstream.publish(f"{name}.a", payload, headers=headers or None)
            await jetstream.add_stream(name="mixed", subjects=["mixed.>"])
            for i, payload in enumerate([*JSON, gzip.compress(JSON[0]), order_bytes(), b"\xff\xff\xff"]):
                await jetstream.publish(f"mixed.{i}", payload)

        server.run(fill)
        yield server


@pytest.mark.parametrize("name", SENT)
def test_two_decoders_on_one_stream(server: NatsServer, name: str) -> None:
    """Feeds of one stream with different decoders do not share rows; each has its own."""
    column = "data.ms" if name == "cloudevents" else "ms"
    with Client(Settings(url=server.url)) as client:
        found, named, text = (client.feed(name, decoder=each) for each in ("auto", name, "text"))
        for feed in (found, named, text):
            assert feed.wait(30)
        until(lambda: not any(feed.health.pending for feed in (found, named, text)))
        assert found.frame()[column].tolist() == [0, 1, 2]
        assert set(found.frame()["_format"]) == {name}
        assert named.frame()[column].tolist() == [0, 1, 2]
        assert column not in text.snapshot().columns
        assert text.health.malformed + len(text.snapshot()) == len(SENT[name][0])


def test_several_formats_on_one_stream(
    server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Protobuf feed and a feed that recognises formats share a stream; each counts the messages it cannot
    read."""
    monkeypatch.setattr(schema_files, "FOLDER", tmp_path)
    write_schemas(tmp_path)
    (tmp_path / "sizes.py").write_text("def decode(payload):\n    return {'size': len(payload)}")
    with Client(Settings(url=server.url)) as client:
        auto = client.feed("mixed", decoder="auto")
        order = client.feed("mixed", "mixed.4", decoder=f"protobuf:mixed.>={ORDER}@{SHOP}")
        own = client.feed("mixed", decoder="sizes")
        for feed in (auto, order, own):
            assert feed.wait(30)
        until(lambda: not any(feed.health.pending for feed in (auto, order, own)))
        assert auto.frame()["ms"].dropna().tolist() == [0, 1, 2, 0]
        assert order.frame()["id"].tolist() == [2**60 + 1]
        assert own.frame()["size"].tolist()[:3] == [len(payload) for payload in JSON]
        assert (order.health.malformed, own.health.malformed) == (0, 0)
        assert auto.health.malformed == 6 - 4
        # An edited decoder reads the whole stream again.
        (tmp_path / "sizes.py").write_text("def decode(payload):\n    return {'twice': 2 * len(payload)}")
        again = client.feed("mixed", decoder="sizes")
        assert again.wait(30)
        until(lambda: len(again.snapshot()) == 6)
        assert again.frame()["twice"].tolist()[0] == 2 * len(JSON[0])


def test_headers_through_a_server(server: NatsServer) -> None:
    """Headers of stored messages are columns on request, and in the feed's messages."""
    with Client(Settings(url=server.url)) as client:
        feed, other = client.feed("cloudevents", headers=("ce-type", "CE-ID")), client.feed("cloudevents")
        assert feed is not other
        for each in (feed, other):
            assert each.wait(30)
            until(lambda: not each.health.pending)
        assert feed.frame()["ce-type"].tolist() == ["order"] * 3
        assert feed.frame()["CE-ID"].tolist() == ["7"] * 3
        assert "ce-type" not in other.snapshot().columns
        assert feed.newest()[0].headers["ce-source"] == "/shop"
