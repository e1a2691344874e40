"""Payloads in formats other than JSON: each becomes rows that keep its meaning, or is counted once with a
reason."""

import base64
import datetime as dt
import gzip
import io
import json
import re
import struct
import tempfile
import zlib
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import cbor2
import fastavro
import msgpack
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from cloudevents.v1.conversion import to_json
from cloudevents.v1.http import CloudEvent
from google.protobuf import descriptor_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from influxdb_client.client.write.point import Point

from nats_client.decoding import schema_files
from nats_client.decoding.decode import check_headers, decode
from nats_client.decoding.decoders import DECODERS, check_decoder, offered_decoders
from nats_client.decoding.raw import Raw
from nats_client.decoding.unpacked import LARGEST, snappy_block
from nats_client.errors import SettingsError
from nats_client.table.window import Window
from tests.samples import ORDER, SHOP, order_bytes, write_schemas

NOW = 1_700_000_000_123_456_789
WHEN = dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC)
HEADERS = {"ce-id": "7", "ce-source": "/shop", "ce-type": "order", "ce-specversion": "1.0"}


def read(
    *payloads: bytes,
    decoder: str = "auto",
    time: str | None = None,
    subject: str = "s",
    headers: dict[str, str] | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """The rows of `payloads`, and the reasons of those that are malformed."""
    count = len(payloads)
    raw = Raw(list(range(1, count + 1)), [NOW + i for i in range(count)], [subject] * count, list(payloads))
    raw.headers = dict.fromkeys(raw.seq, headers) if headers else {}
    batch, samples, malformed = decode(raw, decoder, time)
    assert malformed == len(samples)
    window = Window()
    window.append(batch)
    return window.snapshot().frame(), [sample.reason for sample in samples]


def row(*payloads: bytes, **asked: Any) -> dict[str, Any]:
    """The only row, which must not be malformed."""
    rows, reasons = read(*payloads, **asked)
    assert reasons == []
    assert len(rows) == 1
    return {str(name): value for name, value in rows.iloc[0].items()}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of decoders, with the schemas of the samples."""
    monkeypatch.setattr(schema_files, "FOLDER", tmp_path)
    write_schemas(tmp_path)
    return tmp_path


@pytest.mark.parametrize("decoder", ["msgpack", "auto"])
def test_message_pack(decoder: str) -> None:
    """Integers, times with nanoseconds, bytes and nested arrays keep their meaning."""
    value = {
        "n": 2**60 + 1,
        "t": msgpack.Timestamp(1_700_000_000, 5),
        "raw": b"\x00\xff",
        "list": [{"x": 1}, {"x": 2}],
        "in": {"a": 1.5},
        "flag": True,
        5: "five",
    }
    found = row(msgpack.packb(value), decoder=decoder)
    assert found["n"] == 2**60 + 1
    assert found["t"].value == 1_700_000_000_000_000_005
    assert found["raw"] == "0x00ff"
    assert json.loads(found["list"]) == [{"x": 1}, {"x": 2}]
    assert (found["in.a"], found["flag"], found["5"]) == (1.5, 1, "five")


@pytest.mark.parametrize("decoder", ["cbor", "auto"])
def test_cbor(decoder: str) -> None:
    """Decimals, times, bytes and integers beyond 64 bits keep their meaning."""
    value = {"d": Decimal("1.10"), "exact": Decimal("0.1234567890123456789"), "t": WHEN, "raw": b"\x01"}
    found = row(cbor2.dumps({**value, "huge": 2**80, "day": dt.date(2026, 1, 2)}), decoder=decoder)
    assert (found["d"], found["exact"]) == (1.1, "0.1234567890123456789")
    assert found["t"] == pd.Timestamp(WHEN)
    assert (found["raw"], found["huge"], found["day"]) == ("0x01", str(2**80), "2026-01-02")


def test_protobuf(folder: Path) -> None:
    """A message is decoded with a type from a descriptor set: 64-bit integers, times, enumerations, maps,
    bytes and lists of messages. A field that is zero is zero, and an absent field is missing."""
    decoder = f"protobuf:{ORDER}@{SHOP}"
    found = row(order_bytes(), decoder=decoder)
    assert found["id"] == 2**60 + 1
    assert found["state"] == "PAID"
    assert found["at"] == pd.Timestamp(WHEN)
    assert found["count"] == 0
    assert (found["raw"], found["tags.eu"]) == ("0x00ff", "yes")
    assert json.loads(found["items"]) == [{"name": "pen", "price": 1.5}, {"name": "ink", "price": 0.0}]
    assert "note" not in found
    assert check_decoder(decoder).startswith(f"{decoder}#")
    assert decoder in offered_decoders()


def test_protobuf_types_by_subject(folder: Path) -> None:
    """Each subject has its own type, and the first matching pattern decides. A subject that matches none is
    malformed."""
    decoder = f"protobuf:a.*=shop.Item,orders.>={ORDER}@{SHOP}"
    check_decoder(decoder)
    assert row(order_bytes(), decoder=decoder, subject="orders.eu")["state"] == "PAID"
    assert row(b"\x0a\x03pen", decoder=decoder, subject="a.b")["name"] == "pen"
    _, reasons = read(order_bytes(), decoder=decoder, subject="b")
    assert reasons == ["no type for the subject 'b'"]


def test_protobuf_of_another_type(folder: Path) -> None:
    """Bytes that are not of the type, or have none of its fields, are malformed with a reason."""
    _, reasons = read(b"\xff\xff", b"\xa2\x06\x01a", decoder=f"protobuf:{ORDER}@{SHOP}")
    assert reasons[0].startswith(f"not a {ORDER}")
    assert reasons[1] == f"none of its fields is one of {ORDER}"


AVRO = {
    "type": "record",
    "name": "Reading",
    "fields": [
        {"name": "ms", "type": ["null", "double"]},
        {"name": "t", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {
            "name": "price",
            "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
        },
        {"name": "raw", "type": "bytes"},
        {"name": "list", "type": {"type": "array", "items": "int"}},
    ],
}
READING = {"ms": 1.5, "t": WHEN, "price": Decimal("12.34"), "raw": b"\x01", "list": [1, 2]}


@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_avro_container(codec: str) -> None:
    """An object container is decoded with the schema in it: one row per record."""
    stream = io.BytesIO()
    fastavro.writer(stream, AVRO, [READING, {**READING, "ms": None}], codec=codec)
    rows, reasons = read(stream.getvalue())
    assert reasons == []
    assert rows["t"].tolist() == [pd.Timestamp(WHEN)] * 2
    np.testing.assert_array_equal(rows["ms"], [1.5, np.nan])
    assert rows["price"].tolist() == [12.34, 12.34]
    assert rows["list"].tolist() == ["[1,2]", "[1,2]"]


def test_avro_with_the_schema_of_a_file(folder: Path) -> None:
    """Bare values, and those with the schema's fingerprint before them, are decoded with a file's schema."""
    (folder / "reading.avsc").write_text(json.dumps(AVRO))
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, AVRO, READING)
    canonical = fastavro.schema.to_parsing_canonical_form(AVRO)
    mark = bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))
    rows, reasons = read(
        stream.getvalue(), b"\xc3\x01" + mark + stream.getvalue(), b"\x02", decoder="avro:reading.avsc"
    )
    assert rows["raw"].tolist() == ["0x01", "0x01"]
    assert reasons[0].startswith("does not fit the Avro schema")
    assert "avro:reading.avsc" in offered_decoders()


def ipc(table: pa.Table, *, file: bool = False, compression: str | None = None) -> bytes:
    """A table as Arrow IPC."""
    stream = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with (pa.ipc.new_file if file else pa.ipc.new_stream)(stream, table.schema, options=options) as writer:
        writer.write_table(table)
    return stream.getvalue()


@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
@pytest.mark.parametrize("file", [False, True])
def test_arrow(compression: str | None, file: bool) -> None:
    """Each row of the record batches becomes a row. Nanoseconds, decimals, dictionaries and lists keep their
    meaning."""
    table = pa.table(
        {
            "n": [1, None],
            "t": pa.array([NOW, NOW + 1], pa.timestamp("ns", "UTC")),
            "d": pa.array([Decimal("1.50"), None]),
            "word": pa.array(["a", None]).dictionary_encode(),
            "list": [[{"x": 1}], []],
        }
    )
    rows, reasons = read(ipc(table, file=file, compression=compression))
    assert reasons == []
    assert [time.value for time in rows["t"]] == [NOW, NOW + 1]
    np.testing.assert_array_equal(rows["n"], [1, np.nan])
    assert rows["d"].iloc[0] == 1.5
    assert rows["word"].iloc[0] == "a"
    assert rows["list"].tolist() == ['[{"x":1}]', "[]"]


def test_csv() -> None:
    """The first line names the columns, unless the decoder's name does. Numbers are numbers, an empty cell is
    missing, and 007 is a text."""
    rows, reasons = read(b'time;host;ms;code\r\n2026-01-01T00:00:00Z;"a;b";1.5;007\r\n;c;;010\r\n')
    assert reasons == []
    assert rows["host"].tolist() == ["a;b", "c"]
    np.testing.assert_array_equal(rows["ms"], [1.5, np.nan])
    assert rows["code"].tolist() == ["007", "010"]
    found = row(b"7,x", decoder="csv:n,name")
    assert (found["n"], found["name"]) == (7, "x")


def test_line_protocol() -> None:
    """Lines written by InfluxDB's own library are decoded: tags, fields of all types, escapes and
    nanoseconds."""
    point: Any = Point  # the library has no types
    point = (
        point("cpu, load")
        .tag("host name", "a=b c")
        .field("usage", 1.5)
        .field("n", 2**60)
        .field("ok", True)
        .field("text", 'a "b", c')
        .time(NOW)
    )
    found = row(point.to_line_protocol().encode())
    assert found["measurement"] == "cpu, load"
    assert found["host name"] == "a=b c"
    assert (found["usage"], found["n"], found["ok"]) == (1.5, 2**60, 1)
    assert found["text"] == 'a "b", c'
    assert found["time"].value == NOW
    assert found["_format"] == "influx"


TELEGRAF = {"name": "cpu", "tags": {"host": "a"}, "fields": {"usage": 1.5}, "timestamp": 1_700_000_000}


@pytest.mark.parametrize(
    "payload",
    [
        b"cpu,host=a usage=1.5 1700000000000000000\n",
        json.dumps(TELEGRAF).encode(),
        json.dumps({"metrics": [TELEGRAF]}).encode(),
        msgpack.packb(TELEGRAF),
    ],
)
@pytest.mark.parametrize("decoder", ["auto", "telegraf"])
def test_telegraf(payload: bytes, decoder: str) -> None:
    """Telegraf's formats all have the same columns, and the same time."""
    rows, reasons = read(payload, decoder=decoder, time="time")
    assert reasons == []
    assert rows.index[0] == pd.Timestamp("2023-11-14T22:13:20Z")
    assert rows[["measurement", "host", "usage"]].iloc[0].tolist() == ["cpu", "a", 1.5]


@pytest.mark.parametrize(
    "payload",
    [
        b'[[1700000000.5,{"tag":"cpu","p":1}],[1700000001.5,{"tag":"cpu","p":2}]]',
        msgpack.packb(
            [
                [
                    [msgpack.ExtType(0, struct.pack(">II", 1_700_000_000 + i, 5 * 10**8)), {}],
                    {"tag": "cpu", "p": 1 + i},
                ]
                for i in range(2)
            ]
        ),
    ],
)
@pytest.mark.parametrize("decoder", ["auto", "fluentbit"])
def test_fluent_bit(payload: bytes, decoder: str) -> None:
    """Fluent Bit's pairs of a time and a record are rows with that time."""
    rows, reasons = read(payload, decoder=decoder, time="time")
    assert reasons == []
    assert rows.index[0] == pd.Timestamp("2023-11-14T22:13:20.5Z")
    assert rows["p"].tolist() == [1, 2]


def test_vector() -> None:
    """Vector's events and metrics are decoded, as one object, as an array or as one object per line."""
    event = {"host": "a", "message": "GET /", "timestamp": "2026-01-02T03:04:05.678901Z"}
    metric = {"name": "up", "tags": {"host": "a"}, "kind": "absolute", "gauge": {"value": 1.5}}
    lines = b"\n".join(json.dumps(event).encode() for _ in range(2))
    rows, reasons = read(
        json.dumps(event).encode(), json.dumps([event] * 2).encode(), lines, time="timestamp"
    )
    assert reasons == []
    assert (rows.index == pd.Timestamp(WHEN)).all()
    assert rows["message"].tolist() == ["GET /"] * 5
    assert row(json.dumps(metric).encode())["gauge.value"] == 1.5


@pytest.mark.parametrize("decoder", ["auto", "cloudevents"])
def test_cloud_events(decoder: str) -> None:
    """Binary and structured events, as their own library writes them, have the same columns."""
    event = CloudEvent({"id": "7", "source": "/shop", "type": "order", "time": WHEN.isoformat()}, {"ms": 1.5})
    structured = row(to_json(event), decoder=decoder)
    named = {f"ce-{name}": value for name, value in event.get_attributes().items() if value}
    binary = row(b'{"ms": 1.5}', decoder=decoder, headers={**named, "Content-Type": "application/json"})
    for found in (structured, binary):
        assert (found["id"], found["source"], found["type"], found["data.ms"]) == ("7", "/shop", "order", 1.5)
        assert found["time"] == pd.Timestamp(WHEN)
    data = base64.b64encode(b"\x01").decode()
    found = row(json.dumps({**{n[3:]: v for n, v in HEADERS.items()}, "data_base64": data}).encode())
    assert found["data"] == "0x01"


def test_a_cloud_event_of_another_format() -> None:
    """The content type of an event in binary mode selects the decoder of its data."""
    sent = {**HEADERS, "content-type": "application/cbor"}
    assert row(cbor2.dumps({"ms": 2}), headers=sent)["data.ms"] == 2


@pytest.mark.parametrize(("decoder", "pack"), [("msgpack", msgpack.packb), ("cbor", cbor2.dumps)])
def test_several_values_in_one_payload(decoder: str, pack: Any) -> None:
    """Several maps in one payload become rows. A text is malformed, although its characters could be read as
    numbers."""
    rows, reasons = read(pack({"a": 1}) + pack({"a": 2}), b"room t=21", decoder=decoder)
    assert rows["a"].tolist() == [1, 2]
    assert len(reasons) == 1


@pytest.mark.parametrize("count", [2, 200])
def test_headers_are_columns(count: int) -> None:
    """Each requested header is a column, whatever its case. Times are times, and a message without the header
    has no value. A payload field of the same name is kept apart."""
    raw = Raw(list(range(count)), [NOW] * count, ["s"] * count, [b'{"trace": 1, "n": 2}'] * count)
    raw.headers = {0: {"TRACE": "x", "Ce-Time": "2026-01-02T03:04:05Z", "other": "y"}}
    names = check_headers(("trace", "ce-time", "nothing", "trace"))
    batch, _, malformed = decode(raw, "json", None, names)
    window = Window()
    window.append(batch)
    rows = window.snapshot().frame()
    assert malformed == 0
    assert rows["trace"].iloc[0] == "x"
    assert rows["trace"].isna().tolist()[1:] == [True] * (count - 1)
    assert rows["ce-time"].iloc[0] == pd.Timestamp("2026-01-02T03:04:05Z")
    assert rows["nothing"].isna().all()
    assert rows["payloadtrace"].tolist() == [1] * count
    assert "other" not in rows


@pytest.mark.parametrize("names", ["trace", ("a:b",), ("",), ("_seq",), ("x" * 300,), ("a",) * 30, ("a b",)])
def test_headers_that_are_none(names: Any) -> None:
    """An invalid header name is refused."""
    with pytest.raises(SettingsError, match="header"):
        check_headers(names)


SNAPPY = pa.Codec("snappy").compress(b'{"a": 1}', asbytes=True)
PACKED = {
    "gzip": gzip.compress(b'{"a": 1}'),
    "zstd": pa.Codec("zstd").compress(b'{"a": 1}', asbytes=True),
    "snappy frames": b"\xff\x06\x00\x00sNaPpY" + bytes([0, len(SNAPPY) + 4, 0, 0]) + b"\0\0\0\0" + SNAPPY,
}


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("decoder", ["json", "auto"])
def test_compressed(name: str, decoder: str) -> None:
    """A compressed payload is recognised by its first bytes, whichever decoder reads it."""
    assert row(PACKED[name], decoder=decoder)["a"] == 1


def test_compressed_says_a_header() -> None:
    """A header names the compression, even for snappy without frames. A payload that is not compressed after
    all is read as it is, and an unknown compression is malformed."""
    assert row(SNAPPY, headers={"Content-Encoding": "snappy"})["a"] == 1
    assert row(PACKED["zstd"], headers={"content-encoding": "ZSTD"}, decoder="json")["a"] == 1
    assert row(b'{"a": 1}', headers={"Content-Encoding": "gzip"})["a"] == 1
    _, reasons = read(b"x", headers={"Content-Encoding": "br"})
    assert reasons == ["Content-Encoding 'br' is not gzip, zstd or snappy"]


ZERO = b"0" * (LARGEST + 1)


def container(schema: Any, block: bytes, count: int, codec: bytes = b"null") -> bytes:
    """An Avro container with one block."""

    def number(n: int) -> bytes:
        n, found = n << 1, b""
        while n > 127:
            found, n = found + bytes([n & 127 | 128]), n >> 7
        return found + bytes([n])

    def sized(part: bytes) -> bytes:
        return number(len(part)) + part

    head = sized(b"avro.schema") + sized(json.dumps(schema).encode()) + sized(b"avro.codec") + sized(codec)
    return b"Obj\x01" + number(2) + head + b"\0" + b"m" * 16 + number(count) + sized(block) + b"m" * 16


def shared(levels: int) -> bytes:
    """CBOR whose value doubles with each level, in a few bytes."""

    def number(i: int) -> bytes:
        return bytes([i]) if i < 24 else bytes([0x18, i])

    doubled = [b"\xd8\x1c\x82" + (b"\xd8\x1d" + number(i)) * 2 for i in range(levels)]
    return b"\x98" + bytes([levels + 1]) + b"\xd8\x1c\x81\x01" + b"".join(doubled)


BOMBS: dict[str, tuple[str, bytes, str]] = {
    # decoder, payload, reason
    "gzip": ("json", gzip.compress(ZERO), "more than 32 MiB after decompression"),
    "zstd": ("json", pa.Codec("zstd").compress(ZERO, asbytes=True), "more than 32 MiB"),
    "gzip cut off": ("json", PACKED["gzip"][:-9], "damaged gzip"),
    "snappy that claims much": (
        "json",
        b"\xff\x06\x00\x00sNaPpY\x00\x09\x00\x00\0\0\0\0\xff\xff\xff\xff\x0f",
        "more than 32 MiB",
    ),
    "rows": ("json", gzip.compress(b"[" + b"0," * 1_000_000 + b"0]"), "more than 1,000,000 rows"),
    "MessagePack nested": ("msgpack", b"\x91" * 100_000, "not MessagePack"),
    "MessagePack nested less": ("msgpack", b"\x91" * 300 + b"\x01", "nested too deeply"),
    "MessagePack that claims much": ("msgpack", b"\xdd\x00\x0f\xff\xff" * 400, "not MessagePack: cut off"),
    "CBOR nested": ("cbor", b"\x81" * 100_000, "not CBOR"),
    "CBOR that claims much": ("cbor", b"\x9b" + b"\xff" * 8, "not CBOR"),
    "CBOR that contains itself": ("cbor", b"\xd8\x1c\x81\xd8\x1d\x00", "nested too deeply"),
    "CBOR that doubles": ("cbor", shared(60), "too many values"),
    "CBOR with a text often": (
        "cbor",
        b"\xd9\x01\x00\x82" + cbor2.dumps("x" * 20_000) + b"\x99\x80\x00" + b"\xd8\x19\x00" * 0x8000,
        "too much text",
    ),
    "CBOR with a huge exponent": ("cbor", b"\xc5\x82\x1a\x3f\xff\xff\xff\x01", "not CBOR"),
    "Avro of nothing": ("avro", container("int", b"", 2**40), "records"),
    "Avro of little": ("avro", container("null", b"", 900_000), "no bytes"),
    "Avro items of nothing": (
        "avro",
        container({"type": "array", "items": "null"}, b"\xfe\xff\xff\xff\x7f\0", 1),
        "no bytes",
    ),
    "Avro that contains itself": (
        "avro",
        container(
            {"type": "record", "name": "r", "fields": [{"name": "a", "type": ["null", "r"]}]},
            b"\x02" * 100_000,
            1,
        ),
        "contains itself",
    ),
    "Avro with a large block": (
        "avro",
        container(
            "bytes", (deflate := zlib.compressobj(wbits=-15)).compress(ZERO) + deflate.flush(), 1, b"deflate"
        ),
        "records or 32 MiB",
    ),
    "Arrow that claims much": (
        "arrow",
        ipc(pa.table({"a": pa.array(np.zeros(5_000_000))}), compression="zstd"),
        "more than 32 MiB after decompression",
    ),
    "Arrow of nothing": ("arrow", ipc(pa.table({"a": pa.nulls(2_000_000)})), "more than 1,000,000 rows"),
    "Arrow items of nothing": (
        "arrow",
        ipc(
            pa.table(
                {"a": pa.ListArray.from_arrays(pa.array([0, 5_000_000], pa.int32()), pa.nulls(5_000_000))}
            )
        ),
        "which is not read",
    ),
    "CSV with a long field": ("csv", b"a,b\n" + b"x" * 200_000 + b",1", "not CSV"),
    "line protocol without end": ("influx", b"a" + b",b" * 50_000, "not line protocol"),
    "line protocol with backslashes": ("influx", b"a b=" + b'"' + b"\\" * 100_001, "not line protocol"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str) -> None:
    """A payload that claims more than it has, repeats itself or never ends is counted once, with a reason."""
    decoder, payload, reason = BOMBS[name]
    rows, reasons = read(payload, decoder=decoder)
    assert len(rows) == 0
    assert len(reasons) == 1
    assert reason in reasons[0]
    assert len(reasons[0]) < 400


def test_many_bombs_in_one_batch() -> None:
    """A batch of payloads that are together too large after decompression is refused. The caller then decodes
    them one at a time, which works."""
    payload = gzip.compress(b'"' + b"x" * (LARGEST - 2) + b'"')
    with pytest.raises(ValueError, match="too large after decompression"):
        read(payload, payload, payload, decoder="json")
    assert len(row(payload, decoder="json")["value"]) == 4096


RECOGNISED: list[tuple[bytes, str]] = [
    (b'{"a": 1}', "json"),
    (b'\xef\xbb\xbf{"a": 1}\0\0', "json"),
    (b'{"a": 1}\n{"a": 2}\n', "json"),
    (b"12.5", "json"),
    (b"true", "json"),
    (b"unavailable", "text"),
    (b"2026-01-02 03:04:05 ERROR lost, again", "text"),
    (b"key=value", "text"),
    (b"a = b", "text"),
    (b"1,2,3", "text"),
    (b"a,b\n1,2", "csv"),
    (b"weather,place=x t=21.5", "influx"),
    (msgpack.packb({"a": 1}), "msgpack"),
    (msgpack.packb([1, 2, 300]), "msgpack"),
    (cbor2.dumps({"a": 1}), "cbor"),
    (cbor2.dumps([1, 2, 300, "x"]), "cbor"),
    (ipc(pa.table({"a": [1]})), "arrow"),
]


@pytest.mark.parametrize(("payload", "name"), RECOGNISED)
def test_recognised(payload: bytes, name: str) -> None:
    """The column `_format` holds the format that was recognised."""
    rows, reasons = read(payload)
    assert reasons == []
    assert set(rows["_format"]) == {name}


def test_content_type_decides() -> None:
    """The content type decides the format; if it does not fit the payload, the bytes decide."""
    assert row(b"12", headers={"Content-Type": "text/plain; charset=utf-8"})["_format"] == "text"
    assert row(b'{"a": 1}', headers={"Content-Type": "application/cbor"})["_format"] == "json"
    _, reasons = read(b"\x08\x01", headers={"Content-Type": "application/x-protobuf"})
    assert "protobuf:TYPE@FILE" in reasons[0]


def test_several_kinds_in_one_stream() -> None:
    """Messages of several formats in one batch all become rows, and messages of no known format are
    counted."""
    payloads = [payload for payload, _ in RECOGNISED]
    rows, reasons = read(*payloads, b"\x08\x96\x01", PACKED["gzip"])
    assert reasons == ["format not recognised; it begins with 08 96 01"]
    assert rows["_seq"].nunique() == len(payloads) + 1


def test_auto_reads_equal_objects_by_column() -> None:
    """The fast path of `auto` gives the same rows as the slow one."""
    payloads = [json.dumps({"a": i, "b": f"x{i}"}).encode() for i in range(100)]
    fast, _ = read(*payloads)
    slow, _ = read(*payloads[:50])
    assert fast["_format"].tolist() == ["json"] * 100
    pd.testing.assert_series_equal(fast["a"][:50], slow["a"])


def test_json_as_others_write_it() -> None:
    """JSON may have a byte order mark, zero bytes at its end, or one value per line."""
    rows, reasons = read(
        b'\xef\xbb\xbf{"a": 1}\0', b'{"a": 2}\r\n\n{"a": 3}\n', b'{"a": 4}\n{', decoder="json"
    )
    assert rows["a"].tolist() == [1, 2, 3]
    assert rows["_seq"].tolist() == [1, 2, 2]
    assert len(reasons) == 1


def test_rows_have_the_subject_of_their_message() -> None:
    """If a malformed message precedes one with two rows, those rows have the subject of their own message."""
    raw = Raw([1, 2], [NOW, NOW], ["bad", "good"], [b"{", b"[1, 2]"])
    batch, _, malformed = decode(raw, "json", None)
    assert list(batch.subject) == ["good", "good"]
    assert malformed == 1


def test_dotted_names_that_collide() -> None:
    """Two fields with one dotted name in one row are two columns; in different rows they are one."""
    payloads = [b'{"a.b": 1, "a": {"b": 2}}', b'{"a": {"b": 3}}', b'{"_seq": 8, "payload_seq": 9}']
    rows, _ = read(*payloads, decoder="json")
    np.testing.assert_array_equal(rows["a.b"], [1, 3, np.nan])
    np.testing.assert_array_equal(rows["a.b (2)"], [2, np.nan, np.nan])
    np.testing.assert_array_equal(rows["payload_seq"], [np.nan, np.nan, 8])
    np.testing.assert_array_equal(rows["payload_seq (2)"], [np.nan, np.nan, 9])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-06-01T12:00:00", "2026-06-01T10:00:00Z"),
        ("2026-06-01 12:00:00,5", "2026-06-01T10:00:00.5Z"),
        ("2026-06-01T12:00:00Z", "2026-06-01T12:00:00Z"),
        ("2026-06-01T12:00:00+05:30", "2026-06-01T06:30:00Z"),
        ("2026-12-01T12:00:00", "2026-12-01T11:00:00Z"),
        ("2026-10-25T02:30:00", "2026-10-25T00:30:00Z"),
        ("2026-03-29T02:30:00", "2026-03-29T01:00:00Z"),
        ("1700000000", "2023-11-14T22:13:20Z"),
        ("1700000000123", "2023-11-14T22:13:20.123Z"),
        (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
        (1_700_000_000.25, "2023-11-14T22:13:20.25Z"),
    ],
)
def test_nested_time_in_a_zone(value: object, expected: str) -> None:
    """A row's own time may be nested, a text, or an epoch in any unit. A time without a zone is read in the
    named zone."""
    payloads = [json.dumps({"params": {"ts": value}}).encode()] * 70
    rows, reasons = read(*payloads, decoder="json", time="params.ts@Europe/Berlin")
    assert reasons == []
    assert set(rows.index) == {pd.Timestamp(expected)}


def test_a_field_with_an_at_sign_is_no_zone() -> None:
    """`@timestamp` names a field, not a zone."""
    rows, _ = read(b'{"@timestamp": "2026-06-01T12:00:00Z"}', decoder="json", time="@timestamp")
    assert rows.index[0] == pd.Timestamp("2026-06-01T12:00:00Z")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("protobuf", "needs a type and a file"),
        (f"protobuf:shop.Nothing@{SHOP}", "There is no type 'shop.Nothing'"),
        (f"protobuf:{ORDER}@../{SHOP}", "There is no file '../"),
        ("avro:/etc/passwd", "There is no file '/etc/passwd'"),
        (f"avro:{SHOP}", "There is no file"),
        ("auto:x", "takes no options"),
        ("json:a..x", "takes the path of an array"),
        ("csv:a,,b", "needs different names"),
        ("xml", "There is no decoder 'xml'"),
        ("../x", "There is no decoder"),
        ("x" * 2000, "at most 1000 characters"),
    ],
)
def test_names_that_are_none(folder: Path, name: str, why: str) -> None:
    """A decoder that does not exist, or whose options do not fit, is refused with what to do. Files outside
    the folder cannot be named."""
    with pytest.raises(SettingsError, match=re.escape(why)):
        check_decoder(name)


