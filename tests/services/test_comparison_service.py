"""The comparison service, beside the embedded server: its messages, its replies and its tokens.

Slow, because rates are measured over some seconds.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.js.api import ConsumerConfig
from nats.micro.request import ServiceError

from nats_client.connection.credentials import claims_of
from services.comparison import service as comparison
from services.comparison.service import Publisher, Wish
from services.embedded import embedded
from tests.embedded import login
from tests.nats import NatsPy, NatsServer, connect_nats
from tests.waiting import until

ORIGIN = "http://127.0.0.1:1"
WISH = {"rate": 100, "series": 4, "look_back": 60, "changed": 0.0}


def talk(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[Client, Client], Awaitable[None]]
) -> None:
    """Run `work` with two connections to the embedded server: one of the dashboard's login, one of DATA's."""
    monkeypatch.setenv("LOOKBACK_DATA_DIR", str(data_dir))

    async def main() -> None:
        async with embedded([ORIGIN]):
            app, data = (
                await connect_nats(**login(data_dir, "dashboard")),
                await connect_nats(**login(data_dir)),
            )
            try:
                await until_served(app)
                await work(app, data)
            finally:
                await app.close()
                await data.close()

    asyncio.run(main())


async def until_served(app: Client) -> None:
    """Wait for the service, which starts after the server."""
    for _ in range(300):
        try:
            await app.request("$SRV.PING.comparison", b"", timeout=1)
            await app.request("$SRV.PING.tokens", b"", timeout=1)
            return
        except nats.errors.Error:
            await asyncio.sleep(0.1)
    raise AssertionError("the service never answered")


async def ask(app: Client, **changed: Any) -> dict[str, Any]:
    """The reply to a request with the fields of WISH, except those `changed`."""
    reply = await app.request("comparison.run", json.dumps({**WISH, **changed}).encode(), timeout=5)
    assert not reply.headers, reply.headers
    return dict(json.loads(reply.data))


async def rate_over(app: Client, seconds: float, **wish: Any) -> float:
    """Messages published per second."""
    before, began = (await ask(app, **wish))["published"], time.monotonic()
    await asyncio.sleep(seconds)
    return float(((await ask(app, **wish))["published"] - before) / (time.monotonic() - began))


def test_publishes_at_the_rate_asked_for(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rate is right from one message a second to 5,000 in a hundred series. All messages are in the
    stream, and carry their time."""

    async def work(app: Client, data: Client) -> None:
        assert 3 <= 4 * await rate_over(app, 4, rate=1, changed=1) <= 6
        assert (await ask(app, rate=5000, series=100, changed=2))["rate"] == 5000
        await asyncio.sleep(0.5)
        assert await rate_over(app, 4, rate=5000, series=100, changed=2) > 4500
        published = (await ask(app, rate=1, series=1, changed=3))["published"]
        await asyncio.sleep(0.5)
        js = data.jetstream()
        state = (await js.stream_info("COMPARISON", subjects_filter=">")).state
        assert published <= state.messages <= published + 3
        assert set(state.subjects or {}) == {f"simulated.series-{i + 1}" for i in range(100)}
        last = await js.get_last_msg("COMPARISON", "simulated.series-1")
        assert abs(json.loads(last.data or b"")["time"] - time.time()) < 30

    talk(data_dir, monkeypatch, work)


