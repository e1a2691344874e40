"""The state of a stream is requested once, however many feeds need it."""

import asyncio
from typing import Any

from nats_client import Client, Settings
from nats_client.connection.stream_infos import StreamInfos
from tests.nats import NatsServer
from tests.waiting import until


def test_feeds_of_one_stream_ask_once(server: NatsServer, client: Client) -> None:
    """Twenty feeds of one stream request its state about as often as one feed does."""
    server.publish("s.a", b"1")
    asked: list[str] = []

    async def listen(nc: Any, seconds: float) -> int:
        asked.clear()

        async def note(message: Any) -> None:
            asked.append(message.subject)

        await nc.subscribe("$JS.API.STREAM.INFO.S", cb=note)
        await asyncio.sleep(seconds)
        return len(asked)

    client.feed("S").wait(30)
    alone = server.run(lambda nc: listen(nc, 8))
    feeds = [client.feed("S", f"s.{i}") for i in range(19)]
    until(lambda: all(feed.health.phase == "following" for feed in feeds))
    together = server.run(lambda nc: listen(nc, 8))
    assert alone > 0
    assert together <= 3 * alone


async def _rounds(infos: StreamInfos) -> list[Any]:
    first = asyncio.create_task(infos.ask("S"))
    others = [asyncio.create_task(infos.ask("S")) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    return list(await asyncio.gather(*others, return_exceptions=True))


def test_who_is_cancelled_takes_nobody_along(server: NatsServer) -> None:
    """When the caller that sent a request is cancelled, the callers that wait for the same reply still get
    it."""
    with Client(Settings(url=server.url)) as client:
        assert client.wait(30)
        answers = asyncio.run_coroutine_threadsafe(_rounds(client._connection.infos), client._loop).result(30)
    assert [answer["config"]["name"] for answer in answers] == ["S"] * 3