def test_an_edited_schema_is_another_decoder(folder: Path) -> None:
    """An edited schema gives the decoder another name, so that feeds that use it read the stream again."""
    (folder / "n.avsc").write_text('"int"')
    before = check_decoder("avro:n.avsc")
    assert row(b"\x02", decoder=before)["value"] == 1
    (folder / "n.avsc").write_text('"string"')
    after = check_decoder("avro:n.avsc")
    assert after != before
    assert row(b"\x02x", decoder=after)["value"] == "x"


def test_a_schema_that_is_none(folder: Path) -> None:
    """A damaged descriptor set or schema is refused with its name, and Explore does not offer it."""
    (folder / "bad.desc").write_bytes(b"\xff\xff")
    (folder / "bad.avsc").write_text('{"type": "record"}')
    for name in ("protobuf:a.B@bad.desc", "avro:bad.avsc"):
        with pytest.raises(SettingsError, match="'bad"):
            check_decoder(name)
    assert not any("bad.desc" in each for each in offered_decoders())


def test_a_descriptor_set_without_its_imports(folder: Path) -> None:
    """A descriptor set without its imports is refused with the option that was missing."""
    files = descriptor_pb2.FileDescriptorSet()
    files.file.add(name="a.proto", dependency=["b.proto"])
    (folder / "part.desc").write_bytes(files.SerializeToString())
    with pytest.raises(SettingsError, match="--include_imports"):
        check_decoder("protobuf:a.B@part.desc")


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
SEEDS = [
    *PACKED.values(),
    *(payload for payload, _ in RECOGNISED),
    container(AVRO, b"", 0),
    *(payload for _, payload, _ in BOMBS.values() if len(payload) < 500),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A sound payload with a few bytes changed, removed or repeated."""
    sound = st.sampled_from(SEEDS) | values.map(msgpack.packb) | values.map(cbor2.dumps)
    payload = bytearray(draw(sound))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(payload)))
        payload[place : place + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(payload)


KNOWN = [name for name in DECODERS if name != "protobuf"]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(KNOWN), st.lists(damaged() | st.binary(max_size=60), max_size=4), st.booleans())
def test_whatever_comes(decoder: str, payloads: list[bytes], events: bool) -> None:
    """With any decoder, each message becomes rows or is counted once with a reason. The rows fit into a
    window, and nothing is raised."""
    headers = HEADERS if events else None
    rows, reasons = read(*payloads, decoder=decoder, headers=headers)
    counted = len(reasons) + rows["_seq"].nunique()
    assert counted <= len(payloads)
    assert all(reasons)
    for payload in payloads:
        one, why = read(payload, decoder=decoder, headers=headers)
        assert not (len(one) and why)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80))
def test_whatever_comes_as_protobuf(payload: bytes) -> None:
    """Any bytes decoded as Protobuf become one row or are counted once, with a reason."""
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema_files, "FOLDER", Path(place))
        write_schemas(Path(place))
        rows, reasons = read(payload, decoder=f"protobuf:{ORDER}@{SHOP}")
    assert len(rows) + len(reasons) == 1


@settings(max_examples=200, deadline=None)
@given(values)
def test_what_was_written_is_read(value: Any) -> None:
    """MessagePack and CBOR of a value have the same rows."""
    one, _ = read(msgpack.packb(value), decoder="msgpack")
    other, _ = read(cbor2.dumps(value), decoder="cbor")
    pd.testing.assert_frame_equal(one, other)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40))
def test_snappy_of_whatever(payload: bytes) -> None:
    """Bytes compressed with snappy are decompressed; other bytes raise only the expected errors."""
    assert snappy_block(pa.Codec("snappy").compress(payload, asbytes=True)) == payload
    with suppress(ValueError, IndexError, pa.ArrowException, OSError):
        snappy_block(payload)