def test_newest_change_counts(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two pages that repeat their requests, the one with the newer change decides; both receive the rate
    in force."""

    async def work(app: Client, data: Client) -> None:
        assert (await ask(app, rate=10, changed=5))["rate"] == 10
        assert (await ask(app, rate=50, changed=4))["rate"] == 10
        assert (await ask(app, rate=20, series=7, changed=6))["series"] == 7
        assert (await ask(app, rate=10, changed=5))["rate"] == 20

    talk(data_dir, monkeypatch, work)


def test_tells_where_a_look_back_starts(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply has the sequence of the first message within the look-back or, without one, that of the next
    message."""

    async def work(app: Client, data: Client) -> None:
        await ask(app, rate=1000, changed=1)
        await asyncio.sleep(3)
        answer = await ask(app, rate=1000, changed=1, look_back=1)
        found = await data.jetstream().get_msg("COMPARISON", answer["start"])
        assert found.time is not None
        age = time.time() - found.time.timestamp()
        assert 0.9 < age < 30
        assert (await ask(app, rate=1000, changed=1, look_back=600))["start"] == 1
        first = await data.jetstream().get_msg("COMPARISON", answer["start"] - 1)
        assert first.time is not None
        assert first.time < found.time
        await ask(app, rate=1, changed=2)
        await asyncio.sleep(1.5)
        last = (await data.jetstream().stream_info("COMPARISON")).state.last_seq
        stopped = Publisher(data)
        await asyncio.sleep(0.5)
        assert last < await stopped.start_of(0.001) <= last + 3

    talk(data_dir, monkeypatch, work)


def test_token_reads_this_stream_from_a_web_page(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token is a bearer token for websocket connections; on a plain one the server refuses it."""

    async def work(app: Client, data: Client) -> None:
        answer = json.loads((await app.request("comparison.token", b"{}", timeout=5)).data)
        assert answer["port"]
        assert 0 < answer["lives"] <= 301
        assert answer["inbox_prefix"] == f"_INBOX_app.{claims_of(answer['jwt'])['name']}"
        plain = NatsPy()
        try:
            with pytest.raises(nats.errors.Error, match="Authorization Violation"):
                await plain.connect(
                    login(data_dir)["servers"],
                    user_jwt_cb=answer["jwt"].encode,
                    signature_cb=lambda _: b"",
                    allow_reconnect=False,
                )
        finally:
            await plain.close()

    talk(data_dir, monkeypatch, work)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (b"{", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b" " * 2000, "2,000 bytes"),
        (json.dumps({**WISH, "rate": 5001}).encode(), "'rate' is 5001; it must be a number from 1 to 5000"),
        (json.dumps({**WISH, "series": True}).encode(), "'series' is True"),
        (json.dumps({**WISH, "look_back": "1"}).encode(), "'look_back' is '1'"),
        (json.dumps({**WISH, "changed": 9e15}).encode(), "'changed' is 9"),
        (json.dumps({**WISH, "rates": 1}).encode(), "Did you mean 'rate'?"),
        (json.dumps({**WISH, "connection": 5}).encode(), "'connection' must be a text"),
        (json.dumps({**WISH, "rate": float("nan")}).encode(), "'rate' is nan"),
    ],
)
def test_refuses_what_it_cannot_read(asked: bytes, sentence: str) -> None:
    """Each mistake has its own message."""
    with pytest.raises(ServiceError) as error:
        Wish.read(asked)
    assert error.value.code == "400"
    assert sentence in error.value.description


def test_stops_when_nobody_asks(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without requests, publishing soon stops; the next request starts it again."""
    monkeypatch.setattr(comparison, "STOP_AFTER", 1.0)

    async def work(nc: Client) -> None:
        publisher = Publisher(nc)
        running = asyncio.create_task(publisher.run())
        try:
            wish = Wish(200, 3, 60, 1.0, None)
            for _ in range(2):
                before = publisher.published
                publisher.ask(wish)
                await asyncio.to_thread(until, lambda: publisher.published > before)
                await asyncio.to_thread(until, lambda: not publisher.running)
                await asyncio.sleep(0.2)
                stopped = publisher.published
                await asyncio.sleep(1)
                assert publisher.published == stopped
        finally:
            running.cancel()
        info = await nc.jetstream().stream_info("COMPARISON")
        assert info.state.messages == publisher.published
        await nc.jetstream().add_consumer("COMPARISON", ConsumerConfig(durable_name="x"))

    server.run(work)
