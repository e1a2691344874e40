"""The parser with taps is compared with nats-py's own, byte for byte, however the input is split."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.aio.client import Client as NatsPy
from nats.protocol.parser import Parser

from nats_client import Client, Settings
from nats_client.connection import bulk_parser as fast_path
from nats_client.connection.arrivals import BEFORE, MessageBlock
from nats_client.connection.bulk_parser import BlockInbox, Inbox
from nats_client.connection.patched_nats import SafeNatsPy
from tests.nats import running_server

TAPPED, OTHER = 7, 8
Seen = list[tuple[Any, ...]]


class Stock(NatsPy):
    """nats-py, recording the messages and pings that its parser delivers."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Seen = []

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        parsed = await self._process_headers(headers)
        self.seen.append((sid, bytes(subject), bytes(reply), bytes(data), parsed))

    async def _process_ping(self) -> None:
        self.seen.append(("ping",))


class Tapped(SafeNatsPy):
    """Our client with taps, recording pings."""

    def __init__(self) -> None:
        super().__init__()
        self.others: Seen = []

    async def _process_ping(self) -> None:
        self.others.append(("ping",))


COMMON = b"$JS.ACK.S.C.1"
names = st.text("abc.", min_size=1, max_size=6).map(lambda text: text.encode())
LIKE_A_MESSAGE = b"\r\nMSG a 7 $JS.ACK.S.C.1.5.5.5.5 3\r\nabc"
payloads = st.binary(max_size=30) | st.sampled_from(
    [b"MSG a 7 b 3\r\n", b"\r\n", b"PING\r\n", b"x" * 70_000, LIKE_A_MESSAGE, b"y" + LIKE_A_MESSAGE, b"{}"]
)
replies = st.tuples(*[st.integers(0, 2**60)] * 4).map(lambda numbers: b"%s.%d.%d.%d.%d" % (COMMON, *numbers))
odd_replies = st.sampled_from(
    [
        b"$JS.ACK.D.A.S.C.1.1.1.1.1.x",
        COMMON + b".1.1.x.1",
        COMMON + b".1.1.1",
        COMMON + b".1..1.1",
        b"$JS.ACK.a.b",
    ]
)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """One frame of the protocol."""
    kind = draw(st.sampled_from(["ack"] * 8 + ["message"] * 3 + ["odd", "plain", "headers", "ping", "ok"]))
    sid = draw(st.sampled_from([TAPPED, TAPPED, OTHER]))
    payload = draw(payloads)
    if kind in ("ack", "odd"):
        reply = draw(replies if kind == "ack" else odd_replies)
        return b"MSG %s %d %s %d\r\n%s\r\n" % (draw(names), TAPPED, reply, len(payload), payload)
    if kind == "message":
        return b"MSG %s %d %s %d\r\n%s\r\n" % (draw(names), sid, draw(names), len(payload), payload)
    if kind == "plain":
        return b"MSG %s %d %d\r\n%s\r\n" % (draw(names), sid, len(payload), payload)
    if kind == "headers":
        head = b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 5\r\n\r\n"
        sizes = (len(head), len(head) + len(payload))
        return b"HMSG %s %d %s %d %d\r\n%s%s\r\n" % (draw(names), sid, draw(names), *sizes, head, payload)
    return b"PING\r\n" if kind == "ping" else b"+OK\r\n"


def one_by_one(messages: list[Any]) -> Seen:
    """The messages of an inbox, with blocks split into single messages."""
    seen: Seen = []
    for part in messages:
        if isinstance(part, MessageBlock):
            each = zip(part.subjects, part.acks.tolist(), part.payloads, strict=True)
            assert all(subject.startswith(BEFORE) for subject in part.subjects)
            seen += [
                (s.removeprefix(BEFORE), b"%s.%d.%d.%d.%d" % (COMMON, *numbers), p, None)
                for s, numbers, p in each
            ]
        else:
            seen.append(part)
    return seen


@pytest.mark.parametrize("kind", [Inbox, BlockInbox])
@settings(max_examples=300)
@given(sent=st.lists(frames(), max_size=25), cuts=st.lists(st.integers(1, 800), max_size=40))
def test_same_messages_however_cut(kind: type[Inbox], sent: list[bytes], cuts: list[int]) -> None:
    """However the input is split, the tapped and the untapped subscription each receive the messages that
    nats-py delivers, in the same order."""
    wire = b"".join(sent)

    async def compare() -> None:
        stock, tapped, inbox = Stock(), Tapped(), kind()
        tapped.taps.inboxes[b"%d" % TAPPED] = inbox
        others: Seen = []

        async def beside(sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
            if sid == TAPPED:
                await SafeNatsPy._process_msg(tapped, sid, subject, reply, data, headers)
            else:
                parsed = await tapped._process_headers(headers)
                others.append((sid, bytes(subject), bytes(reply), bytes(data), parsed))

        tapped._process_msg = beside  # type: ignore[method-assign]
        at = 0
        for cut in [*cuts, len(wire)]:
            piece = wire[at : at + cut]
            at += cut
            await Parser.parse(stock._ps, piece)
            await tapped._ps.parse(piece)
        messages = [seen for seen in stock.seen if seen[0] != "ping"]
        assert one_by_one(inbox.messages) == [seen[1:] for seen in messages if seen[0] == TAPPED]
        assert others == [seen for seen in messages if seen[0] == OTHER]
        assert len(tapped.others) == len(stock.seen) - len(messages)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_path, "_SHORTEST_BLOCK", 0)
        patch.setattr(fast_path, "_PIECE", 200)
        asyncio.run(compare())


def test_a_run_stays_together() -> None:
    """A consumer's messages that arrive in one buffer are delivered as one block, up to the message that is
    cut off."""

    async def parse() -> BlockInbox:
        tapped, inbox = Tapped(), BlockInbox()
        tapped.taps.inboxes[b"%d" % TAPPED] = inbox
        await tapped._ps.parse(wire[:-10])
        return inbox

    payload = b'{"value": 1.5, "unit": "C"}'
    wire = b"".join(
        b"MSG s.%d %d %s.%d.%d.7.0 %d\r\n%s\r\n" % (n % 3, TAPPED, COMMON, n, n, len(payload), payload)
        for n in range(200)
    )
    (block,) = asyncio.run(parse()).messages
    assert isinstance(block, MessageBlock)
    assert block.payloads == [payload] * 199
    assert block.acks.tolist() == [[n, n, 7, 0] for n in range(199)]


@pytest.mark.parametrize("fast", [True, False])
def test_both_ways_bring_the_same_rows(tmp_path: Path, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A feed holds the same rows with and without the tap, for small and large messages."""
    if not fast:
        monkeypatch.setattr(SafeNatsPy, "tap", lambda *_: None)
    sizes = [10, 100_000, 20, 0, 500_000, 30] * 20
    with running_server(tmp_path) as server:
        server.add_stream("S", ["s.>"])
        server.publish("s.a", *(b'"%s"' % (b"x" * size) for size in sizes))
        with Client(Settings(url=server.url)) as client:
            feed = client.feed("S", look_back="PT1H")
            assert feed.wait(30)
            assert feed.snapshot().seq.tolist() == list(range(1, len(sizes) + 1))
            assert feed.health.restarts == 0
            lengths = feed.frame()["value"].astype(str).str.len().tolist()
            assert lengths == [min(size, 4096) for size in sizes]
